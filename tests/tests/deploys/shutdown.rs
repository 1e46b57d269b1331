//! The end of an engine, step by step: not ready, nobody in, out one after the other, over.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fanfare::PublishError;
use fanfare_tests::raw::upgrade_request;
use fanfare_tests::{DEADLINE, Http, Raw, eventually};

use crate::kit::{Member, engine, ms, settings};

/// Long enough not to pass by accident.
const LONG: Duration = Duration::from_secs(600);

#[test]
fn for_the_grace_it_serves_on_and_only_says_that_it_is_not_ready() {
    let (engine, addr) = engine(settings(|s| s.shutdown_grace = LONG));
    let mut early = Member::join(addr, "t");
    let mut http = Http::connect(addr);
    assert_eq!(http.get("/ready").text(), "true");
    engine.handle().begin_shutdown();
    eventually("it is not ready", || http.get("/ready").text() == "false");
    assert!(engine.handle().metrics().contains("fanfare_ready 0"));
    let mut late = Member::join(addr, "t");
    engine.handle().publish("t", "still here").expect("publishing goes on");
    for member in [&mut early, &mut late] {
        assert_eq!(member.text().as_deref(), Ok("still here"));
    }
    // A program that does not want to wait drops the engine.
    let began = Instant::now();
    drop(engine);
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[test]
fn the_grace_ends_by_itself() {
    let (engine, addr) = engine(settings(|s| s.shutdown_grace = ms(300)));
    let member = Member::join(addr, "t");
    let began = Instant::now();
    let ending = thread::spawn(move || engine.shutdown());
    let (_, closed) = member.read_to_end();
    assert_eq!(closed.code, 1001);
    assert!(closed.at - began >= ms(300), "{:?}", closed.at - began);
    ending.join().expect("the shutdown succeeds");
}

#[test]
fn connections_are_closed_evenly_over_the_spread_each_with_a_time_of_its_own_and_get_what_is_published_before() {
    const MEMBERS: usize = 200;
    const SPREAD: Duration = Duration::from_millis(2000);
    let (engine, addr) = engine(settings(|s| {
        s.shutdown_spread = SPREAD;
        s.shutdown_retry = Duration::from_secs(60);
    }));
    let members: Vec<_> = (0..MEMBERS).map(|_| Member::join(addr, "t")).collect();
    let readers: Vec<_> = members.into_iter().map(|member| thread::spawn(|| member.read_to_end())).collect();
    let handle = engine.handle().clone();
    let stop = AtomicBool::new(false);
    let (began, (ends, published)) = thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut published = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                match handle.publish("t", published.len().to_string().as_str()) {
                    Ok(_) => published.push(Instant::now()),
                    Err(PublishError::Overloaded) => thread::yield_now(),
                    Err(PublishError::ShuttingDown) => break,
                    Err(error) => panic!("{error}"),
                }
                thread::park_timeout(ms(1));
            }
            published
        });
        let began = Instant::now();
        engine.shutdown();
        stop.store(true, Ordering::Relaxed);
        let ends: Vec<_> = readers.into_iter().map(|reader| reader.join().expect("it reads to the end")).collect();
        (began, (ends, publisher.join().expect("it publishes to the end")))
    });
    let mut times: Vec<Duration> = ends.iter().map(|(_, closed)| closed.at - began).collect();
    times.sort_unstable();
    // A tenth of the time closes about a tenth of them; a machine that is busy may come late, never early.
    for tenth in 1..10 {
        let closed = times.iter().filter(|time| **time < SPREAD * tenth / 10).count();
        assert!(closed <= MEMBERS * tenth as usize / 10 + 2, "{closed} of {MEMBERS} after {tenth} tenths: {times:?}");
    }
    assert!(*times.last().expect("somebody was there") >= SPREAD * 9 / 10, "{times:?}");
    let mut advice = BTreeSet::new();
    for (texts, closed) in &ends {
        assert_eq!(closed.code, 1012, "{closed:?}");
        let reason: serde_json::Value = serde_json::from_str(&closed.reason).expect("the reason is JSON");
        let after = reason["retry_after_ms"].as_u64().expect("a number");
        assert!(after < 60_000, "{after}");
        advice.insert(after);
        // Nothing is missing in what came, and what had been acknowledged well before the end came.
        let expected: Vec<_> = (0..texts.len()).map(|n| n.to_string()).collect();
        assert_eq!(*texts, expected);
        // A publication of the same moment as the Close frame may stand on either side of it.
        let before = published.iter().filter(|at| **at + ms(500) < closed.at).count();
        assert!(texts.len() >= before, "{} came, {before} were published before the end", texts.len());
    }
    assert!(advice.len() > MEMBERS / 2, "they would come back together: {advice:?}");
    assert!(advice.first() < Some(&20_000) && advice.last() > Some(&40_000), "they would come together: {advice:?}");
    assert!(published.len() > 20, "publishing went on: {}", published.len());
}

#[test]
fn an_upgrade_that_comes_too_late_is_told_to_come_again() {
    let (engine, addr) = engine(settings(|s| {
        s.shutdown_spread = LONG;
        s.shutdown_retry = Duration::from_secs(7);
    }));
    let _member = Member::join(addr, "t");
    let mut late = Raw::connect(addr);
    let request = upgrade_request("/t");
    let (first, rest) = request.split_at(request.len() / 2);
    late.send(first);
    let mut kept = Http::connect(addr);
    assert_eq!(kept.get("/ready").text(), "true");
    eventually("both are there", || engine.handle().metrics().contains("fanfare_http_connections 1"));
    engine.handle().begin_shutdown();
    eventually("it is not ready", || kept.get("/ready").text() == "false");
    late.send(rest);
    let answer = late.read_head();
    assert_eq!(answer.status, 503);
    let after: u64 = answer.header("retry-after").expect("it says when").parse().expect("a number");
    assert!((1..=7).contains(&after), "{after}");
    assert!(engine.handle().metrics().contains("fanfare_refused_total{cause=\"shutting_down\"} 1"));
    let answer = kept.request("GET", "/t", &UPGRADE, b"");
    assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    assert!(answer.text().contains("shutting_down"), "{}", answer.text());
    drop(engine);
}

const UPGRADE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[test]
fn a_spread_ends_as_soon_as_nobody_is_left() {
    let (engine, addr) = engine(settings(|s| s.shutdown_spread = LONG));
    let mut member = Member::join(addr, "t");
    let ended = thread::spawn(move || engine.shutdown());
    member.0.close(None).expect("it can be closed");
    while member.0.read().is_ok() {}
    drop(member);
    let began = Instant::now();
    ended.join().expect("the shutdown succeeds");
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
}

#[test]
fn after_the_spread_nothing_is_published_any_more() {
    let (engine, addr) = engine(settings(|s| s.shutdown_spread = ms(200)));
    let mut member = Member::join(addr, "t");
    let handle = engine.handle().clone();
    handle.begin_shutdown();
    assert_eq!(member.text().unwrap_err().code, 1001);
    eventually("publishing is refused", || handle.publish("t", "x") == Err(PublishError::ShuttingDown));
    engine.shutdown();
}
