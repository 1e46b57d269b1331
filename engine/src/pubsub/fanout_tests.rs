//! A shard's fan-out against a model: whatever joins, leaves, is published and visited in whatever order, every subscriber
//! gets every publication since it joined, once and in order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::id::ConnectionId;
use crate::pubsub::EncodingId;
use crate::pubsub::form::tests::{Maker, encodings, form, seen};
use crate::pubsub::publication::{Epoch, Now};
use crate::pubsub::settings::TopicSettings;
use crate::ws::Message;

#[derive(Debug, Clone)]
enum Op {
    Join(Form),
    /// One of those present.
    Leave(usize),
    /// Payload length; whether one of those present is left out.
    Publish(usize, Option<usize>),
    Visit(usize),
    CatchUp(usize),
    Settle,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => form().prop_map(Op::Join),
        2 => any::<usize>().prop_map(Op::Leave),
        4 => (prop_oneof![9 => 0_usize..200, 1 => Just(BATCHED_FRAME_BYTES_MAX + 1)], prop::option::weighted(0.2, any::<usize>()))
            .prop_map(|(length, except)| Op::Publish(length, except)),
        5 => (1_usize..12).prop_map(Op::Visit),
        1 => any::<usize>().prop_map(Op::CatchUp),
        1 => Just(Op::Settle),
    ]
}

#[derive(Debug)]
struct Member {
    index: u32,
    form: Form,
    /// The next offset it must get.
    next: u64,
}

struct Model {
    fanout: Fanout,
    members: BTreeMap<u32, Member>,
    published: Vec<Arc<Publication>>,
    joined: u32,
    done: u64,
    spare: Vec<Buffers>,
    maker: Maker,
}

impl Model {
    fn new() -> Self {
        let topic = {
            let terms = (Arc::new(TopicSettings::default()), Arc::default());
            Topic::new(0, "t".into(), Epoch(1), terms, 1, Vec::new(), Now::default())
        };
        Self {
            fanout: Fanout::new(Arc::new(topic), 1),
            members: BTreeMap::new(),
            published: Vec::new(),
            joined: 0,
            done: 0,
            spare: Vec::new(),
            maker: Maker::new(1),
        }
    }

    fn end(&self) -> u64 {
        self.published.len() as u64 + 1
    }

    fn pick(&self, seed: usize) -> Option<u32> {
        let slots: Vec<u32> = self.members.keys().copied().collect();
        (!slots.is_empty()).then(|| slots[seed % slots.len()])
    }

    fn join(&mut self, form: Form) {
        let (slot, next) = (self.joined, self.end());
        self.joined += 1;
        let index = self.fanout.add(slot, slot + 7, form, next);
        self.members.insert(slot, Member { index, form, next });
    }

    fn leave(&mut self, slot: u32) {
        let member = self.members.remove(&slot).unwrap();
        let members = &mut self.members;
        let next = self.fanout.remove(member.index, |slot, place, index| {
            assert_eq!(place, slot + 7);
            members.get_mut(&slot).unwrap().index = index;
        });
        assert_eq!(next, member.next, "what it has not got is known exactly");
    }

    fn publish(&mut self, length: usize, except: Option<u32>) {
        let payload = vec![self.published.len() as u8; length];
        let except = except.map(|slot| ConnectionId { shard: 0, slot, generation: 0 });
        let publication = Publication::new("t".into(), Message::Binary(&payload), &encodings(), 100);
        let mut publication = publication.without(except);
        publication.sequence(Epoch(1), self.end(), Now::default(), 1);
        let publication = Arc::new(publication);
        self.published.push(publication.clone());
        if !self.fanout.push(publication) {
            assert!(self.members.is_empty());
            self.done += 1;
        }
    }

    /// Takes a visit the way the shard does, and checks it.
    fn serve(&mut self, visit: Visit) {
        let (end, window) = (self.end(), self.fanout.end());
        let member = self.members.get_mut(&visit.slot).expect("only those present are visited");
        assert_eq!(visit.from, member.next, "everything since the last visit, and nothing twice");
        assert!(visit.to == window || visit.to == end);
        member.next = visit.to;
        let wanted = &self.published[visit.from as usize - 1..visit.to as usize - 1];
        let left_out = wanted.iter().any(|p| p.except().is_some_and(|id| id.slot == visit.slot));
        let pieces: Vec<u64> = self.fanout.publications(visit).map(|p| p.offset()).collect();
        assert_eq!(pieces, (visit.from..visit.to).collect::<Vec<_>>());
        assert_eq!(visit.form, member.form);
        match self.fanout.burst(visit, &mut self.maker.frames(), &mut self.spare) {
            Burst::Whole(bytes) => {
                assert!(!left_out, "nobody is sent what it is left out of");
                let messages = seen(bytes, visit.form.window);
                assert_eq!(messages.len(), wanted.len());
                for (message, publication) in messages.iter().zip(wanted) {
                    assert!(message.payload.ends_with(publication.payload()));
                    let label = usize::from(visit.form.encoding != EncodingId::RAW) * "label ".len();
                    assert_eq!(message.payload.len(), label + publication.payload().len());
                }
                // What is left of a piece that the socket has not taken whole is found by the lengths of its frames.
                let lengths = wanted.iter().map(|publication| publication.encoded(visit.form).len());
                assert_eq!(lengths.sum::<usize>(), bytes.len());
            }
            Burst::Pieces => assert!(left_out || wanted.len() > 1 || visit.to > window),
        }
    }

    fn visit(&mut self, times: usize) -> usize {
        for time in 0..times {
            let members = &mut self.members;
            let visit = self.fanout.visit(|slot, place, index| {
                assert_eq!(place, slot + 7);
                members.get_mut(&slot).unwrap().index = index;
            });
            let Some(visit) = visit else { return time };
            self.serve(visit);
        }
        times
    }

    fn settle(&mut self) {
        let done = &mut self.done;
        let each = |publication: &Publication| {
            *done += 1;
            assert_eq!(publication.offset(), *done, "rounds end in order");
        };
        self.fanout.settle(each, &mut self.spare);
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Join(form) => self.join(form),
            Op::Leave(seed) => {
                if let Some(slot) = self.pick(seed) {
                    self.leave(slot);
                }
            }
            Op::Publish(length, except) => self.publish(length, except.and_then(|seed| self.pick(seed))),
            Op::Visit(times) => {
                self.visit(times);
            }
            Op::CatchUp(seed) => {
                if let Some(slot) = self.pick(seed) {
                    match self.fanout.catch_up(self.members[&slot].index) {
                        Some(visit) => self.serve(visit),
                        None => assert_eq!(self.members[&slot].next, self.end()),
                    }
                }
            }
            Op::Settle => self.settle(),
        }
        // The shard lets an entry go when its last subscriber has left, and begins a new one.
        if self.members.is_empty() {
            self.settle();
            assert_eq!(self.done, self.published.len() as u64);
            let topic = self.fanout.topic().clone();
            self.fanout = Fanout::new(topic, self.end());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_subscriber_gets_everything_since_it_joined_once_and_in_order(
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
        }
        // A round over all subscribers, and nothing is left.
        let rounds = model.members.len() + model.published.len();
        for _ in 0..=model.published.len() {
            prop_assert!(model.visit(2 * rounds + 1) <= 2 * rounds, "the visits come to an end");
            model.settle();
        }
        prop_assert!(!model.fanout.has_work());
        prop_assert_eq!(model.done, model.published.len() as u64);
        for member in model.members.values() {
            prop_assert_eq!(member.next, model.published.len() as u64 + 1);
        }
    }
}

#[test]
fn what_comes_during_a_round_joins_the_visits_not_yet_made() {
    let mut model = Model::new();
    (0..10).for_each(|_| model.join(Form::default()));
    model.publish(8, None);
    assert_eq!(model.visit(4), 4);
    model.publish(8, None);
    // Six get both at once, the four that were visited before get the second: ten visits, not sixteen.
    assert_eq!(model.visit(100), 10);
}

#[test]
fn a_round_ends_though_new_publications_never_cease() {
    let mut model = Model::new();
    (0..10).for_each(|_| model.join(Form::default()));
    for _ in 0..1000 {
        model.publish(8, None);
        model.visit(3);
        model.settle();
        assert!(model.fanout.log.len() <= 5, "a publication leaves the log after one round");
    }
}

#[test]
fn nobody_is_always_first_or_last() {
    let mut model = Model::new();
    (0..7).for_each(|_| model.join(Form::default()));
    let mut firsts = [0; 7];
    for _ in 0..700 {
        model.publish(8, None);
        let members = &mut model.members;
        let first = model
            .fanout
            .visit(|slot, place, index| {
                assert_eq!(place, slot + 7);
                members.get_mut(&slot).unwrap().index = index;
            })
            .unwrap();
        firsts[first.slot as usize] += 1;
        model.serve(first);
        model.visit(7);
        model.settle();
    }
    assert!(firsts.iter().all(|times| *times > 50), "{firsts:?}");
}
