//! Timers, ticks, pings and silence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use fanfare::{CloseCause, Message};
use tungstenite::Message as Frame;

use crate::kit::{PATIENCE, Running, Script, What, settings};

const MS: Duration = Duration::from_millis(1);

#[test]
fn timers_run_out_in_their_order_each_once_and_never_early() {
    let (fired, seen) = mpsc::channel();
    let fired = Mutex::new(fired);
    let script = Script::new()
        .on_message(|ctx, _| {
            for token in [5, 3, 1, 2, 4] {
                assert!(ctx.set_timer(MS * 40 * token as u32, token));
            }
        })
        .on_timer(move |_, token| fired.lock().unwrap().send((token, Instant::now())).unwrap());
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    let start = Instant::now();
    client.send("go");
    for token in 1..=5 {
        let (own, at) = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(own, token);
        assert!(at - start >= MS * 40 * token as u32, "token {token} after {:?}", at - start);
    }
    engine.log.wait_for(&What::Timer(5));
    assert_eq!(engine.log.of(id).len(), 2 + 5);
}

#[test]
fn a_timer_is_never_early_on_a_busy_shard_either() {
    let (fired, seen) = mpsc::channel();
    let fired = Mutex::new(fired);
    let set = Arc::new(Mutex::new(None));
    let set_by = set.clone();
    let script = Script::new()
        .on_message(move |ctx, message| {
            if message == Message::Text("set") {
                // A turn that has been going on for a while when the timer is set.
                let began = Instant::now();
                while began.elapsed() < MS * 15 {}
                *set_by.lock().unwrap() = Some(Instant::now());
                ctx.set_timer(MS * 8, 1);
            }
        })
        .on_timer(move |_, _| fired.lock().unwrap().send(Instant::now()).unwrap());
    let engine = Running::start(script);
    let mut client = engine.connect();
    for _ in 0..10 {
        client.send("set");
        let mut noise = engine.connect();
        let at = loop {
            noise.send("noise");
            if let Ok(at) = seen.try_recv() {
                break at;
            }
        };
        let after = at - set.lock().unwrap().unwrap();
        assert!(after >= MS * 8, "a timer of 8 ms came after {after:?}");
    }
}

#[test]
fn setting_a_timer_again_moves_it_and_cancelling_removes_it() {
    let script = Script::new()
        .on_message(|ctx, _| {
            assert!(ctx.set_timer(MS, 1));
            assert!(ctx.set_timer(MS * 60, 1), "moved behind token 3");
            assert!(ctx.set_timer(MS * 10, 2));
            assert!(ctx.cancel_timer(2));
            assert!(!ctx.cancel_timer(2));
            assert!(ctx.set_timer(MS * 30, 3));
            assert!(ctx.set_timer(MS * 90, 4));
        })
        .on_timer(|ctx, token| {
            if token == 4 {
                ctx.close(1000, "");
            }
        });
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    client.send("go");
    client.closed();
    engine.log.closed();
    let timers: Vec<_> = engine.log.of(id).into_iter().filter(|what| matches!(what, What::Timer(_))).collect();
    assert_eq!(timers, [What::Timer(3), What::Timer(1), What::Timer(4)]);
}

#[test]
fn a_timer_cancelled_when_it_has_just_come_due_does_not_run_out() {
    let script = Script::new()
        .on_message(|ctx, message| {
            if message == Message::Text("set") {
                ctx.set_timer(Duration::ZERO, 1);
            } else if message == Message::Text("spin") {
                let began = Instant::now();
                while began.elapsed() < MS * 6 {}
                let _ = ctx.send(message);
            } else {
                let cancelled = ctx.cancel_timer(1);
                let _ = ctx.send(if cancelled { "cancelled" } else { "too late" });
            }
        })
        .on_timer(|ctx, _| {
            let _ = ctx.send("timer");
        });
    let engine = Running::start(script);
    let mut client = engine.connect();
    // Turns take long, so that a timer that has come due has to wait for the handler, and the message overtakes it.
    let mut noise = engine.connect();
    let done = Arc::new(AtomicBool::new(false));
    let until = done.clone();
    let noise = std::thread::spawn(move || {
        while !until.load(Ordering::Relaxed) {
            noise.send("spin");
            noise.text();
        }
    });
    for round in 0..60_u32 {
        client.send("set");
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(u64::from(round) * 300) {
            std::thread::yield_now();
        }
        client.send("cancel");
        let first = client.text();
        let expected: &[&str] = match &*first {
            "cancelled" => &[],
            "timer" => &["too late"],
            other => panic!("{other} although the timer has not run out"),
        };
        assert_eq!(client.texts(expected.len()), expected);
    }
    done.store(true, Ordering::Relaxed);
    noise.join().unwrap();
}

#[test]
fn a_connection_has_at_most_sixteen_timers() {
    let script = Script::new().on_message(|ctx, _| {
        assert!((0..16).all(|token| ctx.set_timer(MS * 60_000, token)));
        assert!(!ctx.set_timer(MS, 16));
        assert!(ctx.set_timer(MS, 0), "moving one is possible");
    });
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("go");
    engine.log.wait_for(&What::Timer(0));
}

#[test]
fn a_timer_can_be_set_as_far_ahead_as_one_likes() {
    let engine = Running::start(Script::new().on_message(|ctx, _| {
        assert!(ctx.set_timer(Duration::MAX, 1));
        assert!(ctx.set_timer(MS, 2));
    }));
    let (mut client, id) = engine.connect_known();
    client.send("go");
    engine.log.wait_for(&What::Timer(2));
    assert!(!engine.log.of(id).contains(&What::Timer(1)));
}

#[test]
fn time_limits_without_an_end_are_possible() {
    let endless = settings(|s| {
        for limit in [
            &mut s.handshake_timeout,
            &mut s.idle_timeout,
            &mut s.ping_interval,
            &mut s.close_timeout,
            &mut s.shutdown_timeout,
            &mut s.topic_idle,
        ] {
            *limit = Duration::MAX;
        }
    });
    let script = Script::new().on_message(|ctx, message| {
        let _ = ctx.send(message);
    });
    let engine = Running::start_with(script, |b| b.settings(endless));
    let mut client = engine.connect();
    client.send("echo");
    assert_eq!(client.text(), "echo");
    client.close(1000, "");
    assert_eq!(client.closed().0, 1000);
    engine.engine.shutdown();
}

#[test]
fn the_tick_comes_again_and_again_and_can_publish() {
    let script = Script::new()
        .on_open(|ctx, ()| {
            ctx.subscribe("clock", fanfare::Subscribe::default()).unwrap();
        })
        .on_tick(|engine| {
            engine.publish("clock", "tick").unwrap();
        });
    let engine = Running::start_with(script, |b| b.shards(2).settings(settings(|s| s.tick_interval = MS * 5)));
    let mut client = engine.connect();
    let start = Instant::now();
    assert_eq!(client.texts(10), ["tick"; 10]);
    assert!(start.elapsed() >= MS * 35, "not more often than asked for: {:?}", start.elapsed());
}

#[test]
fn a_silent_peer_is_pinged_and_lives_as_long_as_it_answers() {
    let settings = settings(|s| (s.ping_interval, s.idle_timeout) = (MS * 50, MS * 400));
    let engine = Running::start_with(Script::new(), |b| b.settings(settings));
    let (mut client, id) = engine.connect_known();
    let start = Instant::now();
    let mut pings = 0;
    while start.elapsed() < MS * 1000 {
        assert!(matches!(client.0.read().unwrap(), Frame::Ping(_)));
        client.0.flush().unwrap();
        pings += 1;
    }
    assert!(pings >= 5, "{pings} pings");
    assert!(!engine.log.of(id).iter().any(|what| matches!(what, What::Close(..))));
    // From here on it answers nothing.
    let (cause, code, _) = engine.log.closed();
    assert_eq!((cause, code), (CloseCause::IdleTimeout, 1001));
    drop(client);
}

#[test]
fn pings_keep_their_interval_even_where_silence_never_ends_a_connection() {
    let settings = settings(|s| (s.ping_interval, s.idle_timeout) = (MS * 40, Duration::ZERO));
    let engine = Running::start_with(Script::new(), |b| b.settings(settings));
    let mut client = engine.connect();
    let start = Instant::now();
    for _ in 0..8 {
        assert!(matches!(client.0.read().unwrap(), Frame::Ping(_)));
        client.0.flush().unwrap();
    }
    assert!(start.elapsed() >= MS * 8 * 36, "not more often than asked for: {:?}", start.elapsed());
    // Silence is looked at once an interval: an answered ping is followed by the next one after two at most.
    assert!(start.elapsed() < MS * 8 * 40 * 2 + PATIENCE / 2, "{:?}", start.elapsed());
}
