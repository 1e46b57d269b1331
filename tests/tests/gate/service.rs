//! Heads of requests are bounded, and newcomers are seen to after those who are connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare_tests::http::request_bytes;
use fanfare_tests::raw::{frame, op, upgrade_request, upgrade_request_with};
use fanfare_tests::{Raw, eventually};

use crate::kit::{Gate, Greeter, assert_refused, read_json};

#[test]
fn heads_are_bounded_in_headers_and_bytes_on_both_planes() {
    let gate = Gate::with(|settings| {
        settings.headers_max = 8;
        settings.head_bytes = 600;
    });
    let (fits, many) = ("X-A: b\r\n".repeat(3), "X-A: b\r\n".repeat(4));
    let long = format!("X-A: {}\r\n", "b".repeat(500));
    assert_eq!(gate.ask(2, b"", &fits).1.status, 101);
    for (more, says) in [(&many, "headers_max, which is 8"), (&long, "head_bytes, which is 600")] {
        let (mut raw, answer) = gate.ask(2, b"", more);
        assert_refused(&mut raw, &answer, 431, "head_too_large", says);
        let mut http = gate.connect(2);
        http.send(request_bytes("GET", "/whoami", &[], b""));
        read_json(&mut http);
        http.send(upgrade_request_with("/", more));
        let answer = http.read_head();
        assert_refused(&mut http, &answer, 431, "head_too_large", says);
    }
    assert_eq!(gate.metrics().refusals("head_too_large"), 4);
    let mut http = gate.connect(2);
    http.send(request_bytes("GET", "/whoami", &[], b""));
    read_json(&mut http);
    http.send("GET / NO-HTTP\r\n\r\n");
    assert_eq!(http.read_head().status, 400);
    eventually("it is counted", || gate.metrics().refusals("malformed_head") == 1);
}

#[test]
fn those_who_are_connected_are_served_before_those_who_want_to_be() {
    let upgrades = Arc::new(AtomicUsize::new(0));
    let greeter = Greeter { upgrades: upgrades.clone(), effort: Duration::from_millis(2) };
    let gate = Gate::of(greeter, 1, |_| {});
    let (mut established, _) = gate.open(2, b"", "");
    let mut storm: Vec<Raw> = (0..600).map(|_| gate.connect(3)).collect();
    gate.eventually_is("handshakes", 600);
    for raw in &mut storm {
        raw.send(upgrade_request("/"));
    }
    // The shard knows of all of them by now, and is at work.
    eventually("the storm is under way", || upgrades.load(Ordering::SeqCst) > 10);
    let before = upgrades.load(Ordering::SeqCst);
    established.send(frame(op::TEXT, b"hello"));
    assert_eq!(established.read_frame().text(), "hello");
    let meanwhile = upgrades.load(Ordering::SeqCst) - before;
    assert!(meanwhile < 300, "{meanwhile} of 600 were served first, after {before}");
    assert!(before < 250, "the storm was nearly over: {before}");
    for raw in &mut storm {
        assert_eq!(raw.read_head().status, 101);
    }
}
