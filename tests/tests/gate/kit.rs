//! What the tests share: an engine whose handler says to each client who it is, and clients on addresses of their own within
//! 127.0.0.0/8.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::{Extension, Json, Router};
use fanfare::{Arrival, ClientAddress, Context, Decision, Engine, Handler, Message, Refusal, Settings, Upgrade};
use fanfare_tests::http::Response;
use fanfare_tests::raw::upgrade_request_with;
use fanfare_tests::{Metrics, Raw, eventually, wait_for};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Says to each client who it is, and then says everything twice.
#[derive(Default)]
pub struct Greeter {
    /// How many upgrades have been decided.
    pub upgrades: Arc<AtomicUsize>,
    /// How long each decision takes.
    pub effort: Duration,
}

impl Handler for Greeter {
    type Data = SocketAddr;

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<SocketAddr> {
        let began = Instant::now();
        while began.elapsed() < self.effort {
            std::hint::spin_loop();
        }
        self.upgrades.fetch_add(1, Ordering::SeqCst);
        let client = request.peer();
        match request.path() {
            "/refused" => Refusal::new(403).error("refused", "not this path").into(),
            "/later" => Decision::Later(Box::pin(async move { Decision::accept(client) })),
            "/later-refused" => {
                Decision::Later(Box::pin(async { Refusal::new(403).error("refused", "not this path").into() }))
            }
            _ => Decision::accept(client),
        }
    }

    fn open(&self, ctx: &mut Context<'_, SocketAddr>) {
        let client = ctx.data().to_string();
        let _ = ctx.send(client.as_str());
    }

    fn message(&self, ctx: &mut Context<'_, SocketAddr>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

async fn whoami(Extension(arrival): Extension<Arrival>, ConnectInfo(client): ConnectInfo<SocketAddr>) -> Json<Value> {
    assert_eq!(arrival.client, client);
    Json(json!({ "client": client.to_string(), "peer": arrival.peer.to_string(), "forwarded": arrival.forwarded }))
}

pub struct Gate {
    pub engine: Engine,
}

impl Gate {
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(Greeter::default(), 2, change)
    }

    pub fn of(greeter: Greeter, shards: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let engine = Engine::builder(greeter).listen(([127, 0, 0, 1], 0).into()).shards(shards).settings(settings);
        let engine = engine.http(|_| Router::new().route("/whoami", get(whoami))).start().expect("it starts");
        Self { engine }
    }

    /// Behind proxies on 127.0.0.1 and 127.0.0.9.
    pub fn behind_proxies(client_address: ClientAddress, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(|settings| {
            settings.client_address = client_address;
            settings.trusted_proxies = ["127.0.0.1/32", "127.0.0.9/32"].map(|net| net.parse().unwrap()).to_vec();
            change(settings);
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.engine.local_addrs()[0]
    }

    /// A connection from 127.0.0.`host`.
    pub fn connect(&self, host: u8) -> Raw {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
        socket.bind(&own.into()).unwrap();
        socket.connect(&self.addr().into()).expect("the engine accepts");
        Raw::of(TcpStream::from(socket), Vec::new())
    }

    /// A connection from there that has asked for an upgrade, and the head of the answer.
    #[track_caller]
    pub fn ask(&self, host: u8, front: &[u8], more: &str) -> (Raw, Response) {
        self.ask_for("/", host, front, more)
    }

    #[track_caller]
    pub fn ask_for(&self, path: &str, host: u8, front: &[u8], more: &str) -> (Raw, Response) {
        let mut raw = self.connect(host);
        raw.send([front, upgrade_request_with(path, more).as_bytes()].concat());
        let answer = raw.read_head();
        (raw, answer)
    }

    /// A WebSocket from there, and whom the engine takes it for.
    #[track_caller]
    pub fn open(&self, host: u8, front: &[u8], more: &str) -> (Raw, String) {
        let (mut raw, answer) = self.ask(host, front, more);
        assert_eq!(answer.status, 101, "{answer:?}");
        let client = raw.read_frame().text();
        (raw, client)
    }

    /// Upgrades from there until one is not refused with 429.
    #[track_caller]
    pub fn open_soon(&self, host: u8) -> Raw {
        wait_for("a place for the address", || {
            let (raw, answer) = self.ask(host, b"", "");
            assert!([101, 429].contains(&answer.status), "{answer:?}");
            (answer.status == 101).then_some(raw)
        })
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.engine.handle().metrics().replace("# EOF", ""))
    }

    #[track_caller]
    pub fn eventually_is(&self, name: &str, expected: u64) {
        eventually(&format!("{name} is {expected}"), || {
            self.metrics().count(&format!("fanfare_{name}"), &[]) == expected
        });
    }

    #[track_caller]
    pub fn reconfigure(&self, change: impl FnOnce(&mut Settings)) {
        let handle = self.engine.handle();
        let mut settings = (*handle.settings()).clone();
        change(&mut settings);
        assert_eq!(handle.reconfigure(settings), Ok(Vec::new()));
    }
}

/// The whole answer whose head was read: a JSON error of this code that says what is to be known.
#[track_caller]
pub fn assert_refused(raw: &mut Raw, answer: &Response, status: u16, code: &str, says: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let error: Value = serde_json::from_slice(&raw.read_rest()).expect("a JSON error");
    assert_eq!(error["code"], code);
    assert!(error["message"].as_str().unwrap().contains(says), "{error}");
}

pub fn is_ip(client: &str, ip: &str) -> bool {
    client.parse::<SocketAddr>().unwrap().ip() == ip.parse::<std::net::IpAddr>().unwrap()
}

/// Reads an answer of the HTTP service on a connection that stays.
#[track_caller]
pub fn read_json(raw: &mut Raw) -> Value {
    let answer = raw.read_head();
    assert_eq!(answer.status, 200, "{answer:?}");
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    serde_json::from_slice(&raw.read_bytes(length)).unwrap()
}
