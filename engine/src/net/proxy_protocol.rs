//! The PROXY protocol, versions 1 and 2: what a proxy says in front of a connection about the client whose connection it is.
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>
//!
//! How long a header may become is decided here, and the crate `ppp` is only ever given a whole one. Bytes in, outcome out;
//! who may send one is the caller's to judge.

use std::net::{IpAddr, SocketAddr};

use ppp::{v1, v2};

/// The longest header of version 2 that is taken, in bytes; the protocol would allow 65,551. It holds the addresses and,
/// among what may follow them, a certificate's name.
pub const BYTES_MAX: usize = 4096;

/// With this a header of version 1 begins.
const PREFIX_V1: &[u8] = b"PROXY ";
/// The longest one, CRLF included (section 2.1).
const BYTES_MAX_V1: usize = 107;
/// The length of what comes in front of the addresses in version 2: 12 bytes of signature, four more.
const FIXED_V2: usize = 16;

/// What stands at the front of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    /// Nothing can be said before there are more bytes.
    Incomplete,
    /// A header of so many bytes; the connection is the proxy's own (a check of whether we are well).
    Own(usize),
    /// A header of so many bytes; somebody else's connection, of whom it is not said who.
    Unknown(usize),
    /// A header of so many bytes; the connection of this client.
    Client(usize, SocketAddr),
    /// No header, or one that breaks the rules.
    Invalid,
}

/// Reads the header at the front of these bytes. It asks for more of them only while they may still become one of at most
/// [`BYTES_MAX`] bytes.
#[must_use]
pub fn parse(bytes: &[u8]) -> Proxied {
    if is_front_of(bytes, v2::PROTOCOL_PREFIX) {
        parse_v2(bytes)
    } else if is_front_of(bytes, PREFIX_V1) {
        parse_v1(bytes)
    } else {
        Proxied::Invalid
    }
}

/// Whether the bytes begin with the prefix, as far as there are any.
fn is_front_of(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.starts_with(prefix) || prefix.starts_with(bytes)
}

fn parse_v1(bytes: &[u8]) -> Proxied {
    let within = &bytes[..bytes.len().min(BYTES_MAX_V1)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < BYTES_MAX_V1 { Proxied::Incomplete } else { Proxied::Invalid };
    };
    let length = end + 2;
    match v1::Header::try_from(&bytes[..length]).map(|header| header.addresses) {
        Ok(v1::Addresses::Tcp4(own)) => Proxied::Client(length, client(own.source_address, own.source_port)),
        Ok(v1::Addresses::Tcp6(own)) => Proxied::Client(length, client(own.source_address, own.source_port)),
        Ok(v1::Addresses::Unknown) => Proxied::Unknown(length),
        Err(_) => Proxied::Invalid,
    }
}

fn parse_v2(bytes: &[u8]) -> Proxied {
    let Some(fixed) = bytes.get(..FIXED_V2) else { return Proxied::Incomplete };
    let length = FIXED_V2 + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > BYTES_MAX {
        return Proxied::Invalid;
    }
    let Some(whole) = bytes.get(..length) else { return Proxied::Incomplete };
    // LOCAL: whatever is said about addresses must be ignored (section 2.2).
    if fixed[12] == 0x20 {
        return Proxied::Own(length);
    }
    let Ok(header) = v2::Header::try_from(whole) else { return Proxied::Invalid };
    match (header.addresses, header.protocol) {
        // Datagrams do not carry WebSockets: these bytes cannot come from whom they describe.
        (_, v2::Protocol::Datagram) => Proxied::Invalid,
        (v2::Addresses::IPv4(own), _) => Proxied::Client(length, client(own.source_address, own.source_port)),
        (v2::Addresses::IPv6(own), _) => Proxied::Client(length, client(own.source_address, own.source_port)),
        (v2::Addresses::Unspecified | v2::Addresses::Unix(_), _) => Proxied::Unknown(length),
    }
}

fn client(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into().to_canonical(), port)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

    /// A header of version 2: command and version, family and protocol, addresses and what follows them.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, rest].concat()
    }

    fn ipv4() -> Vec<u8> {
        v2(0x21, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 1, 187])
    }

    fn client(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_versions_tell_the_client_and_where_the_request_begins() {
        assert_eq!(parse(V1), Proxied::Client(V1.len(), client("192.0.2.7:56324")));
        let with_request = [V1, b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&with_request), Proxied::Client(V1.len(), client("192.0.2.7:56324")));
        let v6 = b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
        assert_eq!(parse(v6), Proxied::Client(v6.len(), client("[2001:db8::1]:1")));
        assert_eq!(parse(&ipv4()), Proxied::Client(28, client("192.0.2.7:56324")));
        let mut both = [0; 36];
        both[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        both[33] = 9;
        assert_eq!(parse(&v2(0x21, 0x21, &both)), Proxied::Client(52, client("192.0.2.7:9")));
    }

    #[test]
    fn what_follows_the_addresses_is_skipped() {
        let mut rest = vec![192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 0x04, 1, 187];
        rest.extend([0x01, 0, 2, b'h', b'2', 0x20, 0, 200]);
        rest.resize(12 + 300, 7);
        assert_eq!(parse(&v2(0x21, 0x11, &rest)), Proxied::Client(16 + 312, client("192.0.2.7:56324")));
    }

    #[test]
    fn a_proxy_may_speak_for_itself_or_not_know() {
        assert_eq!(parse(&v2(0x20, 0, &[])), Proxied::Own(16));
        // Whatever addresses a LOCAL header has.
        assert_eq!(parse(&v2(0x20, 0xff, &[1, 2, 3])), Proxied::Own(19));
        assert_eq!(parse(&v2(0x21, 0, &[])), Proxied::Unknown(16));
        assert_eq!(parse(&v2(0x21, 0x31, &[0; 216])), Proxied::Unknown(232));
        assert_eq!(parse(b"PROXY UNKNOWN\r\nGET"), Proxied::Unknown(15));
        let long = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert_eq!(parse(long), Proxied::Unknown(long.len()));
    }

    #[test]
    fn what_breaks_the_rules_is_refused_as_soon_as_it_does() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 99999 443\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
            b"PROXY TCP4 a b 1 2\r\n",
            b"PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
            b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
            b"PROXY \xff\xff\r\n",
        ] {
            let outcome = parse(bytes);
            let expected = if bytes == b"PROXY" { Proxied::Incomplete } else { Proxied::Invalid };
            assert_eq!(outcome, expected, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(parse(&[&b"PROXY "[..], &[b'x'; 101]].concat()), Proxied::Invalid, "107 bytes and no end");
        assert_eq!(parse(&v2(0x31, 0x11, &[0; 12])), Proxied::Invalid, "version 3");
        assert_eq!(parse(&v2(0x22, 0x11, &[0; 12])), Proxied::Invalid, "no such command");
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 11])), Proxied::Invalid, "too short for its addresses");
        assert_eq!(parse(&v2(0x21, 0x12, &[0; 12])), Proxied::Invalid, "datagrams");
        // The length alone is enough: nobody is to wait for, or keep, 64 KiB.
        assert_eq!(parse(&v2(0x21, 0x11, &[0; BYTES_MAX])[..FIXED_V2]), Proxied::Invalid);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_part_of_a_header_asks_for_more_and_only_the_whole_tells(cut in 0_usize..200, second in any::<bool>()) {
            let whole = if second { ipv4() } else { V1.to_vec() };
            let cut = cut % whole.len();
            prop_assert_eq!(parse(&whole[..cut]), Proxied::Incomplete);
            prop_assert_eq!(parse(&whole), Proxied::Client(whole.len(), client("192.0.2.7:56324")));
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic_and_what_is_incomplete_is_short(
            front in prop_oneof![Just(&b""[..]), Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 "[..]), Just(v2::PROTOCOL_PREFIX)],
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [front, &rest].concat();
            match parse(&bytes) {
                Proxied::Incomplete => prop_assert!(bytes.len() < BYTES_MAX),
                Proxied::Own(length) | Proxied::Unknown(length) | Proxied::Client(length, _) => {
                    prop_assert!(length <= bytes.len() && length <= BYTES_MAX);
                    // What follows changes nothing.
                    prop_assert_eq!(parse(&bytes), parse(&bytes[..length]));
                }
                Proxied::Invalid => {}
            }
        }

        #[test]
        fn any_version_2_header_is_judged_without_a_panic(
            command in 0x1e_u8..0x24, family in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = v2(command, family, &rest);
            prop_assert_ne!(parse(&bytes), Proxied::Incomplete);
        }
    }
}
