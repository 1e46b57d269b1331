//! A deploy: one server takes the place of another, and of that one a third, while programs publish, thousands listen, and others
//! come. Nobody misses anything, nobody gets anything twice, nobody is turned away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_tests::swarm::publish_once;
use fanfare_tests::{Client, Server, Swarm, eventually};
use serde_json::json;
use tungstenite::Message;

const TOPICS: [&str; 4] = ["north", "east", "south", "west"];
const SUBSCRIBERS: usize = 2000;

/// Publishes to one topic, each time over a connection of its own (to the first: over a WebSocket), until it is told to stop.
struct Publisher {
    thread: thread::JoinHandle<Vec<String>>,
}

/// What all publishers share.
#[derive(Default)]
struct Load {
    stop: AtomicBool,
    published: [AtomicU64; TOPICS.len()],
    put_off: AtomicU64,
}

impl Publisher {
    fn start(addr: SocketAddr, topic: usize, load: Arc<Load>) -> Self {
        let thread = thread::spawn(move || {
            if topic == 0 {
                return publish_natively(addr, topic, &load);
            }
            let mut troubles = Vec::new();
            let mut next = 1;
            while !load.stop.load(Ordering::Relaxed) {
                match publish_once(addr, TOPICS[topic], &format!("{{\"n\":{next}}}")) {
                    Ok((200, _)) => {
                        load.published[topic].store(next, Ordering::Relaxed);
                        next += 1;
                    }
                    // What was refused was not published: it is said again.
                    Ok((503, body)) if body.contains("shutting_down") => {
                        load.put_off.fetch_add(1, Ordering::Relaxed);
                    }
                    other => troubles.push(format!("{other:?}")),
                }
                thread::park_timeout(Duration::from_millis(15));
            }
            troubles
        });
        Self { thread }
    }
}

/// The same over a native WebSocket, which is told to come back like all others, but at once when it publishes where nothing is
/// published any more. What has no answer before the end of a connection was not published.
fn publish_natively(addr: SocketAddr, topic: usize, load: &Load) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut next = 1;
    while !load.stop.load(Ordering::Relaxed) {
        let mut client = Client::connect_with(addr, "/ws", &[]).expect("the upgrade is accepted");
        assert_eq!(client.read_json()["type"], "connected");
        while !load.stop.load(Ordering::Relaxed) {
            let publish = json!({ "type": "publish", "topic": TOPICS[topic], "data": { "n": next } });
            client.send_text(&publish.to_string());
            match client.read() {
                Message::Text(text) if text.contains("\"published\"") => {
                    load.published[topic].store(next, Ordering::Relaxed);
                    next += 1;
                }
                Message::Text(text) if text.contains("shutting_down") => {
                    load.put_off.fetch_add(1, Ordering::Relaxed);
                    // At once; or it was its turn just then, with another moment to come back.
                    assert_eq!(client.read_close().0, 1012);
                    break;
                }
                Message::Close(Some(frame)) if u16::from(frame.code) == 1012 => break,
                other => troubles.push(format!("{other:?}")),
            }
            thread::park_timeout(Duration::from_millis(15));
        }
    }
    troubles
}

fn start(addr: SocketAddr, more: &[&str]) -> Server {
    let addr = addr.to_string();
    let mut args =
        vec!["--listen", &*addr, "--shards", "2", "--history-messages", "100000", "--history-bytes", "100000000"];
    args.extend(["--shutdown-spread-ms", "1500", "--shutdown-retry-ms", "300"]);
    args.extend(more);
    Server::with_exactly(&args)
}

#[test]
fn two_deploys_under_load_lose_nothing_double_nothing_and_refuse_nobody() {
    let mut present = start("127.0.0.1:0".parse().unwrap(), &[]);
    let addr = present.addr();
    let mut swarm = Swarm::new(addr, SUBSCRIBERS, &TOPICS);
    swarm.run_until("all have subscribed", |swarm| swarm.subscribed() == SUBSCRIBERS);
    let load = Arc::new(Load::default());
    let publishers: Vec<_> = (0..TOPICS.len()).map(|topic| Publisher::start(addr, topic, load.clone())).collect();
    for deploy in 1..=2u64 {
        let before = load.published[0].load(Ordering::Relaxed);
        swarm.run_until("publishing goes on", |_| load.published[0].load(Ordering::Relaxed) >= before + 50);
        let mut next = start(addr, &["--takeover"]);
        swarm.run_until("the old one has ended", |_| !present.is_running());
        assert!(present.wait().success(), "the old one has ended in order");
        assert!(next.is_running());
        swarm.run_until("all are back", |swarm| {
            let ends: u64 = swarm.findings.ends.iter().map(|(_, count)| count).sum();
            swarm.subscribed() == SUBSCRIBERS && ends == deploy * SUBSCRIBERS as u64
        });
        std::mem::swap(&mut present, &mut next);
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut troubles = Vec::new();
    for publisher in publishers {
        troubles.extend(publisher.thread.join().unwrap());
    }
    for (topic, published) in TOPICS.iter().zip(&load.published) {
        let published = published.load(Ordering::Relaxed);
        swarm.run_until("everybody has everything", |swarm| swarm.fewest(topic) >= published);
        assert_eq!((swarm.fewest(topic), swarm.most(topic)), (published, published), "{topic}");
    }
    let findings = &swarm.findings;
    println!("{findings:?}, {} publications put off", load.put_off.load(Ordering::Relaxed));
    assert_eq!((findings.gaps, findings.duplicates, findings.not_recovered), (0, 0, 0), "{findings:?}");
    assert_eq!(findings.refused, Vec::<String>::new());
    assert_eq!(troubles, Vec::<String>::new());
    // Every end was announced, with a moment of its own to come back.
    assert_eq!(findings.ends, [(1012, 2 * SUBSCRIBERS as u64)]);
    assert_eq!(findings.told, 2 * SUBSCRIBERS as u64);
    eventually("the last one is ready", || present.http().get("/readyz").status == 200);
}
