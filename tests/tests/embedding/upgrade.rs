//! What a handler sees of an upgrade, and what becomes of its decision.

use std::io::{Read, Write};
use std::sync::mpsc;

use fanfare::{Accept, Decision, Origins, Refusal};
use tungstenite::Error;

use crate::kit::{Client, Running, Script, read_answer, settings, tcp, upgrade_head};

/// The answer to an upgrade that is refused.
#[track_caller]
fn refused(engine: &Running, path: &str, headers: &[(&'static str, &str)]) -> tungstenite::http::Response<String> {
    match Client::try_connect(engine.addr(), path, headers) {
        Err(Error::Http(answer)) => answer.map(|body| String::from_utf8(body.unwrap_or_default()).unwrap()),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn a_refusal_carries_status_headers_and_text() {
    let engine = Running::start(Script::new().on_upgrade(|_| {
        Refusal::new(429).header("Retry-After", "7").header("bad name", "ignored").text("too many of you").into()
    }));
    let answer = refused(&engine, "/", &[]);
    assert_eq!(answer.status(), 429);
    assert_eq!(answer.headers()["retry-after"], "7");
    assert!(answer.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
    let mut stream = tcp(engine.addr());
    stream.write_all(upgrade_head("/").as_bytes()).unwrap();
    let (head, body) = read_answer(&mut stream);
    assert!(head.starts_with("http/1.1 429 "), "{head}");
    assert!(!head.contains("bad name"), "{head}");
    assert_eq!(body, "too many of you");
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "a refused connection is closed");
    assert_eq!(engine.log.all(), [], "nothing was opened");
}

#[test]
fn a_refusal_can_be_the_json_of_the_http_api() {
    let engine =
        Running::start(Script::new().on_upgrade(|_| Refusal::new(403).error("no_entry", "not \"you\"").into()));
    let mut stream = tcp(engine.addr());
    stream.write_all(upgrade_head("/").as_bytes()).unwrap();
    let (head, body) = read_answer(&mut stream);
    assert!(head.contains("content-type: application/json"), "{head}");
    assert_eq!(body, r#"{"code":"no_entry","message":"not \"you\""}"#);
}

#[test]
fn a_refusal_that_would_be_no_refusal_is_an_internal_error() {
    let engine = Running::start(Script::new().on_upgrade(|_| Decision::refuse(101, "what?")));
    assert_eq!(refused(&engine, "/", &[]).status(), 500);
}

#[test]
fn the_data_given_at_the_upgrade_is_there_in_every_call_and_can_be_changed() {
    let script = Script::new()
        .on_upgrade(|request| Decision::accept(request.query_value("name").unwrap()))
        .on_open(|ctx, ()| ctx.data().push('!'))
        .on_message(|ctx, _| {
            let data = ctx.data().clone();
            let _ = ctx.send(&data);
            ctx.data().push('?');
        });
    let engine = Running::start(script);
    let (mut ann, _) = Client::connect(engine.addr(), "/?name=ann");
    let (mut bob, _) = Client::connect(engine.addr(), "/?name=bob");
    for (client, answer) in [(&mut ann, "ann!"), (&mut bob, "bob!")] {
        client.send("who am I");
        assert_eq!(client.text(), answer);
    }
    ann.send("and now");
    assert_eq!(ann.text(), "ann!?");
}

#[test]
fn the_subprotocol_comes_from_the_intersection_or_there_is_none() {
    let script = Script::new().on_upgrade(|request| {
        let chosen = request.choose_protocol(&["v2", "v1"]);
        Accept::new(chosen.unwrap_or("none").to_owned()).protocol(chosen).into()
    });
    let engine = Running::start(script);
    for (offered, chosen) in [("v1", Some("v1")), ("v0, v2 ,v1", Some("v2")), ("v1,v2", Some("v1"))] {
        let offer = [("Sec-WebSocket-Protocol", offered)];
        let (_, answer) = Client::try_connect(engine.addr(), "/", &offer).unwrap();
        let header = answer.headers().get("sec-websocket-protocol").map(|value| value.to_str().unwrap());
        assert_eq!(header, chosen, "{offered}");
    }
    let mut stream = tcp(engine.addr());
    let head = upgrade_head("/").replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: v0, v9\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (head, _) = read_answer(&mut stream);
    assert!(head.starts_with("http/1.1 101 ") && !head.contains("sec-websocket-protocol"), "{head}");
}

#[test]
fn a_subprotocol_that_was_not_offered_is_not_answered() {
    let script = Script::new().on_upgrade(|_| Accept::new(String::new()).protocol(Some("mine")).into());
    let engine = Running::start(script);
    let (_, answer) = Client::try_connect(engine.addr(), "/", &[]).unwrap();
    assert!(answer.headers().get("sec-websocket-protocol").is_none());
}

#[test]
fn extra_headers_are_answered_and_a_bad_one_fails_the_upgrade_with_500() {
    let script = Script::new().on_upgrade(|request| {
        match request.path() {
            "/good" => Accept::new(String::new())
                .header("X-Shard", "one")
                .header("Set-Cookie", "a=1")
                .header("Set-Cookie", "b=2"),
            "/name" => Accept::new(String::new()).header("X Shard", "one"),
            _ => Accept::new(String::new()).header("X-Shard", "one\r\nX-Injected: two"),
        }
        .into()
    });
    let engine = Running::start(script);
    let (_, answer) = Client::connect(engine.addr(), "/good");
    assert_eq!(answer.headers()["x-shard"], "one");
    assert_eq!(answer.headers().get_all("set-cookie").iter().count(), 2);
    for path in ["/name", "/value"] {
        let answer = refused(&engine, path, &[]);
        assert_eq!(answer.status(), 500, "{path}");
        assert!(answer.headers().get("x-injected").is_none());
    }
    assert_eq!(engine.metric("fanfare_refused_total{cause=\"refused\"}"), 2.0);
}

#[test]
fn everything_about_the_request_can_be_seen() {
    let (seen, said) = mpsc::channel();
    let script = Script::new().on_upgrade(move |request| {
        let headers: Vec<_> = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("x-list")).collect();
        assert_eq!(headers.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(request.header("X-LIST"), Some("1"));
        assert_eq!(request.header("x-none"), None);
        assert_eq!(request.path(), "/a%20b/%C5%BElu%C5%A5");
        assert_eq!(request.path_decoded().as_deref(), Some("/a b/žluť"));
        assert_eq!(request.query(), Some("x=1+2&y=%2B&x=3&flag&z="));
        let values = ["x", "y", "flag", "z", "none"].map(|name| request.query_value(name));
        let expected = [Some("1 2"), Some("+"), Some(""), Some(""), None];
        assert_eq!(values.each_ref().map(|value| value.as_deref()), expected);
        assert_eq!((request.cookie("b"), request.cookie("c")), (Some("two"), None));
        assert_eq!(request.protocols().collect::<Vec<_>>(), ["p", "q"]);
        seen.send((request.peer(), request.local(), request.id())).unwrap();
        Decision::accept(String::new())
    });
    let engine = Running::start(script.on_message(|ctx, _| {
        let _ = ctx.send(&format!("{} {}", ctx.id(), ctx.peer()));
    }));
    let headers = [("X-List", "1"), ("X-List", "2"), ("Cookie", "a=1; b=two"), ("Sec-WebSocket-Protocol", "p, q")];
    let mut stream = tcp(engine.addr());
    let own = stream.local_addr().unwrap();
    let mut head = upgrade_head("/a%20b/%C5%BElu%C5%A5?x=1+2&y=%2B&x=3&flag&z=");
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    head.insert_str(head.len() - 2, &more);
    stream.write_all(head.as_bytes()).unwrap();
    assert!(read_answer(&mut stream).0.starts_with("http/1.1 101 "));
    let (peer, local, id) = said.recv().unwrap();
    assert_eq!((peer, local), (own, engine.addr()));
    assert_eq!(engine.log.opened(0), id.unwrap());
}

#[test]
fn a_path_that_is_not_utf8_has_no_decoded_form() {
    let script = Script::new().on_upgrade(|request| {
        assert_eq!(request.path_decoded(), None);
        Decision::refuse(404, "no such place")
    });
    assert_eq!(refused(&Running::start(script), "/%FF", &[]).status(), 404);
}

#[test]
fn what_open_sends_comes_right_behind_the_answer() {
    let engine = Running::start(Script::new().on_open(|ctx, ()| {
        assert_eq!(ctx.send("welcome"), fanfare::SendOutcome::Written);
    }));
    let mut stream = tcp(engine.addr());
    stream.write_all(upgrade_head("/").as_bytes()).unwrap();
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).unwrap();
    assert!(buffer.starts_with(b"HTTP/1.1 101 "));
    assert!(buffer[..length].ends_with(b"\r\n\r\n\x81\x07welcome"), "both in one read");
}

#[test]
fn other_pages_are_refused_unless_their_origin_is_allowed() {
    let engine = Running::start(Script::new());
    let foreign = [("Origin", "https://evil.example")];
    assert_eq!(refused(&engine, "/", &foreign).status(), 403);
    let same = format!("http://{}", engine.addr());
    assert!(Client::try_connect(engine.addr(), "/", &[("Origin", &same)]).is_ok());
    let engine = Running::start_with(Script::new(), |b| b.settings(settings(|s| s.origins = Origins::Any)));
    assert!(Client::try_connect(engine.addr(), "/", &foreign).is_ok());
}
