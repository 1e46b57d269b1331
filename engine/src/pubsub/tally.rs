//! What became of every delivery: the counters of the conservation law, exact for each topic.
//!
//! `expected + replayed = written + conflated + dropped (by reason) + discarded + queued + in flight`, where *expected* is the
//! sum over all publications of the subscribers at sequencing, *replayed* what subscribing added from history, and *in
//! flight* what a shard has been handed but has not come to yet; it is zero as soon as the shards have caught up.

use crate::metrics::Count;

/// Why a publication was dropped for one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Policies `drop-oldest` and `conflate` at a bound.
    Oldest,
    /// Policy `drop-newest` at a bound, or a connection's total bound.
    Newest,
    /// It had waited longer than `pending_age`.
    Expired,
    /// It was the subscriber's own, published to all but oneself.
    Own,
    /// The subscription ended first.
    Unsubscribed,
}

impl DropReason {
    /// All reasons, in the order of their slots.
    pub const ALL: [Self; 5] = [Self::Oldest, Self::Newest, Self::Expired, Self::Own, Self::Unsubscribed];

    /// The label in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Newest => "newest",
            Self::Expired => "expired",
            Self::Own => "own",
            Self::Unsubscribed => "unsubscribed",
        }
    }
}

/// One shard's share of a topic's deliveries. Written by that shard only; on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Tally {
    /// Replays of history begun.
    pub replayed: Count,
    /// Taken by the kernel, whole.
    pub written: Count,
    /// Replaced by a newer publication of the same key.
    pub conflated: Count,
    /// Dropped, by reason.
    pub dropped: [Count; DropReason::ALL.len()],
    /// Not yet written when the connection ended.
    pub discarded: Count,
    /// Waiting in queues of connections.
    pub queued: Count,
}

impl Tally {
    /// Counts dropped deliveries.
    pub fn drop(&self, reason: DropReason, n: u64) {
        self.dropped[reason as usize].add(n);
    }
}

/// The sum of a topic's deliveries over all shards.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// Publications sequenced.
    pub publications: u64,
    /// Subscribers at sequencing, summed over all publications.
    pub expected: u64,
    /// Sent from history to new subscribers.
    pub replayed: u64,
    /// Taken by the kernel, whole.
    pub written: u64,
    /// Replaced by a newer publication of the same key while waiting.
    pub conflated: u64,
    /// Dropped as the oldest at a bound.
    pub dropped_oldest: u64,
    /// Dropped as the newest at a bound.
    pub dropped_newest: u64,
    /// Dropped after waiting too long.
    pub dropped_expired: u64,
    /// Not sent back to the publisher.
    pub dropped_own: u64,
    /// Dropped because the subscription ended.
    pub dropped_unsubscribed: u64,
    /// Not yet written when the connection ended.
    pub discarded: u64,
    /// Waiting in queues of connections.
    pub queued: u64,
    /// Handed to a shard that has not come to it yet.
    pub in_flight: u64,
}

impl Deliveries {
    /// Adds up shares, and derives what is still in flight.
    #[must_use]
    pub fn sum<'a>(publications: u64, expected: u64, tallies: impl Iterator<Item = &'a Tally>) -> Self {
        let mut sum = Self { publications, expected, ..Self::default() };
        for tally in tallies {
            let dropped = |reason: DropReason| tally.dropped[reason as usize].get();
            sum.replayed += tally.replayed.get();
            sum.written += tally.written.get();
            sum.conflated += tally.conflated.get();
            sum.dropped_oldest += dropped(DropReason::Oldest);
            sum.dropped_newest += dropped(DropReason::Newest);
            sum.dropped_expired += dropped(DropReason::Expired);
            sum.dropped_own += dropped(DropReason::Own);
            sum.dropped_unsubscribed += dropped(DropReason::Unsubscribed);
            sum.discarded += tally.discarded.get();
            sum.queued += tally.queued.get();
        }
        // Counters are read one after the other while shards go on: what is not yet accounted for is in flight.
        sum.in_flight = (sum.expected + sum.replayed).saturating_sub(sum.accounted());
        sum
    }

    /// Everything whose fate is known, and what waits in queues.
    #[must_use]
    pub fn accounted(&self) -> u64 {
        self.written + self.conflated + self.dropped() + self.discarded + self.queued
    }

    /// Dropped for whatever reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped_oldest + self.dropped_newest + self.dropped_expired + self.dropped_own + self.dropped_unsubscribed
    }

    /// Adds another topic's deliveries.
    pub fn merge(&mut self, other: &Self) {
        self.publications += other.publications;
        self.expected += other.expected;
        self.replayed += other.replayed;
        self.written += other.written;
        self.conflated += other.conflated;
        self.dropped_oldest += other.dropped_oldest;
        self.dropped_newest += other.dropped_newest;
        self.dropped_expired += other.dropped_expired;
        self.dropped_own += other.dropped_own;
        self.dropped_unsubscribed += other.dropped_unsubscribed;
        self.discarded += other.discarded;
        self.queued += other.queued;
        self.in_flight += other.in_flight;
    }
}
