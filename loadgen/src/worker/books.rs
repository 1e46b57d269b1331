//! What a worker's connections received: checked, counted and recorded. Sans-IO: bytes and times are arguments.
//!
//! The order of calls: [`Books::begin_drive`]; for each read from a socket [`Books::begin_read`], a [`Books::message`] for
//! each of its messages, and before another connection's turn [`Books::end_read`]; [`Books::tick`] when time has passed.
//! Deliveries in a row with the same times are recorded at once, and a subscriber's way through a stream is told to the
//! completion once a read: a message that comes as it should costs no more than finding and comparing its bytes.

use crate::load::{Role, Roster};
use crate::measure::{Interval, Latencies, Measurement, RoleTally};
use crate::verify::{Completion, Marker, Medians, Outcome, PayloadReader, Read, Tracker, Trackers};
use crate::worker::account::{Account, Window};

/// A connection that is subscribed to a topic.
#[derive(Debug)]
pub struct Follower {
    role: Role,
    topic: u32,
    trackers: Trackers,
    medians: Medians,
}

/// The books of one worker.
#[derive(Debug)]
pub struct Books {
    /// The time of the latest read, or tick, in nanoseconds of `CLOCK_MONOTONIC`.
    pub now_ns: u64,
    /// What was counted and recorded in this drive, but for what is worked out at its end.
    pub measurement: Measurement,
    /// The current interval.
    pub interval: Interval,
    /// Intervals that are over, with their indices.
    pub finished: Vec<(i64, Interval)>,
    /// What became of publications.
    pub account: Account,
    completion: Completion,
    reader: PayloadReader,
    roster: Roster,
    /// Publications of each stream before this drive.
    base: Vec<u64>,
    roles: [RoleTally; Role::ALL.len()],
    run: Run,
    /// Corrected latencies since the interval began: intended in the measured time, and others.
    fresh: [Latencies; 2],
    intervals: Intervals,
    drain: Option<Drain>,
    is_driving: bool,
}

/// A subscriber's deliveries that are not recorded yet.
#[derive(Debug, Default)]
struct Run {
    is_open: bool,
    stream: u32,
    from: u64,
    intended_ns: u64,
    delay_ns: u64,
    count: u64,
}

/// What a tracker said, and what it was before.
#[derive(Debug, Clone, Copy)]
struct Seen {
    outcome: Outcome,
    had_begun: bool,
    next: u64,
    sequence: u64,
}

/// Where the boundaries between intervals lie.
#[derive(Debug, Default)]
struct Intervals {
    length_ns: u64,
    index: i64,
    begin_ns: u64,
    /// `u64::MAX` if none is coming.
    next_ns: u64,
}

/// All is published.
#[derive(Debug)]
struct Drain {
    published: Vec<u64>,
    /// What subscribers that are still there have not received.
    outstanding: i64,
}

impl Follower {
    /// Of `topic`, in this role.
    pub fn new(role: Role, topic: u32, roster: &Roster) -> Self {
        let trackers = Trackers::new(roster.streams_of(topic).map(|_| Tracker::default()));
        Self { role, topic, trackers, medians: Medians::default() }
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it is a subscriber that is owed nothing yet, as it has seen nothing since it came back.
    pub fn is_silent(&self) -> bool {
        self.is_measured() && !self.trackers.iter().any(Tracker::has_begun)
    }

    /// Its topic.
    pub fn topic(&self) -> u32 {
        self.topic
    }

    fn is_measured(&self) -> bool {
        self.role == Role::Subscriber
    }
}

impl Books {
    /// Empty books, for one of the workers of `roster`. `reader` checks the payloads.
    pub fn new(roster: Roster, reader: PayloadReader) -> Self {
        let streams = roster.streams();
        Self {
            now_ns: 0,
            measurement: Measurement::default(),
            interval: Interval::default(),
            finished: Vec::new(),
            account: Account::new(roster.members() == 1),
            completion: Completion::new(streams),
            reader,
            base: vec![0; streams as usize],
            roster,
            roles: Default::default(),
            run: Run::default(),
            fresh: Default::default(),
            intervals: Intervals { next_ns: u64::MAX, ..Intervals::default() },
            drain: None,
            is_driving: false,
        }
    }

    /// Figures begin anew. The load begins at `begin_ns`, the measured time is `window`, and intervals have `interval_ns`
    /// (0: there are none). `base`: publications of each stream so far. `people`: of each topic, how many subscribers are
    /// there. Each follower has to [`Self::attend`].
    pub fn begin_drive(&mut self, begin_ns: u64, window: Window, interval_ns: u64, base: &[u64], people: &[u32]) {
        self.measurement = Measurement::default();
        self.roles = Default::default();
        self.run = Run::default();
        self.fresh.iter_mut().for_each(Latencies::clear);
        (self.drain, self.is_driving) = (None, true);
        self.account.completed.clear();
        self.account.steps.clear();
        self.account.window = window;
        self.base.clear();
        self.base.extend_from_slice(base);
        self.completion.clear();
        for (stream, base) in (0_u32..).zip(base) {
            let people = people.get(self.roster.topic_of(stream) as usize).copied().unwrap_or(0);
            self.completion.begin(stream, *base, people);
        }
        self.finished.clear();
        self.interval = Interval::default();
        self.intervals = Intervals::new(begin_ns, window, interval_ns);
    }

    /// A follower takes part in the drive. One that `is_there` is owed everything from now on; others, and churners, from
    /// the first publication they see.
    pub fn attend(&self, follower: &mut Follower, is_there: bool) {
        let from_now = is_there && follower.role != Role::Churning;
        let (topic, topics) = (follower.topic as usize, self.roster.topics() as usize);
        follower.trackers.reset(|index| {
            let base = self.base.get(topic + index * topics).copied().unwrap_or(0);
            if from_now { Tracker::from(base) } else { Tracker::from_first_seen(base) }
        });
        follower.medians.clear();
    }

    /// Bytes of one read are about to come to this follower (or to somebody who follows nothing).
    #[inline]
    pub fn begin_read(&mut self, follower: Option<&mut Follower>, now_ns: u64, wire_bytes: usize) {
        if let Some(follower) = follower {
            self.end_read(follower);
        }
        self.tick(now_ns);
        self.measurement.tally.wire_bytes += wire_bytes as u64;
        self.interval.wire_bytes += wire_bytes as u64;
    }

    /// A message of that read.
    #[inline]
    pub fn message(&mut self, follower: &mut Follower, payload: &[u8]) {
        if !self.is_driving {
            return;
        }
        self.count(payload);
        let marker = match self.reader.read(payload) {
            Read::Whole(marker) => marker,
            Read::Foreign => return self.measurement.tally.foreign += 1,
            Read::Corrupted => return self.measurement.tally.corrupted += 1,
        };
        if (marker.stream != self.run.stream || !self.run.is_open) && !self.begin_run(follower, marker.stream) {
            return self.measurement.tally.foreign += 1;
        }
        let Some(tracker) = tracker_of(&self.roster, follower, marker.stream) else {
            return;
        };
        let (next, had_begun) = (tracker.next(), tracker.has_begun());
        let Some(sequence) = marker.sequence_near(next) else {
            return self.measurement.tally.corrupted += 1;
        };
        // What is late from an earlier drive begins nothing in this one.
        if !had_begun && sequence < self.base[marker.stream as usize] {
            return;
        }
        let outcome = tracker.see(sequence);
        if (outcome != Outcome::InOrder || !had_begun)
            && !self.see_other(follower, Seen { outcome, had_begun, next, sequence }, &marker)
        {
            return;
        }
        if follower.is_measured() && self.completion.is_news(marker.stream, sequence) {
            let Self { completion, account, .. } = self;
            completion.learn(marker.stream, sequence, marker.intended_ns, &mut |step| account.take(step));
        }
        if (marker.intended_ns, marker.delay_ns) != (self.run.intended_ns, self.run.delay_ns) {
            self.record(follower);
            (self.run.intended_ns, self.run.delay_ns) = (marker.intended_ns, marker.delay_ns);
        }
        self.run.count += 1;
    }

    /// A message to somebody who follows nothing.
    pub fn message_to_other(&mut self, payload: &[u8]) {
        self.count(payload);
    }

    #[inline]
    fn count(&mut self, payload: &[u8]) {
        let tally = &mut self.measurement.tally;
        tally.messages += 1;
        tally.payload_bytes += payload.len() as u64;
    }

    /// A message came compressed, with so many bytes, and has so many now.
    #[inline]
    pub fn inflated(&mut self, wire_bytes: usize, payload_bytes: usize) {
        if self.is_driving {
            let tally = &mut self.measurement.tally;
            tally.deflated_messages += 1;
            tally.deflated_bytes += wire_bytes as u64;
            tally.inflated_bytes += payload_bytes as u64;
        }
    }

    /// Nothing more comes to this follower for now: what came is recorded.
    #[inline]
    pub fn end_read(&mut self, follower: &mut Follower) {
        if !std::mem::take(&mut self.run.is_open) {
            return;
        }
        self.record(follower);
        let (stream, from) = (self.run.stream, self.run.from);
        if !follower.is_measured() {
            return;
        }
        if let Some(tracker) = tracker_of(&self.roster, follower, stream) {
            let Self { completion, account, .. } = self;
            completion.advance(stream, from, tracker.next(), self.now_ns, &mut |step| account.take(step));
        }
    }

    /// A run of messages of `stream` begins; `false` if that is none of the follower's topic.
    fn begin_run(&mut self, follower: &mut Follower, stream: u32) -> bool {
        self.end_read(follower);
        let Some(tracker) = tracker_of(&self.roster, follower, stream) else {
            return false;
        };
        let from = tracker.next();
        self.run = Run { is_open: true, stream, from, ..Run::default() };
        true
    }

    /// Something else than the expected publication; returns whether it is received for the first time.
    #[cold]
    fn see_other(&mut self, follower: &Follower, seen: Seen, marker: &Marker) -> bool {
        let Self { completion, account, .. } = self;
        let (role, stream, mut out) =
            (&mut self.roles[follower.role as usize], marker.stream, |step| account.take(step));
        if !seen.had_begun {
            self.run.from = seen.sequence;
            if follower.is_measured() {
                completion.join(stream, seen.sequence, &mut out);
                if let Some(drain) = &mut self.drain {
                    drain.outstanding += drain.published(stream).saturating_sub(seen.sequence) as i64;
                }
            }
        }
        match seen.outcome {
            Outcome::InOrder => return true,
            Outcome::Gap(skipped) => {
                role.gaps += skipped;
                if follower.is_measured() {
                    self.interval.gaps += skipped;
                    completion.miss(stream, seen.next, seen.sequence, &mut out);
                }
            }
            Outcome::Reordered => {
                role.reordered += 1;
                if follower.is_measured() {
                    completion.fill(stream, seen.sequence, marker.intended_ns, self.now_ns, &mut out);
                }
            }
            Outcome::Duplicate => {
                role.duplicates += 1;
                return false;
            }
            Outcome::Earlier => return false,
        }
        true
    }

    /// Deliveries with the same times.
    #[inline]
    fn record(&mut self, follower: &mut Follower) {
        let count = std::mem::take(&mut self.run.count);
        if count == 0 {
            return;
        }
        let (intended_ns, sent_ns) = (self.run.intended_ns, self.run.intended_ns.saturating_add(self.run.delay_ns));
        let corrected_ns = self.now_ns.saturating_sub(intended_ns);
        let (window, measurement) = (self.account.window, &mut self.measurement);
        let is_counted = window.holds(intended_ns);
        if !follower.is_measured() {
            if is_counted {
                measurement.others.record_n(corrected_ns, count);
            }
            return;
        }
        self.interval.received += count;
        if window.holds(self.now_ns) {
            measurement.received += count;
        }
        if is_counted {
            self.fresh[0].record_n(corrected_ns, count);
            measurement.service.record_n(self.now_ns.saturating_sub(sent_ns), count);
            follower.medians.record_n(corrected_ns, count);
        } else {
            self.fresh[1].record_n(corrected_ns, count);
        }
        if let Some(drain) = &mut self.drain {
            drain.outstanding -= count as i64;
        }
    }

    /// Time has passed: intervals may be over.
    #[inline]
    pub fn tick(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        while now_ns >= self.intervals.next_ns {
            self.end_interval();
        }
    }

    /// When [`Self::tick`] has something to do; `u64::MAX` for never.
    pub fn next_tick_ns(&self) -> u64 {
        self.intervals.next_ns
    }

    fn end_interval(&mut self) {
        let [counted, others] = &mut self.fresh;
        let mut interval = std::mem::take(&mut self.interval);
        interval.corrected = std::mem::take(counted);
        self.measurement.corrected.merge(&interval.corrected);
        if !others.is_empty() {
            interval.corrected.merge(others);
            others.clear();
        }
        let window = self.account.window;
        interval.begin_ns = self.intervals.begin_ns.wrapping_sub(window.begin_ns) as i64;
        interval.length_ns = self.intervals.next_ns - self.intervals.begin_ns;
        self.finished.push((self.intervals.index, interval));
        self.intervals.go_on(window);
    }

    /// The measured time ends earlier.
    pub fn stop(&mut self, at_ns: u64) {
        let window = &mut self.account.window;
        window.stop(at_ns);
        if self.intervals.next_ns != u64::MAX {
            self.intervals.next_ns = self.intervals.next_ns.min(window.end_ns.max(self.intervals.begin_ns));
        }
    }

    /// The server ended the connection of a follower: what it did not get of this drive is lost.
    pub fn lose(&mut self, follower: &mut Follower) {
        self.end_read(follower);
        match follower.role {
            Role::Churning => self.release(follower),
            Role::Subscriber => self.take_leave(follower, true),
            _ => {}
        }
    }

    /// A follower leaves by itself, and may come back: until then nothing is lost.
    pub fn release(&mut self, follower: &mut Follower) {
        self.end_read(follower);
        if follower.is_measured() {
            self.take_leave(follower, false);
        }
        let role = &mut self.roles[follower.role as usize];
        for tracker in follower.trackers.iter() {
            role.received += tracker.received();
            role.lost += tracker.missing();
        }
        let nearest: Vec<u64> = follower.trackers.iter().map(Tracker::next).collect();
        follower.trackers.reset(|index| Tracker::from_first_seen(nearest[index]));
    }

    fn take_leave(&mut self, follower: &Follower, is_lost: bool) {
        let Self { completion, account, .. } = self;
        for (stream, tracker) in self.roster.streams_of(follower.topic).zip(follower.trackers.iter()) {
            if tracker.has_begun() {
                completion.leave(stream, tracker.next(), is_lost, self.now_ns, &mut |step| account.take(step));
            }
            if let Some(drain) = &mut self.drain {
                drain.outstanding -= tracker.lost(drain.published(stream)) as i64;
            }
        }
    }

    /// All is published. From now on it is known what the `open` followers still wait for.
    pub fn begin_drain<'a>(&mut self, published: Vec<u64>, open: impl Iterator<Item = &'a Follower>) {
        let mut drain = Drain { published, outstanding: 0 };
        for follower in open.filter(|follower| follower.is_measured()) {
            for (stream, tracker) in self.roster.streams_of(follower.topic).zip(follower.trackers.iter()) {
                drain.outstanding += tracker.lost(drain.published(stream)) as i64;
            }
        }
        self.drain = Some(drain);
    }

    /// The first publication of `stream` that nobody here has heard of.
    pub fn unheard(&self, stream: u32) -> u64 {
        self.completion.end(stream)
    }

    /// See [`Completion::take_heard`].
    #[inline]
    pub fn take_heard(&mut self) -> Option<u32> {
        self.completion.take_heard()
    }

    /// Whether all is published and every subscriber that is still there has all of it.
    pub fn is_drained(&self) -> bool {
        self.drain.as_ref().is_some_and(|drain| drain.outstanding <= 0)
    }

    /// Works out what can only be known at the end, from all followers, and returns what was measured. What completion
    /// still had to tell is in [`Account::steps`] if there are other workers.
    pub fn end_drive<'a>(&mut self, followers: impl Iterator<Item = &'a Follower>, people: &[u32]) -> Measurement {
        let published = self.drain.take().map_or_else(|| self.base.clone(), |drain| drain.published);
        self.is_driving = false;
        self.intervals.next_ns = u64::MAX;
        let mut seen = [false; Role::ALL.len()];
        for follower in followers {
            let role = &mut self.roles[follower.role as usize];
            seen[follower.role as usize] = true;
            for (stream, tracker) in self.roster.streams_of(follower.topic).zip(follower.trackers.iter()) {
                role.received += tracker.received();
                role.lost += tracker.lost(published.get(stream as usize).copied().unwrap_or(0));
            }
            if let Some(median_ns) = follower.medians.median_ns().filter(|_| follower.is_measured()) {
                self.measurement.subscriber_medians.record(median_ns);
            }
        }
        for role in Role::SUBSCRIBED.into_iter().filter(|role| seen[*role as usize]) {
            let tally = &mut self.roles[role as usize];
            tally.expected = tally.received + tally.lost;
            self.measurement.tally.roles.insert(role.name().into(), *tally);
        }
        let [counted, _] = &mut self.fresh;
        self.measurement.corrected.merge(counted);
        self.measurement.window_ns = self.account.window.length_ns();
        self.finish_completion(&published, people);
        std::mem::take(&mut self.measurement)
    }

    fn finish_completion(&mut self, published: &[u64], people: &[u32]) {
        let Self { completion, account, .. } = self;
        let mut to_somebody = 0;
        for (stream, (published, base)) in (0_u32..).zip(published.iter().zip(&self.base)) {
            completion.finish(stream, *published, &mut |step| account.take(step));
            let has_people = people.get(self.roster.topic_of(stream) as usize).is_some_and(|people| *people > 0);
            to_somebody += if has_people { published.saturating_sub(*base) } else { 0 };
        }
        if account.is_alone() {
            self.measurement.tally.incomplete = account.completed.incomplete_of(to_somebody);
            self.measurement.completion.merge(&account.completed.latency);
        }
    }
}

impl Drain {
    fn published(&self, stream: u32) -> u64 {
        self.published.get(stream as usize).copied().unwrap_or(0)
    }
}

impl Intervals {
    /// The first interval is shorter if the warm-up is no multiple of their length.
    fn new(begin_ns: u64, window: Window, length_ns: u64) -> Self {
        if length_ns == 0 {
            return Self { next_ns: u64::MAX, ..Self::default() };
        }
        let warmup_ns = window.begin_ns.saturating_sub(begin_ns);
        let index = -(warmup_ns.div_ceil(length_ns) as i64);
        let next_ns = match index {
            0 => (window.begin_ns + length_ns).min(window.end_ns),
            _ => window.begin_ns - (index.unsigned_abs() - 1) * length_ns,
        };
        Self { length_ns, index, begin_ns, next_ns }
    }

    fn go_on(&mut self, window: Window) {
        (self.begin_ns, self.index) = (self.next_ns, self.index + 1);
        self.next_ns = match self.begin_ns < window.end_ns {
            true => (self.begin_ns + self.length_ns).min(window.end_ns),
            false => u64::MAX,
        };
    }
}

/// The tracker of a stream, if it is one of the follower's topic.
#[inline]
fn tracker_of<'a>(roster: &Roster, follower: &'a mut Follower, stream: u32) -> Option<&'a mut Tracker> {
    // The first stream of a topic has its number.
    if stream == follower.topic {
        return Some(follower.trackers.first());
    }
    roster.rank_in(follower.topic, stream).and_then(|rank| follower.trackers.get(rank))
}

#[cfg(test)]
mod tests;
