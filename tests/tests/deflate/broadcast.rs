//! A broadcast is compressed at most once for each encoding, whoever subscribes, and only if that is worth it.

use fanfare_tests::raw::op;
use fanfare_tests::{Server, eventually, topic};
use serde_json::{Value, json};

use crate::kit::{Member, deflated_so_far, noise, ticks};

/// Of fifty: most of them compressed, with every window there is, and some plain.
fn window(n: usize) -> Option<u8> {
    [Some(15), Some(15), None, Some(14), Some(13), Some(12), Some(11), Some(10), Some(9), Some(15)][n % 10]
}

fn join(server: &Server, path: &str) -> Vec<(Option<u8>, Member)> {
    let members = (0..50).map(|n| (window(n), Member::of(server, path, window(n)))).collect();
    eventually("all have subscribed", || server.metrics().connections() == 50);
    members
}

#[test]
fn fifty_subscribers_with_all_windows_on_two_shards_cost_one_compression_a_publication() {
    let server = Server::with(&["--deflate"]);
    let name = topic("once");
    let mut members = join(&server, &format!("/topics/{name}?mode=subscribe"));
    let lengths = [4096, 1024, 30_000, 1 << 20];
    for (at, length) in lengths.into_iter().enumerate() {
        let text = ticks(length);
        server.publish(&name, &text);
        for (window, member) in &mut members {
            let seen = member.read();
            assert_eq!(seen.payload, text.as_bytes());
            let holds = window.is_some_and(|bits| bits == 15 || length <= 1 << bits);
            assert_eq!(seen.compressed, holds, "{length} bytes, {window:?}");
        }
        let (messages, before, after) = deflated_so_far(&server);
        assert_eq!(messages, at as u64 + 1, "once, on one of the shards");
        assert_eq!(before, lengths[..=at].iter().sum::<usize>() as u64);
        assert!(after < before / 2, "{after} of {before}");
    }
}

#[test]
fn each_encoding_is_compressed_by_itself() {
    let server = Server::with(&["--deflate"]);
    let name = topic("each");
    let mut raw = Member::of(&server, &format!("/topics/{name}?mode=subscribe"), Some(15));
    let mut native = Member::of(&server, "/ws", Some(12));
    let hello: Value = serde_json::from_str(&native.read_text()).expect("JSON");
    assert_eq!(hello["type"], "connected");
    native.send_text(&json!({ "type": "subscribe", "topic": name }).to_string());
    assert!(native.read_text().contains("subscribed"));
    let before = deflated_so_far(&server).0;
    let text = ticks(3000);
    for round in 1..4 {
        server.publish(&name, &text);
        assert_eq!(raw.read().payload, text.as_bytes());
        let seen = native.read();
        assert!(seen.compressed);
        let message: Value = serde_json::from_slice(&seen.payload).expect("JSON");
        assert_eq!((&message["type"], &message["topic"]), (&json!("message"), &json!(name)));
        assert_eq!(deflated_so_far(&server).0 - before, 2 * round);
    }
}

#[test]
fn nothing_is_compressed_for_nobody_below_the_threshold_or_in_vain() {
    let server = Server::with(&["--deflate", "--deflate-min-bytes=2000"]);
    let (name, other) = (topic("vain"), topic("nobody"));
    let mut member = Member::of(&server, &format!("/topics/{name}?mode=subscribe"), Some(15));
    let mut plain = Member::of(&server, &format!("/topics/{other}?mode=subscribe"), None);
    server.publish(&other, &ticks(5000));
    assert!(!plain.read().compressed);
    server.publish(&name, &ticks(1999));
    assert!(!member.read().compressed);
    server.publish(&name, "");
    assert_eq!(member.read().payload, b"");
    let answer = server.http().post(&format!("/api/publish?topic={name}&binary=1"), &noise(5000));
    assert_eq!(answer.status, 200);
    assert_eq!(member.read().payload, noise(5000));
    assert_eq!(deflated_so_far(&server).0, 0);
    server.publish(&name, &ticks(2000));
    assert!(member.read().compressed);
    assert_eq!(deflated_so_far(&server).0, 1);
}

#[test]
fn what_was_missed_is_recovered_compressed_and_was_compressed_once() {
    let server = Server::with(&["--deflate", "--history-messages=100"]);
    let name = topic("recovered");
    let texts: Vec<String> = (0..20).map(|n| format!("{n} {}", ticks(1500 + 100 * n))).collect();
    let first = server.publish(&name, &texts[0]);
    for text in &texts[1..] {
        server.publish(&name, text);
    }
    let since = json!({ "epoch": first["epoch"], "offset": first["offset"] });
    for again in 0..3 {
        let mut native = Member::of(&server, "/ws", Some(15));
        let _hello = native.read_text();
        let ask = json!({ "type": "subscribe", "topic": name, "since": since });
        native.send_text(&ask.to_string());
        let answer: Value = serde_json::from_str(&native.read_text()).expect("JSON");
        assert_eq!((&answer["type"], &answer["recovered"]), (&json!("subscribed"), &json!(true)), "{answer}");
        for text in &texts[1..] {
            let seen = native.read();
            assert!(seen.compressed);
            let message: Value = serde_json::from_slice(&seen.payload).expect("JSON");
            assert_eq!(message["text"], json!(text), "{again}");
        }
        assert_eq!(deflated_so_far(&server).0, 19, "history keeps what was compressed once");
    }
}

/// Everything a topic does with what waits is counted by the bytes that are sent.
#[test]
fn a_reader_that_stalls_gets_what_was_queued_whatever_the_settings_say_by_then() {
    let files = tempfile::tempdir().expect("a folder");
    let config = files.path().join("fanfare.toml");
    let write = |min: usize, level: u8| {
        let text = format!("[compression]\ndeflate = true\ndeflate_min_bytes = {min}\ndeflate_level = {level}\n");
        std::fs::write(&config, text).expect("it can be written");
    };
    write(0, 1);
    let server = Server::with(&["--config", config.to_str().expect("a path"), "--topic-pending-bytes=100000000"]);
    let name = topic("stalled");
    let path = format!("/topics/{name}?mode=subscribe");
    let mut members: Vec<Member> = (9..=15)
        .map(|window| Member::upgrade(fanfare_tests::Raw::connect_narrow(server.addr()), &path, window))
        .collect();
    eventually("all have subscribed", || server.metrics().connections() == 7);
    let texts: Vec<String> = (0..300).map(|n| format!("{n} {}", ticks(n * 97 % 20_000))).collect();
    for (n, text) in texts.iter().enumerate() {
        if n % 50 == 0 {
            write([5000, 0, 100_000][n / 50 % 3], (n / 50) as u8 + 1);
            assert_eq!(server.http().post("/api/reload", b"").status, 200);
        }
        server.publish(&name, text);
    }
    for member in &mut members {
        for text in &texts {
            let seen = member.read();
            assert_eq!((seen.opcode, seen.payload.as_slice()), (op::TEXT, text.as_bytes()));
        }
    }
    eventually("the books are closed", || server.metrics().count("fanfare_deliveries_queued", &[]) == 0);
}

#[test]
fn a_very_long_publication_goes_out_plain_to_all() {
    let server = Server::with(&["--deflate"]);
    let name = topic("long");
    let path = format!("/topics/{name}?mode=subscribe");
    let mut members = [Some(15), Some(12), None].map(|window| Member::of(&server, &path, window));
    eventually("all have subscribed", || server.metrics().connections() == 3);
    let text = ticks((1 << 20) + 1);
    server.publish(&name, &text);
    for member in &mut members {
        let seen = member.read();
        assert_eq!((seen.compressed, seen.payload == text.as_bytes()), (false, true));
    }
    assert_eq!(deflated_so_far(&server).0, 0);
}
