//! The way of a socket between a shard and the control plane: with the bytes already read when it turns out to speak HTTP, and
//! back when a later request on it is an upgrade. [`HttpSocket`](super::http_socket::HttpSocket) is what the control plane makes of it.

use std::net::SocketAddr;

use tokio::sync::mpsc;

use super::tls::TlsSession;

/// A socket on its way to the control plane.
#[derive(Debug)]
pub struct Handover {
    /// The socket, non-blocking.
    pub stream: std::net::TcpStream,
    /// What it is encrypted with.
    pub tls: Option<Box<TlsSession>>,
    /// The peer of the socket.
    pub peer: SocketAddr,
    /// The client: the peer, or whom a PROXY header names.
    pub client: SocketAddr,
    /// Whether there was a PROXY header that speaks of somebody else's connection.
    pub proxied: bool,
    /// Whether it is counted among the connections of the client's address.
    pub counted: bool,
    /// What has been read, and decrypted: the head of a request and what came behind it.
    pub read: Vec<u8>,
}

/// Where shards put sockets for the control plane.
#[derive(Debug)]
pub struct HandoverSender(mpsc::Sender<Handover>);

/// A way to the control plane for at most so many sockets at once.
#[must_use]
pub fn channel(sockets_max: usize) -> (HandoverSender, mpsc::Receiver<Handover>) {
    let (sender, receiver) = mpsc::channel(sockets_max.max(1));
    (HandoverSender(sender), receiver)
}

impl HandoverSender {
    /// Hands a socket over; false, and the socket is closed, if the control plane takes none.
    #[must_use]
    pub fn send(&self, handover: Handover) -> bool {
        self.0.try_send(handover).is_ok()
    }
}
