//! The newest publications of a topic, for those who come late or come back. Bounded in messages, bytes and age; all
//! histories together are bounded in bytes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::publication::Publication;
use super::settings::TopicSettings;

/// What all histories keep together, and may keep.
#[derive(Debug, Default)]
pub struct Budget {
    /// Bytes kept.
    bytes: AtomicUsize,
    /// Bytes that may be kept; 0 is without limit.
    limit: AtomicUsize,
    /// Histories are giving up their shares of what is kept beyond it.
    shrinking: AtomicBool,
    /// Publications given up for it.
    evicted: AtomicU64,
}

impl Budget {
    /// A budget of so many bytes; 0 is without limit.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit: AtomicUsize::new(limit), ..Self::default() }
    }

    /// Changes the limit. What is kept beyond it is given up by `Topics::shrink_histories`.
    pub fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Bytes kept by all histories.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Publications given up for the limit so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// How many bytes too many are kept, with so many more.
    fn excess(&self, more: usize) -> usize {
        match self.limit.load(Ordering::Relaxed) {
            0 => 0,
            limit => (self.bytes() + more).saturating_sub(limit),
        }
    }

    /// As [`exceeded`](Self::exceeded), for whoever has all histories give up their shares of it next, until
    /// [`end_to_shrink`](Self::end_to_shrink); `None` also while somebody else is at it.
    pub fn begin_to_shrink(&self) -> Option<(usize, usize)> {
        if self.shrinking.swap(true, Ordering::Relaxed) {
            return None;
        }
        let exceeded = self.exceeded();
        self.shrinking.store(exceeded.is_some(), Ordering::Relaxed);
        exceeded
    }

    /// All have given up their shares.
    pub fn end_to_shrink(&self) {
        self.shrinking.store(false, Ordering::Relaxed);
    }

    /// The limit, and what is kept, if that is more.
    #[must_use]
    pub fn exceeded(&self) -> Option<(usize, usize)> {
        let (limit, bytes) = (self.limit.load(Ordering::Relaxed), self.bytes());
        (limit > 0 && bytes > limit).then_some((limit, bytes))
    }

    fn book(&self, before: usize, after: usize) {
        // Mostly as much goes as comes: then nobody's cache line moves.
        if after > before {
            self.bytes.fetch_add(after - before, Ordering::Relaxed);
        } else if before > after {
            self.bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

/// Publications with consecutive offsets, the newest last.
#[derive(Debug)]
pub struct History {
    publications: VecDeque<Arc<Publication>>,
    bytes: usize,
    budget: Arc<Budget>,
}

impl History {
    /// Nothing yet; what will be kept counts in a budget.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Self {
        Self { publications: VecDeque::new(), bytes: 0, budget }
    }

    /// Appends the newest publication and lets go of what the bounds no longer hold.
    pub fn append(&mut self, publication: Arc<Publication>, settings: &TopicSettings) {
        let (nanos, before) = (publication.nanos(), self.bytes);
        if settings.history_messages > 0 && publication.weight() <= settings.history_bytes {
            self.bytes += publication.weight();
            self.publications.push_back(publication);
        } else {
            // Without the newest the older ones could never make a whole recovery.
            self.publications.clear();
            self.bytes = 0;
        }
        self.drop_beyond(settings, nanos);
        // The newest goes, too, if all others need the room: a limit is a limit.
        let excess = self.budget.excess(self.bytes.saturating_sub(before));
        self.give_up(if self.bytes > before { excess } else { 0 });
        self.budget.book(before, self.bytes);
    }

    /// Lets go of what settings no longer allow: they have changed, or time has passed.
    pub fn fit(&mut self, settings: &TopicSettings, now_nanos: u64) {
        let before = self.bytes;
        self.drop_beyond(settings, now_nanos);
        self.budget.book(before, self.bytes);
    }

    /// Gives up the oldest, so many bytes at least if there are so many, for the budget's sake.
    pub fn give_back(&mut self, bytes: usize) {
        let before = self.bytes;
        self.give_up(bytes);
        self.budget.book(before, self.bytes);
    }

    fn give_up(&mut self, bytes: usize) {
        let (keep, before) = (self.bytes.saturating_sub(bytes), self.publications.len());
        while self.bytes > keep {
            self.pop();
        }
        let evicted = before - self.publications.len();
        if evicted > 0 {
            self.budget.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
        }
    }

    fn drop_beyond(&mut self, settings: &TopicSettings, now_nanos: u64) {
        while self.publications.len() > settings.history_messages || self.bytes > settings.history_bytes {
            self.pop();
        }
        let age = settings.history_age.as_nanos() as u64;
        while age > 0 && self.publications.front().is_some_and(|oldest| now_nanos.saturating_sub(oldest.nanos()) > age)
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.publications.pop_front() {
            self.bytes -= oldest.weight();
        }
    }

    /// Forgets everything; returns how many publications that were.
    pub fn clear(&mut self) -> usize {
        self.budget.book(self.bytes, 0);
        self.bytes = 0;
        // A new one, as the memory of a long history is not needed for a short one.
        std::mem::take(&mut self.publications).len()
    }

    /// Everything after `offset`, or `None` if a part of it is gone. `newest` is the topic's last offset.
    #[must_use]
    pub fn since(&self, offset: u64, newest: u64) -> Option<Vec<Arc<Publication>>> {
        if offset >= newest {
            return (offset == newest).then(Vec::new);
        }
        let oldest = self.publications.front()?.offset();
        let skip = (offset + 1).checked_sub(oldest)?;
        Some(self.publications.iter().skip(skip as usize).cloned().collect())
    }

    /// The last publications, at most `messages`, the newest last.
    #[must_use]
    pub fn last(&self, messages: usize) -> Vec<Arc<Publication>> {
        let skip = self.publications.len().saturating_sub(messages);
        self.publications.iter().skip(skip).cloned().collect()
    }

    /// How many publications are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.publications.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.publications.is_empty()
    }

    /// Bytes of frames kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pubsub::encoding::Encodings;
    use crate::pubsub::publication::{Epoch, Now};
    use crate::ws::Message;

    fn publication(offset: u64, nanos: u64) -> Arc<Publication> {
        let mut publication = Publication::new("t".into(), Message::Binary(&[0; 98]), &Encodings::default(), 0);
        publication.sequence(Epoch(1), offset, Now { nanos, unix_ms: 0 }, 0);
        Arc::new(publication)
    }

    fn offsets(publications: &[Arc<Publication>]) -> Vec<u64> {
        publications.iter().map(|publication| publication.offset()).collect()
    }

    fn settings(messages: usize, bytes: usize, age_ns: u64) -> TopicSettings {
        TopicSettings {
            history_messages: messages,
            history_bytes: bytes,
            history_age: Duration::from_nanos(age_ns),
            ..TopicSettings::default()
        }
    }

    #[test]
    fn every_bound_holds_and_recovery_is_whole_or_refused() {
        let mut history = History::new(Arc::default());
        for (settings, kept) in [(settings(3, 10_000, 0), 3), (settings(9, 250, 0), 2), (settings(9, 10_000, 25), 3)] {
            for offset in 1..=10 {
                history.append(publication(offset, offset * 10), &settings);
            }
            assert_eq!(history.len(), kept);
            assert_eq!(history.bytes(), kept * 100);
            let oldest = 11 - kept as u64;
            for offset in 0..=12 {
                let expected = (offset + 1 >= oldest && offset <= 10).then(|| (offset + 1..=10).collect::<Vec<_>>());
                assert_eq!(history.since(offset, 10).map(|found| offsets(&found)), expected, "since {offset}");
            }
            assert_eq!(offsets(&history.last(2)), [9, 10]);
            history.clear();
        }
    }

    #[test]
    fn what_is_too_large_to_keep_leaves_no_hole() {
        let mut history = History::new(Arc::default());
        let kept = settings(9, 150, 0);
        history.append(publication(1, 0), &kept);
        let mut large = Publication::new("t".into(), Message::Binary(&[0; 200]), &Encodings::default(), 0);
        large.sequence(Epoch(1), 2, Now::default(), 0);
        history.append(Arc::new(large), &kept);
        assert!(history.is_empty());
        history.append(publication(3, 0), &kept);
        assert!(history.since(1, 3).is_none());
        assert_eq!(history.since(2, 3).map(|found| offsets(&found)), Some(vec![3]));
    }

    #[test]
    fn all_histories_together_keep_to_the_budget_and_each_gives_up_its_own_oldest() {
        let budget = Arc::new(Budget::new(1000));
        let (mut first, mut second) = (History::new(budget.clone()), History::new(budget.clone()));
        let keep = settings(100, 100_000, 0);
        for offset in 1..=6 {
            first.append(publication(offset, 0), &keep);
        }
        for offset in 1..=20 {
            second.append(publication(offset, 0), &keep);
        }
        assert_eq!((first.bytes(), second.bytes(), budget.bytes()), (600, 400, 1000));
        assert_eq!(offsets(&second.last(100)), [17, 18, 19, 20], "its own oldest");
        assert_eq!(budget.evicted(), 16);
        // Room that others need is not there for the newest either.
        let mut third = History::new(budget.clone());
        third.append(publication(1, 0), &keep);
        assert_eq!((third.len(), budget.bytes(), budget.evicted()), (0, 1000, 17));
        assert_eq!(first.clear(), 6);
        third.append(publication(2, 0), &keep);
        assert_eq!((third.len(), budget.bytes()), (1, 500));
        drop(second);
        assert_eq!(budget.bytes(), 100);
    }

    #[test]
    fn settings_that_allow_less_let_go_of_the_oldest() {
        let budget = Arc::new(Budget::default());
        let mut history = History::new(budget.clone());
        for offset in 1..=10 {
            history.append(publication(offset, offset * 10), &settings(10, 10_000, 0));
        }
        history.fit(&settings(7, 10_000, 0), 100);
        assert_eq!(offsets(&history.last(99)), [4, 5, 6, 7, 8, 9, 10]);
        history.fit(&settings(7, 550, 0), 100);
        assert_eq!(history.len(), 5);
        history.fit(&settings(7, 550, 25), 100);
        assert_eq!(history.len(), 3);
        history.give_back(150);
        assert_eq!((history.len(), budget.bytes(), budget.evicted()), (1, 100, 2));
        history.fit(&settings(0, 550, 0), 100);
        assert_eq!((history.len(), budget.bytes()), (0, 0));
    }
}
