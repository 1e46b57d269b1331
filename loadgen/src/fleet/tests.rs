//! Whole fleets against a real server in this process, which does wrong what a test asks it to.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use fanfare::{Context, Decision, Engine, Handler, Message, Subscribe, Upgrade};

use super::*;
use crate::measure::RoleTally;
use crate::scenario::{Connections, HttpTemplate, LoadKind, PublishVia, TargetSettings, Topics};
use crate::units::{Amount, Size, Span};

/// What the server does wrong: with every so-manieth publication; 0 for never.
#[derive(Debug, Default)]
struct Wrongs {
    drop_every: u64,
    twice_every: u64,
    /// The subscriber with this number is closed at this publication.
    close_at: u64,
    refuse_from: u64,
    publications: AtomicU64,
    connections: AtomicU64,
}

/// Topics by path; who publishes does not receive.
#[derive(Debug, Clone, Default)]
struct Server(Arc<Wrongs>);

struct Peer {
    topic: String,
    subscribes: bool,
}

impl Handler for Server {
    type Data = Peer;

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<Peer> {
        let nth = self.0.connections.fetch_add(1, Ordering::Relaxed) + 1;
        if self.0.refuse_from > 0 && nth >= self.0.refuse_from {
            return Decision::refuse(403, "no");
        }
        let subscribes = request.query_value("mode").as_deref() == Some("subscribe");
        Decision::accept(Peer { topic: request.path().trim_start_matches("/topics/").to_owned(), subscribes })
    }

    fn open(&self, ctx: &mut Context<'_, Peer>) {
        let topic = ctx.data().topic.clone();
        if ctx.data().subscribes {
            let _ = ctx.subscribe(&topic, Subscribe::default());
        }
    }

    fn message(&self, ctx: &mut Context<'_, Peer>, message: Message<'_>) {
        let (wrongs, topic) = (&self.0, ctx.data().topic.clone());
        let nth = wrongs.publications.fetch_add(1, Ordering::Relaxed) + 1;
        let is_nth = |every: u64| every > 0 && nth % every == 0;
        if is_nth(wrongs.drop_every) {
            return;
        }
        for _ in 0..if is_nth(wrongs.twice_every) { 2 } else { 1 } {
            let _ = ctx.publish(&topic, message);
        }
        if wrongs.close_at == nth {
            ctx.close(1008, "enough");
        }
    }
}

fn server(wrongs: Wrongs) -> Engine {
    Engine::builder(Server(Arc::new(wrongs))).listen(([127, 0, 0, 1], 0).into()).shards(1).start().expect("a port")
}

fn scenario(engine: &Engine, connections: Connections, topics: u32) -> Scenario {
    let url = format!("ws://{}", engine.local_addrs()[0]);
    Scenario {
        target: TargetSettings { url, ..TargetSettings::default() },
        connections,
        topics: Topics { count: topics, ..Topics::default() },
        ..Scenario::default()
    }
}

fn people(publishers: u64, subscribers: u64) -> Connections {
    Connections { publishers, subscribers, ..Connections::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// 100 ms of warm-up and 400 ms of measured time, in intervals of 100 ms.
fn a_drive(load: Load) -> Drive {
    let (warmup, duration, drain_timeout) = (ms(100), ms(400), Duration::from_secs(20));
    Drive { load, warmup, duration, drain_timeout, storm_at: None, interval: ms(100) }
}

fn constant(rate_per_s: f64) -> Load {
    Load { rate_per_s, ..Load::default() }
}

/// Sees what there is to see, and stops when told to.
#[derive(Default)]
struct Onlooker {
    intervals: u64,
    stop_after: Option<Instant>,
    is_stopped: AtomicBool,
}

impl Watch for Onlooker {
    fn interval(&mut self, _interval: &Interval) {
        self.intervals += 1;
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed) || self.stop_after.is_some_and(|at| Instant::now() >= at)
    }
}

fn connected(scenario: &Scenario) -> Fleet {
    let mut fleet = Fleet::start(scenario).expect("it starts");
    let connecting = fleet.connect(&mut Onlooker::default()).expect("it connects");
    assert_eq!((connecting.connected, connecting.wanted), (fleet.roster.connections(), fleet.roster.connections()));
    fleet
}

/// Everything was delivered, and all figures agree with each other.
fn assert_whole(driven: &Driven, subscribers_a_publication: u64) {
    let (measured, tally) = (&driven.measurement, &driven.measurement.tally);
    let expected = tally.published * subscribers_a_publication;
    assert_eq!(tally.subscribers(), RoleTally { expected, received: expected, ..RoleTally::default() });
    assert_eq!((tally.incomplete, tally.unsent, tally.refused, tally.corrupted, tally.foreign), (0, 0, 0, 0, 0));
    assert!(tally.closed.is_empty(), "{:?}", tally.closed);
    assert_eq!(measured.corrected.len(), measured.published * subscribers_a_publication);
    assert_eq!(measured.service.len(), measured.corrected.len());
    assert_eq!(measured.completion.len(), measured.published);
    assert_eq!(measured.schedule_error.len(), measured.published);
    assert!(measured.completion.max_ns() >= measured.corrected.max_ns() * 999 / 1000);
    let published: u64 = driven.intervals.iter().map(|interval| interval.published).sum();
    assert!(published > 0 && published <= tally.published, "{published} of {}", tally.published);
    assert!(driven.intervals.iter().all(|interval| interval.corrected.len() == interval.received));
    let in_window = driven.intervals.iter().filter(|interval| interval.begin_ns >= 0);
    assert_eq!(in_window.map(|interval| interval.received).sum::<u64>(), measured.received);
}

#[test]
fn everything_is_delivered_and_counted_by_any_number_of_workers_drive_after_drive() {
    for (threads, topics, publishers) in [(1, 1, 1), (1, 3, 3), (2, 1, 2), (3, 2, 2)] {
        let engine = server(Wrongs::default());
        let mut scenario = scenario(&engine, people(publishers, 12), topics);
        scenario.client.threads = threads;
        let mut fleet = connected(&scenario);
        for _ in 0..2 {
            let mut onlooker = Onlooker::default();
            let driven = fleet.drive(&a_drive(constant(300.0)), &mut onlooker).expect("it drives");
            assert_eq!((driven.measurement.tally.published, driven.measurement.published), (150, 120));
            assert_eq!((onlooker.intervals, driven.intervals.len(), driven.stopped), (5, 5, false));
            assert_eq!(driven.measurement.window_ns, 400_000_000);
            assert_eq!(driven.measurement.workers.len(), threads as usize);
            assert_eq!(driven.measurement.subscriber_medians.len(), 12);
            assert_whole(&driven, 12 / u64::from(topics));
        }
        fleet.close();
    }
}

#[test]
fn a_closed_loop_keeps_going_and_loses_nothing_with_any_number_of_workers() {
    for threads in [1, 2] {
        let engine = server(Wrongs::default());
        let mut scenario = scenario(&engine, people(1, 8), 1);
        scenario.client.threads = threads;
        let mut fleet = connected(&scenario);
        let load = Load { kind: LoadKind::Closed, in_flight: 4, ..Load::default() };
        let driven = fleet.drive(&a_drive(load), &mut Onlooker::default()).expect("it drives");
        assert!(driven.measurement.published > 50, "{} publications", driven.measurement.published);
        assert_whole(&driven, 8);
    }
}

#[test]
fn a_closed_loop_goes_on_where_topics_have_nobody_and_while_all_are_away() {
    for threads in [1, 2] {
        let engine = server(Wrongs::default());
        let mut scenario = scenario(&engine, people(3, 2), 3);
        scenario.client.threads = threads;
        scenario.connect.rate_per_s = 100.0;
        let mut fleet = connected(&scenario);
        let load = Load { kind: LoadKind::Closed, in_flight: 2, ..Load::default() };
        let driven = fleet.drive(&a_drive(load.clone()), &mut Onlooker::default()).expect("it drives");
        assert!(driven.measurement.published > 50, "{} publications", driven.measurement.published);
        let subscribers = driven.measurement.tally.subscribers();
        assert_eq!((subscribers.lost, driven.measurement.tally.incomplete), (0, 0));
        // One that dropped connections at once and took a while to come back left all credit with those who were away.
        let storm = Drive { storm_at: Some(ms(50)), duration: Duration::from_secs(1), ..a_drive(load) };
        let driven = fleet.drive(&storm, &mut Onlooker::default()).expect("it drives");
        assert_eq!(driven.measurement.storm.as_ref().map(|storm| storm.back), Some(2));
        let last = driven.intervals.iter().rev().take(3);
        assert!(last.map(|interval| interval.received).sum::<u64>() > 20, "{:?}", driven.measurement.tally);
    }
}

#[test]
fn a_closed_loop_waits_for_a_lost_publication_no_longer_than_a_drain() {
    let engine = server(Wrongs { drop_every: 20, ..Wrongs::default() });
    let mut fleet = connected(&scenario(&engine, people(1, 3), 1));
    let load = Load { kind: LoadKind::Closed, in_flight: 1, ..Load::default() };
    let drive = Drive { drain_timeout: ms(50), ..a_drive(load) };
    let driven = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives");
    let tally = &driven.measurement.tally;
    assert!(tally.published > 40 && tally.incomplete >= 2, "{tally:?}");
}

#[test]
fn dropped_and_doubled_publications_are_reported_as_such() {
    let engine = server(Wrongs { drop_every: 10, twice_every: 7, ..Wrongs::default() });
    let mut fleet = connected(&scenario(&engine, people(1, 5), 1));
    let drive = Drive { drain_timeout: ms(300), ..a_drive(constant(400.0)) };
    let driven = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives");
    let tally = &driven.measurement.tally;
    // Of 200: every tenth is dropped; every seventh comes twice, but for 70 and 140, which are dropped.
    let subscribers = tally.subscribers();
    assert_eq!((tally.published, subscribers.expected), (200, 1_000));
    assert_eq!((subscribers.lost, subscribers.received, subscribers.duplicates), (5 * 20, 5 * 180, 5 * 26));
    // The last one dropped is the last of all: nobody sees a gap.
    assert_eq!((subscribers.gaps, subscribers.reordered, tally.incomplete), (5 * 19, 0, 20));
}

#[test]
fn a_storm_drops_all_and_brings_all_back_without_losses() {
    for threads in [1, 2] {
        let engine = server(Wrongs::default());
        let mut scenario = scenario(&engine, people(1, 30), 1);
        scenario.client.threads = threads;
        let mut fleet = connected(&scenario);
        let drive = Drive { storm_at: Some(ms(100)), duration: Duration::from_secs(1), ..a_drive(constant(300.0)) };
        let driven = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives");
        let storm = driven.measurement.storm.clone().expect("there was one");
        assert_eq!((storm.dropped, storm.back, storm.handshake.len()), (30, 30, 30));
        assert!(storm.failures.is_empty() && storm.until_back_ns > 0);
        let subscribers = driven.measurement.tally.subscribers();
        assert_eq!((subscribers.expected, subscribers.lost), (subscribers.received, 0));
        assert!(subscribers.received > 30 * 200, "{subscribers:?}");
        let (tally, completion) = (&driven.measurement.tally, &driven.measurement.completion);
        assert_eq!((tally.incomplete, tally.published), (0, 330));
        assert!(completion.len() > 200 && completion.len() <= 300, "{}", completion.len());
        let after = fleet.drive(&a_drive(constant(300.0)), &mut Onlooker::default()).expect("it drives");
        assert_whole(&after, 30);
    }
}

#[test]
fn every_role_is_counted_on_its_own_and_does_not_disturb_the_subscribers() {
    let engine = server(Wrongs::default());
    let mut connections = people(1, 6);
    connections.slow = Amount::Count(2);
    connections.stalled = Amount::Count(2);
    connections.churning = Amount::Count(4);
    connections.idle = Amount::Count(3);
    connections.churn_lifetime = Span(ms(60));
    connections.slow_bytes_per_s = Size(2_000);
    let mut fleet = connected(&scenario(&engine, connections, 1));
    let drive = Drive { drain_timeout: ms(500), ..a_drive(constant(400.0)) };
    let driven = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives");
    let tally = &driven.measurement.tally;
    assert_eq!(tally.subscribers(), RoleTally { expected: 1_200, received: 1_200, ..RoleTally::default() });
    assert_eq!(tally.incomplete, 0);
    let role = |name: &str| tally.roles[name];
    assert_eq!(role("stalled"), RoleTally { expected: 400, lost: 400, ..RoleTally::default() });
    let slow = role("slow");
    assert_eq!(slow.expected, 400);
    assert_eq!(slow.received + slow.lost, 400);
    // 2,000 bytes a second are 15 messages of 130 bytes; it reads a quarter of that at once.
    assert!((2..=30).contains(&(slow.received / 2)), "{slow:?}");
    let churning = role("churning");
    assert_eq!((churning.expected, churning.lost), (churning.received, 0));
    assert!(churning.received > 400, "{churning:?}");
    assert!(tally.closed.is_empty(), "{:?}", tally.closed);
    assert!(driven.measurement.others.len() > 400);
}

#[test]
fn a_connection_the_server_ends_is_counted_by_cause_and_its_publications_are_unsent() {
    let engine = server(Wrongs { close_at: 50, ..Wrongs::default() });
    let mut fleet = connected(&scenario(&engine, people(1, 3), 1));
    let driven = fleet.drive(&a_drive(constant(400.0)), &mut Onlooker::default()).expect("it drives");
    let tally = &driven.measurement.tally;
    assert_eq!(tally.closed, [("close 1008".to_owned(), 1)].into());
    assert_eq!((tally.refused, tally.published + tally.unsent), (1, 200));
    assert!(tally.unsent > 100, "{tally:?}");
    let subscribers = tally.subscribers();
    assert_eq!(subscribers.expected, subscribers.received + subscribers.lost);
}

#[test]
fn connections_that_fail_are_named_and_as_many_as_allowed_are_put_up_with() {
    let engine = server(Wrongs { refuse_from: 8, ..Wrongs::default() });
    let mut scenario = scenario(&engine, people(1, 9), 1);
    scenario.connect.concurrency = 1;
    scenario.connect.failures_max = Amount::Count(2);
    let mut fleet = Fleet::start(&scenario).expect("it starts");
    let failure = fleet.connect(&mut Onlooker::default()).expect_err("three are refused");
    assert!(failure.exit_code() == 1 && failure.to_string().contains("HTTP 403"), "{failure}");
    drop(fleet);
    drop(engine);

    let engine = server(Wrongs { refuse_from: 8, ..Wrongs::default() });
    scenario.target.url = format!("ws://{}", engine.local_addrs()[0]);
    scenario.connect.failures_max = Amount::Percent(30.0);
    let mut fleet = Fleet::start(&scenario).expect("it starts");
    let connecting = fleet.connect(&mut Onlooker::default()).expect("30 % of 10 are 3");
    assert_eq!((connecting.connected, connecting.failures), (7, [("HTTP 403".to_owned(), 3)].into()));
    let driven = fleet.drive(&a_drive(constant(100.0)), &mut Onlooker::default()).expect("it drives");
    assert_whole(&driven, 6);
}

#[test]
fn nobody_there_is_a_failure_that_says_so() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let engine = server(Wrongs::default());
    let mut scenario = scenario(&engine, people(1, 3), 1);
    scenario.target.url = format!("ws://{free}");
    let failure = Fleet::start(&scenario).and_then(|mut fleet| fleet.connect(&mut Onlooker::default()));
    assert!(failure.as_ref().is_err_and(|failure| failure.to_string().contains("refused")), "{failure:?}");
}

#[test]
fn a_server_that_never_answers_is_given_up_after_the_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let engine = server(Wrongs::default());
    let mut scenario = scenario(&engine, people(0, 3), 1);
    scenario.target.url = format!("ws://{}", silent.local_addr().expect("bound"));
    scenario.connect.timeout = Span(ms(50));
    let failure = Fleet::start(&scenario).and_then(|mut fleet| fleet.connect(&mut Onlooker::default()));
    assert!(failure.as_ref().is_err_and(|failure| failure.to_string().contains("timed out")), "{failure:?}");
}

#[test]
fn a_drive_that_is_stopped_ends_in_order_with_the_window_it_had() {
    let engine = server(Wrongs::default());
    let mut fleet = connected(&scenario(&engine, people(1, 4), 1));
    let drive = Drive { duration: Duration::from_secs(60), ..a_drive(constant(200.0)) };
    let mut onlooker = Onlooker { stop_after: Some(Instant::now() + ms(400)), ..Onlooker::default() };
    let driven = fleet.drive(&drive, &mut onlooker).expect("it drives");
    assert!(driven.stopped && driven.measurement.window_ns < 30_000_000_000);
    let lengths: u64 = driven.intervals.iter().filter(|i| i.begin_ns >= 0).map(|i| i.length_ns).sum();
    assert_eq!(lengths, driven.measurement.window_ns);
    assert_whole(&driven, 4);
}

#[test]
fn a_drive_that_is_stopped_while_it_waits_for_the_rest_waits_no_longer() {
    let engine = server(Wrongs { drop_every: 7, ..Wrongs::default() });
    let mut fleet = connected(&scenario(&engine, people(1, 4), 1));
    // The 70th and last is dropped.
    let drive = Drive { drain_timeout: Duration::from_secs(3_600), ..a_drive(constant(140.0)) };
    let mut onlooker = Onlooker { stop_after: Some(Instant::now() + ms(800)), ..Onlooker::default() };
    let driven = fleet.drive(&drive, &mut onlooker).expect("it drives");
    assert!(driven.stopped && driven.measurement.window_ns == 400_000_000);
    assert_eq!(driven.measurement.tally.subscribers().lost, 40);
}

#[test]
fn publications_that_find_no_room_wait_and_are_all_sent_in_the_end() {
    let engine = server(Wrongs::default());
    // Without subscribers, which the server would end for not keeping up.
    let mut scenario = scenario(&engine, people(1, 0), 1);
    scenario.payload.bytes = Size(16 << 10);
    let mut fleet = connected(&scenario);
    // 6 MiB at once, of which a publisher keeps at most one, and a little, waiting for the socket.
    let load = Load { kind: LoadKind::Burst, burst_size: 400, burst_every: Span(ms(300)), ..Load::default() };
    let driven = fleet.drive(&a_drive(load), &mut Onlooker::default()).expect("it drives");
    let tally = &driven.measurement.tally;
    assert_eq!((tally.published, tally.unsent, tally.refused), (800, 0, 0));
    assert!(tally.closed.is_empty(), "{:?}", tally.closed);
}

/// Answers every POST by publishing its body; every fifth is refused, after every third answer it hangs up.
fn http_server(engine: &Engine) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (address, handle) = (listener.local_addr().expect("bound"), engine.handle().clone());
    std::thread::spawn(move || {
        let mut asked = 0;
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
            'connection: while let Ok(read @ 1..) = stream.read(&mut buffer) {
                input.extend_from_slice(&buffer[..read]);
                let Some(head) = input.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                if input.len() < head + 4 + 128 {
                    continue;
                }
                asked += 1;
                let body = String::from_utf8(input.split_off(head + 4)).expect("ASCII");
                input.clear();
                let (status, more) = match asked % 5 {
                    0 => ("503 Busy", ""),
                    _ => {
                        handle.publish("loadgen.0", body.as_str()).expect("it is published");
                        ("200 OK", if asked % 3 == 0 { "Connection: close\r\n" } else { "" })
                    }
                };
                let answer = format!("HTTP/1.1 {status}\r\n{more}Content-Length: 2\r\n\r\nok");
                if stream.write_all(answer.as_bytes()).is_err() || !more.is_empty() {
                    break 'connection;
                }
            }
        }
    });
    address
}

/// Publishers by HTTP, who ask at this address.
fn by_http(engine: &Engine, address: std::net::SocketAddr) -> Scenario {
    let mut scenario = scenario(engine, people(1, 4), 1);
    scenario.connections.publish_via = PublishVia::Http;
    scenario.target.template.publish_http = Some(HttpTemplate {
        method: "POST".into(),
        server: Some(format!("http://{address}")),
        path: "/publish".into(),
        headers: Default::default(),
        body: "{message}".into(),
    });
    scenario
}

/// Gives each connection, one after the other, to `behave`.
fn tcp_server(mut behave: impl FnMut(std::net::TcpStream) + Send + 'static) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(&mut behave));
    address
}

#[test]
fn publications_by_http_that_are_never_answered_are_told_and_block_no_later_drive() {
    let engine = server(Wrongs::default());
    let mut kept = Vec::new();
    let mut fleet = connected(&by_http(&engine, tcp_server(move |stream| kept.push(stream))));
    let drive = Drive { drain_timeout: ms(200), ..a_drive(constant(100.0)) };
    for _ in 0..2 {
        let driven = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives");
        let tally = &driven.measurement.tally;
        assert_eq!((tally.published, tally.unsent, tally.refused), (1, 49, 1));
    }
}

#[test]
fn a_request_by_http_is_given_up_after_the_timeout_and_the_next_is_sent() {
    let engine = server(Wrongs::default());
    let mut kept = Vec::new();
    let mut scenario = by_http(&engine, tcp_server(move |stream| kept.push(stream)));
    scenario.connect.timeout = Span(ms(100));
    let mut fleet = connected(&scenario);
    let drive = Drive { drain_timeout: ms(200), ..a_drive(constant(100.0)) };
    let tally = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives").measurement.tally;
    assert!(tally.published >= 2 && tally.refused == tally.published, "{tally:?}");
    assert_eq!(tally.published + tally.unsent, 50);
}

#[test]
fn a_server_that_hangs_up_after_each_answer_without_a_word_refuses_nothing() {
    let engine = server(Wrongs::default());
    let address = tcp_server(|mut stream| {
        let (mut input, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = stream.read(&mut buffer) {
            input.extend_from_slice(&buffer[..read]);
            if input.windows(4).position(|four| four == b"\r\n\r\n").is_some_and(|head| input.len() >= head + 4 + 128) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                return;
            }
        }
    });
    let mut fleet = connected(&by_http(&engine, address));
    let drive = Drive { drain_timeout: ms(200), ..a_drive(constant(50.0)) };
    let driven = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives");
    let tally = &driven.measurement.tally;
    assert_eq!((tally.published, tally.unsent, tally.refused), (25, 0, 0));
    assert_eq!(driven.measurement.publish_answer.len(), 20);
}

#[test]
fn publications_by_http_are_answered_refused_and_survive_a_server_that_hangs_up() {
    let engine = server(Wrongs::default());
    let scenario = by_http(&engine, http_server(&engine));
    let mut fleet = connected(&scenario);
    let drive = Drive { drain_timeout: ms(500), ..a_drive(constant(100.0)) };
    let driven = fleet.drive(&drive, &mut Onlooker::default()).expect("it drives");
    let tally = &driven.measurement.tally;
    assert_eq!((tally.published, tally.unsent, tally.refused), (50, 0, 10));
    assert_eq!((tally.subscribers().lost, tally.subscribers().received), (40, 160));
    assert_eq!(driven.measurement.publish_answer.len(), 40);
}
