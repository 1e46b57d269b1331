//! HTTP through TLS: routes, connections that stay and become WebSockets, and addresses for HTTP only.

use std::io::{Read as _, Write as _};
use std::sync::Arc;

use fanfare_tests::raw::upgrade_request;
use serde_json::Value;

use super::kit::*;

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

#[test]
fn routes_are_served_on_a_connection_that_stays() {
    let server = Server::start();
    for version in VERSIONS {
        let mut stream = server.connect(&Arc::new(server.trust(&[version])));
        for _ in 0..3 {
            let (head, body) = http(&mut stream, "/whoami");
            assert!(head.starts_with("http/1.1 200"), "{head}");
            assert_eq!(json(&body), serde_json::json!({ "tls": true, "private": false, "certificate": false }));
            let (_, body) = http(&mut stream, "/big");
            assert!(body.len() == 3 << 20 && body.bytes().all(|byte| byte == b'x'));
        }
        write!(stream, "GET /whoami HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        read_answer(&mut stream);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "it ends with close_notify");
    }
    let (_, body) = http(&mut tcp(server.plain_addr()), "/whoami");
    assert_eq!(json(&body)["tls"], false);
    server.eventually_is("http_connections", &[], 0);
}

/// Both ways to the control plane and back: after a request, and for a decision that takes a while.
#[test]
fn a_connection_that_has_carried_http_becomes_a_websocket() {
    let server = Server::start();
    for version in VERSIONS {
        let mut stream = server.connect(&Arc::new(server.trust(&[version])));
        assert!(http(&mut stream, "/whoami").0.starts_with("http/1.1 200"));
        let mut websocket = upgrade(stream, "/");
        assert_eq!(ask(&mut websocket, "hello"), "hello");
        let text = "y".repeat(200_000);
        assert_eq!(ask(&mut websocket, &text), text);
        let mut websocket = upgrade(server.connect(&Arc::new(server.trust(&[version]))), "/later");
        assert_eq!(ask(&mut websocket, "hello again"), "hello again");
        websocket.close(None).unwrap();
        while websocket.read().is_ok() {}
        assert_eq!(websocket.get_mut().read(&mut [0]).unwrap(), 0, "it ends with close_notify");
    }
    assert_eq!(server.metrics().count("fanfare_http_upgrades_total", &[]), 4);
    assert!(server.notes.lock().unwrap().contains(&"upgrade tls=true id=false".to_owned()));
    server.eventually_is("tls_connections", &[], 0);
}

/// The frame comes with the request, perhaps in one record: it is not lost on the way back to a shard.
#[test]
fn what_follows_the_upgrade_at_once_is_not_lost() {
    let server = Server::start();
    for path in ["/", "/later"] {
        let mut stream = server.stream();
        let request = [upgrade_request(path).into_bytes(), fanfare_tests::raw::frame(1, b"early")].concat();
        stream.write_all(&request).unwrap();
        assert!(read_answer(&mut stream).0.starts_with("http/1.1 101"));
        let mut frame = [0; 7];
        stream.read_exact(&mut frame).unwrap();
        assert_eq!(&frame[2..], b"early");
    }
}

#[test]
fn an_address_for_http_only_speaks_tls() {
    let server = Server::start();
    for version in VERSIONS {
        let mut stream = over(&Arc::new(server.trust(&[version])), tcp(server.private_addr()));
        for _ in 0..2 {
            let (_, body) = http(&mut stream, "/whoami");
            assert_eq!(json(&body), serde_json::json!({ "tls": true, "private": true, "certificate": false }));
        }
        assert_eq!(http(&mut stream, "/big").1.len(), 3 << 20);
        stream.write_all(upgrade_request("/").as_bytes()).unwrap();
        assert!(read_answer(&mut stream).0.starts_with("http/1.1 403"));
    }
    server.eventually_is("tls_handshakes_total", &[], 2);
}

#[test]
fn a_refused_upgrade_is_answered_through_tls() {
    let server = Server::start();
    let mut stream = server.stream();
    stream.write_all(upgrade_request("/refused").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it ends with close_notify");
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("not this path"), "{answer}");
    server.eventually_is("refused_total", &[("cause", "refused")], 1);
}
