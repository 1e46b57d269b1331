//! Connections are counted by the address of their client.

use std::time::Duration;

use fanfare_tests::http::request_bytes;
use fanfare_tests::raw::{End, close_frame, upgrade_request};

use crate::kit::{Gate, assert_refused, is_ip, read_json};

#[test]
fn one_more_connection_from_an_address_is_refused_until_one_ends() {
    let gate = Gate::with(|settings| settings.connections_per_ip_max = 2);
    let (first, client) = gate.open(2, b"", "");
    assert!(is_ip(&client, "127.0.0.2"));
    let _second = gate.open(2, b"", "");
    let (mut third, answer) = gate.ask(2, b"", "");
    assert!(answer.header("retry-after").is_some());
    assert_refused(&mut third, &answer, 429, "too_many_from_address", "127.0.0.2, which is connections_per_ip_max");
    let _another = gate.open(3, b"", "");
    assert_eq!(gate.metrics().refusals("too_many_from_address"), 1);
    gate.eventually_is("client_addresses", 2);
    drop(first);
    let _again = gate.open_soon(2);
}

#[test]
fn http_connections_count_too() {
    let gate = Gate::with(|settings| settings.connections_per_ip_max = 1);
    let mut http = gate.connect(2);
    http.send(request_bytes("GET", "/whoami", &[], b""));
    let arrival = read_json(&mut http);
    assert!(is_ip(arrival["client"].as_str().unwrap(), "127.0.0.2"));
    let (mut second, answer) = gate.ask(2, b"", "");
    assert_refused(&mut second, &answer, 429, "too_many_from_address", "connections_per_ip_max");
    // The connection itself may become a WebSocket: it is one already.
    http.send(upgrade_request("/"));
    assert_eq!(http.read_head().status, 101);
    assert!(is_ip(&http.read_frame().text(), "127.0.0.2"));
    assert_eq!(gate.ask(2, b"", "").1.status, 429, "adopted by a shard it counts still");
    drop(http);
    let _again = gate.open_soon(2);
}

#[test]
fn however_a_connection_ends_it_is_counted_out_once() {
    let gate = Gate::with(|settings| settings.handshake_timeout = Duration::from_millis(300));
    type Way<'a> = (&'a str, Box<dyn Fn(u8) + 'a>);
    let ways: Vec<Way<'_>> = vec![
        ("gone at once", Box::new(|host| drop(gate.connect(host)))),
        ("half a head", Box::new(|host| gate.connect(host).send("GET / HT"))),
        ("a reset", Box::new(|host| gate.open(host, b"", "").0.reset())),
        ("the end of the socket", Box::new(|host| drop(gate.open(host, b"", "")))),
        (
            "a Close frame",
            Box::new(|host| {
                let (mut raw, _) = gate.open(host, b"", "");
                raw.send(close_frame(1000, ""));
                assert_eq!(raw.read_to_end(), End::Finished);
            }),
        ),
        (
            "a mistake in the protocol",
            Box::new(|host| {
                let (mut raw, _) = gate.open(host, b"", "");
                raw.send([0xff; 20]);
                raw.read_close();
            }),
        ),
        ("refused", Box::new(|host| assert_eq!(gate.ask_for("/refused", host, b"", "").1.status, 403))),
        ("decided later", Box::new(|host| assert_eq!(gate.ask_for("/later", host, b"", "").1.status, 101))),
        ("refused later", Box::new(|host| assert_eq!(gate.ask_for("/later-refused", host, b"", "").1.status, 403))),
        ("too late", Box::new(|host| assert_eq!(gate.connect(host).read_head().status, 408))),
        (
            "no HTTP",
            Box::new(|host| {
                let mut raw = gate.connect(host);
                raw.send("\x01\x02\x03\r\n\r\n");
                assert_eq!(raw.read_head().status, 400);
            }),
        ),
        (
            "HTTP",
            Box::new(|host| {
                let mut raw = gate.connect(host);
                raw.send(request_bytes("GET", "/whoami", &[], b""));
                read_json(&mut raw);
            }),
        ),
        (
            "HTTP, then a WebSocket",
            Box::new(|host| {
                let mut raw = gate.connect(host);
                raw.send(request_bytes("GET", "/whoami", &[], b""));
                read_json(&mut raw);
                raw.send(upgrade_request("/"));
                assert_eq!(raw.read_head().status, 101);
            }),
        ),
    ];
    // Twice, and two at a time: who is counted out twice takes the other's place in the count.
    for (n, (way, run)) in ways.iter().enumerate() {
        let host = 20 + n as u8;
        let (watcher, _) = gate.open(host, b"", "");
        for _ in 0..2 {
            run(host);
            println!("{way}");
            gate.eventually_is("tcp_connections", 1);
            gate.eventually_is("http_connections", 0);
            gate.eventually_is("client_addresses", 1);
        }
        gate.reconfigure(|settings| settings.connections_per_ip_max = 2);
        // The gauges may have been a moment ahead of the count; a count that is wrong stays wrong.
        let one_more = gate.open_soon(host);
        assert_eq!(gate.ask(host, b"", "").1.status, 429, "{way}: the count was right");
        gate.reconfigure(|settings| settings.connections_per_ip_max = 0);
        drop((watcher, one_more));
        gate.eventually_is("client_addresses", 0);
        gate.eventually_is("handshakes", 0);
        gate.eventually_is("tcp_connections", 0);
    }
}
