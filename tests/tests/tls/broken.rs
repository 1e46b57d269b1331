//! Streams that are not what they should be: broken records, the wrong protocol, and a proxy's header in front.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use fanfare::ClientAddress;
use fanfare_tests::raw::{frame, op, upgrade_request};
use rustls::ClientConnection;
use serde_json::Value;

use super::kit::*;

/// A WebSocket whose records can be tampered with.
fn opened(server: &Server, version: usize) -> (ClientConnection, TcpStream) {
    let mut stream = server.connect(&Arc::new(server.trust(&[VERSIONS[version]])));
    stream.write_all(upgrade_request("/").as_bytes()).unwrap();
    assert!(read_answer(&mut stream).0.starts_with("http/1.1 101"));
    (stream.conn, stream.sock)
}

fn record(client: &mut ClientConnection, plain: &[u8]) -> Vec<u8> {
    client.writer().write_all(plain).unwrap();
    let mut record = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut record).unwrap();
    }
    record
}

/// Reads on to the end; what rustls makes of it.
fn end_of(client: &mut ClientConnection, sock: &mut TcpStream) -> Result<(), rustls::Error> {
    while client.read_tls(sock).expect("it is closed, not reset") > 0 {
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn a_corrupted_record_ends_the_connection_with_an_alert_and_its_cause() {
    for version in [0, 1] {
        let server = Server::start();
        let (mut client, mut sock) = opened(&server, version);
        let mut bytes = record(&mut client, &frame(op::TEXT, b"the first is whole"));
        let mut broken = record(&mut client, &frame(op::TEXT, b"and the second is not"));
        *broken.last_mut().unwrap() ^= 1;
        bytes.extend(broken);
        sock.write_all(&bytes).unwrap();
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac);
        assert_eq!(end_of(&mut client, &mut sock), Err(alert));
        server.eventually_is("messages_received_total", &[], 1);
        server.eventually_is("closed_total", &[("cause", "tls")], 1);
        let notes = server.notes.lock().unwrap().clone();
        assert!(notes.iter().any(|note| note.starts_with("close tls 1002 ")), "{notes:?}");
    }
}

#[test]
fn half_a_record_and_then_the_end_is_a_peer_that_has_gone() {
    let server = Server::start();
    let (mut client, mut sock) = opened(&server, 1);
    let bytes = record(&mut client, &frame(op::TEXT, b"hello"));
    sock.write_all(&bytes[..bytes.len() - 3]).unwrap();
    sock.shutdown(Shutdown::Write).unwrap();
    server.eventually_is("closed_total", &[("cause", "peer_gone")], 1);
    server.eventually_is("inbound_bytes", &[], 0);
}

/// What is half received is counted among what all hold, and given back.
#[test]
fn half_a_record_is_counted_as_long_as_it_is_held() {
    let server = Server::start();
    let (mut client, mut sock) = opened(&server, 1);
    let bytes = record(&mut client, &frame(op::TEXT, &[b'z'; 9000]));
    let (first, rest) = bytes.split_at(8000);
    sock.write_all(first).unwrap();
    fanfare_tests::eventually("it is counted", || server.metrics().count("fanfare_inbound_bytes", &[]) >= 8000);
    sock.write_all(rest).unwrap();
    server.eventually_is("messages_received_total", &[], 1);
    server.eventually_is("inbound_bytes", &[], 0);
}

#[test]
fn a_broken_handshake_is_refused_with_an_alert() {
    let server = Server::start();
    for byte in [0, 1, 2] {
        let mut stream = server.stream();
        let mut hello = Vec::new();
        stream.conn.write_tls(&mut hello).unwrap();
        // Another kind of record, another version, and a ClientHello that is something else.
        match byte {
            0 => hello[0] = 23,
            1 => hello[1] = 9,
            _ => hello[5] = 2,
        }
        stream.sock.write_all(&hello).unwrap();
        let mut alert = Vec::new();
        stream.sock.read_to_end(&mut alert).expect("it is closed, not reset");
        assert_eq!((alert.first(), alert.get(5)), (Some(&21), Some(&2)), "a fatal alert: {alert:?}");
    }
    server.eventually_is("refused_total", &[("cause", "tls_handshake")], 3);
}

#[test]
fn http_on_a_tls_port_is_told_where_to_go() {
    let server = Server::start();
    for (n, addr) in [server.addr(), server.private_addr()].into_iter().enumerate() {
        let mut sock = tcp(addr);
        sock.write_all(upgrade_request("/").as_bytes()).unwrap();
        let mut answer = String::new();
        sock.read_to_string(&mut answer).expect("it is closed, not reset");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        let error: Value = serde_json::from_str(body).unwrap();
        assert_eq!(error["code"], "plain_on_tls");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("https://") && message.contains("wss://"), "{message}");
        server.eventually_is("refused_total", &[("cause", "plain_on_tls")], n as u64 + 1);
    }
    server.eventually_is("tls_connections", &[], 0);
    server.eventually_is("tcp_connections", &[], 0);
}

#[test]
fn tls_on_a_port_without_it_gets_an_alert() {
    let here = ([127, 0, 0, 1], 0).into();
    let server = Server::of(|engine| engine.http_listen(here));
    for (n, addr) in [server.plain_addr(), server.engine.handle().http_addrs()[1]].into_iter().enumerate() {
        let mut stream = over(&Arc::new(server.trust(&VERSIONS)), tcp(addr));
        let error = loop {
            match stream.conn.complete_io(&mut stream.sock) {
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("UnexpectedMessage"), "{error}");
        server.eventually_is("refused_total", &[("cause", "tls_on_plain")], n as u64 + 1);
    }
}

/// The proxy speaks in the clear, and what it passes on does not.
#[test]
fn a_proxy_header_comes_in_front_of_tls() {
    let server = Server::with(|settings| {
        settings.client_address = ClientAddress::ProxyProtocol;
        settings.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        settings.connections_per_ip_max = 1;
    });
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 5555 443\r\n";
    let config = Arc::new(server.trust(&VERSIONS));
    let mut sock = tcp(server.addr());
    sock.write_all(&header[..9]).unwrap();
    let mut stream = over(&config, sock);
    let mut hello = header[9..].to_vec();
    // The rest of the header in one piece with the first record.
    stream.conn.write_tls(&mut hello).unwrap();
    stream.sock.write_all(&hello).unwrap();
    let mut websocket = upgrade(stream, "/");
    assert_eq!(ask(&mut websocket, "hello"), "hello");
    server.eventually_noted("from 192.0.2.7:5555");
    // The client's second connection is one too many: as nothing is agreed yet, there is an alert.
    let mut sock = tcp(server.addr());
    sock.write_all(header).unwrap();
    let mut last = Vec::new();
    sock.read_to_end(&mut last).unwrap();
    assert_eq!(last.first(), Some(&21), "{last:?}");
    server.eventually_is("refused_total", &[("cause", "too_many_from_address")], 1);
    // Without one, it is nobody's.
    let mut sock = tcp(server.addr());
    sock.write_all(&hello[header.len() - 9..]).unwrap();
    server.eventually_is("refused_total", &[("cause", "proxy_header")], 1);
}
