//! Handshakes: what is agreed, which fail and how, and who is turned away.

use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use fanfare_tests::raw::upgrade_request;
use rustls::{AlertDescription, Error, HandshakeKind, ProtocolVersion};

use super::kit::*;

/// A fatal alert in the clear: `internal_error`.
const TURNED_AWAY: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// Completes the handshake, or says how it failed.
fn shake_hands(stream: &mut Stream) -> Result<(), Error> {
    while stream.conn.is_handshaking() {
        if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
            return Err(error.downcast().unwrap_or_else(|other| Error::General(other.to_string())));
        }
    }
    Ok(())
}

#[test]
fn a_second_connection_resumes_the_first() {
    let server = Server::start();
    for (version, label) in VERSIONS.into_iter().zip(["1.2", "1.3"]) {
        let config = Arc::new(server.trust(&[version]));
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
            let mut websocket = upgrade(server.connect(&config), "/");
            assert_eq!(ask(&mut websocket, "hello"), "hello");
            assert_eq!(websocket.get_ref().conn.handshake_kind(), Some(kind));
            assert_eq!(websocket.get_ref().conn.protocol_version(), Some(version.version));
        }
        for resumed in ["true", "false"] {
            server.eventually_is("tls_handshakes_total", &[("version", label), ("resumed", resumed)], 1);
        }
    }
    assert_eq!(VERSIONS[1].version, ProtocolVersion::TLSv1_3);
}

#[test]
fn http_1_1_is_what_is_spoken_inside() {
    let server = Server::start();
    let mut config = server.trust(&VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut websocket = upgrade(server.connect(&Arc::new(config.clone())), "/");
    assert_eq!(websocket.get_ref().conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(ask(&mut websocket, "hello"), "hello");
    config.alpn_protocols.truncate(1);
    let mut stream = server.connect(&Arc::new(config));
    assert_eq!(shake_hands(&mut stream), Err(Error::AlertReceived(AlertDescription::NoApplicationProtocol)));
    server.eventually_is("refused_total", &[("cause", "tls_handshake")], 1);
}

#[test]
fn who_does_not_trust_the_certificate_says_so_and_is_counted() {
    let (server, other) = (Server::start(), Server::start());
    for version in VERSIONS {
        let mut stream = server.connect(&Arc::new(other.trust(&[version])));
        assert!(matches!(shake_hands(&mut stream), Err(Error::InvalidCertificate(_))));
    }
    server.eventually_is("refused_total", &[("cause", "tls_handshake")], 2);
    server.eventually_is("tcp_connections", &[], 0);
    server.eventually_is("handshakes", &[], 0);
}

#[test]
fn a_new_certificate_is_shown_to_those_who_come_later() {
    let mut server = Server::start();
    let mut before = server.websocket(VERSIONS[1]);
    let (certificate, _, tls) = certificate();
    server.engine.handle().set_tls(tls);
    let mut stream = server.stream();
    assert!(matches!(shake_hands(&mut stream), Err(Error::InvalidCertificate(_))));
    server.certificate = certificate;
    let mut after = server.websocket(VERSIONS[1]);
    assert_eq!((ask(&mut before, "old"), ask(&mut after, "new")), ("old".into(), "new".into()));
}

/// Nothing, a part of the handshake, and a part of the head: one time limit for all.
#[test]
fn half_a_handshake_ends_by_the_time_limit() {
    let server = Server::with(|settings| settings.handshake_timeout = Duration::from_millis(300));
    let silent = tcp(server.addr());
    let mut half = tcp(server.addr());
    let mut hello = Vec::new();
    server.stream().conn.write_tls(&mut hello).unwrap();
    half.write_all(&hello[..hello.len() / 2]).unwrap();
    for mut stream in [silent, half] {
        let mut last = Vec::new();
        stream.read_to_end(&mut last).expect("it is closed, not reset");
        assert_eq!(last, TURNED_AWAY);
    }
    let mut stream = server.stream();
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it ends with close_notify");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("head of the request"), "{answer}");
    let mut private = tcp(server.private_addr());
    assert_eq!(private.read(&mut [0]).unwrap(), 0, "an address for HTTP only has the same limit");
    server.eventually_is("refused_total", &[("cause", "handshake_timeout")], 4);
    server.eventually_is("tls_connections", &[], 0);
}

/// Nobody pays for a handshake with those for whom there is no place.
#[test]
fn who_is_turned_away_gets_an_alert() {
    let server = Server::with(|settings| settings.connections_max = 1);
    let mut first = server.websocket(VERSIONS[1]);
    let mut stream = server.stream();
    assert_eq!(shake_hands(&mut stream), Err(Error::AlertReceived(AlertDescription::InternalError)));
    let mut plain = tcp(server.plain_addr());
    plain.write_all(upgrade_request("/").as_bytes()).unwrap();
    assert!(read_answer(&mut plain).0.starts_with("http/1.1 503"));
    server.eventually_is("refused_total", &[("cause", "capacity")], 2);
    assert_eq!(ask(&mut first, "still here"), "still here");
}

#[test]
fn without_a_certificate_there_is_no_listener_that_speaks_tls() {
    let here = ([127, 0, 0, 1], 0).into();
    for builder in [
        fanfare::Engine::builder(Parrot::default()).listen_tls(here),
        fanfare::Engine::builder(Parrot::default()).http_listen_tls(here),
    ] {
        let refused = builder.start().err().expect("it does not start");
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
        assert!(refused.to_string().contains("needs certificates"), "{refused}");
    }
}
