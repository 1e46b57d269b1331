//! The queue of one connection: what its socket has not taken yet. Exists only while there is something in it.
//!
//! One queue in one order, whatever the topics; each topic's share of it (a *lane*) is bounded by that topic's settings and
//! handled by its policy, the whole by the connection's bounds. Publications are references, never copies.
//!
//! Invariants: a frame of which a part has been written is the first entry and is never dropped; control frames and replays
//! are never dropped by a policy; every entry that belongs to a topic is counted in that topic's `queued` exactly as long as
//! it is here.
//!
//! Bounds count what an entry keeps in memory (`Publication::held`), which is more than goes to the socket where a publication
//! is compressed: who reads slowly would else keep a thousand times its bound. Only `written` is of the bytes on the wire.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::form::Form;
use super::publication::Publication;
use super::settings::{DeliveryPolicy, TopicSettings};
use super::tally::DropReason;
use super::topic::Topic;

/// The most pieces handed to one vectored write.
pub const SLICES_MAX: usize = 64;
/// The most bytes handed to one vectored write.
const WRITE_BYTES_MAX: usize = 256 << 10;
/// So many dropped entries are left in place before the queue is closed up.
const HOLES_MAX: usize = if cfg!(test) { 4 } else { 64 };

/// The bounds of a connection's queue as a whole.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes held, frame headers included.
    pub bytes: usize,
    /// Messages.
    pub messages: usize,
}

/// What became of a publication that did not go straight to the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Enqueued {
    /// It waits; what had to go for it has been counted.
    Queued,
    /// It was dropped, and counted.
    Dropped,
    /// The policy is to disconnect. It has not been counted.
    Overflow,
}

#[derive(Debug)]
enum Frame {
    Shared(Arc<Publication>, Form),
    Own(Box<[u8]>),
    /// Dropped; the place is kept until the queue is closed up.
    Hole,
}

impl Frame {
    fn held(&self) -> usize {
        match self {
            Self::Shared(publication, form) => publication.held(*form),
            Self::Own(bytes) => bytes.len(),
            Self::Hole => 0,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Control,
    Direct { ticket: Option<u64> },
    Live { lane: u32 },
    Replay { lane: u32 },
}

#[derive(Debug)]
struct Entry {
    frame: Frame,
    kind: Kind,
}

impl Entry {
    fn bytes(&self) -> &[u8] {
        match &self.frame {
            Frame::Shared(publication, form) => publication.encoded(*form),
            Frame::Own(bytes) => bytes,
            Frame::Hole => &[],
        }
    }

    /// The bytes it keeps in memory: the same whenever it is asked.
    fn held(&self) -> usize {
        self.frame.held()
    }

    fn is_hole(&self) -> bool {
        matches!(self.frame, Frame::Hole)
    }
}

/// The keys that wait under `conflate`, and where. Publications without a key share one.
type Keys = HashMap<Option<Box<str>>, u64>;

/// One topic's share of the queue.
#[derive(Debug)]
struct Lane {
    topic: Arc<Topic>,
    shard: usize,
    /// Live publications that wait; replays are not bounded here.
    messages: usize,
    bytes: usize,
    /// Entries of any kind; the lane can be given to another topic when there are none.
    entries: usize,
    /// No entry before this place is a live one of this lane.
    oldest: u64,
    keys: Option<Box<Keys>>,
}

impl Lane {
    fn forget_key(&mut self, publication: &Publication, at: u64) {
        if let Some(keys) = &mut self.keys {
            let key = publication.key().map(Box::<str>::from);
            if keys.get(&key) == Some(&at) {
                keys.remove(&key);
            }
        }
    }
}

/// A connection's queue.
#[derive(Debug, Default)]
pub struct Outbound {
    entries: VecDeque<Entry>,
    /// The place of `entries[0]`; places are never given twice until the queue is closed up.
    base: u64,
    /// How much of the first entry has been written.
    written: usize,
    bytes: usize,
    messages: usize,
    holes: usize,
    lanes: SmallVec<[Lane; 1]>,
    /// How many of its bytes its shard has counted among all that wait. The shard's alone.
    pub booked: usize,
}

impl Outbound {
    /// Bytes held by what waits, as far as bounds go: the written part of the first frame not included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes - self.written
    }

    /// Messages that wait, control frames included.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    fn push(&mut self, frame: Frame, kind: Kind) {
        let entry = Entry { frame, kind };
        self.bytes += entry.held();
        self.messages += 1;
        self.entries.push_back(entry);
    }

    /// Adds a control frame: never dropped, not bounded. Their number is bounded by whoever makes them.
    pub fn push_control(&mut self, frame: Vec<u8>) {
        self.push(Frame::Own(frame.into_boxed_slice()), Kind::Control);
    }

    /// Adds a message for this connection alone; false if the bounds do not hold it.
    #[must_use]
    pub fn push_direct(&mut self, frame: Vec<u8>, ticket: Option<u64>, bounds: Bounds) -> bool {
        if !self.is_empty() && !self.fits(frame.len(), bounds) {
            return false;
        }
        self.push(Frame::Own(frame.into_boxed_slice()), Kind::Direct { ticket });
        true
    }

    fn fits(&self, bytes: usize, bounds: Bounds) -> bool {
        self.bytes() + bytes <= bounds.bytes && self.messages < bounds.messages
    }

    /// Whether nothing more for this connection alone would be taken, however short.
    #[must_use]
    pub fn is_at(&self, bounds: Bounds) -> bool {
        !self.is_empty() && !self.fits(1, bounds)
    }

    /// Whether a publication that holds so many bytes needs room to be made for it.
    fn is_full(&self, share: Option<&Lane>, settings: &TopicSettings, size: usize, bounds: Bounds) -> bool {
        let is_lane_full = share.is_some_and(|share| {
            share.messages >= settings.pending_messages
                || (share.messages > 0 && share.bytes + size > settings.pending_bytes)
        });
        is_lane_full || (!self.is_empty() && !self.fits(size, bounds))
    }

    /// Whether a publication would not be queued, whatever frame is made of it: there is no need to make one then.
    #[must_use]
    pub fn refuses(&self, topic: &Topic, publication: &Publication, bounds: Bounds) -> bool {
        let settings = topic.settings();
        let makes_no_room = matches!(settings.policy, DeliveryPolicy::DropNewest | DeliveryPolicy::Disconnect);
        let share = self.lanes.iter().find(|lane| lane.topic.id() == topic.id());
        // What has waited too long may still make room.
        makes_no_room && settings.pending_age.is_zero() && self.is_full(share, &settings, publication.weight(), bounds)
    }

    fn lane(&mut self, topic: &Arc<Topic>, shard: usize) -> u32 {
        if let Some(lane) = self.lanes.iter().position(|lane| lane.topic.id() == topic.id()) {
            return lane as u32;
        }
        let lane =
            Lane { topic: topic.clone(), shard, messages: 0, bytes: 0, entries: 0, oldest: self.base, keys: None };
        if let Some(free) = self.lanes.iter().position(|lane| lane.entries == 0) {
            self.lanes[free] = lane;
            return free as u32;
        }
        self.lanes.push(lane);
        (self.lanes.len() - 1) as u32
    }

    fn push_lane(&mut self, publication: &Arc<Publication>, form: Form, kind: Kind, lane: u32) {
        self.push(Frame::Shared(publication.clone(), form), kind);
        let lane = &mut self.lanes[lane as usize];
        lane.entries += 1;
        lane.topic.tally(lane.shard).queued.add(1);
    }

    /// Adds a publication of which the socket has already taken a part. Only into an empty queue.
    pub fn push_begun(
        &mut self,
        topic: &Arc<Topic>,
        shard: usize,
        publication: &Arc<Publication>,
        form: Form,
        written: usize,
    ) {
        debug_assert!(self.entries.is_empty() && self.written == 0);
        let lane = self.lane(topic, shard);
        self.count_live(lane, publication.held(form));
        self.push_lane(publication, form, Kind::Live { lane }, lane);
        self.written = written;
    }

    /// Adds a publication from history; false if the connection's bounds do not hold it. Its topic's policy does not apply,
    /// since recovery is whole or refused.
    #[must_use]
    pub fn push_replay(
        &mut self,
        topic: &Arc<Topic>,
        shard: usize,
        publication: &Arc<Publication>,
        form: Form,
        bounds: Bounds,
    ) -> bool {
        if !self.is_empty() && !self.fits(publication.held(form), bounds) {
            return false;
        }
        let lane = self.lane(topic, shard);
        topic.tally(shard).replayed.add(1);
        self.push_lane(publication, form, Kind::Replay { lane }, lane);
        true
    }

    fn count_live(&mut self, lane: u32, bytes: usize) {
        let lane = &mut self.lanes[lane as usize];
        lane.messages += 1;
        lane.bytes += bytes;
    }

    /// Adds a publication under its topic's policy and the connection's bounds.
    pub fn push_live(
        &mut self,
        topic: &Arc<Topic>,
        shard: usize,
        publication: &Arc<Publication>,
        form: Form,
        bounds: Bounds,
        now_nanos: u64,
    ) -> Enqueued {
        let settings = topic.settings();
        let policy = settings.policy;
        let size = publication.held(form);
        let lane = self.lane(topic, shard);
        if policy == DeliveryPolicy::Conflate {
            self.conflate(lane, publication);
        }
        if self.expire_lane(lane, now_nanos) == Enqueued::Overflow {
            return Enqueued::Overflow;
        }
        loop {
            if !self.is_full(self.lanes.get(lane as usize), &settings, size, bounds) {
                break;
            }
            let made_room = match policy {
                DeliveryPolicy::Disconnect => return Enqueued::Overflow,
                DeliveryPolicy::DropNewest => false,
                DeliveryPolicy::DropOldest | DeliveryPolicy::Conflate => self.drop_oldest(lane, DropReason::Oldest),
            };
            if !made_room {
                topic.tally(shard).drop(DropReason::Newest, 1);
                self.close_up();
                return Enqueued::Dropped;
            }
        }
        self.close_up();
        if policy == DeliveryPolicy::Conflate {
            let at = self.base + self.entries.len() as u64;
            let keys = self.lanes[lane as usize].keys.get_or_insert_default();
            keys.insert(publication.key().map(Into::into), at);
        }
        self.count_live(lane, size);
        self.push_lane(publication, form, Kind::Live { lane }, lane);
        Enqueued::Queued
    }

    /// Drops what waits under the same key.
    fn conflate(&mut self, lane: u32, publication: &Publication) {
        let key = publication.key().map(Box::<str>::from);
        let share = &mut self.lanes[lane as usize];
        let Some(at) = share.keys.as_mut().and_then(|keys| keys.remove(&key)) else { return };
        let index = (at - self.base) as usize;
        if index == 0 && self.written > 0 {
            return;
        }
        share.topic.tally(share.shard).conflated.add(1);
        self.make_hole(index);
    }

    /// Drops the oldest live publication of a lane; false if there is none that may be dropped.
    fn drop_oldest(&mut self, lane: u32, reason: DropReason) -> bool {
        let Some(index) = self.oldest(lane) else { return false };
        let share = &self.lanes[lane as usize];
        share.topic.tally(share.shard).drop(reason, 1);
        self.make_hole(index);
        true
    }

    /// The index of a lane's oldest live entry that may be dropped. Looks at each entry once in its life.
    fn oldest(&mut self, lane: u32) -> Option<usize> {
        let begun = self.base + u64::from(self.written > 0);
        let from = self.lanes[lane as usize].oldest.max(begun);
        let skip = (from - self.base) as usize;
        let found = self
            .entries
            .range(skip.min(self.entries.len())..)
            .position(|entry| entry.kind == Kind::Live { lane } && !entry.is_hole());
        let share = &mut self.lanes[lane as usize];
        share.oldest = self.base + found.map_or(self.entries.len(), |offset| skip + offset) as u64;
        found.map(|offset| skip + offset)
    }

    /// Takes the frame out of a place and books it out of its lane, except for what became of it.
    fn make_hole(&mut self, index: usize) {
        let at = self.base + index as u64;
        let entry = &mut self.entries[index];
        self.bytes -= entry.held();
        self.messages -= 1;
        self.holes += 1;
        let kind = entry.kind;
        let frame = std::mem::replace(&mut entry.frame, Frame::Hole);
        self.leave_lane(kind, &frame, at);
        if index == 0 {
            self.pop_holes();
        }
    }

    /// Books an entry out of its lane.
    fn leave_lane(&mut self, kind: Kind, frame: &Frame, at: u64) {
        let (lane, live) = match kind {
            Kind::Control | Kind::Direct { .. } => return,
            Kind::Live { lane } => (lane, true),
            Kind::Replay { lane } => (lane, false),
        };
        let lane = &mut self.lanes[lane as usize];
        lane.entries -= 1;
        lane.topic.tally(lane.shard).queued.sub(1);
        if let (true, Frame::Shared(publication, _)) = (live, frame) {
            lane.messages -= 1;
            lane.bytes -= frame.held();
            lane.forget_key(publication, at);
        }
    }

    fn pop_holes(&mut self) {
        while self.entries.front().is_some_and(Entry::is_hole) {
            self.entries.pop_front();
            self.base += 1;
            self.holes -= 1;
        }
    }

    /// Closes up a queue that is mostly holes, so that dropping does not grow it.
    fn close_up(&mut self) {
        if self.holes <= HOLES_MAX || self.holes * 2 < self.entries.len() {
            return;
        }
        self.entries.retain(|entry| !entry.is_hole());
        self.holes = 0;
        for lane in &mut self.lanes {
            lane.oldest = self.base;
            if let Some(keys) = &mut lane.keys {
                keys.clear();
            }
        }
        for (index, entry) in self.entries.iter().enumerate() {
            if let (Kind::Live { lane }, Frame::Shared(publication, _)) = (entry.kind, &entry.frame)
                && let Some(keys) = &mut self.lanes[lane as usize].keys
            {
                keys.insert(publication.key().map(Into::into), self.base + index as u64);
            }
        }
    }

    /// Applies `pending_age` to every lane. `Overflow` if one has the policy to disconnect for it.
    pub fn expire(&mut self, now_nanos: u64) -> Enqueued {
        for lane in 0..self.lanes.len() as u32 {
            if self.expire_lane(lane, now_nanos) == Enqueued::Overflow {
                return Enqueued::Overflow;
            }
        }
        self.close_up();
        Enqueued::Queued
    }

    fn expire_lane(&mut self, lane: u32, now_nanos: u64) -> Enqueued {
        let settings = self.lanes[lane as usize].topic.settings();
        let (age, policy) = (settings.pending_age.as_nanos() as u64, settings.policy);
        if age == 0 {
            return Enqueued::Queued;
        }
        while let Some(index) = self.oldest(lane) {
            let Frame::Shared(publication, _) = &self.entries[index].frame else { break };
            if now_nanos.saturating_sub(publication.nanos()) <= age {
                break;
            }
            if policy == DeliveryPolicy::Disconnect {
                return Enqueued::Overflow;
            }
            self.drop_oldest(lane, DropReason::Expired);
        }
        Enqueued::Queued
    }

    /// Fills the pieces of the next vectored write; returns how many.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let (mut count, mut bytes, mut skip) = (0, 0, self.written);
        for entry in &self.entries {
            if count == SLICES_MAX || bytes >= WRITE_BYTES_MAX {
                break;
            }
            let frame = &entry.bytes()[skip..];
            skip = 0;
            if !frame.is_empty() {
                slices[count] = IoSlice::new(frame);
                bytes += frame.len();
                count += 1;
            }
        }
        count
    }

    /// Puts what is at the front behind `out`, at most so many bytes, in however many pieces.
    pub fn gather(&self, out: &mut Vec<u8>, mut most: usize) {
        let mut skip = self.written;
        for entry in &self.entries {
            let frame = &entry.bytes()[skip..];
            let length = frame.len().min(most);
            out.extend_from_slice(&frame[..length]);
            (skip, most) = (0, most - length);
            if most == 0 {
                return;
            }
        }
    }

    /// The socket has taken so many bytes. `sent` is told the ticket of each direct message, `published` the time of each
    /// publication, that has been written whole.
    pub fn advance(&mut self, mut bytes: usize, mut sent: impl FnMut(u64), mut published: impl FnMut(&Publication)) {
        while let Some(first) = self.entries.front() {
            let length = first.bytes().len();
            let rest = length - self.written;
            if bytes < rest {
                self.written += bytes;
                return;
            }
            bytes -= rest;
            self.written = 0;
            let at = self.base;
            let Some(entry) = self.entries.pop_front() else { return };
            self.base += 1;
            if entry.is_hole() {
                self.holes -= 1;
                continue;
            }
            self.bytes -= entry.held();
            self.messages -= 1;
            match entry.kind {
                Kind::Direct { ticket: Some(ticket) } => sent(ticket),
                Kind::Control | Kind::Direct { ticket: None } => {}
                Kind::Live { lane } | Kind::Replay { lane } => {
                    let lane = &self.lanes[lane as usize];
                    lane.topic.tally(lane.shard).written.add(1);
                    if let (Kind::Live { .. }, Frame::Shared(publication, _)) = (entry.kind, &entry.frame) {
                        published(publication);
                    }
                }
            }
            self.leave_lane(entry.kind, &entry.frame, at);
        }
        debug_assert_eq!(bytes, 0, "the socket takes no more than it was given");
    }

    /// Drops what waits of a topic whose subscription has ended, but for a frame that is half written: that one stays, and
    /// counts as written when it is.
    pub fn unsubscribe(&mut self, topic: &Topic) {
        let Some(lane) = self.lanes.iter().position(|lane| lane.topic.id() == topic.id()) else { return };
        for index in (usize::from(self.written > 0)..self.entries.len()).rev() {
            let entry = &self.entries[index];
            let own = matches!(entry.kind, Kind::Live { lane: l } | Kind::Replay { lane: l } if l as usize == lane);
            if own && !entry.is_hole() {
                let share = &self.lanes[lane];
                share.topic.tally(share.shard).drop(DropReason::Unsubscribed, 1);
                self.make_hole(index);
            }
        }
        self.close_up();
    }

    /// Whether a message that waits has a ticket.
    #[must_use]
    pub fn has_tickets(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.kind, Kind::Direct { ticket: Some(_) }))
    }

    /// Takes the tickets away from what waits: nobody will be told any more.
    pub fn take_tickets(&mut self, mut taken: impl FnMut(u64)) {
        for entry in &mut self.entries {
            if let Kind::Direct { ticket } = &mut entry.kind
                && let Some(ticket) = ticket.take()
            {
                taken(ticket);
            }
        }
    }

    /// Drops everything that is not a half-written frame: the connection ends. With `keep_begun` the half-written frame
    /// stays, so that a Close frame can follow it.
    pub fn discard(&mut self, keep_begun: bool) {
        let kept = usize::from(keep_begun && self.written > 0);
        for index in (kept..self.entries.len()).rev() {
            let entry = &self.entries[index];
            match entry.kind {
                _ if entry.is_hole() => continue,
                Kind::Control | Kind::Direct { .. } => {}
                Kind::Live { lane } | Kind::Replay { lane } => {
                    let lane = &self.lanes[lane as usize];
                    lane.topic.tally(lane.shard).discarded.add(1);
                }
            }
            self.make_hole(index);
        }
        self.pop_trailing_holes();
        if kept == 0 {
            self.written = 0;
        }
    }

    fn pop_trailing_holes(&mut self) {
        while self.entries.back().is_some_and(Entry::is_hole) {
            self.entries.pop_back();
            self.holes -= 1;
        }
    }

    /// Makes an empty queue ready for another connection, without keeping much memory.
    pub fn reset(&mut self) {
        debug_assert!(self.is_empty());
        self.entries.clear();
        self.entries.shrink_to(64);
        self.lanes.clear();
        (self.base, self.written, self.bytes, self.messages, self.holes, self.booked) = (0, 0, 0, 0, 0, 0);
    }
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
mod tests;
