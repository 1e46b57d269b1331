//! What becomes of topics when processes take the place of others one right after the other, at once, or while somebody tells
//! them to end: there is always one that gives offsets, and what it has goes on.

use std::net::SocketAddr;
use std::thread;

use fanfare_tests::swarm::publish_once;
use fanfare_tests::{Http, Native, Raw, Server, eventually, wait_for};
use serde_json::{Value, json};

/// Longer than any test.
const LONG: &str = "600000";

fn successor(addr: SocketAddr, more: &[&str]) -> Server {
    let addr = addr.to_string();
    let mut args = vec!["--listen", &*addr, "--shards", "2", "--takeover"];
    args.extend(more);
    Server::with_exactly(&args)
}

/// Publishes as soon as somebody takes it: the topic's life and the offset.
fn publish(addr: SocketAddr, topic: &str) -> (String, u64) {
    wait_for("it is published", || match publish_once(addr, topic, "x").expect("somebody answers") {
        (200, body) => {
            let answer: Value = serde_json::from_str(&body).expect("it is JSON");
            Some((answer["epoch"].as_str().expect("a name").to_owned(), answer["offset"].as_u64().expect("a number")))
        }
        (503, _) => None,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_deploy_in_the_middle_of_another_one_gets_the_topics_from_who_has_them() {
    let first = Server::with(&["--shutdown-spread-ms", LONG]);
    let addr = first.addr();
    // It keeps the first one ending for as long as the test takes.
    let mut member = Raw::open(addr, "/topics/t");
    let (epoch, offset) = publish(addr, "t");
    assert_eq!((offset, member.read_frame().text()), (1, "x".to_owned()));
    let mut second = successor(addr, &[]);
    assert_eq!(publish(addr, "t"), (epoch.clone(), 2));
    member.read_frame();
    let third = successor(addr, &[]);
    assert!(third.stderr().contains("taken over"), "{}", third.stderr());
    eventually("the second one has ended", || !second.is_running());
    assert_eq!(publish(addr, "t"), (epoch, 3));
    drop((member, first));
}

#[test]
fn who_wants_something_new_of_a_process_that_was_taken_over_from_is_sent_to_the_other_one() {
    let first = Server::with(&["--shutdown-spread-ms", LONG]);
    let addr = first.addr();
    let mut publishes = Native::connect(&first);
    let mut subscribes = Native::connect(&first);
    subscribes.subscribe("t");
    let _second = successor(addr, &[]);
    eventually("the first one ends", || first.stderr().contains("ends it now"));
    let elsewhere = (1012, "{\"retry_after_ms\":0}".to_owned());
    publishes.send(&json!({ "type": "publish", "topic": "t", "data": 1 }));
    assert_eq!(publishes.read()["code"], "shutting_down");
    assert_eq!(publishes.client().read_close(), elsewhere);
    subscribes.send(&json!({ "type": "subscribe", "topic": "another" }));
    assert_eq!(subscribes.client().read_close(), elsewhere);
}

#[test]
fn of_two_that_take_over_at_once_one_takes_over_from_the_other() {
    let mut first = Server::with(&[]);
    let addr = first.addr();
    let (epoch, _) = publish(addr, "t");
    let others: Vec<_> = (0..2).map(|_| thread::spawn(move || successor(addr, &[]))).collect();
    let mut others: Vec<Server> = others.into_iter().map(|other| other.join().expect("it starts")).collect();
    eventually("the first one has ended", || !first.is_running());
    eventually("one of them is left", || {
        others.iter_mut().filter_map(|other| other.is_running().then_some(())).count() == 1
    });
    assert_eq!(publish(addr, "t"), (epoch, 2));
}

#[test]
fn who_has_been_taken_over_from_and_is_told_to_end_too_ends_in_order() {
    let mut first = Server::with(&["--shutdown-spread-ms", "2000", "--shutdown-retry-ms", "100"]);
    let addr = first.addr();
    let members: Vec<Raw> = (0..4).map(|_| Raw::open(addr, "/topics/t")).collect();
    let _second = successor(addr, &[]);
    eventually("it ends by itself", || first.stderr().contains("ends it now"));
    first.signal(libc::SIGTERM);
    for mut member in members {
        assert_eq!(member.read_close().0, 1012);
        member.send(fanfare_tests::raw::close_frame(1012, ""));
    }
    assert_eq!(first.wait().code(), Some(0), "{}", first.stderr());
}

#[test]
fn in_its_grace_a_server_hands_over_and_then_has_no_reason_to_wait() {
    let mut first = Server::with(&["--shutdown-grace-ms", LONG]);
    let addr = first.addr();
    let (epoch, _) = publish(addr, "t");
    let mut member = Raw::open(addr, "/topics/t");
    first.signal(libc::SIGTERM);
    eventually("its grace has begun", || Http::connect(addr).get("/readyz").status == 503);
    let _second = successor(addr, &[]);
    assert_eq!(member.read_close().0, 1012);
    member.send(fanfare_tests::raw::close_frame(1012, ""));
    assert_eq!(first.wait().code(), Some(0), "{}", first.stderr());
    assert_eq!(publish(addr, "t"), (epoch, 2));
}

#[test]
fn a_server_that_is_closing_its_connections_still_hands_over() {
    let first = Server::with(&["--shutdown-spread-ms", LONG]);
    let addr = first.addr();
    let (epoch, _) = publish(addr, "t");
    let mut member = Raw::open(addr, "/topics/t");
    let mut there = Http::connect(addr);
    assert_eq!(there.get("/readyz").status, 200);
    first.signal(libc::SIGTERM);
    eventually("nobody is let in any more", || first.stderr().contains("nobody is let in"));
    let _second = successor(addr, &[]);
    assert_eq!(publish(addr, "t"), (epoch, 2));
    assert_eq!(member.read_frame().text(), "x", "the first one follows");
}

#[test]
fn whoever_is_still_with_the_one_before_the_last_gets_what_the_last_one_sequences() {
    let first = Server::with(&["--shutdown-spread-ms", LONG]);
    let addr = first.addr();
    let mut member = Raw::open(addr, "/topics/t");
    publish(addr, "t");
    let second = successor(addr, &["--shutdown-spread-ms", LONG]);
    let mut later = wait_for("a connection to the second one", || {
        let raw = Raw::open(addr, "/topics/t");
        second.stderr().contains("has taken over the listeners").then_some(raw)
    });
    let _third = successor(addr, &[]);
    let (_, last) = publish(addr, "t");
    assert_eq!(last, 2);
    assert_eq!((later.read_frame().text(), member.read_frame().text()), ("x".into(), "x".into()));
    assert_eq!(member.read_frame().text(), "x");
}
