//! What somebody may do with topics.

use fanfare_tests::Client;
use serde_json::{Value, json};

use super::kit::{Fanfare, role, token};

/// Asks, and gives the answer's type, or its code if it is an error.
#[track_caller]
fn ask(client: &mut Client, request: Value) -> String {
    client.send_text(&request.to_string());
    loop {
        let said = client.read_json();
        let kind = said["type"].as_str().expect("a type");
        match kind {
            "message" => {}
            "error" => return said["code"].as_str().expect("a code").into(),
            _ => return kind.into(),
        }
    }
}

#[track_caller]
fn subscribe(client: &mut Client, topic: &str) -> String {
    ask(client, json!({ "type": "subscribe", "topic": topic }))
}

#[track_caller]
fn publish(client: &mut Client, topic: &str) -> String {
    ask(client, json!({ "type": "publish", "topic": topic, "data": 1 }))
}

#[test]
fn each_request_needs_its_own_permission() {
    let server = Fanfare::start();
    let permissions = json!({ "subscribe": ["s.>", "one.*"], "publish": ["p.>"], "history": ["h.>"] });
    let (mut client, _) = server.native(&token(json!({ "sub": "ada", "permissions": permissions })));
    for (topic, expected) in [
        ("s.a", "subscribed"),
        ("s.a.b", "subscribed"),
        ("s.>", "subscribed"),
        ("s.*.c", "subscribed"),
        ("one.*", "subscribed"),
        ("one.>", "forbidden"),
        ("one.a.b", "forbidden"),
        ("s", "forbidden"),
        (">", "forbidden"),
        ("*.a", "forbidden"),
        ("p.a", "forbidden"),
        ("h.a", "forbidden"),
        ("", "forbidden"),
    ] {
        assert_eq!(subscribe(&mut client, topic), expected, "{topic}");
    }
    for (topic, expected) in [("p.a", "published"), ("s.a", "forbidden"), ("h.a", "forbidden"), ("p.>", "bad_topic")] {
        assert_eq!(publish(&mut client, topic), expected, "{topic}");
    }
    let mut history = |topic: &str| ask(&mut client, json!({ "type": "history", "topic": topic }));
    assert_eq!((&*history("h.a"), &*history("s.a")), ("no_such_topic", "forbidden"));
    assert!(server.engine().handle().topic("h.a").is_none(), "what is refused leaves nothing behind");
}

#[test]
fn a_wildcard_does_not_stand_for_what_is_the_servers_own() {
    let server = Fanfare::start();
    let all = json!([">"]);
    let (mut client, _) =
        server.native(&token(json!({ "permissions": { "subscribe": all, "publish": all, "history": all } })));
    for topic in ["$sys.stats", "$sys.>", "$sys.*", "$other"] {
        assert_eq!(subscribe(&mut client, topic), "forbidden", "{topic}");
    }
    let own = json!({ "subscribe": ["$sys.stats"], "publish": ["$sys.>"] });
    let (mut client, _) = server.native(&token(json!({ "permissions": own })));
    assert_eq!(subscribe(&mut client, "$sys.stats"), "subscribed");
    assert_eq!(subscribe(&mut client, "$sys.>"), "forbidden");
    assert_eq!(publish(&mut client, "$sys.stats"), "reserved", "whatever a token says");
    // Who knows nobody, trusts this machine alone; and a page that pretends to be from it is not from it.
    let open = Fanfare::with(|settings| settings.jwt_keys.clear());
    for (headers, expected) in [
        (vec![("Host", "localhost:1")], "subscribed"),
        (vec![("Host", "rebound.example")], "forbidden"),
        (vec![("X-Forwarded-For", "127.0.0.1")], "forbidden"),
        (vec![("Via", "1.1 proxy")], "forbidden"),
    ] {
        let mut client = open.connect("/ws", &headers).expect("it is open");
        client.read_json();
        assert_eq!(subscribe(&mut client, "$sys.stats"), expected, "{headers:?}");
        assert_eq!(subscribe(&mut client, ">"), "subscribed", "{headers:?}");
        assert_eq!(publish(&mut client, "$sys.stats"), if expected == "subscribed" { "reserved" } else { "forbidden" });
    }
    let answer = open.upgrade("/topics/%24sys.stats", &[]);
    assert_eq!((answer.status, answer.json()["code"].clone()), (403, json!("reserved")));
    assert_eq!(open.upgrade("/topics/%24sys.stats?mode=subscribe", &[]).status, 101);
    assert_eq!(open.upgrade("/topics/%24sys.stats?mode=subscribe", &[("Forwarded", "for=x")]).status, 403);
}

#[test]
fn roles_are_for_their_subject_alone_whatever_it_calls_itself() {
    let server = Fanfare::with(|settings| {
        settings.roles = vec![role("default", &["news"], &[]), role("user", &["user.{sub}.>"], &["{sub}"])];
    });
    let login = |subject: Value| {
        let mut claims = json!({ "role": "user" });
        claims["sub"] = subject;
        server.native(&token(claims)).0
    };
    let mut ada = login(json!("ada"));
    for (topic, expected) in [
        ("user.ada.inbox", "subscribed"),
        ("user.ada.>", "subscribed"),
        ("user.eve.inbox", "forbidden"),
        ("user.*.inbox", "forbidden"),
        ("user.>", "forbidden"),
        ("news", "subscribed"),
    ] {
        assert_eq!(subscribe(&mut ada, topic), expected, "{topic}");
    }
    for hostile in ["*", ">", "ada.inbox", "ada", "$sys", "{sub}", "%2A"] {
        let mut eve = login(json!(hostile));
        let is_ada = hostile == "ada";
        for topic in ["user.ada.inbox.x", "user.ada.>"] {
            assert_eq!(subscribe(&mut eve, topic) == "subscribed", is_ada, "{hostile}: {topic}");
        }
        for topic in ["user.*.>", "user.>", "user.*.x"] {
            assert_eq!(subscribe(&mut eve, topic), "forbidden", "{hostile}: {topic}");
        }
        for topic in ["ada", "anything"] {
            let expected = if is_ada && topic == "ada" { "published" } else { "forbidden" };
            assert_eq!(publish(&mut eve, topic), expected, "{hostile}: {topic}");
        }
        assert_eq!(publish(&mut eve, "$sys"), "forbidden", "{hostile}");
    }
    let mut dotted = login(json!("ada@example.org"));
    assert_eq!(subscribe(&mut dotted, "user.ada@example%2Eorg.inbox"), "subscribed");
    let mut nobody = server.native(&token(json!({ "role": "user" }))).0;
    assert_eq!(subscribe(&mut nobody, "user..inbox"), "forbidden");
    assert_eq!(subscribe(&mut nobody, "news"), "subscribed");
}

#[test]
fn who_may_come_without_a_token_has_the_permissions_of_the_anonymous_and_may_say_later_who_it_is() {
    let server = Fanfare::with(|settings| {
        settings.roles = vec![role("anonymous", &["public.>"], &[]), role("default", &["members"], &[])];
    });
    let mut client = server.connect("/ws", &[]).expect("anybody may come in");
    assert_eq!(client.read_json()["authenticated"], false);
    assert_eq!(subscribe(&mut client, "public.a"), "subscribed");
    assert_eq!(subscribe(&mut client, "members"), "forbidden");
    assert_eq!(publish(&mut client, "public.a"), "forbidden");
    assert_eq!(server.upgrade("/topics/public.a?mode=subscribe", &[]).status, 101);
    let answer = server.upgrade("/topics/members?mode=subscribe", &[]);
    assert_eq!((answer.status, answer.json()["code"].clone()), (401, json!("unauthenticated")), "a token might help");
    assert_eq!(server.upgrade("/ws", &[("Authorization", "Bearer rubbish")]).status, 401, "a bad token is no less bad");
    client.send_text(&json!({ "type": "auth", "token": token(json!({ "sub": "ada" })) }).to_string());
    assert_eq!(client.read_json()["subject"], "ada");
    assert_eq!(client.read_json()["reason"], "forbidden", "what only the anonymous may is ended");
    assert_eq!(subscribe(&mut client, "members"), "subscribed");
}
