//! Switched while it runs: who has agreed goes on, who comes anew agrees on what holds then.

use fanfare_tests::raw::upgrade_request_with;
use fanfare_tests::{Raw, Server, topic};
use serde_json::json;

use crate::kit::{Member, OFFER, deflated_so_far, ticks};

#[test]
fn a_reload_switches_it_for_those_who_come_and_leaves_those_who_are_there() {
    let files = tempfile::tempdir().expect("a folder");
    let config = files.path().join("fanfare.toml");
    let reload = |text: &str, server: Option<&Server>| {
        std::fs::write(&config, text).expect("it can be written");
        server.map(|server| server.http().post("/api/reload", b"").json())
    };
    reload("[compression]\ndeflate = true\n", None);
    let server = Server::with(&["--config", config.to_str().expect("a path")]);
    let name = topic("live");
    let path = format!("/topics/{name}?mode=subscribe");
    let mut old = Member::of(&server, &path, Some(15));
    let told = reload("[compression]\ndeflate = false\ndeflate_level = 9\n", Some(&server)).expect("an answer");
    let changed: Vec<_> = told["changes"].as_array().expect("a list").iter().map(|c| c["setting"].clone()).collect();
    assert_eq!(changed, [json!("compression.deflate"), json!("compression.deflate_level")]);
    assert_eq!(told["restart"], json!([]));
    let mut refused = Raw::connect(server.addr());
    refused.send(upgrade_request_with(&path, &format!("Sec-WebSocket-Extensions: {OFFER}\r\n")));
    let answer = refused.read_head();
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
    server.publish(&name, &ticks(2000));
    assert!(old.read().compressed, "what was agreed on holds");
    assert!(!refused.read_frame().rsv1);
    reload("[compression]\ndeflate = true\ndeflate_min_bytes = 10\n", Some(&server));
    let mut new = Member::of(&server, &path, Some(15));
    server.publish(&name, &"short ".repeat(10));
    assert!(old.read().compressed && new.read().compressed, "the new threshold is everybody's");
    assert_eq!(deflated_so_far(&server).0, 2);
}

#[test]
fn the_api_tells_which_connections_are_compressed() {
    let server = Server::with(&["--deflate"]);
    let path = format!("/topics/{}?mode=subscribe", topic("told"));
    let members = [Member::of(&server, &path, Some(15)), Member::of(&server, &path, None)];
    fanfare_tests::eventually("both are there", || server.metrics().connections() == 2);
    let list = server.http().get("/api/connections").json();
    let mut told = Vec::new();
    for connection in list["connections"].as_array().expect("a list") {
        let id = connection["connection"].as_str().expect("a name");
        assert_eq!(server.http().get(&format!("/api/connections/{id}")).json()["compressed"], connection["compressed"]);
        told.push(connection["compressed"].as_bool().expect("told of each"));
    }
    told.sort_unstable();
    assert_eq!(told, [false, true]);
    drop(members);
}
