//! What the tests share: an engine in this process whose connections subscribe to the topic in their path, and a WebSocket
//! client that is not ours.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use fanfare::{Context, Decision, Engine, EngineBuilder, EngineHandle, Handler, Message, Settings, Subscribe, Upgrade};
use fanfare_tests::DEADLINE;
use tungstenite::{Message as Frame, WebSocket};

/// Subscribes each connection to the topic in its path, tells it so, and publishes there what it says.
pub struct Rooms;

impl Handler for Rooms {
    type Data = String;

    fn upgrade(&self, upgrade: &Upgrade<'_>) -> Decision<String> {
        Decision::accept(upgrade.path().trim_start_matches('/').to_owned())
    }

    fn open(&self, ctx: &mut Context<'_, String>) {
        let topic = ctx.data().clone();
        ctx.subscribe(&topic, Subscribe::default()).expect("there is room");
        let _ = ctx.send("subscribed");
    }

    fn message(&self, ctx: &mut Context<'_, String>, message: Message<'_>) {
        let topic = ctx.data().clone();
        let _ = ctx.publish(&topic, message);
    }
}

/// Settings that differ from the defaults.
pub fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

/// An engine that is still to be started; over HTTP it tells its name, and whether it is ready.
pub fn builder(name: &'static str, listen: SocketAddr, settings: Settings) -> EngineBuilder<Rooms> {
    Engine::builder(Rooms).shards(2).settings(settings).listen(listen).http(move |engine| routes(name, engine))
}

fn routes(name: &'static str, engine: EngineHandle) -> Router {
    Router::new()
        .route("/name", get(move || async move { name }))
        .route("/ready", get(|State(engine): State<Arc<EngineHandle>>| async move { engine.is_ready().to_string() }))
        .with_state(Arc::new(engine))
}

/// An engine on a free port.
pub fn engine(settings: Settings) -> (Engine, SocketAddr) {
    let engine = builder("only", any_port(), settings).start().expect("it starts");
    let addr = engine.local_addrs()[0];
    (engine, addr)
}

pub fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// A client that has subscribed.
pub struct Member(pub WebSocket<TcpStream>);

/// How a connection was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    pub code: u16,
    pub reason: String,
    pub at: Instant,
}

impl Member {
    pub fn join(addr: SocketAddr, topic: &str) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        let (socket, _) = tungstenite::client(format!("ws://{addr}/{topic}"), stream).expect("it is let in");
        let mut member = Self(socket);
        assert_eq!(member.text().as_deref(), Ok("subscribed"));
        member
    }

    /// The next message, or how the connection was closed.
    pub fn text(&mut self) -> Result<String, Closed> {
        loop {
            match self.0.read().expect("a message, or an orderly end") {
                Frame::Text(text) => return Ok(text.to_string()),
                Frame::Close(frame) => {
                    let at = Instant::now();
                    let frame = frame.expect("the engine gives a code");
                    while self.0.read().is_ok() {}
                    return Err(Closed { code: frame.code.into(), reason: frame.reason.to_string(), at });
                }
                _ => {}
            }
        }
    }

    /// All that comes until the end, and the end.
    pub fn read_to_end(mut self) -> (Vec<String>, Closed) {
        let mut all = Vec::new();
        loop {
            match self.text() {
                Ok(text) => all.push(text),
                Err(closed) => return (all, closed),
            }
        }
    }
}

/// Milliseconds.
pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
