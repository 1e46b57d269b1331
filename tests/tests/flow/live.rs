//! Settings that change while the engine runs hold for the connections that are there.

use std::io::{Read, Write};
use std::time::Duration;

use fanfare::{CloseCause, NameError, PublishError, Subscribe, SubscribeError, TopicCharacters};

use crate::kit::{Client, Running, Script, What, eventually, http, masked_text, tcp};
use crate::{echo, raw, read_to_close, reconfigure, with};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_lifetime_given_later_ends_all_connections_that_are_older() {
    let engine = Running::start_with(echo(), |builder| builder.shards(2));
    let mut clients: Vec<Client> = (0..300).map(|_| engine.connect()).collect();
    reconfigure(&engine, |s| s.lifetime = MS);
    for client in &mut clients {
        assert_eq!(client.closed().0, 1012);
    }
    eventually(300, || engine.log.count(|what| matches!(what, What::Close(CloseCause::Lifetime, ..))));
}

#[test]
fn limits_of_silence_given_later_are_kept() {
    let engine = with(echo(), |s| (s.ping_interval, s.idle_timeout) = (Duration::ZERO, Duration::ZERO));
    let mut first = raw(engine.addr());
    reconfigure(&engine, |s| s.ping_interval = MS * 50);
    let mut ping = [0; 2];
    first.read_exact(&mut ping).unwrap();
    assert_eq!(ping, [0x89, 0], "it is pinged though pings were off when it came");
    reconfigure(&engine, |s| s.idle_timeout = MS * 200);
    let (_, code, reason) = read_to_close(&mut first);
    assert_eq!((code, &*reason), (1001, CloseCause::IdleTimeout.text()));
    reconfigure(&engine, |s| (s.idle_timeout, s.message_idle_timeout) = (Duration::ZERO, Duration::ZERO));
    let mut second = raw(engine.addr());
    reconfigure(&engine, |s| s.message_idle_timeout = MS * 100);
    assert_eq!(read_to_close(&mut second).2, CloseCause::MessageIdle.text());
}

#[test]
fn a_head_that_is_under_way_has_the_new_time_limit() {
    let engine = with(echo(), |s| s.handshake_timeout = Duration::from_secs(600));
    let mut late = tcp(engine.addr());
    late.write_all(b"GET / HT").unwrap();
    eventually(1, || engine.metric("fanfare_tcp_connections") as u64);
    reconfigure(&engine, |s| s.handshake_timeout = MS * 50);
    let (head, _) = http(&mut late, "");
    assert!(head.starts_with("http/1.1 408 "), "{head}");
}

#[test]
fn bounds_of_messages_and_subscriptions_change() {
    let script = Script::new().on_message(|ctx, message| {
        let topic = String::from_utf8(message.payload().to_vec()).unwrap();
        let outcome = ctx.subscribe(&topic, Subscribe::default());
        let _ = ctx.send(outcome.map_or_else(|error| error.label(), |_| "subscribed"));
    });
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("a");
    assert_eq!(client.text(), "subscribed");
    reconfigure(&engine, |s| s.subscriptions_max = 1);
    client.send("b");
    assert_eq!(client.text(), "too_many_subscriptions");
    reconfigure(&engine, |s| s.subscriptions_max = 2);
    client.send("b");
    assert_eq!(client.text(), "subscribed");
    reconfigure(&engine, |s| s.message_bytes = 3);
    client.send("four");
    assert_eq!(client.closed().0, 1009);
    assert_eq!(engine.handle().publish("a", "four"), Err(PublishError::TooBig { limit: 3 }));
}

#[test]
fn what_names_must_be_changes_for_new_topics_and_patterns() {
    let script = Script::new().on_message(|ctx, message| {
        let topic = String::from_utf8(message.payload().to_vec()).unwrap();
        let _ = match ctx.subscribe(&topic, Subscribe::default()) {
            Ok(_) => ctx.send("subscribed"),
            Err(SubscribeError::Name(error)) => ctx.send(&error.to_string()),
            Err(error) => ctx.send(error.label()),
        };
    });
    let engine = Running::start(script);
    let handle = engine.handle();
    handle.publish("big room", "x").unwrap();
    reconfigure(&engine, |s| (s.topic_name_bytes, s.topic_characters) = (8, TopicCharacters::Word));
    handle.publish("big room", "it is there").unwrap();
    let publish = |topic: &str| handle.publish(topic, "x").map(|_| ());
    let other = PublishError::Name(NameError::Character { found: ' ', allowed: TopicCharacters::Word });
    assert_eq!(publish("a room"), Err(other));
    assert_eq!(publish("123456789"), Err(PublishError::Name(NameError::TooLong { bytes: 9, limit: 8 })));
    assert_eq!(publish("12345678"), Ok(()));
    let mut client = engine.connect();
    for (name, answer) in [
        ("a room", "topic_characters is 'word'"),
        ("a room.*", "topic_characters is 'word'"),
        ("1234567.>", "at most 8 bytes, this one has 9"),
        ("123456.>", "subscribed"),
        ("big room", "subscribed"),
    ] {
        client.send(name);
        let text = client.text();
        assert!(text.contains(answer), "{name}: {text}");
    }
}

#[test]
fn a_storm_of_changes_disturbs_nobody() {
    let engine = with(echo(), |s| s.ping_interval = MS * 20);
    let mut clients: Vec<_> = (0..20).map(|_| engine.connect()).collect();
    for round in 0..200_u32 {
        reconfigure(&engine, |s| {
            s.ping_interval = MS * (20 + round % 7);
            s.lifetime = Duration::from_secs(u64::from(round % 2) * 3600);
            s.messages_per_s = [0, 10_000][round as usize % 2];
            s.pending_bytes = 1 << (16 + round % 5);
        });
        for client in &mut clients {
            client.send("x");
        }
        for client in &mut clients {
            assert_eq!(client.text(), "x");
        }
    }
    let mut last = raw(engine.addr());
    last.write_all(&masked_text("x")).unwrap();
    assert_eq!(engine.log.count(|what| matches!(what, What::Close(..))), 0);
}
