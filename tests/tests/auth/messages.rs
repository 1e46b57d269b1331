//! Tokens in messages: the first one, a new one, and what becomes of a connection without.

use std::time::Duration;

use fanfare_tests::{Client, eventually};
use serde_json::{Value, json};

use super::kit::{Fanfare, now, token, token_of};

fn auth(token: &str) -> String {
    json!({ "type": "auth", "id": 1, "token": token }).to_string()
}

/// A native client that has been greeted and has shown nothing.
#[track_caller]
fn stranger(server: &Fanfare) -> Client {
    let mut client = server.connect("/ws", &[]).expect("a token may come later");
    assert_eq!(client.read_json()["authenticated"], false);
    client
}

#[test]
fn the_first_message_may_bring_the_token_and_what_follows_it_is_done() {
    let server = Fanfare::start();
    let mut client = stranger(&server);
    let until = now() + 100;
    client.send_text(&auth(&token(json!({ "sub": "ada", "exp": until, "permissions": { "subscribe": ["t"] } }))));
    client.send_text(r#"{"type":"subscribe","id":2,"topic":"t"}"#);
    client.send_text(r#"{"type":"publish","id":3,"topic":"t","data":1}"#);
    assert_eq!(client.read_json(), json!({ "type": "authenticated", "id": 1, "subject": "ada", "expires_at": until }));
    let said = client.read_json();
    assert_eq!((&said["type"], &said["id"]), (&json!("subscribed"), &json!(2)));
    let said = client.read_json();
    assert_eq!((&said["type"], &said["id"], &said["code"]), (&json!("error"), &json!(3), &json!("forbidden")));
    assert_eq!((server.decisions("waiting"), server.decisions("accepted")), (1, 1));
}

#[test]
fn who_says_something_else_first_or_brings_a_bad_token_is_closed() {
    let server = Fanfare::start();
    let expired = auth(&token(json!({ "exp": now() - 1 })));
    for (path, first, part) in [
        ("/ws", r#"{"type":"subscribe","topic":"t"}"#, "unauthenticated"),
        ("/ws", r#"{"type":"ping"}"#, "unauthenticated"),
        ("/ws", "rubbish", "unauthenticated"),
        ("/ws", &*expired, "invalid_token: the token has expired"),
        ("/ws", r#"{"type":"auth"}"#, "unauthenticated"),
        ("/ws", r#"{"type":"auth","token":7}"#, "unauthenticated"),
        ("/topics/t", "hello", "unauthenticated"),
        ("/topics/t", r#"{"type":"auth"}"#, "unauthenticated"),
        ("/topics/t", r#"{"type":"auth","token":"a.b.c"}"#, "invalid_token"),
    ] {
        let mut client = server.connect(path, &[]).expect("a token may come later");
        client.send_text(first);
        let (code, reason) = client.read_close();
        assert_eq!(code, 4002, "{path} {first}: {reason}");
        assert!(reason.contains(part), "{path} {first}: {reason}");
    }
    let topic = server.engine().handle().topic("t");
    assert!(topic.is_none_or(|topic| topic.offset == 0 && topic.subscribers == 0), "nothing of it was done");
    assert_eq!(server.count("closed_total{cause=\"invalid\"}"), 9);
}

#[test]
fn a_stranger_who_says_nothing_is_closed_in_time() {
    let server = Fanfare::with(|settings| settings.timeout = Duration::from_millis(200));
    for path in ["/ws", "/topics/t"] {
        let mut client = server.connect(path, &[]).expect("a token may come later");
        assert_eq!(client.read_close(), (4001, "authentication timeout".into()), "{path}");
    }
    assert_eq!(server.count("closed_total{cause=\"timeout\"}"), 2);
    // Who has shown a token is not.
    let (mut client, _) = server.native(&token_of("ada"));
    assert_eq!(client.read_within(Duration::from_millis(600)), None);
}

#[test]
fn a_connection_ends_with_its_token_unless_a_new_one_comes() {
    let server = Fanfare::start();
    let (mut ending, _) = server.native(&token(json!({ "sub": "ada", "exp": now() + 2 })));
    let (mut staying, _) = server.native(&token(json!({ "sub": "ada", "exp": now() + 2 })));
    let raw = token(json!({ "exp": now() + 2, "permissions": { "subscribe": ["t"] } }));
    let mut raw = server.connect(&format!("/topics/t?mode=subscribe&token={raw}"), &[]).expect("a good token");
    staying.send_text(&auth(&token_of("ada")));
    assert_eq!(staying.read_json()["type"], "authenticated");
    for client in [&mut ending, &mut raw] {
        assert_eq!(client.read_close(), (4003, "token expired".into()));
    }
    staying.send_text(r#"{"type":"ping"}"#);
    assert_eq!(staying.read_json()["type"], "pong");
    assert_eq!(server.count("closed_total{cause=\"expired\"}"), 2);
}

#[test]
fn a_token_of_somebody_else_is_refused_and_changes_nothing() {
    let server = Fanfare::start();
    let (mut client, _) = server.native(&token_of("ada"));
    client.send_text(&auth(&token_of("eve")));
    let said = client.read_json();
    assert_eq!((&said["type"], &said["id"], &said["code"]), (&json!("error"), &json!(1), &json!("invalid_token")));
    assert!(said["message"].as_str().is_some_and(|message| message.contains("another subject")), "{said}");
    client.send_text(r#"{"type":"subscribe","topic":"t"}"#);
    assert_eq!(client.read_json()["type"], "subscribed");
    assert_eq!(server.decisions("other_subject"), 1);
    // A raw connection has no other way to be told.
    let mut raw = server.connect(&format!("/topics/t?token={}", token_of("ada")), &[]).expect("a good token");
    raw.send_text(&auth(&token_of("eve")));
    assert_eq!(raw.read_close().0, 4002);
}

#[test]
fn what_a_new_token_does_not_permit_is_ended_and_told() {
    let server = Fanfare::start();
    let (mut client, _) = server.native(&token_of("ada"));
    for topic in ["a.b", "a.c", "b", "a.>"] {
        client.send_text(&json!({ "type": "subscribe", "topic": topic }).to_string());
        assert_eq!(client.read_json()["type"], "subscribed");
    }
    client.send_text(&auth(&token(json!({ "sub": "ada", "permissions": { "subscribe": ["a.b", "b"] } }))));
    assert_eq!(client.read_json()["type"], "authenticated");
    let mut ended: Vec<Value> = (0..2).map(|_| client.read_json()).collect();
    ended.sort_by_key(|said| said["topic"].to_string());
    let told = |topic: &str| json!({ "type": "unsubscribed", "topic": topic, "reason": "forbidden" });
    assert_eq!(ended, [told("a.>"), told("a.c")]);
    client.send_text(r#"{"type":"unsubscribe","topic":"b"}"#);
    assert_eq!(client.read_json(), json!({ "type": "unsubscribed", "topic": "b" }));
    client.send_text(r#"{"type":"unsubscribe","topic":"a.c"}"#);
    assert_eq!(client.read_json()["code"], "not_subscribed");
    // The raw protocol is one topic: without it, there is nothing left.
    let mut raw = server.connect(&format!("/topics/t?token={}", token_of("ada")), &[]).expect("a good token");
    raw.send_text(&auth(&token(json!({ "sub": "ada", "permissions": { "subscribe": ["t"] } }))));
    let (code, reason) = raw.read_close();
    assert_eq!((code, &*reason), (1008, "forbidden: you may not publish to 't'"));
}

#[test]
fn a_token_is_never_published() {
    let server = Fanfare::start();
    let (mut listener, _) = server.native(&token_of("eve"));
    listener.send_text(r#"{"type":"subscribe","topic":"t"}"#);
    assert_eq!(listener.read_json()["type"], "subscribed");
    let mut raw = server.connect("/topics/t?history=1", &[]).expect("a token may come later");
    let own = token_of("ada");
    for text in [
        auth(&own),
        format!(" \n{{\"token\" : \"{own}\", \"type\":\"auth\", \"more\":[1]}}"),
        format!("{{\"t\\u0079pe\":\"\\u0061uth\",\"token\":\"{own}\"}}"),
    ] {
        raw.send_text(&text);
    }
    // What only looks like it is a message as any other.
    let others = [r#"{"type":"auth"}"#, r#"{"type":"login","token":"x"}"#, r#"["auth"]"#, r#""auth""#];
    for text in others {
        raw.send_text(text);
    }
    raw.send_binary(auth(&own).replace(&own, "x").as_bytes());
    for text in others {
        let said = listener.read_json();
        assert_eq!(said["type"], "message");
        assert!(!said.to_string().contains(&own));
        let sent: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(said["data"], sent);
        assert_eq!(raw.read_text(), text, "it is subscribed since its first token");
    }
    assert!(listener.read_json()["base64"].is_string(), "a binary message is never a token");
}

#[test]
fn a_connection_has_the_subject_and_the_limits_of_its_token() {
    let server = Fanfare::start();
    let mut client = stranger(&server);
    client.send_text(&auth(&token(json!({ "sub": "ada", "limits": { "subscriptions_max": 1 } }))));
    assert_eq!(client.read_json()["subject"], "ada");
    client.send_text(&auth("rubbish"));
    assert_eq!(client.read_json()["code"], "invalid_token", "a bad token takes nothing away");
    client.send_text(r#"{"type":"ping"}"#);
    assert_eq!(client.read_json()["type"], "pong");
    drop(client);
    server.await_connections(0);
}

#[test]
fn without_authentication_tokens_are_neither_needed_nor_looked_at() {
    let server = Fanfare::with(|settings| settings.jwt_keys.clear());
    let mut client = server.connect("/ws?token=rubbish", &[("Authorization", "Bearer rubbish")]).expect("it is open");
    let hello = client.read_json();
    assert_eq!((hello["type"].clone(), hello.get("authenticated")), (json!("connected"), None));
    client.send_text(&auth("rubbish"));
    assert_eq!(client.read_json(), json!({ "type": "authenticated", "id": 1, "subject": null, "expires_at": null }));
    let mut raw = server.connect("/topics/t", &[]).expect("it is open");
    raw.send_text(r#"{"type":"auth","token":"a message as any other"}"#);
    assert_eq!(raw.read_text(), r#"{"type":"auth","token":"a message as any other"}"#);
    eventually("all are counted", || server.decisions("anonymous") == 2);
}
