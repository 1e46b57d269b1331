//! What is agreed on, over a new connection and over one that has carried HTTP, which is another part of the server.

use std::net::SocketAddr;

use fanfare_tests::http::Response;
use fanfare_tests::raw::{op, upgrade_request_with};
use fanfare_tests::{Raw, Server, eventually, topic};

use crate::kit::{Member, NO_TAKEOVER, deflated_so_far, ticks};

/// A connection that has carried a request, or none yet.
fn connect(addr: SocketAddr, kept_alive: bool) -> Raw {
    let mut raw = Raw::connect(addr);
    if kept_alive {
        raw.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = raw.read_head();
        assert_eq!(answer.status, 200);
        let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let _ = raw.read_bytes(length);
    }
    raw
}

/// The answer to an upgrade with these values of the header, each on a line of its own.
fn ask(addr: SocketAddr, kept_alive: bool, values: &[&str]) -> (Response, Raw) {
    let mut raw = connect(addr, kept_alive);
    let lines: String = values.iter().map(|value| format!("Sec-WebSocket-Extensions: {value}\r\n")).collect();
    raw.send(upgrade_request_with(&format!("/topics/{}", topic("agree")), &lines));
    (raw.read_head(), raw)
}

fn agreed(answer: &Response) -> Option<&str> {
    let values = answer.headers.iter().filter(|(name, _)| name == "sec-websocket-extensions");
    assert!(values.count() <= 1, "{answer:?}");
    answer.header("sec-websocket-extensions")
}

#[test]
fn the_first_offer_that_can_be_kept_is_taken_and_nothing_is_answered_that_was_not_offered() {
    let server = Server::with(&["--deflate"]);
    let small = format!("{NO_TAKEOVER}; server_max_window_bits=10");
    let cases: [(&[&str], Option<&str>); 12] = [
        (&[], None),
        (&["permessage-deflate"], Some(NO_TAKEOVER)),
        (&["permessage-deflate; client_max_window_bits"], Some(NO_TAKEOVER)),
        (&["permessage-deflate; client_no_context_takeover; server_no_context_takeover"], Some(NO_TAKEOVER)),
        (&["permessage-deflate; server_max_window_bits=10"], Some(&small)),
        (&["permessage-deflate; server_max_window_bits=8"], None),
        (&["permessage-deflate; server_max_window_bits=8, permessage-deflate"], Some(NO_TAKEOVER)),
        (&["permessage-deflate; server_max_window_bits=8", "permessage-deflate"], Some(NO_TAKEOVER)),
        (&["permessage-deflate; unheard_of"], None),
        (&["permessage-deflate; server_no_context_takeover; server_no_context_takeover"], None),
        (&["x-webkit-deflate-frame, permessage-bzip2; level=9"], None),
        (&["permessage-bzip2, permessage-deflate; client_max_window_bits=12"], Some(NO_TAKEOVER)),
    ];
    for kept_alive in [false, true] {
        for (values, expected) in cases {
            let (answer, _) = ask(server.addr(), kept_alive, values);
            assert_eq!((answer.status, agreed(&answer)), (101, expected), "{values:?}, {kept_alive}");
        }
    }
    let taken = cases.iter().filter(|(_, expected)| expected.is_some()).count() as u64;
    // A shard takes a connection that has carried HTTP over after it has been answered.
    let counted = || server.metrics().count("fanfare_upgrades_deflated_total", &[]);
    eventually("each is counted", || counted() >= 2 * taken);
    assert_eq!(counted(), 2 * taken);
}

#[test]
fn a_header_that_is_no_list_of_extensions_is_answered_400_and_counted() {
    let server = Server::with(&["--deflate"]);
    let malformed = ["permessage-deflate;", "permessage-deflate; =10", "; x", "permessage-deflate; a=\"b", "a b"];
    for kept_alive in [false, true] {
        for value in malformed {
            let (answer, mut raw) = ask(server.addr(), kept_alive, &[value]);
            assert_eq!(answer.status, 400, "{value}, {kept_alive}");
            let length = answer.header("content-length").and_then(|length| length.parse().ok()).expect("a body");
            let body = String::from_utf8(raw.read_bytes(length)).expect("text");
            assert!(body.contains("bad_upgrade") && body.contains("Sec-WebSocket-Extensions"), "{body}");
        }
    }
    assert_eq!(server.metrics().refusals("bad_upgrade"), malformed.len() as u64);
    assert_eq!(server.metrics().count("fanfare_http_upgrades_refused_total", &[]), malformed.len() as u64);
}

#[test]
fn without_the_setting_the_header_is_not_looked_at() {
    let server = Server::start();
    for kept_alive in [false, true] {
        for value in ["permessage-deflate", "permessage-deflate;", "; x"] {
            let (answer, _) = ask(server.addr(), kept_alive, &[value]);
            assert_eq!((answer.status, agreed(&answer)), (101, None), "{value}, {kept_alive}");
        }
    }
}

#[test]
fn messages_go_both_ways_over_either_kind_of_connection() {
    let server = Server::with(&["--deflate"]);
    for kept_alive in [false, true] {
        for window in 9..=15 {
            let path = format!("/topics/{}", topic("both"));
            let mut member = Member::upgrade(connect(server.addr(), kept_alive), &path, window);
            let before = deflated_so_far(&server).0;
            for (length, compressible) in [(0, false), (5, false), (400, false), (1500, true), (100_000, true)] {
                let text = if length == 0 { String::new() } else { ticks(length) };
                member.send(op::TEXT, text.as_bytes());
                let seen = member.read();
                assert_eq!((seen.opcode, seen.payload.as_slice()), (op::TEXT, text.as_bytes()));
                let holds = window == 15 || length <= 1 << window;
                assert_eq!(seen.compressed, compressible && holds, "{length} bytes, a window of {window}");
                assert!(!seen.compressed || seen.wire < length / 2);
            }
            assert_eq!(deflated_so_far(&server).0 - before, u64::from(window >= 11) + u64::from(window == 15));
        }
    }
}
