//! What all shards, the control plane and embedders share: topics, inboxes, settings, clock, counters.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::Receiver;
use mio::{Poll, Waker};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use tokio::sync::{mpsc, watch};

use super::WAKER;
use super::admission::Gate;
use super::ending::{Ending, Phase};
use super::inbox::{AllInboxes, Inbox, Item};
use super::mirror::Mirror;
use crate::close::RefusalCause;
use crate::config::Settings;
use crate::events::Events;
use crate::id::ConnectionId;
use crate::metrics::{Count, ShardMetrics, TlsHandshakes};
use crate::net::addresses::Addresses;
use crate::net::handover::{self, Handover, HandoverSender};
use crate::net::takeover::Holding;
use crate::net::tls::{ClientCertificate, Tls, TlsSession};
use crate::pubsub::encoding::Encodings;
use crate::pubsub::form::{Deflater, Frames};
use crate::pubsub::name::NameRules;
use crate::pubsub::publication::{Now, Publication};
use crate::pubsub::settings::TopicRules;
use crate::pubsub::topic::{NotSequenced, Topic};
use crate::pubsub::topics::{TopicError, Topics};
use crate::pubsub::{PublishError, Published};
use crate::ws::Message;

/// What the engine's own clock says when it starts, in nanoseconds: 100 days.
const CLOCK_BEGINS: u64 = 100 * 86_400 * 1_000_000_000;

/// The engine's clocks.
#[derive(Debug)]
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock {
    /// How long the engine has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }

    /// Nanoseconds on the engine's own clock. It does not begin at 0, so that what was published before the engine started,
    /// by the process it has succeeded, has its moment on it, too.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        CLOCK_BEGINS + self.start.elapsed().as_nanos() as u64
    }

    /// The moment on the engine's own clock that was so many milliseconds after 1970.
    #[must_use]
    pub fn at_unix_ms(&self, unix_ms: u64) -> Now {
        let now = self.now();
        let ago = now.unix_ms.saturating_sub(unix_ms).saturating_mul(1_000_000);
        Now { nanos: now.nanos.saturating_sub(ago), unix_ms }
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { nanos: self.nanos(), unix_ms: unix.as_millis() as u64 }
    }
}

/// Makes a collector of metrics for one look at them.
pub type MakeCollector = Box<dyn Fn() -> Box<dyn Collector> + Send + Sync>;

/// What all share.
pub struct Shared {
    pub clock: Clock,
    /// Changed as a whole, by [`Shared::reconfigure`] only.
    settings: ArcSwap<Settings>,
    /// What newcomers are shown who speak TLS.
    pub tls: ArcSwapOption<Tls>,
    pub encodings: Encodings,
    /// Who watches, if anybody.
    pub events: Events,
    pub topics: Topics,
    pub inboxes: AllInboxes,
    pub metrics: Vec<ShardMetrics>,
    /// Publications refused because an inbox was full; many threads add.
    pub overloaded: AtomicU64,
    /// TCP connections on all shards and the control plane, those who wait at the gate included.
    pub connections: AtomicUsize,
    /// Bytes held by all connections of messages half received or not yet handled.
    pub inbound_bytes: AtomicUsize,
    /// Bytes that wait for all connections whose sockets do not take them. Shards tell what has changed once a turn.
    pub pending_bytes: AtomicUsize,
    /// Those of them whose client is known, by its address.
    pub addresses: Addresses,
    /// Who is let in.
    pub gate: Gate,
    /// HTTP connections on the control plane now, and ever refused for their number.
    pub http_connections: AtomicUsize,
    /// Refusals counted by the control plane's upgrades.
    pub control: ControlCounts,
    /// Whether another process takes the place of this one.
    pub succession: SuccessionState,
    /// How far the end has come.
    pub ending: Ending,
    /// A shard has panicked.
    pub failed: AtomicBool,
    /// Do not wait for anything any more.
    pub aborting: AtomicBool,
    /// Where the listeners really listen.
    pub local_addrs: Vec<SocketAddr>,
    /// Where listeners for HTTP only really listen.
    pub http_addrs: Vec<SocketAddr>,
    pub tls_addrs: Vec<SocketAddr>,
    /// The listeners of each address.
    pub holdings: Vec<Arc<Holding>>,
    /// The control plane's runtime, once it runs.
    pub runtime: OnceLock<tokio::runtime::Handle>,
    /// Metrics of the program.
    pub collectors: Mutex<Vec<MakeCollector>>,
    /// How sockets that speak plain HTTP reach the control plane.
    pub handover: HandoverSender,
}

/// How far another process has come in taking the place of this one.
#[derive(Debug, Default)]
pub struct SuccessionState {
    /// It is being given the topics, or has been.
    pub giving: AtomicBool,
    /// It has them: only it gives offsets now.
    pub given: AtomicBool,
    /// It is being told that it has them, or has been: it is the one to be asked for them.
    pub away: watch::Sender<bool>,
    /// At how many addresses this process can be asked.
    pub waiting: AtomicUsize,
}

/// Counted by the control thread.
#[derive(Debug, Default)]
pub struct ControlCounts {
    /// HTTP requests answered.
    pub requests: Count,
    /// Upgrades accepted on connections that had carried HTTP before.
    pub upgrades: Count,
    /// Upgrades refused there.
    pub refused: Count,
    /// Panics of the handler while deciding them, and of routes.
    pub handler_panics: Count,
    /// TLS handshakes completed there.
    pub tls_handshakes: TlsHandshakes,
    /// Heads and upgrades refused there for these causes; other upgrades only in `refused`.
    pub refusals: [Count; RefusalCause::ALL.len()],
}

/// What an engine is given besides its settings.
#[derive(Default)]
pub struct Parts {
    pub rules: TopicRules,
    pub encodings: Encodings,
    pub events: Events,
    pub tls: Option<Tls>,
}

/// Where the engine listens.
#[derive(Debug, Default)]
pub struct Listening {
    /// For everything.
    pub addrs: Vec<SocketAddr>,
    /// For HTTP only.
    pub http_addrs: Vec<SocketAddr>,
    /// Those of both that speak TLS.
    pub tls_addrs: Vec<SocketAddr>,
    /// The listeners of each of them.
    pub holdings: Vec<Arc<Holding>>,
}

/// What a shard begins with.
pub struct Seat {
    pub poll: Poll,
    pub inbox: Receiver<Item>,
}

impl Shared {
    /// What the client of a TLS session has shown of itself, if that still counts.
    pub fn certificate(&self, session: &TlsSession) -> Option<ClientCertificate> {
        ClientCertificate::of(session).filter(|certificate| self.trusts(certificate))
    }

    /// Whether what a client has shown still counts.
    pub fn trusts(&self, certificate: &ClientCertificate) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        certificate.holds(self.tls.load().as_deref(), i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
    }

    /// Makes what so many shards share, a seat for each of them, and the control plane's end of the handover.
    pub fn new(
        settings: Settings,
        Parts { rules, encodings, events, tls }: Parts,
        shards: usize,
        listening: Listening,
    ) -> io::Result<(Arc<Self>, Vec<Seat>, mpsc::Receiver<Handover>)> {
        let (mut inboxes, mut seats) = (Vec::new(), Vec::new());
        for _ in 0..shards {
            let poll = Poll::new()?;
            let (inbox, receiver) = Inbox::new(&settings, Waker::new(poll.registry(), WAKER)?);
            inboxes.push(inbox);
            seats.push(Seat { poll, inbox: receiver });
        }
        let (handover, handovers) = handover::channel(settings.http_connections_max);
        let idle_nanos = settings.topic_idle.as_nanos() as u64;
        // Seeded by the system at random: epochs of two runs are not taken for one another.
        let seed = RandomState::new().hash_one(std::process::id());
        let shared = Self {
            clock: Clock::default(),
            topics: Topics::new(rules, shards, settings.topics_max, idle_nanos, seed),
            inboxes: AllInboxes(inboxes, Mirror::default()),
            metrics: (0..shards).map(|_| ShardMetrics::default()).collect(),
            overloaded: AtomicU64::default(),
            connections: AtomicUsize::default(),
            inbound_bytes: AtomicUsize::default(),
            pending_bytes: AtomicUsize::default(),
            addresses: Addresses::new(settings.ipv6_prefix_bits),
            gate: Gate::new(shards),
            http_connections: AtomicUsize::default(),
            control: ControlCounts::default(),
            succession: SuccessionState::default(),
            ending: Ending::default(),
            failed: AtomicBool::default(),
            aborting: AtomicBool::default(),
            local_addrs: listening.addrs,
            http_addrs: listening.http_addrs,
            tls_addrs: listening.tls_addrs,
            holdings: listening.holdings,
            runtime: OnceLock::new(),
            collectors: Mutex::default(),
            settings: ArcSwap::from_pointee(settings),
            tls: ArcSwapOption::from(tls.map(Arc::new)),
            encodings,
            events,
            handover,
        };
        shared.bound_topics(&shared.settings());
        Ok((Arc::new(shared), seats, handovers))
    }

    /// Publishes from any thread.
    pub fn publish(
        &self,
        topic: &str,
        message: Message<'_>,
        key: Option<&str>,
        except: Option<ConnectionId>,
    ) -> Result<Published, PublishError> {
        let (limit, deflate_min_bytes) = {
            let settings = self.settings.load();
            (settings.message_bytes, settings.deflate_min_bytes)
        };
        if limit > 0 && message.len() > limit {
            return Err(PublishError::TooBig { limit });
        }
        if self.ending.has_reached(Phase::Silent) {
            return Err(PublishError::ShuttingDown);
        }
        let mut topic = self.topic(topic)?;
        let publication = Publication::new(topic.name().clone(), message, &self.encodings, deflate_min_bytes)
            .with_key(key)
            .without(except);
        let mut publication = Arc::new(publication);
        loop {
            match topic.publish(publication, self.clock.now(), &self.inboxes) {
                Ok(published) => return Ok(published),
                Err(NotSequenced::Overloaded) => {
                    self.overloaded.fetch_add(1, Ordering::Relaxed);
                    return Err(PublishError::Overloaded);
                }
                Err(NotSequenced::Surrendered) => return Err(PublishError::ShuttingDown),
                // Removed as unused between looking it up and here: it begins another life.
                Err(NotSequenced::Gone(back)) => {
                    publication = back;
                    topic = self.topic(topic.name())?;
                }
            }
        }
    }

    /// What makes frames on a shard.
    pub fn frames<'a>(&'a self, shard: u16, deflater: &'a mut Deflater) -> Frames<'a> {
        Frames { encodings: &self.encodings, deflater, metrics: &self.metrics[usize::from(shard)] }
    }

    fn topic(&self, name: &str) -> Result<Arc<Topic>, PublishError> {
        self.topics.get_or_make(name, self.clock.now(), &self.inboxes).map_err(|error| match error {
            TopicError::Name(error) => PublishError::Name(error),
            TopicError::TooMany { limit } => PublishError::TooManyTopics { limit },
        })
    }

    /// The settings as they are now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The settings as they are now, if they are not those given.
    #[must_use]
    pub fn newer_settings(&self, than: &Arc<Settings>) -> Option<Arc<Settings>> {
        let now = self.settings.load();
        (!Arc::ptr_eq(&now, than)).then(|| Arc::clone(&now))
    }

    /// Puts other settings in the place of the present ones; shards take them with their next turn.
    pub fn reconfigure(&self, settings: Settings) {
        self.bound_topics(&settings);
        self.settings.store(Arc::new(settings));
        for inbox in &self.inboxes.0 {
            inbox.wake();
        }
    }

    /// Tells the topics what concerns them.
    fn bound_topics(&self, settings: &Settings) {
        let Settings { topic_name_bytes: bytes, topic_characters: characters, .. } = *settings;
        self.topics.set_name_rules(NameRules { bytes, characters });
        self.topics.histories.set_limit(settings.history_total_bytes);
    }

    /// A TCP connection has ended; its client's address is given if it was counted there.
    pub fn release_connection(&self, counted: Option<IpAddr>) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(client) = counted {
            self.addresses.leave(client);
        }
    }

    /// Whether nobody is let in any more.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.ending.has_reached(Phase::Stopping)
    }

    /// Whether upgrades come too late. If another process serves the same address they do not: whoever was still let in here
    /// becomes a connection, and is told to come back with the others, instead of being refused.
    #[must_use]
    pub fn turns_away(&self) -> bool {
        self.is_stopping() && !self.holdings.iter().any(|holding| holding.is_left_to_others())
    }

    /// Whether new connections are welcome.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ending.has_reached(Phase::Draining)
    }
}
