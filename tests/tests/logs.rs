//! What the server tells of: one line of cause for everybody who is refused or ends, never a flood, never a token; and the
//! event log.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use fanfare_tests::raw::upgrade_request;
use fanfare_tests::{Client, Raw, Server, eventually, wait_for};
use serde_json::Value;

/// The lines of the log about connections, as JSON.
fn lines(server: &Server) -> Vec<Value> {
    let text = server.stderr();
    let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    all.filter(|line| line["target"] == "fanfare::connections").collect()
}

/// The first line with this cause.
#[track_caller]
fn line(server: &Server, cause: &str) -> Value {
    wait_for(&format!("a line about {cause}"), || {
        lines(server).into_iter().find(|line| line["fields"]["cause"] == cause).map(|line| line["fields"].clone())
    })
}

#[test]
fn whoever_is_refused_or_closed_has_a_line_with_the_cause() {
    let server = Server::with(&["--log-json", "--log", "debug", "--message-bytes", "100"]);
    // Closed by the server, for its own reasons, and by the peer.
    let mut client = Client::connect(&server, "/topics/t");
    client.send_text(&"x".repeat(101));
    assert_eq!(client.read_close().0, 1009);
    let said = line(&server, "message_too_big");
    assert_eq!((said["message"].as_str(), said["code"].as_u64()), (Some("closed"), Some(1009)), "{said}");
    assert!(said["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{said}");
    assert!(said["connection"].as_str().unwrap().contains('-') && said["age_ms"].is_u64(), "{said}");
    Client::connect(&server, "/topics/t").close(4321, "a \"reason\"\nof two lines");
    let said = line(&server, "peer_close");
    assert_eq!((said["code"].as_u64(), said["reason"].as_str()), (Some(4321), Some("a \"reason\"\nof two lines")));
    // Refused, with the answer.
    for (request, cause, status, why) in [
        ("GET /nowhere", "refused", 404, "/topics/{topic}"),
        ("NOT HTTP AT ALL", "malformed_head", 400, "malformed_head"),
    ] {
        let mut raw = Raw::connect(server.addr());
        match cause {
            "refused" => raw.send(upgrade_request("/nowhere")),
            _ => raw.send(format!("{request}\r\n\r\n")),
        }
        assert_eq!(raw.read_head().status, status);
        let said = line(&server, cause);
        assert_eq!((said["message"].as_str(), said["status"].as_u64()), (Some("refused"), Some(u64::from(status))));
        assert!(said["why"].as_str().unwrap().contains(why), "{said}");
    }
    drop(Raw::connect(server.addr()));
    assert_eq!(line(&server, "gone")["message"], "refused");
}

#[test]
fn everyday_ends_are_not_told_at_the_usual_level_and_what_somebody_should_look_at_is() {
    let server = Server::with(&["--log-json", "--message-bytes", "100"]);
    Client::connect(&server, "/topics/t").close(1000, "");
    let mut client = Client::connect(&server, "/topics/t");
    client.send_text(&"x".repeat(101));
    client.read_close();
    line(&server, "message_too_big");
    eventually("both are counted", || server.metrics().closes("peer_close") == 1);
    assert!(lines(&server).iter().all(|line| line["fields"]["cause"] != "peer_close"));
}

#[test]
fn a_storm_of_one_cause_is_a_few_lines_and_says_how_many_were_left_out() {
    const STORM: usize = 400;
    let server = Server::with_exactly(&["--listen", "127.0.0.1:0", "--shards", "1", "--log-json"]);
    let refuse = || {
        let mut raw = Raw::connect(server.addr());
        raw.send("NOT HTTP AT ALL\r\n\r\n");
        assert_eq!(raw.read_head().status, 400);
    };
    (0..STORM).for_each(|_| refuse());
    // Later ones tell of those before; together they are all.
    let told = || {
        let lines = lines(&server);
        let left_out: u64 = lines.iter().filter_map(|line| line["fields"]["left_out"].as_u64()).sum();
        (lines.len() as u64, left_out)
    };
    let mut all = STORM as u64;
    wait_for("everybody is accounted for", || {
        refuse();
        all += 1;
        let (lines, left_out) = told();
        (lines + left_out == all).then_some(())
    });
    let (lines, left_out) = told();
    assert!(left_out > 0 && lines < all / 2, "{lines} lines, {left_out} left out");
    assert_eq!(server.metrics().all_refusals(), all);
}

/// The keys of the event log, in order, and the values.
fn events(server: &Server) -> Vec<(String, Value)> {
    let text = server.stderr();
    let event = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), serde_json::from_str(value).ok()?))
    };
    text.lines().filter_map(event).collect()
}

#[test]
fn the_event_log_has_a_key_and_a_value_for_everything_in_order() {
    let server = Server::with(&["--events", "--log", "off", "--sys-interval-ms", "0"]);
    let mut client = Client::connect(&server, "/topics/room?mode=both&token=s3cret");
    client.send_text("hello");
    assert_eq!(client.read_text(), "hello");
    client.send_binary(b"bin");
    client.read();
    assert_eq!(client.close(4123, "done"), (4123, "done".to_owned()));
    eventually("the socket is closed", || events(&server).iter().any(|(key, _)| key == "server.socket.close"));
    let all = events(&server);
    let keys: Vec<_> = all.iter().map(|(key, _)| key.as_str()).filter(|key| *key != "server.socket.data").collect();
    let expected = [
        "server.config",
        "server.socket.new",
        "server.upgrade",
        "websocket.server.headers",
        "websocket.server.connection",
        "topic.subscribe",
        "websocket.socket.message",
        "topic.publish",
        "websocket.socket.message",
        "topic.publish",
        "websocket.socket.close",
        "server.socket.end",
        "server.socket.close",
    ];
    assert_eq!(keys, expected);
    let value = |key: &str| &all.iter().find(|(own, _)| own == key).unwrap().1;
    assert_eq!(value("server.config")["limits"]["message_bytes"], 16 << 20);
    assert_eq!(value("server.upgrade")["url"], "/topics/room?mode=both&token=(hidden)");
    assert_eq!(value("server.upgrade")["headers"]["upgrade"], "websocket");
    assert_eq!(value("websocket.socket.message")["data"], "hello");
    assert_eq!(value("websocket.socket.close")["code"], 4123);
    assert_eq!(value("topic.subscribe")["topic"], "room");
    let socket = value("server.socket.new")["socketId"].as_str().unwrap();
    assert!(all[1..].iter().all(|(_, value)| value["socketId"] == socket));
    assert_eq!(value("websocket.socket.message")["webSocketId"], socket);
}

#[test]
fn where_clients_are_authenticated_the_event_log_does_not_show_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::with(&["--events", "--log", "debug", "--jwt-keys", &format!("HS256={}", key.display())]);
    let mut client = Client::connect(&server, "/ws");
    client.send_text("{\"type\":\"auth\",\"token\":\"s3cret.s3cret.s3cret\"}");
    eventually("it is refused", || events(&server).iter().any(|(key, _)| key == "websocket.socket.close"));
    let all = events(&server);
    let (_, message) = all.iter().find(|(key, _)| key == "websocket.socket.message").unwrap();
    assert_eq!((message["bytes"].as_u64(), &message["data"]), (Some(46), &Value::Null));
    assert!(!server.stderr().contains("s3cret"), "{}", server.stderr());
}
