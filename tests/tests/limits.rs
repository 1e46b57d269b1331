//! Limits: every delivery is accounted for under every policy, a slow subscriber delays nobody and costs no memory beyond
//! its bound.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_tests::raw::{End, frame, op, upgrade_request};
use fanfare_tests::{Client, Http, Raw, Rng, Server, eventually, topic};
use serde_json::Value;

/// What may become of a delivery besides being `expected` or `replayed`.
const OUTCOMES: [&str; 10] = [
    "written",
    "conflated",
    "dropped_oldest",
    "dropped_newest",
    "dropped_expired",
    "dropped_own",
    "dropped_unsubscribed",
    "discarded",
    "queued",
    "in_flight",
];

/// The deliveries of a topic, as `GET /api/topics/{topic}` counts them.
#[derive(Debug, Clone)]
struct Deliveries(Value);

impl Deliveries {
    #[track_caller]
    fn of(http: &mut Http, topic: &str) -> Self {
        let topic = http.topic(topic).expect("the topic is there as long as it has a subscriber");
        Self(topic["deliveries"].clone())
    }

    #[track_caller]
    fn get(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or_else(|| panic!("no count '{name}' in {}", self.0))
    }

    /// The conservation law, once the shards have caught up: what is called "in flight" must not hide anything for good.
    fn holds(&self) -> bool {
        self.is_balanced() && self.get("in_flight") == 0
    }

    fn is_balanced(&self) -> bool {
        self.get("expected") + self.get("replayed") == OUTCOMES.iter().map(|name| self.get(name)).sum::<u64>()
    }

    /// Nothing waits and nothing is on its way. Prints what does, to be seen if it stays so.
    fn is_at_rest(&self) -> bool {
        let at_rest = self.get("queued") == 0 && self.get("in_flight") == 0;
        if !at_rest {
            println!("{self:?}");
        }
        at_rest
    }
}

/// One policy under test: its topic and the settings of it.
struct Policy {
    topic: &'static str,
    rule: &'static str,
}

const DISCONNECT: Policy =
    Policy { topic: "law.disconnect", rule: "law.disconnect:policy=disconnect,pending_messages=64" };
const DROP_OLDEST: Policy = Policy { topic: "law.oldest", rule: "law.oldest:policy=drop-oldest,pending_messages=64" };
const DROP_NEWEST: Policy = Policy { topic: "law.newest", rule: "law.newest:policy=drop-newest,pending_messages=64" };
const CONFLATE: Policy = Policy { topic: "law.conflate", rule: "law.conflate:policy=conflate,pending_messages=64" };

/// How many publications a run has, and how large each is: far more than sockets and queues hold.
const PUBLICATIONS: usize = 2000;
const PAYLOAD: usize = 2048;
/// Publications that are on their way before the healthy subscriber has seen them; well below `pending_messages`.
const BURST: usize = 16;
const KEYS: usize = 7;

impl Policy {
    fn server(&self) -> Server {
        Server::with(&["--topic", self.rule])
    }

    fn path(&self) -> String {
        format!("/topics/{}?mode=subscribe", self.topic)
    }

    /// Publishes all, in bursts that the healthy subscriber keeps up with; returns how many deliveries were promised.
    #[track_caller]
    fn publish(&self, http: &mut Http, healthy: &mut Client) -> u64 {
        let mut promised = 0;
        for start in (0..PUBLICATIONS).step_by(BURST) {
            for n in start..start + BURST {
                let answer = http.publish_as(self.topic, payload(n).as_bytes(), &format!("&key=k{}", n % KEYS));
                promised += answer["subscribers"].as_u64().expect("the number of subscribers");
            }
            for n in start..start + BURST {
                assert_eq!(number(&healthy.read_text()), n, "the healthy subscriber gets everything, in order");
            }
        }
        promised
    }
}

fn payload(n: usize) -> String {
    format!("{n:08}{}", "x".repeat(PAYLOAD - 8))
}

fn number(text: &str) -> usize {
    assert_eq!(text.len(), PAYLOAD, "a whole publication");
    text[..8].parse().expect("a payload begins with its number")
}

/// Reads everything that comes until a marker or a Close frame; the numbers seen, and the Close frame's code.
fn read_all(raw: &mut Raw) -> (Vec<usize>, Option<u16>) {
    let mut seen = Vec::new();
    loop {
        let frame = raw.read_frame();
        match frame.opcode {
            op::CLOSE => return (seen, Some(frame.close().0)),
            op::PING => {}
            _ if frame.payload == b"the end" => return (seen, None),
            _ => seen.push(number(&frame.text())),
        }
    }
}

#[track_caller]
fn eventually_lawful(http: &mut Http, topic: &str) -> Deliveries {
    eventually("the conservation law holds", || Deliveries::of(http, topic).holds());
    Deliveries::of(http, topic)
}

/// Stalled, slow and dying subscribers beside a healthy one, all on one topic; the law must hold exactly.
fn drive_every_kind_of_subscriber(policy: &Policy) {
    let mut rng = Rng::from_env();
    let server = policy.server();
    let addr = server.addr();
    let mut healthy = Client::connect(&server, &policy.path());
    let stalled: Vec<_> = (0..4).map(|_| Raw::open_narrow(addr, &policy.path())).collect();
    let stop = AtomicBool::new(false);
    let mut http = server.http();
    let promised = thread::scope(|scope| {
        for _ in 0..3 {
            let (stop, path) = (&stop, policy.path());
            scope.spawn(move || read_slowly(addr, &path, stop));
            let (rng, path) = (rng.split(), policy.path());
            scope.spawn(move || die_again_and_again(addr, &path, rng, stop));
        }
        let ended = StopOnDrop(&stop);
        let promised = policy.publish(&mut http, &mut healthy);
        drop(ended);
        promised
    });
    let deliveries = eventually_lawful(&mut http, policy.topic);
    assert_eq!(deliveries.get("expected"), promised, "{deliveries:?}");
    assert!(deliveries.get("written") >= PUBLICATIONS as u64, "{deliveries:?}");
    for raw in stalled {
        raw.reset();
    }
    eventually("nothing waits for the dead", || Deliveries::of(&mut http, policy.topic).is_at_rest());
    let deliveries = eventually_lawful(&mut http, policy.topic);
    assert!(deliveries.get("discarded") > 0, "what waited for the dead was discarded: {deliveries:?}");
}

/// Tells the other threads to stop, also when the test fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Takes a little at a time until told to stop, coming back if it is disconnected.
fn read_slowly(addr: SocketAddr, path: &str, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let raw = Raw::open_narrow(addr, path);
        let mut stream = raw.stream();
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a deadline can be set");
        let mut little = [0; 3000];
        while !stop.load(Ordering::Relaxed) {
            match stream.read(&mut little) {
                Ok(0) => break,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                _ => thread::park_timeout(Duration::from_millis(2)),
            }
        }
    }
}

/// Subscribes, takes a little, and resets the connection, until told to stop.
fn die_again_and_again(addr: SocketAddr, path: &str, mut rng: Rng, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let mut raw = Raw::open_narrow(addr, path);
        for _ in 0..rng.below(20) {
            if stop.load(Ordering::Relaxed) || !raw.is_answered_within(Duration::from_millis(50)) {
                break;
            }
            let _ = raw.try_read_frame();
        }
        raw.reset();
    }
}

#[test]
fn the_conservation_law_holds_under_disconnect() {
    drive_every_kind_of_subscriber(&DISCONNECT);
}

#[test]
fn the_conservation_law_holds_under_drop_oldest() {
    drive_every_kind_of_subscriber(&DROP_OLDEST);
}

#[test]
fn the_conservation_law_holds_under_drop_newest() {
    drive_every_kind_of_subscriber(&DROP_NEWEST);
}

#[test]
fn the_conservation_law_holds_under_conflate() {
    drive_every_kind_of_subscriber(&CONFLATE);
}

/// A healthy and three stalled subscribers, all alive to the end: what is counted as written is what arrives. Returns the
/// counts and what each stalled one got once it read.
fn drive_stalled(policy: &Policy) -> (Deliveries, Vec<Vec<usize>>) {
    let server = policy.server();
    let mut healthy = Client::connect(&server, &policy.path());
    let mut stalled: Vec<_> = (0..3).map(|_| Raw::open_narrow(server.addr(), &policy.path())).collect();
    let mut http = server.http();
    policy.publish(&mut http, &mut healthy);
    let deliveries = eventually_lawful(&mut http, policy.topic);
    assert!(deliveries.get("queued") > 0, "the stalled ones are behind: {deliveries:?}");
    assert!(deliveries.get("queued") <= 3 * 64, "within their bound: {deliveries:?}");

    // The stalled ones catch up; the marker comes when there is room for it again.
    let seen: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = stalled.iter_mut().map(|raw| scope.spawn(|| read_all(raw))).collect();
        eventually("nothing waits any more", || Deliveries::of(&mut http, policy.topic).is_at_rest());
        http.publish_as(policy.topic, b"the end", "&key=end");
        readers.into_iter().map(|reader| reader.join().expect("the reader ends")).collect()
    });
    assert_eq!(healthy.read_text(), "the end");
    eventually("the marker is counted", || Deliveries::of(&mut http, policy.topic).is_at_rest());
    let deliveries = eventually_lawful(&mut http, policy.topic);
    let markers = 4;
    let arrived = PUBLICATIONS + seen.iter().map(|(seen, _)| seen.len()).sum::<usize>() + markers;
    assert_eq!(deliveries.get("written"), arrived as u64, "what is written arrives: {deliveries:?}");
    for (seen, close) in &seen {
        assert_eq!(*close, None, "nobody was disconnected");
        assert!(seen.is_sorted_by(|a, b| a < b), "in order, none twice");
    }
    (deliveries, seen.into_iter().map(|(seen, _)| seen).collect())
}

#[test]
fn drop_oldest_keeps_the_newest_without_a_hole() {
    let (deliveries, seen) = drive_stalled(&DROP_OLDEST);
    assert!(deliveries.get("dropped_oldest") > 0, "{deliveries:?}");
    for seen in seen {
        // Up to the one that was half written when its place was wanted.
        let newest: Vec<_> = (PUBLICATIONS - 63..PUBLICATIONS).collect();
        assert!(seen.ends_with(&newest), "the last 63 are there: {seen:?}");
    }
}

#[test]
fn drop_newest_keeps_the_oldest_without_a_hole() {
    let (deliveries, seen) = drive_stalled(&DROP_NEWEST);
    assert!(deliveries.get("dropped_newest") > 0, "{deliveries:?}");
    for seen in seen {
        let oldest: Vec<_> = (0..64).collect();
        assert!(seen.starts_with(&oldest), "the first 64 are there: {seen:?}");
    }
}

#[test]
fn conflate_keeps_the_newest_of_every_key() {
    let (deliveries, seen) = drive_stalled(&CONFLATE);
    assert!(deliveries.get("conflated") > 0, "{deliveries:?}");
    for seen in seen {
        for n in PUBLICATIONS - KEYS..PUBLICATIONS {
            assert!(seen.contains(&n), "{n} is the newest of its key: {seen:?}");
        }
    }
}

#[test]
fn a_slow_consumer_under_disconnect_learns_1013_and_is_counted() {
    let server = DISCONNECT.server();
    let mut healthy = Client::connect(&server, &DISCONNECT.path());
    let mut stalled = Raw::open_narrow(server.addr(), &DISCONNECT.path());
    let mut http = server.http();
    DISCONNECT.publish(&mut http, &mut healthy);
    let (seen, close) = read_all(&mut stalled);
    assert_eq!(close, Some(1013));
    assert!(seen.iter().copied().eq(0..seen.len()), "what it got has no hole: {seen:?}");
    assert_eq!(stalled.read_to_end(), End::Finished);
    eventually("it is counted", || server.metrics().closes("slow_consumer") == 1);
    let deliveries = eventually_lawful(&mut http, DISCONNECT.topic);
    assert_eq!(deliveries.get("written"), (PUBLICATIONS + seen.len()) as u64, "{deliveries:?}");
    assert!(deliveries.get("discarded") > 0, "{deliveries:?}");
}

#[test]
fn what_waits_too_long_expires_and_is_counted() {
    let rule = "aged:policy=drop-oldest,pending_messages=100000,pending_bytes=100000000,pending_age_ms=200";
    let server = Server::with(&["--topic", rule]);
    let mut healthy = Client::connect(&server, "/topics/aged?mode=subscribe");
    let mut stalled = Raw::open_narrow(server.addr(), "/topics/aged?mode=subscribe");
    let mut http = server.http();
    for n in 0..500 {
        http.publish("aged", payload(n).as_bytes());
        assert_eq!(number(&healthy.read_text()), n);
    }
    eventually("what waited has expired", || {
        // Publications make the queue look at its ages.
        http.publish("aged", payload(0).as_bytes());
        healthy.read_text();
        Deliveries::of(&mut http, "aged").get("dropped_expired") > 0
    });
    eventually_lawful(&mut http, "aged");
    stalled.send(fanfare_tests::raw::close_frame(1000, ""));
}

#[test]
fn a_stalled_subscriber_costs_no_more_memory_than_its_bound() {
    let server = Server::with(&["--topic", "fat:policy=drop-oldest,pending_messages=1000000,pending_bytes=1048576"]);
    let mut healthy = Client::connect(&server, "/topics/fat?mode=subscribe");
    let _stalled: Vec<_> = (0..4).map(|_| Raw::open_narrow(server.addr(), "/topics/fat?mode=subscribe")).collect();
    let mut http = server.http();
    let before = server.resident_bytes();
    let payload = vec![b'm'; 64 * 1024];
    for _ in 0..2048 {
        http.publish("fat", &payload);
        assert_eq!(healthy.read().len(), payload.len());
    }
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "128 MiB passed by, four queues of 1 MiB were allowed, memory grew by {grown} bytes");
}

#[test]
fn one_connection_cannot_queue_more_than_its_total_bound_over_many_topics() {
    let server = Server::with(&["--history-messages", "0"]);
    let mut stalled = Raw::connect_narrow(server.addr());
    stalled.upgrade("/ws");
    let subscribe = |n: u32| format!(r#"{{"type":"subscribe","topic":"wide.{n}"}}"#);
    for n in 0..100 {
        stalled.send(fanfare_tests::raw::frame(op::TEXT, subscribe(n).as_bytes()));
    }
    for _ in 0..101 {
        stalled.read_frame();
    }
    let mut http = server.http();
    let before = server.resident_bytes();
    // Each topic stays below its own bound of 1 MiB; together they are far above what one connection may have.
    'flood: for _ in 0..8 {
        for n in 0..100 {
            http.publish(&format!("wide.{n}"), &vec![b'w'; 100_000]);
            if server.metrics().closes("slow_consumer") == 1 {
                break 'flood;
            }
        }
    }
    eventually("it is disconnected", || server.metrics().closes("slow_consumer") == 1);
    assert!(server.resident_bytes() < before + (48 << 20), "memory stayed within the bound");
}

#[test]
fn a_publisher_of_its_own_topic_that_never_reads_is_disconnected_not_buffered() {
    let server = Server::start();
    let mut raw = Raw::open_narrow(server.addr(), "/topics/own");
    let bytes = fanfare_tests::raw::frame(op::BINARY, &[7; 10_000]).repeat(100);
    let before = server.resident_bytes();
    let mut sent = 0;
    while sent < 256 << 20 && server.metrics().closes("slow_consumer") == 0 {
        // Goes on where the last write was cut, so that the frames stay whole.
        sent += raw.send_until_blocked(&bytes[sent % bytes.len()..], Duration::from_millis(200));
    }
    assert!(sent < 256 << 20, "the server took everything");
    assert!(server.resident_bytes() < before + (64 << 20), "memory stayed within the bound");
}

/// Out of file descriptors the listeners go on accepting, to say so, and recover as soon as descriptors are free again.
#[test]
fn running_out_of_files_refuses_newcomers_but_silences_no_listener() {
    let server = Server::with_files(64);
    let path = format!("/topics/{}", topic("files"));
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        let mut raw = Raw::connect(server.addr());
        raw.send(upgrade_request(&path));
        match raw.try_read_head() {
            Some(answer) if answer.status == 101 => held.push(raw),
            Some(answer) => {
                assert_eq!(answer.status, 503);
                refused += 1;
            }
            // Two shards may be at the end of the descriptors at once: then one of them has to let a peer go unanswered.
            None => refused += 1,
        }
    }
    assert!(held.len() > 20 && refused > 20, "{} held, {refused} refused", held.len());
    for raw in held.drain(..) {
        raw.reset();
    }
    // Both listeners are alive: whichever shard the kernel chooses, newcomers are served again.
    let served = || {
        let mut raw = Raw::connect(server.addr());
        raw.send(upgrade_request(&path));
        if raw.try_read_head().is_none_or(|answer| answer.status != 101) {
            return false;
        }
        raw.send(frame(op::TEXT, b"served"));
        raw.read_frame().text() == "served"
    };
    eventually("newcomers are served again", || (0..20).all(|_| served()));
    assert!(server.metrics().refusals("file_descriptors") > 0);
}
