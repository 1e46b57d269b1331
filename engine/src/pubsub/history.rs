//! The newest publications of a topic, for those who come late or come back. Bounded in messages, bytes and age.

use std::collections::VecDeque;
use std::sync::Arc;

use super::publication::Publication;
use super::settings::TopicSettings;

/// Publications with consecutive offsets, the newest last.
#[derive(Debug, Default)]
pub struct History {
    publications: VecDeque<Arc<Publication>>,
    bytes: usize,
}

impl History {
    /// Appends the newest publication and lets go of what the bounds no longer hold.
    pub fn append(&mut self, publication: Arc<Publication>, settings: &TopicSettings) {
        let nanos = publication.nanos();
        if settings.history_messages > 0 && publication.weight() <= settings.history_bytes {
            self.bytes += publication.weight();
            self.publications.push_back(publication);
        } else {
            // Without the newest the older ones could never make a whole recovery.
            self.clear();
        }
        while self.publications.len() > settings.history_messages || self.bytes > settings.history_bytes {
            self.pop();
        }
        self.expire(settings, nanos);
    }

    /// Lets go of what is older than `history_age`.
    pub fn expire(&mut self, settings: &TopicSettings, now_nanos: u64) {
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

    fn clear(&mut self) {
        self.publications.clear();
        self.bytes = 0;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pubsub::encoding::Encodings;
    use crate::pubsub::publication::{Epoch, Now};
    use crate::ws::Message;

    fn publication(offset: u64, nanos: u64) -> Arc<Publication> {
        let mut publication = Publication::new("t".into(), Message::Binary(&[0; 98]), &Encodings::default());
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
        let mut history = History::default();
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
        let mut history = History::default();
        let kept = settings(9, 150, 0);
        history.append(publication(1, 0), &kept);
        let mut large = Publication::new("t".into(), Message::Binary(&[0; 200]), &Encodings::default());
        large.sequence(Epoch(1), 2, Now::default(), 0);
        history.append(Arc::new(large), &kept);
        assert!(history.is_empty());
        history.append(publication(3, 0), &kept);
        assert!(history.since(1, 3).is_none());
        assert_eq!(history.since(2, 3).map(|found| offsets(&found)), Some(vec![3]));
    }
}
