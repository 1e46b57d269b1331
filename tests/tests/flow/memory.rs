//! What all connections together may hold.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use fanfare::{CloseCause, Deferred, DeliveryPolicy, Subscribe, TopicRules, TopicSettings};
use socket2::{Domain, Socket, Type};

use crate::kit::{Client, Running, Script, What, eventually, masked_text, settings};
use crate::{echo, raw, read_to_close, reconfigure, with};

/// The header of a masked binary frame.
fn header(length: u64) -> Vec<u8> {
    let mut bytes = vec![0x82, 0x80 | 127];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn inbound(engine: &Running) -> u64 {
    engine.metric("fanfare_inbound_bytes") as u64
}

#[test]
fn half_received_messages_of_all_are_bounded_and_who_asks_for_more_is_closed() {
    let engine = Running::start_with(echo(), |builder| {
        builder.shards(2).settings(settings(|s| s.inbound_total_bytes = 2_100_000))
    });
    let part = vec![b'x'; 1_200_000];
    let (mut first, mut second) = (raw(engine.addr()), raw(engine.addr()));
    let read = || engine.metric("fanfare_received_bytes_total") as u64;
    let before = read();
    first.write_all(&header(2_000_000)).unwrap();
    first.write_all(&part).unwrap();
    // All of it has been read: it asks for no more while the other one does.
    eventually(before + 14 + 1_200_000, read);
    let alone = inbound(&engine);
    second.write_all(&header(2_000_000)).unwrap();
    // It may be closed before all of it is taken.
    let _ = second.write_all(&part);
    let (_, code, reason) = read_to_close(&mut second);
    assert_eq!((code, &*reason), (1013, CloseCause::InboundMemory.text()));
    assert_eq!(engine.metric("fanfare_closed_total{cause=\"inbound_memory\"}") as u64, 1);
    // What it held is free again, as soon as its connection is gone.
    drop(second);
    eventually(alone, || inbound(&engine));
    // The first one is not disturbed.
    first.write_all(&vec![b'x'; 800_000]).unwrap();
    let mut answer = vec![0; 10 + 2_000_000];
    first.read_exact(&mut answer).unwrap();
    eventually(0, || inbound(&engine));
}

#[test]
fn what_waits_for_a_handler_counts_and_is_let_go_however_it_ends() {
    static WAITING: Mutex<Vec<Deferred>> = Mutex::new(Vec::new());
    let script = Script::new().on_message(|ctx, message| {
        let _ = ctx.send(message);
        WAITING.lock().unwrap().push(ctx.defer());
    });
    let engine = with(script, |s| s.inbound_total_bytes = 20_000);
    let many: Vec<u8> = masked_text("x").repeat(1000);
    let mut goes_on = raw(engine.addr());
    goes_on.write_all(&many).unwrap();
    eventually(true, || inbound(&engine) >= 6000);
    let mut goes_away = raw(engine.addr());
    goes_away.write_all(&many).unwrap();
    eventually(true, || inbound(&engine) >= 12_000);
    // A third and a fourth are too much; of them the last one to ask is closed.
    let mut closed = raw(engine.addr());
    closed.write_all(&many).unwrap();
    let mut last = raw(engine.addr());
    let _ = last.write_all(&many);
    assert_eq!(read_to_close(&mut last).1, 1013);
    drop((goes_away, closed));
    // Those who are not read from are noticed when they are.
    eventually(0, || {
        WAITING.lock().unwrap().clear();
        inbound(&engine)
    });
    goes_on.read_exact(&mut [0; 3 * 1000]).unwrap();
}

/// A subscriber with a small receive buffer, which does not read.
fn stalled(engine: &Running) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&engine.addr().into()).unwrap();
    let (client, _) = Client::upgrade(socket.into(), engine.addr(), "/", &[]).unwrap();
    let mut client = client;
    client.send("news");
    assert_eq!(client.text(), "subscribed");
    client.0.get_ref().try_clone().unwrap()
}

const TOTAL: usize = 500_000;
const PUBLICATION: usize = 10_000;

fn publisher(policy: DeliveryPolicy) -> Running {
    let script = Script::new().on_message(|ctx, _| {
        ctx.subscribe("news", Subscribe::default()).unwrap();
        let _ = ctx.send("subscribed");
    });
    let topic = TopicSettings { policy, pending_bytes: 100 << 20, ..TopicSettings::default() };
    let settings = settings(|s| (s.pending_total_bytes, s.pending_bytes) = (TOTAL, 100 << 20));
    Running::start_with(script, |builder| builder.settings(settings).topics(TopicRules::new(topic)))
}

/// Publishes until the bound is reached and half as much again; a healthy subscriber gets it all. Returns the most that waited.
fn publish(engine: &Running, n: usize) -> u64 {
    let mut healthy = engine.connect();
    healthy.send("news");
    assert_eq!(healthy.text(), "subscribed");
    let text = "x".repeat(PUBLICATION);
    let mut most = 0;
    for _ in 0..n {
        engine.handle().publish("news", &text).unwrap();
        assert_eq!(healthy.text().len(), PUBLICATION);
        most = most.max(engine.metric("fanfare_pending_bytes") as u64);
    }
    most
}

#[test]
fn beyond_the_bound_of_all_queues_slow_consumers_are_closed_and_memory_is_free_again() {
    let engine = publisher(DeliveryPolicy::Disconnect);
    let stalled: Vec<_> = (0..5).map(|_| stalled(&engine)).collect();
    let most = publish(&engine, 100);
    assert!(most >= 300_000 && most <= (TOTAL + 6 * PUBLICATION) as u64, "{most}");
    let closed = engine.log.count(|what| matches!(what, What::Close(CloseCause::SlowConsumer, 1013, _)));
    assert!((1..=5).contains(&closed), "{closed}");
    assert!(engine.metric("fanfare_pending_total_reached_total") >= 1.0);
    drop(stalled);
    eventually(0, || engine.metric("fanfare_pending_bytes") as u64);
}

#[test]
fn beyond_the_bound_of_all_queues_the_oldest_are_dropped_if_that_is_the_policy() {
    let engine = publisher(DeliveryPolicy::DropOldest);
    let stalled: Vec<_> = (0..5).map(|_| stalled(&engine)).collect();
    let most = publish(&engine, 100);
    assert!(most >= 300_000 && most <= (TOTAL + 6 * PUBLICATION) as u64, "{most}");
    let sum = engine.handle().deliveries();
    assert!(sum.dropped_oldest > 100, "{sum:?}");
    assert_eq!(sum.expected, sum.accounted());
    let slow = |what: &What| matches!(what, What::Close(CloseCause::SlowConsumer, ..));
    assert_eq!(engine.log.count(slow), 0);
    // More room, and they wait again.
    reconfigure(&engine, |s| s.pending_total_bytes = 2 * TOTAL);
    let before = sum.dropped_oldest;
    let most = publish(&engine, 5);
    assert!(most > TOTAL as u64, "{most}");
    assert_eq!(engine.handle().deliveries().dropped_oldest, before);
    drop(stalled);
}

#[test]
fn histories_of_all_topics_are_bounded_and_shrink_with_the_limit() {
    let topic = TopicSettings { history_messages: 1000, ..TopicSettings::default() };
    let engine = Running::start_with(Script::new(), |builder| {
        builder.settings(settings(|s| s.history_total_bytes = 100_000)).topics(TopicRules::new(topic))
    });
    let handle = engine.handle();
    let text = "x".repeat(996);
    for n in 0..200 {
        handle.publish(&format!("t.{}", n % 4), &text).unwrap();
    }
    let kept = || handle.topics(None, None, 10).iter().map(|topic| topic.history_bytes).collect::<Vec<_>>();
    assert_eq!(kept(), [25_000; 4], "each has given up its own oldest");
    assert_eq!(engine.metric("fanfare_history_bytes") as usize, 100_000);
    assert_eq!(engine.metric("fanfare_history_evicted_total") as usize, 100);
    let page = handle.history("t.0", None, 1000).unwrap();
    assert_eq!(page.publications.last().unwrap().offset(), 50, "the newest is there");
    reconfigure(&engine, |s| s.history_total_bytes = 40_000);
    eventually(true, || kept().iter().all(|bytes| (8_000..=10_000).contains(bytes)));
    assert!(engine.metric("fanfare_history_bytes") <= 40_000.0);
    reconfigure(&engine, |s| s.history_total_bytes = 0);
    for _ in 0..200 {
        handle.publish("t.0", &text).unwrap();
    }
    assert!(handle.topic("t.0").unwrap().history_bytes >= 200_000);
}
