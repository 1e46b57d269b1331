//! How a process gets the listeners of another one that it replaces: the very sockets, over a Unix socket, so that nobody who
//! connects at any moment notices anything.
//!
//! Closing a listener resets whoever waits in its queue, and whoever has not completed its handshake. Steering new
//! connections away from it first (a program for the SO_REUSEPORT group) does not help those, and goes wrong as soon as a
//! second listener is closed, because the kernel then puts the group's last one in the place of the first. A socket that two
//! processes hold has one queue, and loses nobody until the last of them closes it.
//!
//! The Unix socket is in the abstract namespace, so it is found by whoever shares the network with us, which is who could
//! share the address with us; its name is made of the address. Only processes of the same user are served, which the kernel
//! would also let listen beside us.
//!
//! The language, all of it: the successor says [`HELLO`] and is given listeners, some with each byte, [`MORE`] or [`LAST`].
//! When it serves it says [`SERVING`]; we give up the name, which it needs for its own successor, and answer the same. Then
//! both keep the connection for as long as they hold the listeners, and each knows by its end that the other does not any
//! more.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net as unix;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

/// What a successor says first; another version of this language would say something else.
const HELLO: &[u8; 19] = b"fanfare takeover 1\n";
const MORE: u8 = b'+';
const LAST: u8 = b'.';
const SERVING: u8 = b'!';
/// Listeners passed at once; the kernel takes 253.
const AT_ONCE: usize = 128;
/// The most listeners of one address.
const LISTENERS_MAX: usize = 4096;
/// How long the other one may take for a step of it.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a successor may take to start after it has been given the listeners.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How often it is tried to get the name of an address, while another process has it.
const RETRY: Duration = Duration::from_millis(200);

/// The listeners of one address, and who holds them beside us.
#[derive(Debug)]
pub struct Holding {
    addr: SocketAddr,
    /// Copies, to be passed on; none any more once we have stopped.
    listeners: Mutex<Vec<TcpListener>>,
    /// Others who will go on accepting from them.
    keepers: AtomicUsize,
    /// Whether there were any when we stopped.
    left_to_others: OnceLock<bool>,
}

/// Somebody who will go on accepting when we do not.
struct Keeper<'a>(&'a Holding);

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        self.0.keepers.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Holding {
    /// Listeners of one address; `inherited` if whoever has started this process holds them, too.
    #[must_use]
    pub fn new(addr: SocketAddr, listeners: Vec<TcpListener>, inherited: bool) -> Arc<Self> {
        Arc::new(Self {
            addr,
            listeners: Mutex::new(listeners),
            keepers: AtomicUsize::new(usize::from(inherited)),
            left_to_others: OnceLock::new(),
        })
    }

    /// Nothing is passed on from here on, and we are about to close ours.
    pub fn let_go(&self) {
        let others = self.keepers.load(Ordering::SeqCst) > 0;
        let _ = self.left_to_others.set(others);
        self.listeners.lock().clear();
        if others {
            tracing::info!(address = %self.addr, "others go on accepting here");
        }
    }

    /// Whether somebody else serves those who wait to be accepted. Known from [`let_go`](Self::let_go) on; before it, no.
    #[must_use]
    pub fn is_left_to_others(&self) -> bool {
        self.left_to_others.get().is_some_and(|others| *others)
    }

    /// Whether a connection to this address comes through these listeners.
    #[must_use]
    pub fn serves(&self, local: SocketAddr) -> bool {
        let (own, local_ip) = (self.addr.ip().to_canonical(), local.ip().to_canonical());
        self.addr.port() == local.port() && (own == local_ip || own.is_unspecified())
    }

    fn keep(&self) -> Keeper<'_> {
        self.keepers.fetch_add(1, Ordering::SeqCst);
        Keeper(self)
    }
}

/// What a successor has been given.
#[derive(Debug)]
pub struct Taken {
    /// At least one.
    pub listeners: Vec<TcpListener>,
    /// The connection to who had them.
    pub predecessor: Predecessor,
}

/// The connection to the process that is replaced.
#[derive(Debug)]
pub struct Predecessor(unix::UnixStream);

/// Asks for the listeners of an address; `None` if nobody offers them.
///
/// # Errors
/// Who offers them is not to be trusted, does not answer in time, or not as it should.
pub fn take(addr: SocketAddr) -> io::Result<Option<Taken>> {
    let mut stream = match unix::UnixStream::connect_addr(&name(addr)?) {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(error),
    };
    let owner = rustix::net::sockopt::socket_peercred(&stream)?;
    if owner.uid != rustix::process::geteuid() {
        let message = format!("the process {} of another user offers listeners", owner.pid.as_raw_nonzero());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(HELLO)?;
    let mut listeners = Vec::new();
    loop {
        let (step, descriptors) = receive(&stream)?;
        for descriptor in descriptors {
            listeners.push(check(descriptor, addr)?);
        }
        match step {
            Some(LAST) if !listeners.is_empty() => {
                return Ok(Some(Taken { listeners, predecessor: Predecessor(stream) }));
            }
            Some(MORE) if listeners.len() < LISTENERS_MAX => {}
            // It has begun to end.
            None | Some(LAST) => return Ok(None),
            Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks another language")),
        }
    }
}

/// One byte, `None` at the end, and the descriptors that came with it.
fn receive(stream: &unix::UnixStream) -> io::Result<(Option<u8>, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    Ok(((got.bytes > 0).then_some(byte[0]), descriptors))
}

/// What was passed must be what was asked for.
fn check(descriptor: OwnedFd, addr: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::from(descriptor);
    let is_listening = socket2::SockRef::from(&listener).is_listener().unwrap_or(false);
    if is_listening && listener.local_addr().is_ok_and(|own| own == addr) {
        return Ok(listener);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "what it passes is no listener of this address"))
}

/// Where listeners of an address are offered.
fn name(addr: SocketAddr) -> io::Result<unix::SocketAddr> {
    unix::SocketAddr::from_abstract_name(format!("fanfare/takeover/{addr}"))
}

/// Offers listeners to a successor for as long as this is polled; first lets the predecessor know that we serve now. Drops
/// `settled` when they are offered, or will not be soon.
pub async fn offer<S>(holding: &Holding, predecessor: Option<Predecessor>, settled: S) {
    let predecessor = match predecessor {
        Some(Predecessor(stream)) => confirm(holding.addr, stream).await,
        None => None,
    };
    let watch = async {
        if let Some(predecessor) = predecessor {
            let _keeper = holding.keep();
            ended(predecessor).await;
            tracing::debug!(address = %holding.addr, "the process that was replaced accepts no more");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = watch => {}
        () = offer_name(holding, settled) => {}
    }
}

/// Says that we serve, and waits until the name is free.
async fn confirm(addr: SocketAddr, stream: unix::UnixStream) -> Option<UnixStream> {
    let confirmed = async {
        stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(stream)?;
        stream.write_all(&[SERVING]).await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(stream)
    };
    match timeout(PATIENCE, confirmed).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            tracing::info!(address = %addr, "has taken over the listeners of the process that is replaced");
            Some(stream)
        }
        Err(error) => {
            // It has ended meanwhile, which is as good.
            tracing::debug!(address = %addr, %error, "the process that is replaced does not answer");
            None
        }
    }
}

/// Until the other process has gone, or does not hold the listeners any more.
async fn ended(mut stream: UnixStream) {
    let mut byte = [0];
    while stream.read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

async fn offer_name<S>(holding: &Holding, settled: S) {
    let mut settled = Some(settled);
    loop {
        let listener = bind(holding.addr, &mut settled).await;
        settled = None;
        let Some(listener) = listener else { return std::future::pending().await };
        let mut successor = serve(holding, &listener).await;
        let _keeper = holding.keep();
        // The successor offers them from now on: the name has to be free before it hears of it.
        drop(listener);
        let _ = successor.write_all(&[SERVING]).await;
        tracing::info!(address = %holding.addr, "another process has taken over the listeners; both accept until one ends");
        ended(successor).await;
        tracing::info!(address = %holding.addr, "the process that had taken over has ended");
    }
}

/// Gets the name, however long that takes; `None` if it cannot be had.
async fn bind<S>(addr: SocketAddr, settled: &mut Option<S>) -> Option<UnixListener> {
    let mut told = false;
    loop {
        let bound = name(addr).and_then(|name| unix::UnixListener::bind_addr(&name)).and_then(|listener| {
            listener.set_nonblocking(true)?;
            UnixListener::from_std(listener)
        });
        match bound {
            Ok(listener) => return Some(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                // Who replaces somebody finds the name free: this is somebody else.
                *settled = None;
                if !std::mem::replace(&mut told, true) {
                    tracing::debug!(address = %addr, "another process still offers its listeners here");
                }
                sleep(RETRY).await;
            }
            Err(error) => {
                tracing::warn!(address = %addr, %error, "no other process will be able to take over the listeners");
                return None;
            }
        }
    }
}

/// Serves whoever asks, until one of them serves in turn.
async fn serve(holding: &Holding, listener: &UnixListener) -> UnixStream {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // No descriptor, for example.
            sleep(RETRY).await;
            continue;
        };
        match pass(holding, &mut stream).await {
            Ok(()) => return stream,
            Err(error) => {
                tracing::warn!(address = %holding.addr, %error, "a process asked for the listeners and did not take over");
            }
        }
    }
}

async fn pass(holding: &Holding, stream: &mut UnixStream) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    if peer.uid() != rustix::process::geteuid().as_raw() {
        let message = format!("it is of user {}, not of ours", peer.uid());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let mut hello = [0; HELLO.len()];
    timeout(PATIENCE, stream.read_exact(&mut hello)).await??;
    if hello != *HELLO {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it speaks another language"));
    }
    let copies = holding.listeners.lock().iter().map(TcpListener::try_clone).collect::<io::Result<Vec<_>>>()?;
    timeout(PATIENCE, send_all(stream, &copies)).await??;
    drop(copies);
    let mut answer = [0];
    timeout(START_PATIENCE, stream.read_exact(&mut answer)).await??;
    Ok(())
}

async fn send_all(stream: &UnixStream, listeners: &[TcpListener]) -> io::Result<()> {
    let mut chunks = listeners.chunks(AT_ONCE).peekable();
    while let Some(chunk) = chunks.next() {
        let descriptors: Vec<BorrowedFd<'_>> = chunk.iter().map(AsFd::as_fd).collect();
        let step = [if chunks.peek().is_some() { MORE } else { LAST }];
        stream.async_io(Interest::WRITABLE, || send(stream, &step, &descriptors)).await?;
    }
    Ok(())
}

fn send(stream: &UnixStream, step: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
    debug_assert!(fits, "there is room for AT_ONCE");
    sendmsg(stream, &[IoSlice::new(step)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
