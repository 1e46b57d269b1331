//! The routes that tell of connections and topics and that do something for them, against the real binary.

use fanfare_tests::http::{Response, encode};
use fanfare_tests::{Client, Native, Raw, Server, eventually, topic, wait_for};
use serde_json::{Value, json};

fn get(server: &Server, target: &str) -> Value {
    let answer = server.http().get(target);
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.json()
}

fn post(server: &Server, target: &str, body: &Value) -> Response {
    server.http().post(target, body.to_string().as_bytes())
}

#[track_caller]
fn done(answer: &Response) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[track_caller]
fn refused(answer: &Response, status: u16, code: &str) {
    answer.assert_error(status);
    assert_eq!(answer.json()["code"], code, "{}", answer.text());
}

fn names(server: &Server, query: &str) -> Vec<String> {
    let list = get(server, &format!("/api/connections?{query}"));
    let names = list["connections"].as_array().unwrap().iter().map(|c| c["connection"].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn connections_are_found_by_topic_address_state_and_what_waits() {
    let server = Server::start();
    let (news, other) = (topic("news"), topic("other"));
    let mut native = Native::connect(&server);
    native.subscribe(&news);
    let _raw = Client::connect(&server, &format!("/topics/{other}"));
    eventually("both are there", || names(&server, "").len() == 2);
    assert_eq!(names(&server, &format!("topic={news}")), [native.connection.as_str()]);
    assert_eq!(names(&server, &format!("topic={other}&state=open")).len(), 1);
    assert!(names(&server, "topic=nowhere").is_empty());
    assert_eq!(names(&server, "peer=127.0.0.1").len(), 2);
    assert_eq!(names(&server, "peer=127.0.0.0%2F8&limit=1").len(), 1);
    assert!(names(&server, "peer=10.0.0.0%2F8").is_empty());
    assert!(names(&server, "peer=%3A%3A1").is_empty());
    assert!(names(&server, "state=closing").is_empty());
    assert!(names(&server, "subject=nobody").is_empty());
    assert!(names(&server, "pending_min=1").is_empty());
    for query in ["peer=here", "peer=10.0.0.0/33", "state=ajar", "pending_min=-1", "rates_over_ms=5", "sort=rate"] {
        refused(&server.http().get(&format!("/api/connections?{query}")), 400, "bad_query");
    }
    refused(&server.http().get("/api/connections?topic=a.%3E.b"), 400, "bad_topic");
}

#[test]
fn who_does_not_read_is_found_by_what_waits_for_it() {
    let server = Server::with(&["--topic", "flood:policy=drop-oldest,pending_bytes=200000"]);
    let stalled = Raw::open(server.addr(), "/topics/flood?mode=subscribe");
    eventually("it subscribes", || server.http().topic("flood").is_some_and(|t| t["subscribers"] == 1));
    let payload = "x".repeat(60_000);
    wait_for("something waits for it", || {
        server.publish("flood", &payload);
        (names(&server, "pending_min=100000").len() == 1).then_some(())
    });
    assert!(names(&server, "pending_min=100000000").is_empty());
    stalled.reset();
}

#[test]
fn one_connection_is_told_whole() {
    let server = Server::start();
    let (name, pattern) = (topic("room"), "many.*");
    let mut native = Native::connect(&server);
    native.subscribe(&name);
    native.subscribe(pattern);
    let told = get(&server, &format!("/api/connections/{}", native.connection));
    assert_eq!(told["connection"], native.connection);
    assert_eq!(told["state"], "open");
    assert_eq!(told["subject"], Value::Null);
    assert_eq!(told["topics"], json!([name, pattern]));
    assert_eq!(told["topics_complete"], true);
    assert_eq!(told["received_messages"], 2);
    assert!(told["received_bytes"].as_u64().unwrap() > 100 && told["sent_bytes"].as_u64().unwrap() > 100, "{told}");
    refused(&server.http().get("/api/connections/0-ffff-0"), 404, "no_such_connection");
    refused(&server.http().get("/api/connections/garbage"), 400, "bad_connection");
}

#[test]
fn rates_are_what_two_looks_differ_by() {
    let server = Server::start();
    let name = topic("rates");
    let mut native = Native::connect(&server);
    native.subscribe(&name);
    let listing = std::thread::scope(|scope| {
        let asked = scope.spawn(|| get(&server, "/api/connections?rates_over_ms=1500"));
        while !asked.is_finished() {
            native.publish(&name, json!("some text"));
        }
        asked.join().unwrap()
    });
    let rates = &listing["connections"][0]["rates"];
    for rate in ["received_bytes_per_s", "received_messages_per_s", "sent_bytes_per_s"] {
        assert!(rates[rate].as_f64().unwrap() > 1.0, "{rate}: {listing}");
    }
    assert_eq!(get(&server, "/api/connections")["connections"][0]["rates"], Value::Null);
}

#[test]
fn a_native_client_is_told_what_is_done_for_it() {
    let server = Server::start();
    let name = topic("pushed");
    server.publish(&name, "\"before\"");
    let mut native = Native::connect(&server);
    let path = format!("/api/connections/{}", native.connection);
    let all = json!({ "connections": 1, "done": 1, "failed": {} });
    let answer = post(&server, &format!("{path}/subscribe"), &json!({ "topic": name, "history": 5 }));
    assert_eq!(done(&answer), all);
    let pushed = native.read();
    assert_eq!((&pushed["type"], &pushed["topic"], &pushed["offset"]), (&json!("subscribed"), &json!(name), &json!(1)));
    assert_eq!(pushed.get("id"), None);
    assert_eq!(native.read_message()["data"], "before");
    server.publish(&name, "{\"n\":1}");
    assert_eq!(native.read_message()["data"], json!({ "n": 1 }));
    // Again changes nothing, and nothing is said again.
    assert_eq!(done(&post(&server, &format!("{path}/subscribe"), &json!({ "topic": name }))), all);

    let body = json!({ "connection": native.connection, "data": { "hello": [1, 2] } });
    assert_eq!(done(&post(&server, "/api/send", &body)), all);
    assert_eq!(native.read(), json!({ "type": "direct", "data": { "hello": [1, 2] } }));
    assert_eq!(done(&post(&server, &format!("{path}/send"), &json!({ "base64": "AP8=" }))), all);
    assert_eq!(native.read(), json!({ "type": "direct", "base64": "AP8=" }));

    assert_eq!(done(&post(&server, &format!("{path}/unsubscribe"), &json!({ "topic": name }))), all);
    assert_eq!(native.read(), json!({ "type": "unsubscribed", "topic": name, "reason": "administrative" }));
    refused(&post(&server, &format!("{path}/unsubscribe"), &json!({ "topic": name })), 404, "not_subscribed");
    assert_eq!(done(&post(&server, "/api/disconnect", &json!({ "connection": native.connection, "code": 4004 }))), all);
    assert_eq!(native.client().read_close().0, 4004);
}

#[test]
fn a_raw_client_gets_bare_payloads() {
    let server = Server::start();
    let (own, more) = (topic("own"), topic("more"));
    let mut raw = Client::connect(&server, &format!("/topics/{own}"));
    let id = wait_for("it is there", || names(&server, "").into_iter().next());
    done(&post(&server, "/api/subscribe", &json!({ "connection": id, "topic": more })));
    server.publish(&more, "of another topic");
    assert_eq!(raw.read_text(), "of another topic");
    done(&post(&server, "/api/send", &json!({ "connection": id, "text": "straight" })));
    assert_eq!(raw.read_text(), "straight");
    done(&post(&server, "/api/send", &json!({ "connection": id, "data": { "a": 1 } })));
    assert_eq!(raw.read_json(), json!({ "a": 1 }));
    done(&post(&server, "/api/send", &json!({ "connection": id, "base64": "AP8=" })));
    assert_eq!(raw.read(), tungstenite::Message::binary(vec![0, 255]));
}

#[test]
fn a_subject_nobody_has_is_no_error_but_reaches_none() {
    let server = Server::start();
    let none = json!({ "connections": 0, "done": 0, "failed": {} });
    for (route, mut body) in [
        ("disconnect", json!({})),
        ("send", json!({ "data": null })),
        ("subscribe", json!({ "topic": "t" })),
        ("unsubscribe", json!({ "topic": "t" })),
    ] {
        body["subject"] = json!("nobody");
        assert_eq!(done(&post(&server, &format!("/api/{route}"), &body)), none, "{route}");
    }
}

#[test]
fn bodies_are_checked_strictly() {
    let server = Server::start();
    let long = "s".repeat(2000);
    for (route, body, code) in [
        ("disconnect", json!({}), "bad_request"),
        ("disconnect", json!({ "subject": "a", "connection": "0-0-0" }), "bad_request"),
        ("disconnect", json!({ "subject": "a", "because": "x" }), "bad_request"),
        ("disconnect", json!({ "subject": "a", "code": 1005 }), "bad_request"),
        ("disconnect", json!({ "subject": "a", "reason": "r".repeat(124) }), "bad_request"),
        ("disconnect", json!({ "subject": long }), "bad_request"),
        ("disconnect", json!({ "connection": "nonsense" }), "bad_connection"),
        ("disconnect", json!([1]), "bad_request"),
        ("subscribe", json!({ "subject": "a" }), "bad_request"),
        ("subscribe", json!({ "subject": "a", "topic": "" }), "bad_topic"),
        ("subscribe", json!({ "subject": "a", "topic": "a.*", "history": 1 }), "bad_request"),
        ("subscribe", json!({ "subject": "a", "topic": "a", "since": null }), "bad_request"),
        ("unsubscribe", json!({ "subject": "a", "topic": 1 }), "bad_request"),
        ("send", json!({ "subject": "a" }), "bad_request"),
        ("send", json!({ "subject": "a", "data": 1, "text": "x" }), "bad_request"),
        ("send", json!({ "subject": "a", "base64": "?" }), "bad_request"),
        ("connections/0-0-0/send", json!({ "subject": "a", "data": 1 }), "bad_request"),
    ] {
        refused(&post(&server, &format!("/api/{route}"), &body), 400, code);
    }
    refused(&server.http().post("/api/send", b"{"), 400, "bad_json");
    refused(&server.http().post("/api/disconnect", b"\xff"), 400, "bad_utf8");
    refused(&server.http().post("/api/disconnect?x=1", b"{}"), 400, "bad_query");
    refused(&post(&server, "/api/disconnect", &json!({ "connection": "0-ffff-0" })), 404, "no_such_connection");
    refused(&post(&server, "/api/connections/0-ffff-0/send", &json!({ "data": 1 })), 404, "no_such_connection");
    refused(&server.http().get("/api/disconnect"), 405, "method_not_allowed");
    let foreign = [("Origin", "https://evil.example")];
    let answer = server.http().request("POST", "/api/disconnect", &foreign, b"{\"subject\":\"a\"}");
    refused(&answer, 403, "origin_not_allowed");
}

#[test]
fn a_bound_of_the_connection_is_answered_as_a_conflict() {
    let server = Server::with(&["--pattern-topics-max", "2"]);
    for n in 0..4 {
        server.publish(&format!("wide.{n}"), "x");
    }
    let native = Native::connect(&server);
    let body = json!({ "connection": native.connection, "topic": "wide.*" });
    refused(&post(&server, "/api/subscribe", &body), 409, "too_many_subscriptions");
}

#[test]
fn a_history_is_taken_away() {
    let server = Server::start();
    let name = topic("secret");
    for n in 0..3 {
        server.publish(&name, &n.to_string());
    }
    let path = format!("/api/topics/{}/history", encode(&name));
    let removed = server.http().request("DELETE", &path, &[], b"");
    assert_eq!(done(&removed), json!({ "topic": name, "removed": 3 }));
    let left = get(&server, &path);
    assert_eq!((&left["offset"], left["publications"].as_array().unwrap().len()), (&json!(3), 0));
    refused(&server.http().request("DELETE", "/api/topics/nowhere/history", &[], b""), 404, "no_such_topic");
}

#[test]
fn topics_are_listed_by_rate() {
    let server = Server::start();
    let mut http = server.http();
    for (name, times) in [("calm", 1), ("lively", 400), ("steady", 60)] {
        for _ in 0..times {
            http.publish(name, b"x");
        }
    }
    let list = get(&server, "/api/topics?sort=rate&limit=2");
    let topics: Vec<&str> = list["topics"].as_array().unwrap().iter().map(|t| t["topic"].as_str().unwrap()).collect();
    assert_eq!(topics, ["lively", "steady"]);
    assert!(list["topics"][0]["publications_per_s"].as_f64().unwrap() > 1.0, "{list}");
    assert_eq!(list["topics"][0]["deliveries_per_s"], 0.0);
    assert_eq!(list["next"], Value::Null);
    refused(&http.get("/api/topics?sort=rate&after=a"), 400, "bad_query");
    refused(&http.get("/api/topics?sort=size"), 400, "bad_query");
    let all = get(&server, "/api/topics");
    assert_eq!(all["topics"].as_array().unwrap().len(), 3, "the server's own are not among them: {all}");
}
