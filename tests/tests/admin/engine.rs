//! What a program can know of its connections, and do for those of a subject: against an engine in this process.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use fanfare::{
    Accept, ConnectionFilter, ConnectionState, Context, Decision, Engine, EngineHandle, Handler, Message, Pattern,
    Reach, Settings, Subscribe, Upgrade,
};
use fanfare_tests::{DEADLINE, eventually, wait_for};
use tungstenite::{Message as Frame, WebSocket};

/// Whose a connection is stands in its query; it says back what it is told; "me:" in a message gives it another subject.
struct Subjects;

impl Handler for Subjects {
    type Data = ();

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<()> {
        let accept = Accept::new(());
        match request.query_value("subject") {
            Some(subject) => accept.subject(&subject).into(),
            None => accept.into(),
        }
    }

    fn message(&self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        if let Message::Text(text) = message
            && let Some(subject) = text.strip_prefix("me:")
        {
            ctx.set_subject(Some(subject).filter(|subject| !subject.is_empty()));
            let _ = ctx.send("done");
        }
    }

    fn told(&self, ctx: &mut Context<'_, ()>, word: &(dyn std::any::Any + Send + Sync)) {
        let text = word.downcast_ref::<String>().expect("only strings are told here");
        let _ = ctx.send(text.as_str());
    }
}

struct Peer(WebSocket<TcpStream>);

impl Peer {
    fn connect(addr: SocketAddr, subject: Option<&str>) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let query = subject.map(|subject| format!("?subject={subject}")).unwrap_or_default();
        Self(tungstenite::client(format!("ws://{addr}/{query}"), stream).unwrap().0)
    }

    fn say(&mut self, text: &str) {
        self.0.send(Frame::text(text)).unwrap();
    }

    fn text(&mut self) -> String {
        self.0.read().unwrap().to_text().unwrap().to_owned()
    }

    fn closed(&mut self) -> (u16, String) {
        loop {
            match self.0.read() {
                Ok(Frame::Close(Some(frame))) => return (frame.code.into(), frame.reason.as_str().to_owned()),
                Ok(_) => {}
                Err(error) => panic!("a Close frame was expected: {error}"),
            }
        }
    }
}

fn start(shards: usize, settings: Settings) -> Engine {
    let any = ([127, 0, 0, 1], 0).into();
    Engine::builder(Subjects).listen(any).shards(shards).settings(settings).start().unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn found(engine: &EngineHandle, filter: ConnectionFilter) -> usize {
    let found = run(engine.find_connections(filter, None, 1000));
    assert!(found.is_whole(), "{} of {}", found.answered, found.asked);
    found.value.len()
}

fn of_subject(engine: &EngineHandle, subject: &str) -> usize {
    found(engine, ConnectionFilter { subject: Some(subject.into()), ..ConnectionFilter::default() })
}

fn reach(connections: usize, done: usize) -> Reach {
    Reach { connections, done }
}

#[test]
fn what_is_done_for_a_subject_reaches_all_its_connections_and_no_others() {
    let engine = start(2, Settings::default());
    let (handle, addr) = (engine.handle().clone(), engine.local_addrs()[0]);
    let mut hers: Vec<Peer> = (0..12).map(|_| Peer::connect(addr, Some("ada"))).collect();
    let mut his = Peer::connect(addr, Some("bob"));
    let _nobodys = Peer::connect(addr, None);
    eventually("all are open", || handle.connection_count() == 14);
    assert_eq!(of_subject(&handle, "ada"), 12);

    assert_eq!(run(handle.subscribe_subject("ada", "t", Subscribe::default())).value, reach(12, 12));
    assert_eq!(handle.publish("t", "news").unwrap().subscribers, 12);
    assert_eq!(run(handle.send_subject("ada", "direct")).value, reach(12, 12));
    assert_eq!(run(handle.tell_subject("ada", Arc::new("told".to_owned()))).value, reach(12, 12));
    for peer in &mut hers {
        assert_eq!([peer.text(), peer.text(), peer.text()], ["news", "direct", "told"]);
    }
    assert_eq!(run(handle.unsubscribe_subject("ada", "t")).value, reach(12, 12));
    assert_eq!(run(handle.unsubscribe_subject("ada", "t")).value, reach(12, 0));
    assert_eq!(run(handle.disconnect_subject("ada", 4321, "bye")).value, reach(12, 12));
    for peer in &mut hers {
        assert_eq!(peer.closed(), (4321, "bye".into()));
    }
    eventually("closed connections are not the subject's any more", || of_subject(&handle, "ada") == 0);
    assert_eq!(run(handle.disconnect_subject("ada", 4321, "bye")).value, reach(0, 0));
    his.say("me:bob");
    assert_eq!(his.text(), "done");
    engine.shutdown();
}

#[test]
fn a_subject_with_more_connections_than_are_served_at_once_is_reached_whole() {
    let engine = start(1, Settings::default());
    let (handle, addr) = (engine.handle().clone(), engine.local_addrs()[0]);
    // One command serves 256.
    let mut peers: Vec<Peer> = (0..600).map(|_| Peer::connect(addr, Some("many"))).collect();
    eventually("all are open", || handle.connection_count() == 600);
    assert_eq!(run(handle.send_subject("many", "all")).value, reach(600, 600));
    assert!(peers.iter_mut().all(|peer| peer.text() == "all"));
    assert_eq!(run(handle.disconnect_subject("many", 1000, "")).value, reach(600, 600));
    eventually("all have gone", || handle.connection_count() == 0);
    engine.shutdown();
}

#[test]
fn a_connection_is_found_by_the_subject_it_has_now() {
    let engine = start(1, Settings::default());
    let (handle, addr) = (engine.handle().clone(), engine.local_addrs()[0]);
    let mut peer = Peer::connect(addr, Some("first"));
    for (subject, before) in [("second", "first"), ("third", "second")] {
        peer.say(&format!("me:{subject}"));
        assert_eq!(peer.text(), "done");
        assert_eq!((of_subject(&handle, before), of_subject(&handle, subject)), (0, 1));
    }
    peer.say("me:");
    assert_eq!(peer.text(), "done");
    assert_eq!(of_subject(&handle, "third"), 0);
    assert_eq!(found(&handle, ConnectionFilter::default()), 1);
    // Slots are used again: the next owner is not found under the name of the one before.
    peer.say("me:fourth");
    assert_eq!(peer.text(), "done");
    drop(peer);
    eventually("it has gone", || handle.connection_count() == 0);
    let _next = Peer::connect(addr, None);
    eventually("the next one is open", || handle.connection_count() == 1);
    assert_eq!(of_subject(&handle, "fourth"), 0);
    engine.shutdown();
}

#[test]
fn one_connection_is_told_something_in_its_handler() {
    let engine = start(2, Settings::default());
    let (handle, addr) = (engine.handle().clone(), engine.local_addrs()[0]);
    let mut peer = Peer::connect(addr, None);
    let id = wait_for("it is open", || run(handle.connections(None, 10)).first().map(|info| info.id));
    assert_eq!(handle.tell(id, Arc::new("hello".to_owned())).wait(), Some(true));
    assert_eq!(peer.text(), "hello");
    drop(peer);
    eventually("it has gone", || handle.tell(id, Arc::new(String::new())).wait() == Some(false));
    engine.shutdown();
}

#[test]
fn filters_hold_together_and_pages_make_the_whole() {
    let engine = start(2, Settings::default());
    let (handle, addr) = (engine.handle().clone(), engine.local_addrs()[0]);
    let peers: Vec<Peer> = (0..30).map(|n| Peer::connect(addr, Some(if n % 3 == 0 { "ada" } else { "bob" }))).collect();
    eventually("all are open", || handle.connection_count() == 30);
    assert_eq!(run(handle.subscribe_subject("ada", "news.*", Subscribe::default())).value, reach(10, 10));
    handle.publish("news.a", "x").unwrap();
    let topic = |topic: &str| ConnectionFilter { topic: Some(topic.into()), ..ConnectionFilter::default() };
    eventually("those who came by a pattern have the topic", || found(&handle, topic("news.a")) == 10);
    assert_eq!(found(&handle, topic("news.*")), 10);
    assert_eq!(found(&handle, topic("news.b")), 0);
    assert_eq!(found(&handle, topic("*.a")), 0);
    let both = |subject: &str| ConnectionFilter { subject: Some(subject.into()), ..topic("news.a") };
    assert_eq!((found(&handle, both("ada")), found(&handle, both("bob"))), (10, 0));
    let peer = |network: &str| ConnectionFilter { peer: network.parse().ok(), ..ConnectionFilter::default() };
    assert_eq!((found(&handle, peer("127.0.0.0/8")), found(&handle, peer("10.0.0.0/8"))), (30, 0));
    let closing = ConnectionFilter { state: Some(ConnectionState::Closing), ..ConnectionFilter::default() };
    assert_eq!(found(&handle, closing), 0);

    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = run(handle.find_connections(both("ada"), after, 3)).value;
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        all.extend(page.into_iter().map(|info| info.id));
    }
    let sorted: std::collections::BTreeSet<_> = all.iter().copied().collect();
    assert_eq!((all.len(), sorted.len()), (10, 10));
    drop(peers);
    engine.shutdown();
}

/// A shard that is asked more than its inbox takes is not taken for one without connections.
#[test]
fn a_shard_that_cannot_answer_is_counted() {
    let engine = start(2, Settings { inbox_commands: 1, ..Settings::default() });
    let (handle, addr) = (engine.handle().clone(), engine.local_addrs()[0]);
    let _peers: Vec<Peer> = (0..4).map(|_| Peer::connect(addr, Some("ada"))).collect();
    eventually("all are open", || handle.connection_count() == 4);
    let id = wait_for("one is known", || run(handle.connections(None, 10)).first().map(|info| info.id));
    // The shard is kept from turning by a handler that waits, while its one place for a command is taken.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let blocker = Arc::new(Hold(std::sync::Mutex::new(held)));
    let engine_of_blockers = start_holding(blocker);
    let (other, other_addr) = (engine_of_blockers.handle().clone(), engine_of_blockers.local_addrs()[0]);
    let mut stuck = Peer::connect(other_addr, None);
    stuck.say("hold");
    eventually("the shard holds, and its inbox is full", || {
        other.send(fanfare::ConnectionId { shard: 0, slot: 0, generation: 0 }, "x").is_err()
    });
    let partial = run(other.find_connections(ConnectionFilter::default(), None, 10));
    assert_eq!((partial.asked, partial.answered, partial.is_whole()), (1, 0, false));
    assert!(!run(other.disconnect_subject("ada", 1000, "")).is_whole());
    release.send(()).unwrap();
    eventually("it turns again", || run(other.find_connections(ConnectionFilter::default(), None, 10)).is_whole());
    assert_eq!(handle.tell(id, Arc::new("still here".to_owned())).wait(), Some(true));
    engine_of_blockers.shutdown();
    engine.shutdown();
}

/// A handler that waits for a word from outside.
struct Hold(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Handler for Hold {
    type Data = ();

    fn upgrade(&self, _request: &Upgrade<'_>) -> Decision<()> {
        Decision::accept(())
    }

    fn message(&self, _ctx: &mut Context<'_, ()>, _message: Message<'_>) {
        let _ = self.0.lock().unwrap().recv_timeout(Duration::from_secs(60));
    }
}

fn start_holding(handler: Arc<Hold>) -> Engine {
    let handler = Arc::into_inner(handler).expect("nobody else has it");
    let settings = Settings { inbox_commands: 1, ..Settings::default() };
    Engine::builder(handler).listen(([127, 0, 0, 1], 0).into()).shards(1).settings(settings).start().unwrap()
}

#[test]
fn two_looks_make_rates_and_latencies() {
    let engine = start(2, Settings::default());
    let (handle, addr) = (engine.handle().clone(), engine.local_addrs()[0]);
    let mut peer = Peer::connect(addr, Some("ada"));
    eventually("it is open", || handle.connection_count() == 1);
    assert_eq!(run(handle.subscribe_subject("ada", "t", Subscribe::default())).value, reach(1, 1));
    let before = handle.stats(0);
    for n in 0..50 {
        handle.publish("t", &*format!("{n}")).unwrap();
        assert_eq!(peer.text(), n.to_string());
    }
    for topic in ["quiet", "$own"] {
        handle.publish(topic, "x").unwrap();
    }
    let now = wait_for("all is measured", || {
        let now = handle.stats(2);
        (now.delivery.since(&before.delivery).count() == 50).then_some(now)
    });
    assert_eq!(now.deliveries.written - before.deliveries.written, 50);
    let latency = now.delivery.since(&before.delivery);
    assert!(latency.quantile(0.5) <= latency.quantile(1.0) && latency.sum() >= latency.quantile(0.5).unwrap());
    assert_eq!(now.delivery.since(&now.delivery).quantile(0.5), None);
    let names: Vec<&str> = now.busiest.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["t", "quiet"], "the busiest first, and those with a $ only if asked for");
    let own = Pattern::new("$own").unwrap();
    assert_eq!(handle.busiest_topics(Some(&own), 5)[0].name, "$own");
    assert_eq!(now.topics, 3);
    engine.shutdown();
}
