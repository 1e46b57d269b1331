//! Asking a program who a client is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fanfare_tests::eventually;
use serde_json::{Value, json};

use super::kit::{Answer, Fanfare, Program, now, token_of};

/// A server that asks this program, and takes no other tokens.
fn asking(program: &Program, change: impl FnOnce(&mut fanfare::server::auth::CallbackSettings)) -> Fanfare {
    let mut callback = program.settings();
    change(&mut callback);
    Fanfare::with(|settings| {
        settings.jwt_keys.clear();
        settings.callback = Some(callback);
    })
}

/// Knows `opaque`, and what it may do.
fn knows_one(asked: &Value) -> Answer {
    match asked["token"].as_str() {
        Some("opaque") => (200, json!({ "sub": "ada", "permissions": { "subscribe": ["t"] } }).to_string()),
        Some("banned") => (403, String::new()),
        _ => (401, "no".into()),
    }
}

/// A gate that answers wait at.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn wait(&self) {
        let open = self.0.lock().expect("no panic");
        drop(self.1.wait_while(open, |open| !*open).expect("no panic"));
    }

    fn open(&self) {
        *self.0.lock().expect("no panic") = true;
        self.1.notify_all();
    }
}

#[test]
fn the_program_is_told_all_it_needs_and_decides() {
    let program = Program::start(knows_one);
    let server = asking(&program, |_| {});
    let headers = [
        ("Cookie", "a=1"),
        ("Origin", &*format!("http://{}", server.addr())),
        ("User-Agent", "test"),
        ("X-Other", "x"),
    ];
    let mut client = server.connect("/topics/t?mode=subscribe&token=opaque&history=1", &headers).expect("it is known");
    let asked = program.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        asked[0],
        json!({
            "path": "/topics/t", "query": "mode=subscribe&history=1", "client": "127.0.0.1", "token": "opaque",
            "headers": { "cookie": "a=1", "origin": headers[1].1, "user-agent": "test", "host": server.addr().to_string() },
        })
    );
    server.engine().handle().publish("t", "hello").expect("it can be published");
    assert_eq!(client.read_text(), "hello");
    assert_eq!(server.upgrade("/topics/u?mode=subscribe&token=opaque", &[]).status, 403);
    let answer = server.upgrade("/ws?token=banned", &[]);
    assert_eq!((answer.status, answer.json()["code"].clone()), (403, json!("forbidden")));
    let answer = server.upgrade("/ws?token=other", &[]);
    assert_eq!((answer.status, answer.json()["code"].clone()), (401, json!("invalid_token")));
}

#[test]
fn first_messages_are_asked_about_and_what_follows_waits_in_order() {
    let gate = Arc::<Gate>::default();
    let own = gate.clone();
    let program = Program::start(move |asked| {
        own.wait();
        knows_one(asked)
    });
    let server = asking(&program, |_| {});
    let mut client = server.connect("/ws", &[]).expect("a token may come later");
    client.read_json();
    let mut bystander = server.connect("/ws", &[]).expect("a token may come later");
    bystander.read_json();
    client.send_text(r#"{"type":"auth","id":1,"token":"opaque"}"#);
    for (id, request) in [(2, "subscribe"), (3, "unsubscribe"), (4, "ping")] {
        let topic = if request == "ping" { String::new() } else { ",\"topic\":\"t\"".into() };
        client.send_text(&format!("{{\"type\":\"{request}\",\"id\":{id}{topic}}}"));
    }
    eventually("the program is asked", || program.asked().len() == 1);
    assert_eq!(program.asked()[0]["path"], "/ws");
    assert_eq!(client.read_within(Duration::from_millis(100)), None);
    // Meanwhile others are served.
    bystander.send_text("rubbish");
    assert_eq!(bystander.read_close().0, 4002);
    gate.open();
    let answers: Vec<_> =
        (0..4).map(|_| client.read_json()).map(|said| (said["id"].clone(), said["type"].clone())).collect();
    let expected = [(1, "authenticated"), (2, "subscribed"), (3, "unsubscribed"), (4, "pong")];
    assert_eq!(answers, expected.map(|(id, kind)| (json!(id), json!(kind))));
    let mut unknown = server.connect("/ws", &[]).expect("a token may come later");
    unknown.send_text(r#"{"type":"auth","token":"other"}"#);
    assert_eq!(unknown.read_close().0, 4002);
    let mut banned = server.connect("/topics/t", &[]).expect("a token may come later");
    banned.send_text(r#"{"type":"auth","token":"banned"}"#);
    assert_eq!(banned.read_close().0, 1008);
}

#[test]
fn answers_are_kept_as_long_as_they_say_and_not_longer_than_they_hold() {
    let answers = Arc::<AtomicU64>::default();
    let count = answers.clone();
    let program = Program::start(move |asked| {
        count.fetch_add(1, Ordering::SeqCst);
        let token = asked["token"].as_str().unwrap_or("");
        let more = match token {
            "kept" => json!({}),
            "not_kept" => json!({ "cache_s": 0 }),
            "expired" => json!({ "expires_at": 1 }),
            _ => json!({ "expires_at": now() + 2, "cache_s": 1000 }),
        };
        (200, more.to_string())
    });
    let server = asking(&program, |callback| callback.cache = Duration::from_secs(1000));
    let connect = |token: &str| server.connect(&format!("/ws?token={token}"), &[]).map(drop);
    let count = |token: &str, times: usize| {
        let before = answers.load(Ordering::SeqCst);
        (0..times).for_each(|_| connect(token).expect("it is known"));
        answers.load(Ordering::SeqCst) - before
    };
    assert_eq!((count("kept", 3), count("not_kept", 3)), (1, 3));
    assert_eq!(connect("expired"), Err(401));
    assert_eq!(count("short", 1), 1);
    let mut client = server.connect("/ws?token=short", &[]).expect("it is known");
    assert_eq!(client.read_close(), (4003, "token expired".into()));
    assert_eq!(count("short", 1), 1, "it is asked anew");
    // Other cookies, origins and paths are other questions.
    let before = answers.load(Ordering::SeqCst);
    server.connect("/ws?token=kept", &[("Cookie", "a=1")]).map(drop).expect("it is known");
    assert_eq!(answers.load(Ordering::SeqCst), before + 1);
    assert!(server.count("cache_lookups_total{cache=\"callback\",result=\"hit\"}") >= 2);
}

#[test]
fn what_is_no_answer_is_a_failure_and_said_to_be_tried_again() {
    let program = Program::start(|asked| match asked["token"].as_str() {
        Some("500") => (500, String::new()),
        Some("302") => (302, String::new()),
        Some("garbage") => (200, "garbage".into()),
        Some("misspelt") => (200, r#"{"permissions":{"subscrbe":[]}}"#.into()),
        Some("huge") => (200, format!("{{\"info\":\"{}\"}}", "x".repeat(1 << 20))),
        _ => (200, "{}".into()),
    });
    let server = asking(&program, |_| {});
    for token in ["500", "302", "garbage", "misspelt", "huge"] {
        let answer = server.upgrade(&format!("/ws?token={token}"), &[]);
        assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("auth_unavailable")), "{token}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{token}");
    }
    let mut client = server.connect("/ws", &[]).expect("a token may come later");
    client.send_text(r#"{"type":"auth","token":"500"}"#);
    assert_eq!(client.read_close().0, 1013);
    // A connection that is known already keeps what it has.
    let mut client = server.connect("/ws?token=good", &[]).expect("it is known");
    client.read_json();
    client.send_text(r#"{"type":"auth","token":"500"}"#);
    assert_eq!(client.read_json()["code"], "auth_unavailable");
    client.send_text(r#"{"type":"ping"}"#);
    assert_eq!(client.read_json()["type"], "pong");
}

#[test]
fn a_program_that_is_slow_or_gone_costs_no_more_than_its_time() {
    let gate = Arc::<Gate>::default();
    let own = gate.clone();
    let program = Program::start(move |_| {
        own.wait();
        (200, "{}".into())
    });
    let server = asking(&program, |callback| {
        callback.timeout = Duration::from_millis(300);
        callback.concurrent_max = 2;
    });
    let start = Instant::now();
    thread::scope(|scope| {
        for n in 0..8 {
            let server = &server;
            scope.spawn(move || assert_eq!(server.connect(&format!("/ws?token={n}"), &[]).err(), Some(503)));
        }
    });
    assert!(start.elapsed() < Duration::from_secs(10), "they do not wait for one another");
    // Each has waited for an answer, or for its turn to ask.
    let outcome = |name| server.count(&format!("callback_requests_total{{outcome=\"{name}\"}}"));
    assert!(outcome("timeout") >= 2);
    assert_eq!(outcome("timeout") + outcome("busy"), 8);
    gate.open();
    eventually("it answers again", || server.connect("/ws?token=x", &[]).is_ok());
    let mut gone = program.settings();
    gone.url = "http://127.0.0.1:1/".into();
    let server = Fanfare::with(|settings| settings.callback = Some(gone));
    assert_eq!(server.connect("/ws?token=x", &[]).err(), Some(503));
    assert_eq!(server.count("callback_requests_total{outcome=\"unreachable\"}"), 1);
}

#[test]
fn no_more_ask_at_once_than_may_and_the_others_wait_their_turn() {
    let gate = Arc::<Gate>::default();
    let own = gate.clone();
    let program = Program::start(move |_| {
        own.wait();
        (200, "{}".into())
    });
    let server = asking(&program, |callback| callback.concurrent_max = 2);
    thread::scope(|scope| {
        for n in 0..8 {
            let server = &server;
            scope.spawn(move || server.connect(&format!("/ws?token={n}"), &[]).map(drop).expect("its turn comes"));
        }
        eventually("two ask", || program.asked().len() == 2);
        gate.open();
    });
    assert_eq!((program.at_once(), program.asked().len()), (2, 8));
}

#[test]
fn a_program_that_fails_is_left_alone_for_a_while() {
    let works = Arc::<AtomicBool>::default();
    let own = works.clone();
    let program =
        Program::start(move |_| if own.load(Ordering::SeqCst) { (200, "{}".into()) } else { (500, String::new()) });
    let server = asking(&program, |callback| {
        callback.failures_max = 3;
        callback.pause = Duration::from_secs(3600);
    });
    for _ in 0..10 {
        assert_eq!(server.connect("/ws?token=x", &[]).err(), Some(503));
    }
    assert_eq!(program.asked().len(), 3);
    assert_eq!(server.count("callback_paused"), 1);
    assert_eq!(server.count("callback_requests_total{outcome=\"paused\"}"), 7);
    let server = asking(&program, |callback| {
        callback.failures_max = 1;
        callback.pause = Duration::from_millis(200);
    });
    assert_eq!(server.connect("/ws?token=x", &[]).err(), Some(503));
    works.store(true, Ordering::SeqCst);
    eventually("it is tried again", || server.connect("/ws?token=x", &[]).is_ok());
    assert_eq!(server.count("callback_paused"), 0);
}

#[test]
fn a_client_that_the_program_chokes_on_does_not_keep_others_out() {
    let program = Program::start(|asked| match asked["token"].as_str() {
        Some("good") => (200, "{}".into()),
        Some("status") => (400, String::new()),
        // A name that somebody has chosen.
        Some("name") => (200, json!({ "sub": "x".repeat(256) }).to_string()),
        Some("huge") => (200, format!("{{\"info\":\"{}\"}}", "x".repeat(1 << 20))),
        _ => (200, "garbage".into()),
    });
    let server = asking(&program, |callback| {
        callback.failures_max = 2;
        callback.pause = Duration::from_secs(3600);
    });
    for token in ["status", "name", "huge", "garbage"] {
        for _ in 0..3 {
            assert_eq!(server.connect(&format!("/ws?token={token}"), &[]).err(), Some(503), "{token}");
        }
    }
    assert_eq!(server.count("callback_paused"), 0);
    server.connect("/ws?token=good", &[]).map(drop).expect("it is known");
}

#[test]
fn cookies_are_asked_about_but_one_that_is_unknown_bars_nobody() {
    let program = Program::start(|asked| match asked["headers"]["cookie"].as_str() {
        Some("session=1") => (200, r#"{"sub":"ada"}"#.into()),
        _ => (401, String::new()),
    });
    let server = asking(&program, |_| {});
    let mut known = server.connect("/ws", &[("Cookie", "session=1")]).expect("it is known");
    assert_eq!(known.read_json()["subject"], "ada");
    let mut tracked = server.connect("/ws", &[("Cookie", "tracking=1")]).expect("a token may come later");
    assert_eq!(tracked.read_json()["authenticated"], false);
    server.connect("/ws", &[]).map(drop).expect("a token may come later");
    assert_eq!(program.asked().len(), 2, "nobody is asked about nothing");
}

#[test]
fn tokens_that_the_keys_decide_on_are_not_asked_about() {
    let program = Program::start(knows_one);
    let callback = program.settings();
    let server = Fanfare::with(|settings| settings.callback = Some(callback));
    server.connect(&format!("/ws?token={}", token_of("ada")), &[]).map(drop).expect("it is signed");
    assert_eq!(server.connect("/ws?token=a.b.c", &[]).err(), Some(401));
    assert_eq!(program.asked().len(), 0);
    server.connect("/ws?token=opaque", &[]).map(drop).expect("it is known");
    assert_eq!(program.asked().len(), 1);
}
