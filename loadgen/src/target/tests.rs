//! Whole targets: what scenarios become, and what is refused.

use std::collections::BTreeMap;
use std::io::Write as _;

use super::*;
use crate::scenario::{Answer, Heartbeat, HttpTemplate};
use crate::units::Span;

fn scenario(preset: &str) -> Scenario {
    let mut scenario = Scenario::default();
    scenario.target.url = "ws://127.0.0.1:8080".into();
    scenario.target.preset = Some(preset.into());
    scenario.target.app =
        AppSettings { id: Some("app".into()), key: Some("key".into()), secret: Some("secret".into()) };
    scenario
}

fn by_http(preset: &str) -> Scenario {
    let mut scenario = scenario(preset);
    scenario.connections.publish_via = PublishVia::Http;
    scenario
}

fn target(scenario: &Scenario) -> Target {
    Target::of(scenario).expect("a right scenario")
}

fn usage(scenario: &Scenario) -> String {
    match Target::of(scenario) {
        Err(Failure::Usage(sentence)) => sentence,
        other => panic!("{:?}", other.map(|target| target.describe())),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn request(target: &Target, part: Part) -> String {
    text(&target.dial(part, 3, "a b").request)
}

fn published(publication: &Publication, payload: &str) -> String {
    let mut out = Vec::new();
    publication.put(payload.as_bytes(), &mut out);
    text(&out)
}

#[test]
fn each_part_has_its_request() {
    let target = target(&scenario("fanfare"));
    assert_eq!(
        request(&target, Part::Subscriber),
        "GET /topics/a%20b?mode=subscribe HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    );
    assert!(request(&target, Part::Publisher).starts_with("GET /topics/a%20b?mode=publish HTTP"));
    assert!(request(&target, Part::Idle).starts_with("GET /topics/a%20b?mode=publish HTTP"));
    assert!(target.publisher_is_bound());
    assert_eq!(published(&target.publication(3, "a b"), "{\"x\"}"), "{\"x\"}");
}

#[test]
fn every_preset_can_be_used_one_way_or_the_other() {
    for (name, _) in presets() {
        let mut with_publish = [scenario(name), by_http(name)];
        with_publish.iter_mut().filter(|_| *name == "template").for_each(|scenario| {
            scenario.target.template.publish = Some("{message}".into());
        });
        let usable = with_publish.iter().filter(|scenario| Target::of(scenario).is_ok()).count();
        assert!(usable >= 1, "{name}");
    }
}

#[test]
fn the_path_of_the_url_takes_the_place_of_the_subscribers() {
    let mut own = scenario("fanfare");
    own.target.url = "ws://127.0.0.1:8080/x/{topic}?y".into();
    assert!(request(&target(&own), Part::Subscriber).starts_with("GET /x/a%20b?y HTTP"));
    assert!(request(&target(&own), Part::Publisher).starts_with("GET /topics/"));
    own.target.template.subscribe_path = Some("/z".into());
    assert!(usage(&own).contains("one of them must go"));

    let mut plain = scenario("plain");
    plain.target.url = "ws://127.0.0.1:8080/chat".into();
    for part in [Part::Subscriber, Part::Publisher, Part::Idle] {
        assert!(request(&target(&plain), part).starts_with("GET /chat HTTP"));
    }
    assert!(!target(&plain).publisher_is_bound());
}

#[test]
fn tokens_are_used_line_by_line_in_turn() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"one\n\n two \r\nthree\n").expect("written");
    let mut own = scenario("plain");
    own.target.token_file = Some(file.path().into());
    own.target.headers = BTreeMap::from([("Authorization".into(), "Bearer {token} {client}".into())]);
    let target = target(&own);
    let authorization = |client| text(&target.dial(Part::Subscriber, client, "t").request);
    for (client, token) in [(0, "one"), (1, "two"), (2, "three"), (3, "one"), (u64::MAX, "one")] {
        let line = format!("\r\nAuthorization: Bearer {token} {client}\r\n");
        assert!(authorization(client).ends_with(&line), "{client}");
    }
    own.target.token = Some("x".into());
    assert!(usage(&own).contains("exclude each other"));
    own.target.token_file = None;
    own.target.token = Some("a\nb".into());
    assert!(usage(&own).starts_with("target.token must"));
}

#[test]
fn token_files_that_hold_none_are_refused_by_name() {
    let mut own = scenario("plain");
    own.target.token_file = Some("/no/such/file".into());
    let Err(Failure::Failed(sentence)) = Target::of(&own) else { panic!("it was read") };
    assert!(sentence.starts_with("target.token_file: /no/such/file cannot be read"), "{sentence}");
    for (content, part) in [("\n \n", "holds no token"), ("a\nb\u{7}\n", "line 2 of")] {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(content.as_bytes()).expect("written");
        own.target.token_file = Some(file.path().into());
        assert!(usage(&own).contains(part));
    }
}

#[test]
fn what_is_wrong_is_refused_by_the_name_of_its_setting() {
    type Change = fn(&mut Scenario);
    let changes: [(Change, &str); 20] = [
        (|s| s.target.preset = Some("nope".into()), "target.preset is 'nope': there are fanfare, "),
        (|s| s.target.url = String::new(), "target.url is ''"),
        (|s| s.target.template.subscribe_path = Some("x".into()), "target.template.subscribe_path is 'x'"),
        (|s| s.target.template.idle_path = Some("/a b".into()), "target.template.idle_path is '/a b'"),
        (|s| s.target.template.publish_path = Some("/{topics}".into()), "{topics} is no placeholder"),
        (|s| s.target.template.publish_path = Some("/{message}".into()), "{message} has no meaning here"),
        (|s| s.target.template.publish_path = Some("/{token}".into()), "needs target.token or target.token_file"),
        (|s| s.target.template.publish = Some("x".into()), "carries no {message}"),
        (
            |s| s.target.template.open = Some(vec![Step::Send("{message}".into())]),
            "target.template.open is '{message}'",
        ),
        (|s| s.target.template.subscribe = Some(vec![Step::Expect(String::new())]), "subscribe has an empty step"),
        (
            |s| s.target.template.answers = Some(vec![Answer { to: String::new(), send: "x".into() }]),
            "which is every message",
        ),
        (
            |s| s.target.template.heartbeat = Some(Heartbeat { every: Span::default(), send: "x".into() }),
            "heartbeat.every is 0s",
        ),
        (|s| s.target.subprotocols = vec!["a b".into()], "target.subprotocols has 'a b'"),
        (|s| s.target.subprotocols = vec!["a".into(), "a".into()], "target.subprotocols has 'a'"),
        (|s| drop(s.target.headers.insert("a b".into(), "x".into())), "no header's name"),
        (|s| drop(s.target.headers.insert("a".into(), "x\r\ny: z".into())), "target.headers.a is 'x\\r\\ny: z'"),
        (|s| drop(s.target.headers.insert("a".into(), "{topic}".into())), "target.headers.a is '{topic}'"),
        (|s| drop(s.target.headers.insert("Upgrade".into(), "x".into())), "'Upgrade': that header is made by"),
        (|s| s.target.app.key = Some("a\nb".into()), "target.app.key must"),
        (|s| s.connect.bind = vec!["::1".parse().expect("an address")], "connect.bind has addresses of another family"),
    ];
    for (change, part) in changes {
        let mut own = scenario("plain");
        change(&mut own);
        let sentence = usage(&own);
        assert!(sentence.contains(part), "'{sentence}' says nothing of '{part}'");
    }
}

#[test]
fn a_way_of_publishing_that_a_preset_does_not_have_is_refused_with_the_other() {
    assert!(usage(&scenario("pusher")).contains("set connections.publish_via to 'http'"));
    assert!(usage(&by_http("socket-io")).contains("set connections.publish_via to 'web-socket'"));
    let mut binary = scenario("centrifugo");
    binary.payload.binary = true;
    assert!(usage(&binary).starts_with("payload.binary is true, but target.template.publish puts"));
}

#[test]
fn requests_that_publish_are_whole() {
    let target = target(&by_http("fanfare"));
    let expected = "POST /api/publish?topic=a%20b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(published(&target.http_publication(0, "a b"), "hello"), expected);
    assert_eq!(target.http_address(), target.address);

    let mut elsewhere = by_http("plain");
    elsewhere.target.template.publish_http = Some(HttpTemplate {
        method: "PUT".into(),
        server: Some("http://127.0.0.1:9".into()),
        path: "/{topic}/{client}?m={message}".into(),
        headers: BTreeMap::from([("X-Key".into(), "{app_key}".into())]),
        body: "[\"{message_json}\"]".into(),
    });
    let target = Target::of(&elsewhere).expect("right");
    let expected = "PUT /t/7?m=%22 HTTP/1.1\r\nHost: 127.0.0.1:9\r\nX-Key: key\r\nContent-Length: 6\r\n\r\n[\"\\\"\"]";
    assert_eq!(published(&target.http_publication(7, "t"), "\""), expected);
    assert_eq!(target.http_address().port(), 9);
}

#[test]
fn pusher_requests_are_signed_over_path_and_body() {
    let target = target(&by_http("pusher"));
    let request = published(&target.http_publication(0, "t"), "say \"hi\"");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, r#"{"name":"publish","data":"say \"hi\"","channels":["t"]}"#);
    assert!(head.starts_with("POST /apps/app/events?auth_key=key&auth_timestamp="), "{head}");
    assert!(head.ends_with(&format!("\r\nContent-Length: {}", body.len())), "{head}");
    let query = head.split(['?', ' ']).nth(2).expect("a query");
    let time = query.split(['=', '&']).nth(3).and_then(|time| time.parse().ok()).expect("a time");
    let mut expected = Vec::new();
    signing::Signer::new("key", "secret").put_query("POST", b"/apps/app/events", body.as_bytes(), time, &mut expected);
    assert_eq!(query, text(&expected));

    let mut own = by_http("pusher");
    own.target.app.secret = None;
    assert!(usage(&own).contains("needs target.app.secret"));
}

#[test]
fn what_is_the_same_for_all_connections_is_shared() {
    let target = target(&scenario("socket-io"));
    let (one, other) = (target.dial(Part::Publisher, 1, "a"), target.dial(Part::Publisher, 2, "b"));
    assert!(Arc::ptr_eq(&one.script, &other.script) && Arc::ptr_eq(&one.habits, &other.habits));
    let subscriber = target.dial(Part::Subscriber, 3, "a\"b");
    assert!(subscriber.script.contains(&Line::Send(br#"420["subscribe","a\"b"]"#.as_slice().into())));
    assert!(!target.publisher_is_bound());
}

#[test]
fn the_offer_is_in_the_request_and_in_the_dial() {
    let mut own = scenario("plain");
    own.target.deflate = true;
    own.target.subprotocols = vec!["mqtt".into(), "x".into()];
    own.target.headers = BTreeMap::from([("host".into(), "other".into())]);
    let target = target(&own);
    let request = request(&target, Part::Subscriber);
    assert!(request.contains("\r\nSec-WebSocket-Protocol: mqtt, x\r\n"));
    assert!(request.contains("\r\nSec-WebSocket-Extensions: permessage-deflate; "));
    assert!(request.contains("\r\nhost: other\r\n") && !request.contains("Host:"));
    assert_eq!(*target.dial(Part::Idle, 0, "").offer, Offer { deflate: true, subprotocols: own.target.subprotocols });
    assert_eq!(target.describe(), "ws://127.0.0.1:8080, preset plain, permessage-deflate offered");
}

#[test]
fn json_is_no_payload_where_it_would_stand_within_other_json() {
    for (preset, is_taken) in [
        ("fanfare", true),
        ("plain", true),
        ("bun", true),
        ("nchan", true),
        ("fanfare-native", false),
        ("socket-io", false),
    ] {
        let mut own = scenario(preset);
        own.payload.filler = Filler::Json;
        let refused = Target::of(&own).err().map(|failure| (failure.exit_code(), failure.to_string()));
        assert_eq!(refused.is_none(), is_taken, "{preset}: {refused:?}");
        assert!(refused.is_none_or(|(code, told)| code == 2 && told.contains("payload.filler (--filler) is 'json'")));
    }
}
