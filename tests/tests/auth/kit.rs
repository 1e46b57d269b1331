//! What the tests share: an engine with the server's handler and routes, tokens, and a program to ask.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::server::auth::{Auth, AuthSettings, CallbackSettings, JwtKey, Role};
use fanfare::server::{App, http, native};
use fanfare::{Engine, Settings, TopicRules, TopicSettings};
use fanfare_tests::http::Response;
use fanfare_tests::{Client, Http, eventually};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The secret of the servers here.
pub const SECRET: &str = "a secret that only tests have, long enough";

/// A server that ends with its test.
pub struct Fanfare {
    engine: Option<Engine>,
    pub auth: Arc<Auth>,
    pub settings: AuthSettings,
    pub files: TempDir,
}

impl Fanfare {
    /// One that takes tokens signed with [`SECRET`].
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    /// Likewise, with other settings.
    pub fn with(change: impl FnOnce(&mut AuthSettings)) -> Self {
        let files = tempfile::tempdir().expect("a directory");
        let file = private_file(&files, "secret", SECRET);
        let mut settings = AuthSettings {
            jwt_keys: vec![JwtKey { algorithm: "HS256".into(), kid: None, file }],
            jwt_leeway: Duration::ZERO,
            ..AuthSettings::default()
        };
        change(&mut settings);
        let auth = Arc::new(Auth::new(&settings).expect("good settings"));
        let engine_settings = Settings { shutdown_timeout: Duration::from_secs(2), ..Settings::default() };
        let site = http::Site { files: None, reloads: None, auth: auth.clone() };
        let topics = TopicRules::new(TopicSettings { history_messages: 100, ..TopicSettings::default() });
        let engine = Engine::builder(App::new(auth.clone()))
            .encoding(native::NativeEncoding)
            .settings(engine_settings)
            .topics(topics)
            .shards(2)
            .listen(([127, 0, 0, 1], 0).into())
            .http(move |engine| {
                site.auth.add_metrics(&engine);
                http::router(engine, site)
            })
            .start()
            .expect("the engine starts");
        Self { engine: Some(engine), auth, settings, files }
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("it runs as long as the test")
    }

    pub fn addr(&self) -> SocketAddr {
        self.engine().local_addrs()[0]
    }

    /// A WebSocket, or the status of the refusal.
    #[track_caller]
    pub fn connect(&self, path: &str, headers: &[(&str, &str)]) -> Result<Client, u16> {
        Client::connect_with(self.addr(), path, headers)
    }

    /// A native client that has shown this token with its upgrade, and its greeting.
    #[track_caller]
    pub fn native(&self, token: &str) -> (Client, Value) {
        let bearer = format!("Bearer {token}");
        let mut client = self.connect("/ws", &[("Authorization", &bearer)]).expect("the token is good");
        let hello = client.read_json();
        (client, hello)
    }

    /// The answer to an upgrade, as it stands on the wire.
    #[track_caller]
    pub fn upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut all = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ];
        all.extend(headers);
        let mut http = Http::connect(self.addr());
        http.send(&fanfare_tests::http::request_bytes("GET", path, &all, b""));
        let head = http.read_head();
        if head.status == 101 {
            return head;
        }
        // Once more, for the body: the first one has lost it.
        Http::connect(self.addr()).request("GET", path, &all, b"")
    }

    /// A counter of authentication.
    #[track_caller]
    pub fn count(&self, metric: &str) -> u64 {
        let text = self.engine().handle().metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("fanfare_auth_{metric} ")));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("there is no {metric} in\n{text}"))
    }

    /// How often something came out.
    #[track_caller]
    pub fn decisions(&self, outcome: &str) -> u64 {
        self.count(&format!("decisions_total{{outcome=\"{outcome}\"}}"))
    }

    /// Waits until a connection of this subject is there, or gone.
    #[track_caller]
    pub fn await_connections(&self, count: u64) {
        eventually("the number of connections", || self.engine().handle().connection_count() == count);
    }
}

impl Drop for Fanfare {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.shutdown();
        }
    }
}

pub fn private_file(files: &TempDir, name: &str, content: &str) -> PathBuf {
    let file = files.path().join(name);
    fs::write(&file, content).expect("a file can be written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode can be set");
    file
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_secs()
}

/// A token with these claims, which has an hour if they do not say otherwise.
pub fn token(claims: Value) -> String {
    let mut all = json!({ "exp": now() + 3600 });
    all.as_object_mut().expect("claims").extend(claims.as_object().expect("claims").clone());
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &all, &key).expect("a token can be made")
}

/// A token of somebody who may do everything with topics.
pub fn token_of(subject: &str) -> String {
    let all = json!([">"]);
    token(json!({ "sub": subject, "permissions": { "subscribe": all, "publish": all, "history": all } }))
}

pub fn role(name: &str, subscribe: &[&str], publish: &[&str]) -> Role {
    let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Role { name: name.into(), subscribe: own(subscribe), publish: own(publish), history: Vec::new(), admin: Vec::new() }
}

/// What a program answers.
pub type Answer = (u16, String);

/// A program that is asked who clients are, and remembers by what.
pub struct Program {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
    at_once: Arc<AtomicUsize>,
}

impl Program {
    /// Answers by this function, each request on a thread of its own.
    pub fn start(answer: impl Fn(&Value) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it has an address");
        let (asked, at_once) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicUsize>::default());
        let (all, most, answer) = (asked.clone(), at_once.clone(), Arc::new(answer));
        let now = Arc::<AtomicUsize>::default();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (all, most, answer, now) = (all.clone(), most.clone(), answer.clone(), now.clone());
                thread::spawn(move || {
                    let Some(request) = read_request(&stream) else { return };
                    all.lock().expect("no panic").push(request.clone());
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    let (status, body) = answer(&request);
                    now.fetch_sub(1, Ordering::SeqCst);
                    let head =
                        format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    let _ = (&stream).write_all((head + &body).as_bytes());
                });
            }
        });
        Self { addr, asked, at_once }
    }

    pub fn settings(&self) -> CallbackSettings {
        CallbackSettings {
            url: format!("http://{}/who", self.addr),
            timeout: Duration::from_secs(10),
            cache: Duration::ZERO,
            concurrent_max: 64,
            failures_max: 0,
            pause: Duration::from_secs(3600),
        }
    }

    /// Everything it was asked.
    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("no panic").clone()
    }

    /// How many requests it has had at once at most.
    pub fn at_once(&self) -> usize {
        self.at_once.load(Ordering::SeqCst)
    }
}

fn read_request(stream: &TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let header = line.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
