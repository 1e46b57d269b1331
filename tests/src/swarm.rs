//! Many subscribers on one thread: `tungstenite`'s client on sockets that do not block. Each subscribes in the native protocol,
//! notes what it gets, and, when it is told to come back or loses its connection, comes back with its position.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, Message, WebSocket};

use crate::{DEADLINE, Rng};

/// How long a socket is waited for at most before the others are looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How soon a subscriber comes back that was not told when.
const BACK: Duration = Duration::from_millis(20);

/// What is written down about a whole swarm.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    /// Publications that did not follow the one before: something is missing.
    pub gaps: u64,
    /// Publications that had been there before.
    pub duplicates: u64,
    /// Times the server said that it could not give everything since a position.
    pub not_recovered: u64,
    /// Connections that could not be made, with the reason.
    pub refused: Vec<String>,
    /// Connections that ended, by close code; 0 without a Close frame.
    pub ends: Vec<(u16, u64)>,
    /// Close reasons that told when to come back.
    pub told: u64,
}

/// One of them.
struct Subscriber {
    topic: String,
    socket: Option<WebSocket<TcpStream>>,
    /// Epoch and the last offset seen.
    seen: Option<(String, u64)>,
    /// The data of everything it has got, in order.
    got: u64,
    back_at: Instant,
    subscribed: bool,
}

/// The swarm.
pub struct Swarm {
    addr: SocketAddr,
    subscribers: Vec<Subscriber>,
    /// Headers of every upgrade.
    headers: Vec<(String, String)>,
    rng: Rng,
    /// What has been found.
    pub findings: Findings,
}

impl Swarm {
    /// Subscribers of these topics, in turn, not connected yet.
    #[must_use]
    pub fn new(addr: SocketAddr, subscribers: usize, topics: &[&str]) -> Self {
        let now = Instant::now();
        let make = |n: usize| Subscriber {
            topic: topics[n % topics.len()].to_owned(),
            socket: None,
            seen: None,
            got: 0,
            back_at: now,
            subscribed: false,
        };
        Self {
            addr,
            subscribers: (0..subscribers).map(make).collect(),
            headers: Vec::new(),
            rng: Rng::from_env(),
            findings: Findings::default(),
        }
    }

    /// Sends a header with every upgrade.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How many are connected and have been told that they are subscribed.
    #[must_use]
    pub fn subscribed(&self) -> usize {
        self.subscribers.iter().filter(|subscriber| subscriber.subscribed).count()
    }

    /// The fewest publications that one of a topic has got.
    #[must_use]
    pub fn fewest(&self, topic: &str) -> u64 {
        let own = self.subscribers.iter().filter(|subscriber| subscriber.topic == topic);
        own.map(|subscriber| subscriber.got).min().unwrap_or(0)
    }

    /// The most.
    #[must_use]
    pub fn most(&self, topic: &str) -> u64 {
        let own = self.subscribers.iter().filter(|subscriber| subscriber.topic == topic);
        own.map(|subscriber| subscriber.got).max().unwrap_or(0)
    }

    /// The offset that all of them have seen.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.subscribers.iter().map(|own| own.seen.as_ref().map_or(0, |(_, offset)| *offset)).min().unwrap_or(0)
    }

    /// Lets go of every connection at once, without a Close frame.
    pub fn drop_all(&mut self) {
        let now = Instant::now();
        for subscriber in &mut self.subscribers {
            subscriber.socket = None;
            subscriber.subscribed = false;
            subscriber.back_at = now;
        }
    }

    /// Runs until a condition holds.
    ///
    /// # Panics
    /// If it does not within the deadline.
    #[track_caller]
    pub fn run_until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + 4 * DEADLINE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "{what}: not yet, with {:?}", self.findings);
            self.turn();
        }
    }

    /// Brings back who is due, and reads what has come.
    pub fn turn(&mut self) {
        let now = Instant::now();
        for n in 0..self.subscribers.len() {
            if self.subscribers[n].socket.is_none() && self.subscribers[n].back_at <= now {
                self.connect(n);
            }
        }
        for n in self.readable() {
            self.read(n);
        }
    }

    fn connect(&mut self, n: usize) {
        match self.try_connect(n) {
            Ok(socket) => self.subscribers[n].socket = Some(socket),
            Err(error) => {
                self.findings.refused.push(error);
                self.subscribers[n].back_at = Instant::now() + BACK;
            }
        }
    }

    fn try_connect(&self, n: usize) -> Result<WebSocket<TcpStream>, String> {
        let stream = TcpStream::connect(self.addr).map_err(|error| format!("connect: {error}"))?;
        stream.set_read_timeout(Some(DEADLINE)).map_err(|error| error.to_string())?;
        let mut request = format!("ws://{}/ws", self.addr).into_client_request().map_err(|error| error.to_string())?;
        for (name, value) in &self.headers {
            let name = tungstenite::http::HeaderName::try_from(name.as_str()).map_err(|error| error.to_string())?;
            let value = tungstenite::http::HeaderValue::try_from(value).map_err(|error| error.to_string())?;
            request.headers_mut().insert(name, value);
        }
        let (mut socket, _) = tungstenite::client(request, stream).map_err(|error| format!("upgrade: {error}"))?;
        let subscriber = &self.subscribers[n];
        let mut subscribe = json!({ "type": "subscribe", "topic": subscriber.topic });
        if let Some((epoch, offset)) = &subscriber.seen {
            subscribe["since"] = json!({ "epoch": epoch, "offset": offset });
        }
        socket.send(Message::text(subscribe.to_string())).map_err(|error| format!("subscribe: {error}"))?;
        socket.get_ref().set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(socket)
    }

    /// Who has something to read, waited for a moment.
    fn readable(&self) -> Vec<usize> {
        let connected = || self.subscribers.iter().enumerate().filter(|(_, subscriber)| subscriber.socket.is_some());
        let mut fds: Vec<libc::pollfd> = connected()
            .filter_map(|(_, subscriber)| subscriber.socket.as_ref())
            .map(|socket| libc::pollfd { fd: socket.get_ref().as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: the pointer and the length are those of a vector that lives on; poll() writes to nothing else.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, LOOK.as_millis() as libc::c_int) };
        if ready <= 0 {
            return Vec::new();
        }
        connected().zip(&fds).filter(|(_, fd)| fd.revents != 0).map(|((n, _), _)| n).collect()
    }

    fn read(&mut self, n: usize) {
        loop {
            let Some(socket) = &mut self.subscribers[n].socket else { return };
            match socket.read() {
                Ok(Message::Text(text)) => self.hear(n, &text),
                Ok(Message::Close(frame)) => {
                    let (code, reason) = frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
                    return self.end(n, code, &reason);
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.end(n, 0, ""),
            }
        }
    }

    /// The connection has ended: it comes back when it was told to, or soon.
    fn end(&mut self, n: usize, code: u16, reason: &str) {
        let told = serde_json::from_str::<Value>(reason).ok().and_then(|advice| advice["retry_after_ms"].as_u64());
        self.findings.told += u64::from(told.is_some());
        match self.findings.ends.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.findings.ends.push((code, 1)),
        }
        let spread = Duration::from_millis(self.rng.below(20) as u64);
        let subscriber = &mut self.subscribers[n];
        if let Some(mut socket) = subscriber.socket.take() {
            // The answer to the Close frame, if there was one.
            let _: Result<(), _> = socket.flush();
        }
        subscriber.subscribed = false;
        subscriber.back_at = Instant::now() + told.map_or(BACK + spread, Duration::from_millis);
    }

    fn hear(&mut self, n: usize, text: &str) {
        let Ok(message) = serde_json::from_str::<Value>(text) else { panic!("no JSON: {text}") };
        let subscriber = &mut self.subscribers[n];
        match message["type"].as_str() {
            Some("subscribed") => {
                subscriber.subscribed = true;
                if subscriber.seen.is_some() && message["recovered"] != true {
                    self.findings.not_recovered += 1;
                }
                if subscriber.seen.is_none() {
                    let epoch = message["epoch"].as_str().unwrap_or_default().to_owned();
                    subscriber.seen = Some((epoch, message["offset"].as_u64().unwrap_or(0)));
                }
            }
            Some("message") => {
                let offset = message["offset"].as_u64().unwrap_or(0);
                subscriber.got += 1;
                if let Some((_, seen)) = &mut subscriber.seen {
                    self.findings.gaps += u64::from(offset > *seen + 1);
                    self.findings.duplicates += u64::from(offset <= *seen);
                    *seen = offset;
                }
            }
            Some("connected") => {}
            _ => panic!("unexpected: {text}"),
        }
    }
}

/// Publishes one message over a connection of its own, as programs without a pool do.
///
/// # Errors
/// The connection could not be made, or broke before there was an answer.
pub fn publish_once(addr: SocketAddr, topic: &str, payload: &str) -> io::Result<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let length = payload.len();
    let head = format!(
        "POST /api/publish?topic={topic} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(payload.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    status.map(|status| (status, body)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
