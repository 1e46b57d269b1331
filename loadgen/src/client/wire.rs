//! The bytes of a connection, plain or encrypted. Plain ones pay nothing for the others.
//!
//! Owner: a client, or a publisher by HTTP.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use crate::target::Tls;

use super::connect::connect;
use super::tls::TlsStream;

/// A connection, plain or encrypted, non-blocking and edge-triggered.
#[derive(Debug)]
pub struct Wire(Kind);

#[derive(Debug)]
enum Kind {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Wire {
    /// Begins to connect, registered for reading and writing under `token`.
    ///
    /// # Errors
    /// Of the socket calls: [`cause`](super::cause) names them.
    pub fn connect(
        address: SocketAddr,
        tls: Option<&Tls>,
        bind: Option<IpAddr>,
        receive_buffer: Option<usize>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let mut socket = connect(address, bind, receive_buffer)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self(match tls {
            None => Kind::Plain(socket),
            Some(tls) => Kind::Tls(Box::new(TlsStream::new(socket, tls)?)),
        }))
    }

    /// Reads what is there. 0 is the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if nothing is there, or if the connection is still being made; others end it.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(socket) => socket.read(buffer),
            Kind::Tls(stream) => stream.read(buffer),
        }
    }

    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// As [`Self::read`].
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(socket) => socket.write(bytes),
            Kind::Tls(stream) => stream.write(bytes),
        }
    }

    /// Writes what is encrypted, but not yet taken by the socket.
    ///
    /// # Errors
    /// As [`Self::read`].
    #[inline]
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Plain(_) => Ok(()),
            Kind::Tls(stream) => stream.flush(),
        }
    }

    /// Bytes taken by [`Self::write`] that the socket has not taken.
    pub fn pending(&self) -> usize {
        match &self.0 {
            Kind::Plain(_) => 0,
            Kind::Tls(stream) => stream.pending(),
        }
    }

    /// Whether it is encrypted by now, if it is to be: until then nothing that is written is sent.
    pub fn is_agreed(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => true,
            Kind::Tls(stream) => stream.is_agreed(),
        }
    }

    /// Whether it goes on with an earlier TLS session.
    pub(super) fn is_resumed(&self) -> bool {
        match &self.0 {
            Kind::Plain(_) => false,
            Kind::Tls(stream) => stream.is_resumed(),
        }
    }

    /// Whether a read that does not fill its buffer has emptied the socket.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.0, Kind::Plain(_))
    }

    /// Takes it off the poll and drops it with a reset (`SO_LINGER` 0), as a client that vanishes.
    pub fn drop_hard(mut self, registry: &Registry) {
        let socket = self.socket();
        // Both fail only for a socket that is gone already, which is what is wanted.
        let _ = registry.deregister(socket);
        let _ = SockRef::from(&*socket).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Ends both directions at once; what was sent is still delivered.
    pub(super) fn shutdown(&mut self) {
        // It fails only if there is no connection (yet), and then there is nothing to end.
        let _ = self.socket().shutdown(std::net::Shutdown::Both);
    }

    /// Lets the kernel put acknowledgements off (TCP_QUICKACK off): who only receives would else send one for each message
    /// that it reads, which is most of what receiving it costs. What is received is acknowledged within 40 ms all the same.
    /// A socket that does not take the option is none the worse for it.
    pub(super) fn delay_acknowledgements(&mut self) {
        let _ = SockRef::from(&*self.socket()).set_tcp_quickack(false);
    }

    fn socket(&mut self) -> &mut TcpStream {
        match &mut self.0 {
            Kind::Plain(socket) => socket,
            Kind::Tls(stream) => &mut stream.socket,
        }
    }
}
