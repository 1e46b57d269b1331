//! Listeners: one per shard and address, all on the same port (SO_REUSEPORT), so that the kernel spreads connections and no
//! shard hands sockets to another.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use parking_lot::{RwLock, RwLockWriteGuard};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::takeover::Holding;
use super::tls::Security;
use crate::config::Settings;

/// The kernel caps it at `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Opens a listener. What is set here is inherited by every connection it accepts.
///
/// # Errors
/// What the kernel says.
pub fn open(addr: SocketAddr, settings: &Settings) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Each family has a listener of its own, so that `[::]` and `0.0.0.0` can both be asked for.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&addr.into())?;
    // Before it listens, so that nobody gets in without.
    prepare(SockRef::from(&socket), settings)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Makes a listener that others have opened as if we had.
///
/// # Errors
/// It is none, or what the kernel says.
pub fn adopt(listener: &std::net::TcpListener, settings: &Settings) -> io::Result<()> {
    let socket = SockRef::from(listener);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
    }
    prepare(socket, settings)
}

fn prepare(socket: SockRef<'_>, settings: &Settings) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if settings.unsent_bytes > 0 {
        // Otherwise a stalled reader hides megabytes in the kernel, and the bounds of the queues mean nothing.
        socket.set_tcp_notsent_lowat(settings.unsent_bytes)?;
    }
    if !settings.user_timeout.is_zero() {
        socket.set_tcp_user_timeout(Some(settings.user_timeout))?;
    }
    Ok(())
}

/// Whether somebody else listens there: SO_REUSEPORT alone would let two servers of one user share a port unnoticed.
///
/// # Errors
/// `AddrInUse`, or what the kernel says.
pub fn probe(addr: SocketAddr) -> io::Result<()> {
    if addr.port() == 0 {
        return Ok(());
    }
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1)
}

/// Held alone by whoever gives up his reserved descriptor, until he has one again: otherwise another thread would accept with
/// it, and nothing be left to refuse with. Descriptors are the process's, so is this.
static DESCRIPTORS: RwLock<()> = RwLock::new(());

/// Nobody else accepts meanwhile; kept until [`Acceptor::lay_aside`] has been called.
pub type Alone = RwLockWriteGuard<'static, ()>;

/// Accepts connections of one listener. Out of file descriptors it gives up a reserved one to accept and refuse, so that an
/// edge-triggered listener never falls silent.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    reserve: Option<File>,
    holding: Arc<Holding>,
    security: Security,
}

/// The outcome of an attempt to accept.
#[derive(Debug)]
pub enum Accepted {
    /// A connection.
    Connection(TcpStream, SocketAddr),
    /// A connection for which there is no file descriptor; it is to be told so and dropped, and then one is to be laid aside
    /// again.
    NoDescriptor(TcpStream, Alone),
    /// Nobody waits.
    Nobody,
    /// This one failed; there may be others.
    Failed,
    /// No file descriptor, and none in reserve, or no memory: try again later.
    Exhausted,
}

impl Acceptor {
    /// Wraps a listener and lays a descriptor aside.
    #[must_use]
    pub fn new(listener: std::net::TcpListener, holding: Arc<Holding>, security: Security) -> Self {
        let reserve = File::open("/dev/null").ok();
        Self { listener: TcpListener::from_std(listener), reserve, holding, security }
    }

    /// Whether somebody else serves those who wait to be accepted: it can be closed without accepting them.
    #[must_use]
    pub fn is_left_to_others(&self) -> bool {
        self.holding.is_left_to_others()
    }

    /// Whether those it accepts speak TLS.
    #[must_use]
    pub fn security(&self) -> Security {
        self.security
    }

    /// The listener, to be registered.
    pub fn listener(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// Lays a descriptor aside again, if none is.
    pub fn lay_aside(&mut self) {
        if self.reserve.is_none() {
            self.reserve = File::open("/dev/null").ok();
        }
    }

    /// Accepts one connection.
    pub fn accept(&mut self) -> Accepted {
        let accepted = {
            let _together = DESCRIPTORS.read();
            self.lay_aside();
            self.listener.accept()
        };
        match accepted {
            Ok((stream, peer)) => Accepted::Connection(stream, peer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accepted::Nobody,
            Err(error) => match error.raw_os_error() {
                Some(libc::EMFILE | libc::ENFILE) => self.accept_to_refuse(),
                // The kernel is out of memory: at once it will not be better.
                Some(libc::ENOBUFS | libc::ENOMEM) => Accepted::Exhausted,
                _ => Accepted::Failed,
            },
        }
    }

    fn accept_to_refuse(&mut self) -> Accepted {
        let alone = DESCRIPTORS.write();
        if self.reserve.take().is_none() {
            return Accepted::Exhausted;
        }
        match self.listener.accept() {
            Ok((stream, _)) => Accepted::NoDescriptor(stream, alone),
            Err(error) => {
                self.lay_aside();
                // Else a part of the program that accepts nothing was faster.
                let is_nobody = error.kind() == io::ErrorKind::WouldBlock;
                if is_nobody { Accepted::Nobody } else { Accepted::Exhausted }
            }
        }
    }
}
