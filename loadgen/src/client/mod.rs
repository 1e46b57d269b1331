//! One connection, from connect to its end: TCP, TLS, upgrade, opening conversation, messages.
//!
//! Owner: a worker. It knows nothing of topics, markers or clocks: what comes is given to a [`Sink`].

use std::io;
use std::net::IpAddr;

use mio::{Registry, Token};

use crate::target::Dial;

/// What is shared by all connections of a worker: the receive buffer, the inflater.
#[derive(Debug)]
pub struct Shared {
    _buffer: Box<[u8]>,
}

/// Takes what a connection receives.
pub trait Sink {
    /// Bytes have just been read from the socket: what follows arrived now. The moment to look at the clock, once a read.
    fn read(&mut self, wire_bytes: usize);
    /// The upgrade was answered with 101: the handshake's time ends here.
    fn upgraded(&mut self, deflate: bool);
    /// The opening conversation is done: subscribed.
    fn opened(&mut self);
    /// A data message that is not part of the opening conversation nor of its answers, after inflation.
    fn message(&mut self, payload: &[u8]);
}

/// How a look at a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Looked {
    /// The socket has nothing more; the next edge will tell.
    Drained,
    /// The budget is used up: look again without waiting for an edge.
    More,
    /// It is over, for this cause (`refused`, `HTTP 403`, `close 1008`, `reset`, `end of stream`, `protocol error: …`).
    Ended(String),
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    _stream: (),
}

impl Shared {
    /// Buffers for the connections of one worker. Messages longer than `message_bytes_max` end their connection.
    pub fn new(_message_bytes_max: usize) -> Self {
        Self { _buffer: Box::default() }
    }
}

impl Client {
    /// Begins to connect (non-blocking), registered for reading and writing under `token`. `receive_buffer` sets
    /// SO_RCVBUF, for readers that shall be slow.
    ///
    /// # Errors
    /// Of the socket calls: out of files, out of local ports, network unreachable.
    pub fn connect(
        _dial: &Dial,
        _bind: Option<IpAddr>,
        _receive_buffer: Option<usize>,
        _mask_seed: u64,
        _registry: &Registry,
        _token: Token,
    ) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Reads and writes what can be, at most about `budget` bytes read. To be called at each edge.
    pub fn look(&mut self, _shared: &mut Shared, _budget: usize, _sink: &mut impl Sink) -> Looked {
        Looked::Drained
    }

    /// Whether the opening conversation is done.
    pub fn is_open(&self) -> bool {
        false
    }

    /// Adds a message to what [`Self::flush`] writes.
    pub fn push(&mut self, _payload: &[u8], _binary: bool) {}

    /// Writes what the socket takes. Called again by [`Self::look`] at the next edge.
    pub fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Bytes pushed that the socket has not taken.
    pub fn unsent_bytes(&self) -> usize {
        0
    }

    /// Says goodbye with a close frame, as far as the socket takes it; the peer's answer ends it with `closed`.
    pub fn close(&mut self, _code: u16) {}

    /// Takes the connection off the poll and drops it: with a reset (`SO_LINGER` 0), as a client that vanishes.
    pub fn drop_hard(self, _registry: &Registry) {}
}
