//! Whose connection it is that a proxy brings.

use std::time::Duration;

use fanfare::ClientAddress;
use fanfare_tests::http::request_bytes;
use fanfare_tests::raw::{upgrade_request, upgrade_request_with};
use fanfare_tests::{eventually, wait_for};
use serde_json::Value;

use crate::kit::{Gate, assert_refused, is_ip, read_json};

#[test]
fn clients_behind_a_proxy_are_told_apart_by_its_header_and_forged_ones_are_not_believed() {
    for (mode, saw, forged) in [
        (ClientAddress::XForwardedFor, "X-Forwarded-For: 9.9.9.9, ", "X-Forwarded-For: 203.0.113.1\r\n"),
        (ClientAddress::Forwarded, "Forwarded: for=9.9.9.9, for=", "Forwarded: for=203.0.113.1\r\n"),
    ] {
        let gate = Gate::behind_proxies(mode, |settings| settings.connections_per_ip_max = 1);
        let by = |ip: &str| format!("{saw}{ip}\r\n");
        let (one, client) = gate.open(1, b"", &by("198.51.100.1"));
        assert_eq!(client, "198.51.100.1:0");
        let _other = gate.open(1, b"", &by("198.51.100.2"));
        let (mut again, answer) = gate.ask(9, b"", &by("198.51.100.1"));
        assert_refused(&mut again, &answer, 429, "too_many_from_address", "198.51.100.1");
        // Who is no proxy is who he is, whatever he writes.
        let (_peer, client) = gate.open(2, b"", forged);
        assert!(is_ip(&client, "127.0.0.2"), "{client}");
        // Decided later, on the control thread: the same client, counted once.
        let (later, answer) = gate.ask_for("/later", 1, b"", &by("198.51.100.3"));
        assert_eq!(answer.status, 101);
        assert_eq!(gate.ask(1, b"", &by("198.51.100.3")).1.status, 429);
        drop((one, later));
        eventually("both have a place again", || {
            ["198.51.100.1", "198.51.100.3"].iter().all(|ip| gate.ask(1, b"", &by(ip)).1.status == 101)
        });
    }
}

#[test]
fn a_connection_on_which_a_proxy_sends_requests_of_many_counts_for_none_of_them_before_an_upgrade() {
    let gate = Gate::behind_proxies(ClientAddress::XForwardedFor, |settings| settings.connections_per_ip_max = 1);
    let mut pooled = gate.connect(1);
    for ip in ["198.51.100.1", "198.51.100.2", "198.51.100.1"] {
        pooled.send(request_bytes("GET", "/whoami", &[("X-Forwarded-For", ip)], b""));
        let arrival = read_json(&mut pooled);
        assert_eq!(arrival["client"], format!("{ip}:0"));
        assert!(is_ip(arrival["peer"].as_str().unwrap(), "127.0.0.1"));
        assert_eq!(arrival["forwarded"], true);
    }
    let header = "X-Forwarded-For: 198.51.100.1\r\n";
    let (one, _) = gate.open(1, b"", header);
    // Refused there, too, and the connection goes on.
    pooled.send(upgrade_request_with("/", header));
    let answer = pooled.read_head();
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    pooled.read_bytes(answer.header("content-length").unwrap().parse().unwrap());
    assert_eq!(gate.metrics().refusals("too_many_from_address"), 1);
    // Refused by the handler it is nobody's again.
    pooled.send(upgrade_request_with("/refused", "X-Forwarded-For: 198.51.100.2\r\n"));
    let answer = pooled.read_head();
    assert_eq!(answer.status, 403, "{answer:?}");
    pooled.read_bytes(answer.header("content-length").unwrap().parse().unwrap());
    let _second = gate.open(1, b"", "X-Forwarded-For: 198.51.100.2\r\n");
    drop(one);
    gate.eventually_is("client_addresses", 1);
    pooled.send(upgrade_request_with("/", header));
    assert_eq!(pooled.read_head().status, 101);
    assert_eq!(pooled.read_frame().text(), "198.51.100.1:0");
    assert_eq!(gate.ask(1, b"", header).1.status, 429);
}

const PROXY_V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 80\r\n";

fn proxy_v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = (addresses.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, addresses].concat()
}

#[test]
fn the_proxy_protocol_tells_the_client_for_upgrades_and_requests() {
    let gate = Gate::behind_proxies(ClientAddress::ProxyProtocol, |settings| settings.connections_per_ip_max = 1);
    let (v1, client) = gate.open(1, PROXY_V1, "X-Forwarded-For: 1.1.1.1\r\n");
    assert_eq!(client, "198.51.100.7:4711");
    let (mut again, answer) = gate.ask(9, PROXY_V1, "");
    assert_refused(&mut again, &answer, 429, "too_many_from_address", "198.51.100.7");
    let v6: Vec<u8> = [[0x20, 1, 0x0d, 0xb8], [0; 4], [0; 4], [0, 0, 0, 9]].concat();
    let v6 = proxy_v2(1, 0x21, &[&v6[..], &[0; 16], &[1, 0, 0, 80]].concat());
    let (_v2, client) = gate.open(1, &v6, "");
    assert_eq!(client, "[2001:db8::9]:256");
    assert_eq!(gate.ask(1, &v6, "").1.status, 429, "counted by its prefix");
    // The proxy for itself, and for somebody of whom it does not know: its own address.
    let (own, client) = gate.open(1, &proxy_v2(0, 0, &[]), "");
    assert!(is_ip(&client, "127.0.0.1"));
    let (_unknown, client) = gate.open(9, b"PROXY UNKNOWN\r\n", "");
    assert!(is_ip(&client, "127.0.0.9"));
    drop((v1, own));
    eventually("a place for the address", || gate.ask(1, PROXY_V1, "").1.status == 101);
    for (front, client, forwarded) in
        [(PROXY_V1.to_vec(), "198.51.100.7", true), (proxy_v2(0, 0, &[]), "127.0.0.1", false)]
    {
        let arrival = wait_for("a place for the address", || {
            let mut http = gate.connect(1);
            http.send([&front[..], &request_bytes("GET", "/whoami", &[], b"")].concat());
            let answer = http.read_head();
            (answer.status == 200).then(|| {
                serde_json::from_slice::<Value>(
                    &http.read_bytes(answer.header("content-length").unwrap().parse().unwrap()),
                )
                .unwrap()
            })
        });
        assert!(is_ip(arrival["client"].as_str().unwrap(), client), "{arrival}");
        assert!(is_ip(arrival["peer"].as_str().unwrap(), "127.0.0.1"), "{arrival}");
        assert_eq!(arrival["forwarded"], forwarded, "somebody else's connection");
    }
}

#[test]
fn a_proxy_header_may_come_in_any_parts_and_must_come_in_time() {
    let gate = Gate::behind_proxies(ClientAddress::ProxyProtocol, |settings| {
        settings.handshake_timeout = Duration::from_millis(700);
    });
    for front in [PROXY_V1.to_vec(), proxy_v2(1, 0x11, &[198, 51, 100, 7, 203, 0, 113, 1, 0x12, 0x67, 0, 80])] {
        let mut raw = gate.connect(1);
        for byte in &front {
            raw.send([*byte]);
        }
        raw.send(upgrade_request("/"));
        assert_eq!(raw.read_head().status, 101);
        assert_eq!(raw.read_frame().text(), "198.51.100.7:4711");
        let mut raw = gate.connect(1);
        raw.send(&front[..front.len() - 1]);
        assert_eq!(raw.read_head().status, 408);
    }
    assert_eq!(gate.metrics().refusals("handshake_timeout"), 2);
}

#[test]
fn a_trusted_proxy_without_a_proxy_header_is_dropped_and_nobody_else_may_send_one() {
    let gate = Gate::behind_proxies(ClientAddress::ProxyProtocol, |_| {});
    for front in
        [&b""[..], b"PROXY TCP4 198.51.100.7\r\n", &proxy_v2(1, 0x12, &[0; 12]), &proxy_v2(1, 0x11, &[0; 5000])]
    {
        let mut raw = gate.connect(1);
        let _ = raw.try_send([front, upgrade_request("/").as_bytes()].concat());
        assert_eq!(raw.read_rest(), b"");
    }
    assert_eq!(gate.metrics().refusals("proxy_header"), 4);
    for front in [PROXY_V1.to_vec(), proxy_v2(0, 0, &[])] {
        let (_, answer) = gate.ask(2, &front, "");
        assert_eq!(answer.status, 400);
    }
    assert_eq!(gate.metrics().refusals("malformed_head"), 2);
    assert!(is_ip(&gate.open(2, b"", "").1, "127.0.0.2"), "other peers connect as ever");
    gate.eventually_is("handshakes", 0);
}
