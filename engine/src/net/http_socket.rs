//! A socket on the control plane, as hyper sees it: first what a shard has read, then what comes; in the clear or through TLS.

use std::fmt;
use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::tls::TlsSession;
use super::tls::session::{AHEAD_MAX, NOT_SPOKEN, TlsFailure, is_client_hello};

/// How long a peer may take nothing of an answer before it is given up.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// Ciphertext read at once: a record.
const READ_BYTES: usize = 16 << 10;

/// The socket as hyper sees it.
#[derive(Debug)]
pub struct HttpSocket {
    stream: TcpStream,
    tls: Option<Box<TlsSession>>,
    /// What has been read, and decrypted, and not yet taken.
    read: Vec<u8>,
    taken: usize,
    /// Why nothing follows that.
    failed: Option<TlsFailure>,
    /// Whether anything had been read when it was taken over.
    begun: bool,
    /// Runs while a write is waiting.
    stall: Option<Pin<Box<Sleep>>>,
}

/// The parts of an [`HttpSocket`]: the socket, its TLS, and what has been read of it and not used.
pub type Parts = (std::net::TcpStream, Option<Box<TlsSession>>, Vec<u8>);

/// Why there was no TLS handshake.
#[derive(Debug)]
pub enum NoHandshake {
    /// The peer went away, or its socket failed.
    Gone,
    /// Something else is spoken.
    NotTls,
    /// TLS on a socket that does not speak it.
    TlsOnPlain,
    /// It failed; the peer has got an alert.
    Failed(TlsFailure),
}

impl fmt::Display for NoHandshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => f.write_str("it went away"),
            Self::NotTls => f.write_str("something else than TLS was spoken to an address that speaks TLS"),
            Self::TlsOnPlain => f.write_str("TLS was spoken to an address that does not"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl HttpSocket {
    /// Takes over a socket on the control plane's runtime.
    ///
    /// # Errors
    /// The runtime cannot watch it.
    pub fn new(stream: std::net::TcpStream, tls: Option<Box<TlsSession>>, read: Vec<u8>) -> io::Result<Self> {
        let begun = !read.is_empty();
        Ok(Self { stream: TcpStream::from_std(stream)?, tls, read, taken: 0, failed: None, begun, stall: None })
    }

    /// The address the peer connected to.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// Whether a shard has had its first bytes, and its handshake, already.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// What it is encrypted with.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_deref()
    }

    /// Gives the socket back for a shard, with what has been read of it and not yet used.
    ///
    /// # Errors
    /// The runtime does not let go of it.
    pub fn into_parts(self) -> io::Result<Parts> {
        let rest = self.read[self.taken..].to_vec();
        Ok((self.stream.into_std()?, self.tls, rest))
    }

    /// Waits for the first bytes, and completes the TLS handshake if there has to be one. Who should speak TLS and does not is
    /// to be told so by `not_tls`, in the clear.
    ///
    /// # Errors
    /// See [`NoHandshake`], with what is to be said then, see [`part`](Self::part).
    pub async fn shake_hands(&mut self, not_tls: &[u8]) -> Result<(), (NoHandshake, Vec<u8>)> {
        let gone = |_: io::Error| (NoHandshake::Gone, Vec::new());
        if self.tls.is_none() {
            let mut first = [0; 2];
            let length = self.stream.peek(&mut first).await.map_err(gone)?;
            let is_tls = is_client_hello(&first[..length]);
            return if is_tls { Err((NoHandshake::TlsOnPlain, NOT_SPOKEN.to_vec())) } else { Ok(()) };
        }
        // On the heap, for a while: what lives across an await is a part of every connection's future, as long as that lasts.
        let mut cipher = vec![0; READ_BYTES];
        while let Some(tls) = self.tls.as_mut().filter(|tls| !tls.is_open()) {
            let length = self.stream.read(&mut cipher).await.map_err(gone)?;
            if length == 0 {
                return Err((NoHandshake::Gone, Vec::new()));
            }
            if tls.is_not_tls(&cipher[..length]) {
                return Err((NoHandshake::NotTls, not_tls.to_vec()));
            }
            let mut answer = Vec::new();
            if let Err(failure) = tls.receive(&mut cipher[..length], &mut self.read, &mut answer) {
                return Err((NoHandshake::Failed(failure), answer));
            }
            self.stream.write_all(&answer).await.map_err(gone)?;
        }
        Ok(())
    }

    /// Says the last word in the clear, and waits until the peer has closed: a reset would take it back.
    ///
    /// # Errors
    /// What the socket says.
    pub async fn part(&mut self, last: &[u8]) -> io::Result<()> {
        self.stream.write_all(last).await?;
        self.stream.shutdown().await?;
        let mut rest = vec![0; 2048];
        while self.stream.read(&mut rest).await? > 0 {}
        Ok(())
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL)));
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Gives hyper what has been read; false if there is nothing.
    fn give(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = buf.remaining().min(self.read.len() - self.taken);
        buf.put_slice(&self.read[self.taken..self.taken + length]);
        self.taken += length;
        if self.taken == self.read.len() {
            (self.read, self.taken) = (Vec::new(), 0);
        }
        length > 0
    }

    /// Writes the ciphertext that is kept.
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, tls: Some(tls), .. } = self else { return Poll::Ready(Ok(())) };
        while !tls.kept_bytes().is_empty() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, tls.kept_bytes()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => tls.sent(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_kept_watched(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = self.poll_kept(cx);
        self.watch(cx, written)
    }

    /// Reads and decrypts until there is something for hyper.
    fn poll_decrypt(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let Self { stream, tls: Some(tls), read, failed, .. } = self else { return Poll::Ready(Ok(())) };
            if let Some(failure) = failed {
                return Poll::Ready(Err(io::Error::other(failure.clone())));
            }
            if tls.is_peer_closed() {
                return Poll::Ready(Ok(()));
            }
            let mut cipher = [0; READ_BYTES];
            let mut cipher = ReadBuf::new(&mut cipher);
            ready!(Pin::new(stream).poll_read(cx, &mut cipher))?;
            if cipher.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            let mut answer = Vec::new();
            let received = tls.receive(cipher.filled_mut(), read, &mut answer);
            tls.keep(&answer);
            // What was readable before it failed comes first.
            *failed = received.err();
            // What the socket does not take now goes out in front of what is written next.
            if let Poll::Ready(Err(error)) = self.poll_kept(cx) {
                return Poll::Ready(Err(error));
            }
            if self.give(buf) {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncRead for HttpSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.give(buf) {
            return Poll::Ready(Ok(()));
        }
        if self.tls.is_some() {
            return self.poll_decrypt(cx, buf);
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for HttpSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.tls.is_none() {
            let written = Pin::new(&mut self.stream).poll_write(cx, buf);
            return self.watch(cx, written);
        }
        // Nothing is encrypted before what was encrypted earlier is out.
        ready!(self.poll_kept_watched(cx))?;
        let taken = buf.len().min(AHEAD_MAX);
        let mut cipher = Vec::new();
        if let Some(tls) = &mut self.tls {
            tls.encrypt(&buf[..taken], &mut cipher).map_err(io::Error::other)?;
            tls.keep(&cipher);
        }
        match self.poll_kept(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.tls.is_some() {
            // Not asked for, see below.
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| buf));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    /// What is encrypted is gathered first: hyper does that if it is told that pieces are of no use.
    fn is_write_vectored(&self) -> bool {
        self.tls.is_none() && self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_kept_watched(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            let mut cipher = Vec::new();
            tls.close_notify(&mut cipher);
            tls.keep(&cipher);
        }
        ready!(self.poll_kept_watched(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::simulation::wire::Wire;

    fn pair() -> (std::net::TcpStream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        accepted.set_nonblocking(true).unwrap();
        (client, accepted)
    }

    fn run<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time") })
    }

    #[test]
    fn what_was_readable_before_it_failed_comes_first_and_the_failure_after_it() {
        for version in [0, 1] {
            let (mut client, accepted) = pair();
            let (mut wire, tls) = Wire::new(client.try_clone().unwrap(), Some(version));
            let mut cipher = wire.encrypted(b"GET / HTTP/1.1", false);
            cipher.extend([23, 3, 3, 0, 32]);
            cipher.extend([7; 32]);
            io::Write::write_all(&mut client, &cipher).unwrap();
            run(async {
                let mut socket = HttpSocket::new(accepted, tls, Vec::new()).unwrap();
                let mut read = [0; 14];
                socket.read_exact(&mut read).await.unwrap();
                assert_eq!(&read, b"GET / HTTP/1.1");
                for _ in 0..2 {
                    let error = socket.read(&mut read).await.expect_err("it has failed");
                    let failure = error.get_ref().and_then(|error| error.downcast_ref()).unwrap();
                    assert!(matches!(failure, TlsFailure::Protocol(_)), "{failure}");
                }
            });
        }
    }

    /// They are a part of what every HTTP connection takes.
    #[test]
    fn handshakes_and_farewells_take_no_buffer_of_their_own_in_a_future() {
        run(async {
            let mut socket = HttpSocket::new(pair().1, None, Vec::new()).unwrap();
            assert!(size_of_val(&socket.shake_hands(b"")) < 1024);
            assert!(size_of_val(&socket.part(b"")) < 1024);
        });
    }
}
