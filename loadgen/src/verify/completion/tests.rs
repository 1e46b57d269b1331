//! Completion against a model that remembers every receipt of everybody, for one to four parties.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::verify::{Outcome, Parties, Tracker};

/// What may happen.
#[derive(Debug, Clone)]
enum Event {
    Publish,
    /// Subscriber, and how far from the one it expects.
    Receive(usize, i64),
    /// Subscriber reads so many in a row at once.
    ReadRun(usize, u64),
    /// The server takes a subscriber away.
    Lose(usize),
    /// What parties have told so far comes to the conductor.
    Hear(u32),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => Just(Event::Publish),
        4 => (0_usize..6, -4_i64..4).prop_map(|(who, off)| Event::Receive(who, off)),
        6 => (0_usize..6, 1_u64..6).prop_map(|(who, count)| Event::ReadRun(who, count)),
        1 => (0_usize..60).prop_map(Event::Lose),
        2 => (0_u32..4).prop_map(Event::Hear),
    ];
    prop::collection::vec(event, 0..250)
}

/// One subscriber as a worker has it.
struct Subscriber {
    tracker: Tracker,
    party: u32,
    gone: bool,
    /// The model's: when it received what.
    received: BTreeMap<u64, u64>,
    /// The model's: of so many publications it is expected to receive each.
    expected: u64,
}

struct World {
    subscribers: Vec<Subscriber>,
    workers: Vec<Completion>,
    told: Vec<Vec<Step>>,
    conductor: Parties,
    done: BTreeMap<u64, (u64, u64)>,
    passed: u64,
    published: u64,
    now_ns: u64,
}

const FIRST: u64 = 7;

fn intended(sequence: u64) -> u64 {
    1_000 + sequence
}

impl World {
    fn new(parties: u32, subscribers: usize) -> Self {
        let subscriber = |n| Subscriber {
            tracker: Tracker::from(FIRST),
            party: n as u32 % parties,
            gone: false,
            received: BTreeMap::new(),
            expected: u64::MAX,
        };
        let subscribers: Vec<_> = (0..subscribers).map(subscriber).collect();
        let of = |party| subscribers.iter().filter(|subscriber| subscriber.party == party).count() as u32;
        let worker = |party| {
            let mut completion = Completion::new(1);
            completion.begin(0, FIRST, of(party));
            completion
        };
        let mut conductor = Parties::new(1);
        conductor.begin(0, FIRST, (0..parties).filter(|party| of(*party) > 0));
        let (workers, told) = ((0..parties).map(worker).collect(), vec![Vec::new(); parties as usize]);
        let done = BTreeMap::new();
        Self { subscribers, workers, told, conductor, done, passed: 0, published: FIRST, now_ns: 5_000 }
    }

    fn receive(&mut self, who: usize, sequences: impl IntoIterator<Item = u64>) {
        let now_ns = self.now_ns;
        let Some(subscriber) = self.subscribers.get_mut(who).filter(|subscriber| !subscriber.gone) else {
            return;
        };
        let (worker, told) = (&mut self.workers[subscriber.party as usize], &mut self.told[subscriber.party as usize]);
        let mut out = |step| told.push(step);
        let from = subscriber.tracker.next();
        for sequence in sequences.into_iter().filter(|sequence| (FIRST..self.published).contains(sequence)) {
            subscriber.received.entry(sequence).or_insert(now_ns);
            let next = subscriber.tracker.next();
            match subscriber.tracker.see(sequence) {
                Outcome::Gap(_) => worker.miss(0, next, sequence, &mut out),
                Outcome::Reordered => worker.fill(0, sequence, intended(sequence), now_ns, &mut out),
                Outcome::InOrder | Outcome::Duplicate | Outcome::Earlier => {}
            }
            if worker.is_news(0, sequence) {
                worker.learn(0, sequence, intended(sequence), &mut out);
            }
        }
        worker.advance(0, from, subscriber.tracker.next(), now_ns, &mut out);
    }

    fn lose(&mut self, who: usize) {
        let published = self.published;
        if let Some(subscriber) = self.subscribers.get_mut(who).filter(|subscriber| !subscriber.gone) {
            subscriber.gone = true;
            let party = subscriber.party as usize;
            // What nobody of its party had received by then is not held against the publication.
            subscriber.expected = self.workers[party].end(0).min(published);
            let told = &mut self.told[party];
            self.workers[party].leave(0, subscriber.tracker.next(), true, self.now_ns, &mut |step| told.push(step));
        }
    }

    fn hear(&mut self, party: u32) {
        let Some(told) = self.told.get_mut(party as usize) else {
            return;
        };
        let (done, passed) = (&mut self.done, &mut self.passed);
        for step in told.drain(..) {
            self.conductor.take(party, step, &mut |step| match step {
                Step::Done { sequence, intended_ns, at_ns, .. } => {
                    *passed += 1;
                    assert_eq!(done.insert(sequence, (intended_ns, at_ns)), None);
                }
                Step::Filled { sequence, intended_ns, at_ns, .. } => {
                    assert_eq!(done.insert(sequence, (intended_ns, at_ns)), None);
                }
                Step::Passed { .. } => *passed += 1,
                Step::Skipped { .. } => unreachable!("the conductor's parties stay"),
            });
        }
    }

    /// When everybody who was to receive it had it, by what the model remembers.
    fn complete(&self, sequence: u64) -> Option<(u64, u64)> {
        let expected = self.subscribers.iter().filter(|subscriber| sequence < subscriber.expected);
        let times: Option<Vec<u64>> = expected.map(|subscriber| subscriber.received.get(&sequence).copied()).collect();
        times?.into_iter().max().map(|at_ns| (intended(sequence), at_ns))
    }

    fn run(&mut self, events: Vec<Event>, with_losses: bool) {
        for event in events {
            self.now_ns += 1;
            match event {
                Event::Publish => self.published += 1,
                Event::Receive(who, off) => {
                    let next = self.subscribers.get(who).map_or(0, |subscriber| subscriber.tracker.next());
                    self.receive(who, next.checked_add_signed(off));
                }
                Event::ReadRun(who, count) => {
                    let next = self.subscribers.get(who).map_or(0, |subscriber| subscriber.tracker.next());
                    self.receive(who, next..next + count);
                }
                Event::Lose(who) if with_losses => self.lose(who),
                Event::Lose(_) => {}
                Event::Hear(party) => self.hear(party),
            }
        }
        (0..self.workers.len() as u32).for_each(|party| self.hear(party));
    }
}

proptest! {
    #[test]
    fn what_is_complete_and_since_when_is_what_a_model_that_remembers_all_says(
        parties in 1_u32..5,
        subscribers in 1_usize..7,
        events in events(),
    ) {
        let mut world = World::new(parties, subscribers);
        world.run(events, false);
        let expected: BTreeMap<u64, (u64, u64)> =
            (FIRST..world.published).filter_map(|sequence| Some((sequence, world.complete(sequence)?))).collect();
        prop_assert_eq!(&world.done, &expected);
        let lowest = world.subscribers.iter().map(|subscriber| subscriber.tracker.next()).min().unwrap();
        prop_assert_eq!(world.passed, lowest - FIRST);
    }

    #[test]
    fn who_is_taken_away_holds_up_nothing_and_completes_nothing(subscribers in 2_usize..7, events in events()) {
        let mut world = World::new(1, subscribers);
        world.run(events, true);
        for (sequence, done) in &world.done {
            // One that only people who left had received counts as unattended.
            let complete = world.complete(*sequence);
            prop_assert!(complete.is_none_or(|complete| complete == *done || world.subscribers.iter().any(|s| s.gone)));
            prop_assert!(world.subscribers.iter().all(|s| *sequence >= s.expected || s.received.contains_key(sequence)));
        }
        let open = world.subscribers.iter().filter(|subscriber| !subscriber.gone);
        if let Some(lowest) = open.map(|subscriber| subscriber.tracker.next()).min() {
            prop_assert!(world.passed >= lowest - FIRST);
        }
    }

    #[test]
    fn a_window_is_bounded_and_counts_everything_once(events in events(), window_max in 1_usize..8) {
        let mut world = World::new(1, 4);
        let completion = std::mem::replace(&mut world.workers[0], Completion::new(0));
        world.workers[0] = completion.with_window_max(window_max);
        world.run(events, false);
        prop_assert!(world.workers[0].windows[0].slots.len() <= window_max + 1);
        prop_assert_eq!(world.workers[0].waiting, world.workers[0].windows[0].slots.len() - 1);
        for (sequence, done) in &world.done {
            prop_assert_eq!(world.complete(*sequence), Some(*done));
        }
    }
}

#[test]
fn a_stream_without_anybody_skips_and_who_joins_is_waited_for() {
    let (mut completion, mut steps) = (Completion::new(1), Vec::new());
    completion.begin(0, 0, 1);
    completion.learn(0, 0, 100, &mut |step| steps.push(step));
    completion.leave(0, 0, false, 7, &mut |step| steps.push(step));
    completion.join(0, 5, &mut |step| steps.push(step));
    completion.learn(0, 5, 105, &mut |step| steps.push(step));
    completion.advance(0, 5, 6, 9, &mut |step| steps.push(step));
    completion.leave(0, 6, false, 9, &mut |step| steps.push(step));
    completion.finish(0, 8, &mut |step| steps.push(step));
    let expected = [
        Step::Done { stream: 0, sequence: 0, intended_ns: 100, at_ns: 7 },
        Step::Skipped { stream: 0, from: 1, to: 5, excused: true },
        Step::Done { stream: 0, sequence: 5, intended_ns: 105, at_ns: 9 },
        Step::Skipped { stream: 0, from: 6, to: 8, excused: true },
    ];
    assert_eq!(steps, expected);
}
