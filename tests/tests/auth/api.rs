//! Who may do what over HTTP.

use fanfare::server::auth::Secret;
use fanfare_tests::Http;
use fanfare_tests::http::Response;
use serde_json::{Value, json};

use super::kit::{Fanfare, Program, role, token};

const API_TOKEN: &str = "the operator's own token";

/// What no request from this machine itself has.
const FORWARDED: (&str, &str) = ("X-Forwarded-For", "203.0.113.7");

fn ask(server: &Fanfare, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
    Http::connect(server.addr()).request(method, target, headers, body.as_bytes())
}

/// Likewise, from afar, with a token.
fn from_afar(server: &Fanfare, method: &str, target: &str, token: Option<&str>) -> u16 {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![FORWARDED];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    let answer = ask(server, method, target, &headers, "x");
    if answer.status >= 400 {
        answer.assert_error(answer.status);
    }
    if answer.status == 401 {
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer ")), "{answer:?}");
    }
    answer.status
}

const ADMIN_ROUTES: [(&str, &str); 6] = [
    ("GET", "/api/info"),
    ("GET", "/api/topics"),
    ("GET", "/api/connections"),
    ("DELETE", "/api/connections/0-0-0"),
    ("GET", "/api/whatever/comes/later"),
    ("GET", "/metrics"),
];

#[test]
fn this_machine_needs_no_token_and_nothing_else_counts_as_this_machine() {
    for with_keys in [true, false] {
        let server = Fanfare::with(|settings| {
            if !with_keys {
                settings.jwt_keys.clear();
            }
        });
        let own = server.addr().to_string();
        for host in ["localhost", "127.0.0.1", "[::1]:8080", &own] {
            // Two Host headers are answered 400 before all of this, so this one is written by hand.
            let request = format!("GET /api/info HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let mut http = Http::connect(server.addr());
            http.send(request.as_bytes());
            assert_eq!(http.read_response().status, 200, "{host}");
        }
        for head in [
            "Host: rebound.example",
            "Host: rebound.example:8080",
            "Host: localhost.rebound.example",
            "Host: localhost\r\nX-Forwarded-For: 127.0.0.1",
            "Host: localhost\r\nForwarded: for=127.0.0.1",
            "Host: localhost\r\nX-Real-IP: 127.0.0.1",
            "Host: localhost\r\nVia: 1.1 nginx",
            "Host: localhost\r\nx-forwarded-for:",
            "Host: localhost\r\nX-Forwarded-Proto: https",
            "Host: localhost\r\nX-Forwarded-Host: live.example",
            "Host: localhost\r\nCF-Connecting-IP: 203.0.113.7",
            "Host: localhost\r\nTrue-Client-IP: 203.0.113.7",
        ] {
            for (method, target) in ADMIN_ROUTES {
                let mut http = Http::connect(server.addr());
                http.send(format!("{method} {target} HTTP/1.1\r\n{head}\r\n\r\n").as_bytes());
                let answer = http.read_response();
                answer.assert_error(401);
                assert_eq!(answer.json()["code"], "unauthenticated", "{head} {target}");
            }
        }
        // What a proxy speaks that was only told where to go (nginx: `proxy_pass` and nothing else), its `Host` included.
        let mut http = Http::connect(server.addr());
        http.send(format!("GET /api/info HTTP/1.0\r\nHost: {own}\r\nConnection: close\r\n\r\n").as_bytes());
        http.read_response().assert_error(401);
        for open in ["/healthz", "/readyz", "/"] {
            assert_eq!(from_afar(&server, "GET", open, None), 200, "{open}");
        }
    }
    let server = Fanfare::start();
    let shown = |token: &str| {
        let bearer = format!("Bearer {token}");
        ask(&server, "GET", "/api/info", &[("Authorization", &bearer)], "").status
    };
    assert_eq!(shown(&token(json!({ "sub": "root", "permissions": { "admin": [">"] } }))), 200);
    assert_eq!(shown(&token(json!({ "sub": "ada" }))), 403, "who shows a token is who it says");
    assert_eq!(shown("rubbish"), 401);
    let strict = Fanfare::with(|settings| settings.api_on_loopback = false);
    assert_eq!(ask(&strict, "GET", "/api/info", &[], "").status, 401);
}

#[test]
fn the_api_token_opens_every_route() {
    let server = Fanfare::with(|settings| {
        settings.jwt_keys.clear();
        settings.api_token = Some(Secret(API_TOKEN.into()));
    });
    for (method, target) in ADMIN_ROUTES {
        assert_eq!(from_afar(&server, method, target, None), 401, "{target}");
        assert_eq!(from_afar(&server, method, target, Some("the operator's own toke")), 401, "{target}");
        assert!([200, 404].contains(&from_afar(&server, method, target, Some(API_TOKEN))), "{target}");
    }
    assert_eq!(from_afar(&server, "POST", "/api/publish?topic=t", None), 401);
    assert_eq!(from_afar(&server, "POST", "/api/publish?topic=t", Some(API_TOKEN)), 200);
    assert_eq!(from_afar(&server, "GET", "/api/topics/t/history", Some(API_TOKEN)), 200);
    // It is one for WebSockets, too, where a browser cannot send headers.
    let protocols = format!("fanfare.v1, bearer.{}", API_TOKEN.replace([' ', '\''], "-"));
    assert_eq!(server.upgrade("/ws", &[("Sec-WebSocket-Protocol", &protocols)]).status, 401);
    let (mut client, _) = server.native(API_TOKEN);
    client.send_text(r#"{"type":"subscribe","topic":"$sys.stats"}"#);
    assert_eq!(client.read_json()["type"], "subscribed");
}

#[test]
fn a_token_opens_what_it_permits() {
    let server = Fanfare::start();
    let narrow = json!({ "publish": ["p.>"], "history": ["h.>"], "admin": ["a.>"] });
    let narrow = token(json!({ "sub": "ada", "permissions": narrow }));
    let admin = token(json!({ "sub": "root", "permissions": { "admin": [">"] } }));
    for (method, target, narrow_status, admin_status) in [
        ("POST", "/api/publish?topic=p.a", 200, 403),
        ("POST", "/api/publish?topic=q", 403, 403),
        ("GET", "/api/topics/h.a/history", 404, 404),
        ("GET", "/api/topics/h.a", 404, 404),
        ("GET", "/api/topics/a.a/history", 404, 404),
        ("GET", "/api/topics/p.a/history", 403, 200),
        ("GET", "/api/topics/p%2ea", 403, 200),
        ("GET", "/api/topics", 403, 200),
        ("GET", "/api/info", 403, 200),
        ("GET", "/metrics", 403, 200),
        ("DELETE", "/api/connections/0-0-0", 403, 404),
    ] {
        assert_eq!(from_afar(&server, method, target, Some(&narrow)), narrow_status, "{method} {target}");
        assert_eq!(from_afar(&server, method, target, Some(&admin)), admin_status, "{method} {target}");
        assert_eq!(from_afar(&server, method, target, Some("rubbish")), 401, "{method} {target}");
    }
    assert!(server.engine().handle().topic("q").is_none());
}

#[test]
fn of_a_batch_each_publication_is_checked() {
    let server = Fanfare::start();
    let bearer = format!("Bearer {}", token(json!({ "permissions": { "publish": ["p.>", "$sys.>"] } })));
    let batch =
        r#"[{"topic":"p.a","data":1},{"topic":"q","data":1},{"topic":"$sys.stats","data":1},{"topic":"p.b","data":1}]"#;
    let answer = ask(&server, "POST", "/api/batch", &[FORWARDED, ("Authorization", &bearer)], batch);
    assert_eq!(answer.status, 200);
    let codes: Vec<Value> =
        answer.json().as_array().expect("results").iter().map(|r| r["error"]["code"].clone()).collect();
    assert_eq!(codes, [Value::Null, json!("forbidden"), json!("reserved"), Value::Null]);
    assert!(server.engine().handle().topic("q").is_none());
    assert_eq!(ask(&server, "POST", "/api/publish?topic=%24sys.stats", &[], "x").status, 403, "not even from here");
}

#[test]
fn a_cookie_the_anonymous_and_a_program_open_it_too() {
    let server = Fanfare::with(|settings| {
        settings.cookie = Some("session".into());
        settings.roles = vec![role("anonymous", &[], &["public"])];
    });
    let cookie = format!("session={}", token(json!({ "permissions": { "publish": ["t"] } })));
    let publish = |topic: &str, headers: &[(&str, &str)]| {
        ask(&server, "POST", &format!("/api/publish?topic={topic}"), headers, "x").status
    };
    assert_eq!(publish("t", &[FORWARDED, ("Cookie", &cookie)]), 200);
    assert_eq!(publish("public", &[FORWARDED]), 200);
    assert_eq!(publish("t", &[FORWARDED]), 401, "who has shown nothing is told to");
    // A page of another site cannot use its visitor's cookie.
    assert_eq!(publish("t", &[FORWARDED, ("Cookie", &cookie), ("Origin", "http://evil.example")]), 403);
    let program = Program::start(|asked| match asked["headers"]["authorization"].as_str() {
        Some("Basic YWRhOng=") => (200, json!({ "sub": "ada", "permissions": { "publish": ["t"] } }).to_string()),
        _ => (401, String::new()),
    });
    let callback = program.settings();
    let server = Fanfare::with(|settings| {
        settings.jwt_keys.clear();
        settings.callback = Some(callback);
    });
    let status = |headers: &[(&str, &str)]| ask(&server, "POST", "/api/publish?topic=t", headers, "x").status;
    assert_eq!(status(&[FORWARDED, ("Authorization", "Basic YWRhOng=")]), 200);
    assert_eq!(status(&[FORWARDED, ("Authorization", "Basic ZXZlOng=")]), 401);
    assert_eq!(status(&[FORWARDED]), 401);
    assert_eq!(program.asked().len(), 2, "nobody is asked about nothing");
}
