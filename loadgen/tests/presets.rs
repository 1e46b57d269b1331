//! Presets against what they imitate: the real server where it runs here, else the real client library's messages.

mod harness;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use harness::{DEADLINE, Driven, Node, scenario};
use loadgen::client::Upgraded;
use loadgen::scenario::{PublishVia, Scenario};
use loadgen::target::{Dial, Line, Part, Publication, Target};
use serde_json::{Value, json};

const TOPIC: &str = "loadgen.0";
const MESSAGE: &str = r#"say "hi""#;

fn target(scenario: &Scenario) -> Target {
    Target::of(scenario).expect("a right scenario")
}

fn carried(publication: &Publication) -> Vec<u8> {
    let mut out = Vec::new();
    publication.put(MESSAGE.as_bytes(), &mut out);
    out
}

/// A subscriber and a publisher that are open.
fn pair(scenario: &Scenario) -> (Driven, Driven) {
    let target = target(scenario);
    let mut both = (Driven::new(&target, Part::Subscriber, 1, TOPIC), Driven::new(&target, Part::Publisher, 2, TOPIC));
    both.0.until_open();
    both.1.until_open();
    both
}

/// Publishes by HTTP and returns the status line.
fn publish_by_http(scenario: &Scenario) -> String {
    let target = target(scenario);
    let mut socket = TcpStream::connect(target.http_address()).expect("connected");
    socket.set_read_timeout(Some(DEADLINE)).expect("set");
    socket.write_all(&carried(&target.http_publication(0, TOPIC))).expect("sent");
    let mut answer = [0; 64];
    let len = socket.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..len]).lines().next().unwrap_or_default().to_owned()
}

// ---- real servers -----------------------------------------------------------

#[test]
fn fanfare_is_spoken_raw_and_native_by_websocket_and_http() {
    let config = fanfare::server::Config::from_flags(["--listen", "127.0.0.1:0", "--shards", "1"]).expect("allowed");
    let engine = fanfare::server::builder(&config).expect("there are no keys").start().expect("it starts");
    let address = engine.handle().local_addrs()[0];
    for (preset, by_websocket, by_http) in [
        ("fanfare", MESSAGE.to_owned(), MESSAGE.to_owned()),
        (
            "fanfare-native",
            json!({"type": "message", "topic": TOPIC, "data": MESSAGE}).to_string(),
            json!({"type": "message", "topic": TOPIC, "text": MESSAGE}).to_string(),
        ),
    ] {
        let mut scenario = scenario(preset, "ws", address);
        let (mut subscriber, mut publisher) = pair(&scenario);
        publisher.say(&carried(&target(&scenario).publication(2, TOPIC)));
        assert_eq!(without_offset(&subscriber.messages(1)[0]), without_offset(&by_websocket));
        scenario.connections.publish_via = PublishVia::Http;
        assert_eq!(publish_by_http(&scenario), "HTTP/1.1 200 OK");
        assert_eq!(without_offset(&subscriber.messages(1)[0]), without_offset(&by_http));

        let mut idle = Driven::new(&target(&scenario), Part::Idle, 3, TOPIC);
        idle.until_open();
        for driven in [&mut subscriber, &mut publisher, &mut idle] {
            driven.client.close(1000);
            assert_eq!(driven.until_end(), "closed");
            assert!(driven.log.messages.is_empty(), "{preset}: {:?}", driven.log.messages);
        }
    }
    engine.shutdown();
}

/// A message of the native protocol without its offset, which other subscribers' publications decide.
fn without_offset(message: &str) -> Value {
    let mut value: Value = serde_json::from_str(message).unwrap_or_else(|_| message.into());
    if let Some(object) = value.as_object_mut() {
        object.remove("offset");
    }
    value
}

#[test]
fn node_ws_broadcasts_to_all_the_publisher_included() {
    let mut node = Node::start("loadgen-servers.mjs", &["node-ws"]);
    let scenario = scenario("node-ws", "ws", node.address());
    let (mut subscriber, mut publisher) = pair(&scenario);
    publisher.say(&carried(&target(&scenario).publication(2, TOPIC)));
    assert_eq!(subscriber.messages(1), [MESSAGE]);
    assert_eq!(publisher.messages(1), [MESSAGE]);
}

#[test]
fn socket_io_is_joined_acknowledged_published_to_and_its_pings_answered() {
    let mut node = Node::start("loadgen-servers.mjs", &["socket-io"]);
    let scenario = scenario("socket-io", "ws", node.address());
    let (mut subscriber, mut publisher) = pair(&scenario);
    publisher.say(&carried(&target(&scenario).publication(2, TOPIC)));
    let expected = json!(["message", MESSAGE]);
    // The server says that it is alive once three of its pings were answered; when, is up to its clock.
    let messages: BTreeSet<String> = subscriber.messages(2).into_iter().collect();
    assert_eq!(messages, BTreeSet::from([format!("42{expected}"), "42[\"alive\"]".to_owned()]));
    assert_eq!(publisher.messages(1), ["42[\"alive\"]"]);
}

#[test]
fn npm_ws_deflates_and_is_inflated_mixed_with_what_is_not_compressed() {
    let mut node = Node::start("loadgen-servers.mjs", &["deflate"]);
    let mut scenario = scenario("plain", "ws", node.address());
    for deflate in [true, false] {
        scenario.target.deflate = deflate;
        let mut driven = Driven::new(&target(&scenario), Part::Subscriber, 0, TOPIC);
        let sizes = [0, 10, 99, 100, 1_000, 100_000, 1_000_000];
        driven.until("all", |driven| driven.log.messages.len() == sizes.len());
        for (message, size) in driven.log.messages.drain(..).zip(sizes) {
            assert!(message == vec![b'x'; size]);
        }
        assert_eq!(driven.log.upgraded, Some(Upgraded { deflate, resumed: false }));
        // The server leaves what is shorter than 100 bytes as it is.
        let inflated: Vec<usize> = driven.log.inflated.iter().map(|(_, payload)| *payload).collect();
        assert_eq!(inflated, if deflate { sizes[3..].to_vec() } else { Vec::new() });
        assert!(driven.log.inflated.iter().all(|(wire, payload)| wire < payload));
        assert_eq!(driven.log.wire_bytes < 10_000, deflate, "{}", driven.log.wire_bytes);
        let long = "echo ".repeat(1000);
        driven.say(long.as_bytes());
        assert_eq!(driven.messages(1), [long]);
    }
    scenario.target.deflate = true;
    let mut small = Driven::with(&target(&scenario), Part::Subscriber, 0, TOPIC, 50_000, 1 << 16);
    assert_eq!(small.until_end(), "message of over 50000 bytes exceeds client.message_bytes_max");
}

// ---- real client libraries --------------------------------------------------

/// What the library says, and the path it asks for.
fn library(name: &str) -> (String, Vec<Value>) {
    let line = Node::start("loadgen-libraries.mjs", &[name]).line();
    let recorded: Value = serde_json::from_str(&line).expect("JSON");
    let said = recorded["said"].as_array().expect("a list").iter();
    let said = said.map(|text| serde_json::from_str(text.as_str().expect("text")).expect("JSON")).collect();
    (recorded["path"].as_str().expect("a path").to_owned(), said)
}

/// The same of a preset: opening, publication if it has one, answers and heartbeat as asked for.
fn preset(scenario: &Scenario) -> (String, Dial, Vec<Value>) {
    let target = target(scenario);
    let dial = target.dial(Part::Subscriber, 1, TOPIC);
    let request = String::from_utf8(dial.request.to_vec()).expect("text");
    let path = request.split(' ').nth(1).expect("a path").to_owned();
    let sent = dial.script.iter().filter_map(|line| match line {
        Line::Send(text) => Some(serde_json::from_slice(text).expect("JSON")),
        Line::Expect(_) => None,
    });
    let mut said: Vec<Value> = sent.collect();
    if scenario.connections.publish_via == PublishVia::WebSocket {
        said.push(serde_json::from_slice(&carried(&target.publication(1, TOPIC))).expect("JSON"));
    }
    (path, dial, said)
}

fn somewhere(preset: &str) -> Scenario {
    let mut scenario = scenario(preset, "ws", "127.0.0.1:9".parse().expect("an address"));
    scenario.target.app.id = Some("app".into());
    scenario.target.app.key = Some("key".into());
    scenario.target.app.secret = Some("secret".into());
    scenario
}

#[test]
fn centrifugo_is_spoken_as_centrifuge_js_does() {
    let (path, mut theirs) = library("centrifugo");
    let mut scenario = somewhere("centrifugo");
    scenario.target.token = Some("secret".into());
    let (our_path, dial, mut ours) = preset(&scenario);
    assert_eq!(our_path, path);
    // The name of the library, and a wish for shorter messages.
    theirs[0]["connect"].as_object_mut().expect("an object").remove("name").expect("a name");
    theirs[1]["subscribe"].as_object_mut().expect("an object").remove("flag").expect("a flag");
    let pong = &dial.habits.answers[0];
    assert_eq!(*pong.to, *b"{}");
    ours.push(serde_json::from_slice(&pong.send).expect("JSON"));
    assert_eq!(ours, theirs);
}

#[test]
fn phoenix_is_spoken_as_phoenix_js_does() {
    let (path, mut theirs) = library("phoenix");
    let (our_path, dial, mut ours) = preset(&somewhere("phoenix"));
    assert_eq!(our_path, path);
    ours.push(serde_json::from_slice(dial.habits.heartbeat.as_deref().expect("a heartbeat")).expect("JSON"));
    // References are the client's own affair, but all messages of a channel bear that of its join.
    for said in [&mut ours, &mut theirs] {
        let join = said[0][0].clone();
        assert_eq!((&said[0][1], &said[1][0], &said[2][0]), (&join, &join, &Value::Null));
        for message in said.iter_mut() {
            message[0] = Value::Null;
            assert!(message[1].take().is_string());
        }
    }
    assert_eq!(ours, theirs);
}

#[test]
fn pusher_is_spoken_as_pusher_js_does() {
    let (path, theirs) = library("pusher");
    let mut scenario = somewhere("pusher");
    scenario.connections.publish_via = PublishVia::Http;
    let (our_path, dial, mut ours) = preset(&scenario);
    let without_name = |path: &str| {
        let (route, query) = path.split_once('?').expect("a query");
        let parts = query.split('&').filter(|part| !part.starts_with("client=") && !part.starts_with("version="));
        (route.to_owned(), parts.map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(without_name(&our_path), without_name(&path));
    let pong = &dial.habits.answers[0];
    assert!(br#"{"event":"pusher:ping","data":{}}"#.starts_with(&pong.to));
    ours.push(serde_json::from_slice(&pong.send).expect("JSON"));
    ours.push(serde_json::from_slice(dial.habits.heartbeat.as_deref().expect("a heartbeat")).expect("JSON"));
    assert_eq!(ours, theirs);
}

#[test]
fn pusher_publications_are_signed_as_the_library_for_servers_does() {
    let mut node = Node::start("loadgen-libraries.mjs", &["pusher-http"]);
    let mut scenario = somewhere("pusher");
    scenario.target.url = format!("ws://{}", node.address());
    scenario.connections.publish_via = PublishVia::Http;
    assert_eq!(publish_by_http(&scenario), "HTTP/1.1 200 OK");
    let requests: Vec<Value> = serde_json::from_str(&node.line()).expect("JSON");
    let parse =
        |request: &Value| serde_json::from_str::<Value>(request["body"].as_str().expect("a body")).expect("JSON");
    assert_eq!(parse(&requests[0]), parse(&requests[1]));
    // The library writes the body's fields in its own order; where ours is the same, so is the whole request.
    assert_eq!(requests[0], requests[1]);
}
