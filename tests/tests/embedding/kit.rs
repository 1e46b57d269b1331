//! What the tests share: a handler made of closures that notes every call, an engine on a free port, and a client that is
//! not ours.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use fanfare::{
    Closed, ConnectionId, Context, Decision, Engine, EngineBuilder, EngineHandle, Handler, Message, Settings, Upgrade,
};
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::Response;
use tungstenite::{Message as Frame, WebSocket};

/// How long anything may take that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the handler keeps for a connection in these tests.
pub type Data = String;
pub type Ctx<'a> = Context<'a, Data>;

/// A call of the handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Open,
    Message(String),
    Drain,
    Ping(String),
    Pong(String),
    Sent(u64, bool),
    Timer(u64),
    Resume,
    Close(fanfare::CloseCause, u16, String),
}

/// Everything the handler was told, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Notes>);

#[derive(Default)]
struct Notes {
    events: Mutex<Vec<(ConnectionId, What)>>,
    news: Condvar,
}

impl Log {
    fn note(&self, id: ConnectionId, what: What) {
        self.0.events.lock().unwrap().push((id, what));
        self.0.news.notify_all();
    }

    /// Who has a share of this log: the engine's threads through their handler, and those that test it.
    pub fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    pub fn all(&self) -> Vec<(ConnectionId, What)> {
        self.0.events.lock().unwrap().clone()
    }

    pub fn of(&self, id: ConnectionId) -> Vec<What> {
        self.all().into_iter().filter(|(own, _)| *own == id).map(|(_, what)| what).collect()
    }

    pub fn count(&self, wanted: impl Fn(&What) -> bool) -> usize {
        self.all().iter().filter(|(_, what)| wanted(what)).count()
    }

    /// Waits until the log shows what is wanted.
    #[track_caller]
    pub fn wait<T>(&self, wanted: impl Fn(&[(ConnectionId, What)]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut events = self.0.events.lock().unwrap();
        loop {
            if let Some(found) = wanted(&events) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "did not come; there is only {events:?}");
            events = self.0.news.wait_timeout(events, left).unwrap().0;
        }
    }

    #[track_caller]
    pub fn wait_for(&self, what: &What) -> ConnectionId {
        self.wait(|events| events.iter().find(|(_, own)| own == what).map(|(id, _)| *id))
    }

    /// The connection that was opened as the n-th.
    #[track_caller]
    pub fn opened(&self, n: usize) -> ConnectionId {
        self.wait(|events| events.iter().filter(|(_, what)| *what == What::Open).nth(n).map(|(id, _)| *id))
    }

    /// The first close, as cause, code and reason.
    #[track_caller]
    pub fn closed(&self) -> (fanfare::CloseCause, u16, String) {
        self.wait(|events| {
            events.iter().find_map(|(_, what)| match what {
                What::Close(cause, code, reason) => Some((*cause, *code, reason.clone())),
                _ => None,
            })
        })
    }
}

type Decide = Box<dyn Fn(&Upgrade<'_>) -> Decision<Data> + Send + Sync>;
type On<T> = Box<dyn Fn(&mut Ctx<'_>, T) + Send + Sync>;
type OnTick = Box<dyn Fn(&EngineHandle) + Send + Sync>;
type OnMessage = Box<dyn Fn(&mut Ctx<'_>, Message<'_>) + Send + Sync>;

/// A handler made of closures.
#[derive(Default)]
pub struct Script {
    log: Log,
    upgrade: Option<Decide>,
    open: Option<On<()>>,
    message: Option<OnMessage>,
    drain: Option<On<()>>,
    ping: Option<On<()>>,
    pong: Option<On<()>>,
    sent: Option<On<(u64, bool)>>,
    timer: Option<On<u64>>,
    resume: Option<On<Box<dyn std::any::Any + Send>>>,
    close: Option<On<()>>,
    tick: Option<OnTick>,
}

macro_rules! setters {
    ($($setter:ident $field:ident: ($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(pub fn $setter(mut self, f: impl Fn($($argument),*) $(-> $result)? + Send + Sync + 'static) -> Self {
            self.$field = Some(Box::new(f));
            self
        })*
    };
}

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        on_upgrade upgrade: (&Upgrade<'_>) -> Decision<Data>;
        on_open open: (&mut Ctx<'_>, ());
        on_message message: (&mut Ctx<'_>, Message<'_>);
        on_drain drain: (&mut Ctx<'_>, ());
        on_ping ping: (&mut Ctx<'_>, ());
        on_pong pong: (&mut Ctx<'_>, ());
        on_sent sent: (&mut Ctx<'_>, (u64, bool));
        on_timer timer: (&mut Ctx<'_>, u64);
        on_resume resume: (&mut Ctx<'_>, Box<dyn std::any::Any + Send>);
        on_close close: (&mut Ctx<'_>, ());
        on_tick tick: (&EngineHandle);
    }

    fn run<T>(&self, ctx: &mut Ctx<'_>, what: What, argument: T, f: Option<&On<T>>) {
        self.log.note(ctx.id(), what);
        if let Some(f) = f {
            f(ctx, argument);
        }
    }
}

impl Handler for Script {
    type Data = Data;

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<Data> {
        match &self.upgrade {
            Some(decide) => decide(request),
            None => Decision::accept(request.path().to_owned()),
        }
    }

    fn open(&self, ctx: &mut Ctx<'_>) {
        self.run(ctx, What::Open, (), self.open.as_ref());
    }

    fn message(&self, ctx: &mut Ctx<'_>, message: Message<'_>) {
        self.log.note(ctx.id(), What::Message(text_of(message.payload())));
        if let Some(f) = &self.message {
            f(ctx, message);
        }
    }

    fn drain(&self, ctx: &mut Ctx<'_>) {
        self.run(ctx, What::Drain, (), self.drain.as_ref());
    }

    fn ping(&self, ctx: &mut Ctx<'_>, payload: &[u8]) {
        self.run(ctx, What::Ping(text_of(payload)), (), self.ping.as_ref());
    }

    fn pong(&self, ctx: &mut Ctx<'_>, payload: &[u8]) {
        self.run(ctx, What::Pong(text_of(payload)), (), self.pong.as_ref());
    }

    fn sent(&self, ctx: &mut Ctx<'_>, ticket: u64, written: bool) {
        self.run(ctx, What::Sent(ticket, written), (ticket, written), self.sent.as_ref());
    }

    fn timer(&self, ctx: &mut Ctx<'_>, token: u64) {
        self.run(ctx, What::Timer(token), token, self.timer.as_ref());
    }

    fn resume(&self, ctx: &mut Ctx<'_>, value: Box<dyn std::any::Any + Send>) {
        self.run(ctx, What::Resume, value, self.resume.as_ref());
    }

    fn close(&self, ctx: &mut Ctx<'_>, closed: &Closed<'_>) {
        let what = What::Close(closed.cause, closed.code, closed.reason.into());
        self.run(ctx, what, (), self.close.as_ref());
    }

    fn tick(&self, engine: &EngineHandle) {
        if let Some(f) = &self.tick {
            f(engine);
        }
    }
}

/// The first bytes of a payload as text.
pub fn text_of(payload: &[u8]) -> String {
    String::from_utf8_lossy(&payload[..payload.len().min(64)]).into_owned()
}

/// Settings that differ from the defaults.
pub fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

/// A running engine and what its handler was told.
pub struct Running {
    pub engine: Engine,
    pub log: Log,
}

impl Running {
    /// With one shard, on a free port.
    pub fn start(script: Script) -> Self {
        Self::start_with(script, |builder| builder)
    }

    pub fn start_with(script: Script, build: impl FnOnce(EngineBuilder<Script>) -> EngineBuilder<Script>) -> Self {
        let log = script.log.clone();
        let builder = Engine::builder(script).listen(([127, 0, 0, 1], 0).into()).shards(1);
        Self { engine: build(builder).start().expect("the engine starts"), log }
    }

    /// On an address where another one listens.
    pub fn start_at(
        addr: SocketAddr,
        script: Script,
        build: impl FnOnce(EngineBuilder<Script>) -> EngineBuilder<Script>,
    ) -> Self {
        let log = script.log.clone();
        let builder = Engine::builder(script).listen(addr).shards(1);
        Self { engine: build(builder).start().expect("the engine starts"), log }
    }

    pub fn addr(&self) -> SocketAddr {
        self.engine.local_addrs()[0]
    }

    pub fn handle(&self) -> &EngineHandle {
        self.engine.handle()
    }

    #[track_caller]
    pub fn connect(&self) -> Client {
        Client::connect(self.addr(), "/").0
    }

    /// Connects and waits until the handler knows.
    #[track_caller]
    pub fn connect_known(&self) -> (Client, ConnectionId) {
        let before = self.log.count(|what| *what == What::Open);
        let client = self.connect();
        (client, self.log.opened(before))
    }

    /// The value of a metric, summed over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.handle().metrics();
        let values = text.lines().filter(|line| line.starts_with(name)).map(|line| line.rsplit(' ').next().unwrap());
        values.map(|value| value.parse::<f64>().unwrap()).sum()
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually<T: Debug + PartialEq>(expected: T, mut now: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen = now();
        if seen == expected {
            return;
        }
        assert!(Instant::now() < deadline, "still {seen:?}, not {expected:?}");
        std::thread::yield_now();
    }
}

/// A WebSocket client that gives up waiting after [`PATIENCE`].
pub struct Client(pub WebSocket<TcpStream>);

impl Client {
    /// Connects, and gives the answer to the upgrade, too.
    #[track_caller]
    pub fn connect(addr: SocketAddr, path: &str) -> (Self, Response) {
        Self::try_connect(addr, path, &[]).expect("the upgrade is accepted")
    }

    /// Connects with further headers; the error is the HTTP answer.
    #[allow(clippy::result_large_err)]
    pub fn try_connect(
        addr: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response), tungstenite::Error> {
        let stream = TcpStream::connect(addr).expect("the engine listens");
        Self::upgrade(stream, addr, path, headers)
    }

    /// Makes a WebSocket of a TCP connection, which may have carried something else before.
    #[allow(clippy::result_large_err)]
    pub fn upgrade(
        stream: TcpStream,
        addr: SocketAddr,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Self, Response), tungstenite::Error> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => Ok((Self(socket), response)),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }

    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.0.send(Frame::text(text)).expect("sending works");
    }

    /// The next frame that is no ping.
    #[track_caller]
    pub fn next(&mut self) -> Frame {
        loop {
            match self.0.read().expect("a frame comes") {
                Frame::Ping(_) => {}
                frame => return frame,
            }
        }
    }

    /// The next text.
    #[track_caller]
    pub fn text(&mut self) -> String {
        match self.next() {
            Frame::Text(text) => text.to_string(),
            other => panic!("no text: {other:?}"),
        }
    }

    #[track_caller]
    pub fn texts(&mut self, n: usize) -> Vec<String> {
        (0..n).map(|_| self.text()).collect()
    }

    /// Reads on to the Close frame; code (1005 if there is none) and reason.
    #[track_caller]
    pub fn closed(&mut self) -> (u16, String) {
        loop {
            match self.0.read().expect("a Close frame comes") {
                Frame::Close(Some(close)) => return (close.code.into(), close.reason.to_string()),
                Frame::Close(None) => return (1005, String::new()),
                _ => {}
            }
        }
    }

    /// Closes from this side; the answer is still to be read.
    #[track_caller]
    pub fn close(&mut self, code: u16, reason: &str) {
        let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.0.close(Some(frame)).expect("closing works");
    }

    /// Ends the TCP connection with a reset.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(self.0.get_ref());
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A key for upgrades written by hand.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The head of an upgrade.
pub fn upgrade_head(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n"
    )
}

/// A masked text frame (the mask is zero, so that the payload can be read).
pub fn masked_text(text: &str) -> Vec<u8> {
    assert!(text.len() < 126);
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// A TCP connection that gives up waiting.
pub fn tcp(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("the engine listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads an HTTP answer with a Content-Length: head and body.
#[track_caller]
pub fn read_answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut one = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        let n = stream.read(&mut one).expect("an answer comes");
        assert_eq!(n, 1, "the answer ends early: {:?}", String::from_utf8_lossy(&bytes));
        bytes.push(one[0]);
    }
    let head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).expect("the body comes");
    (head, String::from_utf8(body).unwrap())
}

/// One HTTP request and its answer.
#[track_caller]
pub fn http(stream: &mut TcpStream, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    read_answer(stream)
}
