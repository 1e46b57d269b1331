//! Who a client is, whatever proxies and forgers write.

use proptest::prelude::*;

use super::*;

fn settings(client_address: ClientAddress) -> Settings {
    let trusted_proxies = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
    Settings { client_address, trusted_proxies, ..Settings::default() }
}

const PROXY: &str = "10.0.0.1:5000";

#[track_caller]
fn assert_client(mode: ClientAddress, peer: &str, values: &[&str], expected: &str) {
    let (settings, peer) = (settings(mode), peer.parse::<SocketAddr>().unwrap());
    let values = values.iter().map(|value| value.as_bytes());
    let found = header_name(&settings, peer.ip()).map_or(peer, |_| client(&settings, peer, values));
    assert_eq!(found, expected.parse::<SocketAddr>().unwrap());
}

#[track_caller]
fn assert_x_forwarded_for(values: &[&str], expected: &str) {
    assert_client(ClientAddress::XForwardedFor, PROXY, values, expected);
}

#[track_caller]
fn assert_forwarded(values: &[&str], expected: &str) {
    assert_client(ClientAddress::Forwarded, PROXY, values, expected);
}

#[test]
fn a_peer_that_is_no_proxy_is_not_believed() {
    let untrusted = "192.0.2.1:7";
    for (mode, value) in [
        (ClientAddress::XForwardedFor, "198.51.100.1"),
        (ClientAddress::Forwarded, "for=198.51.100.1"),
        (ClientAddress::Peer, "198.51.100.1"),
    ] {
        assert_client(mode, untrusted, &[value], untrusted);
    }
    assert_client(ClientAddress::Peer, PROXY, &["198.51.100.1"], PROXY);
    assert_client(ClientAddress::ProxyProtocol, PROXY, &["198.51.100.1"], PROXY);
    assert_eq!(header_name(&settings(ClientAddress::Forwarded), "192.0.2.1".parse().unwrap()), None);
    assert!(is_told_later(&settings(ClientAddress::ProxyProtocol), "10.0.0.1".parse().unwrap()));
    assert!(!is_told_later(&settings(ClientAddress::ProxyProtocol), "192.0.2.1".parse().unwrap()));
    assert!(!is_told_later(&settings(ClientAddress::Peer), "10.0.0.1".parse().unwrap()));
    assert_client(ClientAddress::XForwardedFor, "[::ffff:10.0.0.1]:1", &["198.51.100.1"], "198.51.100.1:0");
}

#[test]
fn the_rightmost_address_that_is_no_proxy_is_the_client() {
    assert_x_forwarded_for(&["198.51.100.1"], "198.51.100.1:0");
    assert_x_forwarded_for(&["1.1.1.1, 2.2.2.2, 198.51.100.1"], "198.51.100.1:0");
    assert_x_forwarded_for(&["1.1.1.1, 198.51.100.1 ,10.0.0.2,\t10.3.0.3"], "198.51.100.1:0");
    assert_x_forwarded_for(&["198.51.100.1, fd00::7, ::ffff:10.0.0.9"], "198.51.100.1:0");
    assert_x_forwarded_for(&["198.51.100.1:81, [fd00::7]:3"], "198.51.100.1:81");
    assert_x_forwarded_for(&["2001:db8::1"], "[2001:db8::1]:0");
    assert_x_forwarded_for(&["[2001:db8::1]:443,"], "[2001:db8::1]:443");
    assert_x_forwarded_for(&["::ffff:198.51.100.1"], "198.51.100.1:0");
}

#[test]
fn several_headers_are_one_list() {
    assert_x_forwarded_for(&["1.1.1.1", "198.51.100.1"], "198.51.100.1:0");
    assert_x_forwarded_for(&["1.1.1.1, 198.51.100.1", "10.0.0.2", ""], "198.51.100.1:0");
    assert_forwarded(&["for=1.1.1.1", "for=198.51.100.1, for=10.0.0.2"], "198.51.100.1:0");
}

#[test]
fn clients_within_the_trusted_networks_are_those_farthest_away() {
    assert_x_forwarded_for(&["10.7.7.7, 10.0.0.2"], "10.7.7.7:0");
    assert_forwarded(&["for=10.7.7.7, for=10.0.0.2"], "10.7.7.7:0");
}

#[test]
fn garbage_on_the_way_leaves_the_peer_and_garbage_beyond_the_client_is_never_looked_at() {
    for value in
        ["", " , ,", "unknown", "_hidden", "localhost", "198.51.100.1.", "1.2.3", "198.51.100.1:x", "[::1", "::1]"]
    {
        assert_x_forwarded_for(&[value], PROXY);
        assert_x_forwarded_for(
            &["198.51.100.1", value, "10.0.0.2"],
            if value.trim_matches([' ', ',']).is_empty() { "198.51.100.1:0" } else { PROXY },
        );
        assert_x_forwarded_for(&[value, "198.51.100.1, 10.0.0.2"], "198.51.100.1:0");
    }
    let peer = PROXY.parse().unwrap();
    let values: [&[u8]; 2] = [b"1.1.1.1", b"\xff, 10.0.0.2"];
    assert_eq!(client(&settings(ClientAddress::XForwardedFor), peer, values.into_iter()), peer);
}

#[test]
fn a_row_of_proxies_without_end_is_garbage() {
    let row = |n: usize| format!("198.51.100.1{}", ", 10.0.0.2".repeat(n));
    assert_x_forwarded_for(&[&row(PROXIES_MAX - 1)], "198.51.100.1:0");
    assert_x_forwarded_for(&[&row(PROXIES_MAX)], PROXY);
}

#[test]
fn forwarded_tells_it_quoted_with_port_and_among_other_things() {
    assert_forwarded(&["for=198.51.100.1"], "198.51.100.1:0");
    assert_forwarded(&["For=\"198.51.100.1:47011\""], "198.51.100.1:47011");
    assert_forwarded(&["for=\"[2001:db8:cafe::17]:4711\""], "[2001:db8:cafe::17]:4711");
    assert_forwarded(&["FOR=\"[2001:db8:cafe::17]\""], "[2001:db8:cafe::17]:0");
    assert_forwarded(&["for=\"\\[2001:db8::1\\]\""], "[2001:db8::1]:0");
    assert_forwarded(&["proto=https;for=198.51.100.1;by=203.0.113.43"], "198.51.100.1:0");
    assert_forwarded(&["by=_x ; for=198.51.100.1 ;; host=\"a,b;for=1.1.1.1\";"], "198.51.100.1:0");
    assert_forwarded(&["for=198.51.100.1, for=\"[fd00::1]\";ext=\"a, for=1.1.1.1\""], "198.51.100.1:0");
    assert_forwarded(&["for=\"198.51.100.1:_port\""], "198.51.100.1:0");
    // Not quoted, as many write it.
    assert_forwarded(&["for=[2001:db8::1]:5"], "[2001:db8::1]:5");
    assert_forwarded(&["for=198.51.100.1:5"], "198.51.100.1:5");
}

#[test]
fn forwarded_by_somebody_who_does_not_tell_leaves_the_peer() {
    for value in [
        "for=unknown",
        "for=_gazonk",
        "for=\"_SEVKISEK\"",
        "proto=https",
        "for=",
        "for",
        "for=198.51.100.1;for=1.1.1.1",
        "for=\"198.51.100.1",
        "for=198.51.100.1 x",
        "198.51.100.1",
        "=198.51.100.1",
        "",
    ] {
        assert_forwarded(&[value], PROXY);
        assert_forwarded(&[value, "for=198.51.100.1"], "198.51.100.1:0");
    }
    assert_forwarded(&[&format!("for=198.51.100.1;x={}", "y".repeat(ELEMENT_BYTES_MAX))], PROXY);
}

#[test]
fn a_quote_left_open_by_a_client_swallows_nothing() {
    for forged in ["for=\"", "for=\"1.1.1.1", "x=\"\\", "for=1.1.1.1;x=\"a\", b=\""] {
        assert_forwarded(&[&format!("{forged}, for=198.51.100.1")], "198.51.100.1:0");
        assert_forwarded(&[&format!("{forged}, for=\"198.51.100.1\";by=\"[fd00::1]\"")], "198.51.100.1:0");
        assert_forwarded(&[&format!("{forged}, for=198.51.100.1, for=10.0.0.2")], "198.51.100.1:0");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_stands_left_of_it_the_one_whom_the_proxy_saw_is_the_client(
        forged in prop::collection::vec(any::<u8>(), 0..120),
        lines in prop::collection::vec("[ -~]{0,60}", 0..3),
        saw in any::<[u8; 4]>(),
        proxies in prop::collection::vec(any::<[u8; 3]>(), 0..5),
        apart in any::<bool>(),
    ) {
        let saw = IpAddr::from(saw);
        prop_assume!(!is_among(&settings(ClientAddress::Peer).trusted_proxies, saw));
        let peer: SocketAddr = PROXY.parse().unwrap();
        for mode in [ClientAddress::XForwardedFor, ClientAddress::Forwarded] {
            let name = |ip: IpAddr| if mode == ClientAddress::Forwarded { format!("for=\"{ip}\"") } else { ip.to_string() };
            let chain = proxies.iter().map(|[b, c, d]| IpAddr::from([10, *b, *c, *d]));
            let honest = std::iter::once(saw).chain(chain).map(name).collect::<Vec<_>>().join(", ");
            // Appended to the forger's own header, or in one behind it.
            let mut values: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
            if apart {
                values.push(forged.clone());
                values.push(honest.into_bytes());
            } else {
                values.push([&forged[..], b", ", honest.as_bytes()].concat());
            }
            let found = client(&settings(mode), peer, values.iter().map(Vec::as_slice));
            prop_assert_eq!(found, SocketAddr::new(saw, 0));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_and_give_an_address_that_was_written(
        values in prop::collection::vec(prop::collection::vec(prop_oneof![
            Just(b','), Just(b'"'), Just(b'='), Just(b';'), Just(b'1'), Just(b'.'), any::<u8>(),
        ], 0..200), 0..4),
    ) {
        let peer: SocketAddr = PROXY.parse().unwrap();
        for mode in ClientAddress::ALL {
            let found = client(&settings(mode), peer, values.iter().map(Vec::as_slice));
            prop_assert!(found == peer || mode != ClientAddress::Peer);
        }
    }

    #[test]
    fn any_element_written_by_the_rules_tells_its_address(
        ip in any::<[u8; 16]>(), port in any::<u16>(), by in "[a-z_]{1,8}", text in "[ -~]{0,30}",
    ) {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let address = SocketAddr::new(IpAddr::from(ip), port);
        let value = format!("by={by};ext=\"{quoted}\";for=\"{address}\"");
        let values = std::iter::once(value.as_bytes());
        let expected = SocketAddr::new(address.ip().to_canonical(), port);
        let trusted = is_among(&settings(ClientAddress::Peer).trusted_proxies, expected.ip());
        prop_assume!(!trusted);
        // Written for IPv6 even if the address is one of IPv4.
        prop_assert_eq!(client(&settings(ClientAddress::Forwarded), PROXY.parse().unwrap(), values), expected);
    }
}
