//! The sequencer: gives each publication its place, in one order for all shards, and hands it to every shard with a
//! subscriber. Under the topic's lock happens only what must: room, offset, history, one reference into each inbox.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::encoding::EncodingId;
use super::history::{Budget, History};
use super::name::NameError;
use super::pace::Pace;
use super::publication::{Epoch, Now, Position, Publication, Published};
use super::settings::TopicSettings;
use super::tally::{Deliveries, Tally};
use crate::id::ConnectionId;

/// How a topic reaches the shards. Implemented by their inboxes.
pub trait Inboxes: Send + Sync {
    /// Makes sure that a publication of so many bytes will find room in a shard's inbox; false if there is none.
    fn reserve(&self, shard: usize, bytes: usize) -> bool;
    /// Gives a reservation back.
    fn release(&self, shard: usize, bytes: usize);
    /// Uses a reservation.
    fn push(&self, shard: usize, topic: &Arc<Topic>, publication: &Arc<Publication>);
    /// Tells a shard that a topic has pattern subscribers among its connections, or that the topic is gone. False if there
    /// is no room.
    fn notify(&self, shard: usize, topic: &Arc<Topic>, notice: Notice) -> bool;
    /// Wakes a shard, unless it is awake.
    fn wake(&self, shard: usize);
}

/// What a shard may have to be told about a topic besides its publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Pattern subscribers of the shard became subscribers when the topic was made.
    Made,
    /// The topic was unused and is gone; only pattern subscribers were left.
    Gone,
}

/// Why nothing was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishError {
    /// An inbox on the way is full. Nothing was sequenced; try again soon.
    Overloaded,
    /// The name is not one of a topic.
    Name(NameError),
    /// The topic does not exist and `topics_max` is reached.
    TooManyTopics {
        /// The bound.
        limit: usize,
    },
    /// The payload is larger than `message_bytes`.
    TooBig {
        /// The bound in bytes.
        limit: usize,
    },
    /// The engine is shutting down.
    ShuttingDown,
}

impl PublishError {
    /// The label in metrics; also the `code` in error answers.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Name(_) => "bad_topic",
            Self::TooManyTopics { .. } => "too_many_topics",
            Self::TooBig { .. } => "message_too_big",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overloaded => f.write_str("the engine is overloaded: nothing was published, try again soon"),
            Self::Name(error) => error.fmt(f),
            Self::TooManyTopics { limit } => write!(f, "there are {limit} topics already, which is topics_max"),
            Self::TooBig { limit } => write!(f, "the payload is larger than message_bytes, which is {limit}"),
            Self::ShuttingDown => f.write_str("the engine is shutting down"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Why nothing was subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The name is neither one of a topic nor a pattern.
    Name(NameError),
    /// The connection has `subscriptions_max` subscriptions.
    TooManySubscriptions {
        /// The bound.
        limit: usize,
    },
    /// The topic does not exist and `topics_max` is reached.
    TooManyTopics {
        /// The bound.
        limit: usize,
    },
    /// `since` and `history` need a topic; a pattern has no single order.
    PatternRecovery,
    /// No encoding of this name was given to the builder.
    UnknownEncoding,
    /// The connection is closing.
    Closed,
}

impl SubscribeError {
    /// The label in metrics; also the `code` in error answers.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Name(_) => "bad_topic",
            Self::TooManySubscriptions { .. } => "too_many_subscriptions",
            Self::TooManyTopics { .. } => "too_many_topics",
            Self::PatternRecovery => "pattern_recovery",
            Self::UnknownEncoding => "unknown_encoding",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for SubscribeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::TooManySubscriptions { limit } => {
                write!(f, "this connection has {limit} subscriptions already, which is subscriptions_max")
            }
            Self::TooManyTopics { limit } => write!(f, "there are {limit} topics already, which is topics_max"),
            Self::PatternRecovery => f.write_str("since and history need a topic: a pattern has no single order"),
            Self::UnknownEncoding => f.write_str("no such encoding was given to the engine"),
            Self::Closed => f.write_str("the connection is closing"),
        }
    }
}

impl std::error::Error for SubscribeError {}

/// What a new subscriber gets to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribed {
    /// The topic's life; 0 for a pattern.
    pub epoch: Epoch,
    /// The newest publication when the subscription began: what was replayed ends here, live begins after it. 0 for a
    /// pattern.
    pub offset: u64,
    /// Whether everything since the position asked for was there and follows; `None` if none was asked for.
    pub recovered: Option<bool>,
    /// The subscription existed before; nothing has changed, nothing is replayed.
    pub already: bool,
}

/// The topic was removed between looking it up and using it; look it up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Why a publication was not sequenced.
#[derive(Debug)]
pub enum NotSequenced {
    /// An inbox is full.
    Overloaded,
    /// The topic has been removed; here is the publication back.
    Gone(Arc<Publication>),
}

/// How a subscription began.
#[derive(Debug)]
pub struct Joined {
    /// The newest publication.
    pub offset: u64,
    /// As in [`Subscribed::recovered`].
    pub recovered: Option<bool>,
    /// What was missed, oldest first.
    pub replay: Vec<Arc<Publication>>,
}

/// Which of a shard's entries stands for a topic; kept in the topic, so that finding it needs no hashing.
const LOCAL_NONE: u32 = u32::MAX;
/// The shard has pattern subscribers that became subscribers when the topic was made, and has not met them yet.
const LOCAL_MEMBERS: u32 = u32::MAX - 1;

/// A shard's entry for a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// There is none.
    None,
    /// There is none yet, but there must be: take the members.
    Members,
    /// Its slot.
    At(u32),
}

#[derive(Debug)]
struct Sequencer {
    /// The newest offset; 0 before the first.
    offset: u64,
    /// As in [`Topic::settings`]; found here without another look.
    settings: Arc<TopicSettings>,
    history: History,
    pace: Pace,
    /// Subscribers by shard.
    interest: SmallVec<[u32; 4]>,
    subscribers: u32,
    /// Those of them that did not come by a pattern.
    explicit: u32,
    expected: u64,
    used_at: u64,
    gone: bool,
    members: Vec<(ConnectionId, EncodingId)>,
}

/// A topic: a name, one order, a history, and its subscribers on all shards.
pub struct Topic {
    id: u64,
    name: Arc<str>,
    epoch: Epoch,
    settings: ArcSwap<TopicSettings>,
    tallies: Box<[Tally]>,
    locals: Box<[AtomicU32]>,
    sequencer: Mutex<Sequencer>,
}

impl Topic {
    /// A topic for so many shards, with the pattern subscribers it has from the beginning.
    pub(crate) fn new(
        id: u64,
        name: Arc<str>,
        epoch: Epoch,
        (settings, budget): (Arc<TopicSettings>, Arc<Budget>),
        shards: usize,
        members: Vec<(ConnectionId, EncodingId)>,
        now: Now,
    ) -> Self {
        let mut interest: SmallVec<[u32; 4]> = SmallVec::from_elem(0, shards);
        for (member, _) in &members {
            interest[usize::from(member.shard)] += 1;
        }
        let local = |shard: usize| AtomicU32::new(if interest[shard] > 0 { LOCAL_MEMBERS } else { LOCAL_NONE });
        Self {
            id,
            name,
            epoch,
            settings: ArcSwap::new(settings.clone()),
            tallies: (0..shards).map(|_| Tally::default()).collect(),
            locals: (0..shards).map(local).collect(),
            sequencer: Mutex::new(Sequencer {
                offset: 0,
                settings,
                history: History::new(budget),
                pace: Pace::new(now.nanos),
                interest,
                subscribers: members.len() as u32,
                explicit: 0,
                expected: 0,
                used_at: now.nanos,
                gone: false,
                members,
            }),
        }
    }

    /// Unlike a name, never given again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// This life of the topic.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its settings as they are now. Not for the way of every publication.
    pub fn settings(&self) -> Arc<TopicSettings> {
        self.settings.load_full()
    }

    /// Gives it other settings: what its history may no longer keep is let go, queues follow with the next publication.
    pub(crate) fn set_settings(&self, settings: &Arc<TopicSettings>, now: Now) {
        let mut sequencer = self.sequencer.lock();
        if Arc::ptr_eq(&sequencer.settings, settings) {
            return;
        }
        sequencer.settings = settings.clone();
        sequencer.fit(now);
        self.settings.store(settings.clone());
    }

    /// Forgets the history; returns how many publications it had. Who comes back from a position before the next
    /// publication cannot recover.
    pub(crate) fn remove_history(&self) -> usize {
        self.sequencer.lock().history.clear()
    }

    /// Lets the history give up its share of what all histories keep beyond their limit.
    pub(crate) fn shrink_history(&self, limit: usize, kept: usize) {
        let mut sequencer = self.sequencer.lock();
        let own = sequencer.history.bytes();
        let share = own as u128 * (kept - limit) as u128 / kept.max(1) as u128;
        if own > 0 {
            // Rounded up: all shares together are enough.
            sequencer.history.give_back(share as usize + 1);
        }
    }

    /// A shard's share of the deliveries.
    pub fn tally(&self, shard: usize) -> &Tally {
        &self.tallies[shard]
    }

    /// A shard's entry for this topic.
    pub fn local(&self, shard: usize) -> Local {
        match self.locals[shard].load(Ordering::Relaxed) {
            LOCAL_NONE => Local::None,
            LOCAL_MEMBERS => Local::Members,
            slot => Local::At(slot),
        }
    }

    /// Remembers a shard's entry; by that shard only.
    pub fn set_local(&self, shard: usize, slot: Option<u32>) {
        self.locals[shard].store(slot.unwrap_or(LOCAL_NONE), Ordering::Relaxed);
    }

    /// Gives a new publication its place and hands it to every shard with a subscriber, or does nothing at all.
    ///
    /// # Errors
    /// An inbox is full, or the topic has been removed.
    ///
    /// # Panics
    /// If the publication is shared already.
    pub fn publish(
        self: &Arc<Self>,
        mut publication: Arc<Publication>,
        now: Now,
        inboxes: &dyn Inboxes,
    ) -> Result<Published, NotSequenced> {
        let mut sequencer = self.sequencer.lock();
        if sequencer.gone {
            return Err(NotSequenced::Gone(publication));
        }
        let interested = sequencer.interested();
        if !reserve_all(inboxes, &interested, publication.weight()) {
            return Err(NotSequenced::Overloaded);
        }
        sequencer.offset += 1;
        sequencer.used_at = now.nanos;
        sequencer.pace.count(now.nanos);
        sequencer.expected += u64::from(sequencer.subscribers);
        let unshared = Arc::get_mut(&mut publication).expect("a new publication is not shared");
        unshared.sequence(self.epoch, sequencer.offset, now, interested.len() as u32);
        for shard in &interested {
            inboxes.push(usize::from(*shard), self, &publication);
        }
        let published = Published { epoch: self.epoch, offset: sequencer.offset, subscribers: sequencer.subscribers };
        sequencer.keep(publication);
        drop(sequencer);
        for shard in &interested {
            inboxes.wake(usize::from(*shard));
        }
        Ok(published)
    }

    /// Adds a subscriber of a shard and reads what it has missed, in one step: between the replay and what comes through the
    /// inbox from now on there is neither a gap nor a duplicate.
    ///
    /// # Errors
    /// The topic has been removed.
    pub fn subscribe(
        &self,
        shard: usize,
        by_pattern: bool,
        since: Option<Position>,
        history: usize,
        now: Now,
    ) -> Result<Joined, Gone> {
        let mut sequencer = self.sequencer.lock();
        if sequencer.gone {
            return Err(Gone);
        }
        sequencer.interest[shard] += 1;
        sequencer.subscribers += 1;
        sequencer.explicit += u32::from(!by_pattern);
        sequencer.used_at = now.nanos;
        sequencer.fit(now);
        let offset = sequencer.offset;
        let (recovered, replay) = match since {
            None => (None, sequencer.history.last(history)),
            Some(position) if position.epoch == self.epoch => match sequencer.history.since(position.offset, offset) {
                Some(missed) => (Some(true), missed),
                None => (Some(false), Vec::new()),
            },
            Some(_) => (Some(false), Vec::new()),
        };
        Ok(Joined { offset, recovered, replay })
    }

    /// A subscription that came by a pattern is now also there for itself, or the other way round.
    ///
    /// # Errors
    /// The topic has been removed.
    pub fn set_explicit(&self, explicit: bool) -> Result<(), Gone> {
        let mut sequencer = self.sequencer.lock();
        if sequencer.gone {
            return Err(Gone);
        }
        if explicit {
            sequencer.explicit += 1;
        } else {
            sequencer.explicit -= 1;
        }
        Ok(())
    }

    /// Takes a subscriber away. Returns the newest offset: everything up to it was sequenced with this subscriber counted.
    pub fn unsubscribe(&self, shard: usize, explicit: bool, now: Now) -> u64 {
        let mut sequencer = self.sequencer.lock();
        sequencer.interest[shard] -= 1;
        sequencer.subscribers -= 1;
        sequencer.explicit -= u32::from(explicit);
        sequencer.used_at = now.nanos;
        sequencer.offset
    }

    /// The pattern subscribers of a shard that have been subscribers since the topic was made. Given once.
    pub fn take_members(&self, shard: usize) -> Vec<(ConnectionId, EncodingId)> {
        let mut sequencer = self.sequencer.lock();
        let (own, others) = sequencer.members.drain(..).partition(|(member, _)| usize::from(member.shard) == shard);
        sequencer.members = others;
        own
    }

    /// Removes the topic if nothing needs it: no subscriber but by patterns, no history, not used since `used_before`.
    /// The shards of the pattern subscribers are told; false if that is not possible just now.
    pub(crate) fn retire(self: &Arc<Self>, used_before: u64, now: Now, inboxes: &dyn Inboxes) -> bool {
        let mut sequencer = self.sequencer.lock();
        sequencer.fit(now);
        let unused = sequencer.explicit == 0 && sequencer.history.is_empty() && sequencer.used_at <= used_before;
        if sequencer.gone || !unused {
            return false;
        }
        let interested = sequencer.interested();
        // Should one not have room, those already told find that the topic is not gone, and do nothing.
        sequencer.gone = interested.iter().all(|shard| inboxes.notify(usize::from(*shard), self, Notice::Gone));
        let gone = sequencer.gone;
        drop(sequencer);
        for shard in &interested {
            inboxes.wake(usize::from(*shard));
        }
        gone
    }

    /// Whether the topic has been removed.
    pub fn is_gone(&self) -> bool {
        self.sequencer.lock().gone
    }

    /// Everything there is to know.
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let mut sequencer = self.sequencer.lock();
        sequencer.fit(now);
        Snapshot {
            offset: sequencer.offset,
            subscribers: sequencer.subscribers,
            history_messages: sequencer.history.len(),
            history_bytes: sequencer.history.bytes(),
            publications_per_s: sequencer.pace.per_s(now.nanos),
            deliveries: Deliveries::sum(sequencer.offset, sequencer.expected, self.tallies.iter()),
        }
    }

    /// What is kept since a position, or of late: the newest offset, whether it is all that was asked for, and at most
    /// `limit` publications, oldest first.
    pub fn history(&self, since: Option<Position>, limit: usize, now: Now) -> (u64, bool, Vec<Arc<Publication>>) {
        let mut sequencer = self.sequencer.lock();
        sequencer.fit(now);
        let offset = sequencer.offset;
        match since {
            None => (offset, true, sequencer.history.last(limit)),
            Some(position) if position.epoch == self.epoch => match sequencer.history.since(position.offset, offset) {
                Some(mut found) => {
                    found.truncate(limit);
                    (offset, true, found)
                }
                None => (offset, false, Vec::new()),
            },
            Some(_) => (offset, false, Vec::new()),
        }
    }
}

/// The state of a topic at a moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The newest offset; 0 before the first.
    pub offset: u64,
    /// Subscribers on all shards.
    pub subscribers: u32,
    /// Publications kept.
    pub history_messages: usize,
    /// Bytes kept.
    pub history_bytes: usize,
    /// How fast it has been published to of late.
    pub publications_per_s: f64,
    /// What became of all deliveries.
    pub deliveries: Deliveries,
}

impl Sequencer {
    fn keep(&mut self, publication: Arc<Publication>) {
        if self.settings.history_messages > 0 {
            self.history.append(publication, &self.settings);
        }
    }

    /// Lets go of what has become too old.
    fn fit(&mut self, now: Now) {
        self.history.fit(&self.settings, now.nanos);
    }

    fn interested(&self) -> SmallVec<[u16; 8]> {
        let wanted = self.interest.iter().enumerate().filter(|(_, subscribers)| **subscribers > 0);
        wanted.map(|(shard, _)| shard as u16).collect()
    }
}

fn reserve_all(inboxes: &dyn Inboxes, shards: &[u16], bytes: usize) -> bool {
    for (reserved, shard) in shards.iter().enumerate() {
        if !inboxes.reserve(usize::from(*shard), bytes) {
            for shard in &shards[..reserved] {
                inboxes.release(usize::from(*shard), bytes);
            }
            return false;
        }
    }
    true
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({}@{})", self.name, self.epoch)
    }
}
