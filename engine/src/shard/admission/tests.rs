//! The gate: exact bounds, one line over all shards, and a rate that holds over any span of time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn settings(accepts_per_s: u32, handshakes_max: usize, accept_queue_max: usize) -> Settings {
    let accept_queue_timeout = Duration::from_secs(10);
    Settings { accepts_per_s, handshakes_max, accept_queue_max, accept_queue_timeout, ..Settings::default() }
}

#[test]
fn without_a_rate_only_handshakes_count() {
    let (gate, settings) = (Gate::new(2), settings(0, 2, 1));
    assert_eq!(gate.enter(0, 0, &settings), Entry::Inside);
    assert_eq!(gate.enter(1, 0, &settings), Entry::Inside);
    assert_eq!(gate.enter(1, 0, &settings), Entry::Waits);
    assert_eq!(gate.enter(0, 0, &settings), Entry::Full);
    assert_eq!(gate.patience(0, &settings), None, "somebody has to make room");
    assert_eq!(gate.take_granted(1, 0, &settings).0, 0);
    assert_eq!(gate.leave(0, 1, &settings).as_slice(), [1], "the shard of the one who waits is woken");
    assert_eq!(gate.take_granted(0, 1, &settings).0, 0);
    assert_eq!(gate.take_granted(1, 1, &settings).0, 1);
    assert_eq!(gate.counts().inside, 2);
    assert_eq!((gate.counts().waiting, gate.counts().delayed), (0, 1));
}

#[test]
fn who_makes_room_at_the_same_shard_wakes_nobody() {
    let (gate, settings) = (Gate::new(1), settings(0, 1, 9));
    assert_eq!(gate.enter(0, 0, &settings), Entry::Inside);
    assert_eq!(gate.enter(0, 0, &settings), Entry::Waits);
    assert!(gate.leave(0, 0, &settings).is_empty());
    assert_eq!(gate.take_granted(0, 0, &settings).0, 1);
}

#[test]
fn a_second_s_worth_may_come_at_once_and_then_they_come_at_the_rate() {
    let (gate, settings) = (Gate::new(1), settings(10, 1000, 1000));
    for _ in 0..10 {
        assert_eq!(gate.enter(0, 0, &settings), Entry::Inside);
    }
    for _ in 0..20 {
        assert_eq!(gate.enter(0, 0, &settings), Entry::Waits);
        assert_eq!(gate.patience(0, &settings), Some(Duration::from_millis(100)));
    }
    for n in 1..=20 {
        let moment = n * SECOND / 10;
        assert_eq!(gate.take_granted(0, moment - 1, &settings).0, 0);
        assert_eq!(gate.take_granted(0, moment, &settings).0, 1, "{n}");
    }
    // What was not used is saved, but no more than for a second.
    for _ in 0..10 {
        assert_eq!(gate.enter(0, 100 * SECOND, &settings), Entry::Inside);
    }
    assert_eq!(gate.enter(0, 100 * SECOND, &settings), Entry::Waits);
}

#[test]
fn who_would_wait_for_too_long_is_told_at_once_and_takes_nobody_s_turn() {
    let (gate, settings) = (Gate::new(1), settings(1, 1000, 1000));
    assert_eq!(gate.enter(0, 0, &settings), Entry::Inside);
    for _ in 0..10 {
        assert_eq!(gate.enter(0, 0, &settings), Entry::Waits);
    }
    for _ in 0..3 {
        assert_eq!(gate.enter(0, 0, &settings), Entry::TooLong(Duration::from_secs(11)));
    }
    assert_eq!(gate.enter(0, SECOND, &settings), Entry::Waits);
}

#[test]
fn who_gives_up_is_the_first_of_his_shard_unless_he_was_just_let_in() {
    let (gate, settings) = (Gate::new(2), settings(0, 1, 9));
    for shard in [0, 1, 0] {
        let _ = gate.enter(shard, 0, &settings);
    }
    assert!(gate.give_up(0));
    assert!(!gate.give_up(0), "nobody of this shard waits any more");
    assert_eq!(gate.counts().waiting, 1);
    assert_eq!(gate.leave(0, 0, &settings).as_slice(), [1]);
    assert!(!gate.give_up(1), "he is inside");
    assert_eq!(gate.take_granted(1, 0, &settings).0, 1);
}

#[test]
fn a_new_rate_holds_for_those_who_wait() {
    let gate = Gate::new(1);
    let slow = settings(1, 1000, 1000);
    assert_eq!(gate.enter(0, 0, &slow), Entry::Inside);
    for _ in 0..5 {
        assert_eq!(gate.enter(0, 0, &slow), Entry::Waits);
    }
    let faster = settings(10, 1000, 1000);
    assert_eq!(gate.take_granted(0, SECOND - 1, &faster).0, 0, "as long as the first has to wait anyway");
    assert_eq!(gate.take_granted(0, SECOND, &faster).0, 1);
    assert_eq!(gate.take_granted(0, SECOND + SECOND / 10, &faster).0, 1);
    let without = settings(0, 1000, 1000);
    assert_eq!(gate.take_granted(0, SECOND + SECOND / 10, &without).0, 3);
    assert_eq!(gate.enter(0, SECOND + SECOND / 10, &without), Entry::Inside);
}

/// What happens at a gate.
#[derive(Debug, Clone)]
enum Step {
    Enter(u16),
    Leave(u16),
    Take(u16),
    GiveUp(u16),
    Wait(u64),
}

fn steps(shards: u16) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..shards).prop_map(Step::Enter),
        3 => (0..shards).prop_map(Step::Leave),
        3 => (0..shards).prop_map(Step::Take),
        1 => (0..shards).prop_map(Step::GiveUp),
        2 => (0..400_000_000_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

/// Those who wait, as a plain list of whom each shard knows its own.
#[derive(Default)]
struct Model {
    next: usize,
    line: VecDeque<(usize, u16)>,
    /// Let in by the gate, not yet fetched by their shard.
    granted: Vec<VecDeque<usize>>,
    inside: usize,
    /// When each was let in.
    entries: Vec<u64>,
}

impl Model {
    /// The gate has let in so many of those who waited: they must be the first.
    fn let_in(&mut self, waiting: usize, nanos: u64) {
        while self.line.len() > waiting {
            let (who, shard) = self.line.pop_front().unwrap();
            self.granted[usize::from(shard)].push_back(who);
            self.inside += 1;
            self.entries.push(nanos);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_bounds_are_exact_the_first_come_first_and_nobody_is_forgotten(
        steps in steps(3), rate in 0_u32..30, handshakes_max in 1_usize..6, queue_max in 1_usize..10,
    ) {
        let settings = settings(rate, handshakes_max, queue_max);
        let gate = Gate::new(3);
        let mut model = Model { granted: vec![VecDeque::new(); 3], ..Model::default() };
        let mut nanos = 0;
        for step in steps {
            match step {
                Step::Enter(shard) => {
                    let full = model.line.len() >= queue_max;
                    match gate.enter(shard, nanos, &settings) {
                        Entry::Inside => {
                            prop_assert!(model.line.is_empty(), "nobody passes those who wait");
                            model.inside += 1;
                            model.entries.push(nanos);
                        }
                        Entry::Waits => {
                            prop_assert!(!full);
                            model.line.push_back((model.next, shard));
                        }
                        Entry::Full => prop_assert!(full),
                        Entry::TooLong(wait) => prop_assert!(wait > settings.accept_queue_timeout),
                    }
                    model.next += 1;
                }
                Step::Leave(shard) => {
                    // Only of those whom a shard knows to be inside.
                    if model.inside > model.granted.iter().map(VecDeque::len).sum() {
                        model.inside -= 1;
                        let wake = gate.leave(shard, nanos, &settings);
                        let before: Vec<usize> = model.granted.iter().map(VecDeque::len).collect();
                        model.let_in(gate.counts().waiting, nanos);
                        for other in 0..3_u16 {
                            let more = model.granted[usize::from(other)].len() > before[usize::from(other)];
                            prop_assert_eq!(wake.contains(&other), more && other != shard);
                        }
                    }
                }
                Step::Take(shard) => {
                    let (granted, _) = gate.take_granted(shard, nanos, &settings);
                    model.let_in(gate.counts().waiting, nanos);
                    prop_assert_eq!(granted, model.granted[usize::from(shard)].len());
                    model.granted[usize::from(shard)].clear();
                    // Whoever could come in has.
                    if rate == 0 {
                        prop_assert!(model.line.is_empty() || model.inside == handshakes_max);
                    }
                }
                Step::GiveUp(shard) => {
                    let first = model.line.iter().position(|(_, own)| *own == shard);
                    let waits = first.filter(|_| model.granted[usize::from(shard)].is_empty());
                    prop_assert_eq!(gate.give_up(shard), waits.is_some());
                    if let Some(first) = waits {
                        model.line.remove(first);
                    }
                }
                Step::Wait(time) => nanos += time,
            }
            prop_assert!(model.inside <= handshakes_max);
            prop_assert_eq!((gate.counts().inside, gate.counts().waiting), (model.inside, model.line.len()));
        }
        if rate > 0 {
            for (first, from) in model.entries.iter().enumerate() {
                for (n, until) in model.entries.iter().enumerate().skip(first) {
                    // The burst, what the rate gives in that time, and one for the fraction at the edge.
                    let most = f64::from(rate) * (1.0 + (until - from) as f64 / SECOND as f64) + 1.0;
                    prop_assert!((n - first + 1) as f64 <= most, "{} came within {} ns", n - first + 1, until - from);
                }
            }
        }
    }
}
