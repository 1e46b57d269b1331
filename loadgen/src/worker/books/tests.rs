//! Books under a virtual clock.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::load::Schedule;
use crate::scenario::{Connections, Filler, Load, Scenario, Topics};
use crate::verify::PayloadWriter;

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// Followers of one worker, and payloads for them.
struct Scene {
    books: Books,
    followers: Vec<Follower>,
    writer: PayloadWriter,
    people: Vec<u32>,
}

impl Scene {
    fn new(publishers: u64, subscribers: u64, topics: u32) -> Self {
        let connections = Connections { publishers, subscribers, ..Connections::default() };
        let topics = Topics { count: topics, ..Topics::default() };
        let roster = Roster::new(&Scenario { connections, topics, ..Scenario::default() }, 1);
        let places: Vec<_> = roster.of_member(0).filter(|place| place.role == Role::Subscriber).collect();
        let followers = places.iter().map(|place| Follower::new(place.role, place.topic, &roster)).collect();
        let people = roster.subscribed(Role::Subscriber, 0).into_iter().map(|people| people as u32).collect();
        let books = Books::new(roster, PayloadReader::new(128, Filler::Random, 1, 1));
        Self { books, followers, writer: PayloadWriter::new(128, Filler::Random, 1, 1), people }
    }

    fn begin(&mut self, begin_ns: u64, window: Window, interval_ns: u64, base: &[u64]) {
        self.books.begin_drive(begin_ns, window, interval_ns, base, &self.people);
        for follower in &mut self.followers {
            self.books.attend(follower, true);
        }
    }

    fn payload(&mut self, stream: u32, sequence: u64, intended_ns: u64, delay_ns: u64) -> Vec<u8> {
        self.writer.write(&Marker { stream, sequence: sequence as u32, intended_ns, delay_ns }).to_vec()
    }

    /// One read.
    fn receive(&mut self, who: usize, now_ns: u64, messages: &[Vec<u8>]) {
        let follower = &mut self.followers[who];
        self.books.begin_read(Some(follower), now_ns, messages.iter().map(Vec::len).sum());
        messages.iter().for_each(|message| self.books.message(follower, message));
        self.books.end_read(follower);
    }

    fn end(&mut self, published: Vec<u64>) -> Measurement {
        self.books.begin_drain(published, self.followers.iter());
        self.books.end_drive(self.followers.iter(), &self.people)
    }
}

/// What a histogram of three digits says for this duration.
fn as_recorded(ns: u64) -> u64 {
    Latencies::default().histogram().highest_equivalent(ns)
}

#[test]
fn a_server_stalled_for_a_second_shows_in_the_corrected_latency_and_hides_in_that_of_service() {
    let mut scene = Scene::new(1, 2, 1);
    let start_ns = 100 * SECOND;
    scene.begin(start_ns, Window { begin_ns: start_ns, end_ns: start_ns + 10 * SECOND }, SECOND, &[0]);
    // 1,000 a second for 10 s. From 4 s to 5 s the server takes nothing, so what was to be sent then is sent at 5 s. It
    // answers within 1 ms. So of 10,000 publications 9,000 take 1 ms, and 1,000 take 2 ms, 3 ms, … 1,001 ms.
    let load = Load { rate_per_s: 1_000.0, ..Load::default() };
    let schedule = Schedule::new(&load, Duration::ZERO, Duration::from_secs(10), 1);
    for (sequence, intended_ns) in (0..).zip(schedule) {
        let stalled = (4 * SECOND..5 * SECOND).contains(&intended_ns);
        let sent_ns = if stalled { 5 * SECOND } else { intended_ns };
        let payload = scene.payload(0, sequence, start_ns + intended_ns, sent_ns - intended_ns);
        // The second subscriber is served 10 µs after the first.
        scene.receive(0, start_ns + sent_ns + MS - 10_000, std::slice::from_ref(&payload));
        scene.receive(1, start_ns + sent_ns + MS, &[payload]);
    }
    let measured = scene.end(vec![10_000]);

    for (quantile, ms) in [(0.5, 1), (0.9, 1), (0.99, 901), (0.999, 991), (1.0, 1_001)] {
        assert_eq!(measured.completion.quantile_ns(quantile), as_recorded(ms * MS), "completion at {quantile}");
    }
    // Of the 20,000 deliveries those of the first subscriber are 10 µs faster: ranks come in pairs.
    for (quantile, ns) in [(0.5, MS), (0.9, MS), (0.99, 901 * MS), (1.0, 1_001 * MS)] {
        let seen = measured.corrected.quantile_ns(quantile);
        assert!([ns - 10_000, ns].map(as_recorded).contains(&seen), "corrected at {quantile}: {seen}");
    }
    assert_eq!(measured.corrected.max_ns(), as_recorded(1_001 * MS));
    assert_eq!(measured.service.max_ns(), as_recorded(MS));
    assert_eq!((measured.corrected.len(), measured.service.len(), measured.completion.len()), (20_000, 20_000, 10_000));
    let tally = RoleTally { expected: 20_000, received: 20_000, ..RoleTally::default() };
    assert_eq!(measured.tally.subscribers(), tally);
    assert_eq!((measured.tally.incomplete, measured.window_ns), (0, 10 * SECOND));
    assert_eq!(measured.subscriber_medians.len(), 2);
    assert_eq!(scene.books.finished.len(), 10);
}

#[test]
fn intervals_hold_together_what_the_whole_holds_and_lose_nothing() {
    let mut scene = Scene::new(1, 1, 1);
    let window = Window { begin_ns: 2_500, end_ns: 5_200 };
    scene.begin(1_000, window, 1_000, &[0]);
    for sequence in 0..50 {
        let intended_ns = 1_000 + sequence * 100;
        let payload = scene.payload(0, sequence, intended_ns, 0);
        scene.receive(0, intended_ns + 150, &[payload]);
    }
    scene.books.tick(1 << 40);
    let finished = std::mem::take(&mut scene.books.finished);
    let bounds: Vec<_> = finished.iter().map(|(index, i)| (*index, i.begin_ns, i.length_ns)).collect();
    assert_eq!(bounds, [(-2, -1_500, 500), (-1, -1_000, 1_000), (0, 0, 1_000), (1, 1_000, 1_000), (2, 2_000, 700)]);
    let received: Vec<u64> = finished.iter().map(|(_, interval)| interval.received).collect();
    assert_eq!(received, [4, 10, 10, 10, 7]);
    assert!(finished.iter().all(|(_, interval)| interval.corrected.len() == interval.received));
    let measured = scene.end(vec![50]);
    // Intended in the measured time: 2,500 to 5,199; received in it: as the intervals say.
    assert_eq!((measured.corrected.len(), measured.received), (27, 27));
}

#[test]
fn a_subscriber_the_server_ends_has_lost_the_rest_and_one_that_leaves_has_not() {
    let mut scene = Scene::new(1, 3, 1);
    scene.begin(0, Window { begin_ns: 0, end_ns: SECOND }, 0, &[100]);
    let payloads: Vec<_> = (100..110).map(|sequence| scene.payload(0, sequence, 1 + sequence, 0)).collect();
    scene.receive(0, 500, &payloads);
    scene.receive(1, 501, &payloads[..4]);
    scene.receive(2, 502, &payloads[..2]);
    scene.books.lose(&mut scene.followers[1]);
    scene.books.release(&mut scene.followers[2]);
    scene.receive(2, 503, &payloads[7..9]);
    scene.receive(2, 504, &payloads[9..]);
    let measured = scene.end(vec![110]);
    // 10 of 10; 4 of 10; 2 of 2 and 3 of 3.
    let tally = RoleTally { expected: 25, received: 19, lost: 6, ..RoleTally::default() };
    assert_eq!(measured.tally.subscribers(), tally);
    assert_eq!((measured.tally.incomplete, measured.completion.len()), (6, 4));
}

#[test]
fn what_comes_late_from_an_earlier_drive_is_not_counted_in_this_one() {
    let mut scene = Scene::new(1, 1, 1);
    scene.begin(0, Window { begin_ns: 0, end_ns: 100 }, 0, &[0]);
    let payloads: Vec<_> = (0..6).map(|sequence| scene.payload(0, sequence, 10, 0)).collect();
    scene.receive(0, 20, &payloads[..2]);
    assert_eq!(scene.end(vec![4]).tally.subscribers().lost, 2);
    scene.begin(200, Window { begin_ns: 200, end_ns: 300 }, 0, &[4]);
    scene.receive(0, 210, &payloads[2..]);
    let measured = scene.end(vec![6]);
    assert_eq!(measured.tally.subscribers(), RoleTally { expected: 2, received: 2, ..RoleTally::default() });
    assert_eq!(measured.tally.incomplete, 0);
}

#[test]
fn what_comes_late_from_an_earlier_drive_does_not_begin_one_who_has_come_back() {
    let mut scene = Scene::new(1, 1, 1);
    scene.begin(200, Window { begin_ns: 200, end_ns: 300 }, 0, &[4]);
    scene.books.release(&mut scene.followers[0]);
    let late = scene.payload(0, 2, 10, 0);
    scene.receive(0, 210, &[late]);
    assert!(scene.books.take_heard().is_none());
    let payload = scene.payload(0, 5, 210, 0);
    scene.receive(0, 220, &[payload]);
    assert_eq!((scene.books.take_heard(), scene.books.take_heard()), (Some(0), None));
    let measured = scene.end(vec![6]);
    assert_eq!(measured.tally.subscribers(), RoleTally { expected: 1, received: 1, ..RoleTally::default() });
}

/// What a server does with one publication on its way to one subscriber.
#[derive(Debug, Clone, Copy)]
enum Mischief {
    None,
    Drop,
    Twice,
    Corrupt,
    Foreign,
}

fn mischief() -> impl Strategy<Value = Mischief> {
    prop_oneof![
        12 => Just(Mischief::None),
        1 => Just(Mischief::Drop),
        1 => Just(Mischief::Twice),
        1 => Just(Mischief::Corrupt),
        1 => Just(Mischief::Foreign),
    ]
}

proptest! {
    #[test]
    fn exactly_what_a_server_did_wrong_is_reported(
        publishers in 1_u64..4,
        topics in 1_u32..4,
        done in prop::collection::vec(prop::collection::vec(mischief(), 3), 1..120),
        batch in 1_usize..9,
    ) {
        let mut scene = Scene::new(publishers, 3, topics);
        let streams = scene.books.roster.streams();
        scene.begin(0, Window { begin_ns: 0, end_ns: SECOND }, 0, &vec![0; streams as usize]);
        let (mut published, mut batches) = (vec![0_u64; streams as usize], vec![Vec::new(); 3]);
        let (mut received, mut lost, mut twice, mut corrupted, mut foreign, mut incomplete) = (0, 0, 0, 0, 0, 0);
        for (n, mischiefs) in done.iter().enumerate() {
            let stream = n as u32 % streams;
            let topic = scene.books.roster.topic_of(stream);
            let mut payload = scene.payload(stream, published[stream as usize], 1 + n as u64, 0);
            published[stream as usize] += 1;
            let mut is_complete = true;
            for who in (0..3).filter(|who| scene.followers[*who].topic == topic) {
                match mischiefs[who] {
                    Mischief::None => batches[who].push(payload.clone()),
                    Mischief::Drop => {}
                    Mischief::Twice => batches[who].extend([payload.clone(), payload.clone()]),
                    Mischief::Corrupt => {
                        payload[60] ^= 1;
                        batches[who].push(payload.clone());
                        payload[60] ^= 1;
                        corrupted += 1;
                    }
                    Mischief::Foreign => {
                        batches[who].extend([b"hello".to_vec(), payload.clone()]);
                        foreign += 1;
                    }
                }
                let comes = !matches!(mischiefs[who], Mischief::Drop | Mischief::Corrupt);
                received += u64::from(comes);
                lost += u64::from(!comes);
                twice += u64::from(matches!(mischiefs[who], Mischief::Twice));
                is_complete &= comes;
            }
            incomplete += u64::from(!is_complete);
        }
        for (who, messages) in batches.iter().enumerate() {
            for (n, messages) in messages.chunks(batch).enumerate() {
                scene.receive(who, 10_000 + n as u64, messages);
            }
        }
        let measured = scene.end(published);
        let subscribers = measured.tally.subscribers();
        prop_assert_eq!((subscribers.received, subscribers.lost, subscribers.duplicates), (received, lost, twice));
        prop_assert_eq!((subscribers.expected, subscribers.reordered), (received + lost, 0));
        prop_assert!(subscribers.gaps <= lost);
        prop_assert_eq!((measured.tally.corrupted, measured.tally.foreign), (corrupted, foreign));
        prop_assert_eq!(measured.tally.incomplete, incomplete);
        prop_assert_eq!((measured.corrected.len(), measured.service.len()), (received, received));
    }

    #[test]
    fn histograms_merge_without_loss_and_quantiles_are_those_of_the_sorted_list(
        parts in prop::collection::vec(prop::collection::vec(1_u64..100 * SECOND, 0..60), 1..5),
        quantile in 0.0_f64..=1.0,
    ) {
        let mut merged = Latencies::default();
        for part in &parts {
            let mut latencies = Latencies::default();
            part.iter().for_each(|ns| latencies.record(*ns));
            merged.merge(&latencies);
        }
        let mut sorted: Vec<u64> = parts.concat();
        sorted.sort_unstable();
        prop_assert_eq!(merged.len(), sorted.len() as u64);
        if !sorted.is_empty() {
            let rank = ((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1;
            prop_assert_eq!(merged.quantile_ns(quantile), as_recorded(sorted[rank]));
            prop_assert_eq!(merged.max_ns(), as_recorded(*sorted.last().unwrap()));
        }
    }
}
