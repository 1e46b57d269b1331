//! A connection's queue against a model: bounds, policies, order, half-written frames, and every publication's fate.

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::pubsub::form::tests::{Maker, encodings, form, seen};
use crate::pubsub::publication::{Epoch, Now};
use crate::pubsub::settings::TopicSettings;
use crate::pubsub::tally::Deliveries;
use crate::ws::Message;

const BOUNDS: Bounds = Bounds { bytes: 4000, messages: 40 };
const POLICIES: [DeliveryPolicy; 4] =
    [DeliveryPolicy::Disconnect, DeliveryPolicy::DropOldest, DeliveryPolicy::DropNewest, DeliveryPolicy::Conflate];

#[derive(Debug, Clone)]
enum Op {
    /// Topic, payload length, key.
    Publish(usize, usize, Option<u8>),
    Replay(usize, usize),
    /// From now on publications are encoded so, at this level, if they are so long: the settings have changed.
    Encode(Form, u8, usize),
    Direct(usize),
    Control,
    /// The socket takes so many bytes.
    Write(usize),
    Expire(u64),
    Unsubscribe(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0_usize..3, 0_usize..300, prop::option::of(0_u8..4)).prop_map(|(t, l, k)| Op::Publish(t, l, k)),
        1 => (0_usize..3, 0_usize..300).prop_map(|(t, l)| Op::Replay(t, l)),
        1 => (form(), 1_u8..=9, 0_usize..300).prop_map(|(form, level, min)| Op::Encode(form, level, min)),
        2 => (0_usize..300).prop_map(Op::Direct),
        1 => Just(Op::Control),
        4 => (0_usize..2000).prop_map(Op::Write),
        1 => (0_u64..30).prop_map(Op::Expire),
        1 => (0_usize..3).prop_map(Op::Unsubscribe),
    ]
}

/// What an entry keeps in memory, counted by somebody else.
fn held(entry: &Entry) -> usize {
    match &entry.frame {
        Frame::Shared(publication, form) => {
            let raw = publication.encoded(Form::default()).len() + publication.key().map_or(0, str::len);
            raw.max(publication.encoded(*form).len())
        }
        Frame::Own(bytes) => bytes.len(),
        Frame::Hole => 0,
    }
}

struct Queue {
    outbound: Outbound,
    topics: Vec<Arc<Topic>>,
    offsets: [u64; 3],
    /// Live publications and replays offered.
    offered: u64,
    nanos: u64,
    /// The bytes the socket has taken.
    wire: Vec<u8>,
    /// What the socket must still get, if nothing is dropped: frames of control and direct messages, in order.
    undroppable: VecDeque<Vec<u8>>,
    alive: bool,
    form: Form,
    deflate_min_bytes: usize,
    maker: Maker,
}

impl Queue {
    fn new(policies: [usize; 3], messages: usize, bytes: usize, age: u64) -> Self {
        let topic = |(index, policy): (usize, usize)| {
            let settings = TopicSettings {
                policy: POLICIES[policy],
                pending_messages: messages,
                pending_bytes: bytes,
                pending_age: Duration::from_nanos(age),
                ..TopicSettings::default()
            };
            let name = format!("t{index}");
            Arc::new(Topic::new(
                index as u64,
                name.into(),
                Epoch(1),
                (Arc::new(settings), Arc::default()),
                1,
                Vec::new(),
                Now::default(),
            ))
        };
        Self {
            outbound: Outbound::default(),
            topics: policies.into_iter().enumerate().map(topic).collect(),
            offsets: [0; 3],
            offered: 0,
            nanos: 0,
            wire: Vec::new(),
            undroppable: VecDeque::new(),
            alive: true,
            form: Form::default(),
            deflate_min_bytes: 0,
            maker: Maker::new(3),
        }
    }

    fn publication(&mut self, topic: usize, length: usize, key: Option<u8>) -> Arc<Publication> {
        self.offsets[topic] += 1;
        self.nanos += 1;
        // The payload begins with the topic and the offset, so that the order can be read from the wire.
        let mut payload = format!("{topic}:{}:", self.offsets[topic]).into_bytes();
        payload.resize(payload.len() + length, b'x');
        let key = key.map(|key| key.to_string());
        let (name, message) = (self.topics[topic].name().clone(), Message::Binary(&payload));
        let publication = Publication::new(name, message, &encodings(), self.deflate_min_bytes);
        let mut publication = publication.with_key(key.as_deref());
        publication.sequence(Epoch(1), self.offsets[topic], Now { nanos: self.nanos, unix_ms: 0 }, 1);
        Arc::new(publication)
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Publish(topic, length, key) => {
                let publication = self.publication(topic, length, key);
                let nanos = self.nanos;
                let topic = self.topics[topic].clone();
                self.offered += 1;
                let refuses = self.outbound.refuses(&topic, &publication, BOUNDS);
                if !refuses {
                    publication.encode(self.form, &mut self.maker.frames());
                }
                let outcome = self.outbound.push_live(&topic, 0, &publication, self.form, BOUNDS, nanos);
                assert!(!refuses || outcome != Enqueued::Queued, "no frame has been made of it");
                if outcome == Enqueued::Overflow {
                    assert_eq!(topic.settings().policy, DeliveryPolicy::Disconnect);
                    topic.tally(0).discarded.add(1);
                    self.alive = false;
                }
            }
            Op::Replay(topic, length) => {
                let publication = self.publication(topic, length, None);
                publication.encode(self.form, &mut self.maker.frames());
                let topic = self.topics[topic].clone();
                let _ = self.outbound.push_replay(&topic, 0, &publication, self.form, BOUNDS);
            }
            Op::Encode(form, level, min) => {
                self.form = form;
                self.deflate_min_bytes = min;
                self.maker.deflater.level = level;
                // Others ask for other forms of what waits here.
                for entry in &self.outbound.entries {
                    if let Frame::Shared(publication, _) = &entry.frame {
                        publication.encode(form, &mut self.maker.frames());
                    }
                }
            }
            Op::Direct(length) => {
                let frame = vec![b'd'; length + 2];
                if self.outbound.push_direct(frame.clone(), Some(length as u64), BOUNDS) {
                    self.undroppable.push_back(frame);
                }
            }
            Op::Control => {
                self.outbound.push_control(vec![b'c'; 4]);
                self.undroppable.push_back(vec![b'c'; 4]);
            }
            Op::Write(bytes) => self.write(bytes),
            Op::Expire(later) => {
                self.nanos += later;
                self.alive &= self.outbound.expire(self.nanos) != Enqueued::Overflow;
            }
            Op::Unsubscribe(topic) => self.outbound.unsubscribe(&self.topics[topic].clone()),
        }
        self.check();
    }

    /// The socket takes at most so many bytes of what it is offered.
    fn write(&mut self, bytes: usize) {
        let taken = {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.outbound.slices(&mut slices);
            let offered: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            let taken = bytes.min(offered.len());
            self.wire.extend_from_slice(&offered[..taken]);
            taken
        };
        self.outbound.advance(taken, |_| {}, |_| {});
    }

    fn deliveries(&self) -> Deliveries {
        let mut sum = Deliveries::default();
        for topic in &self.topics {
            sum.merge(&Deliveries::sum(0, 0, [topic.tally(0)].into_iter()));
        }
        sum
    }

    fn check(&self) {
        let sum = self.deliveries();
        assert_eq!(sum.accounted(), self.offered + sum.replayed, "every publication has exactly one fate");
        let entries = self.outbound.entries.iter().filter(|entry| !entry.is_hole());
        let queued = entries.clone().filter(|entry| matches!(entry.kind, Kind::Live { .. } | Kind::Replay { .. }));
        assert_eq!(sum.queued, queued.count() as u64, "what is counted as queued is there");
        assert_eq!(self.outbound.messages(), entries.clone().count());
        let bytes: usize = entries.clone().map(held).sum();
        assert_eq!(self.outbound.bytes(), bytes - self.outbound.written);
        let control: usize = entries.clone().filter(|entry| entry.kind == Kind::Control).map(held).sum();
        assert!(self.outbound.bytes() <= BOUNDS.bytes + control, "whatever is compressed of it");
        assert_eq!(self.outbound.holes, self.outbound.entries.iter().filter(|entry| entry.is_hole()).count());
        assert!(
            self.outbound.entries.len() <= 2 * self.outbound.messages() + 2 * HOLES_MAX + 2,
            "dropping does not grow the queue"
        );
        for (index, lane) in self.outbound.lanes.iter().enumerate() {
            let own = entries.clone().filter(|entry| entry.kind == Kind::Live { lane: index as u32 });
            assert_eq!((lane.messages, lane.bytes), (own.clone().count(), own.map(held).sum::<usize>()));
            let settings = lane.topic.settings();
            assert!(lane.messages <= settings.pending_messages.max(1) + 1, "half-written ones come on top");
            assert!(lane.messages <= 1 || lane.bytes <= settings.pending_bytes + 400);
        }
    }

    /// Everything on the wire: whole frames in order, offsets of each topic rising.
    fn check_wire(&self) {
        let mut at = 0;
        let mut last = [0; 3];
        let mut undroppable = self.undroppable.clone();
        while at < self.wire.len() {
            match self.wire[at] {
                b'd' | b'c' => {
                    let expected = undroppable.pop_front().expect("sent only what was queued");
                    assert_eq!(&self.wire[at..at + expected.len()], expected, "in one piece and in order");
                    at += expected.len();
                }
                _ => {
                    let (header, length) = match self.wire[at + 1] {
                        126 => (4, usize::from(u16::from_be_bytes([self.wire[at + 2], self.wire[at + 3]]))),
                        length => (2, usize::from(length)),
                    };
                    let whole = &self.wire[at..at + header + length];
                    let payload = seen(whole, Some(crate::ws::deflate::Window::MAX)).remove(0).payload;
                    let payload = std::str::from_utf8(&payload).unwrap();
                    let payload = payload.strip_prefix("label ").unwrap_or(payload);
                    let mut parts = payload.split(':');
                    let topic: usize = parts.next().unwrap().parse().unwrap();
                    let offset: u64 = parts.next().unwrap().parse().unwrap();
                    assert!(offset > last[topic], "a topic's order is kept");
                    last[topic] = offset;
                    at += header + length;
                }
            }
        }
        assert!(undroppable.is_empty(), "control and direct messages are never dropped once queued");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_publication_has_one_fate_and_the_wire_is_whole_frames_in_order(
        policies in [0_usize..4, 0_usize..4, 0_usize..4],
        (messages, bytes, age) in (1_usize..20, 1_usize..3000, prop_oneof![Just(0), 1_u64..40]),
        ops in prop::collection::vec(op(), 1..300),
    ) {
        let mut queue = Queue::new(policies, messages, bytes, age);
        for op in ops {
            queue.apply(op);
            if !queue.alive {
                break;
            }
        }
        if queue.alive {
            while !queue.outbound.is_empty() {
                queue.write(100_000);
            }
            queue.check();
            queue.check_wire();
            prop_assert_eq!(queue.deliveries().queued, 0);
            queue.outbound.reset();
        } else {
            let begun = queue.outbound.written;
            queue.outbound.discard(true);
            prop_assert_eq!(queue.outbound.messages(), usize::from(begun > 0), "only a half-written frame stays");
            queue.outbound.discard(false);
            queue.check();
            prop_assert!(queue.outbound.is_empty());
        }
    }
}

fn offsets(queue: &Queue) -> Vec<u64> {
    let waiting = queue.outbound.entries.iter().filter_map(|entry| match &entry.frame {
        Frame::Shared(publication, _) => Some(publication.offset()),
        Frame::Own(_) | Frame::Hole => None,
    });
    waiting.collect()
}

#[test]
fn drop_oldest_keeps_the_newest_and_never_the_half_of_a_frame() {
    let mut queue = Queue::new([1, 1, 1], 3, 100_000, 0);
    queue.apply(Op::Publish(0, 50, None));
    queue.apply(Op::Write(10));
    (0..10).for_each(|_| queue.apply(Op::Publish(0, 50, None)));
    assert_eq!(offsets(&queue), [1, 10, 11], "the half-written one counts towards the bound, too");
    queue.apply(Op::Write(100_000));
    queue.check_wire();
}

#[test]
fn drop_newest_keeps_what_waits() {
    let mut queue = Queue::new([2, 2, 2], 3, 100_000, 0);
    (0..10).for_each(|_| queue.apply(Op::Publish(0, 50, None)));
    assert_eq!(offsets(&queue), [1, 2, 3]);
    assert_eq!(queue.deliveries().dropped_newest, 7);
}

#[test]
fn conflate_keeps_the_newest_of_each_key() {
    let mut queue = Queue::new([3, 3, 3], 100, 100_000, 0);
    for key in [Some(1), Some(2), None, Some(1), Some(3), None, Some(1)] {
        queue.apply(Op::Publish(0, 10, key));
    }
    assert_eq!(offsets(&queue), [2, 5, 6, 7]);
    assert_eq!(queue.deliveries().conflated, 3);
}

#[test]
fn conflate_is_cheap_and_bounded_however_long_the_reader_stalls() {
    let mut queue = Queue::new([3, 3, 3], 100, 100_000, 0);
    queue.apply(Op::Publish(0, 10, Some(9)));
    queue.apply(Op::Write(3));
    for round in 0..10_000 {
        queue.apply(Op::Publish(0, 10, Some((round % 4) as u8)));
    }
    assert_eq!(queue.outbound.messages(), 5);
}

#[test]
fn what_is_compressed_to_nothing_counts_as_what_it_keeps() {
    let mut queue = Queue::new([1, 1, 1], 100, 2000, 0);
    queue.apply(Op::Encode(Form { window: Some(crate::ws::deflate::Window::MAX), ..Form::default() }, 3, 0));
    (0..20).for_each(|_| queue.apply(Op::Publish(0, 500, None)));
    assert_eq!(offsets(&queue), [18, 19, 20], "so many are held, though all of them are some bytes on the wire");
    // A topic's share is of the same bytes as the whole, which three topics would exceed.
    (0..20).for_each(|n| queue.apply(Op::Publish(1 + n % 2, 500, None)));
    assert!(queue.outbound.bytes() > 3000);
    queue.apply(Op::Write(20));
    queue.apply(Op::Write(100_000));
    assert_eq!(queue.outbound.bytes(), 0);
    queue.check_wire();
}

#[test]
fn nothing_is_made_of_what_is_refused() {
    for policy in [0, 2] {
        let mut queue = Queue::new([policy; 3], 3, 100_000, 0);
        queue.apply(Op::Encode(Form { window: Some(crate::ws::deflate::Window::MAX), ..Form::default() }, 3, 0));
        (0..3).for_each(|_| queue.apply(Op::Publish(0, 50, None)));
        assert_eq!(queue.maker.metrics.deflated_messages.get(), 3);
        let publication = queue.publication(0, 50, None);
        assert!(queue.outbound.refuses(&queue.topics[0], &publication, BOUNDS));
        queue.apply(Op::Publish(0, 50, None));
        assert_eq!(queue.maker.metrics.deflated_messages.get(), 3);
    }
    let mut queue = Queue::new([2; 3], 3, 100_000, 0);
    let full = Bounds { bytes: 100, messages: 40 };
    assert!(!queue.outbound.is_at(full), "one message may always wait");
    queue.apply(Op::Direct(97));
    assert!(!queue.outbound.is_at(full));
    queue.apply(Op::Control);
    assert!(queue.outbound.is_at(full) && !queue.outbound.is_at(BOUNDS));
    assert!(queue.outbound.is_at(Bounds { bytes: 1000, messages: 2 }));
}

#[test]
fn disconnect_asks_for_it_at_the_bound() {
    let mut queue = Queue::new([0, 0, 0], 3, 100_000, 0);
    (0..3).for_each(|_| queue.apply(Op::Publish(0, 50, None)));
    assert!(queue.alive);
    queue.apply(Op::Publish(0, 50, None));
    assert!(!queue.alive);
}

#[test]
fn a_topic_at_its_bound_leaves_others_their_share() {
    let mut queue = Queue::new([1, 2, 0], 3, 100_000, 0);
    (0..10).for_each(|_| queue.apply(Op::Publish(0, 50, None)));
    (0..3).for_each(|_| queue.apply(Op::Publish(2, 50, None)));
    assert!(queue.alive);
    assert_eq!(queue.outbound.messages(), 6);
}

#[test]
fn what_has_waited_too_long_goes_first() {
    let mut queue = Queue::new([1, 1, 1], 100, 100_000, 10);
    (0..5).for_each(|_| queue.apply(Op::Publish(0, 10, None)));
    queue.apply(Op::Expire(8));
    assert_eq!(offsets(&queue), [3, 4, 5]);
    assert_eq!(queue.deliveries().dropped_expired, 2);
}

#[test]
fn closing_up_behind_another_topic_forgets_nobodys_oldest() {
    let mut queue = Queue::new([1, 1, 1], 3, 100_000, 0);
    queue.apply(Op::Publish(0, 10, None));
    // So many of another topic come and go that the queue is closed up behind it.
    (0..20).for_each(|_| queue.apply(Op::Publish(1, 10, None)));
    assert!(queue.outbound.entries.len() < 12, "it has been closed up");
    (0..3).for_each(|_| queue.apply(Op::Publish(0, 10, None)));
    let own = |entry: &&Entry| matches!(&entry.frame, Frame::Shared(publication, _) if publication.topic() == "t0");
    let left = queue.outbound.entries.iter().filter(own).filter_map(|entry| match &entry.frame {
        Frame::Shared(publication, _) => Some(publication.offset()),
        Frame::Own(_) | Frame::Hole => None,
    });
    assert_eq!(left.collect::<Vec<_>>(), [2, 3, 4]);
}
