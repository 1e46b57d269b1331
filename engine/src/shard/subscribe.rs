//! Subscriptions of a shard's connections: to topics, and to patterns, which are subscriptions to every topic they match.

use std::sync::Arc;

use super::connection::{State, Subscription};
use super::core::Core;
use super::fan_out::Settled;
use crate::close::CloseCause;
use crate::handler::{Greeting, SendOutcome, Subscribe};
use crate::id::ConnectionId;
use crate::pubsub::fanout::Fanout;
use crate::pubsub::form::Form;
use crate::pubsub::name::{self, Pattern};
use crate::pubsub::tally::DropReason;
use crate::pubsub::topic::{Gone, Joined, Local, Topic};
use crate::pubsub::topics::TopicError;
use crate::pubsub::{EncodingId, Epoch, Publication, SubscribeError, Subscribed};
use crate::ws::Message;

/// What is left for a greeting when it is decided how much can be replayed behind it.
const GREETING_BYTES: usize = 1024;

impl From<TopicError> for SubscribeError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::Name(error) => Self::Name(error),
            TopicError::TooMany { limit } => Self::TooManyTopics { limit },
        }
    }
}

impl Core {
    /// Subscribes a connection to a topic or pattern.
    pub fn subscribe(
        &mut self,
        slot: u32,
        topic: &str,
        subscribe: Subscribe,
        greet: &mut Greeting<'_>,
    ) -> Result<Subscribed, SubscribeError> {
        if self.at(slot).state != State::Open {
            return Err(SubscribeError::Closed);
        }
        if !self.shared.encodings.contains(subscribe.encoding) {
            return Err(SubscribeError::UnknownEncoding);
        }
        if name::is_pattern(topic) {
            if subscribe.since.is_some() || subscribe.history > 0 {
                return Err(SubscribeError::PatternRecovery);
            }
            let pattern = Pattern::new(topic).map_err(SubscribeError::Name)?;
            self.shared.topics.name_rules().check(topic).map_err(SubscribeError::Name)?;
            return self.subscribe_pattern(slot, pattern, subscribe.encoding, greet);
        }
        self.subscribe_topic(slot, topic, subscribe, greet)
    }

    fn check_room(&self, slot: u32) -> Result<(), SubscribeError> {
        let connection = &self.connections[slot as usize];
        let own = connection.limits().and_then(|limits| limits.subscriptions_max);
        let limit = own.unwrap_or(self.settings.subscriptions_max);
        let patterns = connection.rare.as_ref().map_or(0, |rare| rare.patterns.len());
        if connection.subscriptions.len() + patterns >= limit {
            return Err(SubscribeError::TooManySubscriptions { limit });
        }
        Ok(())
    }

    fn subscribe_topic(
        &mut self,
        slot: u32,
        name: &str,
        subscribe: Subscribe,
        greet: &mut Greeting<'_>,
    ) -> Result<Subscribed, SubscribeError> {
        let shard = usize::from(self.shard);
        let (topic, fanout, joined) = loop {
            let topic = self.shared.topics.get_or_make(name, self.now, &self.shared.inboxes)?;
            let fanout = self.meet_if_member(&topic);
            // Meeting a topic may be too much for this very connection, and so may be leaving one.
            if self.at(slot).state != State::Open {
                return Err(SubscribeError::Closed);
            }
            match self.subscribe_again(slot, &topic, fanout, subscribe, greet) {
                Ok(Some(subscribed)) => return Ok(subscribed),
                Ok(None) => {}
                Err(Gone) => {
                    // The notice is on its way; until the registry has let go of the topic, too, it is looked up again.
                    fanout.into_iter().for_each(|fanout| self.forget_topic(fanout));
                    std::thread::yield_now();
                    continue;
                }
            }
            self.check_room(slot)?;
            let now = self.shared.clock.now();
            if let Ok(joined) = topic.subscribe(shard, false, subscribe.since, subscribe.history, now) {
                break (topic, fanout, joined);
            }
            std::thread::yield_now();
        };
        let fanout = fanout.unwrap_or_else(|| self.make_fanout(&topic, joined.offset + 1));
        let Joined { offset, mut recovered, mut replay } = joined;
        // What it has published to all others it would not have got live either.
        let id = self.id(slot);
        replay.retain(|publication| publication.except() != Some(id));
        let form = self.form(slot, subscribe.encoding);
        let fitting = self.fitting(slot, &replay, form);
        if fitting < replay.len() {
            // Recovery is whole or refused; of a history that was asked for, the newest part is as good.
            recovered = recovered.map(|_| false);
            let dropped = if recovered.is_some() { replay.len() } else { replay.len() - fitting };
            replay.drain(..dropped);
        }
        let subscribed = Subscribed { epoch: topic.epoch(), offset, recovered, already: false };
        self.add_subscriber(slot, fanout, subscribe.encoding, offset + 1, true, 0);
        self.greet(slot, &subscribed, greet);
        self.replay(slot, &topic, &replay, form);
        Ok(subscribed)
    }

    fn greet(&mut self, slot: u32, subscribed: &Subscribed, greet: &mut Greeting<'_>) {
        if let Some(text) = greet(subscribed)
            && self.send_message(slot, Message::Text(&text), None) == SendOutcome::Dropped
        {
            // The client could not tell what follows. It may come back and recover.
            self.close_now(slot, CloseCause::SlowConsumer);
        }
    }

    /// A subscription that exists: a pattern's is now also there by name, nothing else changes.
    fn subscribe_again(
        &mut self,
        slot: u32,
        topic: &Arc<Topic>,
        fanout: Option<u32>,
        subscribe: Subscribe,
        greet: &mut Greeting<'_>,
    ) -> Result<Option<Subscribed>, Gone> {
        let Some(subscription) = fanout.and_then(|fanout| self.at(slot).subscription(fanout)) else { return Ok(None) };
        if !subscription.explicit {
            topic.set_explicit(true)?;
            subscription.explicit = true;
        }
        let subscribed = Subscribed {
            epoch: topic.epoch(),
            offset: topic.snapshot(self.now).offset,
            recovered: subscribe.since.map(|_| false),
            already: true,
        };
        self.greet(slot, &subscribed, greet);
        Ok(Some(subscribed))
    }

    /// How many of the newest of these the connection's bounds hold. No frame is made of one that they could not hold anyway.
    fn fitting(&mut self, slot: u32, replay: &[Arc<Publication>], form: Form) -> usize {
        let bounds = self.replay_bounds(slot);
        let (waiting, messages) = match &self.at(slot).outbound {
            Some(outbound) => (outbound.bytes(), outbound.messages()),
            None => (0, 0),
        };
        // A place is kept for the greeting.
        let (mut bytes, room) = (waiting + GREETING_BYTES, bounds.messages.saturating_sub(messages + 1));
        let Self { shared, shard, deflater, .. } = self;
        let mut frames = shared.frames(*shard, deflater);
        let fits = |publication: &&Arc<Publication>| {
            if bytes + publication.weight() > bounds.bytes {
                return false;
            }
            publication.encode(form, &mut frames);
            bytes += publication.held(form);
            bytes <= bounds.bytes
        };
        replay.iter().rev().take(room).take_while(fits).count()
    }

    fn replay(&mut self, slot: u32, topic: &Arc<Topic>, replay: &[Arc<Publication>], form: Form) {
        if replay.is_empty() || self.at(slot).state != State::Open {
            return;
        }
        let (bounds, shard) = (self.own_bounds(slot), usize::from(self.shard));
        for publication in replay {
            publication.encode(form, &mut self.shared.frames(self.shard, &mut self.deflater));
            if !self.outbound(slot).push_replay(topic, shard, publication, form, bounds) {
                return self.close_now(slot, CloseCause::SlowConsumer);
            }
        }
        self.book_pending(slot);
        self.mark_dirty(slot);
    }

    fn add_subscriber(
        &mut self,
        slot: u32,
        fanout: u32,
        encoding: EncodingId,
        next: u64,
        explicit: bool,
        patterns: u16,
    ) {
        debug_assert_eq!(self.at(slot).state, State::Open, "who has ended leaves once, and would never leave this");
        let place = self.at(slot).subscriptions.len() as u32;
        let form = self.form(slot, encoding);
        let index = self.fanouts[fanout as usize].add(slot, place, form, next);
        self.at(slot).note_place(fanout, place);
        self.at(slot).subscriptions.push(Subscription { fanout, index, patterns, explicit });
    }

    /// What a connection gets of an encoding.
    fn form(&self, slot: u32, encoding: EncodingId) -> Form {
        Form { encoding, window: self.connections[slot as usize].window }
    }

    fn make_fanout(&mut self, topic: &Arc<Topic>, floor: u64) -> u32 {
        let fanout = self.fanouts.insert(Fanout::new(topic.clone(), floor)) as u32;
        topic.set_local(usize::from(self.shard), Some(fanout));
        fanout
    }

    /// The shard's entry of a topic, made if it has pattern subscribers here that have not met it.
    pub fn meet_if_member(&mut self, topic: &Arc<Topic>) -> Option<u32> {
        match topic.local(usize::from(self.shard)) {
            Local::At(fanout) => Some(fanout),
            Local::Members => self.meet(topic),
            Local::None => None,
        }
    }

    /// Makes the entry of a topic that has had pattern subscribers of this shard since it was made. Those that have left in
    /// the meantime are counted out. `None` if nobody is left.
    pub fn meet(&mut self, topic: &Arc<Topic>) -> Option<u32> {
        let shard = usize::from(self.shard);
        topic.set_local(shard, None);
        let (mut fanout, mut overreaching) = (None, Vec::new());
        for (id, encoding) in topic.take_members(shard) {
            let patterns = self.matching_patterns(id, topic.name());
            if patterns == 0 {
                let offset = topic.unsubscribe(shard, false, self.now);
                topic.tally(shard).drop(DropReason::Unsubscribed, offset);
                continue;
            }
            let entry = *fanout.get_or_insert_with(|| self.make_fanout(topic, 1));
            self.add_subscriber(id.slot, entry, encoding, 1, false, patterns);
            if self.at(id.slot).subscriptions.len() > self.settings.pattern_topics_max {
                overreaching.push(id.slot);
            }
        }
        for slot in overreaching {
            self.close(slot, CloseCause::Overreach, CloseCause::Overreach.code(), CloseCause::Overreach.text());
        }
        // Should all of them have ended with that, so has the entry.
        fanout.filter(|fanout| topic.local(shard) == Local::At(*fanout))
    }

    /// How many patterns of a connection match a topic; 0 if it has gone.
    fn matching_patterns(&self, id: ConnectionId, topic: &str) -> u16 {
        let connection = self.connection(id.slot, id.generation).filter(|connection| connection.state == State::Open);
        let rare = connection.and_then(|connection| connection.rare.as_ref());
        rare.map_or(0, |rare| rare.patterns.iter().filter(|(pattern, _)| pattern.matches(topic)).count() as u16)
    }

    fn subscribe_pattern(
        &mut self,
        slot: u32,
        pattern: Pattern,
        encoding: EncodingId,
        greet: &mut Greeting<'_>,
    ) -> Result<Subscribed, SubscribeError> {
        let known = self.at(slot).rare().patterns.iter().any(|(own, _)| *own == pattern);
        let subscribed = Subscribed { epoch: Epoch(0), offset: 0, recovered: None, already: known };
        if known {
            self.greet(slot, &subscribed, greet);
            return Ok(subscribed);
        }
        self.check_room(slot)?;
        let (id, limit) = (self.id(slot), self.settings.pattern_topics_max);
        let topics = self.shared.topics.subscribe_pattern(&pattern, id, encoding);
        if self.at(slot).subscriptions.len() + topics.len() > limit {
            self.shared.topics.unsubscribe_pattern(&pattern, id);
            return Err(SubscribeError::TooManySubscriptions { limit });
        }
        self.at(slot).rare().patterns.push((pattern, encoding));
        self.greet(slot, &subscribed, greet);
        for topic in topics {
            self.join_by_pattern(slot, &topic, encoding);
        }
        if self.at(slot).state == State::Open { Ok(subscribed) } else { Err(SubscribeError::Closed) }
    }

    /// Makes a connection a subscriber of a topic that one of its patterns matches.
    fn join_by_pattern(&mut self, slot: u32, topic: &Arc<Topic>, encoding: EncodingId) {
        let fanout = self.meet_if_member(topic);
        // It may have ended: by the greeting, or because it reaches too much.
        if self.at(slot).state != State::Open {
            return;
        }
        // Counted anew, not up: the topic may have been met just now, with this pattern among those that match.
        let patterns = self.matching_patterns(self.id(slot), topic.name());
        if let Some(subscription) = fanout.and_then(|fanout| self.at(slot).subscription(fanout)) {
            subscription.patterns = patterns;
            return;
        }
        // Removed in the meantime: if it comes back, the connection is among its members.
        let now = self.shared.clock.now();
        let Ok(joined) = topic.subscribe(usize::from(self.shard), true, None, 0, now) else { return };
        let fanout = fanout.unwrap_or_else(|| self.make_fanout(topic, joined.offset + 1));
        self.add_subscriber(slot, fanout, encoding, joined.offset + 1, false, patterns);
    }

    /// Ends a subscription to a topic or pattern.
    pub fn unsubscribe(&mut self, slot: u32, topic: &str) -> bool {
        if self.at(slot).state != State::Open {
            return false;
        }
        if name::is_pattern(topic) {
            self.unsubscribe_pattern(slot, topic)
        } else {
            self.unsubscribe_topic(slot, topic)
        }
    }

    fn unsubscribe_topic(&mut self, slot: u32, name: &str) -> bool {
        let Some(topic) = self.shared.topics.get(name) else { return false };
        let Local::At(fanout) = topic.local(usize::from(self.shard)) else { return false };
        let Some(subscription) = self.at(slot).subscription(fanout).filter(|subscription| subscription.explicit) else {
            return false;
        };
        if subscription.patterns > 0 {
            subscription.explicit = false;
            // It was explicit, so it cannot be gone.
            let _ = topic.set_explicit(false);
        } else if self.settle_before_leaving(slot)
            && let Some(place) = self.at(slot).place_of(fanout)
        {
            self.leave(slot, place);
        }
        true
    }

    fn unsubscribe_pattern(&mut self, slot: u32, pattern: &str) -> bool {
        let Some(rare) = &mut self.at(slot).rare else { return false };
        let Some(at) = rare.patterns.iter().position(|(own, _)| own.as_str() == pattern) else { return false };
        let (pattern, _) = rare.patterns.swap_remove(at);
        let id = self.id(slot);
        self.shared.topics.unsubscribe_pattern(&pattern, id);
        if !self.settle_before_leaving(slot) {
            return true;
        }
        // From the last to the first: who moves into a place that has become free has been looked at.
        for place in (0..self.at(slot).subscriptions.len()).rev() {
            let Self { connections, fanouts, .. } = self;
            let subscription = &mut connections[slot as usize].subscriptions[place];
            if pattern.matches(fanouts[subscription.fanout as usize].topic().name()) {
                subscription.patterns = subscription.patterns.saturating_sub(1);
                if subscription.patterns == 0 && !subscription.explicit {
                    self.leave(slot, place);
                }
            }
        }
        true
    }

    /// Writes what can be written before a subscription ends; false if the connection has ended with that.
    fn settle_before_leaving(&mut self, slot: u32) -> bool {
        self.catch_up(slot);
        self.flush(slot);
        self.at(slot).state == State::Open
    }

    /// Ends a connection's share of a topic while it stays connected: what has not been written is dropped.
    fn leave(&mut self, slot: u32, place: usize) {
        let (topic, missed) = self.remove_subscriber(slot, place);
        topic.tally(usize::from(self.shard)).drop(DropReason::Unsubscribed, missed);
        if let Some(outbound) = &mut self.at(slot).outbound {
            outbound.unsubscribe(&topic);
            if outbound.is_empty() {
                self.mark_dirty(slot);
            }
        }
        self.book_pending(slot);
    }

    /// Takes a subscriber out of everything. Returns the topic and how many publications it had not been visited for.
    fn remove_subscriber(&mut self, slot: u32, place: usize) -> (Arc<Topic>, u64) {
        let Self { fanouts, connections, .. } = self;
        let connection = &mut connections[slot as usize];
        let Subscription { fanout, index, explicit, .. } = connection.subscriptions.swap_remove(place);
        connection.forget_place(fanout);
        if let Some(moved) = connection.subscriptions.get(place).copied() {
            connection.note_place(moved.fanout, place as u32);
            fanouts[moved.fanout as usize].set_place(moved.index, place as u32);
        }
        let entry = &mut fanouts[fanout as usize];
        let topic = entry.topic().clone();
        let next = entry.remove(index, |slot, place, index| {
            connections[slot as usize].subscriptions[place as usize].index = index;
        });
        let offset = topic.unsubscribe(usize::from(self.shard), explicit, self.now);
        if self.fanouts[fanout as usize].is_empty() {
            self.drop_fanout(fanout);
        }
        (topic, (offset + 1).saturating_sub(next))
    }

    fn drop_fanout(&mut self, fanout: u32) {
        let mut entry = self.fanouts.remove(fanout as usize);
        entry.topic().set_local(usize::from(self.shard), None);
        // Its place on the list of those with work is left there: who meets it finds nothing to do.
        let Self { shared, shard, spare, .. } = self;
        let (nanos, shard) = (shared.clock.nanos(), usize::from(*shard));
        let mut settled = Settled::default();
        entry.settle(|publication| settled.add(publication, nanos, &shared.metrics[shard]), spare);
        settled.release(&shared.inboxes.0[shard]);
    }

    /// Ends all subscriptions: the connection ends. What it had not been visited for is discarded.
    pub fn leave_all(&mut self, slot: u32) {
        let patterns = self.at(slot).rare.as_mut().map(|rare| std::mem::take(&mut rare.patterns)).unwrap_or_default();
        let id = self.id(slot);
        for (pattern, _) in patterns {
            self.shared.topics.unsubscribe_pattern(&pattern, id);
        }
        // From the last to the first, so that none has to move.
        while let Some(place) = self.at(slot).subscriptions.len().checked_sub(1) {
            let (topic, missed) = self.remove_subscriber(slot, place);
            topic.tally(usize::from(self.shard)).discarded.add(missed);
        }
    }

    /// A topic that only patterns held on to is gone.
    pub fn forget_topic(&mut self, fanout: u32) {
        let members: Vec<u32> = self.fanouts[fanout as usize].slots().collect();
        for slot in members {
            if self.settle_before_leaving(slot)
                && let Some(place) = self.at(slot).place_of(fanout)
            {
                self.leave(slot, place);
            }
        }
    }

    /// Topics and patterns a connection has subscribed to by name.
    pub fn subscriptions(&self, slot: u32) -> Vec<String> {
        let connection = &self.connections[slot as usize];
        let topics = connection.subscriptions.iter().filter(|subscription| subscription.explicit);
        let topics = topics.map(|subscription| self.fanouts[subscription.fanout as usize].topic().name().to_string());
        let patterns = connection.rare.iter().flat_map(|rare| &rare.patterns);
        topics.chain(patterns.map(|(pattern, _)| pattern.to_string())).collect()
    }

    /// Whether a connection has subscribed to a topic or pattern by name.
    pub fn is_subscribed(&self, slot: u32, topic: &str) -> bool {
        let connection = &self.connections[slot as usize];
        let by_name = |subscription: &Subscription| {
            subscription.explicit && **self.fanouts[subscription.fanout as usize].topic().name() == *topic
        };
        connection.subscriptions.iter().any(by_name)
            || connection.rare.iter().flat_map(|rare| &rare.patterns).any(|(pattern, _)| pattern.as_str() == topic)
    }
}
