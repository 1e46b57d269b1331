//! Whatever a subscriber takes, what it gets inflates to what was meant for it, and nothing is compressed twice or in vain.

use std::collections::HashSet;
use std::io::Cursor;
use std::sync::{Arc, Barrier};

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use proptest::prelude::*;
use tungstenite::protocol::frame::FrameHeader;

use super::*;
use crate::pubsub::{Encoding, Publication};
use crate::ws::Message;

/// The payload, with a label in front.
struct Labelled;

const LABEL: &[u8] = b"label ";

impl Encoding for Labelled {
    fn name(&self) -> &'static str {
        "labelled"
    }

    fn encode(&self, publication: &Publication, out: &mut Vec<u8>) -> Opcode {
        out.extend_from_slice(LABEL);
        out.extend_from_slice(publication.payload());
        Opcode::Binary
    }
}

/// What there is besides raw in these tests.
pub(in crate::pubsub) fn encodings() -> Encodings {
    let mut encodings = Encodings::default();
    encodings.push(Arc::new(Labelled));
    encodings
}

/// A shard's share of making frames.
pub(in crate::pubsub) struct Maker {
    pub encodings: Encodings,
    pub deflater: Deflater,
    pub metrics: ShardMetrics,
}

impl Maker {
    pub fn new(level: u8) -> Self {
        Self { encodings: encodings(), deflater: Deflater::new(level), metrics: ShardMetrics::default() }
    }

    pub fn frames(&mut self) -> Frames<'_> {
        Frames { encodings: &self.encodings, deflater: &mut self.deflater, metrics: &self.metrics }
    }
}

/// A frame, taken apart by somebody else.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pubsub) struct Seen {
    pub deflated: bool,
    pub payload: Vec<u8>,
}

/// The messages of whole frames, as somebody sees them who has agreed on no more than this.
pub(in crate::pubsub) fn seen(mut bytes: &[u8], window: Option<Window>) -> Vec<Seen> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut cursor = Cursor::new(bytes);
        let (header, length) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
        let at = cursor.position() as usize;
        let (payload, rest) = bytes[at..].split_at(length as usize);
        assert!(header.is_final && !header.rsv2 && !header.rsv3 && header.mask.is_none());
        let payload = if header.rsv1 { inflate(payload, window.unwrap()) } else { payload.to_vec() };
        all.push(Seen { deflated: header.rsv1, payload });
        bytes = rest;
    }
    all
}

/// Inflates as somebody does who remembers no more than the window.
fn inflate(payload: &[u8], window: Window) -> Vec<u8> {
    let input = [payload, &[0, 0, 0xff, 0xff]].concat();
    // What it remembers is a ring of the window's size: a distance beyond that is refused.
    let mut ring = vec![0; 1 << window.bits()];
    let (mut state, mut out, mut taken, mut at) = (DecompressorOxide::new(), Vec::new(), 0, 0);
    loop {
        let (status, read, written) = decompress(&mut state, &input[taken..], &mut ring, at, TINFL_FLAG_HAS_MORE_INPUT);
        out.extend_from_slice(&ring[at..at + written]);
        taken += read;
        at = (at + written) % ring.len();
        match status {
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput if taken == input.len() => return out,
            status => panic!("no deflate stream within a window of {} bytes: {status:?}", ring.len()),
        }
    }
}

pub(in crate::pubsub) fn form() -> impl Strategy<Value = Form> {
    let encoding = prop_oneof![Just(EncodingId::RAW), Just(EncodingId::custom(0))];
    (encoding, prop::option::weighted(0.7, 9_u8..=15))
        .prop_map(|(encoding, bits)| Form { encoding, window: bits.map(|bits| Window::new(bits).unwrap()) })
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

/// Noise that repeats, once or often, so that references go back by its period; and some that does not.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let period = prop_oneof![1_usize..600, 500_usize..40_000];
    (any::<u64>(), period, 0_usize..70_000)
        .prop_map(|(seed, period, length)| noise(seed, period).into_iter().cycle().take(length).collect())
}

fn publication(payload: &[u8], min: usize) -> Publication {
    Publication::new("t".into(), Message::Binary(payload), &encodings(), min)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn everybody_gets_what_was_meant_for_it_and_nothing_is_compressed_twice(
        publications in prop::collection::vec((payload(), prop_oneof![Just(0), 0_usize..2000]), 1..6),
        levels in prop::array::uniform2(1_u8..=9),
        asked in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..2, form()), 1..60),
    ) {
        let mut shards = levels.map(Maker::new);
        let made: Vec<Publication> = publications.iter().map(|(payload, min)| publication(payload, *min)).collect();
        let mut deflated = HashSet::new();
        let mut answered = Vec::new();
        for (which, shard, form) in asked {
            let at = which.index(made.len());
            let (payload, min) = &publications[at];
            let frame = made[at].encode(form, &mut shards[shard].frames()).clone();
            let expected = if form.encoding == EncodingId::RAW { payload.clone() } else { [LABEL, payload].concat() };
            let all = seen(&frame, form.window);
            prop_assert_eq!(all.len(), 1);
            prop_assert_eq!(&all[0].payload, &expected);
            prop_assert!(!all[0].deflated || (payload.len() >= *min && form.window.is_some()));
            prop_assert!(!all[0].deflated || frame.len() < frame::header_len(expected.len()) + expected.len());
            let repeats = (1..30_000).find(|period| payload.len() > 3 * period && payload.starts_with(&payload[*period..]));
            if form.window == Some(Window::MAX) && payload.len() >= (*min).max(100) && repeats.is_some() {
                prop_assert!(all[0].deflated, "the same, over and over");
            }
            if all[0].deflated {
                deflated.insert((at, form.encoding));
            }
            answered.push((at, form, frame));
        }
        // What somebody was given is what is counted and written for it later, whoever has asked for what since.
        for (at, form, frame) in answered {
            prop_assert_eq!(made[at].encoded(form), &frame);
        }
        let times = |read: fn(&ShardMetrics) -> u64| shards.iter().map(|shard| read(&shard.metrics)).sum::<u64>();
        let made = times(|metrics| metrics.deflated_messages.get());
        // A window that does not hold a payload never gets what was compressed only for a look.
        prop_assert!(made == deflated.len() as u64, "{made} compressed, {} seen", deflated.len());
        prop_assert!(times(|metrics| metrics.deflate_output_bytes.get()) <= times(|metrics| metrics.deflate_input_bytes.get()));
    }
}

#[test]
fn shards_that_need_it_at_once_compress_it_once() {
    let publication = publication(&b"over and over ".repeat(5000), 1024);
    let (start, form) = (Barrier::new(4), Form { encoding: EncodingId::RAW, window: Some(Window::MAX) });
    let made: Vec<(usize, u64)> = std::thread::scope(|scope| {
        let shard = || {
            let mut maker = Maker::new(3);
            start.wait();
            let frame = publication.encode(form, &mut maker.frames());
            (frame.as_ptr() as usize, maker.metrics.deflated_messages.get())
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(shard)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|(frame, _)| *frame == made[0].0), "all share one frame");
    assert_eq!(made.iter().map(|(_, times)| times).sum::<u64>(), 1);
}

#[test]
fn what_does_not_become_smaller_is_tried_once_and_shares_the_plain_frame() {
    let (publication, mut maker) = (publication(&noise(1, 4096), 0), Maker::new(9));
    let plain = publication.encode(Form::default(), &mut maker.frames()).as_ptr();
    let form = Form { window: Some(Window::MAX), ..Form::default() };
    assert_eq!(publication.encode(form, &mut maker.frames()).as_ptr(), plain);
    assert_eq!(maker.metrics.deflated_messages.get(), 0);
}

#[test]
fn what_is_so_long_that_compressing_it_would_hold_a_shard_goes_out_plain() {
    let mut maker = Maker::new(1);
    let form = |encoding| Form { encoding, window: Some(Window::MAX) };
    for (length, deflated, labelled) in [
        (DEFLATED_BYTES_MAX, true, false),
        (DEFLATED_BYTES_MAX + 1, false, false),
        (DEFLATED_BYTES_MAX - 6, true, true),
    ] {
        let publication = publication(&vec![b'x'; length], 0);
        for (encoding, expected) in [(EncodingId::RAW, deflated), (EncodingId::custom(0), labelled)] {
            let frame = publication.encode(form(encoding), &mut maker.frames()).clone();
            assert_eq!(seen(&frame, Some(Window::MAX))[0].deflated, expected, "{length} {encoding:?}");
            assert_eq!(publication.encoded(form(encoding)), &frame);
        }
    }
}
