//! A connection sees what its handler does in the order it was done.

use std::io::{Read, Write};

use fanfare::{Subscribe, TopicRules, TopicSettings};

use crate::kit::{self, Client, Ctx, Running, Script, What};

/// A connection that is subscribed to `t` and whose handler does this at its first message.
fn subscribed(act: impl Fn(&mut Ctx<'_>) + Send + Sync + 'static) -> (Running, Client) {
    let script = Script::new()
        .on_open(|ctx, ()| {
            ctx.subscribe("t", Subscribe::default()).unwrap();
        })
        .on_message(move |ctx, _| act(ctx));
    let mut rules = TopicRules::default();
    rules.add("t", TopicSettings { history_messages: 100, ..TopicSettings::default() }).unwrap();
    rules.add("old", TopicSettings { history_messages: 100, ..TopicSettings::default() }).unwrap();
    let engine = Running::start_with(script, |b| b.topics(rules).shards(2));
    let mut client = engine.connect();
    client.send("act");
    (engine, client)
}

#[test]
fn a_publication_and_then_a_message_arrive_in_this_order() {
    let (_engine, mut client) = subscribed(|ctx| {
        ctx.publish("t", "published").unwrap();
        let _ = ctx.send("sent");
    });
    assert_eq!(client.texts(2), ["published", "sent"]);
}

#[test]
fn publications_and_messages_that_take_turns_arrive_in_turns() {
    let (_engine, mut client) = subscribed(|ctx| {
        for n in 0..5 {
            let _ = ctx.send(&format!("sent {n}"));
            ctx.publish("t", &format!("published {n}")).unwrap();
        }
        let _ = ctx.send("end");
    });
    let expected: Vec<_> = (0..5).flat_map(|n| [format!("sent {n}"), format!("published {n}")]).collect();
    assert_eq!(client.texts(10), expected);
    assert_eq!(client.text(), "end");
}

#[test]
fn a_publication_and_then_a_close_arrive_in_this_order() {
    let (engine, mut client) = subscribed(|ctx| {
        ctx.publish("t", "published").unwrap();
        let _ = ctx.send("sent");
        ctx.close(4000, "bye");
        assert_eq!(ctx.send("too late"), fanfare::SendOutcome::Closed);
    });
    assert_eq!(client.texts(2), ["published", "sent"]);
    assert_eq!(client.closed(), (4000, "bye".into()));
    assert_eq!(engine.log.closed().1, 4000);
}

#[test]
fn a_publication_before_the_end_of_the_subscription_still_arrives() {
    let (_engine, mut client) = subscribed(|ctx| {
        ctx.publish("t", "published").unwrap();
        assert!(ctx.unsubscribe("t"));
        ctx.publish("t", "not any more").unwrap();
        let _ = ctx.send("end");
    });
    assert_eq!(client.texts(2), ["published", "end"]);
}

#[test]
fn a_ping_does_not_overtake_what_was_done_before_it() {
    let (_engine, mut client) = subscribed(|ctx| {
        ctx.publish("t", "published").unwrap();
        let _ = ctx.send("sent");
        let _ = ctx.ping(b"ping");
        let _ = ctx.send("end");
    });
    assert_eq!(client.texts(2), ["published", "sent"]);
    assert_eq!(client.0.read().unwrap(), tungstenite::Message::Ping("ping".into()));
    assert_eq!(client.text(), "end");
}

#[test]
fn a_greeting_does_not_overtake_what_was_done_before_it() {
    let (_engine, mut client) = subscribed(|ctx| {
        ctx.publish("old", "missed").unwrap();
        ctx.publish("t", "published").unwrap();
        let _ = ctx.send("sent");
        ctx.subscribe_with("old", Subscribe::default().history(9), &mut |_| Some("greeting".into())).unwrap();
        let _ = ctx.send("end");
    });
    assert_eq!(client.texts(5), ["published", "sent", "greeting", "missed", "end"]);
}

#[test]
fn more_messages_behind_a_publication_than_may_wait_end_in_a_drain() {
    let script = Script::new()
        .on_open(|ctx, ()| {
            ctx.subscribe("t", Subscribe::default()).unwrap();
        })
        .on_message(|ctx, _| {
            ctx.publish("t", "published").unwrap();
            let chunk = vec![b'x'; 64 << 10];
            while ctx.send(&chunk) != fanfare::SendOutcome::Dropped {}
        })
        .on_drain(|ctx, ()| {
            let _ = ctx.send("drained");
        });
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("go");
    engine.log.wait_for(&What::Message("go".into()));
    assert_eq!(client.text(), "published");
    loop {
        match client.next() {
            tungstenite::Message::Text(text) => break assert_eq!(text.as_str(), "drained"),
            chunk => assert_eq!(chunk.len(), 64 << 10),
        }
    }
}

#[test]
fn what_one_message_publishes_comes_before_what_the_next_one_sends() {
    let script = Script::new().on_open(|ctx, ()| assert!(ctx.subscribe("t", Subscribe::default()).is_ok())).on_message(
        |ctx, message| match message {
            fanfare::Message::Text("publish") => drop(ctx.publish("t", "published").unwrap()),
            _ => drop(ctx.send("sent")),
        },
    );
    let engine = Running::start(script);
    for _ in 0..50 {
        let mut stream = kit::tcp(engine.addr());
        stream.write_all(kit::upgrade_head("/").as_bytes()).unwrap();
        kit::read_answer(&mut stream);
        // Both in one segment: no turn lies between them. A ping and a close behind a publication wait for it, too.
        let mut both = [kit::masked_text("publish"), kit::masked_text("send"), kit::masked_text("publish")].concat();
        both.extend_from_slice(&[0x89, 0x80, 0, 0, 0, 0]);
        both.extend_from_slice(&kit::masked_text("publish"));
        both.extend_from_slice(&[0x88, 0x80, 0, 0, 0, 0]);
        stream.write_all(&both).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        let published = [&[0x81, 9][..], b"published"].concat();
        let sent = [&[0x81, 4][..], b"sent"].concat();
        let expected = [&published[..], &sent, &published, &[0x8A, 0], &published, &[0x88, 0]].concat();
        assert_eq!(received, expected);
    }
}
