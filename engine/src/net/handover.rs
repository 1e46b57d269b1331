//! The way of a socket between a shard and the control plane: with the bytes already read when it turns out to speak plain
//! HTTP, and back when a later request on it is an upgrade.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

/// How long a peer may take nothing of an answer before it is given up.
const WRITE_STALL: Duration = Duration::from_secs(30);

/// A socket on its way to the control plane.
#[derive(Debug)]
pub struct Handover {
    /// The socket, non-blocking.
    pub stream: std::net::TcpStream,
    /// The peer of the socket.
    pub peer: SocketAddr,
    /// The client: the peer, or whom a PROXY header names.
    pub client: SocketAddr,
    /// Whether there was a PROXY header that speaks of somebody else's connection.
    pub proxied: bool,
    /// Whether it is counted among the connections of the client's address.
    pub counted: bool,
    /// What has been read: the head of a request and what came behind it.
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

/// The socket as hyper sees it: first what a shard has read, then what comes.
#[derive(Debug)]
pub struct HttpSocket {
    stream: TcpStream,
    read: Vec<u8>,
    taken: usize,
    /// Runs while a write is waiting.
    stall: Option<Pin<Box<Sleep>>>,
}

impl HttpSocket {
    /// Takes over a socket on the control plane's runtime.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn new(stream: std::net::TcpStream, read: Vec<u8>) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::from_std(stream)?, read, taken: 0, stall: None })
    }

    /// The address the peer connected to.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Gives the socket back for a shard, with what has been read of it and not yet used.
    ///
    /// # Errors
    /// The runtime does not let go of it.
    pub fn into_parts(self) -> io::Result<(std::net::TcpStream, Vec<u8>)> {
        let rest = self.read[self.taken..].to_vec();
        Ok((self.stream.into_std()?, rest))
    }

    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for HttpSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.read.len() {
            let length = buf.remaining().min(self.read.len() - self.taken);
            buf.put_slice(&self.read[self.taken..self.taken + length]);
            self.taken += length;
            if self.taken == self.read.len() {
                (self.read, self.taken) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HttpSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
