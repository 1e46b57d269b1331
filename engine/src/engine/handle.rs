//! What any thread may do with a running engine.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::collector::Collector;
use tokio::sync::oneshot;

use crate::config::Settings;
use crate::handler::{Publish, Subscribe};
use crate::id::ConnectionId;
use crate::net::tls::Tls;
use crate::pubsub::tally::Deliveries;
use crate::pubsub::topic::Topic;
use crate::pubsub::{
    Epoch, Pattern, Position, Publication, PublishError, Published, SubscribeError, Subscribed, TopicRules,
    TopicSettings,
};
use crate::shard::inbox::{Command, Inbox, NotTaken};
use crate::shard::shared::Shared;
use crate::shard::write::data_frame;
use crate::ws::Message;

/// Topics given other settings before the control thread looks at something else.
const TOPICS_AT_ONCE: usize = 1000;

/// A running engine, as seen by any thread. Cheap to clone.
#[derive(Clone)]
pub struct EngineHandle(Arc<Shared>);

impl fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EngineHandle({} shards)", self.shards())
    }
}

/// Why something could not be asked of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineError {
    /// The inbox of its shard is full; try again soon.
    Overloaded,
    /// No shard has such a connection.
    NoSuchConnection,
    /// The engine is shutting down.
    ShuttingDown,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded => "the shard is overloaded: try again soon",
            Self::NoSuchConnection => "there is no such connection",
            Self::ShuttingDown => "the engine is shutting down",
        })
    }
}

impl std::error::Error for EngineError {}

/// An answer that a shard will give. Await it, or [`wait`](Reply::wait) for it; `None` if the shard was overloaded or ended.
#[derive(Debug)]
#[must_use = "nothing is known before the shard has answered"]
pub struct Reply<T>(Answer<T>);

#[derive(Debug)]
enum Answer<T> {
    /// The shard has been asked.
    Asked(oneshot::Receiver<T>),
    /// It need not be, or could not be.
    Known(Option<T>),
}

impl<T> Reply<T> {
    /// Blocks until the shard has answered. Not for a handler, whose shard could not answer meanwhile, nor for the HTTP
    /// routes, which await.
    pub fn wait(self) -> Option<T> {
        match self.0 {
            Answer::Asked(answer) => answer.blocking_recv().ok(),
            Answer::Known(answer) => answer,
        }
    }
}

impl<T: Send + 'static> IntoFuture for Reply<T> {
    type Output = Option<T>;
    type IntoFuture = Pin<Box<dyn Future<Output = Option<T>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0 {
                Answer::Asked(answer) => answer.await.ok(),
                Answer::Known(answer) => answer,
            }
        })
    }
}

/// A topic as seen from outside.
#[derive(Debug, Clone)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its present life.
    pub epoch: Epoch,
    /// The newest offset; 0 before the first publication.
    pub offset: u64,
    /// Subscribers on all shards.
    pub subscribers: u32,
    /// Publications kept.
    pub history_messages: usize,
    /// Bytes kept, frame headers included.
    pub history_bytes: usize,
    /// Publications a second: those of the last seconds count most, and after 5 s without one it has fallen to a third.
    pub publications_per_s: f64,
    /// Its settings.
    pub settings: TopicSettings,
    /// What became of all deliveries.
    pub deliveries: Deliveries,
}

/// A part of a topic's history.
#[derive(Debug, Clone)]
pub struct HistoryPage {
    /// The topic's present life.
    pub epoch: Epoch,
    /// The newest offset.
    pub offset: u64,
    /// Whether everything since the position asked for is still there; what follows `limit` is there, too.
    pub complete: bool,
    /// The publications, oldest first.
    pub publications: Vec<Arc<Publication>>,
}

impl EngineHandle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Publishes to all subscribers of a topic.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was published then.
    pub fn publish<'m>(&self, topic: &str, message: impl Into<Message<'m>>) -> Result<Published, PublishError> {
        self.publish_with(topic, message, Publish::default())
    }

    /// Publishes with a key. (`others` has no meaning here.)
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was published then.
    pub fn publish_with<'m>(
        &self,
        topic: &str,
        message: impl Into<Message<'m>>,
        publish: Publish<'_>,
    ) -> Result<Published, PublishError> {
        self.0.publish(topic, message.into(), publish.key, None)
    }

    fn command(&self, id: ConnectionId, command: Command) -> Result<(), EngineError> {
        let inbox = self.0.inboxes.0.get(usize::from(id.shard)).ok_or(EngineError::NoSuchConnection)?;
        if self.0.aborting.load(Ordering::Relaxed) {
            return Err(EngineError::ShuttingDown);
        }
        inbox.command(command).map_err(|not_taken| match not_taken {
            NotTaken::Full => EngineError::Overloaded,
            NotTaken::Ended => EngineError::ShuttingDown,
        })
    }

    /// Asks the connection's shard; `absent` is the answer if there is no such shard.
    pub(super) fn ask<T>(
        &self,
        id: ConnectionId,
        absent: T,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Reply<T> {
        let (reply, answer) = oneshot::channel();
        Reply(match self.command(id, command(reply)) {
            Ok(()) => Answer::Asked(answer),
            Err(EngineError::NoSuchConnection) => Answer::Known(Some(absent)),
            Err(EngineError::Overloaded | EngineError::ShuttingDown) => Answer::Known(None),
        })
    }

    /// Sends a message to one connection, behind what has been published before.
    ///
    /// # Errors
    /// The command could not be given; a connection that has ended meanwhile is no error.
    pub fn send<'m>(&self, id: ConnectionId, message: impl Into<Message<'m>>) -> Result<(), EngineError> {
        self.command(id, Command::Send { id, frame: data_frame(message.into()) })
    }

    /// Closes a connection behind all that waits for it. Answers whether it was there.
    pub fn close(&self, id: ConnectionId, code: u16, reason: &str) -> Reply<bool> {
        self.ask(id, false, |reply| Command::Close { id, code, reason: reason.into(), reply })
    }

    /// Subscribes a connection. Answers the outcome; `None` within if it is not there.
    pub fn subscribe(
        &self,
        id: ConnectionId,
        topic: &str,
        subscribe: Subscribe,
    ) -> Reply<Option<Result<Subscribed, SubscribeError>>> {
        self.ask(id, None, |reply| Command::Subscribe { id, topic: topic.into(), subscribe, reply })
    }

    /// Ends a subscription of a connection. Answers whether there was one.
    pub fn unsubscribe(&self, id: ConnectionId, topic: &str) -> Reply<bool> {
        self.ask(id, false, |reply| Command::Unsubscribe { id, topic: topic.into(), reply })
    }

    pub(crate) fn resume(&self, id: ConnectionId, value: Option<Box<dyn std::any::Any + Send>>) {
        if let Some(inbox) = self.0.inboxes.0.get(usize::from(id.shard)) {
            inbox.resume((id, value));
        }
    }

    pub(super) fn topic_info(&self, topic: &Topic) -> TopicInfo {
        let snapshot = topic.snapshot(self.0.clock.now());
        TopicInfo {
            name: topic.name().to_string(),
            epoch: topic.epoch(),
            offset: snapshot.offset,
            subscribers: snapshot.subscribers,
            history_messages: snapshot.history_messages,
            history_bytes: snapshot.history_bytes,
            publications_per_s: snapshot.publications_per_s,
            settings: TopicSettings::clone(&topic.settings()),
            deliveries: snapshot.deliveries,
        }
    }

    /// Describes a topic, if it exists.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.0.topics.get(name).map(|topic| self.topic_info(&topic))
    }

    /// Describes the topics that match, in the order of their names, after a name, at most so many.
    #[must_use]
    pub fn topics(&self, pattern: Option<&Pattern>, after: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        self.0.topics.list(pattern, after, limit).iter().map(|topic| self.topic_info(topic)).collect()
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.0.topics.len()
    }

    /// What a topic keeps: since a position, or the newest, at most `limit`. `None` if there is no such topic.
    #[must_use]
    pub fn history(&self, name: &str, since: Option<Position>, limit: usize) -> Option<HistoryPage> {
        let topic = self.0.topics.get(name)?;
        let (offset, complete, publications) = topic.history(since, limit, self.0.clock.now());
        Some(HistoryPage { epoch: topic.epoch(), offset, complete, publications })
    }

    /// What became of all deliveries of all topics, those that are gone included.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        self.0.topics.deliveries(self.0.clock.now())
    }

    /// WebSockets that are open now.
    #[must_use]
    pub fn connection_count(&self) -> u64 {
        self.0.metrics.iter().map(|metrics| metrics.open.get()).sum()
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.0.metrics.len()
    }

    /// How often each shard has turned. This wakes them, so that each that is well has turned once more in a moment.
    #[must_use]
    pub fn turns(&self) -> Vec<u64> {
        let turns = self.0.metrics.iter().map(|metrics| metrics.turns.get()).collect();
        self.0.inboxes.0.iter().for_each(Inbox::wake);
        turns
    }

    /// How long the engine has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.0.clock.uptime()
    }

    /// Whether new connections are welcome: no shutdown has begun, be it only with its `shutdown_grace`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }

    /// Whether another process has taken the place of this one, which therefore ends.
    #[must_use]
    pub fn is_succeeded(&self) -> bool {
        self.0.succession.given.load(Ordering::Acquire)
    }

    /// Whether a shard has failed: a defect of the engine. It then ends in order as far as it can.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }

    /// The settings as they are now.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings()
    }

    /// The addresses it listens on.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.0.local_addrs
    }

    /// The addresses it listens on for HTTP only.
    #[must_use]
    pub fn http_addrs(&self) -> &[SocketAddr] {
        &self.0.http_addrs
    }

    /// Whether TLS is spoken at one of these addresses.
    #[must_use]
    pub fn is_tls(&self, addr: &SocketAddr) -> bool {
        self.0.tls_addrs.contains(addr)
    }

    /// All metrics in the OpenMetrics text format, which Prometheus reads.
    #[must_use]
    pub fn metrics(&self) -> String {
        super::exposition::render(&self.0)
    }

    /// Puts other settings in the place of the present ones. Those that concern how the engine was started stay as they
    /// were, and their names are given back: they need a restart.
    ///
    /// # Errors
    /// What nothing could work with, see [`Settings::check`]; nothing has changed then.
    pub fn reconfigure(&self, settings: Settings) -> Result<Vec<&'static str>, String> {
        settings.check()?;
        let (settings, fixed) = settings.keeping_fixed(&self.0.settings());
        self.0.reconfigure(settings);
        self.shrink_histories();
        Ok(fixed)
    }

    /// Shows other certificates to those who connect from now on; connections that there are go on as they began.
    pub fn set_tls(&self, tls: Tls) {
        self.0.tls.store(Some(Arc::new(tls)));
    }

    /// Has histories give up what they keep beyond `history_total_bytes`, if that has become less.
    fn shrink_histories(&self) {
        if self.0.topics.histories.exceeded().is_none() {
            return;
        }
        let shared = self.0.clone();
        self.spawn(async move {
            // Looked at only now, and by one at a time: shares of what is gone already would be given up once more.
            let Some(exceeded) = shared.topics.histories.begin_to_shrink() else { return };
            for topics in shared.topics.all().chunks(TOPICS_AT_ONCE) {
                shared.topics.shrink_histories(topics, exceeded);
                tokio::task::yield_now().await;
            }
            shared.topics.histories.end_to_shrink();
        });
    }

    /// Gives topics other settings: those made from now on at once; those that exist soon after, a thousand at a time, from
    /// the control thread. What a history may no longer keep is then let go; what waits in queues of connections stays there,
    /// and the new policy and bounds apply to what comes.
    pub fn set_topic_rules(&self, rules: TopicRules) {
        self.0.topics.set_rules(rules);
        let shared = self.0.clone();
        self.spawn(async move {
            for topics in shared.topics.all().chunks(TOPICS_AT_ONCE) {
                shared.topics.follow_rules(topics, shared.clock.now());
                tokio::task::yield_now().await;
            }
        });
    }

    /// Forgets what a topic keeps; its order goes on. Returns how many publications that were; `None` if there is no such
    /// topic. Who comes back from an earlier position then cannot recover.
    #[must_use]
    pub fn remove_history(&self, topic: &str) -> Option<usize> {
        Some(self.0.topics.get(topic)?.remove_history())
    }

    /// Runs a task on the control thread, which must not block. It is dropped when the engine ends.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.0.runtime.get() {
            runtime.spawn(task);
        }
    }

    /// Adds metrics of the program's own to [`metrics`](Self::metrics); the collector is of the crate `prometheus-client`.
    pub fn add_metrics(&self, collector: impl Fn() -> Box<dyn Collector> + Send + Sync + 'static) {
        self.0.collectors.lock().push(Box::new(collector));
    }

    /// Tells the event log something of the program's own, see [`events`](crate::events). The value is only made if somebody
    /// watches.
    pub fn event(&self, key: &str, value: impl FnOnce() -> serde_json::Value) {
        self.0.events.emit(key, value);
    }

    /// Begins to end in order, without waiting; see `Engine::shutdown`.
    pub fn begin_shutdown(&self) {
        super::shutdown::begin(&self.0);
    }
}
