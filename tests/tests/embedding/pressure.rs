//! Publishers wait when inboxes are full, and nothing is lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fanfare::{PublishError, Subscribe};
use tungstenite::Message as Frame;

use crate::kit::{Client, Running, Script, eventually, settings};

#[test]
fn publishers_over_tiny_inboxes_lose_nothing() {
    const PUBLISHERS: usize = 8;
    const EACH: usize = 200;
    let overloads = Arc::new(AtomicUsize::new(0));
    let counted = overloads.clone();
    let script = Script::new()
        .on_open(|ctx, ()| {
            if ctx.data() == "/subscribe" {
                ctx.subscribe("t", Subscribe::default()).unwrap();
                let _ = ctx.send("subscribed");
            }
        })
        .on_message(move |ctx, message| match ctx.publish("t", message) {
            Ok(_) => {}
            Err(PublishError::Overloaded) => {
                counted.fetch_add(1, Ordering::Relaxed);
                ctx.retry();
            }
            Err(other) => panic!("{other}"),
        });
    let limits = settings(|s| s.inbox_messages = 4);
    let engine = Running::start_with(script, |b| b.shards(2).settings(limits));
    let subscribers: Vec<_> = (0..4)
        .map(|_| {
            let (mut client, _) = Client::connect(engine.addr(), "/subscribe");
            assert_eq!(client.text(), "subscribed");
            thread::spawn(move || client.texts(PUBLISHERS * EACH))
        })
        .collect();
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let (mut client, _) = Client::connect(engine.addr(), "/publish");
            thread::spawn(move || {
                for n in 0..EACH {
                    client.0.write(Frame::text(format!("{publisher}:{n}"))).unwrap();
                }
                client.0.flush().unwrap();
                client
            })
        })
        .collect();
    let publishers: Vec<_> = publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect();
    let seen: Vec<_> = subscribers.into_iter().map(|subscriber| subscriber.join().unwrap()).collect();
    assert!(seen.iter().all(|own| *own == seen[0]), "one order for all");
    assert_eq!(seen[0].iter().collect::<BTreeSet<_>>().len(), PUBLISHERS * EACH, "each once");
    for publisher in 0..PUBLISHERS {
        let prefix = format!("{publisher}:");
        let own: Vec<_> = seen[0].iter().filter_map(|text| text.strip_prefix(&prefix)).collect();
        assert_eq!(own, (0..EACH).map(|n| n.to_string()).collect::<Vec<_>>(), "each publisher's own order is kept");
    }
    assert!(overloads.load(Ordering::Relaxed) > 0, "there was backpressure");
    eventually(true, || engine.metric("fanfare_publishers_paused_total") > 0.0);
    let deliveries = engine.handle().topic("t").unwrap().deliveries;
    assert_eq!(deliveries.publications as usize, PUBLISHERS * EACH);
    drop(publishers);
}

#[test]
fn a_thread_that_publishes_faster_than_shards_take_is_told_and_nothing_is_sequenced() {
    let script = Script::new().on_open(|ctx, ()| {
        ctx.subscribe("t", Subscribe::default()).unwrap();
        let _ = ctx.send("subscribed");
    });
    let engine = Running::start_with(script, |b| b.settings(settings(|s| s.inbox_messages = 2)));
    let mut client = engine.connect();
    assert_eq!(client.text(), "subscribed");
    let (mut accepted, mut refused) = (0, 0);
    while refused == 0 || accepted < 1000 {
        match engine.handle().publish("t", "x") {
            Ok(published) => {
                accepted += 1;
                assert_eq!(published.offset, accepted);
            }
            Err(PublishError::Overloaded) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        assert!(accepted < 1_000_000, "never overloaded");
        if accepted % 1000 == 0 {
            while engine.handle().topic("t").unwrap().deliveries.written < accepted {
                client.0.read().unwrap();
            }
        }
    }
}

#[test]
fn a_publisher_that_has_to_wait_still_gets_its_close() {
    let script = Script::new().on_message(|ctx, _| ctx.retry());
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    client.send("never handled");
    eventually(true, || engine.metric("fanfare_publishers_paused_total") > 3.0);
    assert_eq!(engine.handle().close(id, 1000, "give up").wait(), Some(true));
    assert_eq!(client.closed(), (1000, "give up".into()));
}
