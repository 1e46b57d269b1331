//! How a server is spoken to: what each connection asks for and says, and what a publication looks like.
//!
//! Everything is a template: the presets are values of [`Template`](crate::scenario::Template), nothing more.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::failure::Failure;
use crate::scenario::Scenario;

/// The server and its way of speaking, resolved and checked.
#[derive(Debug)]
pub struct Target {
    /// Where to connect.
    pub address: SocketAddr,
}

/// Which of the conversations a connection has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Is subscribed to one topic.
    Subscriber,
    /// Publishes.
    Publisher,
    /// Is only there.
    Idle,
}

/// All that is needed to open one connection.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Where to.
    pub address: SocketAddr,
    /// The upgrade request but for the line of its key: see `client::handshake`.
    pub request: Arc<[u8]>,
}

/// Publications to one topic.
#[derive(Debug, Clone)]
pub struct Publication {
    _parts: (),
}

impl Target {
    /// Reads and checks `scenario.target`; looks up the host's address, the certificates, the tokens.
    pub fn of(_scenario: &Scenario) -> Result<Self, Failure> {
        Err(Failure::failed("not yet"))
    }

    /// What connection number `client` needs to play `part` for `topic` (the topic's name; idle ones get any).
    pub fn dial(&self, _part: Part, _client: u64, _topic: &str) -> Dial {
        Dial { address: self.address, request: Arc::default() }
    }

    /// How publisher number `client` publishes to `topic` over its WebSocket.
    pub fn publication(&self, _client: u64, _topic: &str) -> Publication {
        Publication { _parts: () }
    }

    /// How it publishes by HTTP: whole requests, keep-alive.
    pub fn http_publication(&self, _client: u64, _topic: &str) -> Publication {
        Publication { _parts: () }
    }

    /// Where HTTP publications go.
    pub fn http_address(&self) -> SocketAddr {
        self.address
    }
}

impl Publication {
    /// Appends the message (or the whole HTTP request) that carries `payload`.
    pub fn put(&self, _payload: &[u8], _out: &mut Vec<u8>) {}
}
