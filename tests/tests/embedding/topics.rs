//! Topics as a handler uses them.

use std::collections::BTreeSet;
use std::thread;

use fanfare::{
    DeliveryPolicy, Encoding, EncodingId, EngineHandle, Message, NameError, Opcode, Position, Publication, Publish,
    PublishError, Subscribe, SubscribeError, TopicRules, TopicSettings,
};

use crate::kit::{Client, Running, Script, eventually, settings};

/// Subscribes every connection to the topic or pattern that its path names.
fn by_path() -> Script {
    Script::new().on_open(|ctx, ()| {
        let topic = ctx.data()[1..].to_owned();
        ctx.subscribe_with(&topic, Subscribe::default(), &mut |_| Some("subscribed".into())).unwrap();
    })
}

#[track_caller]
fn subscriber(engine: &Running, topic: &str) -> Client {
    let (mut client, _) = Client::connect(engine.addr(), &format!("/{topic}"));
    assert_eq!(client.text(), "subscribed");
    client
}

fn with_history(messages: usize) -> TopicRules {
    TopicRules::new(TopicSettings { history_messages: messages, ..TopicSettings::default() })
}

/// Everything that was expected is accounted for.
#[track_caller]
fn law_holds(handle: &EngineHandle, topic: &str) {
    eventually(0, || handle.topic(topic).unwrap().deliveries.in_flight);
    let d = handle.topic(topic).unwrap().deliveries;
    assert_eq!(d.expected + d.replayed, d.written + d.conflated + d.dropped() + d.discarded + d.queued, "{d:?}");
}

#[test]
fn publishing_to_all_includes_oneself_and_to_others_excludes_only_oneself() {
    let script = by_path().on_message(|ctx, message| {
        let published = match message {
            Message::Text("others") => ctx.publish_others("t", message).unwrap(),
            Message::Text("with") => ctx.publish_with("t", message, Publish::default().others().key("k")).unwrap(),
            _ => ctx.publish("t", message).unwrap(),
        };
        assert_eq!(published.subscribers, 3);
        let _ = ctx.send("done");
    });
    let engine = Running::start_with(script, |b| b.shards(2));
    let mut clients: Vec<_> = (0..3).map(|_| subscriber(&engine, "t")).collect();
    for (text, own) in [("all", true), ("others", false), ("with", false)] {
        clients[1].send(text);
        let expected: &[&str] = if own { &[text, "done"] } else { &["done"] };
        assert_eq!(clients[1].texts(expected.len()), expected);
        assert_eq!(clients[0].text(), text);
        assert_eq!(clients[2].text(), text);
    }
    law_holds(engine.handle(), "t");
    assert_eq!(engine.handle().topic("t").unwrap().deliveries.dropped_own, 2);
}

#[test]
fn the_greeting_comes_first_then_what_was_missed_then_what_is_new() {
    let script = Script::new().on_message(|ctx, message| {
        let Message::Text(position) = message else { panic!() };
        let since: Position = position.parse().unwrap();
        let _ = ctx.send("before");
        let subscribed = ctx
            .subscribe_with("t", Subscribe::default().since(since), &mut |subscribed| {
                Some(format!("recovered {:?} up to {}", subscribed.recovered, subscribed.offset))
            })
            .unwrap();
        assert_eq!((subscribed.recovered, subscribed.already), (Some(true), false));
        ctx.publish("t", "new").unwrap();
    });
    let engine = Running::start_with(script, |b| b.topics(with_history(100)));
    let first = engine.handle().publish("t", "1").unwrap();
    for n in 2..=4 {
        engine.handle().publish("t", &n.to_string()).unwrap();
    }
    let mut client = engine.connect();
    client.send(&Position { epoch: first.epoch, offset: 1 }.to_string());
    assert_eq!(client.texts(6), ["before", "recovered Some(true) up to 4", "2", "3", "4", "new"]);
}

#[test]
fn recovery_is_whole_or_refused_and_history_gives_the_newest() {
    let script = Script::new().on_message(|ctx, message| {
        let Message::Text(text) = message else { panic!() };
        let how = match text.parse() {
            Ok(position) => Subscribe::default().since(position),
            Err(_) => Subscribe::default().history(text.parse().unwrap()),
        };
        ctx.unsubscribe("t");
        ctx.subscribe_with("t", how, &mut |subscribed| Some(format!("{:?}", subscribed.recovered))).unwrap();
        let _ = ctx.send("end");
    });
    let engine = Running::start_with(script, |b| b.topics(with_history(3)));
    let published: Vec<_> = (1..=5).map(|n| engine.handle().publish("t", &n.to_string()).unwrap()).collect();
    let epoch = published[4].epoch;
    let mut client = engine.connect();
    let at = |offset| Position { epoch, offset }.to_string();
    let other = Position { epoch: fanfare::Epoch(epoch.0 ^ 1), offset: 4 }.to_string();
    for (ask, expected) in [
        (at(2), &["Some(true)", "3", "4", "5", "end"][..]),
        (at(5), &["Some(true)", "end"]),
        (at(1), &["Some(false)", "end"]),
        (at(6), &["Some(false)", "end"]),
        (other, &["Some(false)", "end"]),
        ("2".into(), &["None", "4", "5", "end"]),
        ("99".into(), &["None", "3", "4", "5", "end"]),
        ("0".into(), &["None", "end"]),
    ] {
        client.send(&ask);
        assert_eq!(client.texts(expected.len()), expected, "{ask}");
    }
}

#[test]
fn subscribing_again_changes_nothing_and_says_so() {
    let script = Script::new().on_message(|ctx, _| {
        assert!(!ctx.is_subscribed("t"));
        assert!(!ctx.subscribe("t", Subscribe::default()).unwrap().already);
        assert!(ctx.subscribe("t", Subscribe::default().history(5)).unwrap().already);
        assert!(!ctx.subscribe("p.*", Subscribe::default()).unwrap().already);
        assert!(ctx.subscribe("p.*", Subscribe::default()).unwrap().already);
        assert!(ctx.is_subscribed("t") && ctx.is_subscribed("p.*") && !ctx.is_subscribed("p.x"));
        assert_eq!(
            ctx.subscriptions().into_iter().collect::<BTreeSet<_>>(),
            BTreeSet::from(["t".into(), "p.*".into()])
        );
        ctx.publish("t", "once").unwrap();
        assert!(ctx.unsubscribe("t") && !ctx.unsubscribe("t") && !ctx.unsubscribe("never"));
        assert!(ctx.unsubscribe("p.*") && !ctx.unsubscribe("p.*"));
        assert!(ctx.subscriptions().is_empty());
        let _ = ctx.send("end");
    });
    let engine = Running::start_with(script, |b| b.topics(with_history(9)));
    let mut client = engine.connect();
    client.send("go");
    assert_eq!(client.texts(2), ["once", "end"]);
}

#[test]
fn a_pattern_reaches_topics_made_before_and_after_it_and_one_copy_comes_of_each() {
    let script = Script::new().on_open(|ctx, ()| {
        for topic in ["prices.*", "prices.>", "prices.eur"] {
            ctx.subscribe(topic, Subscribe::default()).unwrap();
        }
        let _ = ctx.send("subscribed");
    });
    let engine = Running::start_with(script, |b| b.shards(2));
    engine.handle().publish("prices.eur", "before").unwrap();
    let mut client = engine.connect();
    assert_eq!(client.text(), "subscribed");
    for topic in ["prices.eur", "prices.usd", "prices.eur.spot"] {
        let published = engine.handle().publish(topic, topic).unwrap();
        assert_eq!(published.subscribers, 1, "{topic}");
        assert_eq!(client.text(), topic);
    }
    engine.handle().publish("weather", "not this").unwrap();
    engine.handle().publish("prices.usd", "end").unwrap();
    assert_eq!(client.text(), "end");
}

#[test]
fn what_cannot_be_subscribed_to_is_said() {
    let script = Script::new().on_message(|ctx, _| {
        let mut refused = |topic: &str, how| {
            let mut greeted = false;
            let result = ctx.subscribe_with(topic, how, &mut |_| {
                greeted = true;
                None
            });
            assert!(!greeted);
            result.unwrap_err()
        };
        assert_eq!(refused("", Subscribe::default()), SubscribeError::Name(NameError::Empty));
        assert_eq!(refused("a.>.b", Subscribe::default()), SubscribeError::Name(NameError::TailNotLast));
        assert_eq!(refused("a.*", Subscribe::default().history(1)), SubscribeError::PatternRecovery);
        let unknown = Subscribe::default().encoding(EncodingId::custom(0));
        assert_eq!(refused("a", unknown), SubscribeError::UnknownEncoding);
        ctx.subscribe("a", Subscribe::default()).unwrap();
        ctx.subscribe("b.*", Subscribe::default()).unwrap();
        let full = SubscribeError::TooManySubscriptions { limit: 2 };
        assert_eq!(ctx.subscribe("c", Subscribe::default()).unwrap_err(), full);
        assert_eq!(ctx.subscribe("c.*", Subscribe::default()).unwrap_err(), full);
        ctx.close(1000, "");
        assert_eq!(ctx.subscribe("d", Subscribe::default()).unwrap_err(), SubscribeError::Closed);
        assert!(!ctx.unsubscribe("a"), "a closing connection has none");
    });
    let engine = Running::start_with(script, |b| b.settings(settings(|s| s.subscriptions_max = 2)));
    let mut client = engine.connect();
    client.send("go");
    assert_eq!(client.closed().0, 1000);
}

#[test]
fn what_cannot_be_published_is_said_and_not_sequenced() {
    let engine =
        Running::start_with(Script::new(), |b| b.settings(settings(|s| (s.message_bytes, s.topics_max) = (10, 1))));
    let handle = engine.handle();
    let refused = |topic: &str, text: &str| handle.publish(topic, text).unwrap_err();
    assert_eq!(refused("a.*", "x"), PublishError::Name(NameError::Wildcard));
    assert_eq!(refused("a", "01234567890"), PublishError::TooBig { limit: 10 });
    assert!(handle.topic("a").is_none(), "a refused publication makes no topic");
    assert_eq!(handle.publish("a", "0123456789").unwrap().offset, 1);
    assert_eq!(refused("b", "x"), PublishError::TooManyTopics { limit: 1 });
}

struct Shouting;

impl Encoding for Shouting {
    fn name(&self) -> &'static str {
        "shouting"
    }

    fn encode(&self, publication: &Publication, out: &mut Vec<u8>) -> Opcode {
        let text = String::from_utf8_lossy(publication.payload()).to_uppercase();
        let key = publication.key().unwrap_or("-");
        out.extend(format!("{} {} {key} {text}", publication.topic(), publication.offset()).into_bytes());
        Opcode::Text
    }
}

#[test]
fn each_subscriber_gets_the_encoding_it_asked_for() {
    let script = Script::new().on_open(|ctx, ()| {
        let encoding = if ctx.data() == "/loud" { EncodingId::custom(0) } else { EncodingId::RAW };
        ctx.subscribe("t", Subscribe::default().encoding(encoding).history(9)).unwrap();
        let _ = ctx.send("subscribed");
    });
    let engine = Running::start_with(script, |b| b.encoding(Shouting).topics(with_history(9)).shards(2));
    engine.handle().publish("t", "first").unwrap();
    let (mut loud, _) = Client::connect(engine.addr(), "/loud");
    let (mut raw, _) = Client::connect(engine.addr(), "/raw");
    assert_eq!(loud.texts(2), ["t 1 - FIRST", "subscribed"]);
    assert_eq!(raw.texts(2), ["first", "subscribed"]);
    engine.handle().publish_with("t", "second", Publish::default().key("k")).unwrap();
    assert_eq!(loud.text(), "t 2 k SECOND");
    assert_eq!(raw.text(), "second");
    engine.handle().publish("t", &vec![b'a', 0xff]).unwrap();
    assert_eq!(loud.text(), "t 3 - A\u{fffd}");
    assert_eq!(raw.next(), tungstenite::Message::binary(vec![b'a', 0xff]));
}

#[test]
fn a_slow_subscriber_under_conflate_gets_the_newest_of_each_key() {
    let mut rules = TopicRules::default();
    let conflate = TopicSettings { policy: DeliveryPolicy::Conflate, ..TopicSettings::default() };
    rules.add("state", conflate).unwrap();
    let script = by_path().on_message(|ctx, _| {
        // Fills the socket, so that what follows has to wait.
        let _ = ctx.send(Message::Binary(&vec![0; 3 << 20]));
    });
    let engine = Running::start_with(script, |b| b.topics(rules));
    let mut client = subscriber(&engine, "state");
    client.send("stall me");
    eventually(true, || engine.metric("fanfare_writes_blocked_total") > 0.0);
    for n in 0..100 {
        let key = ["a", "b"][n % 2];
        let text = format!("{key}{n}");
        engine.handle().publish_with("state", &text, Publish::default().key(key)).unwrap();
    }
    eventually(0, || engine.handle().topic("state").unwrap().deliveries.in_flight);
    assert_eq!(client.next().len(), 3 << 20);
    assert_eq!(client.texts(2), ["a98", "b99"]);
    law_holds(engine.handle(), "state");
    assert_eq!(engine.handle().topic("state").unwrap().deliveries.conflated, 98);
}

#[test]
fn many_threads_publish_and_every_subscriber_sees_all_once_and_in_one_order() {
    const THREADS: usize = 8;
    const EACH: usize = 500;
    let engine = Running::start_with(by_path(), |b| b.shards(2));
    let clients: Vec<_> = (0..6).map(|_| subscriber(&engine, "t")).collect();
    let readers: Vec<_> =
        clients.into_iter().map(|mut client| thread::spawn(move || client.texts(THREADS * EACH))).collect();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let handle = engine.handle();
            scope.spawn(move || {
                for n in 0..EACH {
                    let published = handle.publish("t", &format!("{thread}:{n}")).unwrap();
                    assert_eq!(published.subscribers, 6);
                }
            });
        }
    });
    let seen: Vec<Vec<String>> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert!(seen.iter().all(|own| *own == seen[0]), "one order for all");
    assert_eq!(seen[0].iter().collect::<BTreeSet<_>>().len(), THREADS * EACH, "each once");
    for thread in 0..THREADS {
        let prefix = format!("{thread}:");
        let of_thread: Vec<_> = seen[0].iter().filter_map(|text| text.strip_prefix(&prefix)).collect();
        assert_eq!(of_thread, (0..EACH).map(|n| n.to_string()).collect::<Vec<_>>(), "each thread's own order is kept");
    }
    law_holds(engine.handle(), "t");
    let deliveries = engine.handle().topic("t").unwrap().deliveries;
    assert_eq!((deliveries.written, deliveries.expected), (24_000, 24_000));
}
