//! All topics by name: made on demand, gone when unused. The lock is never held over a publication; making a topic holds it
//! for as long as it takes to find the pattern subscribers it begins with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use parking_lot::RwLock;

use super::encoding::EncodingId;
use super::history::Budget;
use super::name::{self, NameError, NameRules, Pattern};
use super::patterns::Patterns;
use super::publication::{Epoch, Now};
use super::settings::TopicRules;
use super::succession::Estate;
use super::tally::Deliveries;
use super::topic::{Inboxes, Notice, Topic};
use crate::id::ConnectionId;

/// Why there is no such topic and none can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    /// The name is not acceptable.
    Name(NameError),
    /// There are as many as there may be.
    TooMany {
        /// The bound.
        limit: usize,
    },
}

#[derive(Default)]
struct Registry {
    topics: HashMap<Arc<str>, Arc<Topic>>,
    patterns: Patterns,
    /// Another process gives the offsets now.
    surrendered: bool,
    /// Topics that are gone, while shards and queues still hold something of them.
    retiring: Vec<Arc<Topic>>,
    /// What became of the deliveries of topics that are gone for good.
    retired: Deliveries,
}

/// The topics of an engine.
pub struct Topics {
    registry: RwLock<Registry>,
    rules: ArcSwap<TopicRules>,
    /// What names of new topics must be.
    names: RwLock<NameRules>,
    /// What all histories may keep.
    pub histories: Arc<Budget>,
    shards: usize,
    topics_max: usize,
    /// How long a topic without subscribers and history is kept, in nanoseconds.
    idle_nanos: u64,
    made: AtomicU64,
    epoch_seed: u64,
}

impl Topics {
    /// No topics yet, for so many shards. `epoch_seed` makes epochs of this process differ from those of any other.
    #[must_use]
    pub fn new(rules: TopicRules, shards: usize, topics_max: usize, idle_nanos: u64, epoch_seed: u64) -> Self {
        Self {
            registry: RwLock::default(),
            rules: ArcSwap::from_pointee(rules),
            names: RwLock::default(),
            histories: Arc::default(),
            shards,
            topics_max,
            idle_nanos,
            made: AtomicU64::new(0),
            epoch_seed,
        }
    }

    /// The topic, if it exists.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.read().topics.get(name).cloned()
    }

    /// The topic, made if need be.
    ///
    /// # Errors
    /// A bad name, or too many topics.
    pub fn get_or_make(&self, name: &str, now: Now, inboxes: &dyn Inboxes) -> Result<Arc<Topic>, TopicError> {
        if let Some(topic) = self.get(name) {
            return Ok(topic);
        }
        name::check_topic(name).and_then(|()| self.name_rules().check(name)).map_err(TopicError::Name)?;
        let mut registry = self.registry.write();
        if let Some(topic) = registry.topics.get(name) {
            return Ok(topic.clone());
        }
        if registry.topics.len() >= self.topics_max {
            return Err(TopicError::TooMany { limit: self.topics_max });
        }
        let topic = Arc::new(self.make(name, &registry.patterns, now));
        if registry.surrendered && !name.starts_with('$') {
            topic.surrender(now);
        }
        registry.topics.insert(topic.name().clone(), topic.clone());
        drop(registry);
        self.tell_members(&topic, inboxes);
        Ok(topic)
    }

    /// All topics, which are to be surrendered; those made from now on begin so.
    pub fn surrender(&self) -> Vec<Arc<Topic>> {
        let mut registry = self.registry.write();
        registry.surrendered = true;
        registry.topics.values().filter(|topic| !topic.name().starts_with('$')).cloned().collect()
    }

    /// All topics, which are to give offsets again.
    pub fn reclaim(&self) -> Vec<Arc<Topic>> {
        let mut registry = self.registry.write();
        registry.surrendered = false;
        registry.topics.values().cloned().collect()
    }

    /// A topic that another process has given offsets to: it begins with what is known of it. `follows` is whether that
    /// process goes on giving them. False if there is such a topic already, or no room for it.
    pub fn install(&self, name: &str, estate: Estate, follows: bool, now: Now, inboxes: &dyn Inboxes) -> bool {
        let mut registry = self.registry.write();
        let room = registry.topics.len() < self.topics_max;
        if registry.topics.contains_key(name) || !room || name::check_topic(name).is_err() {
            return false;
        }
        let topic = Arc::new(self.make_in(name, Some(estate.epoch), &registry.patterns, now));
        topic.inherit(estate.offset, estate.history, follows, now);
        registry.topics.insert(topic.name().clone(), topic.clone());
        drop(registry);
        self.tell_members(&topic, inboxes);
        true
    }

    fn make(&self, name: &str, patterns: &Patterns, now: Now) -> Topic {
        self.make_in(name, None, patterns, now)
    }

    fn make_in(&self, name: &str, epoch: Option<Epoch>, patterns: &Patterns, now: Now) -> Topic {
        let id = self.made.fetch_add(1, Ordering::Relaxed);
        // An odd multiplier spreads consecutive topics; 52 bits fit a JSON number, should one want to hold an epoch so.
        let own = Epoch((self.epoch_seed ^ (id + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 12);
        let epoch = epoch.unwrap_or(own);
        let members: Vec<_> = patterns.matching(name).into_iter().collect();
        let settings = self.rules.load().shared_settings(name).clone();
        Topic::new(id, name.into(), epoch, (settings, self.histories.clone()), self.shards, members, now)
    }

    /// What names of new topics and patterns must be.
    #[must_use]
    pub fn name_rules(&self) -> NameRules {
        *self.names.read()
    }

    /// Changes what names of new topics and patterns must be; those that exist stay.
    pub fn set_name_rules(&self, rules: NameRules) {
        *self.names.write() = rules;
    }

    /// Other rules: topics made from now on follow them. Those that exist do when they are told, see
    /// [`follow_rules`](Self::follow_rules).
    pub fn set_rules(&self, rules: TopicRules) {
        self.rules.store(Arc::new(rules));
    }

    /// All topics. One made later, or being made, knows the rules as they were before this call.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.registry.read().topics.values().cloned().collect()
    }

    /// Gives topics the settings of the present rules.
    pub fn follow_rules(&self, topics: &[Arc<Topic>], now: Now) {
        let rules = self.rules.load();
        for topic in topics {
            topic.set_settings(rules.shared_settings(topic.name()), now);
        }
    }

    /// Has these topics give up their share of what all histories keep beyond their limit, as [`Budget::exceeded`] has told
    /// before the first of them was asked.
    pub fn shrink_histories(&self, topics: &[Arc<Topic>], (limit, kept): (usize, usize)) {
        for topic in topics {
            topic.shrink_history(limit, kept);
        }
    }

    /// Saves the shards of pattern subscribers from meeting a new topic only with its first publication. If there is no
    /// room they meet it then.
    fn tell_members(&self, topic: &Arc<Topic>, inboxes: &dyn Inboxes) {
        for shard in 0..self.shards {
            if topic.local(shard) == super::topic::Local::Members && inboxes.notify(shard, topic, Notice::Made) {
                inboxes.wake(shard);
            }
        }
    }

    /// Notes a pattern subscription. Returns the topics that exist and match: the shard subscribes to each of them; those
    /// made later have the connection among their members.
    pub fn subscribe_pattern(&self, pattern: &Pattern, id: ConnectionId, encoding: EncodingId) -> Vec<Arc<Topic>> {
        self.registry.write().patterns.insert(pattern, id, encoding);
        // A topic made in between is in the list, too: the shard finds that it is among its members already.
        let registry = self.registry.read();
        registry.topics.values().filter(|topic| pattern.matches(topic.name())).cloned().collect()
    }

    /// Ends a pattern subscription.
    pub fn unsubscribe_pattern(&self, pattern: &Pattern, id: ConnectionId) {
        self.registry.write().patterns.remove(pattern, id);
    }

    /// Removes topics that nothing needs any more. Called once in a while from the control plane.
    pub fn sweep(&self, now: Now, inboxes: &dyn Inboxes) {
        let Some(used_before) = now.nanos.checked_sub(self.idle_nanos) else { return };
        for topic in self.all() {
            if topic.retire(used_before, now, inboxes) {
                let mut registry = self.registry.write();
                registry.topics.remove(topic.name());
                registry.retiring.push(topic);
            }
        }
        self.settle_retired(now);
        // Those of topics to which nothing is published do not give up anything by themselves.
        if let Some(exceeded) = self.histories.begin_to_shrink() {
            self.shrink_histories(&self.all(), exceeded);
            self.histories.end_to_shrink();
        }
    }

    /// Books the deliveries of topics nobody else holds any more: their counters have come to rest.
    fn settle_retired(&self, now: Now) {
        let mut registry = self.registry.write();
        let Registry { retiring, retired, .. } = &mut *registry;
        retiring.retain(|topic| {
            let held = Arc::strong_count(topic) > 1;
            if !held {
                retired.merge(&topic.snapshot(now).deliveries);
            }
            held
        });
    }

    /// How many topics there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registry.read().topics.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many pattern subscriptions there are.
    #[must_use]
    pub fn patterns(&self) -> usize {
        self.registry.read().patterns.len()
    }

    /// The topics that match, in the order of their names, after a name, at most so many.
    #[must_use]
    pub fn list(&self, pattern: Option<&Pattern>, after: Option<&str>, limit: usize) -> Vec<Arc<Topic>> {
        let registry = self.registry.read();
        let wanted = |topic: &&Arc<Topic>| {
            after.is_none_or(|after| &**topic.name() > after)
                && pattern.is_none_or(|pattern| pattern.matches(topic.name()))
        };
        let mut found: Vec<_> = registry.topics.values().filter(wanted).cloned().collect();
        drop(registry);
        found.sort_by(|a, b| a.name().cmp(b.name()));
        found.truncate(limit);
        found
    }

    /// All topics, those that are going included, and what became of the deliveries of those that are gone.
    #[must_use]
    pub fn all_with_retired(&self) -> (Vec<Arc<Topic>>, Deliveries) {
        let registry = self.registry.read();
        let all = registry.topics.values().chain(&registry.retiring);
        (all.cloned().collect(), registry.retired)
    }

    /// What became of all deliveries of all topics, those that are gone included.
    #[must_use]
    pub fn deliveries(&self, now: Now) -> Deliveries {
        let (all, mut sum) = self.all_with_retired();
        for topic in all {
            sum.merge(&topic.snapshot(now).deliveries);
        }
        sum
    }
}
