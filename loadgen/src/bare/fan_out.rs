//! From what one read of a publisher brought to a `send()` on each socket of its topic.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use fanfare::ws::deflate::Inflater;
use fanfare::ws::{Event, Limits, Role, Session, frame};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::admission::Admitted;

const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { message_bytes: 64 << 20 };

/// What goes into one `send()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sending {
    /// One message.
    #[default]
    EachMessage,
    /// All messages that one read of the publisher brought.
    EachRead,
}

/// The bare loop and its connections.
#[derive(Debug)]
pub struct BareLoop {
    sending: Sending,
    connections: Slab<Connection>,
    topics: HashMap<String, usize>,
    /// By topic: its subscribers.
    subscribers: Vec<Vec<usize>>,
    buffer: Box<[u8]>,
    /// The frames of the last read, as the subscribers get them, and where each of them ends.
    frames: Vec<u8>,
    ends: Vec<usize>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    session: Session,
    publishes: bool,
    topic: usize,
}

impl BareLoop {
    /// Without any connection yet.
    pub fn new(sending: Sending) -> Self {
        Self {
            sending,
            connections: Slab::new(),
            topics: HashMap::new(),
            subscribers: Vec::new(),
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into(),
            frames: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Takes a new connection.
    ///
    /// # Errors
    /// If it cannot be registered.
    pub fn admit(&mut self, admitted: Admitted, registry: &Registry) -> io::Result<()> {
        let next = self.topics.len();
        let topic = *self.topics.entry(admitted.topic).or_insert(next);
        if topic == self.subscribers.len() {
            self.subscribers.push(Vec::new());
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let mut stream = TcpStream::from_std(admitted.stream);
        registry.register(&mut stream, Token(key), Interest::READABLE)?;
        entry.insert(Connection { stream, session: Session::new(Role::Server), publishes: admitted.publishes, topic });
        if !admitted.publishes {
            self.subscribers[topic].push(key);
        }
        let mut early = admitted.early;
        self.take(key, &mut early, registry);
        Ok(())
    }

    /// Reads until the socket is empty, broadcasting after each read. Readiness is edge-triggered.
    pub fn ready(&mut self, token: Token, registry: &Registry) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(connection) = self.connections.get_mut(token.0) {
            match connection.stream.read(&mut buffer) {
                Ok(read) if read > 0 => {
                    self.take(token.0, &mut buffer[..read], registry);
                    // A short read has emptied the socket; what comes later is a new edge.
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => self.end(token.0, registry),
            }
        }
        self.buffer = buffer;
    }

    /// Takes bytes of a connection: a publisher's messages go to all, everybody's close is answered.
    fn take(&mut self, key: usize, mut bytes: &mut [u8], registry: &Registry) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        self.frames.clear();
        self.ends.clear();
        let (mut lives, mut inflater) = (true, Inflater::default());
        while lives && !bytes.is_empty() {
            let Ok(received) = connection.session.receive(bytes, &LIMITS, &mut inflater) else {
                lives = false;
                break;
            };
            let consumed = received.consumed;
            match received.event {
                Some(Event::Message(message)) if connection.publishes => {
                    frame::put_data(&mut self.frames, message.opcode(), message.payload());
                    self.ends.push(self.frames.len());
                }
                Some(Event::Close { code, .. }) => {
                    let mut farewell = Vec::new();
                    frame::put_close(&mut farewell, code, "");
                    let _ = connection.stream.write(&farewell);
                    lives = false;
                }
                _ => {}
            }
            bytes = &mut bytes[consumed..];
        }
        let topic = connection.topic;
        if !self.ends.is_empty() {
            self.broadcast(topic);
        }
        if !lives {
            self.end(key, registry);
        }
    }

    fn broadcast(&mut self, topic: usize) {
        let (connections, subscribers) = (&mut self.connections, &self.subscribers[topic]);
        match self.sending {
            Sending::EachMessage => {
                let mut start = 0;
                for &end in &self.ends {
                    for &key in subscribers {
                        send(&mut connections[key].stream, &self.frames[start..end]);
                    }
                    start = end;
                }
            }
            Sending::EachRead => {
                for &key in subscribers {
                    send(&mut connections[key].stream, &self.frames);
                }
            }
        }
    }

    fn end(&mut self, key: usize, registry: &Registry) {
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        let _ = registry.deregister(&mut connection.stream);
        self.subscribers[connection.topic].retain(|&subscriber| subscriber != key);
    }
}

/// One `send()`. An error is seen again as readiness of that socket, and ends it there.
#[inline]
fn send(stream: &mut TcpStream, frames: &[u8]) {
    match stream.write(frames) {
        Ok(sent) if sent < frames.len() => finish(stream, &frames[sent..]),
        _ => {}
    }
}

/// Waits until the rest of a frame is taken, for a second at most; then the connection is of no use any more.
#[cold]
fn finish(stream: &mut TcpStream, mut rest: &[u8]) {
    let deadline = std::time::Instant::now() + FINISH_TIMEOUT;
    while !rest.is_empty() && std::time::Instant::now() < deadline {
        match stream.write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                std::thread::yield_now();
            }
            Err(_) => return,
        }
    }
    if !rest.is_empty() {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}
