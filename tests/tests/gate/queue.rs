//! Those who have to wait: for the rate, or for room among those whose first request is not complete.

use std::time::{Duration, Instant};

use fanfare::Settings;
use fanfare_tests::raw::upgrade_request;
use fanfare_tests::{Raw, eventually};

use crate::kit::{Gate, assert_refused};

#[test]
fn connections_beyond_the_rate_come_in_later_all_of_them() {
    let gate = Gate::with(|settings| settings.accepts_per_s = 40);
    let began = Instant::now();
    let mut all: Vec<Raw> = (0..100).map(|_| gate.connect(2)).collect();
    for raw in &mut all {
        raw.send(upgrade_request("/"));
    }
    for raw in &mut all {
        assert_eq!(raw.read_head().status, 101);
    }
    // 40 at once, and 60 more at 40 a second.
    assert!(began.elapsed() >= Duration::from_millis(1450), "{:?}", began.elapsed());
    let delayed = gate.metrics().count("fanfare_accepts_delayed_total", &[]);
    assert!((40..=60).contains(&delayed), "{delayed}");
    gate.eventually_is("accepts_waiting", 0);
}

#[test]
fn a_rate_taken_away_lets_everybody_in_at_once() {
    let gate = Gate::with(|settings| {
        settings.accepts_per_s = 1;
        settings.accept_queue_timeout = Duration::from_secs(60);
    });
    let mut all: Vec<Raw> = (0..30).map(|_| gate.connect(2)).collect();
    gate.eventually_is("accepts_waiting", 29);
    let began = Instant::now();
    gate.reconfigure(|settings| settings.accepts_per_s = 0);
    for raw in &mut all {
        raw.upgrade("/");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn who_would_wait_for_longer_than_the_queue_allows_is_told_when_to_come_back() {
    let gate = Gate::with(|settings| {
        settings.accepts_per_s = 1;
        settings.accept_queue_timeout = Duration::from_secs(2);
    });
    let all: Vec<Raw> = (0..8).map(|_| gate.connect(2)).collect();
    eventually("those without hope are answered", || gate.metrics().refusals("accept_queue") >= 4);
    let mut told = 0;
    for mut raw in all {
        if raw.is_answered_within(Duration::from_millis(1)) {
            let answer = raw.read_head();
            let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((3..=6).contains(&retry), "{retry}");
            assert_refused(&mut raw, &answer, 503, "accept_queue", "accept_queue_timeout");
            told += 1;
        }
    }
    assert!(told >= 4, "{told}");
}

/// Room for one handshake, which is taken by somebody who says nothing.
fn crowded(change: impl FnOnce(&mut Settings)) -> (Gate, Raw) {
    let gate = Gate::with(|settings| {
        settings.handshakes_max = 1;
        settings.handshake_timeout = Duration::from_secs(60);
        change(settings);
    });
    let silent = gate.connect(2);
    gate.eventually_is("handshakes", 1);
    (gate, silent)
}

#[test]
fn handshakes_beyond_the_bound_wait_in_order_and_the_queue_is_bounded() {
    let (gate, mut silent) = crowded(|settings| settings.accept_queue_max = 3);
    let mut waiting = Vec::new();
    for n in 1..=3 {
        let mut raw = gate.connect(2);
        raw.send(upgrade_request("/"));
        gate.eventually_is("accepts_waiting", n);
        waiting.push(raw);
    }
    let (mut one_more, answer) = gate.ask(2, b"", "");
    assert!(answer.header("retry-after").is_some());
    assert_refused(&mut one_more, &answer, 503, "accept_queue", "3 wait to be admitted, which is accept_queue_max");
    for raw in &mut waiting {
        assert!(!raw.is_answered_within(Duration::from_millis(20)), "nobody passes the silent one");
    }
    silent.upgrade("/");
    for raw in &mut waiting {
        assert_eq!(raw.read_head().status, 101);
    }
    gate.eventually_is("handshakes", 0);
    assert_eq!(gate.metrics().refusals("accept_queue"), 1);
}

#[test]
fn who_waits_for_too_long_is_answered_and_who_leaves_makes_room() {
    let (gate, silent) = crowded(|settings| settings.accept_queue_timeout = Duration::from_millis(300));
    let (mut raw, answer) = gate.ask(2, b"", "");
    assert!(answer.header("retry-after").is_some());
    assert_refused(&mut raw, &answer, 503, "accept_queue", "accept_queue_timeout");
    gate.eventually_is("accepts_waiting", 0);
    drop(silent);
    gate.eventually_is("handshakes", 0);
    let _next = gate.open(2, b"", "");
    gate.eventually_is("client_addresses", 1);
}

#[test]
fn more_room_for_handshakes_is_used_at_once() {
    let (gate, _silent) = crowded(|_| {});
    let mut waiting: Vec<Raw> = (0..5).map(|_| gate.connect(2)).collect();
    for raw in &mut waiting {
        raw.send(upgrade_request("/"));
    }
    gate.eventually_is("accepts_waiting", 5);
    gate.reconfigure(|settings| settings.handshakes_max = 10);
    for raw in &mut waiting {
        assert_eq!(raw.read_head().status, 101);
    }
}

#[test]
fn those_who_wait_when_the_engine_ends_are_told_to_come_again() {
    let (gate, _silent) = crowded(|_| {});
    let mut waiting: Vec<Raw> = (0..5).map(|_| gate.connect(2)).collect();
    for raw in &mut waiting {
        raw.send(upgrade_request("/"));
    }
    gate.eventually_is("accepts_waiting", 5);
    gate.engine.shutdown();
    for raw in &mut waiting {
        let answer = raw.read_head();
        assert_eq!(answer.status, 503);
        assert!(answer.header("retry-after").is_some());
    }
}
