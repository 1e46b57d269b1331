//! Subjects come from tokens: the same routes against a server with authentication, and who may use them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_tests::http::Response;
use fanfare_tests::{Client, Server, eventually};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

const SECRET: &str = "a secret that only these tests have, long enough";
const API_TOKEN: &str = "an-api-token-of-these-tests";

struct Guarded {
    server: Server,
    _files: TempDir,
}

impl Guarded {
    fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let secret = files.path().join("secret");
        fs::write(&secret, SECRET).unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        let server = Server::with(&[
            "--jwt-keys",
            &format!("HS256={}", secret.display()),
            "--api-token",
            API_TOKEN,
            "--api-on-loopback=false",
        ]);
        Self { server, _files: files }
    }

    fn client(&self, path: &str, token: &str) -> Client {
        let header = format!("Bearer {token}");
        Client::connect_with(self.server.addr(), path, &[("Authorization", &header)])
            .unwrap_or_else(|status| panic!("{path} was refused: {status}"))
    }

    fn native(&self, token: &str) -> Client {
        let mut client = self.client("/ws", token);
        assert_eq!(client.read_json()["type"], "connected");
        client
    }

    fn ask(&self, method: &str, target: &str, token: Option<&str>, body: &Value) -> Response {
        let header = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = header.iter().map(|header| ("Authorization", header.as_str())).collect();
        let body = if method == "GET" { String::new() } else { body.to_string() };
        self.server.http().request(method, target, &headers, body.as_bytes())
    }

    #[track_caller]
    fn post(&self, target: &str, body: &Value) -> Value {
        let answer = self.ask("POST", target, Some(API_TOKEN), body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    fn count(&self, query: &str) -> usize {
        let answer = self.ask("GET", &format!("/api/connections?{query}"), Some(API_TOKEN), &Value::Null);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["connections"].as_array().unwrap().len()
    }
}

fn token(claims: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut all = json!({ "exp": now + 3600 });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &all, &key).unwrap()
}

fn user(subject: &str) -> String {
    token(json!({ "sub": subject, "permissions": { "subscribe": [">"], "publish": [">"] } }))
}

#[test]
fn all_connections_of_a_user_are_found_subscribed_sent_to_and_closed() {
    let guarded = Guarded::start();
    let mut hers = [guarded.native(&user("ada")), guarded.native(&user("ada"))];
    let mut raw = guarded.client("/topics/own", &user("ada"));
    let mut his = guarded.native(&user("bob"));
    eventually("all are hers", || guarded.count("subject=ada") == 3);
    assert_eq!((guarded.count("subject=bob"), guarded.count("subject=ad")), (1, 0));
    assert_eq!(guarded.count("subject=ada&topic=own"), 1);

    let all = json!({ "connections": 3, "done": 3, "failed": {} });
    assert_eq!(guarded.post("/api/subscribe", &json!({ "subject": "ada", "topic": "offers" })), all);
    guarded.post("/api/publish?topic=offers", &json!({ "price": 1 }));
    for native in &mut hers {
        assert_eq!(native.read_json()["type"], "subscribed");
        assert_eq!(native.read_json()["data"], json!({ "price": 1 }));
    }
    assert_eq!(raw.read_json(), json!({ "price": 1 }));
    assert_eq!(guarded.post("/api/send", &json!({ "subject": "ada", "data": "hello" })), all);
    for native in &mut hers {
        assert_eq!(native.read_json(), json!({ "type": "direct", "data": "hello" }));
    }
    assert_eq!(raw.read_text(), "\"hello\"");
    // For the raw one too, which has it besides its own.
    assert_eq!(guarded.post("/api/unsubscribe", &json!({ "subject": "ada", "topic": "offers" })), all);
    let none = json!({ "connections": 3, "done": 0, "failed": { "not_subscribed": 3 } });
    assert_eq!(guarded.post("/api/unsubscribe", &json!({ "subject": "ada", "topic": "offers" })), none);

    let closed = guarded.post("/api/disconnect", &json!({ "subject": "ada", "code": 4009, "reason": "blocked" }));
    assert_eq!(closed, all);
    for client in hers.iter_mut().chain([&mut raw]) {
        assert_eq!(client.read_close(), (4009, "blocked".into()));
    }
    eventually("only his is left", || guarded.count("") == 1);
    his.send_text(r#"{"type":"ping"}"#);
    assert_eq!(his.read_json()["type"], "pong");
}

#[test]
fn only_who_may_administer_everything_sees_and_does_this() {
    let guarded = Guarded::start();
    let (plain, admin) = (user("ada"), token(json!({ "sub": "root", "permissions": { "admin": [">"] } })));
    let subject = json!({ "subject": "nobody" });
    let told = json!({ "subject": "nobody", "topic": "t" });
    for (method, target, body) in [
        ("GET", "/api/connections", &Value::Null),
        ("POST", "/api/disconnect", &subject),
        ("POST", "/api/subscribe", &told),
        ("POST", "/api/unsubscribe", &told),
        ("POST", "/api/send", &json!({ "subject": "nobody", "data": 1 })),
    ] {
        guarded.ask(method, target, None, body).assert_error(401);
        guarded.ask(method, target, Some(&plain), body).assert_error(403);
        assert_eq!(guarded.ask(method, target, Some(&admin), body).status, 200, "{target}");
    }
    for target in
        ["/api/connections/0-0-0/send", "/api/connections/0-0-0/subscribe", "/api/connections/0-0-0/unsubscribe"]
    {
        guarded.ask("POST", target, Some(&plain), &json!({})).assert_error(403);
    }
    guarded.ask("DELETE", "/api/topics/t/history", Some(&plain), &Value::Null).assert_error(403);
    // The page itself tells nothing, so that it can ask for a token.
    assert_eq!(guarded.ask("GET", "/admin", None, &Value::Null).status, 200);
}

#[test]
fn the_servers_own_topics_need_a_permission_that_names_them() {
    let guarded = Guarded::start();
    let mut plain = guarded.native(&user("ada"));
    for topic in ["$sys.stats", "$sys.>"] {
        plain.send_text(&json!({ "type": "subscribe", "topic": topic }).to_string());
        assert_eq!(plain.read_json()["code"], "forbidden", "{topic}");
    }
    let mut named = guarded.native(&token(json!({ "sub": "ops", "permissions": { "subscribe": ["$sys.>"] } })));
    let mut over_all = guarded.native(API_TOKEN);
    for client in [&mut named, &mut over_all] {
        client.send_text(r#"{"type":"subscribe","topic":"$sys.stats"}"#);
        assert_eq!(client.read_json()["type"], "subscribed");
        assert_eq!(client.read_json()["topic"], "$sys.stats");
    }
}
