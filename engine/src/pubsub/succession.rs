//! A topic changes the process that gives its offsets: it is surrendered by one and installed in the other, with epoch,
//! offset and history, so that positions go on to mean the same. The old process then follows the new one for the
//! subscribers it still has.

use std::sync::Arc;

use super::publication::{Epoch, Now, Publication};
use super::topic::{Inboxes, Topic, reserve_all};

/// What a topic is when it changes hands.
#[derive(Debug)]
pub struct Estate {
    /// Its present life.
    pub epoch: Epoch,
    /// The newest offset; 0 before the first publication.
    pub offset: u64,
    /// What is kept, oldest first.
    pub history: Vec<Arc<Publication>>,
}

/// What became of a publication that was given its place elsewhere.
#[derive(Debug)]
#[must_use]
pub enum Followed {
    /// It is on its way to the subscribers here.
    Delivered,
    /// An inbox is full: here it is back, to be tried again soon.
    NoRoom(Arc<Publication>),
    /// It is not the next one of this topic's life, or the topic is not followed: its subscribers here do not get it, and
    /// find out by their position when they come back.
    NotNext,
}

impl Topic {
    /// Gives no more offsets from now on, and tells what there is.
    pub fn surrender(&self, now: Now) -> Estate {
        let mut sequencer = self.sequencer.lock();
        sequencer.surrendered = true;
        sequencer.fit(now);
        Estate { epoch: self.epoch(), offset: sequencer.offset, history: sequencer.history.last(usize::MAX) }
    }

    /// Gives offsets again: the other process has not taken over.
    pub fn reclaim(&self) {
        self.sequencer.lock().surrendered = false;
    }

    /// Begins where another process has left off. For a topic that nobody has published to.
    pub(super) fn inherit(&self, offset: u64, history: Vec<Arc<Publication>>, surrendered: bool, now: Now) {
        let mut sequencer = self.sequencer.lock();
        sequencer.offset = offset;
        sequencer.surrendered = surrendered;
        sequencer.used_at = now.nanos;
        for publication in history {
            sequencer.keep(publication);
        }
        sequencer.fit(now);
    }

    /// Hands a publication that has its place from another process to every shard with a subscriber.
    ///
    /// # Panics
    /// If the publication is shared already.
    pub fn follow(self: &Arc<Self>, mut publication: Arc<Publication>, now: Now, inboxes: &dyn Inboxes) -> Followed {
        let mut sequencer = self.sequencer.lock();
        let is_next = publication.epoch() == self.epoch() && publication.offset() == sequencer.offset + 1;
        if sequencer.gone || !sequencer.surrendered || !is_next {
            return Followed::NotNext;
        }
        let interested = sequencer.interested();
        if !reserve_all(inboxes, &interested, publication.weight()) {
            return Followed::NoRoom(publication);
        }
        sequencer.offset += 1;
        sequencer.used_at = now.nanos;
        sequencer.pace.count(now.nanos);
        sequencer.expected += u64::from(sequencer.subscribers);
        Arc::get_mut(&mut publication).expect("a new publication is not shared").spread(interested.len() as u32);
        for shard in &interested {
            inboxes.push(usize::from(*shard), self, &publication);
        }
        // There may be one before this one that still has subscribers.
        inboxes.mirror(&publication);
        sequencer.keep(publication);
        drop(sequencer);
        for shard in &interested {
            inboxes.wake(usize::from(*shard));
        }
        Followed::Delivered
    }
}
