//! Peers that do not read: what is encrypted waits, what is not waits behind it, and nothing is lost or doubled.

use std::net::TcpStream;
use std::sync::Arc;

use fanfare::{DeliveryPolicy, TopicRules, TopicSettings};
use fanfare_tests::{DEADLINE, eventually};
use socket2::{Domain, Socket, Type};
use tungstenite::{Message as Frame, WebSocket};

use super::kit::*;

/// A client whose socket holds little.
fn slow(server: &Server, version: usize) -> WebSocket<Stream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&server.addr().into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    upgrade(over(&Arc::new(server.trust(&[VERSIONS[version]])), TcpStream::from(socket)), "/")
}

fn with_policy(policy: DeliveryPolicy, pending_messages: usize) -> Server {
    let settings = TopicSettings { policy, pending_messages, pending_bytes: 64 << 20, ..TopicSettings::default() };
    let own = fanfare::Settings { pending_bytes: 64 << 20, pending_messages: 100_000, ..fanfare::Settings::default() };
    Server::of(|engine| engine.topics(TopicRules::new(settings)).settings(own))
}

#[test]
fn a_slow_reader_gets_everything_in_order_once_it_reads() {
    let server = with_policy(DeliveryPolicy::Disconnect, 100_000);
    for version in [0, 1] {
        let mut websocket = slow(&server, version);
        assert_eq!(ask(&mut websocket, "sub news"), "subscribed");
        let before = server.engine.handle().deliveries().written;
        for n in 0..4000_u32 {
            let payload = format!("{n:06}{}", "z".repeat(n as usize % 3000));
            let publish = || server.engine.handle().publish("news", payload.as_str());
            eventually("the inbox has room", || publish().is_ok());
        }
        server.eventually_is("backlogged_connections", &[], 1);
        eventually("all have come as far as the queue", || server.engine.handle().deliveries().in_flight == 0);
        server.assert_conservation();
        let waits = server.engine.handle().deliveries().queued;
        assert!(waits > 100, "{waits} wait");
        eventually("what waits is counted", || server.metrics().count("fanfare_pending_bytes", &[]) > 100_000);
        for n in 0..4000_u32 {
            let text = next_text(&mut websocket);
            assert!(text.starts_with(&format!("{n:06}")) && text.len() == 6 + n as usize % 3000, "{n}: {text:.10}");
        }
        server.eventually_is("backlogged_connections", &[], 0);
        server.eventually_is("pending_bytes", &[], 0);
        assert_eq!(server.engine.handle().deliveries().written - before, 4000);
        server.assert_conservation();
        assert_eq!(ask(&mut websocket, "and on it goes"), "and on it goes");
    }
}

/// What its policy drops is dropped whole: the stream of records and frames stays sound.
#[test]
fn what_a_policy_drops_leaves_the_rest_readable() {
    let server = with_policy(DeliveryPolicy::DropOldest, 10);
    let mut websocket = slow(&server, 1);
    assert_eq!(ask(&mut websocket, "sub news"), "subscribed");
    for n in 0..3000_u32 {
        let payload = format!("{n:06}{}", "z".repeat(2000));
        eventually("the inbox has room", || server.engine.handle().publish("news", payload.as_str()).is_ok());
    }
    eventually("all have been dealt with", || server.engine.handle().deliveries().in_flight == 0);
    let dropped = server.engine.handle().deliveries().dropped_oldest;
    assert!(dropped > 0);
    let mut last = None;
    for _ in 0..3000 - dropped {
        let n: u32 = next_text(&mut websocket)[..6].parse().unwrap();
        assert!(last < Some(n));
        last = Some(n);
    }
    assert_eq!(last, Some(2999));
    server.assert_conservation();
}

/// A tracked message is written when the socket has it, not when it is encrypted.
#[test]
fn a_tracked_message_is_told_when_the_socket_has_taken_all_of_it() {
    let server = with_policy(DeliveryPolicy::Disconnect, 100);
    let mut websocket = slow(&server, 1);
    websocket.send(Frame::text("track 8000000")).unwrap();
    server.eventually_is("backlogged_connections", &[], 1);
    assert!(!server.notes.lock().unwrap().contains(&"sent 7 true".to_owned()));
    assert_eq!(next_text(&mut websocket).len(), 8_000_000);
    server.eventually_noted("sent 7 true");
    // And never, if the peer goes away before.
    websocket.send(Frame::text("track 8000000")).unwrap();
    server.eventually_is("backlogged_connections", &[], 1);
    drop(websocket);
    server.eventually_noted("sent 7 false");
    server.eventually_is("pending_bytes", &[], 0);
    server.eventually_is("backlogged_connections", &[], 0);
}

/// The Close frame and the close_notify come behind everything that waits.
#[test]
fn a_slow_reader_that_is_closed_still_gets_what_waits_and_the_end() {
    let server = with_policy(DeliveryPolicy::Disconnect, 100);
    let mut websocket = slow(&server, 0);
    websocket.send(Frame::text("track 3000000")).unwrap();
    websocket.send(Frame::text("close")).unwrap();
    server.eventually_noted("close application 4000 as you like");
    assert_eq!(next_text(&mut websocket).len(), 3_000_000);
    assert!(matches!(websocket.read().unwrap(), Frame::Close(Some(close)) if u16::from(close.code) == 4000));
    while websocket.read().is_ok() {}
    assert_eq!(std::io::Read::read(websocket.get_mut(), &mut [0]).unwrap(), 0, "it ends with close_notify");
}
