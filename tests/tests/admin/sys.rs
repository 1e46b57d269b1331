//! The topics `$sys.…`, that nobody else publishes to names like theirs, and the page that shows them.

use base64::Engine as _;
use fanfare_tests::{Client, Native, Raw, Server, eventually, wait_for};
use serde_json::{Value, json};

/// The data of the next message of a topic for which it holds.
fn next(native: &mut Native, topic: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_for("a report", || {
        let message = native.read_message();
        (message["topic"] == topic && holds(&message["data"])).then(|| message["data"].clone())
    })
}

#[test]
fn the_stats_tell_what_happens() {
    let server = Server::start();
    let mut listener = Client::connect(&server, "/topics/t");
    let mut native = Native::connect(&server);
    native.subscribe("$sys.stats");
    eventually("the listener subscribes", || server.http().topic("t").is_some_and(|t| t["subscribers"] == 1));
    let mut http = server.http();
    for n in 0..100 {
        http.publish("t", format!("{n}").as_bytes());
        assert_eq!(listener.read_text(), n.to_string());
    }
    let report = next(&mut native, "$sys.stats", |report| !report["delivery_ms"].is_null());
    assert_eq!((&report["connections"], report["shards"].as_array().unwrap().len()), (&json!(2), 2), "{report}");
    for rate in ["publications_per_s", "deliveries_per_s", "received_bytes_per_s", "sent_bytes_per_s"] {
        assert!(report[rate].as_f64().unwrap() > 0.0, "{rate}: {report}");
    }
    for times in ["delivery_ms", "completion_ms", "turn_ms"] {
        let at = |quantile: &str| report[times][quantile].as_f64().unwrap();
        assert!(at("p50") > 0.0 && at("p50") <= at("p99") && at("p99") <= at("max"), "{times}: {report}");
    }
    let busy: f64 = report["shards"].as_array().unwrap().iter().map(|shard| shard["busy"].as_f64().unwrap()).sum();
    assert!(busy > 0.0 && busy <= 2.0, "{report}");
    assert!(report["memory_bytes"].as_u64().unwrap() > 1 << 20, "{report}");
    drop(listener);
    let report = next(&mut native, "$sys.stats", |report| report["connections"] == 1);
    let closed = report["closed_per_s"].as_object().unwrap();
    assert!(closed.contains_key("peer_gone") || closed.contains_key("peer_reset"), "{report}");
}

#[test]
fn who_comes_later_sees_the_past() {
    let server = Server::start();
    let mut http = server.http();
    eventually("some reports are made", || {
        http.topic("$sys.stats").is_some_and(|topic| topic["history"]["messages"].as_u64() >= Some(2))
    });
    let mut native = Native::connect(&server);
    let subscribed = native.subscribe_with("$sys.stats", json!({ "history": 300 }));
    let first = native.read_message();
    let second = native.read_message();
    assert!(second["offset"].as_u64() <= subscribed["offset"].as_u64(), "both are from the past: {second}");
    assert!(first["data"]["time_ms"].as_u64() < second["data"]["time_ms"].as_u64());
}

#[test]
fn busy_topics_and_slow_connections_are_told_while_somebody_listens() {
    let server = Server::with(&["--topic", "flood:policy=drop-oldest,pending_bytes=300000"]);
    let stalled = Raw::open(server.addr(), "/topics/flood?mode=subscribe");
    eventually("it subscribes", || server.http().topic("flood").is_some_and(|t| t["subscribers"] == 1));
    let mut native = Native::connect(&server);
    assert_eq!(native.subscribe("$sys.topics")["offset"], 0, "nothing is made for nobody");
    native.subscribe("$sys.slow");
    let payload = vec![b'x'; 100_000];
    let mut http = server.http();
    let slow = wait_for("the stalled one is among the slow", || {
        http.publish("flood", &payload);
        let message = native.read_message();
        let is_there = message["data"]["connections"].as_array().is_some_and(|list| !list.is_empty());
        is_there.then(|| message["data"]["connections"][0].clone())
    });
    assert!(slow["pending"]["bytes"].as_u64().unwrap() > 0, "{slow}");
    let topics = next(&mut native, "$sys.topics", |data| data["topics"][0]["topic"] == "flood");
    assert_eq!(topics["topics"].as_array().unwrap().len(), 1, "the server's own are not among them: {topics}");
    assert_eq!(topics["topics"][0]["subscribers"], 1);
    // What is named there can be disconnected.
    let body = json!({ "connection": slow["connection"] }).to_string();
    assert_eq!(http.post("/api/disconnect", body.as_bytes()).status, 200);
    next(&mut native, "$sys.slow", |data| {
        data["connections"] == json!([]) || data["connections"][0]["state"] == "closing"
    });
    stalled.reset();
}

#[test]
fn nobody_publishes_to_the_servers_own_topics() {
    let server = Server::start();
    let mut native = Native::connect(&server);
    let answer = native.ask(&json!({ "type": "publish", "id": 1, "topic": "$sys.stats", "data": 1 }));
    assert_eq!((&answer["type"], &answer["code"], &answer["id"]), (&json!("error"), &json!("reserved"), &json!(1)));
    let answer = server.http().post("/api/publish?topic=%24sys.stats", b"x");
    answer.assert_error(403);
    assert_eq!(answer.json()["code"], "reserved");
    let batch = server.http().post("/api/batch", br#"[{"topic":"$own","data":1},{"topic":"free","data":1}]"#).json();
    assert_eq!((&batch[0]["error"]["code"], &batch[1]["topic"]), (&json!("reserved"), &json!("free")));
    for query in ["", "?mode=publish", "?mode=both"] {
        let refused = Client::connect_with(server.addr(), &format!("/topics/%24sys.stats{query}"), &[]).err();
        assert_eq!(refused, Some(403), "{query}");
    }
    let mut raw = Client::connect(&server, "/topics/%24sys.stats?mode=subscribe&history=1");
    assert!(raw.read_json()["uptime_s"].is_u64());
}

#[test]
fn wildcards_do_not_reach_the_servers_own_topics() {
    let server = Server::start();
    let mut all = Native::connect(&server);
    all.subscribe(">");
    let mut own = Native::connect(&server);
    own.subscribe("$sys.>");
    assert_eq!(own.read_message()["topic"], "$sys.stats");
    server.publish("marker", "1");
    assert_eq!(all.read_message()["topic"], "marker");
}

/// What a Content Security Policy calls a text.
fn hash(text: &str) -> String {
    // The tests' own, so that server and test do not share a mistake.
    let output = std::process::Command::new("sha256sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            use std::io::Write;
            child.stdin.take().expect("a pipe").write_all(text.as_bytes())?;
            child.wait_with_output()
        })
        .expect("sha256sum runs");
    let hex = String::from_utf8(output.stdout).unwrap();
    let bytes: Vec<u8> =
        (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect();
    format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(bytes))
}

#[test]
fn the_admin_page_is_one_file_with_a_strict_policy() {
    let server = Server::start();
    let page = server.http().get("/admin");
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let (policy, text) = (page.header("content-security-policy").unwrap().to_owned(), page.text());
    for element in ["style", "script"] {
        let (_, rest) = text.split_once(&format!("<{element}>")).unwrap();
        let (inner, rest) = rest.split_once(&format!("</{element}>")).unwrap();
        assert!(policy.contains(&hash(inner)), "{element}: {policy}");
        assert!(!rest.contains(&format!("<{element}")), "only one {element}");
    }
    assert!(!policy.contains("unsafe") && policy.contains("default-src 'none'"), "{policy}");
    assert!(policy.contains("require-trusted-types-for 'script'"), "{policy}");
    for outside in ["innerHTML", "src=", "@import", "https://", "url("] {
        assert!(!text.contains(outside), "{outside}");
    }
    // The page to try it shows what anybody publishes: as strict.
    let first = server.http().get("/");
    let (policy, text) = (first.header("content-security-policy").unwrap(), first.text());
    assert!(!policy.contains("unsafe") && policy.contains("require-trusted-types-for 'script'"), "{policy}");
    for element in ["style", "script"] {
        let inner =
            text.split_once(&format!("<{element}>")).and_then(|(_, rest)| rest.split_once(&format!("</{element}>")));
        assert!(policy.contains(&hash(inner.unwrap().0)), "{element}: {policy}");
    }
    let tag = page.header("etag").unwrap().to_owned();
    let again = server.http().request("GET", "/admin", &[("If-None-Match", &tag)], b"");
    assert_eq!(again.status, 304);
    assert_eq!(server.http().post("/admin", b"").status, 405);
}
