//! From the inbox to the sockets: publications go to the logs of their topics, commands are carried out, and then the
//! subscribers are visited, a few topics' worth at a time, within the budget of the turn.

use std::sync::Arc;

use smallvec::SmallVec;

use super::connection::State;
use super::core::Core;
use super::inbox::{Inbox, Item};
use crate::close::CloseCause;
use crate::metrics::{ShardMetrics, clamp_latency};
use crate::pubsub::fanout::{Burst, Fanout, Visit};
use crate::pubsub::outbound::Enqueued;
use crate::pubsub::publication::Publication;
use crate::pubsub::tally::DropReason;
use crate::pubsub::topic::{Local, Notice, Topic};

/// Visits to one topic before another one has its turn: a small topic never waits for the whole of a large one.
const TOPIC_VISITS: usize = 64;
/// Visits between two looks at the clock: at 4 µs a send, latencies are exact to 32 µs.
const CLOCK_VISITS: usize = 8;
/// Publications that can be put into queues in the time of one send.
const ENQUEUED_PER_SEND: usize = 32;
/// A queue of a socket that takes everything is written when it has grown so large, before a bound is held against it.
const EAGER_FLUSH_BYTES: usize = 64 << 10;
const EAGER_FLUSH_MESSAGES: usize = 256;

impl Core {
    /// Takes everything that waits in the inbox; at most what it can hold, so that a turn ends.
    pub fn take_inbox(&mut self) {
        let mut commands = 0;
        for _ in 0..self.inbox.len() {
            let Ok(item) = self.inbox.try_recv() else { break };
            match item {
                Item::Publication(topic, publication) => self.take_publication(&topic, publication),
                Item::Notice(topic, notice) => {
                    commands += 1;
                    self.take_notice(&topic, notice);
                }
                Item::Command(command) => {
                    commands += 1;
                    self.take_command(*command);
                }
            }
        }
        if commands > 0 {
            self.own_inbox().release_commands(commands);
        }
        for (id, value) in self.own_inbox().take_resumed() {
            self.calls.push_back((id, super::core::Call::Resume(value)));
        }
    }

    fn take_publication(&mut self, topic: &Arc<Topic>, publication: Arc<Publication>) {
        let fanout = match topic.local(usize::from(self.shard)) {
            Local::At(fanout) => fanout,
            Local::Members => match self.meet(topic) {
                Some(fanout) => fanout,
                None => return self.finish(&publication),
            },
            // Everybody has left since it was sequenced, and was counted then.
            Local::None => return self.finish(&publication),
        };
        let entry = &mut self.fanouts[fanout as usize];
        if !entry.push(publication.clone()) {
            return self.finish(&publication);
        }
        if !entry.listed {
            entry.listed = true;
            self.listed.push_back(fanout);
        }
    }

    fn take_notice(&mut self, topic: &Arc<Topic>, notice: Notice) {
        match (notice, topic.local(usize::from(self.shard))) {
            (Notice::Made, Local::Members) => {
                self.meet(topic);
            }
            (Notice::Gone, Local::At(fanout)) if topic.is_gone() => self.forget_topic(fanout),
            (Notice::Gone, Local::Members) if topic.is_gone() => {
                if let Some(fanout) = self.meet(topic) {
                    self.forget_topic(fanout);
                }
            }
            _ => {}
        }
    }

    fn finish(&self, publication: &Publication) {
        let mut settled = Settled::default();
        settled.add(publication, self.shared.clock.nanos(), self.metrics());
        settled.release(self.own_inbox());
    }

    /// Visits subscribers until all have been served or the budget is used up. Topics take turns.
    pub fn fan_out(&mut self) {
        let mut budget = self.settings.turn_sends.max(1);
        let mut next_turn = SmallVec::<[u32; 8]>::new();
        while budget > 0
            && let Some(fanout) = self.listed.pop_front()
        {
            let share = budget.min(TOPIC_VISITS);
            let (cost, round_over) = self.fan_out_topic(fanout, share);
            budget -= cost.max(1).min(budget);
            if let Some(entry) = self.fanouts.get_mut(fanout as usize).filter(|entry| entry.listed) {
                entry.listed = entry.has_work();
                match (entry.listed, round_over) {
                    (false, _) => {}
                    (true, false) => self.listed.push_back(fanout),
                    // Before more is sent to the same subscribers, their sockets may tell that they take more.
                    (true, true) => next_turn.push(fanout),
                }
            }
        }
        self.listed.extend(next_turn);
    }

    /// Visits subscribers of a topic, at most so many; returns what it cost, in sends, and whether all have been visited.
    fn fan_out_topic(&mut self, fanout: u32, cost_max: usize) -> (usize, bool) {
        let mut served = Served::default();
        let (mut visits, mut cost) = (0, 0);
        // With other topics waiting, a connection that subscribes to several is written to once, at the end of the turn.
        let alone = self.listed.is_empty();
        let mut round_over = false;
        while cost < cost_max {
            let Some(visit) = self.next_visit(fanout) else {
                round_over = true;
                break;
            };
            visits += 1;
            cost += 1 + self.serve(fanout, visit, alone, &mut served);
            if visits % CLOCK_VISITS == 0 {
                self.record(fanout, &mut served);
            }
        }
        self.record(fanout, &mut served);
        (cost, round_over)
    }

    fn next_visit(&mut self, fanout: u32) -> Option<Visit> {
        let Self { fanouts, connections, .. } = self;
        fanouts.get_mut(fanout as usize)?.visit(|slot, place, index| {
            connections[slot as usize].subscriptions[place as usize].index = index;
        })
    }

    /// Gives one subscriber what it has not got yet: straight to its socket if nothing waits there, else to its queue, which
    /// costs what is returned, in sends.
    fn serve(&mut self, fanout: u32, visit: Visit, alone: bool, served: &mut Served) -> usize {
        let pieces = (visit.to - visit.from) as usize / ENQUEUED_PER_SEND;
        let connection = &self.connections[visit.slot as usize];
        let direct = connection.outbound.is_none()
            && connection.state == State::Open
            && (alone || connection.subscriptions.len() == 1);
        if !direct {
            self.enqueue_visit(fanout, visit);
            return pieces;
        }
        let Self { fanouts, connections, shared, shard, deflater, spare, sealing, .. } = self;
        let mut frames = shared.frames(*shard, deflater);
        let Burst::Whole(bytes) = fanouts[fanout as usize].burst(visit, &mut frames, spare) else {
            self.enqueue_visit(fanout, visit);
            return pieces;
        };
        let length = bytes.len();
        let connection = &mut connections[visit.slot as usize];
        let outcome = sealing.send(connection, bytes);
        let metrics = &shared.metrics[usize::from(self.shard)];
        match outcome {
            Ok(sent) => {
                metrics.writes.add(sent.writes);
                metrics.bytes_out.add(sent.bytes as u64);
                connection.bytes_out += sent.bytes as u64;
                match (sent.taken == length, sent.full) {
                    (true, false) => {
                        served.add(visit);
                        return 0;
                    }
                    // All of it is encrypted, and some of that waits for the socket.
                    (true, true) => {
                        served.add(visit);
                        self.block_sealed(visit.slot);
                    }
                    (false, _) => self.enqueue_rest(fanout, visit, sent.taken, served),
                }
            }
            Err(cause) => {
                metrics.writes.add(1);
                self.discard_visit(fanout, visit);
                self.end(visit.slot, cause);
            }
        }
        pieces
    }

    /// The socket has taken only so many bytes of a visit: the rest waits.
    fn enqueue_rest(&mut self, fanout: u32, mut visit: Visit, mut written: usize, served: &mut Served) {
        let Self { fanouts, shared, shard, .. } = self;
        let entry = &fanouts[fanout as usize];
        let mut whole = visit;
        whole.to = visit.from;
        let mut begun = None;
        for publication in entry.publications(visit) {
            let length = publication.encoded(visit.form).len();
            if written < length {
                begun = (written > 0).then(|| publication.clone());
                break;
            }
            written -= length;
            whole.to += 1;
        }
        served.add(whole);
        visit.from = whole.to;
        // Booked now: should the rest be too much for its queue, the connection ends, and perhaps the entry with it.
        served.book(entry, shared.clock.nanos(), &shared.metrics[usize::from(*shard)], usize::from(*shard));
        let (topic, shard) = (entry.topic().clone(), usize::from(*shard));
        self.block(visit.slot);
        if let Some(publication) = begun {
            self.outbound(visit.slot).push_begun(&topic, shard, &publication, visit.form, written);
            visit.from += 1;
        }
        self.enqueue_visit(fanout, visit);
    }

    /// The socket takes nothing for now.
    pub fn block(&mut self, slot: u32) {
        let connection = self.at(slot);
        let newly_behind = !connection.behind;
        connection.blocked = true;
        connection.behind = true;
        self.metrics().writes_blocked.add(1);
        if newly_behind {
            self.metrics().backlogged.add(1);
            let generation = self.at(slot).generation;
            self.backlog.push((slot, generation));
        }
        self.book_pending(slot);
    }

    /// Puts what a subscriber has not got yet into its queue, under its topic's policy.
    pub fn enqueue_visit(&mut self, fanout: u32, mut visit: Visit) {
        // Should the connection end below, so may the topic's entry.
        let topic = self.fanouts[fanout as usize].topic().clone();
        let discard = |visit: Visit, shard: u16| {
            topic.tally(usize::from(shard)).discarded.add(visit.to - visit.from);
        };
        while visit.from < visit.to {
            self.flush_if_large(visit.slot);
            if self.connections[visit.slot as usize].state != State::Open {
                return discard(visit, self.shard);
            }
            if self.enqueue_next(fanout, visit) == Enqueued::Overflow {
                discard(visit, self.shard);
                return self.close_now(visit.slot, CloseCause::SlowConsumer);
            }
            self.book_pending(visit.slot);
            visit.from += 1;
        }
        self.book_pending(visit.slot);
        self.mark_dirty(visit.slot);
    }

    fn enqueue_next(&mut self, fanout: u32, visit: Visit) -> Enqueued {
        self.outbound(visit.slot);
        let bounds = self.bounds(visit.slot);
        let Self { fanouts, connections, shared, shard, deflater, now, .. } = self;
        let mut frames = shared.frames(*shard, deflater);
        let entry = &fanouts[fanout as usize];
        let Some(publication) = entry.publications(visit).next() else { return Enqueued::Queued };
        let shard = usize::from(*shard);
        if publication.except().is_some_and(|id| id.slot == visit.slot && usize::from(id.shard) == shard) {
            entry.topic().tally(shard).drop(DropReason::Own, 1);
            return Enqueued::Queued;
        }
        let Some(outbound) = &mut connections[visit.slot as usize].outbound else { return Enqueued::Queued };
        if !outbound.refuses(entry.topic(), publication, bounds) {
            publication.encode(visit.form, &mut frames);
        }
        outbound.push_live(entry.topic(), shard, publication, visit.form, bounds, now.nanos)
    }

    /// A queue that is only waiting for the end of the turn is no sign of a slow consumer: it is written before it grows.
    pub fn flush_if_large(&mut self, slot: u32) {
        let connection = &self.connections[slot as usize];
        let large = connection.outbound.as_ref().is_some_and(|outbound| {
            outbound.bytes() > EAGER_FLUSH_BYTES || outbound.messages() >= EAGER_FLUSH_MESSAGES
        });
        if large && !connection.blocked {
            self.flush(slot);
        }
    }

    fn discard_visit(&mut self, fanout: u32, visit: Visit) {
        let entry = &self.fanouts[fanout as usize];
        entry.topic().tally(usize::from(self.shard)).discarded.add(visit.to - visit.from);
    }

    /// Puts everything a connection has not got yet of any topic into its queue: what follows must not overtake it.
    pub fn catch_up(&mut self, slot: u32) {
        if self.listed.is_empty() {
            return;
        }
        // Whichever is fewer: the topics with something new, or the subscriptions.
        if self.listed.len() < self.connections[slot as usize].subscriptions.len() {
            for at in 0..self.listed.len() {
                let Some(fanout) = self.listed.get(at).copied() else { return };
                if let Some(place) = self.connections[slot as usize].place_of(fanout) {
                    self.catch_up_with(slot, place);
                }
            }
        } else {
            for place in 0..self.connections[slot as usize].subscriptions.len() {
                self.catch_up_with(slot, place);
            }
        }
    }

    fn catch_up_with(&mut self, slot: u32, place: usize) {
        // The connection may have ended with the one before.
        let Some(subscription) = self.connections[slot as usize].subscriptions.get(place).copied() else { return };
        let visit = self.fanouts[subscription.fanout as usize].catch_up(subscription.index);
        if let Some(visit) = visit {
            self.enqueue_visit(subscription.fanout, visit);
        }
    }

    /// Puts what a connection's handler has published in front of what follows. No handler is called by this.
    pub fn keep_order(&mut self, slot: u32) {
        if std::mem::take(&mut self.connections[slot as usize].ahead) {
            self.take_inbox();
            self.catch_up(slot);
        }
    }

    /// Books what has been written since the last time, and lets go of publications whose round is over.
    fn record(&mut self, fanout: u32, served: &mut Served) {
        let Self { fanouts, shared, shard, spare, .. } = self;
        // Everything is booked before an entry goes, so that nothing is lost with it.
        let Some(entry) = fanouts.get_mut(fanout as usize) else { return };
        let shard = usize::from(*shard);
        let (nanos, metrics) = (shared.clock.nanos(), &shared.metrics[shard]);
        served.book(entry, nanos, metrics, shard);
        let mut settled = Settled::default();
        entry.settle(|publication| settled.add(publication, nanos, metrics), spare);
        settled.release(&shared.inboxes.0[shard]);
    }
}

/// Publications a shard is done with; their places in its inbox are free again. What is in a log counts as being in the
/// inbox, so that the bounds of the inbox bound the logs, too.
#[derive(Debug, Default)]
pub struct Settled {
    publications: usize,
    bytes: usize,
}

impl Settled {
    /// Another one.
    pub fn add(&mut self, publication: &Publication, nanos: u64, metrics: &ShardMetrics) {
        self.publications += 1;
        self.bytes += publication.weight();
        complete(publication, nanos, metrics);
    }

    /// Gives their places back.
    pub fn release(&self, inbox: &Inbox) {
        if self.publications > 0 {
            inbox.release(self.publications, self.bytes);
        }
    }
}

/// A shard has no visit to make for a publication any more; the last one to say so knows how long all took.
pub fn complete(publication: &Publication, nanos: u64, metrics: &ShardMetrics) {
    if publication.shard_done() {
        let took = clamp_latency(nanos.saturating_sub(publication.nanos()));
        metrics.latencies.lock().completion.saturating_record(took);
    }
}

/// Visits whose bytes the kernel has taken, until they are booked: from the lowest to the highest offset, with how many
/// subscribers got each range. Nearly always all got the same.
#[derive(Debug, Default)]
struct Served {
    deliveries: u64,
    ranges: SmallVec<[(u64, u64, u64); 4]>,
}

impl Served {
    /// Counts what has been written and how long it took.
    fn book(&mut self, entry: &Fanout, nanos: u64, metrics: &ShardMetrics, shard: usize) {
        let served = std::mem::take(self);
        if served.deliveries > 0 {
            entry.topic().tally(shard).written.add(served.deliveries);
            served.record(entry, nanos, metrics);
        }
    }

    fn add(&mut self, visit: Visit) {
        if visit.from == visit.to {
            return;
        }
        self.deliveries += visit.to - visit.from;
        match self.ranges.last_mut() {
            Some((from, to, times)) if (*from, *to) == (visit.from, visit.to) => *times += 1,
            _ => self.ranges.push((visit.from, visit.to, 1)),
        }
    }

    fn record(&self, entry: &Fanout, nanos: u64, metrics: &ShardMetrics) {
        let mut latencies = metrics.latencies.lock();
        for (from, to, times) in &self.ranges {
            for publication in entry.logged(*from, *to) {
                let took = clamp_latency(nanos.saturating_sub(publication.nanos()));
                latencies.delivery.saturating_record_n(took, *times);
            }
        }
    }
}
