//! A client driven as a worker does it, and servers to drive it against. Nothing sleeps: what is waited for comes, or the
//! test fails at a generous deadline.
#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use loadgen::client::{Client, Looked, Shared, Sink, Upgraded};
use loadgen::scenario::Scenario;
use loadgen::target::{Part, Target};
use mio::{Events, Poll, Token};

/// How long anything may take that should happen at once: generous, for a noisy machine.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What a client told its sink.
#[derive(Debug, Default)]
pub struct Log {
    pub wire_bytes: usize,
    pub upgraded: Option<Upgraded>,
    pub inflated: Vec<(usize, usize)>,
    pub opened: u32,
    pub messages: Vec<Vec<u8>>,
}

impl Sink for Log {
    fn read(&mut self, wire_bytes: usize) {
        assert!(wire_bytes > 0);
        self.wire_bytes += wire_bytes;
    }

    fn upgraded(&mut self, upgraded: Upgraded) {
        assert_eq!(self.upgraded.replace(upgraded), None, "upgraded once");
        assert_eq!(self.opened, 0, "upgraded before it is opened");
    }

    fn inflated(&mut self, wire_bytes: usize, payload_bytes: usize) {
        self.inflated.push((wire_bytes, payload_bytes));
    }

    fn opened(&mut self) {
        assert!(self.upgraded.is_some());
        self.opened += 1;
    }

    fn message(&mut self, payload: &[u8]) {
        assert_eq!(self.opened, 1, "messages come when it is opened");
        self.messages.push(payload.to_vec());
    }
}

/// One client and all it needs.
pub struct Driven {
    poll: Poll,
    pub client: Client,
    shared: Shared,
    budget: usize,
    pub log: Log,
    pub end: Option<String>,
}

impl Driven {
    pub fn new(target: &Target, part: Part, number: u64, topic: &str) -> Self {
        Self::with(target, part, number, topic, 1 << 20, 64 << 10)
    }

    pub fn with(
        target: &Target,
        part: Part,
        number: u64,
        topic: &str,
        message_bytes_max: usize,
        budget: usize,
    ) -> Self {
        let poll = Poll::new().expect("a poll");
        let dial = target.dial(part, number, topic);
        let client = Client::connect(&dial, None, None, number, poll.registry(), Token(7)).expect("it begins");
        Self { poll, client, shared: Shared::new(message_bytes_max), budget, log: Log::default(), end: None }
    }

    /// Looks at each edge until `is_there`.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_there: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        let mut events = Events::with_capacity(8);
        while !is_there(self) {
            assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}; {:?}, {:?}", self.log, self.end);
            assert_eq!(self.end, None, "it ended before {what}");
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).expect("polled");
            for event in &events {
                assert_eq!(event.token(), Token(7));
                if event.is_read_closed() {
                    self.client.hang_up();
                }
                self.look();
            }
        }
    }

    fn look(&mut self) {
        loop {
            match self.client.look(&mut self.shared, self.budget, &mut self.log) {
                Looked::More => {}
                Looked::Drained => return,
                Looked::Ended(cause) => {
                    self.end.get_or_insert(cause);
                    return;
                }
            }
        }
    }

    #[track_caller]
    pub fn until_open(&mut self) {
        self.until("opened", |driven| driven.log.opened == 1);
    }

    /// The next messages, as text.
    #[track_caller]
    pub fn messages(&mut self, count: usize) -> Vec<String> {
        self.until("messages", |driven| driven.log.messages.len() >= count);
        let taken = self.log.messages.drain(..count);
        taken.map(|message| String::from_utf8_lossy(&message).into_owned()).collect()
    }

    #[track_caller]
    pub fn until_end(&mut self) -> String {
        self.until("the end", |driven| driven.end.is_some());
        self.end.clone().expect("waited for")
    }

    /// Sends at once.
    pub fn say(&mut self, payload: &[u8]) {
        self.client.push(payload, false);
        self.client.flush().expect("it is taken");
    }

    pub fn vanish(self) {
        self.client.drop_hard(self.poll.registry());
    }
}

/// A scenario with the target at `address`.
pub fn scenario(preset: &str, scheme: &str, address: SocketAddr) -> Scenario {
    let mut scenario = Scenario::default();
    scenario.target.url = format!("{scheme}://localhost:{}", address.port());
    scenario.target.preset = Some(preset.into());
    scenario
}

/// A server for one connection, on a thread: `serve` gets the accepted socket, with deadlines.
pub fn serve<T: Send + 'static>(serve: impl FnOnce(TcpStream) -> T + Send + 'static) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let thread = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("a connection");
        socket.set_read_timeout(Some(DEADLINE)).expect("set");
        socket.set_write_timeout(Some(DEADLINE)).expect("set");
        serve(socket)
    });
    (address, thread)
}

/// Connects as a subscriber of the preset `plain` to a server for one connection.
pub fn against<T: Send + 'static>(server: impl FnOnce(TcpStream) -> T + Send + 'static) -> (Driven, JoinHandle<T>) {
    let (address, thread) = serve(server);
    let target = Target::of(&scenario("plain", "ws", address)).expect("a right scenario");
    (Driven::new(&target, Part::Subscriber, 0, "t"), thread)
}

/// A Node.js program of `tests/node`, ended with the test.
pub struct Node {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Node {
    /// Starts `tests/node/PROGRAM ARGUMENTS`.
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests");
        assert!(
            std::path::Path::new(tests).join("node_modules/ws").exists(),
            "the npm packages are missing: run `tests/run setup` (or `npm ci --prefix tests`)"
        );
        let mut child = Command::new("node")
            .arg(format!("{tests}/node/{program}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is installed: see `tests/run setup`");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, lines }
    }

    /// The next line it prints.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.lines.next().expect("it has not ended").expect("a line of text")
    }

    /// The address it prints.
    #[track_caller]
    pub fn address(&mut self) -> SocketAddr {
        let port = self.line().parse().expect("it prints its port");
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
