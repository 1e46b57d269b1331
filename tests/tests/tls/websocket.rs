//! WebSockets through TLS: what goes through, and how they end.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;

use fanfare_tests::raw::{close_frame, frame, op, upgrade_request};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Bytes, Message as Frame};

use super::kit::*;

#[test]
fn messages_of_every_size_come_back_in_both_versions() {
    let server = Server::start();
    for version in VERSIONS {
        let mut websocket = server.websocket(version);
        // Around what fits a record, a read, and what is encrypted at once.
        for size in [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1 << 20] {
            let text = "y".repeat(size);
            assert_eq!(ask(&mut websocket, &text), text);
        }
    }
    for version in ["1.2", "1.3"] {
        server.eventually_is("tls_handshakes_total", &[("version", version), ("resumed", "false")], 1);
    }
    server.eventually_is("tls_connections", &[], 0);
    assert!(server.notes.lock().unwrap().contains(&"upgrade tls=true id=true".to_owned()));
}

#[test]
fn ten_mebibytes_are_broadcast_to_all_and_nothing_is_lost() {
    let server = Server::start();
    let mut subscribers: Vec<_> = (0..6).map(|n| server.websocket(VERSIONS[n % 2])).collect();
    for websocket in &mut subscribers {
        assert_eq!(ask(websocket, "sub news"), "subscribed");
    }
    let payload: Vec<u8> = (0..10_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let publisher = server.engine.handle().clone();
    publisher.reconfigure(fanfare::Settings { message_bytes: 16 << 20, ..fanfare::Settings::default() }).unwrap();
    publisher.publish("news", &payload[..]).unwrap();
    for websocket in &mut subscribers {
        websocket.set_config(|config| config.max_message_size = None);
        assert!(websocket.read().unwrap().into_data() == payload);
    }
    server.eventually_is("backlogged_connections", &[], 0);
    server.eventually_is("pending_bytes", &[], 0);
    server.assert_conservation();
    assert_eq!(server.engine.handle().deliveries().written, 6);
}

#[test]
fn many_small_messages_come_in_order_and_fill_records() {
    let server = Server::start();
    for version in VERSIONS {
        let mut websocket = server.websocket(version);
        let before = server.metrics().count("fanfare_writes_total", &[]);
        let mut all = Vec::new();
        for n in 0..5000 {
            all.extend(frame(op::TEXT, n.to_string().as_bytes()));
        }
        websocket.get_mut().write_all(&all).unwrap();
        for n in 0..5000 {
            assert_eq!(next_text(&mut websocket), n.to_string());
        }
        let writes = server.metrics().count("fanfare_writes_total", &[]) - before;
        assert!(writes < 1000, "{writes} writes for 5000 answers that came together");
    }
}

#[test]
fn pings_are_answered_and_silent_peers_are_pinged() {
    let server = Server::with(|settings| settings.ping_interval = std::time::Duration::from_millis(200));
    let mut websocket = server.websocket(VERSIONS[1]);
    websocket.send(Frame::Ping(Bytes::from_static(b"there?"))).unwrap();
    assert_eq!(websocket.read().unwrap(), Frame::Pong(Bytes::from_static(b"there?")));
    assert_eq!(websocket.read().unwrap(), Frame::Ping(Bytes::new()));
    // Which the client answers with the next thing it does.
    assert_eq!(ask(&mut websocket, "still here"), "still here");
    server.eventually_is("pongs_received_total", &[], 1);
}

/// Both closing handshakes end with the server's close_notify: to the client an end in order, not a truncation.
#[test]
fn closing_from_either_side_ends_with_close_notify() {
    for version in VERSIONS {
        for client_first in [true, false] {
            let server = Server::start();
            let mut stream = server.connect(&std::sync::Arc::new(server.trust(&[version])));
            stream.write_all(upgrade_request("/").as_bytes()).unwrap();
            assert!(read_answer(&mut stream).0.starts_with("http/1.1 101"));
            let mut rest = Vec::new();
            if client_first {
                stream.write_all(&close_frame(1001, "away")).unwrap();
                assert!(stream.read_to_end(&mut rest).is_ok(), "it ends with close_notify");
                assert_eq!(rest, [&[0x88, 6][..], &1001_u16.to_be_bytes(), b"away"].concat());
                server.eventually_noted("close peer_close 1001 away");
            } else {
                stream.write_all(&frame(op::TEXT, b"close")).unwrap();
                let mut close = [0; 15];
                stream.read_exact(&mut close).unwrap();
                assert_eq!(close[4..], *b"as you like");
                stream.write_all(&close_frame(4000, "")).unwrap();
                assert!(stream.read_to_end(&mut rest).is_ok() && rest.is_empty(), "it ends with close_notify");
                server.eventually_noted("close application 4000 as you like");
            }
            server.eventually_is("tcp_connections", &[], 0);
        }
    }
}

#[test]
fn a_client_that_says_close_notify_has_gone_whether_or_not_it_closes_its_socket() {
    let server = Server::start();
    for version in VERSIONS {
        let mut websocket = server.websocket(version);
        assert_eq!(ask(&mut websocket, "hello"), "hello");
        let stream = websocket.get_mut();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        // Its socket stays open: the server ends it, and says so.
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_ok() && rest.is_empty());
    }
    let gone: Vec<_> =
        server.notes.lock().unwrap().iter().filter(|note| note.starts_with("close peer_gone")).cloned().collect();
    assert_eq!(gone.len(), 2);
}

/// What came before the end is handled, be there a close_notify or not.
#[test]
fn a_socket_that_ends_without_close_notify_is_gone_like_any_other() {
    let server = Server::start();
    let mut websocket = server.websocket(VERSIONS[0]);
    websocket.send(Frame::text("last words")).unwrap();
    websocket.get_ref().sock.shutdown(Shutdown::Write).unwrap();
    server.eventually_is("messages_received_total", &[], 1);
    server.eventually_is("closed_total", &[("cause", "peer_gone")], 1);
    match websocket.get_mut().read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}"),
    }
}

#[test]
fn the_end_of_the_engine_closes_in_order() {
    let server = Server::start();
    let mut websocket = server.websocket(VERSIONS[1]);
    assert_eq!(ask(&mut websocket, "hello"), "hello");
    let ending = std::thread::spawn(move || server.engine.shutdown());
    match websocket.read().unwrap() {
        Frame::Close(Some(CloseFrame { code, .. })) => assert!([1001, 1012].contains(&u16::from(code))),
        other => panic!("{other:?}"),
    }
    while websocket.read().is_ok() {}
    assert_eq!(websocket.get_mut().read(&mut [0]).unwrap(), 0, "it ends with close_notify");
    ending.join().unwrap();
}
