//! Topics: one order for everybody, payloads untouched, subscriptions and patterns, history and recovery.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fanfare_tests::ws::position;
use fanfare_tests::{Client, Native, Rng, Server, eventually, topic};
use serde_json::{Value, json};
use tungstenite::Message;

const PUBLISHERS: usize = 8;
const EACH: usize = 150;

/// Subscribers are told apart from publishers by having been counted before the first publication.
fn eventually_subscribers(server: &Server, topic: &str, expected: u64) {
    eventually(&format!("{expected} subscribers of {topic}"), || {
        let seen = server.http().topic(topic).and_then(|topic| topic["subscribers"].as_u64());
        seen.unwrap_or(0) == expected
    });
}

#[test]
fn all_subscribers_see_one_order_whoever_publishes_and_however() {
    let mut rng = Rng::from_env();
    let server = Server::start();
    let name = topic("order");
    let path = format!("/topics/{name}?mode=subscribe");
    let raw: Vec<_> = (0..8).map(|_| Client::connect(&server, &path)).collect();
    let natives: Vec<_> = (0..4).map(|_| native_on(&server, &name)).collect();
    eventually_subscribers(&server, &name, 12);

    let orders: Vec<Vec<String>> = thread::scope(|scope| {
        let mut readers = Vec::new();
        readers.extend(raw.into_iter().map(|client| scope.spawn(move || read_raw(client))));
        readers.extend(natives.into_iter().map(|native| scope.spawn(move || read_native(native))));
        for publisher in 0..PUBLISHERS {
            let (server, name, rng) = (&server, &name, rng.split());
            scope.spawn(move || publish_all(server, name, publisher, rng));
        }
        readers.into_iter().map(|reader| reader.join().expect("the reader ends")).collect()
    });

    for order in &orders[1..] {
        assert!(*order == orders[0], "two subscribers saw two orders");
    }
    for publisher in 0..PUBLISHERS {
        let mark = format!("{publisher}:");
        let own: Vec<_> = orders[0].iter().filter(|text| text.starts_with(&mark)).collect();
        let sent: Vec<_> = (0..EACH).map(|n| format!("{publisher}:{n}:")).collect();
        assert_eq!(own.len(), EACH, "nothing of publisher {publisher} is missing or doubled");
        assert!(own.iter().zip(&sent).all(|(text, sent)| text.starts_with(sent)), "in the order it was sent");
    }
}

fn native_on(server: &Server, topic: &str) -> Native {
    let mut native = Native::connect(server);
    native.subscribe(topic);
    native
}

fn read_raw(mut client: Client) -> Vec<String> {
    (0..PUBLISHERS * EACH).map(|_| client.read_text()).collect()
}

/// Also checks that offsets go up by one.
fn read_native(mut native: Native) -> Vec<String> {
    let mut texts = Vec::new();
    for offset in 1..=(PUBLISHERS * EACH) as u64 {
        let message = native.read_message();
        assert_eq!(message["offset"], offset, "{message}");
        texts.push(message["text"].as_str().expect("a text that is no JSON").to_owned());
    }
    texts
}

/// Half of the publishers use WebSockets, half HTTP; sizes are random.
fn publish_all(server: &Server, topic: &str, publisher: usize, mut rng: Rng) {
    let texts: Vec<_> = (0..EACH).map(|n| format!("{publisher}:{n}:{}", "x".repeat(rng.below(300)))).collect();
    if publisher.is_multiple_of(2) {
        let mut client = Client::connect(server, &format!("/topics/{topic}?mode=publish"));
        for text in &texts {
            client.send_text(text);
        }
        // Closing in order makes sure that everything was taken.
        assert_eq!(client.close(1000, "").0, 1000);
    } else {
        let mut http = server.http();
        for text in &texts {
            http.publish(topic, text.as_bytes());
        }
    }
}

#[test]
fn opcode_and_payload_are_untouched() {
    let mut rng = Rng::from_env();
    let server = Server::start();
    let path = format!("/topics/{}", topic("untouched"));
    let mut listener = Client::connect(&server, &format!("{path}?mode=subscribe"));
    let mut talker = Client::connect(&server, &path);
    let mut messages = vec![
        Message::text(""),
        Message::binary(Vec::new()),
        Message::text("příliš žluťoučký kůň 🐎\0\u{7f}"),
        Message::text("{\"looks\":\"like JSON\", \"and\": [stays]}"),
        Message::binary(vec![0xff, 0xfe, 0x00]),
        Message::binary(b"text in binary".to_vec()),
    ];
    messages.extend([125, 126, 65_535, 65_536, 1 << 20].map(|len| Message::binary(rng.bytes(len))));
    for message in messages {
        talker.send(message.clone());
        assert!(listener.read() == message, "the listener gets what was sent");
        assert!(talker.read() == message, "the sender gets it back");
    }
}

#[test]
fn echo_false_keeps_only_the_own_messages_away() {
    let server = Server::start();
    let path = format!("/topics/{}", topic("echo"));
    let mut quiet = Client::connect(&server, &format!("{path}?echo=false"));
    let mut other = Client::connect(&server, &path);
    quiet.send_text("from quiet");
    assert_eq!(other.read_text(), "from quiet");
    other.send_text("from other");
    assert_eq!(other.read_text(), "from other");
    assert_eq!(quiet.read_text(), "from other");
}

#[test]
fn mode_subscribe_only_listens_and_mode_publish_only_talks() {
    let server = Server::start();
    let path = format!("/topics/{}", topic("mode"));
    let mut listener = Client::connect(&server, &format!("{path}?mode=subscribe"));
    let mut talker = Client::connect(&server, &format!("{path}?mode=publish"));
    let mut both = Client::connect(&server, &path);
    talker.send_text("one");
    assert_eq!((listener.read_text(), both.read_text()), ("one".into(), "one".into()));
    both.send_text("two");
    assert_eq!((listener.read_text(), both.read_text()), ("two".into(), "two".into()));
    // All that was published has been seen by others; a talker that listened would have something before its answer.
    assert_eq!(talker.close(1000, "done").0, 1000);
}

#[test]
fn an_unknown_query_value_is_refused_with_a_sentence() {
    let server = Server::start();
    for query in ["mode=everything", "echo=maybe", "since=yesterday", "history=many"] {
        let refused = Client::connect_with(server.addr(), &format!("/topics/t?{query}"), &[]);
        assert_eq!(refused.err(), Some(400), "{query}");
    }
}

#[test]
fn topics_do_not_hear_each_other_and_names_are_decoded() {
    let server = Server::start();
    let (mut one, mut two) = (Client::connect(&server, "/topics/one"), Client::connect(&server, "/topics/two"));
    let mut odd = Client::connect(&server, "/topics/big%20room%21%20%C5%BElu%C5%A5");
    server.publish("one", "for one");
    server.publish("two", "for two");
    server.publish("big room! žluť", "for the big room");
    assert_eq!(one.read_text(), "for one");
    assert_eq!(two.read_text(), "for two");
    assert_eq!(odd.read_text(), "for the big room");
}

#[test]
fn a_pattern_hears_what_it_matches_as_in_nats() {
    let server = Server::start();
    let mut star = native_on(&server, "prices.*");
    let mut tail = native_on(&server, "prices.>");
    let mut all = native_on(&server, ">");
    for name in ["prices.eur", "prices.eur.usd", "prices", "other.eur", "prices.end", "prices.end.end", "end"] {
        server.publish(name, "1");
    }
    let heard = |native: &mut Native, last: &str| {
        let mut topics = Vec::new();
        while topics.last().is_none_or(|topic| topic != last) {
            topics.push(native.read_message()["topic"].as_str().expect("a topic").to_owned());
        }
        topics
    };
    assert_eq!(heard(&mut star, "prices.end"), ["prices.eur", "prices.end"]);
    assert_eq!(heard(&mut tail, "prices.end.end"), ["prices.eur", "prices.eur.usd", "prices.end", "prices.end.end"]);
    assert_eq!(heard(&mut all, "end").len(), 7);
}

#[test]
fn overlapping_subscriptions_give_one_copy_in_one_order() {
    let server = Server::start();
    let mut native = Native::connect(&server);
    for name in ["multi.a", "multi.*", "multi.>", "*.a"] {
        native.subscribe(name);
    }
    for n in 1..=100 {
        server.publish("multi.a", &n.to_string());
    }
    for n in 1..=100 {
        let message = native.read_message();
        assert_eq!((&message["topic"], &message["data"]), (&json!("multi.a"), &json!(n)), "{message}");
    }
    for name in ["multi.a", "multi.>", "*.a"] {
        let answer = native.ask(&json!({ "type": "unsubscribe", "topic": name }));
        assert_eq!(answer["type"], "unsubscribed", "{answer}");
    }
    server.publish("multi.a", "101");
    assert_eq!(native.read_message()["data"], 101);
}

#[test]
fn an_unsubscribed_topic_is_silent() {
    let server = Server::start();
    let (gone, kept) = (topic("gone"), topic("kept"));
    let mut native = native_on(&server, &gone);
    native.subscribe(&kept);
    let answer = native.ask(&json!({ "type": "unsubscribe", "topic": gone }));
    assert_eq!((&answer["type"], &answer["topic"]), (&json!("unsubscribed"), &json!(gone)), "{answer}");
    assert_eq!(server.publish(&gone, "1")["subscribers"], 0);
    server.publish(&kept, "2");
    let message = native.read_message();
    assert_eq!((&message["topic"], &message["data"]), (&json!(kept), &json!(2)), "{message}");
}

#[test]
fn a_topic_is_gone_when_unused() {
    let server = Server::with(&["--topic-idle-s", "1", "--history-messages", "0"]);
    let name = topic("unused");
    let client = Client::connect(&server, &format!("/topics/{name}"));
    assert!(server.http().topic(&name).is_some());
    drop(client);
    eventually("the topic is gone", || server.http().topic(&name).is_none());
}

#[test]
fn native_payloads_are_told_apart() {
    let server = Server::start();
    let name = topic("payloads");
    let mut native = native_on(&server, &name);
    let mut http = server.http();
    http.publish(&name, br#"{"a":[1,2.5,null,true],"b":"\u017e"}"#);
    http.publish(&name, b"not JSON at all");
    http.publish_as(&name, b"\x00\xff", "&binary=1");
    let (first, second, third) = (native.read_message(), native.read_message(), native.read_message());
    assert_eq!(first["data"], json!({ "a": [1, 2.5, null, true], "b": "ž" }), "{first}");
    assert_eq!(second["text"], "not JSON at all", "{second}");
    assert_eq!(third["base64"], "AP8=", "{third}");
}

#[test]
fn every_wrong_native_request_gets_one_error_and_the_connection_stays() {
    let server = Server::start();
    let mut native = Native::connect(&server);
    let wrong = [
        "",
        "nonsense",
        "{",
        "null",
        "7",
        "[]",
        "\"subscribe\"",
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"dance"}"#,
        r#"{"type":"subscribe"}"#,
        r#"{"type":"subscribe","topic":7}"#,
        r#"{"type":"subscribe","topic":""}"#,
        r#"{"type":"subscribe","topic":"a.>.b"}"#,
        r#"{"type":"subscribe","topic":"a","history":-1}"#,
        r#"{"type":"subscribe","topic":"a","since":"now"}"#,
        r#"{"type":"subscribe","topic":"a","since":{"epoch":"x"}}"#,
        r#"{"type":"unsubscribe"}"#,
        r#"{"type":"publish","topic":"a"}"#,
        r#"{"type":"publish","data":1}"#,
        r#"{"type":"publish","topic":"a.*","data":1}"#,
        r#"{"type":"publish","topic":"a","data":1,"key":7}"#,
        r#"{"type":"history"}"#,
    ];
    for (n, text) in wrong.iter().enumerate() {
        native.send_text(text);
        let answer = native.read();
        assert_eq!(answer["type"], "error", "'{text}' was answered {answer}");
        assert!(answer["code"].is_string() && answer["message"].is_string(), "{answer}");
        // The next answer belongs to the next request: there was exactly one.
        let pong = native.ask(&json!({ "type": "ping", "id": n }));
        assert_eq!(pong["type"], "pong", "'{text}' was answered twice: {pong}");
    }
    let answer = native.ask(&json!({ "type": "dance", "id": "my id" }));
    assert_eq!((&answer["type"], &answer["id"]), (&json!("error"), &json!("my id")), "{answer}");
    let mut last = Client::connect(&server, "/ws");
    assert_eq!(last.read_json()["type"], "connected");
    last.send_binary(b"\x00\xff");
    assert_eq!(last.read_json()["type"], "error");
}

#[test]
fn history_gives_the_newest_first_in_their_order() {
    let server = Server::with(&["--topic", "kept.>:history=10"]);
    let mut http = server.http();
    for n in 1..=25 {
        http.publish("kept.a", n.to_string().as_bytes());
    }
    let mut raw = Client::connect(&server, "/topics/kept.a?history=4");
    let mut native = Native::connect(&server);
    let answer = native.subscribe_with("kept.a", json!({ "history": 100 }));
    assert_eq!(answer["recovered"], Value::Null, "{answer}");
    http.publish("kept.a", b"26");
    let texts: Vec<_> = (0..5).map(|_| raw.read_text()).collect();
    assert_eq!(texts, ["22", "23", "24", "25", "26"]);
    let numbers: Vec<_> = (0..11).map(|_| native.read_message()["data"].as_u64()).collect();
    assert_eq!(numbers, (16..=26).map(Some).collect::<Vec<_>>());
}

#[test]
fn a_recovery_that_cannot_be_whole_is_refused() {
    let server = Server::with(&["--topic", "kept.>:history=10"]);
    let mut http = server.http();
    let first = http.publish("kept.b", b"1");
    for n in 2..=30 {
        http.publish("kept.b", n.to_string().as_bytes());
    }
    let foreign = json!({ "epoch": "1", "offset": 28 });
    let future = json!({ "epoch": first["epoch"], "offset": 31 });
    for since in [position(&first), foreign, future] {
        let mut native = Native::connect(&server);
        let answer = native.subscribe_with("kept.b", json!({ "since": since }));
        assert_eq!(answer["recovered"], false, "since {since}: {answer}");
        assert_eq!(answer["offset"], 30, "{answer}");
        let mut raw = Client::connect(&server, &format!("/topics/kept.b?since={}", raw_position(&since)));
        let (code, reason) = raw.read_close();
        assert!(code == 4010 && !reason.is_empty(), "since {since}: {code} {reason}");
    }
    let near = json!({ "epoch": first["epoch"], "offset": 28 });
    let mut raw = Client::connect(&server, &format!("/topics/kept.b?since={}", raw_position(&near)));
    assert_eq!((raw.read_text(), raw.read_text()), ("29".into(), "30".into()));
}

fn raw_position(position: &Value) -> String {
    format!("{}:{}", position["epoch"].as_str().expect("an epoch is text"), position["offset"])
}

#[test]
fn recovery_while_others_publish_has_no_gap_and_no_duplicate() {
    const LAST: u64 = 3000;
    let mut rng = Rng::from_env();
    let server = Server::with(&["--topic", "busy:history=100000,history_bytes=100000000"]);
    let mut keeper = Native::connect(&server);
    let beginning = position(&keeper.subscribe("busy"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for publisher in 0..3 {
            let (server, done) = (&server, &done);
            scope.spawn(move || publish_until(server, publisher, done));
        }
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (server, since, rng) = (&server, beginning.clone(), rng.split());
                scope.spawn(move || read_in_pieces(server, since, rng, LAST))
            })
            .collect();
        let seen: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        done.store(true, Ordering::Relaxed);
        let mut orders: Vec<_> = seen.into_iter().map(|seen| seen.expect("the reader ends")).collect();
        let first = orders.pop().expect("there are readers");
        assert!(orders.iter().all(|order| *order == first), "pieces put together give one order for all");
    });
}

fn publish_until(server: &Server, publisher: usize, done: &AtomicBool) {
    let mut http = server.http();
    let mut n = 0;
    while !done.load(Ordering::Relaxed) {
        n += 1;
        http.publish("busy", format!("[{publisher},{n}]").as_bytes());
    }
}

/// Reads up to offset `last` in many short connections, each beginning where the one before was torn off.
fn read_in_pieces(server: &Server, mut since: Value, mut rng: Rng, last: u64) -> Vec<Value> {
    let mut seen = Vec::new();
    while (seen.len() as u64) < last {
        let mut native = Native::connect(server);
        let answer = native.subscribe_with("busy", json!({ "since": since }));
        assert_eq!(answer["recovered"], true, "{answer}");
        for _ in 0..=rng.below(400) {
            let message = native.read_message();
            assert_eq!(message["offset"], seen.len() as u64 + 1, "no gap and no duplicate: {message}");
            seen.push(message["data"].clone());
        }
        since["offset"] = json!(seen.len());
    }
    seen.truncate(last as usize);
    seen
}

#[test]
fn a_raw_recovery_goes_on_where_it_was_torn_off() {
    let server = Server::with(&["--topic", "torn:history=1000"]);
    let mut http = server.http();
    let epoch = http.publish("torn", b"1")["epoch"].as_str().expect("an epoch").to_owned();
    for n in 2..=100 {
        http.publish("torn", n.to_string().as_bytes());
    }
    let mut seen = 0;
    while seen < 100 {
        let mut raw = Client::connect(&server, &format!("/topics/torn?since={epoch}:{seen}"));
        for _ in 0..7.min(100 - seen) {
            seen += 1;
            assert_eq!(raw.read_text(), seen.to_string());
        }
    }
}

#[test]
fn offsets_in_answers_are_those_of_the_messages() {
    let server = Server::start();
    let name = topic("offsets");
    let mut native = native_on(&server, &name);
    let mut offsets = HashMap::new();
    for n in 0..50_u64 {
        let offset = match n % 3 {
            0 => native.publish(&name, json!(n)),
            1 => server.publish(&name, &n.to_string())["offset"].as_u64().expect("an offset"),
            _ => Native::connect(&server).publish(&name, json!(n)),
        };
        offsets.insert(n, offset);
    }
    for n in 0..50_u64 {
        let message = native.read_message();
        assert_eq!((message["data"].as_u64(), message["offset"].as_u64()), (Some(n), offsets.get(&n).copied()));
    }
}
