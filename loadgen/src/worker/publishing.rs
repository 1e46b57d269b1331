//! What is to be published next, by whom, and how that went. Sans-IO: who calls it has the connections.
//!
//! Publications due while their publisher cannot take them wait, in order, with their intended time unchanged. Those of
//! an open loop come from a schedule, those of a closed loop whenever fewer than allowed are under way.
//!
//! A closed loop waits for nobody who is not there: streams without subscribers, or whose publisher is gone, are passed
//! over, and what nothing was heard of for as long as a drain lasts is not waited for any more.

use std::collections::VecDeque;

use crate::load::{Roster, Schedule, TopicPicker};
use crate::scenario::{LoadKind, Scenario};
use crate::verify::{Marker, PayloadWriter};
use crate::worker::account::Window;

/// Waiting publications of all publishers together; beyond that they stay in the schedule.
const HELD_MAX: usize = 1 << 20;

/// Whether a publisher can take a publication now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It can.
    Free,
    /// Not yet.
    Full,
    /// Never again.
    Gone,
}

/// A publication that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Its stream.
    pub stream: u32,
    /// When it was to be sent, nanoseconds of `CLOCK_MONOTONIC`.
    pub intended_ns: u64,
}

/// How the sending of a publication went, for the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// When it was to be sent.
    pub intended_ns: u64,
    /// How much later it was.
    pub delay_ns: u64,
}

/// All publishers' work.
#[derive(Debug)]
pub struct Publishing {
    publishers: u64,
    topics: u32,
    streams: u32,
    picker: TopicPicker,
    /// Where several publishers share a topic: whose turn it is.
    turns: Vec<u32>,
    /// Publications of each stream so far.
    published: Vec<u64>,
    held: Vec<VecDeque<Due>>,
    held_total: usize,
    writer: PayloadWriter,
    offer: Offer,
    window: Window,
    /// Due, but their publisher is gone.
    unsendable: u64,
    /// By publisher: it will never send again.
    gone: Vec<bool>,
    closed: Closed,
}

/// What only a closed loop knows of.
#[derive(Debug, Default)]
struct Closed {
    /// By stream: nobody is there to receive it.
    unattended: Vec<bool>,
    /// By stream: publications on their way when the last subscriber left, of which nothing more will be heard.
    excused: Vec<u64>,
    /// The sum of them.
    excused_total: u64,
    /// Nothing can be published to anybody.
    is_idle: bool,
    /// How long a publication that is under way is waited for.
    patience_ns: u64,
    /// When the latest publication passed, or was the first under way.
    moved_ns: u64,
}

/// Where publications come from.
#[derive(Debug)]
enum Offer {
    None,
    Open { schedule: Box<Schedule>, begin_ns: u64 },
    Closed { begin_ns: u64, in_flight: u64, offered: u64, passed: u64 },
}

impl Publishing {
    /// The work of all publishers of `roster`; `run` is the number markers are told apart by.
    pub fn new(scenario: &Scenario, roster: &Roster, run: u64) -> Self {
        let (streams, publishers) = (roster.streams(), roster.count(crate::load::Role::Publisher));
        let bytes = usize::try_from(scenario.payload.bytes.0).unwrap_or(usize::MAX);
        let shares_topics = streams > roster.topics();
        Self {
            publishers,
            topics: roster.topics(),
            streams,
            picker: TopicPicker::new(&scenario.topics, scenario.seed),
            turns: vec![0; if shares_topics { roster.topics() as usize } else { 0 }],
            published: vec![0; streams as usize],
            held: (0..publishers).map(|_| VecDeque::new()).collect(),
            held_total: 0,
            writer: PayloadWriter::new(bytes, scenario.payload.filler, run, scenario.seed),
            offer: Offer::None,
            window: Window::default(),
            unsendable: 0,
            gone: vec![false; publishers as usize],
            closed: Closed::default(),
        }
    }

    /// Publications of each stream so far.
    pub fn published(&self) -> &[u64] {
        &self.published
    }

    /// A drive begins: the load at `begin_ns`, until the end of `window`. A closed loop waits for a publication for
    /// `patience_ns` at most. All streams have subscribers, unless [`Self::leave`] says otherwise.
    pub fn begin(&mut self, load: &crate::scenario::Load, begin_ns: u64, window: Window, patience_ns: u64, seed: u64) {
        let streams = self.streams as usize;
        let (unattended, excused) = (vec![false; streams], vec![0; streams]);
        self.closed = Closed { unattended, excused, patience_ns, moved_ns: begin_ns, ..Closed::default() };
        self.held.iter_mut().for_each(VecDeque::clear);
        (self.held_total, self.unsendable, self.window) = (0, 0, window);
        self.offer = match load.kind {
            _ if self.streams == 0 => Offer::None,
            LoadKind::Closed => {
                Offer::Closed { begin_ns, in_flight: u64::from(load.in_flight.max(1)), offered: 0, passed: 0 }
            }
            _ => {
                let ns = std::time::Duration::from_nanos;
                let warmup = ns(window.begin_ns.saturating_sub(begin_ns));
                let schedule = Box::new(Schedule::new(load, warmup, ns(window.length_ns()), seed));
                Offer::Open { schedule, begin_ns }
            }
        };
    }

    /// The load ends at `at_ns` if it would end later.
    pub fn stop(&mut self, at_ns: u64) {
        self.window.stop(at_ns);
        if let Offer::Open { schedule, begin_ns } = &mut self.offer {
            schedule.end_at(at_ns.saturating_sub(*begin_ns));
        }
    }

    /// When the next publication is due that does not wait already; `u64::MAX` for never. A closed loop that has credit
    /// is due when it begins, one that has none when it gets some, or has waited too long.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        match &self.offer {
            Offer::None => u64::MAX,
            _ if self.held_total >= HELD_MAX => u64::MAX,
            Offer::Open { schedule, begin_ns } => schedule.peek().map_or(u64::MAX, |due_ns| begin_ns + due_ns),
            Offer::Closed { begin_ns, in_flight, offered, passed } => {
                if self.closed.is_idle {
                    u64::MAX
                } else if offered.saturating_sub(*passed + self.closed.excused_total) < *in_flight {
                    *begin_ns
                } else {
                    self.closed.moved_ns.saturating_add(self.closed.patience_ns).min(self.window.end_ns)
                }
            }
        }
    }

    /// The next publication that is due now and does not wait already.
    pub fn next_due(&mut self, now_ns: u64) -> Option<Due> {
        if self.due_ns() > now_ns {
            return None;
        }
        let intended_ns = match &mut self.offer {
            Offer::None => return None,
            Offer::Open { schedule, begin_ns } => *begin_ns + schedule.next()?,
            Offer::Closed { .. } if now_ns >= self.window.end_ns => {
                self.offer = Offer::None;
                return None;
            }
            Offer::Closed { .. } => return self.next_of_closed(now_ns),
        };
        Some(Due { stream: self.pick(), intended_ns })
    }

    /// The next publication of a closed loop that has room for it, or has waited too long.
    fn next_of_closed(&mut self, now_ns: u64) -> Option<Due> {
        let Some(stream) = self.pick_useful() else {
            self.closed.is_idle = true;
            return None;
        };
        if let Offer::Closed { in_flight, offered, passed, .. } = &mut self.offer {
            let excused = self.closed.excused_total;
            if offered.saturating_sub(*passed + excused) >= *in_flight {
                *passed = offered.saturating_sub(excused);
            }
            if *offered <= *passed + excused {
                self.closed.moved_ns = now_ns;
            }
            *offered += 1;
        }
        Some(Due { stream, intended_ns: now_ns })
    }

    /// The next stream that has a publisher and subscribers.
    fn pick_useful(&mut self) -> Option<u32> {
        let is_useful = |this: &Self, stream: u32| {
            !this.closed.unattended[stream as usize] && !this.gone[this.publisher_of(stream)]
        };
        // In turn, every stream comes up within as many picks as there are streams.
        for _ in 0..self.streams {
            let stream = self.pick();
            if is_useful(self, stream) {
                return Some(stream);
            }
        }
        (0..self.streams).find(|stream| is_useful(self, *stream))
    }

    fn pick(&mut self) -> u32 {
        let topic = self.picker.pick();
        let Some(turn) = self.turns.get_mut(topic as usize) else {
            return topic;
        };
        let stream = topic + *turn * self.topics;
        *turn += 1;
        if topic + *turn * self.topics >= self.streams {
            *turn = 0;
        }
        stream
    }

    /// The publisher of a stream.
    pub fn publisher_of(&self, stream: u32) -> usize {
        (u64::from(stream) % self.publishers.max(1)) as usize
    }

    /// Whether publications wait for this publisher.
    #[inline]
    pub fn is_waiting_for(&self, publisher: usize) -> bool {
        self.held_total > 0 && self.held.get(publisher).is_some_and(|held| !held.is_empty())
    }

    /// Keeps a publication that its publisher cannot take now, or counts it as unsent if it never will.
    pub fn hold(&mut self, due: Due, room: Room) {
        let publisher = self.publisher_of(due.stream);
        if room == Room::Gone {
            self.gone[publisher] = true;
            return self.drop_due();
        }
        if let Some(held) = self.held.get_mut(publisher) {
            held.push_back(due);
            self.held_total += 1;
        }
    }

    /// The publication that has waited longest for this publisher.
    pub fn release(&mut self, publisher: usize) -> Option<Due> {
        let due = self.held.get_mut(publisher)?.pop_front()?;
        self.held_total -= 1;
        Some(due)
    }

    /// A publisher is gone: what waited for it is never sent.
    pub fn lose(&mut self, publisher: usize) {
        if let Some(gone) = self.gone.get_mut(publisher) {
            *gone = true;
        }
        while self.release(publisher).is_some() {
            self.drop_due();
        }
    }

    /// One that was due has no publisher. In a closed loop another takes its turn: nothing is ever due there.
    fn drop_due(&mut self) {
        match &mut self.offer {
            Offer::Closed { offered, .. } => *offered -= 1,
            _ => self.unsendable += 1,
        }
    }

    /// A closed loop: the last subscriber of `stream` has left, and of its publications from `heard` on nobody has heard.
    pub fn leave(&mut self, stream: u32, heard: u64) {
        let (published, closed) = (self.published[stream as usize], &mut self.closed);
        if let Some(unattended) = closed.unattended.get_mut(stream as usize)
            && !std::mem::replace(unattended, true)
        {
            let excused = &mut closed.excused[stream as usize];
            closed.excused_total -= *excused;
            *excused = published.saturating_sub(heard);
            closed.excused_total += *excused;
        }
    }

    /// A closed loop: `stream` has a subscriber again.
    pub fn join(&mut self, stream: u32) {
        if let Some(unattended) = self.closed.unattended.get_mut(stream as usize) {
            *unattended = false;
            self.closed.is_idle = false;
        }
    }

    /// A closed loop: a subscriber that had joined has heard of `stream`, and what nobody heard of has passed.
    pub fn hear(&mut self, stream: u32) {
        if let Some(excused) = self.closed.excused.get_mut(stream as usize) {
            self.closed.excused_total -= std::mem::take(excused);
        }
    }

    /// The payload of a publication that is sent now.
    pub fn send(&mut self, due: Due, now_ns: u64) -> (Sent, &[u8]) {
        let sequence = &mut self.published[due.stream as usize];
        let delay_ns = now_ns.saturating_sub(due.intended_ns);
        let marker = Marker { stream: due.stream, sequence: *sequence as u32, intended_ns: due.intended_ns, delay_ns };
        *sequence += 1;
        if self.closed.unattended.get(due.stream as usize) == Some(&true) {
            self.closed.excused[due.stream as usize] += 1;
            self.closed.excused_total += 1;
        }
        (Sent { intended_ns: due.intended_ns, delay_ns }, self.writer.write(&marker))
    }

    /// A closed loop: so many publications of this drive have passed everybody.
    #[inline]
    pub fn credit(&mut self, passed_now: u64, now_ns: u64) {
        if let Offer::Closed { passed, .. } = &mut self.offer
            && passed_now > *passed
        {
            *passed = passed_now;
            self.closed.moved_ns = now_ns;
        }
    }

    /// A closed loop: publications under way are not waited for any more, as their subscribers have left.
    pub fn forgive(&mut self) {
        if let Offer::Closed { passed, offered, .. } = &mut self.offer {
            *passed = offered.saturating_sub(self.closed.excused_total);
        }
    }

    /// Whether all that was to be sent until now has been sent and nothing more will come.
    pub fn is_done(&self, now_ns: u64) -> bool {
        let is_over = match &self.offer {
            Offer::None => true,
            Offer::Open { schedule, .. } => schedule.peek().is_none(),
            Offer::Closed { .. } => now_ns >= self.window.end_ns,
        };
        is_over && self.held_total == 0
    }

    /// Ends the drive; returns how many publications were due and never sent.
    pub fn end(&mut self) -> u64 {
        let scheduled = match std::mem::replace(&mut self.offer, Offer::None) {
            Offer::Open { schedule, .. } => schedule.count(),
            _ => 0,
        };
        self.held.iter_mut().for_each(VecDeque::clear);
        std::mem::take(&mut self.unsendable) + std::mem::take(&mut self.held_total) as u64 + scheduled as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::{Connections, Load, Topics};

    const SECOND: u64 = 1_000_000_000;

    fn publishing(publishers: u64, topics: u32) -> (Publishing, Roster) {
        let connections = Connections { publishers, ..Connections::default() };
        let scenario =
            Scenario { connections, topics: Topics { count: topics, ..Topics::default() }, ..Scenario::default() };
        let roster = Roster::new(&scenario, 1);
        (Publishing::new(&scenario, &roster, 1), roster)
    }

    const WINDOW: Window = Window { begin_ns: SECOND, end_ns: 2 * SECOND };

    proptest! {
        #[test]
        fn every_due_publication_is_sent_once_or_unsent_however_publishers_hesitate(
            publishers in 1_u64..5,
            topics in 1_u32..5,
            rooms in prop::collection::vec(prop::sample::select(vec![Room::Free, Room::Full, Room::Gone]), 1..40),
            step_ns in 1_000_000_u64..300_000_000,
        ) {
            let (mut publishing, roster) = publishing(publishers, topics);
            publishing.begin(&Load { rate_per_s: 200.0, ..Load::default() }, 0, WINDOW, SECOND, 1);
            let (mut sent, mut rooms) = (Vec::new(), rooms.into_iter().cycle());
            let mut now_ns = 0;
            while now_ns < WINDOW.end_ns {
                now_ns += step_ns;
                while let Some(due) = publishing.next_due(now_ns) {
                    let room = rooms.next().unwrap();
                    prop_assert!(due.intended_ns <= now_ns);
                    prop_assert_eq!(publishing.publisher_of(due.stream) as u64, roster.publisher_of(due.stream));
                    match room {
                        Room::Free if !publishing.is_waiting_for(publishing.publisher_of(due.stream)) => {
                            sent.push((due.stream, publishing.send(due, now_ns).0));
                        }
                        room => publishing.hold(due, room),
                    }
                }
                let publisher = (now_ns / step_ns) as usize % publishers as usize;
                if let Some(due) = publishing.release(publisher) {
                    sent.push((due.stream, publishing.send(due, now_ns).0));
                }
            }
            let unsent = publishing.end();
            prop_assert_eq!(sent.len() as u64 + unsent, 400);
            prop_assert_eq!(publishing.published().iter().sum::<u64>(), sent.len() as u64);
            for stream in 0..roster.streams() {
                prop_assert!(sent.iter().filter(|(s, _)| *s == stream).is_sorted_by_key(|(_, sent)| sent.intended_ns));
            }
        }

        #[test]
        fn a_closed_loop_never_has_more_under_way_than_allowed(in_flight in 1_u32..20, credits in prop::collection::vec(0_u64..5, 0..50)) {
            let (mut publishing, _) = publishing(2, 3);
            publishing.begin(&Load { kind: LoadKind::Closed, in_flight, ..Load::default() }, 0, WINDOW, SECOND, 1);
            let (mut offered, mut passed, mut now_ns) = (0, 0, 0);
            for credit in credits {
                now_ns += 1;
                while let Some(due) = publishing.next_due(now_ns) {
                    prop_assert_eq!(due.intended_ns, now_ns);
                    offered += 1;
                }
                prop_assert_eq!(offered - passed, u64::from(in_flight));
                passed += credit.min(offered - passed);
                publishing.credit(passed, now_ns);
            }
            prop_assert!(!publishing.is_done(WINDOW.end_ns - 1) && publishing.is_done(WINDOW.end_ns));
            prop_assert_eq!(publishing.next_due(WINDOW.end_ns), None);
        }

        #[test]
        fn whoever_comes_and_goes_a_closed_loop_has_as_many_under_way_as_allowed(
            in_flight in 1_u32..6,
            events in prop::collection::vec((0_u8..4, 0_u32..3), 0..80),
        ) {
            let (mut publishing, _) = publishing(3, 3);
            publishing.begin(&Load { kind: LoadKind::Closed, in_flight, ..Load::default() }, 0, WINDOW, SECOND, 1);
            // By stream: sent, heard of by somebody, on its way when everybody left, and whether somebody is there.
            let (mut sent, mut heard, mut left, mut is_there) = ([0_u64; 3], [0_u64; 3], [0_u64; 3], [true; 3]);
            let mut passed = 0;
            for (event, stream) in events {
                let s = stream as usize;
                match event {
                    0 if is_there[s] => {
                        publishing.leave(stream, heard[s]);
                        (is_there[s], left[s]) = (false, sent[s]);
                    }
                    1 => {
                        publishing.join(stream);
                        is_there[s] = true;
                    }
                    // All of a stream comes to its subscriber, who may have come after the first of it were sent.
                    2.. if is_there[s] && heard[s].max(left[s]) < sent[s] => {
                        passed += sent[s] - std::mem::replace(&mut heard[s], sent[s]);
                        publishing.credit(passed, 0);
                        publishing.hear(stream);
                    }
                    _ => {}
                }
                while let Some(due) = publishing.next_due(0) {
                    prop_assert!(is_there[due.stream as usize]);
                    publishing.send(due, 0);
                    sent[due.stream as usize] += 1;
                }
                if is_there.contains(&true) {
                    let under_way = (0..3).map(|s| sent[s] - heard[s].max(left[s])).sum::<u64>();
                    prop_assert_eq!(under_way, u64::from(in_flight));
                } else {
                    prop_assert_eq!(publishing.due_ns(), u64::MAX);
                }
            }
        }

        #[test]
        fn publishers_of_a_topic_take_turns(publishers in 1_u64..9, topics in 1_u32..9) {
            let (mut publishing, roster) = publishing(publishers, topics);
            let rounds = 24 * u64::from(roster.streams());
            let mut counts = vec![0_u64; roster.streams() as usize];
            (0..rounds).for_each(|_| counts[publishing.pick() as usize] += 1);
            for topic in 0..topics {
                let of_topic: Vec<u64> = roster.streams_of(topic).map(|stream| counts[stream as usize]).collect();
                prop_assert!(of_topic.iter().max().unwrap() - of_topic.iter().min().unwrap() <= 1);
            }
        }
    }

    fn closed(publishers: u64, topics: u32, in_flight: u32) -> Publishing {
        let (mut publishing, _) = publishing(publishers, topics);
        publishing.begin(&Load { kind: LoadKind::Closed, in_flight, ..Load::default() }, 0, WINDOW, 100, 1);
        publishing
    }

    #[test]
    fn a_closed_loop_passes_over_topics_that_nobody_is_subscribed_to() {
        let mut publishing = closed(1, 3, 2);
        let sent = |publishing: &mut Publishing| -> Vec<u32> {
            std::iter::from_fn(|| {
                let due = publishing.next_due(1)?;
                publishing.send(due, 1);
                Some(due.stream)
            })
            .collect()
        };
        publishing.leave(1, 0);
        assert_eq!(sent(&mut publishing), [0, 2]);
        // The subscriber of topic 2 leaves with one on its way, so there is room for another one.
        publishing.leave(2, 0);
        assert_eq!(sent(&mut publishing), [0]);
        publishing.leave(0, 0);
        assert_eq!((sent(&mut publishing), publishing.due_ns()), (vec![], u64::MAX));
        publishing.join(1);
        assert_eq!(sent(&mut publishing), [1, 1]);
        assert_eq!(publishing.end(), 0);
    }

    #[test]
    fn a_closed_loop_goes_on_without_a_publisher_that_is_gone() {
        let mut publishing = closed(2, 2, 2);
        let first = publishing.next_due(1).unwrap();
        publishing.hold(first, Room::Full);
        publishing.lose(publishing.publisher_of(first.stream));
        let streams: Vec<u32> = std::iter::from_fn(|| publishing.next_due(1)).map(|due| due.stream).collect();
        assert_eq!(streams, [1 - first.stream; 2]);
        publishing.lose(publishing.publisher_of(1 - first.stream));
        publishing.credit(2, 1);
        assert_eq!((publishing.next_due(1), publishing.due_ns(), publishing.end()), (None, u64::MAX, 0));
    }

    #[test]
    fn a_closed_loop_waits_for_a_lost_publication_only_so_long() {
        let mut publishing = closed(1, 1, 2);
        assert_eq!(std::iter::from_fn(|| publishing.next_due(50)).count(), 2);
        assert_eq!((publishing.due_ns(), publishing.next_due(149)), (150, None));
        // One has passed: the other is waited for anew.
        publishing.credit(1, 120);
        assert!(publishing.next_due(120).is_some());
        assert_eq!((publishing.due_ns(), publishing.next_due(219)), (220, None));
        assert_eq!(std::iter::from_fn(|| publishing.next_due(220)).count(), 2);
    }

    #[test]
    fn an_earlier_end_leaves_nothing_unsent_that_was_not_due() {
        let (mut publishing, _) = publishing(1, 1);
        publishing.begin(&Load { rate_per_s: 10.0, ..Load::default() }, 0, WINDOW, SECOND, 1);
        publishing.stop(SECOND / 4);
        assert_eq!(std::iter::from_fn(|| publishing.next_due(SECOND)).count(), 3);
        assert!(publishing.is_done(SECOND));
        assert_eq!(publishing.end(), 0);
    }
}
