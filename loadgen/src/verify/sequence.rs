//! What one subscriber has seen of a stream: how far it is, what it misses, what came twice.
//!
//! Invariant: of the publications from `base` to `next`, those in `missing` were not received and all others were, once
//! each; of those from `next` on none was. So what was received and what is lost are both known without being counted.

/// Missing ranges that are remembered of one stream; of more the oldest are given up: their publications stay lost, and
/// would count as duplicates if they still came.
const RANGES_MAX: usize = 512;

/// What a received publication is to its subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The expected one, or the first of all.
    InOrder,
    /// So many before it were skipped; it counts as received.
    Gap(u64),
    /// One that had been skipped.
    Reordered,
    /// Received before.
    Duplicate,
    /// From before the time that counts.
    Earlier,
}

/// One subscriber and one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    /// The first publication that counts; [`NOT_BEGUN`] until there is one.
    base: u64,
    next: u64,
    missing: Option<Box<Missing>>,
}

const NOT_BEGUN: u64 = u64::MAX;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Missing {
    /// Ordered, not empty, not touching: from, up to and without.
    ranges: Vec<(u64, u64)>,
    /// Publications in `ranges`, and those given up.
    count: u64,
}

impl Default for Tracker {
    fn default() -> Self {
        Self::from_first_seen(0)
    }
}

impl Tracker {
    /// Counts from publication `base` on: for a subscriber that was there before it was sent.
    pub fn from(base: u64) -> Self {
        Self { base, next: base, missing: None }
    }

    /// Counts from the first publication it sees: for a subscriber that came while publications were under way, about
    /// number `near`.
    pub fn from_first_seen(near: u64) -> Self {
        Self { base: NOT_BEGUN, next: near, missing: None }
    }

    /// Whether it is known from where it counts.
    pub fn has_begun(&self) -> bool {
        self.base != NOT_BEGUN
    }

    /// The publication after the latest received one; before it has begun, one that is near.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Takes a received publication.
    #[inline]
    pub fn see(&mut self, sequence: u64) -> Outcome {
        if sequence == self.next && self.has_begun() {
            self.next += 1;
            return Outcome::InOrder;
        }
        self.see_other(sequence)
    }

    #[cold]
    fn see_other(&mut self, sequence: u64) -> Outcome {
        if !self.has_begun() {
            (self.base, self.next) = (sequence, sequence + 1);
            return Outcome::InOrder;
        }
        if sequence > self.next {
            let skipped = sequence - self.next;
            self.missing.get_or_insert_default().add(self.next, sequence);
            self.next = sequence + 1;
            return Outcome::Gap(skipped);
        }
        if sequence < self.base {
            return Outcome::Earlier;
        }
        let filled = self.missing.as_mut().is_some_and(|missing| missing.fill(sequence));
        if filled { Outcome::Reordered } else { Outcome::Duplicate }
    }

    /// The first publication that counts, once it has begun.
    pub fn base(&self) -> Option<u64> {
        self.has_begun().then_some(self.base)
    }

    /// Publications it received, each once.
    pub fn received(&self) -> u64 {
        if self.has_begun() { self.next - self.base - self.missing() } else { 0 }
    }

    /// Publications it did not receive, of the first `published` of the stream.
    pub fn lost(&self, published: u64) -> u64 {
        if self.has_begun() { self.missing() + published.saturating_sub(self.next) } else { 0 }
    }

    /// Publications skipped and not received since.
    pub fn missing(&self) -> u64 {
        self.missing.as_ref().map_or(0, |missing| missing.count)
    }
}

impl Missing {
    /// Adds a range behind all others.
    fn add(&mut self, from: u64, to: u64) {
        if self.ranges.len() == RANGES_MAX {
            self.ranges.remove(0);
        }
        self.ranges.push((from, to));
        self.count += to - from;
    }

    /// Whether `sequence` was missing; now it is not.
    fn fill(&mut self, sequence: u64) -> bool {
        let index = self.ranges.partition_point(|(_, to)| *to <= sequence);
        let Some((from, to)) = self.ranges.get(index).copied().filter(|(from, _)| *from <= sequence) else {
            return false;
        };
        match (from == sequence, sequence + 1 == to) {
            (true, true) => {
                self.ranges.remove(index);
            }
            (true, false) => self.ranges[index].0 = sequence + 1,
            (false, true) => self.ranges[index].1 = sequence,
            // Splitting would be one range too many: the older half is given up.
            (false, false) if self.ranges.len() == RANGES_MAX => self.ranges[index].0 = sequence + 1,
            (false, false) => {
                self.ranges[index].1 = sequence;
                self.ranges.insert(index + 1, (sequence + 1, to));
            }
        }
        self.count -= 1;
        true
    }
}

/// One subscriber and all streams of its topic. Most topics have one stream, which is kept in place.
#[derive(Debug, Default)]
pub struct Trackers {
    first: Tracker,
    others: Box<[Tracker]>,
}

impl Trackers {
    /// One tracker for each of a topic's streams.
    pub fn new(trackers: impl IntoIterator<Item = Tracker>) -> Self {
        let mut trackers = trackers.into_iter();
        Self { first: trackers.next().unwrap_or_default(), others: trackers.collect() }
    }

    /// The tracker of the topic's first stream.
    #[inline]
    pub fn first(&mut self) -> &mut Tracker {
        &mut self.first
    }

    /// The tracker of the topic's stream number `index`.
    pub fn get(&mut self, index: usize) -> Option<&mut Tracker> {
        match index.checked_sub(1) {
            None => Some(&mut self.first),
            Some(other) => self.others.get_mut(other),
        }
    }

    /// Puts others in their place, made from the number of each within its topic.
    pub fn reset(&mut self, mut tracker: impl FnMut(usize) -> Tracker) {
        self.first = tracker(0);
        self.others.iter_mut().enumerate().for_each(|(index, other)| *other = tracker(index + 1));
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Tracker> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Remembers everything.
    struct Model {
        base: Option<u64>,
        seen: BTreeSet<u64>,
    }

    impl Model {
        fn see(&mut self, sequence: u64) -> Outcome {
            let base = *self.base.get_or_insert(sequence);
            let next = self.seen.last().map_or(base, |last| last + 1);
            if sequence < base {
                return Outcome::Earlier;
            }
            match (self.seen.insert(sequence), sequence.cmp(&next)) {
                (false, _) => Outcome::Duplicate,
                (true, std::cmp::Ordering::Less) => Outcome::Reordered,
                (true, std::cmp::Ordering::Equal) => Outcome::InOrder,
                (true, std::cmp::Ordering::Greater) => Outcome::Gap(sequence - next),
            }
        }
    }

    fn agree(mut tracker: Tracker, mut model: Model, sequences: &[u64]) -> Result<(), TestCaseError> {
        for &sequence in sequences {
            prop_assert_eq!(tracker.see(sequence), model.see(sequence), "{}", sequence);
            prop_assert_eq!(tracker.received(), model.seen.len() as u64);
        }
        let published = model.seen.last().map_or(0, |last| last + 3).max(model.base.unwrap_or(0));
        let expected = model.base.map_or(0, |base| published - base);
        prop_assert_eq!(tracker.received() + tracker.lost(published), expected);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_tracker_agrees_with_one_that_remembers_everything(
            base in prop::option::of(0_u64..20),
            sequences in prop::collection::vec(0_u64..60, 0..120),
        ) {
            let tracker = base.map_or_else(|| Tracker::from_first_seen(9), Tracker::from);
            agree(tracker, Model { base, seen: BTreeSet::new() }, &sequences)?;
        }

        #[test]
        fn in_order_with_a_few_disturbances_agrees_too(swaps in prop::collection::vec((0_usize..300, 1_usize..10), 0..30)) {
            let mut sequences: Vec<u64> = (5..305).collect();
            for (at, distance) in swaps {
                sequences.swap(at, (at + distance).min(299));
            }
            agree(Tracker::from(5), Model { base: Some(5), seen: BTreeSet::new() }, &sequences)?;
        }

        #[test]
        fn memory_is_bounded_and_the_sum_stays_right_when_everything_is_full_of_holes(
            step in 2_u64..9,
            late in prop::collection::vec(0_u64..20_000, 0..200),
        ) {
            let mut tracker = Tracker::from(0);
            let _ = (0..20_000).step_by(step as usize).map(|sequence| tracker.see(sequence)).last();
            let _ = late.into_iter().map(|sequence| tracker.see(sequence)).last();
            prop_assert!(tracker.missing.as_ref().unwrap().ranges.len() <= RANGES_MAX);
            prop_assert_eq!(tracker.received() + tracker.lost(20_000), 20_000);
        }
    }

    #[test]
    fn a_subscriber_is_small() {
        assert!(size_of::<Trackers>() <= 40, "{}", size_of::<Trackers>());
    }
}
