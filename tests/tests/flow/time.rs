//! How long a connection may last, be silent, and leave a ping unanswered.

use std::io::Write;
use std::time::{Duration, Instant};

use fanfare::{Accept, CloseCause, ConnectionLimits, Decision};

use crate::kit::{Client, PATIENCE, Running, Script, What, masked_text};
use crate::{echo, raw, read_to_close, with};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_ping_that_is_not_answered_ends_the_connection_and_anything_is_an_answer() {
    let engine = with(echo(), |s| (s.ping_interval, s.pong_timeout) = (MS * 100, MS * 200));
    let (mut silent, mut talks) = (raw(engine.addr()), raw(engine.addr()));
    let start = Instant::now();
    let talker = std::thread::spawn(move || {
        // It never answers a ping, but it is there.
        let until = Instant::now() + MS * 1500;
        while Instant::now() < until {
            talks.write_all(&masked_text("x")).unwrap();
            std::thread::park_timeout(MS * 50);
        }
        talks
    });
    let (pings, code, reason) = read_to_close(&mut silent);
    assert_eq!((pings, code, &*reason), (1, 1001, CloseCause::PongTimeout.text()));
    let took = start.elapsed();
    assert!(took >= MS * 280 && took < PATIENCE, "{took:?}");
    let closed = engine.log.closed();
    assert_eq!(closed.0, CloseCause::PongTimeout);
    drop(talker.join().unwrap());
    assert_eq!(engine.log.count(|what| matches!(what, What::Close(CloseCause::PongTimeout, ..))), 1);
}

#[test]
fn who_sends_no_message_for_too_long_is_closed_though_it_answers_pings() {
    let engine = with(echo(), |s| (s.ping_interval, s.message_idle_timeout) = (MS * 50, MS * 600));
    let (mut listens, start) = (engine.connect(), Instant::now());
    let mut talks = raw(engine.addr());
    let talker = std::thread::spawn(move || {
        let until = Instant::now() + MS * 1500;
        while Instant::now() < until {
            talks.write_all(&masked_text("x")).unwrap();
            std::thread::park_timeout(MS * 50);
        }
        talks
    });
    // Reading answers the pings.
    let (code, reason) = listens.closed();
    assert_eq!((code, &*reason), (1001, CloseCause::MessageIdle.text()));
    assert!(start.elapsed() >= MS * 590, "{:?}", start.elapsed());
    assert!(engine.metric("fanfare_pongs_received_total") >= 1.0);
    drop(talker.join().unwrap());
    assert_eq!(engine.log.count(|what| matches!(what, What::Close(CloseCause::MessageIdle, ..))), 1);
}

#[test]
fn connections_last_as_long_as_they_may_and_not_all_as_long() {
    let engine = with(echo(), |s| (s.lifetime, s.lifetime_jitter_percent) = (MS * 1000, 50));
    let opened = Instant::now();
    let clients: Vec<Client> = (0..40).map(|_| engine.connect()).collect();
    let all_open = opened.elapsed();
    let ends = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            assert_eq!(client.closed(), (1012, CloseCause::Lifetime.text().to_owned()));
            opened.elapsed()
        })
    });
    let mut ends: Vec<Duration> = ends.collect::<Vec<_>>().into_iter().map(|end| end.join().unwrap()).collect();
    ends.sort();
    let (first, last) = (ends[0], ends[39]);
    assert!(first >= MS * 490, "at least half of it: {first:?}");
    assert!(last >= first + MS * 150, "spread: {first:?} to {last:?}");
    // 40 evenly spread over 500 ms; opening them took a while, too.
    assert!(last <= all_open + MS * 1000 + PATIENCE / 4, "{last:?}");
}

#[test]
fn a_connection_may_have_a_lifetime_of_its_own() {
    let script = Script::new().on_upgrade(|upgrade| {
        let limits = ConnectionLimits { lifetime: Some(MS * 200), ..ConnectionLimits::default() };
        let accept = Accept::new(String::new());
        Decision::from(if upgrade.path() == "/short" { accept.limits(limits) } else { accept })
    });
    let script = script.on_message(|ctx, _| {
        ctx.set_limits(ConnectionLimits { lifetime: Some(MS), ..ConnectionLimits::default() });
    });
    let engine = Running::start(script);
    let (mut long, _) = Client::connect(engine.addr(), "/long");
    let (mut short, _) = Client::connect(engine.addr(), "/short");
    assert_eq!(short.closed().0, 1012);
    assert_eq!(engine.log.count(|what| matches!(what, What::Close(..))), 1);
    long.send("enough");
    assert_eq!(long.closed().0, 1012);
}

#[test]
fn a_lifetime_ends_for_those_who_are_slowed_down_too() {
    let engine = with(echo(), |s| (s.messages_per_s, s.lifetime) = (1, MS * 500));
    let mut client = raw(engine.addr());
    client.write_all(&masked_text("x").repeat(30)).unwrap();
    let start = Instant::now();
    assert_eq!(read_to_close(&mut client).1, 1012);
    assert!(start.elapsed() < Duration::from_secs(15), "not when all has been handled");
}
