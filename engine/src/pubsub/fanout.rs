//! One shard's share of a topic: its subscribers, the publications not all of them have got yet, and a cursor that goes
//! round and round among the subscribers.
//!
//! A round may be left at any subscriber and resumed later; publications that come meanwhile join the visits not yet made.
//! So what arrives together leaves together, whoever is behind the cursor gets it one round later, and nobody is always
//! last. The frames of publications that wait together lie one after the other in one buffer per form, so that a visit
//! needs one plain `send`.
//!
//! The log is a window: what comes while it is full waits behind it. Invariants: offsets are consecutive; a publication leaves the log when the cursor has come back to where it
//! stood when the publication came; the order of subscribers changes only by taking out those that have left, when the
//! cursor passes the start or nothing is in the log.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::form::{Form, Frames};
use super::publication::Publication;
use super::topic::Topic;

/// So much of the log is being visited for at a time; what comes behind it waits until a round is over. Bounds the batches,
/// and the time a visit takes.
const WINDOW_BYTES: usize = 128 << 10;
const WINDOW_MESSAGES: usize = if cfg!(test) { 8 } else { 1024 };
/// Frames larger than this are sent as they are and never copied into a batch.
const BATCHED_FRAME_BYTES_MAX: usize = 16 << 10;
/// Buffers a shard keeps for batches to come, and how large they may be.
const SPARE_MAX: usize = 16;
const SPARE_BYTES_MAX: usize = 1 << 20;
/// A batch larger than this is not sent in one piece: it would only be cut by the socket.
const BATCH_BYTES_MAX: u64 = 256 << 10;

/// A connection's place among a topic's subscribers on its shard.
#[derive(Debug, Clone, Copy)]
struct Subscriber {
    slot: u32,
    /// Where the connection keeps this subscription.
    place: u32,
    form: Form,
    live: bool,
    /// The next offset it is to get.
    next: u64,
}

#[derive(Debug)]
struct Logged {
    publication: Arc<Publication>,
    /// Where the cursor stood when it came.
    lap: u64,
    index: usize,
}

/// What a batch is made of, lent to it by the shard and given back empty.
#[derive(Debug, Default)]
pub struct Buffers {
    bytes: Vec<u8>,
    ends: VecDeque<u64>,
}

/// The frames of the log in one form, end to end.
#[derive(Debug)]
struct Batch {
    form: Form,
    bytes: Vec<u8>,
    /// The position of `bytes[0]` since the batch began.
    base: u64,
    /// The offset of the publication whose frame `ends[0]` ends, and where that frame starts.
    first: u64,
    start: u64,
    ends: VecDeque<u64>,
}

impl Batch {
    fn next_offset(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    fn end(&self) -> u64 {
        self.ends.back().copied().unwrap_or(self.start)
    }

    fn append(&mut self, frame: &[u8]) {
        self.bytes.extend_from_slice(frame);
        self.ends.push_back(self.end() + frame.len() as u64);
    }

    /// Where the frame of an offset starts.
    fn start_of(&self, offset: u64) -> u64 {
        match offset.checked_sub(self.first + 1) {
            None => self.start,
            Some(before) => self.ends[before as usize],
        }
    }

    /// Lets go of the frames before an offset.
    fn trim(&mut self, before: u64) {
        while self.first < before {
            match self.ends.pop_front() {
                Some(end) => self.start = end,
                None => {
                    self.first = before;
                    break;
                }
            }
            self.first += 1;
        }
        if self.ends.is_empty() {
            self.bytes.clear();
            self.base = self.start;
        } else {
            let unused = (self.start - self.base) as usize;
            if unused > self.bytes.len() / 2 && unused > (64 << 10) {
                self.bytes.drain(..unused);
                self.base = self.start;
            }
        }
    }
}

/// A subscriber to be served, and the publications it is to get: `from..to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// The connection's slot on the shard.
    pub slot: u32,
    /// What its frames look like.
    pub form: Form,
    /// The first offset.
    pub from: u64,
    /// One past the last offset.
    pub to: u64,
}

/// The bytes of a visit.
#[derive(Debug)]
pub enum Burst<'a> {
    /// All frames in one piece.
    Whole(&'a [u8]),
    /// They have to be taken one by one, see [`Fanout::publications`].
    Pieces,
}

/// A shard's subscribers of a topic, and what they have not got yet.
#[derive(Debug)]
pub struct Fanout {
    topic: Arc<Topic>,
    subscribers: Vec<Subscriber>,
    live: usize,
    log: VecDeque<Logged>,
    log_bytes: usize,
    /// What comes behind the log, until there is room in the window.
    waiting: VecDeque<Arc<Publication>>,
    /// The offset of the oldest publication in the log.
    first: u64,
    /// Publications before this offset concern no subscriber.
    floor: u64,
    lap: u64,
    cursor: usize,
    batches: SmallVec<[Batch; 1]>,
    /// Publications in the log that leave somebody out, or are too large to copy.
    excluding: usize,
    large: usize,
    /// Whether the shard has it on its list of topics with something to do.
    pub(crate) listed: bool,
}

impl Fanout {
    /// Nobody yet; publications before `floor` concern nobody who will come.
    #[must_use]
    pub fn new(topic: Arc<Topic>, floor: u64) -> Self {
        Self {
            topic,
            subscribers: Vec::new(),
            live: 0,
            log: VecDeque::new(),
            log_bytes: 0,
            waiting: VecDeque::new(),
            first: floor,
            floor,
            lap: 0,
            cursor: 0,
            batches: SmallVec::new(),
            excluding: 0,
            large: 0,
            listed: false,
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// How many subscribers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether somebody may have to be visited.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.log.is_empty()
    }

    /// One past the newest offset in the log.
    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    /// One past the newest offset that has come.
    fn end_of_all(&self) -> u64 {
        self.end() + self.waiting.len() as u64
    }

    /// A publication of the log or behind it.
    fn publication(&self, offset: u64) -> &Arc<Publication> {
        let at = (offset - self.first) as usize;
        match self.log.get(at) {
            Some(logged) => &logged.publication,
            None => &self.waiting[at - self.log.len()],
        }
    }

    /// Adds a subscriber that gets everything from `next` on; its connection keeps the subscription at `place`. Returns its
    /// index, which [`remove`](Self::remove) wants.
    pub fn add(&mut self, slot: u32, place: u32, form: Form, next: u64) -> u32 {
        self.subscribers.push(Subscriber { slot, place, form, live: true, next });
        self.live += 1;
        (self.subscribers.len() - 1) as u32
    }

    /// The connection keeps the subscription at another place.
    pub fn set_place(&mut self, index: u32, place: u32) {
        self.subscribers[index as usize].place = place;
    }

    /// Takes a subscriber out. Returns the next offset it would have got. `moved` is told slot, place and new index of every
    /// subscriber that gets another index.
    pub fn remove(&mut self, index: u32, moved: impl FnMut(u32, u32, u32)) -> u64 {
        let subscriber = &mut self.subscribers[index as usize];
        debug_assert!(subscriber.live);
        subscriber.live = false;
        let next = subscriber.next;
        self.live -= 1;
        if self.log.is_empty() && self.subscribers.len() > 2 * self.live + 8 {
            self.compact(moved);
            self.cursor = 0;
        }
        next
    }

    /// Closes the gaps of those that have left; the places in the log move along.
    fn compact(&mut self, mut moved: impl FnMut(u32, u32, u32)) {
        // Those of an earlier lap are done; those of this one came in the order of the cursor.
        let lap = self.lap;
        let mut waiting = self.log.iter_mut().filter(|logged| logged.lap == lap && logged.index > 0).peekable();
        let mut kept = 0;
        for index in 0..self.subscribers.len() {
            while waiting.peek().is_some_and(|logged| logged.index == index) {
                waiting.next().expect("just seen").index = kept;
            }
            if self.subscribers[index].live {
                if kept != index {
                    self.subscribers[kept] = self.subscribers[index];
                    let Subscriber { slot, place, .. } = self.subscribers[kept];
                    moved(slot, place, kept as u32);
                }
                kept += 1;
            }
        }
        for logged in waiting {
            logged.index = kept;
        }
        self.subscribers.truncate(kept);
    }

    /// Takes a publication from the inbox. False if it concerns nobody here: its round is over at once.
    pub fn push(&mut self, publication: Arc<Publication>) -> bool {
        let offset = publication.offset();
        if offset < self.floor || self.live == 0 {
            return false;
        }
        if self.log.is_empty() {
            self.first = offset;
            // Another start each time, so that no subscriber is always the last: the golden ratio spreads the starts.
            self.cursor = (self.cursor + self.subscribers.len() * 618 / 1000 + 1) % self.subscribers.len();
        }
        debug_assert_eq!(offset, self.end_of_all(), "publications of a topic come in order and without a gap");
        self.waiting.push_back(publication);
        self.fill_window();
        true
    }

    /// Moves what waits behind the log into it, as far as the window has room: one publication always.
    fn fill_window(&mut self) {
        while let Some(next) = self.waiting.front() {
            let full = self.log.len() >= WINDOW_MESSAGES || self.log_bytes + next.weight() > WINDOW_BYTES;
            if full && !self.log.is_empty() {
                break;
            }
            let (excludes, large) = traits(next);
            self.excluding += usize::from(excludes);
            self.large += usize::from(large);
            self.log_bytes += next.weight();
            let Some(publication) = self.waiting.pop_front() else { break };
            self.log.push_back(Logged { publication, lap: self.lap, index: self.cursor });
        }
    }

    /// The next subscriber that has something to get, after the cursor; it counts as served. `None` when all have got all.
    /// `moved` as in [`remove`](Self::remove).
    pub fn visit(&mut self, mut moved: impl FnMut(u32, u32, u32)) -> Option<Visit> {
        while self.log.back().is_some_and(|newest| !self.is_done(newest)) {
            let (first, end) = (self.first, self.end());
            let subscriber = &mut self.subscribers[self.cursor];
            let visit =
                Visit { slot: subscriber.slot, form: subscriber.form, from: subscriber.next.max(first), to: end };
            let wanted = subscriber.live && visit.from < end;
            subscriber.next = subscriber.next.max(end);
            self.advance(&mut moved);
            if wanted {
                return Some(visit);
            }
        }
        None
    }

    /// Whether the cursor has come back to where it stood when a publication came.
    fn is_done(&self, logged: &Logged) -> bool {
        self.live == 0 || (self.lap, self.cursor) >= (logged.lap + 1, logged.index)
    }

    fn advance(&mut self, moved: impl FnMut(u32, u32, u32)) {
        self.cursor += 1;
        if self.cursor == self.subscribers.len() {
            if self.subscribers.len() > self.live {
                self.compact(moved);
            }
            self.cursor = 0;
            self.lap += 1;
        }
    }

    /// Lets go of publications that everybody has been visited for; `done` is told of each. Buffers that are no longer
    /// needed go to `spare`.
    pub fn settle(&mut self, mut done: impl FnMut(&Publication), spare: &mut Vec<Buffers>) {
        let before = self.first;
        while let Some(oldest) = self.log.front().filter(|oldest| self.is_done(oldest)) {
            let (excludes, large) = traits(&oldest.publication);
            done(&oldest.publication);
            self.excluding -= usize::from(excludes);
            self.large -= usize::from(large);
            self.log_bytes -= oldest.publication.weight();
            self.log.pop_front();
            self.first += 1;
            if self.log.is_empty() {
                self.fill_window();
            }
        }
        if self.first != before {
            self.fill_window();
            for batch in &mut self.batches {
                batch.trim(self.first);
            }
        }
        if self.log.is_empty() {
            for batch in self.batches.drain(..) {
                let Batch { mut bytes, mut ends, .. } = batch;
                if spare.len() < SPARE_MAX && bytes.capacity() <= SPARE_BYTES_MAX {
                    bytes.clear();
                    ends.clear();
                    spare.push(Buffers { bytes, ends });
                }
            }
        }
    }

    /// What one subscriber has not got yet; it counts as served. For what must not overtake it.
    pub fn catch_up(&mut self, index: u32) -> Option<Visit> {
        let (first, end) = (self.first, self.end_of_all());
        let subscriber = &mut self.subscribers[index as usize];
        let from = subscriber.next.max(first);
        if self.log.is_empty() || from >= end {
            return None;
        }
        subscriber.next = end;
        Some(Visit { slot: subscriber.slot, form: subscriber.form, from, to: end })
    }

    /// The publications of a visit.
    pub fn publications(&self, visit: Visit) -> impl Iterator<Item = &Arc<Publication>> {
        (visit.from..visit.to).map(|offset| self.publication(offset))
    }

    /// The bytes of a visit, in one piece if that is worth it.
    pub fn burst(&mut self, visit: Visit, frames: &mut Frames<'_>, spare: &mut Vec<Buffers>) -> Burst<'_> {
        if visit.to > self.end() {
            return Burst::Pieces;
        }
        if self.excluding > 0 && self.publications(visit).any(|p| p.except().is_some_and(|id| id.slot == visit.slot)) {
            return Burst::Pieces;
        }
        if visit.to - visit.from == 1 {
            return Burst::Whole(self.publication(visit.from).encode(visit.form, frames));
        }
        if self.large > 0 {
            return Burst::Pieces;
        }
        let batch = self.batch(visit.form, frames, spare);
        let (start, end) = (self.batches[batch].start_of(visit.from), self.batches[batch].start_of(visit.to));
        if end - start > BATCH_BYTES_MAX {
            return Burst::Pieces;
        }
        let batch = &self.batches[batch];
        Burst::Whole(&batch.bytes[(start - batch.base) as usize..(end - batch.base) as usize])
    }

    /// The batch of a form, complete up to the newest publication.
    fn batch(&mut self, form: Form, frames: &mut Frames<'_>, spare: &mut Vec<Buffers>) -> usize {
        let index = self.batches.iter().position(|batch| batch.form == form).unwrap_or_else(|| {
            let Buffers { bytes, ends } = spare.pop().unwrap_or_default();
            self.batches.push(Batch { form, bytes, base: 0, first: self.first, start: 0, ends });
            self.batches.len() - 1
        });
        let batch = &mut self.batches[index];
        batch.trim(self.first);
        let missing = (batch.next_offset() - self.first) as usize;
        for logged in self.log.range(missing..) {
            batch.append(logged.publication.encode(form, frames));
        }
        index
    }

    /// Publications of the log by their offsets; those no longer there are left out.
    pub fn logged(&self, from: u64, to: u64) -> impl Iterator<Item = &Arc<Publication>> {
        let start = from.clamp(self.first, self.end()) - self.first;
        let end = to.clamp(self.first, self.end()) - self.first;
        self.log.range(start as usize..(end as usize).max(start as usize)).map(|logged| &logged.publication)
    }

    /// The slots of all subscribers.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.subscribers.iter().filter(|subscriber| subscriber.live).map(|subscriber| subscriber.slot)
    }
}

/// Whether a publication leaves somebody out, and whether it is too large to copy.
fn traits(publication: &Publication) -> (bool, bool) {
    (publication.except().is_some(), publication.weight() > BATCHED_FRAME_BYTES_MAX)
}

#[cfg(test)]
#[path = "fanout_tests.rs"]
mod tests;
