//! Topics: rules that change, histories that are removed, rates, reserved names; and what is counted for a connection.

use fanfare::{ConnectionInfo, DeliveryPolicy, Pattern, Subscribe, TopicRules, TopicSettings};

use crate::kit::{Running, Script, eventually};

fn keeping(messages: usize) -> TopicSettings {
    TopicSettings { history_messages: messages, ..TopicSettings::default() }
}

/// Subscribes to what a message names.
fn subscriber() -> Script {
    Script::new().on_message(|ctx, message| {
        let topic = String::from_utf8(message.payload().to_vec()).unwrap();
        ctx.subscribe(&topic, Subscribe::default()).unwrap();
        let _ = ctx.send("subscribed");
    })
}

#[test]
fn new_rules_hold_for_new_topics_at_once_and_soon_for_those_that_exist() {
    let engine = Running::start_with(Script::new(), |builder| builder.topics(TopicRules::new(keeping(50))));
    let handle = engine.handle();
    // More than are done at once.
    let names: Vec<String> = (0..2500).map(|n| format!("room.{n}")).collect();
    for name in &names {
        for _ in 0..3 {
            handle.publish(name, "x").unwrap();
        }
    }
    let mut rules = TopicRules::new(keeping(2));
    rules.add("late", TopicSettings { policy: DeliveryPolicy::DropOldest, ..keeping(7) }).unwrap();
    handle.set_topic_rules(rules);
    handle.publish("late", "x").unwrap();
    assert_eq!(handle.topic("late").unwrap().settings.history_messages, 7, "a new topic follows the new rules");
    let kept = |name: &String| {
        let topic = handle.topic(name).unwrap();
        (topic.settings.history_messages, topic.history_messages)
    };
    eventually(2500, || names.iter().filter(|name| kept(name) == (2, 2)).count());
    let page = handle.history(&names[0], None, 10).unwrap();
    let offsets: Vec<u64> = page.publications.iter().map(|publication| publication.offset()).collect();
    assert_eq!(offsets, [2, 3], "the newest are kept");
    // And back: what was let go does not come back, what comes now is kept.
    handle.set_topic_rules(TopicRules::new(keeping(50)));
    eventually(50, || handle.topic(&names[2499]).unwrap().settings.history_messages);
    handle.publish(&names[2499], "x").unwrap();
    assert_eq!(handle.topic(&names[2499]).unwrap().history_messages, 3);
}

#[test]
fn a_history_that_is_removed_cannot_be_recovered_from_and_the_order_goes_on() {
    let engine = Running::start_with(Script::new(), |builder| builder.topics(TopicRules::new(keeping(50))));
    let handle = engine.handle();
    assert_eq!(handle.remove_history("nobody"), None);
    let first = handle.publish("news", "one").unwrap();
    handle.publish("news", "two").unwrap();
    assert_eq!(handle.remove_history("news"), Some(2));
    let topic = handle.topic("news").unwrap();
    assert_eq!((topic.offset, topic.history_messages, topic.history_bytes), (2, 0, 0));
    let since = fanfare::Position { epoch: first.epoch, offset: 1 };
    assert!(!handle.history("news", Some(since), 10).unwrap().complete, "there was something, and it is gone");
    let third = handle.publish("news", "three").unwrap();
    assert_eq!((third.epoch, third.offset), (first.epoch, 3));
    let since = fanfare::Position { epoch: first.epoch, offset: 2 };
    assert!(handle.history("news", Some(since), 10).unwrap().complete);
    assert_eq!(handle.remove_history("news"), Some(1));
    assert_eq!(handle.remove_history("news"), Some(0));
}

#[test]
fn the_rate_of_a_topic_is_told_and_decays() {
    let engine = Running::start(Script::new());
    let handle = engine.handle();
    let rate = |name: &str| handle.topic(name).unwrap().publications_per_s;
    handle.publish("quiet", "x").unwrap();
    for _ in 0..1000 {
        handle.publish("busy", "x").unwrap();
    }
    assert!(rate("busy") > 100.0 && rate("quiet") < 2.0, "{} {}", rate("busy"), rate("quiet"));
    let before = rate("busy");
    eventually(true, || rate("busy") < before / 2.0);
}

#[test]
fn patterns_that_do_not_name_it_leave_out_what_begins_with_a_dollar() {
    let engine = Running::start(subscriber());
    let handle = engine.handle();
    // Made before one subscription and after the other.
    handle.publish("$sys.early", "x").unwrap();
    let (mut all, mut sys) = (engine.connect(), engine.connect());
    all.send(">");
    assert_eq!(all.text(), "subscribed");
    sys.send("$sys.>");
    assert_eq!(sys.text(), "subscribed");
    for topic in ["$sys.early", "$sys.late"] {
        assert_eq!(handle.publish(topic, topic).unwrap().subscribers, 1);
        assert_eq!(sys.text(), topic);
    }
    assert_eq!(handle.publish("plain", "plain").unwrap().subscribers, 1);
    assert_eq!(all.text(), "plain", "nothing of the reserved topics came before it");
    let list = |pattern: &str| handle.topics(Some(&Pattern::new(pattern).unwrap()), None, 10).len();
    assert_eq!((list(">"), list("$sys.*")), (1, 2));
}

#[test]
fn what_a_connection_has_sent_and_got_is_counted() {
    let engine = Running::start(subscriber());
    let (mut client, id) = engine.connect_known();
    let info = || -> ConnectionInfo { engine.handle().connection(id).wait().unwrap().unwrap() };
    let before = info();
    assert!(before.bytes_in > 100 && before.bytes_out > 100, "the upgrade: {before:?}");
    assert_eq!(before.messages_in, 0);
    client.send("news");
    assert_eq!(client.text(), "subscribed");
    let subscribed = info();
    // A masked frame of four bytes, and an answer of ten.
    assert_eq!(subscribed.bytes_in - before.bytes_in, 6 + 4);
    assert_eq!(subscribed.bytes_out - before.bytes_out, 2 + 10);
    assert_eq!(subscribed.messages_in, 1);
    // Straight to the socket, and through the queue.
    engine.handle().publish("news", "direct").unwrap();
    assert_eq!(client.text(), "direct");
    eventually(subscribed.bytes_out + 2 + 6, || info().bytes_out);
    engine.handle().send(id, "queued").unwrap();
    assert_eq!(client.text(), "queued");
    eventually(subscribed.bytes_out + 2 + 6 + 2 + 6, || info().bytes_out);
}
