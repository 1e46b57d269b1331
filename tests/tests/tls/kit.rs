//! What the tests share: an engine that speaks TLS, and clients for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use axum::extract::Extension;
use axum::routing::get;
use axum::{Json, Router};
use fanfare::{Arrival, Closed, Context, Decision, Engine, EngineBuilder, Handler, Message, Settings, Tls, Upgrade};
use fanfare_tests::{DEADLINE, Metrics, eventually};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::{Value, json};
use tungstenite::{Message as Frame, WebSocket};

/// Both versions there are.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// A connection through TLS.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Says everything twice, but for orders: `sub TOPIC` subscribes, `track` sends a tracked message, `close` closes.
#[derive(Default)]
pub struct Parrot {
    pub notes: Arc<Mutex<Vec<String>>>,
}

impl Parrot {
    fn note(&self, text: String) {
        self.notes.lock().unwrap().push(text);
    }
}

impl Handler for Parrot {
    type Data = ();

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<()> {
        self.note(format!("from {}", request.peer()));
        self.note(format!("upgrade tls={} id={}", request.is_tls(), request.id().is_some()));
        if let Some(certificate) = request.client_certificate() {
            self.note(format!("shown {} id={}", certificate.dns_names().join(","), request.id().is_some()));
        }
        match request.path() {
            "/refused" => Decision::refuse(403, "not this path"),
            "/later" => Decision::Later(Box::pin(async { Decision::accept(()) })),
            _ => Decision::accept(()),
        }
    }

    fn message(&self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let words: Vec<&str> = match message {
            Message::Text(text) => text.split(' ').collect(),
            Message::Binary(_) => Vec::new(),
        };
        match words[..] {
            ["sub", topic] => {
                ctx.subscribe(topic, fanfare::Subscribe::default()).expect("it can be subscribed to");
                let _ = ctx.send("subscribed");
            }
            ["track", size] => {
                let _ = ctx.send_tracked("x".repeat(size.parse().unwrap()).as_str(), 7);
            }
            ["close"] => ctx.close(4000, "as you like"),
            _ => drop(ctx.send(message)),
        }
    }

    fn sent(&self, _ctx: &mut Context<'_, ()>, ticket: u64, written: bool) {
        self.note(format!("sent {ticket} {written}"));
    }

    fn close(&self, _ctx: &mut Context<'_, ()>, closed: &Closed<'_>) {
        self.note(format!("close {} {} {}", closed.cause.label(), closed.code, closed.reason));
    }
}

async fn whoami(Extension(arrival): Extension<Arrival>) -> Json<Value> {
    Json(json!({ "tls": arrival.tls, "private": arrival.private, "certificate": arrival.client_certificate.is_some() }))
}

/// An engine that listens with TLS (the first address), in the clear (the second), and for HTTP only with TLS.
pub struct Server {
    pub engine: Engine,
    pub notes: Arc<Mutex<Vec<String>>>,
    pub certificate: CertificateDer<'static>,
    pub pem: String,
}

/// A certificate for `localhost`, and what a server shows with it.
pub fn certificate() -> (CertificateDer<'static>, String, Tls) {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let tls = Tls::from_pem(own.cert.pem().as_bytes(), own.signing_key.serialize_pem().as_bytes()).unwrap();
    (own.cert.der().clone(), own.cert.pem(), tls)
}

impl Server {
    pub fn start() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        Self::of(|engine| engine.settings(settings))
    }

    pub fn of(change: impl FnOnce(EngineBuilder<Parrot>) -> EngineBuilder<Parrot>) -> Self {
        let (certificate, pem, tls) = certificate();
        let parrot = Parrot::default();
        let notes = parrot.notes.clone();
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let engine = Engine::builder(parrot).listen_tls(here).listen(here).http_listen_tls(here).tls(tls).shards(1);
        let big = "x".repeat(3 << 20);
        let engine = engine.http(move |_| {
            Router::new().route("/whoami", get(whoami)).route("/big", get(move || std::future::ready(big.clone())))
        });
        Self { engine: change(engine).start().expect("it starts"), notes, certificate, pem }
    }

    /// Where it speaks TLS.
    pub fn addr(&self) -> SocketAddr {
        self.engine.local_addrs()[0]
    }

    /// Where it does not.
    pub fn plain_addr(&self) -> SocketAddr {
        self.engine.local_addrs()[1]
    }

    /// Where it speaks TLS, and HTTP only.
    pub fn private_addr(&self) -> SocketAddr {
        self.engine.handle().http_addrs()[0]
    }

    /// What a client has that trusts it.
    pub fn trust(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    /// A connection whose handshake is still to come.
    pub fn connect(&self, config: &Arc<ClientConfig>) -> Stream {
        over(config, tcp(self.addr()))
    }

    /// A connection through TLS of either version.
    pub fn stream(&self) -> Stream {
        self.connect(&Arc::new(self.trust(&VERSIONS)))
    }

    pub fn websocket(&self, version: &'static SupportedProtocolVersion) -> WebSocket<Stream> {
        upgrade(self.connect(&Arc::new(self.trust(&[version]))), "/")
    }

    pub fn metrics(&self) -> Metrics {
        Metrics::parse(&self.engine.handle().metrics().replace("# EOF", ""))
    }

    #[track_caller]
    pub fn eventually_is(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        eventually(&format!("{name} {labels:?} is {expected}"), || {
            self.metrics().count(&format!("fanfare_{name}"), labels) == expected
        });
    }

    #[track_caller]
    pub fn eventually_noted(&self, note: &str) {
        eventually(&format!("'{note}' is noted; there is {:?}", self.notes.lock().unwrap()), || {
            self.notes.lock().unwrap().iter().any(|own| own == note)
        });
    }

    /// What became of all deliveries adds up.
    #[track_caller]
    pub fn assert_conservation(&self) {
        let d = self.engine.handle().deliveries();
        let dropped = d.dropped_oldest + d.dropped_newest + d.dropped_expired + d.dropped_own + d.dropped_unsubscribed;
        let sum = d.written + d.conflated + dropped + d.discarded + d.queued + d.in_flight;
        assert_eq!(d.expected + d.replayed, sum, "{d:?}");
    }
}

pub fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the engine listens");
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

pub fn over(config: &Arc<ClientConfig>, stream: TcpStream) -> Stream {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), stream)
}

pub fn upgrade<S: Read + Write>(stream: S, path: &str) -> WebSocket<S> {
    let url = format!("ws://localhost{path}");
    match tungstenite::client(url.as_str(), stream) {
        Ok((websocket, _)) => websocket,
        Err(error) => panic!("no WebSocket: {error}"),
    }
}

/// Sends a text and takes the answer.
#[track_caller]
pub fn ask<S: Read + Write>(websocket: &mut WebSocket<S>, text: &str) -> String {
    websocket.send(Frame::text(text.to_owned())).unwrap();
    next_text(websocket)
}

#[track_caller]
pub fn next_text<S: Read + Write>(websocket: &mut WebSocket<S>) -> String {
    loop {
        match websocket.read().expect("a message comes") {
            Frame::Text(text) => return text.to_string(),
            Frame::Ping(_) | Frame::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// One HTTP answer with a Content-Length on a connection that stays: its head and body.
#[track_caller]
pub fn http<S: Read + Write>(stream: &mut S, target: &str) -> (String, String) {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stream.flush().unwrap();
    read_answer(stream)
}

#[track_caller]
pub fn read_answer(stream: &mut impl Read) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer comes");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("the body comes");
    (head, String::from_utf8(body).unwrap())
}
