//! The engine: its threads, how it is built, and how it ends. [`handle`] is what everybody else does with it, [`control`] the
//! thread that serves HTTP, [`exposition`] its metrics as text.

mod control;
mod exposition;
mod handle;

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use tokio::sync::oneshot;

pub use self::control::Arrival;
pub use self::handle::{EngineError, EngineHandle, HistoryPage, Reply, TopicInfo};
use crate::config::Settings;
use crate::handler::Handler;
use crate::net::{descriptors, listener};
use crate::pubsub::encoding::{Encoding, Encodings};
use crate::pubsub::settings::TopicRules;
use crate::shard::Shard;
use crate::shard::shared::Shared;

type MakeRouter = Box<dyn FnOnce(EngineHandle) -> Router + Send>;

/// The most shards; a connection's name has 16 bits for its shard, and a publication visits each of them.
const SHARDS_MAX: usize = 1024;
/// How often topics are looked at for being unused, at most.
const SWEEP_MAX: Duration = Duration::from_secs(5);

/// What an engine shall be. Made by [`Engine::builder`].
#[must_use]
pub struct EngineBuilder<H: Handler> {
    handler: H,
    listen: Vec<SocketAddr>,
    shards: Option<usize>,
    pin: bool,
    settings: Settings,
    topics: TopicRules,
    encodings: Encodings,
    http: Option<MakeRouter>,
}

impl<H: Handler> EngineBuilder<H> {
    /// Listens on an address, too. Port 0 takes a free port. Without any address the engine serves only what is handed to it.
    pub fn listen(mut self, addr: SocketAddr) -> Self {
        self.listen.push(addr);
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
        descriptors::make_room(self.settings.connections_max);
        let (addrs, listeners) = open_listeners(&self.listen, shards, &self.settings)?;
        let (shared, seats, handovers) = Shared::new(self.settings, self.topics, self.encodings, shards, addrs)?;
        let handle = EngineHandle::new(shared);
        let handler = Arc::new(self.handler);
        let sweep = handle.shared().settings().topic_idle.div_f32(10.0).clamp(Duration::from_millis(20), SWEEP_MAX);
        let (stop_control, stopped) = oneshot::channel();
        let control = control::Control::new(handle.clone(), handler.clone(), self.http, handovers, sweep);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let _ = handle.shared().runtime.set(runtime.handle().clone());
        let control =
            thread::Builder::new().name("fanfare-control".into()).spawn(move || control.run(&runtime, stopped))?;
        // From here on an error drops the engine, and with it what has been started.
        let mut engine = Engine { handle: handle.clone(), threads: Vec::new(), control: Some((control, stop_control)) };
        let cores = if self.pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
        for (index, (seat, acceptors)) in seats.into_iter().zip(listeners).enumerate() {
            let shard = Shard::new(index as u16, handle.clone(), seat, handler.clone(), acceptors)?;
            let core = (!cores.is_empty()).then(|| cores[index % cores.len()]);
            engine.threads.push(start_shard(index, shard, core)?);
        }
        Ok(engine)
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

/// A listener of its own for every shard and address, all shards of an address on the same port.
#[allow(clippy::type_complexity)]
fn open_listeners(
    listen: &[SocketAddr],
    shards: usize,
    settings: &Settings,
) -> io::Result<(Vec<SocketAddr>, Vec<Vec<listener::Acceptor>>)> {
    let named = |addr: SocketAddr| {
        move |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"))
    };
    let mut acceptors: Vec<Vec<listener::Acceptor>> = (0..shards).map(|_| Vec::new()).collect();
    let mut addrs = Vec::new();
    for addr in listen {
        listener::probe(*addr).map_err(named(*addr))?;
        let mut bound = *addr;
        for own in &mut acceptors {
            let listener = listener::open(bound, settings).map_err(named(bound))?;
            bound = listener.local_addr()?;
            own.push(listener::Acceptor::new(listener));
        }
        addrs.push(bound);
    }
    Ok((addrs, acceptors))
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
            listen: Vec::new(),
            shards: None,
            pin: false,
            settings: Settings::default(),
            topics: TopicRules::default(),
            encodings: Encodings::default(),
            http: None,
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

    /// Ends in order: accepts and serves what waits to be accepted, closes every connection (1001) behind what waits for it,
    /// and returns when all have ended, after `shutdown_timeout` at the latest.
    pub fn shutdown(mut self) {
        self.handle.begin_shutdown();
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A shard that panicked has said so on stderr.
            let _ = thread.join();
        }
        if let Some((thread, stop)) = self.control.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.handle.shared().aborting.store(true, Ordering::Release);
        self.handle.begin_shutdown();
        self.join();
    }
}
