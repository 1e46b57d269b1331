//! What any thread may do with an engine.

use std::collections::BTreeSet;
use std::time::Duration;

use fanfare::{
    ConnectionId, ConnectionState, EngineError, EngineHandle, Message, Pattern, Position, Publish, Subscribe,
    SubscribeError, TopicRules, TopicSettings,
};

use crate::kit::{Client, Running, Script, What, eventually, settings};

fn list(handle: &EngineHandle, after: Option<ConnectionId>, limit: usize) -> Vec<fanfare::ConnectionInfo> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(handle.connections(after, limit))
}

fn rules() -> TopicRules {
    TopicRules::new(TopicSettings { history_messages: 3, ..TopicSettings::default() })
}

#[test]
fn a_connection_can_be_sent_to_subscribed_and_unsubscribed_from_outside() {
    let engine = Running::start_with(Script::new(), |b| b.shards(2).topics(rules()));
    let handle = engine.handle();
    let (mut client, id) = engine.connect_known();
    handle.send(id, "text").unwrap();
    handle.send(id, &vec![1, 2, 3]).unwrap();
    assert_eq!(client.text(), "text");
    assert_eq!(client.next(), tungstenite::Message::binary(vec![1, 2, 3]));
    handle.publish("t", "missed").unwrap();
    let subscribed = handle.subscribe(id, "t", Subscribe::default().history(1)).wait().unwrap().unwrap().unwrap();
    assert_eq!((subscribed.offset, subscribed.already), (1, false));
    assert!(handle.subscribe(id, "t", Subscribe::default()).wait().unwrap().unwrap().unwrap().already);
    let refused = handle.subscribe(id, "p.*", Subscribe::default().history(1)).wait().unwrap().unwrap();
    assert_eq!(refused.unwrap_err(), SubscribeError::PatternRecovery);
    handle.publish("t", "live").unwrap();
    handle.send(id, "behind").unwrap();
    assert_eq!(client.texts(3), ["missed", "live", "behind"]);
    assert_eq!(handle.unsubscribe(id, "t").wait(), Some(true));
    assert_eq!(handle.unsubscribe(id, "t").wait(), Some(false));
    assert_eq!(handle.publish("t", "nobody").unwrap().subscribers, 0);
    assert_eq!(handle.close(id, 4000, "bye").wait(), Some(true));
    assert_eq!(client.closed(), (4000, "bye".into()));
}

#[test]
fn a_connection_that_is_not_there_is_said_to_be_so() {
    let engine = Running::start(Script::new());
    let handle = engine.handle();
    let (mut client, id) = engine.connect_known();
    client.close(1000, "");
    client.closed();
    eventually(true, || handle.connection(id).wait().unwrap().is_none());
    assert_eq!(handle.send(id, "x"), Ok(()), "not known before the shard looks");
    assert_eq!(handle.close(id, 1000, "").wait(), Some(false));
    assert!(handle.subscribe(id, "t", Subscribe::default()).wait().unwrap().is_none());
    assert_eq!(handle.unsubscribe(id, "t").wait(), Some(false));
    let nowhere = ConnectionId { shard: 99, ..id };
    assert_eq!(handle.send(nowhere, "x"), Err(EngineError::NoSuchConnection));
    assert_eq!(handle.close(nowhere, 1000, "").wait(), Some(false));
    assert!(handle.connection(nowhere).wait().unwrap().is_none());
    // The next one gets the slot, but not the name.
    drop(client);
    eventually(0.0, || engine.metric("fanfare_tcp_connections{"));
    let (mut next, other) = engine.connect_known();
    assert_eq!((other.slot, other.shard), (id.slot, id.shard));
    assert_ne!(other, id);
    handle.send(id, "for the first").unwrap();
    handle.send(other, "for the second").unwrap();
    assert_eq!(next.text(), "for the second");
}

#[test]
fn connections_are_listed_over_all_shards_page_by_page() {
    let engine = Running::start_with(Script::new(), |b| b.shards(2));
    let handle = engine.handle();
    let clients: Vec<_> = (0..20).map(|_| engine.connect()).collect();
    eventually(20, || handle.connection_count());
    let all = list(handle, None, 100);
    let ids: Vec<_> = all.iter().map(|info| info.id).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 20);
    assert!(ids.windows(2).all(|pair| (pair[0].shard, pair[0].slot) < (pair[1].shard, pair[1].slot)));
    let mut paged = Vec::new();
    loop {
        let page = list(handle, paged.last().copied(), 3);
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        paged.extend(page.iter().map(|info| info.id));
    }
    assert_eq!(paged, ids);
    let peers: BTreeSet<_> = all.iter().map(|info| info.peer).collect();
    assert_eq!(peers, clients.iter().map(|client| client.0.get_ref().local_addr().unwrap()).collect());
    assert!(all.iter().all(|info| info.state == ConnectionState::Open && info.subscriptions == 0));
}

#[test]
fn a_connection_is_described() {
    let script = Script::new().on_message(|ctx, message| {
        assert!(ctx.age() < Duration::from_secs(20));
        if message == Message::Text("fill") {
            let _ = ctx.send(Message::Binary(&vec![0; 3 << 20]));
        } else {
            ctx.subscribe("a", Subscribe::default()).unwrap();
            ctx.subscribe("b", Subscribe::default()).unwrap();
        }
    });
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    client.send("subscribe");
    client.send("fill");
    engine.log.wait_for(&What::Message("fill".into()));
    let describe = || engine.handle().connection(id).wait().unwrap().unwrap();
    eventually(1, || describe().pending.messages);
    let info = describe();
    assert_eq!((info.id, info.state, info.subscriptions), (id, ConnectionState::Open, 2));
    let details = engine.handle().connection_details(id).wait().unwrap().unwrap();
    assert_eq!((details.names, details.names_complete), (vec!["a".to_owned(), "b".to_owned()], true));
    assert_eq!(info.peer, client.0.get_ref().local_addr().unwrap());
    assert!(info.pending.bytes > 0 && info.pending.bytes <= (3 << 20) + 10);
    assert!(info.idle <= info.age);
    assert_eq!(client.next().len(), 3 << 20);
    eventually(0, || describe().pending.bytes);
}

#[test]
fn topics_are_listed_described_and_their_history_is_read() {
    let engine = Running::start_with(Script::new(), |b| b.topics(rules()));
    let handle = engine.handle();
    for topic in ["b.1", "a", "b.2", "b.2.x"] {
        handle.publish(topic, topic).unwrap();
    }
    let names = |pattern: Option<&str>, after, limit| {
        let pattern = pattern.map(|pattern| Pattern::new(pattern).unwrap());
        let topics = handle.topics(pattern.as_ref(), after, limit);
        topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>()
    };
    assert_eq!(handle.topic_count(), 4);
    assert_eq!(names(None, None, 99), ["a", "b.1", "b.2", "b.2.x"]);
    assert_eq!(names(None, Some("a"), 2), ["b.1", "b.2"]);
    assert_eq!(names(Some("b.*"), None, 99), ["b.1", "b.2"]);
    assert!(handle.topic("none").is_none());
    assert!(handle.history("none", None, 9).is_none());
    for n in 2..=5 {
        handle.publish_with("a", &n.to_string(), Publish::default().key("k")).unwrap();
    }
    let info = handle.topic("a").unwrap();
    assert_eq!((info.name.as_str(), info.offset, info.subscribers, info.history_messages), ("a", 5, 0, 3));
    assert_eq!(info.settings.history_messages, 3);
    assert_eq!((info.deliveries.publications, info.deliveries.expected), (5, 0));
    let read = |since: Option<u64>, limit| {
        let since = since.map(|offset| Position { epoch: info.epoch, offset });
        let page = handle.history("a", since, limit).unwrap();
        assert_eq!((page.epoch, page.offset), (info.epoch, 5));
        let texts = page.publications.iter().map(|one| String::from_utf8_lossy(one.payload()).into_owned());
        (page.complete, texts.collect::<Vec<_>>().join(" "))
    };
    assert_eq!(read(None, 2), (true, "4 5".into()));
    assert_eq!(read(Some(2), 9), (true, "3 4 5".into()));
    assert_eq!(read(Some(2), 1), (true, "3".into()));
    assert_eq!(read(Some(1), 9), (false, String::new()));
    let newest = handle.history("a", None, 1).unwrap().publications[0].clone();
    assert_eq!((newest.topic(), newest.offset(), newest.key()), ("a", 5, Some("k")));
    assert_eq!(newest.opcode(), fanfare::Opcode::Text);
    assert!(newest.unix_ms() > 1_600_000_000_000);
}

#[test]
fn an_unused_topic_goes_and_its_deliveries_stay_counted() {
    let script = Script::new().on_open(|ctx, ()| {
        ctx.subscribe("t", Subscribe::default()).unwrap();
        let _ = ctx.send("subscribed");
    });
    let limits = settings(|s| s.topic_idle = Duration::from_millis(50));
    let engine = Running::start_with(script, |b| b.settings(limits));
    let (mut client, _) = engine.connect_known();
    assert_eq!(client.text(), "subscribed");
    let first = engine.handle().publish("t", "x").unwrap();
    assert_eq!(client.text(), "x");
    client.close(1000, "");
    client.closed();
    eventually(true, || engine.handle().topic("t").is_none());
    let deliveries = engine.handle().deliveries();
    assert_eq!((deliveries.publications, deliveries.expected, deliveries.written), (1, 1, 1));
    let second = engine.handle().publish("t", "x").unwrap();
    assert_eq!(second.offset, 1);
    assert_ne!(second.epoch, first.epoch, "another life");
}

#[test]
fn the_engine_tells_about_itself() {
    let limits = settings(|s| s.message_bytes = 77);
    let engine = Running::start_with(Script::new(), |b| {
        b.shards(3).listen(([0, 0, 0, 0, 0, 0, 0, 1], 0).into()).settings(limits)
    });
    let handle = engine.handle();
    assert_eq!((handle.shards(), handle.settings().message_bytes, handle.is_ready()), (3, 77, true));
    assert_eq!(handle.local_addrs(), engine.engine.local_addrs());
    assert_eq!(handle.local_addrs().len(), 2);
    assert!(handle.local_addrs().iter().all(|addr| addr.port() != 0));
    let before = handle.uptime();
    eventually(true, || handle.uptime() > before);
    let (client, _) = Client::connect(handle.local_addrs()[1], "/");
    eventually(1, || handle.connection_count());
    assert!(handle.metrics().ends_with("# EOF\n"));
    drop(client);
}
