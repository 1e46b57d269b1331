//! When a publication has reached its last subscriber.
//!
//! Of each stream there is a window of publications that somebody still waits for, with a count of subscribers at each
//! position, so that a subscriber that reads sixty publications costs two steps and not sixty. A subscriber's position is
//! the sequence number after the latest it received. What it skipped is noted with the skipped publications.
//!
//! The same code serves the subscribers of one worker and, in the conductor, the workers ([`Parties`](super::Parties)).
//! Nobody tells it what is published: it learns that from the first who receives it.
//!
//! Invariants: the counts in a window add up to the people of its stream; nobody's count lies below `lowest`. Who is
//! really behind (because the window was cut, or he came late) is counted at `lowest`, which cannot pass him.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Publications in all windows together; beyond that the oldest of a stream is given up as incomplete, so that a
/// subscriber that receives nothing costs no memory without limit.
pub const WINDOW_MAX: usize = 1 << 20;

/// Publications that everybody has passed, but somebody has skipped, and that may still come.
const HELD_MAX: usize = 1 << 16;

/// What became of publications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Everybody has it. An intended time of 0: nobody was there to receive it.
    Done {
        /// Of this stream …
        stream: u32,
        /// … this publication …
        sequence: u64,
        /// … which was to be sent at this time …
        intended_ns: u64,
        /// … and came to its last subscriber at this one.
        at_ns: u64,
    },
    /// Nobody is at or before it any more, but somebody skipped it.
    Passed {
        /// Of this stream …
        stream: u32,
        /// … this publication …
        sequence: u64,
        /// … which was to be sent at this time; 0 if nobody received it.
        intended_ns: u64,
    },
    /// One that had passed has come to everybody after all.
    Filled {
        /// Of this stream …
        stream: u32,
        /// … this publication …
        sequence: u64,
        /// … which was to be sent at this time …
        intended_ns: u64,
        /// … and came to its last subscriber at this one.
        at_ns: u64,
    },
    /// Nobody was there to receive these publications.
    Skipped {
        /// Of this stream …
        stream: u32,
        /// … those from this one, the one after the last told of …
        from: u64,
        /// … up to and without this one …
        to: u64,
        /// … which is nobody's loss: the subscribers had left by themselves.
        excused: bool,
    },
}

/// The windows of all streams.
#[derive(Debug)]
pub struct Completion {
    windows: Vec<Window>,
    held: HashMap<(u32, u64), Held>,
    /// Publications in all windows.
    waiting: usize,
    window_max: usize,
    /// Streams that had nobody and in which somebody has received something.
    heard: Vec<u32>,
}

/// Invariant: there is one slot more than there are publications in the window; the last is for those who have all.
#[derive(Debug)]
struct Window {
    lowest: u64,
    slots: VecDeque<Slot>,
    people: u32,
    /// People that were taken away by the server.
    gone: u32,
    /// Publications in the window whose intended time nobody knows yet.
    unknown: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    intended_ns: u64,
    /// The latest receipt of those who advanced by [`Completion::advance_at`].
    latest_ns: u64,
    /// Those who expect this publication next.
    waiting: u32,
    /// Those who skipped it.
    missed: u32,
}

#[derive(Debug)]
struct Held {
    missed: u32,
    intended_ns: u64,
    latest_ns: u64,
}

impl Window {
    fn end(&self) -> u64 {
        self.lowest + self.slots.len() as u64 - 1
    }

    fn slot(&mut self, position: u64) -> Option<&mut Slot> {
        let index = position.checked_sub(self.lowest)?;
        self.slots.get_mut(usize::try_from(index).ok()?)
    }

    /// Moves one of those who are counted at `from` (or at `lowest` if that is higher) to `to`.
    #[inline]
    fn go(&mut self, from: u64, to: u64) {
        let (from, to) = (from.max(self.lowest) - self.lowest, to.max(self.lowest) - self.lowest);
        self.slots[from as usize].waiting -= 1;
        self.slots[to as usize].waiting += 1;
    }
}

impl Completion {
    /// For streams 0 to `streams`, without anybody.
    pub fn new(streams: u32) -> Self {
        let empty = || Window { lowest: 0, slots: VecDeque::from([Slot::default()]), people: 0, gone: 0, unknown: 0 };
        let windows = (0..streams).map(|_| empty()).collect();
        Self { windows, held: HashMap::new(), waiting: 0, window_max: WINDOW_MAX, heard: Vec::new() }
    }

    /// Forgets everything about all streams, and everybody.
    pub fn clear(&mut self) {
        self.held.clear();
        self.heard.clear();
        (0..self.windows.len() as u32).for_each(|stream| self.begin(stream, 0, 0));
    }

    /// After [`Self::clear`]: so many people now wait for publication `from` of `stream`.
    pub fn begin(&mut self, stream: u32, from: u64, people: u32) {
        let Some(window) = self.windows.get_mut(stream as usize) else {
            return;
        };
        self.waiting -= window.slots.len() - 1;
        window.slots.clear();
        window.slots.push_back(Slot { waiting: people, ..Slot::default() });
        (window.lowest, window.people, window.gone, window.unknown) = (from, people, 0, 0);
    }

    /// The first publication of `stream` that nobody has received yet, as far as is known; 0 for an unknown stream.
    #[inline]
    pub fn end(&self, stream: u32) -> u64 {
        self.windows.get(stream as usize).map_or(0, Window::end)
    }

    /// Whether there is something to [`Self::learn`] about this publication, as there is for the first who receives it.
    #[inline]
    pub fn is_news(&self, stream: u32, sequence: u64) -> bool {
        self.windows.get(stream as usize).is_some_and(|window| sequence >= window.end() || window.unknown > 0)
    }

    /// Somebody received this publication; those before it exist as well.
    pub fn learn(&mut self, stream: u32, sequence: u64, intended_ns: u64, out: &mut impl FnMut(Step)) {
        self.extend(stream, sequence + 1, out);
        let Some(window) = self.windows.get_mut(stream as usize) else {
            return;
        };
        let news = match window.slot(sequence) {
            Some(slot) if slot.intended_ns == 0 => {
                slot.intended_ns = intended_ns;
                intended_ns != 0
            }
            _ => false,
        };
        window.unknown -= u32::from(news);
    }

    /// Publications up to `end` exist.
    fn extend(&mut self, stream: u32, end: u64, out: &mut impl FnMut(Step)) {
        let Some(window) = self.windows.get_mut(stream as usize) else {
            return;
        };
        while window.end() < end {
            window.slots.push_back(Slot::default());
            window.unknown += 1;
            self.waiting += 1;
            if self.waiting > self.window_max {
                let Some(oldest) = window.slots.pop_front() else {
                    return;
                };
                window.slots[0].waiting += oldest.waiting;
                window.unknown -= u32::from(oldest.intended_ns == 0);
                out(Step::Passed { stream, sequence: window.lowest, intended_ns: oldest.intended_ns });
                window.lowest += 1;
                self.waiting -= 1;
            }
        }
    }

    /// Somebody went from position `from` to `to` at the time `now_ns`, which no other call before had a later one of.
    /// The publications between are known ([`Self::learn`]) and what was skipped of them is told by [`Self::miss`].
    #[inline]
    pub fn advance(&mut self, stream: u32, from: u64, to: u64, now_ns: u64, out: &mut impl FnMut(Step)) {
        let Some(window) = self.windows.get_mut(stream as usize) else {
            return;
        };
        if from < to && to <= window.end() && window.people > 0 {
            window.go(from, to);
            if window.slots[0].waiting == 0 {
                self.settle(stream, now_ns, out);
            }
        }
    }

    /// As [`Self::advance`], but the times of different people come in any order.
    pub fn advance_at(&mut self, stream: u32, from: u64, to: u64, at_ns: u64, out: &mut impl FnMut(Step)) {
        self.extend(stream, to, out);
        let Some(window) = self.windows.get_mut(stream as usize) else {
            return;
        };
        for sequence in from.max(window.lowest)..to {
            if let Some(slot) = window.slot(sequence) {
                slot.latest_ns = slot.latest_ns.max(at_ns);
            }
        }
        self.advance(stream, from, to, 0, out);
    }

    /// Somebody who is about to advance has skipped the publications from `from` up to and without `to`.
    #[cold]
    pub fn miss(&mut self, stream: u32, from: u64, to: u64, out: &mut impl FnMut(Step)) {
        self.extend(stream, to, out);
        let Some(window) = self.windows.get_mut(stream as usize) else {
            return;
        };
        for sequence in from.max(window.lowest)..to {
            if let Some(slot) = window.slot(sequence) {
                slot.missed += 1;
            }
        }
    }

    /// Somebody received a publication that he had skipped.
    #[cold]
    pub fn fill(&mut self, stream: u32, sequence: u64, intended_ns: u64, at_ns: u64, out: &mut impl FnMut(Step)) {
        self.learn(stream, sequence, intended_ns, out);
        if let Some(slot) = self.windows.get_mut(stream as usize).and_then(|window| window.slot(sequence)) {
            slot.missed = slot.missed.saturating_sub(1);
            slot.latest_ns = slot.latest_ns.max(at_ns);
            return;
        }
        let Some(held) = self.held.get_mut(&(stream, sequence)) else {
            return;
        };
        held.missed -= 1;
        held.latest_ns = held.latest_ns.max(at_ns);
        if held.missed == 0 {
            // Before it was filled perhaps nobody had received it.
            let intended_ns = if held.intended_ns == 0 { intended_ns } else { held.intended_ns };
            out(Step::Filled { stream, sequence, intended_ns, at_ns: held.latest_ns });
            self.held.remove(&(stream, sequence));
        }
    }

    /// Somebody at `position` is not waited for any more. If the server took him away (`lost`), what he has not received
    /// of the known publications will never be complete; else he is excused.
    pub fn leave(&mut self, stream: u32, position: u64, lost: bool, now_ns: u64, out: &mut impl FnMut(Step)) {
        let Some(window) = self.windows.get_mut(stream as usize).filter(|window| window.people > 0) else {
            return;
        };
        let position = position.max(window.lowest);
        window.people -= 1;
        window.gone += u32::from(lost);
        if let Some(slot) = window.slot(position) {
            slot.waiting -= 1;
        }
        let end = window.end();
        if lost {
            self.miss(stream, position, end, out);
        }
        self.settle(stream, now_ns, out);
    }

    /// Somebody new waits for publication `position` and those after it.
    pub fn join(&mut self, stream: u32, position: u64, out: &mut impl FnMut(Step)) {
        if self.windows.get(stream as usize).is_some_and(|window| window.people == 0) {
            self.skip(stream, position, out);
            self.heard.push(stream);
        }
        self.extend(stream, position, out);
        if let Some(window) = self.windows.get_mut(stream as usize) {
            window.people += 1;
            let position = position.max(window.lowest);
            if let Some(slot) = window.slot(position) {
                slot.waiting += 1;
            }
        }
    }

    /// A stream that had nobody and in which somebody has received something, told once.
    #[inline]
    pub fn take_heard(&mut self) -> Option<u32> {
        self.heard.pop()
    }

    /// The drive is over, with so many publications: of a stream that has nobody the rest is skipped.
    pub fn finish(&mut self, stream: u32, published: u64, out: &mut impl FnMut(Step)) {
        if self.windows.get(stream as usize).is_some_and(|window| window.people == 0) {
            self.skip(stream, published, out);
        }
    }

    /// Goes on to `to` in a stream that has nobody, and so no publication in its window.
    fn skip(&mut self, stream: u32, to: u64, out: &mut impl FnMut(Step)) {
        let window = &mut self.windows[stream as usize];
        if to > window.end() {
            let from = std::mem::replace(&mut window.lowest, to);
            out(Step::Skipped { stream, from, to, excused: window.gone == 0 });
        }
    }

    /// Takes what nobody waits for any more out of the window.
    fn settle(&mut self, stream: u32, now_ns: u64, out: &mut impl FnMut(Step)) {
        let window = &mut self.windows[stream as usize];
        while window.slots.len() > 1 && window.slots[0].waiting == 0 {
            let Some(Slot { intended_ns, latest_ns, missed, .. }) = window.slots.pop_front() else {
                return;
            };
            let (sequence, latest_ns) = (window.lowest, latest_ns.max(now_ns));
            window.unknown -= u32::from(intended_ns == 0);
            window.lowest += 1;
            self.waiting -= 1;
            if missed == 0 {
                out(Step::Done { stream, sequence, intended_ns, at_ns: latest_ns });
                continue;
            }
            if self.held.len() < HELD_MAX {
                self.held.insert((stream, sequence), Held { missed, intended_ns, latest_ns });
            }
            out(Step::Passed { stream, sequence, intended_ns });
        }
    }

    /// For tests: a smaller limit than [`WINDOW_MAX`].
    #[cfg(test)]
    pub(crate) fn with_window_max(mut self, window_max: usize) -> Self {
        self.window_max = window_max;
        self
    }
}

#[cfg(test)]
mod tests;
