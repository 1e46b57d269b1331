//! One engine takes the place of another.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as Meeting, UnixStream};

use fanfare::{Position, Publish, PublishError, Subscribe, TopicRules, TopicSettings};

use crate::kit::{Client, Running, Script, eventually, settings};

fn script() -> Script {
    Script::new().on_open(|ctx, ()| {
        let (topic, since) = ctx.data()[1..].split_once('/').map(|(t, p)| (t.to_owned(), p.to_owned())).unwrap();
        let subscribe = match since.parse::<Position>() {
            Ok(since) => Subscribe::default().since(since),
            Err(_) => Subscribe::default(),
        };
        let _ = ctx.subscribe_with(&topic, subscribe, &mut |subscribed| Some(format!("{:?}", subscribed.recovered)));
    })
}

fn rules() -> TopicRules {
    TopicRules::new(TopicSettings { history_messages: 1000, ..TopicSettings::default() })
}

#[test]
fn positions_mean_the_same_in_the_successor_and_nothing_is_lost_between_them() {
    let first = Running::start_with(script(), |b| b.shards(2).topics(rules()));
    let (address, a) = (first.addr(), first.handle().clone());
    let mut positions = Vec::new();
    for n in 1..=300 {
        let (topic, key) = (["t", "u", "v"][n % 3], format!("k{n}"));
        let publish = Publish::default().key(&key);
        let published = a.publish_with(topic, format!("{topic}{n}").as_str(), publish).unwrap();
        positions.push((topic, published));
    }
    let (mut subscriber, _) = Client::connect(address, "/t/live");
    assert_eq!(subscriber.text(), "None");

    let second =
        Running::start_at(address, script(), |b| b.shards(1).topics(rules()).settings(settings(|s| s.takeover = true)));
    let b = second.handle();
    for topic in ["t", "u", "v"] {
        let (was, is) = (a.history(topic, None, 1000).unwrap(), b.history(topic, None, 1000).unwrap());
        assert_eq!((was.epoch, was.offset), (is.epoch, is.offset));
        let all = |page: &fanfare::HistoryPage| {
            let one = |p: &std::sync::Arc<fanfare::Publication>| {
                (p.offset(), p.unix_ms(), p.key().map(str::to_owned), p.payload().to_vec(), p.opcode())
            };
            page.publications.iter().map(one).collect::<Vec<_>>()
        };
        assert_eq!(all(&was), all(&is));
        assert_eq!(all(&is).len(), 100);
    }
    // The first gives no more offsets, the second goes on with them.
    eventually(true, || a.is_succeeded());
    for topic in ["t", "new"] {
        assert_eq!(a.publish(topic, "late").unwrap_err(), PublishError::ShuttingDown);
    }
    let (_, last) = positions.iter().rev().find(|(topic, _)| *topic == "t").unwrap();
    let next = b.publish("t", "next").unwrap();
    assert_eq!((next.epoch, next.offset), (last.epoch, last.offset + 1));

    // Who was with the first finds all it has missed at the second.
    drop(subscriber);
    first.engine.shutdown();
    let (_, seen) = positions.iter().filter(|(topic, _)| *topic == "t").nth(89).unwrap();
    let (mut back, _) = Client::connect(address, &format!("/t/{}:{}", seen.epoch, seen.offset));
    assert_eq!(back.text(), "Some(true)");
    let expected: Vec<String> = (1..=300).filter(|n| n % 3 == 0).skip(90).map(|n| format!("t{n}")).collect();
    assert_eq!(back.texts(10), expected);
    assert_eq!(back.text(), "next");
}

#[test]
fn a_successor_that_does_not_take_everything_changes_nothing() {
    let engine = Running::start_with(script(), |b| b.shards(1).topics(rules()));
    let handle = engine.handle();
    let before = handle.publish("t", "one").unwrap();
    let meeting = Meeting::from_abstract_name(format!("fanfare/topics/{}", engine.addr())).unwrap();
    for greeting in [&b""[..], &[2, 0, 0, 0, 0, 1], &[2, 0, 0, 0, 0, 99], &[255; 64], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = eventually_some(|| UnixStream::connect_addr(&meeting).ok());
        stream.write_all(greeting).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Until it hangs up, too; then it has taken back what it gave.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        eventually(true, || handle.publish("t", "again").is_ok() && handle.publish("fresh", "again").is_ok());
    }
    assert!(!handle.is_succeeded());
    assert_eq!(handle.topic("t").unwrap().epoch, before.epoch);
}

fn eventually_some<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(true, || {
        found = attempt();
        found.is_some()
    });
    found.unwrap()
}
