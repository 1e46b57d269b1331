//! What a service manager (systemd) gives this process, and what it is told: sockets that it listens on for us, that we are
//! ready, reload or stop, and that we are alive. Without one, all of it does nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use sd_notify::NotifyState;
use socket2::{Domain, SockRef, Type};

use super::Config;
use crate::{EngineBuilder, EngineHandle, Handler, Security};

/// What a socket is for by its name (`FileDescriptorName=`): whether only for HTTP, and whether it speaks TLS, where the name
/// says so. Others speak it if there are certificates.
const NAMES: [(&str, bool, Security); 4] = [
    ("http", true, Security::Plain),
    ("https", true, Security::Tls),
    ("ws", false, Security::Plain),
    ("wss", false, Security::Tls),
];
/// How often the status is told, if no watchdog wants to hear from us more often.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// What ends may take beside the times that are set, before a stop counts as failed.
const STOP_MARGIN: Duration = Duration::from_secs(15);

/// The sockets that a service manager listens on for us.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For everything, and what they speak if their name says so.
    pub main: Vec<(TcpListener, Option<Security>)>,
    /// For HTTP only.
    pub http: Vec<(TcpListener, Security)>,
}

impl Sockets {
    /// Those this process was started with (`LISTEN_FDS`).
    ///
    /// # Errors
    /// What was passed is no listening TCP socket, or not passed as it should be.
    pub fn inherited() -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("LISTEN_FDS: {what}"));
        let mut sockets = Self::default();
        for (descriptor, name) in sd_notify::listen_fds_with_names().map_err(|error| invalid(&error.to_string()))? {
            // SAFETY: the service manager has opened it for us, and nobody closes it while it is looked at here; that it is
            // open has been checked by setting its close-on-exec flag. Our own copy is what is used afterwards.
            let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
            let own = borrowed.try_clone_to_owned()?;
            let listener = listener(own)
                .map_err(|error| invalid(&format!("the socket '{name}' is no listening TCP socket: {error}")))?;
            match NAMES.into_iter().find(|(known, _, _)| *known == name) {
                Some((_, true, security)) => sockets.http.push((listener, security)),
                Some((_, false, security)) => sockets.main.push((listener, Some(security))),
                None => sockets.main.push((listener, None)),
            }
        }
        Ok(sockets)
    }

    /// Has the engine use them instead of the addresses in the configuration.
    ///
    /// # Errors
    /// One of them would expose what the configuration does not want to be; a sentence.
    pub fn give_to<H: Handler>(self, builder: EngineBuilder<H>, config: &Config) -> Result<EngineBuilder<H>, String> {
        config.check_exposure(&addresses(self.main.iter().map(|(socket, _)| socket))?)?;
        let said = self.main.iter().filter_map(|(_, said)| *said).chain(self.http.iter().map(|(_, said)| *said));
        if !config.tls.is_on() && said.into_iter().any(|said| said == Security::Tls) {
            return Err(
                "a socket of the service manager is called 'wss' or 'https', but there is no certificate to show: set \
                        tls_cert and tls_key"
                    .into(),
            );
        }
        let exposed = addresses(self.http.iter().map(|(socket, _)| socket))?
            .into_iter()
            .find(|address| !address.ip().to_canonical().is_loopback());
        if let (Some(address), None, false) = (exposed, &config.auth.api_token, config.open) {
            return Err(format!(
                "the socket for HTTP of the service manager is {address}: anyone who can reach it could do everything; \
                 set api_token_file, or say 'open' if that is wanted"
            ));
        }
        let builder = if self.main.is_empty() { builder } else { builder.no_listen() };
        let builder = if self.http.is_empty() { builder } else { builder.no_http_listen() };
        let unsaid = config.tls.security();
        let builder = self
            .main
            .into_iter()
            .fold(builder, |builder, (socket, said)| builder.listener(socket, true, said.unwrap_or(unsaid)));
        Ok(self
            .http
            .into_iter()
            .fold(builder, |builder, (socket, security)| builder.http_listener(socket, true, security)))
    }
}

fn listener(descriptor: OwnedFd) -> io::Result<TcpListener> {
    let socket = SockRef::from(&descriptor);
    let is_tcp = matches!(socket.domain()?, Domain::IPV4 | Domain::IPV6) && socket.r#type()? == Type::STREAM;
    if !is_tcp || !socket.is_listener()? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(descriptor.into())
}

fn addresses<'a>(listeners: impl Iterator<Item = &'a TcpListener>) -> Result<Vec<SocketAddr>, String> {
    let addresses: io::Result<_> = listeners.map(TcpListener::local_addr).collect();
    addresses.map_err(|error| error.to_string())
}

/// The engine serves: says so, and from here on regularly how it is.
pub fn started(engine: &EngineHandle) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(engine))]);
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // So often that one lost or late beat, or two, are no reason to be killed.
    let interval = watchdog.map_or(STATUS_INTERVAL, |limit| limit / 4).clamp(Duration::from_millis(1), STATUS_INTERVAL);
    let own = engine.clone();
    engine.spawn(async move {
        let mut pulse = Pulse::new(own.clone());
        loop {
            tokio::time::sleep(interval).await;
            let status = status(&own);
            match pulse.stuck() {
                None if watchdog.is_some() => tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]),
                None => tell(&[NotifyState::Status(&status)]),
                Some(shard) => tracing::error!(shard, "the shard does not turn: nothing is told to the watchdog"),
            }
        }
    });
}

/// The configuration is being read again.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no clock"),
    }
}

/// The configuration has been read again, or not.
pub fn reloaded(engine: &EngineHandle) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(engine))]);
}

/// The shutdown begins: it may take as long as it is set to.
pub fn stopping(engine: &EngineHandle) {
    let settings = engine.settings();
    let times = [settings.shutdown_grace, settings.shutdown_spread, settings.shutdown_timeout, STOP_MARGIN];
    let longest: Duration = times.iter().sum();
    let microseconds = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
    let status = format!("ending, {} connections", engine.connection_count());
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(microseconds), NotifyState::Status(&status)]);
}

fn status(engine: &EngineHandle) -> String {
    let state = if engine.is_ready() { "serving" } else { "ending" };
    format!("{state}, {} connections, {} topics", engine.connection_count(), engine.topic_count())
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager");
    }
}

/// Finds shards that do not turn any more.
#[derive(Debug)]
pub struct Pulse {
    engine: EngineHandle,
    turns: Vec<u64>,
}

impl Pulse {
    /// Wakes all shards: each has turned once more when it is asked for the first time.
    #[must_use]
    pub fn new(engine: EngineHandle) -> Self {
        let turns = engine.turns();
        Self { engine, turns }
    }

    /// A shard that has not turned since this was last asked.
    pub fn stuck(&mut self) -> Option<usize> {
        let before = std::mem::replace(&mut self.turns, self.engine.turns());
        before.iter().zip(&self.turns).position(|(before, now)| before == now)
    }
}
