//! Messages to and from one connection.

use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use fanfare::{Message, Pending, SendOutcome};
use tungstenite::Message as Frame;

use crate::kit::{Running, Script, What, settings};

#[test]
fn messages_arrive_in_order_and_keep_their_opcode() {
    let engine = Running::start(Script::new().on_message(|ctx, message| {
        let _ = ctx.send(message);
    }));
    let mut client = engine.connect();
    let sent: Vec<Frame> = (0..1000_u32)
        .map(|n| if n % 3 == 0 { Frame::binary(n.to_be_bytes().to_vec()) } else { Frame::text(n.to_string()) })
        .collect();
    for frame in &sent {
        client.0.write(frame.clone()).unwrap();
    }
    client.0.flush().unwrap();
    for frame in sent {
        assert_eq!(client.next(), frame);
    }
}

#[test]
fn a_message_in_many_fragments_is_one_message() {
    use tungstenite::protocol::frame::Frame as Raw;
    use tungstenite::protocol::frame::coding::{Data, OpCode};
    let engine = Running::start(Script::new().on_message(|ctx, message| {
        let _ = ctx.send(message);
    }));
    let mut client = engine.connect();
    let pieces = ["žlu", "", "ť", "oučký"];
    for (at, piece) in pieces.iter().enumerate() {
        let opcode = OpCode::Data(if at == 0 { Data::Text } else { Data::Continue });
        let last = at == pieces.len() - 1;
        client.0.send(Frame::Frame(Raw::message(piece.as_bytes().to_vec(), opcode, last))).unwrap();
    }
    assert_eq!(client.text(), pieces.concat());
}

#[test]
fn a_ping_is_answered_and_told_and_so_is_a_pong() {
    let engine = Running::start(Script::new().on_message(|ctx, _| {
        assert_eq!(ctx.ping(b"are you there"), SendOutcome::Written);
        assert_eq!(ctx.ping(&[b'x'; 200]), SendOutcome::Written, "a longer payload is cut");
    }));
    let mut client = engine.connect();
    client.0.send(Frame::Ping("hello".into())).unwrap();
    assert_eq!(client.next(), Frame::Pong("hello".into()));
    engine.log.wait_for(&What::Ping("hello".into()));
    client.send("ping me");
    assert_eq!(client.0.read().unwrap(), Frame::Ping("are you there".into()));
    assert_eq!(client.0.read().unwrap(), Frame::Ping(vec![b'x'; 125].into()));
    client.0.flush().unwrap();
    engine.log.wait_for(&What::Pong("are you there".into()));
    client.0.send(Frame::Pong("unasked".into())).unwrap();
    engine.log.wait_for(&What::Pong("unasked".into()));
}

#[test]
fn a_message_of_exactly_the_limit_passes_and_one_byte_more_ends_the_connection() {
    let settings = settings(|s| s.message_bytes = 1000);
    let engine = Running::start_with(
        Script::new().on_message(|ctx, message| {
            let _ = ctx.send(&message.len().to_string());
        }),
        |b| b.settings(settings),
    );
    let mut client = engine.connect();
    client.send(&"x".repeat(1000));
    assert_eq!(client.text(), "1000");
    client.send(&"x".repeat(1001));
    assert_eq!(client.closed().0, 1009);
    assert_eq!(engine.log.closed().0, fanfare::CloseCause::MessageTooBig);
}

#[test]
fn outcomes_tell_written_queued_dropped_and_closed_and_drain_comes_after_backpressure() {
    let (outcomes, seen) = mpsc::channel();
    let (outcomes, chunk) = (Mutex::new(outcomes), vec![b'x'; 64 << 10]);
    let script = Script::new()
        .on_message(move |ctx, _| {
            assert_eq!(ctx.pending(), Pending::default());
            let mut all = Vec::new();
            let mut highest = 0;
            while all.last() != Some(&SendOutcome::Dropped) {
                assert!(all.len() < 10_000, "nothing is ever dropped");
                all.push(ctx.send(Message::Binary(&chunk)));
                highest = highest.max(ctx.pending().bytes);
            }
            outcomes.lock().unwrap().send((all, highest)).unwrap();
        })
        .on_drain(|ctx, ()| {
            assert_eq!(ctx.pending(), Pending::default());
            let _ = ctx.send("drained");
            ctx.close(1000, "");
            assert_eq!(ctx.send("too late"), SendOutcome::Closed);
            assert_eq!(ctx.send_tracked("too late", 1), SendOutcome::Closed);
            assert_eq!(ctx.ping(b"too late"), SendOutcome::Closed);
        });
    let bound = 1 << 20;
    let engine = Running::start_with(script, |b| b.settings(settings(|s| s.pending_bytes = bound)));
    let mut client = engine.connect();
    client.send("go");
    let (outcomes, highest) = seen.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(highest <= bound, "{highest} bytes waited");
    let kinds = [SendOutcome::Written, SendOutcome::Queued, SendOutcome::Dropped];
    let counts = kinds.map(|kind| outcomes.iter().filter(|own| **own == kind).count());
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    let mut order = outcomes.clone();
    order.dedup();
    assert_eq!(order, kinds, "first written, then queued, then dropped");
    for _ in 0..counts[0] + counts[1] {
        assert_eq!(client.next().len(), 64 << 10);
    }
    assert_eq!(client.text(), "drained");
    assert_eq!(client.closed().0, 1000);
    assert_eq!(engine.log.count(|what| *what == What::Drain), 1);
    assert_eq!(engine.metric("fanfare_messages_direct_dropped_total"), 1.0);
}

#[test]
fn one_message_may_always_wait_however_large() {
    let settings = settings(|s| s.pending_bytes = 1000);
    let engine = Running::start_with(
        Script::new().on_message(|ctx, _| {
            assert_ne!(ctx.send(&"x".repeat(1 << 20)), SendOutcome::Dropped);
        }),
        |b| b.settings(settings),
    );
    let mut client = engine.connect();
    client.send("go");
    assert_eq!(client.text().len(), 1 << 20);
}

#[test]
fn the_number_of_waiting_messages_is_bounded_too() {
    let settings = settings(|s| s.pending_messages = 100);
    let (outcome, seen) = mpsc::channel();
    let outcome = Mutex::new(outcome);
    let engine = Running::start_with(
        Script::new().on_message(move |ctx, _| {
            // The socket is full after the first; then only so many may wait.
            let _ = ctx.send(Message::Binary(&vec![0; 3 << 20]));
            let dropped = (0..200).filter(|_| ctx.send("x") == SendOutcome::Dropped).count();
            outcome.lock().unwrap().send((ctx.pending().messages, dropped)).unwrap();
        }),
        |b| b.settings(settings),
    );
    let mut client = engine.connect();
    client.send("go");
    let (pending, dropped) = seen.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((pending, dropped), (100, 101));
    drop(client);
}

#[test]
fn a_tracked_message_is_reported_as_written() {
    let engine = Running::start(Script::new().on_message(|ctx, _| {
        assert_eq!(ctx.send_tracked("receipt wanted", 7), SendOutcome::Written);
    }));
    let mut client = engine.connect();
    client.send("go");
    assert_eq!(client.text(), "receipt wanted");
    engine.log.wait_for(&What::Sent(7, true));
}

#[test]
fn a_large_tracked_message_is_reported_only_when_the_kernel_has_all_of_it() {
    let engine = Running::start(Script::new().on_message(|ctx, message| {
        if message == Message::Text("large") {
            let _ = ctx.send_tracked(Message::Binary(&vec![0; 4 << 20]), 1);
        }
    }));
    let (mut client, id) = engine.connect_known();
    client.send("large");
    client.send("still here");
    engine.log.wait_for(&What::Message("still here".into()));
    assert!(!engine.log.of(id).contains(&What::Sent(1, true)), "4 MiB do not fit into a socket nobody reads from");
    assert_eq!(client.next().len(), 4 << 20);
    engine.log.wait_for(&What::Sent(1, true));
    engine.log.wait_for(&What::Drain);
}

#[test]
fn a_tracked_message_is_reported_as_lost_when_the_connection_dies_first() {
    let engine = Running::start(Script::new().on_message(|ctx, _| {
        for ticket in 0..8 {
            let _ = ctx.send_tracked(Message::Binary(&vec![0; 1 << 20]), ticket);
        }
    }));
    let (mut client, id) = engine.connect_known();
    client.send("go");
    engine.log.wait_for(&What::Message("go".into()));
    client.reset();
    engine.log.closed();
    let calls = engine.log.of(id);
    let of = |ticket| calls.iter().filter(|what| matches!(what, What::Sent(own, _) if *own == ticket)).count();
    // pending_bytes is 4 MiB: some were dropped, and those are not reported.
    assert!((0..8).all(|ticket| of(ticket) <= 1), "{calls:?}");
    assert!(calls.iter().any(|what| matches!(what, What::Sent(_, false))), "{calls:?}");
    assert!(matches!(calls.last(), Some(What::Close(..))), "{calls:?}");
}

#[test]
fn every_tracked_message_is_reported_before_the_close() {
    let engine = Running::start(Script::new().on_message(|ctx, message| {
        if message == Message::Text("large") {
            let _ = ctx.send_tracked(Message::Binary(&vec![0; 3 << 20]), 1);
        }
        let _ = ctx.send_tracked("bye", 2);
        ctx.close(1000, "done");
    }));
    let (mut small, first) = engine.connect_known();
    small.send("small");
    assert_eq!(small.text(), "bye");
    assert_eq!(small.closed(), (1000, "done".into()));
    let close = What::Close(fanfare::CloseCause::Application, 1000, "done".into());
    engine.log.wait_for(&close);
    assert_eq!(engine.log.of(first)[2..], [What::Sent(2, true), close.clone()]);

    let (mut large, second) = engine.connect_known();
    large.send("large");
    engine.log.wait(|events| events.iter().any(|event| *event == (second, close.clone())).then_some(()));
    // They may still be written, but nobody can tell the handler any more.
    assert_eq!(engine.log.of(second)[2..], [What::Sent(1, false), What::Sent(2, false), close]);
    assert_eq!(large.next().len(), 3 << 20);
    assert_eq!(large.text(), "bye");
    assert_eq!(large.closed(), (1000, "done".into()));
}
