//! How fast a connection may send, and what happens beyond it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use fanfare::{CloseCause, ConnectionLimits, Decision, RatePolicy};

use crate::kit::{PATIENCE, Running, What, eventually, masked_text};
use crate::{echo, raw, read_to_close, reconfigure, with};

/// So many numbered messages, to be written at once: they come in one read, at one moment of the engine's clock.
fn numbered(n: usize) -> Vec<u8> {
    (0..n).flat_map(|n| masked_text(&format!("{n:03}"))).collect()
}

/// Reads this many answers of three bytes; they come in order.
#[track_caller]
fn read_numbered(stream: &mut impl Read, from: usize, to: usize) {
    for n in from..to {
        let mut frame = [0; 5];
        stream.read_exact(&mut frame).expect("an answer comes");
        assert_eq!(std::str::from_utf8(&frame[2..]), Ok(&*format!("{n:03}")));
    }
}

fn paused(engine: &Running) -> u64 {
    engine.metric("fanfare_rate_pauses_total") as u64
}

#[test]
fn who_sends_too_fast_is_slowed_down_and_nobody_else_and_nothing_is_lost() {
    let engine = with(echo(), |s| (s.messages_per_s, s.messages_burst) = (50, 5));
    let (mut fast, mut other) = (raw(engine.addr()), engine.connect());
    let start = Instant::now();
    fast.write_all(&numbered(60)).unwrap();
    read_numbered(&mut fast, 0, 5);
    let burst = start.elapsed();
    other.send("hello");
    assert_eq!(other.text(), "hello");
    read_numbered(&mut fast, 5, 60);
    let all = start.elapsed();
    // 55 beyond the burst, 50 a second; a tick early or late.
    assert!(all > Duration::from_millis(1050), "{all:?}");
    assert!(all < Duration::from_millis(1100) + burst + Duration::from_secs(5), "{all:?}");
    assert!(paused(&engine) >= 1);
    assert!(engine.metric("fanfare_rate_dropped_total").abs() < f64::EPSILON);
}

#[test]
fn slowing_down_reaches_the_sender_through_its_socket() {
    let engine = with(echo(), |s| (s.received_bytes_per_s, s.received_bytes_burst) = (1000, 1000));
    let mut fast = raw(engine.addr());
    let text = "x".repeat(120);
    let frame = masked_text(&text);
    let many: Vec<u8> = frame.iter().copied().cycle().take(frame.len() * 200_000).collect();
    fast.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut sent = 0;
    // It ends, since the engine does not read: only what the kernel holds is taken.
    while let Ok(n @ 1..) = fast.write(&many[sent..]) {
        sent += n;
        assert!(sent < many.len(), "all of {} MB was taken", many.len() >> 20);
    }
    let held = engine.metric("fanfare_inbound_bytes");
    assert!(held <= 65_536.0, "what one read has brought is all that is kept: {held}");
    fast.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answers = [0; 122 * 10];
    fast.read_exact(&mut answers).unwrap();
}

#[test]
fn a_small_burst_does_not_make_a_high_rate_lower() {
    let engine = with(echo(), |s| (s.messages_per_s, s.messages_burst) = (1000, 1));
    let mut fast = raw(engine.addr());
    let start = Instant::now();
    fast.write_all(&numbered(999)).unwrap();
    read_numbered(&mut fast, 0, 999);
    let took = start.elapsed();
    // Were one let in with each tick of 4 ms, it would take 4 s.
    assert!(took > Duration::from_millis(900) && took < Duration::from_millis(3500), "{took:?}");
}

#[test]
fn what_is_beyond_the_rate_is_dropped_and_counted() {
    let change = |s: &mut fanfare::Settings| {
        (s.messages_per_s, s.messages_burst, s.rate_policy) = (1, 3, RatePolicy::Drop);
    };
    let engine = with(echo(), change);
    let mut client = raw(engine.addr());
    client.write_all(&numbered(10)).unwrap();
    read_numbered(&mut client, 0, 3);
    eventually(7, || engine.metric("fanfare_rate_dropped_total") as u64);
    assert_eq!(paused(&engine), 0);
    // A token has come: one more is let in, and it is not one of those that were dropped.
    let at = Instant::now();
    loop {
        client.write_all(&masked_text("010")).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut frame = [0; 5];
        if client.read_exact(&mut frame).is_ok() {
            assert_eq!(&frame[2..], b"010");
            break;
        }
        assert!(at.elapsed() < PATIENCE);
    }
    assert_eq!(engine.log.count(|what| matches!(what, What::Close(..))), 0);
}

#[test]
fn who_is_beyond_the_rate_is_closed() {
    let engine = with(echo(), |s| (s.messages_per_s, s.messages_burst, s.rate_policy) = (1, 3, RatePolicy::Close));
    let mut client = raw(engine.addr());
    client.write_all(&numbered(3)).unwrap();
    read_numbered(&mut client, 0, 3);
    let mut client = raw(engine.addr());
    client.write_all(&numbered(4)).unwrap();
    let (answers, code, reason) = read_to_close(&mut client);
    assert_eq!((answers, code), (3, 1008));
    assert_eq!(reason, CloseCause::RateLimit.text());
    assert_eq!(engine.log.closed().0, CloseCause::RateLimit);
    assert_eq!(engine.metric("fanfare_closed_total{cause=\"rate_limit\"}") as u64, 1);
}

#[test]
fn bytes_are_limited_and_a_message_larger_than_the_burst_is_paid_for() {
    let engine = with(echo(), |s| {
        (s.received_bytes_per_s, s.received_bytes_burst, s.rate_policy) = (10, 100, RatePolicy::Drop);
    });
    let mut client = raw(engine.addr());
    let bytes: Vec<u8> = [60, 60, 30, 20].iter().flat_map(|n| masked_text(&"x".repeat(*n))).collect();
    client.write_all(&bytes).unwrap();
    let mut answers = vec![0; 62 + 32];
    client.read_exact(&mut answers).unwrap();
    assert_eq!((answers[1], answers[63]), (60, 30), "of 100 bytes the second 60 are too much, 30 are not");
    eventually(2, || engine.metric("fanfare_rate_dropped_total") as u64);
    let mut client = raw(engine.addr());
    let bytes: Vec<u8> = [120, 1].iter().flat_map(|n| masked_text(&"x".repeat(*n))).collect();
    client.write_all(&bytes).unwrap();
    client.read_exact(&mut [0; 122]).unwrap();
    eventually(3, || engine.metric("fanfare_rate_dropped_total") as u64);
}

#[test]
fn pings_count_as_they_are_answered() {
    let engine = with(echo(), |s| (s.messages_per_s, s.messages_burst, s.rate_policy) = (1, 3, RatePolicy::Drop));
    let mut client = raw(engine.addr());
    client.write_all(&[0x89, 0x80, 0, 0, 0, 0].repeat(10)).unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    eventually(7, || engine.metric("fanfare_rate_dropped_total") as u64);
    assert_eq!(engine.metric("fanfare_pings_received_total") as u64, 10);
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(client.read(&mut [0; 1]).is_err(), "three pongs and no more");
}

#[test]
fn limits_of_its_own_hold_from_the_upgrade_on_and_change_at_any_time() {
    let script = crate::kit::Script::new()
        .on_upgrade(|upgrade| {
            let limits = ConnectionLimits { messages_per_s: Some(1), ..ConnectionLimits::default() };
            let accept = fanfare::Accept::new(String::new());
            Decision::from(if upgrade.path() == "/slow" { accept.limits(limits) } else { accept })
        })
        .on_message(|ctx, message| {
            let _ = ctx.send(message);
            ctx.set_timer(Duration::from_millis(50), 1);
        })
        // It waits for half a minute when this comes.
        .on_timer(|ctx, _| ctx.set_limits(ConnectionLimits { messages_per_s: Some(0), ..ConnectionLimits::default() }));
    let engine = Running::start(script);
    let (mut slow, _) = crate::kit::Client::connect(engine.addr(), "/slow");
    let start = Instant::now();
    for n in 0..30 {
        slow.send(&n.to_string());
    }
    assert_eq!(slow.texts(30).last().unwrap(), "29");
    assert!(start.elapsed() >= Duration::from_millis(50) && paused(&engine) >= 1);
    let (mut free, _) = crate::kit::Client::connect(engine.addr(), "/free");
    let before = paused(&engine);
    (0..30).for_each(|_| free.send("x"));
    free.texts(30);
    assert_eq!(paused(&engine), before);
}

#[test]
fn settings_that_allow_more_let_go_of_those_that_wait() {
    let engine = with(echo(), |s| s.messages_per_s = 1);
    let mut client = raw(engine.addr());
    client.write_all(&numbered(60)).unwrap();
    read_numbered(&mut client, 0, 1);
    reconfigure(&engine, |s| s.messages_per_s = 0);
    // One a second, it would take a minute.
    read_numbered(&mut client, 1, 60);
    // And back: it holds for what is there.
    reconfigure(&engine, |s| (s.messages_per_s, s.rate_policy) = (1, RatePolicy::Close));
    let id = engine.log.opened(0);
    eventually(true, || {
        let _ = client.write_all(&numbered(2));
        engine.log.of(id).iter().any(|what| matches!(what, What::Close(CloseCause::RateLimit, ..)))
    });
}

#[test]
fn the_silence_of_those_who_are_not_read_from_is_not_theirs() {
    let engine = with(echo(), |s| {
        s.messages_per_s = 1;
        s.ping_interval = Duration::from_millis(50);
        s.pong_timeout = Duration::from_millis(100);
        s.idle_timeout = Duration::from_millis(300);
        s.message_idle_timeout = Duration::from_millis(300);
    });
    let mut client = raw(engine.addr());
    client.write_all(&numbered(4)).unwrap();
    // More than two seconds without a word from it; then it is silent indeed.
    let (_, code, _) = read_to_close(&mut client);
    assert_eq!(code, 1001);
    assert_eq!(engine.log.count(|what| matches!(what, What::Message(_))), 4);
}
