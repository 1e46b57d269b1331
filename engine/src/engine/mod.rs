//! The engine: its threads, how it is built, and how it ends. [`handle`] is what everybody else does with it,
//! [`connections`] what concerns its connections, [`control`] the thread that serves HTTP, [`exposition`] its metrics as text,
//! [`stats`] the same as values.

mod connections;
mod control;
mod exposition;
mod greeting;
mod handle;
mod listeners;
mod private;
mod shutdown;
mod stats;
mod succession;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use tokio::sync::oneshot;

pub use self::connections::{Gathered, Reach};
pub use self::control::Arrival;
pub use self::handle::{EngineError, EngineHandle, HistoryPage, Reply, TopicInfo};
use self::listeners::{Opened, Wanted};
pub use self::stats::{Latency, ShardStats, Stats};
use crate::config::Settings;
use crate::events::Events;
use crate::handler::Handler;
use crate::net::descriptors;
use crate::net::takeover::{self, Holding, Predecessor};
use crate::net::tls::{Security, Tls};
use crate::pubsub::encoding::{Encoding, Encodings};
use crate::pubsub::settings::TopicRules;
use crate::shard::Shard;
use crate::shard::ending::Phase;
use crate::shard::shared::{Parts, Shared};

type MakeRouter = Box<dyn FnOnce(EngineHandle) -> Router + Send>;

/// The most shards; a connection's name has 16 bits for its shard, and a publication visits each of them.
const SHARDS_MAX: usize = 1024;
/// How often topics are looked at for being unused, at most.
const SWEEP_MAX: Duration = Duration::from_secs(5);

/// What an engine shall be. Made by [`Engine::builder`].
#[must_use]
pub struct EngineBuilder<H: Handler> {
    handler: H,
    listen: Wanted,
    listen_http: Wanted,
    shards: Option<usize>,
    pin: bool,
    settings: Settings,
    topics: TopicRules,
    encodings: Encodings,
    http: Option<MakeRouter>,
    events: Events,
    tls: Option<Tls>,
}

impl<H: Handler> EngineBuilder<H> {
    /// Listens on an address, too. Port 0 takes a free port. Without any address the engine serves only what is handed to it.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen.addrs.push((addr, Security::Plain));
        self
    }

    /// The same for clients that speak TLS, WebSockets and HTTP alike: `wss://` and `https://`. Needs [`tls`](Self::tls).
    pub fn listen_tls(mut self, addr: SocketAddr) -> Self {
        self.listen.addrs.push((addr, Security::Tls));
        self
    }

    /// Listens on an address, too, for HTTP requests only: the same routes, see [`Arrival::private`]; an upgrade is refused
    /// (403). For what shall not be reached from where WebSockets come from. It is served until the engine has ended, also
    /// while others are not let in any more.
    pub fn http_listen(mut self, addr: SocketAddr) -> Self {
        self.listen_http.addrs.push((addr, Security::Plain));
        self
    }

    /// The same for clients that speak TLS.
    pub fn http_listen_tls(mut self, addr: SocketAddr) -> Self {
        self.listen_http.addrs.push((addr, Security::Tls));
        self
    }

    /// Accepts from a listener that was opened elsewhere, too. If there are several of one address (`SO_REUSEPORT`), they
    /// are divided among the shards; a single one is shared by all of them.
    ///
    /// `inherited` says that somebody else holds the same socket and will have it served when this engine has ended, as a
    /// service manager does: who waits in its queue then is left to whoever comes next, instead of being turned away.
    pub fn listener(mut self, listener: TcpListener, inherited: bool, security: Security) -> Self {
        self.listen.given.push((listener, inherited, security));
        self
    }

    /// The same for HTTP requests only, see [`http_listen`](Self::http_listen).
    pub fn http_listener(mut self, listener: TcpListener, inherited: bool, security: Security) -> Self {
        self.listen_http.given.push((listener, inherited, security));
        self
    }

    /// Forgets the addresses to listen on, but not listeners that were given: for a program that is given its listeners
    /// instead.
    pub fn no_listen(mut self) -> Self {
        self.listen.addrs.clear();
        self
    }

    /// The same for addresses of HTTP only.
    pub fn no_http_listen(mut self) -> Self {
        self.listen_http.addrs.clear();
        self
    }

    /// The certificates and keys that are shown on listeners that speak TLS; can be replaced while the engine runs, see
    /// [`EngineHandle::set_tls`].
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The number of shards, 1 to 1,024. Default: one for each core this process may use.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Pins each shard to a core. Default: no. Two engines that are pinned on one machine may get the same cores.
    pub fn pin(mut self, pin: bool) -> Self {
        self.pin = pin;
        self
    }

    /// Bounds and time limits.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Settings of topics by name or pattern.
    pub fn topics(mut self, rules: TopicRules) -> Self {
        self.topics = rules;
        self
    }

    /// Adds an encoding; the first is `EncodingId::custom(0)`.
    pub fn encoding(mut self, encoding: impl Encoding) -> Self {
        self.encodings.push(Arc::new(encoding));
        self
    }

    /// Serves HTTP routes on the same port: everything that is not a WebSocket upgrade. Without it the answer is 426.
    pub fn http(mut self, router: impl FnOnce(EngineHandle) -> Router + Send + 'static) -> Self {
        self.http = Some(Box::new(router));
        self
    }

    /// Has the sink called with everything that happens, for whoever develops a program and wants to watch; see
    /// [`events`](crate::events). It is called on the shards, and slows them down. Default: nobody watches.
    pub fn events(mut self, sink: impl Fn(&str, &serde_json::Value) + Send + Sync + 'static) -> Self {
        self.events = Events::new(Arc::new(sink));
        self
    }

    /// Starts the engine.
    ///
    /// # Errors
    /// An address cannot be listened on, a thread cannot be started, or the number of shards or a setting is out of range.
    pub fn start(self) -> io::Result<Engine> {
        let shards = self.shards.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        if !(1..=SHARDS_MAX).contains(&shards) {
            let message = format!("shards is {shards}: it must be 1 to {SHARDS_MAX}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let invalid = |message| io::Error::new(io::ErrorKind::InvalidInput, message);
        self.settings.check().map_err(invalid)?;
        if self.tls.is_none() && (self.listen.speaks_tls() || self.listen_http.speaks_tls()) {
            let message = "a listener that speaks TLS needs certificates: say which by `tls`";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        descriptors::make_room(self.settings.connections_max);
        let Opened { acceptors, http, offers, occupied, listening } =
            listeners::open(self.listen, self.listen_http, shards, &self.settings)?;
        let parts = Parts { rules: self.topics, encodings: self.encodings, events: self.events, tls: self.tls };
        let (shared, seats, handovers) = Shared::new(self.settings, parts, shards, listening)?;
        let handle = EngineHandle::new(shared);
        let handler = Arc::new(self.handler);
        let sweep = handle.shared().settings().topic_idle.div_f32(10.0).clamp(Duration::from_millis(20), SWEEP_MAX);
        let (stop_control, stopped) = oneshot::channel();
        let control = control::Control::new(handle.clone(), handler.clone(), self.http, handovers, http, sweep);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _ = handle.shared().runtime.set(runtime.handle().clone());
        let control = thread::Builder::new().name("fanfare-control".into()).spawn(move || {
            control.run(&runtime, stopped);
            // Not waiting for what blocks: a file on a file system that does not answer would keep the process.
            runtime.shutdown_background();
        })?;
        let addresses = handle.local_addrs().to_vec();
        let takeover = handle.settings().takeover;
        let link =
            if takeover { succession::successor::take_over(handle.shared(), &addresses, occupied)? } else { None };
        // From here on an error drops the engine, and with it what has been started.
        let mut engine = Engine { handle: handle.clone(), threads: Vec::new(), control: Some((control, stop_control)) };
        let cores = if self.pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        for (index, (seat, acceptors)) in seats.into_iter().zip(acceptors).enumerate() {
            let shard = Shard::new(index as u16, handle.clone(), seat, handler.clone(), acceptors)?;
            let core = (!cores.is_empty()).then(|| cores[index % cores.len()]);
            engine.threads.push(start_shard(index, shard, core)?);
        }
        settle(&handle, offers);
        if let Some(link) = link {
            link.settle(handle.shared())?;
        }
        succession::predecessor::wait(&handle);
        Ok(engine)
    }
}

/// Offers the listeners to other processes, and waits until those that are replaced have given up their place: whoever
/// replaces us next finds us.
fn settle(engine: &EngineHandle, offers: Vec<(Arc<Holding>, Option<Predecessor>)>) {
    let (settling, settled) = mpsc::channel::<Infallible>();
    for (holding, predecessor) in offers {
        engine.spawn(offer(engine.clone(), holding, predecessor, settling.clone()));
    }
    drop(settling);
    // Nobody sends: it ends when all have dropped theirs.
    let _ = settled.recv_timeout(takeover::PATIENCE);
}

/// Lets other processes take over the listeners of an address, until we stop accepting from them.
async fn offer<S>(engine: EngineHandle, holding: Arc<Holding>, predecessor: Option<Predecessor>, settled: S) {
    let mut news = engine.shared().ending.news();
    tokio::select! {
        () = takeover::offer(&holding, predecessor, settled) => {}
        _ = news.wait_for(|phase| *phase >= Phase::Stopping) => {}
    }
}

fn start_shard<H: Handler>(
    index: usize,
    shard: Shard<H>,
    core: Option<core_affinity::CoreId>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(format!("fanfare-shard-{index}")).spawn(move || {
        if let Some(core) = core
            && !core_affinity::set_for_current(core)
        {
            tracing::warn!(shard = index, core = core.id, "cannot pin the shard to its core");
        }
        let engine = shard.engine().clone();
        if catch_unwind(AssertUnwindSafe(|| shard.run())).is_err() {
            // Never by anything a peer or a handler does. Without one of its shards an engine is of no use: it ends.
            tracing::error!(shard = index, "the shard has failed: the engine ends");
            engine.shared().failed.store(true, Ordering::Release);
            engine.begin_shutdown();
        }
    })
}

/// A running engine. Dropping it ends it at once; [`shutdown`](Engine::shutdown) ends it in order.
pub struct Engine {
    handle: EngineHandle,
    threads: Vec<JoinHandle<()>>,
    control: Option<(JoinHandle<()>, oneshot::Sender<()>)>,
}

impl Engine {
    /// Describes an engine with this handler.
    pub fn builder<H: Handler>(handler: H) -> EngineBuilder<H> {
        EngineBuilder {
            handler,
            listen: Wanted::default(),
            listen_http: Wanted::default(),
            shards: None,
            pin: false,
            settings: Settings::default(),
            topics: TopicRules::default(),
            encodings: Encodings::default(),
            http: None,
            events: Events::default(),
            tls: None,
        }
    }

    /// What everybody else does with the engine.
    #[must_use]
    pub fn handle(&self) -> &EngineHandle {
        &self.handle
    }

    /// The addresses it really listens on, in the order they were given.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        self.handle.local_addrs()
    }

    /// The addresses for HTTP only that it really listens on, likewise.
    #[must_use]
    pub fn http_addrs(&self) -> &[SocketAddr] {
        self.handle.http_addrs()
    }

    /// Ends in order, and returns when all connections have ended:
    ///
    /// 1. For `shutdown_grace` it serves as before, and only is not ready any more.
    /// 2. It stops accepting. What waits to be accepted is left to who has taken over, see `takeover`, or else accepted and
    ///    answered; upgrades with 503.
    /// 3. It closes the connections over `shutdown_spread`, each behind what waits for it: with 1012 and the advice when to
    ///    come back (`shutdown_retry`), or 1001. What is published meanwhile reaches those still there.
    /// 4. Publishing is refused, whoever is left is closed, and given `shutdown_timeout` to answer.
    pub fn shutdown(mut self) {
        self.handle.begin_shutdown();
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A shard that panicked has said so on stderr.
            let _ = thread.join();
        }
        // Without shards nobody has to wait for anything.
        self.handle.shared().ending.hurry();
        if let Some((thread, stop)) = self.control.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        shutdown::abort(self.handle.shared());
        self.join();
    }
}
