//! The payload of a publication: a marker that says which it is and when it was to be sent, and filler.
//!
//! A marker is 52 ASCII bytes: `FFm1` and three groups of 16 hexadecimal digits.
//!
//! | group | high bits | low bits |
//! |---|---|---|
//! | 1 | stream (32) | sequence number, modulo 2³² (32) |
//! | 2 | intended time, nanoseconds of `CLOCK_MONOTONIC` (64) | |
//! | 3 | actual minus intended time, nanoseconds, at most 2⁴⁰ - 1 (40) | check of all that and of the run (24) |
//!
//! Letters and digits only, so it comes through JSON, JSON within JSON, and binary wrappers as it is, and is found anywhere
//! in a message. The filler behind it is letters and digits as well (unless JSON is asked for), known to both sides: a payload
//! is compared to its last byte. Two publications in a row have different filler.

use memchr::memmem::Finder;

use crate::scenario::Filler;
use crate::verify::filler::filler;
use crate::verify::marker::hex::{decode, encode};

/// Bytes of a marker, and the shortest payload.
pub const MARKER_LEN: usize = 52;

const MAGIC: &[u8; 4] = b"FFm1";

/// The greatest delay a marker can tell; longer ones count as this.
const DELAY_MAX_NS: u64 = (1 << 40) - 1;

/// By so many bytes the beginnings of fillers differ.
const FILLERS: usize = 64;

/// Decoded markers that are kept: as many as publications are expected to come together.
const KEPT: usize = 64;

/// What a marker says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marker {
    /// Whose sequence it is: a publisher's to one topic.
    pub stream: u32,
    /// The low half of its number in that sequence.
    pub sequence: u32,
    /// When it was to be sent, nanoseconds of `CLOCK_MONOTONIC`.
    pub intended_ns: u64,
    /// How much later it was really sent, in nanoseconds.
    pub delay_ns: u64,
}

impl Marker {
    /// The whole sequence number: of those with this low half, the one nearest to the `expected` one. `None` if that
    /// would lie before the first.
    #[inline]
    pub fn sequence_near(&self, expected: u64) -> Option<u64> {
        let distance = self.sequence.wrapping_sub(expected as u32) as i32;
        expected.checked_add_signed(i64::from(distance))
    }

    fn groups(&self, run: u64) -> [u64; 3] {
        let delay_ns = self.delay_ns.min(DELAY_MAX_NS);
        let first = u64::from(self.stream) << 32 | u64::from(self.sequence);
        [first, self.intended_ns, delay_ns << 24 | check([first, self.intended_ns, delay_ns], run)]
    }

    #[inline]
    fn of_groups(groups: [u64; 3], run: u64) -> Option<Self> {
        let [first, intended_ns, last] = groups;
        let delay_ns = last >> 24;
        let right = check([first, intended_ns, delay_ns], run) == last & 0xff_ffff;
        right.then_some(Self { stream: (first >> 32) as u32, sequence: first as u32, intended_ns, delay_ns })
    }
}

/// 24 bits of a mix of everything: enough to tell a marker of another run, or a broken one, from one of this run.
#[inline]
fn check(values: [u64; 3], run: u64) -> u64 {
    let mut mixed = run;
    for value in values {
        mixed = (mixed ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
    }
    mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40
}

#[inline]
fn filler_begin(marker: &Marker) -> usize {
    (marker.stream.wrapping_add(marker.sequence)) as usize % FILLERS
}

/// Makes payloads.
#[derive(Debug)]
pub struct PayloadWriter {
    run: u64,
    filler: Box<[u8]>,
    payload: Box<[u8]>,
}

impl PayloadWriter {
    /// For payloads of `bytes`, at least [`MARKER_LEN`], in the run that both sides know by the number `run`; `seed` makes
    /// the filler, which is of the kind `filling`.
    pub fn new(bytes: usize, filling: Filler, run: u64, seed: u64) -> Self {
        let bytes = bytes.max(MARKER_LEN);
        let filler = filler(filling, bytes - MARKER_LEN + FILLERS, seed);
        Self { run, filler, payload: vec![0; bytes].into() }
    }

    /// The payload of a publication.
    pub fn write(&mut self, marker: &Marker) -> &[u8] {
        self.payload[..MAGIC.len()].copy_from_slice(MAGIC);
        for (group, at) in marker.groups(self.run).into_iter().zip([4, 20, 36]) {
            self.payload[at..at + 16].copy_from_slice(&encode(group));
        }
        let (begin, length) = (filler_begin(marker), self.payload.len() - MARKER_LEN);
        self.payload[MARKER_LEN..].copy_from_slice(&self.filler[begin..begin + length]);
        &self.payload
    }
}

/// What a message holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Read {
    /// A whole payload of this run.
    Whole(Marker),
    /// No marker.
    Foreign,
    /// A marker, but not of this run, not whole, or not followed by its filler.
    Corrupted,
}

/// Finds and checks payloads in messages.
#[derive(Debug)]
pub struct PayloadReader {
    run: u64,
    filler: Box<[u8]>,
    filler_len: usize,
    finder: Finder<'static>,
    /// Where the last marker was found: the next one is likely to be there.
    at: usize,
    kept: Box<[([u8; MARKER_LEN], Marker); KEPT]>,
}

impl PayloadReader {
    /// The counterpart of a [`PayloadWriter`] made with the same arguments.
    pub fn new(bytes: usize, filling: Filler, run: u64, seed: u64) -> Self {
        let filler_len = bytes.max(MARKER_LEN) - MARKER_LEN;
        // None of these is a marker, and none stands where it would be looked for.
        let mut kept = Box::new([([0; MARKER_LEN], Marker::default()); KEPT]);
        kept[0].0 = [1; MARKER_LEN];
        let filler = filler(filling, filler_len + FILLERS, seed);
        Self { run, filler, filler_len, finder: Finder::new(MAGIC), at: 0, kept }
    }

    /// Looks for a payload in `message`.
    #[inline]
    pub fn read(&mut self, message: &[u8]) -> Read {
        match message.get(self.at..).and_then(|rest| self.read_at(rest)) {
            Some(marker) => Read::Whole(marker),
            None => self.search(message),
        }
    }

    /// Whether `message` begins with a payload.
    #[inline]
    fn read_at(&mut self, message: &[u8]) -> Option<Marker> {
        let (bytes, rest) = message.split_first_chunk::<MARKER_LEN>()?;
        // Subscribers of one topic get the same markers.
        let kept = &mut self.kept[place_of(bytes)];
        if kept.0 != *bytes {
            *kept = (*bytes, decoded(bytes, self.run)?);
        }
        let (marker, begin) = (kept.1, filler_begin(&kept.1));
        (rest.get(..self.filler_len)? == &self.filler[begin..begin + self.filler_len]).then_some(marker)
    }

    /// Looks everywhere: the wrapper may have become longer, or may hold what looks like a marker.
    #[cold]
    fn search(&mut self, message: &[u8]) -> Read {
        let mut from = 0;
        while let Some(found) = self.finder.find(&message[from..]) {
            if let Some(marker) = self.read_at(&message[from + found..]) {
                self.at = from + found;
                return Read::Whole(marker);
            }
            from += found + MAGIC.len();
        }
        if from == 0 { Read::Foreign } else { Read::Corrupted }
    }
}

/// Where a marker is kept: by the last digits of its sequence number.
#[inline]
fn place_of(bytes: &[u8; MARKER_LEN]) -> usize {
    (usize::from(bytes[19]) & 0xf | usize::from(bytes[18]) << 4) % KEPT
}

#[inline]
fn decoded(bytes: &[u8; MARKER_LEN], run: u64) -> Option<Marker> {
    let (magic, digits) = bytes.split_first_chunk::<4>()?;
    let (groups, _) = digits.as_chunks::<16>();
    let [first, second, third] = groups else {
        return None;
    };
    if magic != MAGIC {
        return None;
    }
    Marker::of_groups([decode(first)?, decode(second)?, decode(third)?], run)
}

/// Sixteen hexadecimal digits to a number and back, eight at a time in one register.
mod hex {
    const ONES: u64 = 0x0101_0101_0101_0101;

    /// The digits of `value`, lower case.
    pub fn encode(value: u64) -> [u8; 16] {
        let (high, low) = (digits(spread((value >> 32) as u32)), digits(spread(value as u32)));
        let mut text = [0; 16];
        text[..8].copy_from_slice(&high.to_be_bytes());
        text[8..].copy_from_slice(&low.to_be_bytes());
        text
    }

    /// The number with these digits; `None` unless all are digits in lower case.
    #[inline]
    pub fn decode(text: &[u8; 16]) -> Option<u64> {
        let (high, low) = text.split_at(8);
        let high = u64::from_be_bytes(high.try_into().ok()?);
        let low = u64::from_be_bytes(low.try_into().ok()?);
        let (high_nibbles, low_nibbles) = (nibbles(high), nibbles(low));
        let right = digits(high_nibbles) == high && digits(low_nibbles) == low;
        right.then_some(u64::from(gather(high_nibbles)) << 32 | u64::from(gather(low_nibbles)))
    }

    /// Each of eight bytes from digit to value. Whether they were digits is seen by turning back.
    #[inline]
    fn nibbles(text: u64) -> u64 {
        ((text & (ONES * 0x0f)) + ((text >> 6) & ONES) * 9) & (ONES * 0x0f)
    }

    /// Each of eight bytes from value to digit.
    #[inline]
    fn digits(nibbles: u64) -> u64 {
        let is_letter = ((nibbles + ONES * 6) >> 4) & ONES;
        nibbles + ONES * u64::from(b'0') + is_letter * u64::from(b'a' - b'0' - 10)
    }

    /// Eight nibbles, each in a byte of its own.
    fn spread(value: u32) -> u64 {
        let mut spread = u64::from(value);
        spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
        spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        (spread | spread << 4) & (ONES * 0x0f)
    }

    /// The other way.
    #[inline]
    fn gather(mut nibbles: u64) -> u32 {
        nibbles = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
        nibbles = (nibbles | nibbles >> 8) & 0x0000_ffff_0000_ffff;
        (nibbles | nibbles >> 16) as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RUN: u64 = 0x1234_5678_9abc_def0;

    fn any_marker() -> impl Strategy<Value = Marker> {
        (any::<u32>(), any::<u32>(), any::<u64>(), 0..=DELAY_MAX_NS)
            .prop_map(|(stream, sequence, intended_ns, delay_ns)| Marker { stream, sequence, intended_ns, delay_ns })
    }

    fn pair(bytes: usize) -> (PayloadWriter, PayloadReader) {
        (PayloadWriter::new(bytes, Filler::Random, RUN, 5), PayloadReader::new(bytes, Filler::Random, RUN, 5))
    }

    proptest! {
        #[test]
        fn hexadecimal_is_that_of_the_standard_library(value: u64, at in 0_usize..16, wrong: u8) {
            let text = hex::encode(value);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), format!("{value:016x}"));
            prop_assert_eq!(hex::decode(&text), Some(value));
            let mut other = text;
            other[at] = wrong;
            let digit = wrong.is_ascii_digit() || (b'a'..=b'f').contains(&wrong);
            let expected = std::str::from_utf8(&other).ok().filter(|_| digit);
            prop_assert_eq!(hex::decode(&other), expected.map(|text| u64::from_str_radix(text, 16).unwrap()));
        }

        #[test]
        fn a_payload_survives_every_wrapper_in_any_order(
            messages in prop::collection::vec((any_marker(), 0_usize..4, prop::collection::vec(any::<u8>(), 0..40)), 1..20),
            bytes in MARKER_LEN..300,
        ) {
            let (mut writer, mut reader) = pair(bytes);
            for (marker, wrapper, noise) in messages {
                let payload = writer.write(&marker);
                prop_assert!(payload.len() == bytes && payload.iter().all(u8::is_ascii_alphanumeric));
                let text = std::str::from_utf8(payload).unwrap();
                let json = serde_json::json!({ "noise": noise.len(), "data": text }).to_string();
                let message = match wrapper {
                    0 => text.as_bytes().to_vec(),
                    1 => json.into_bytes(),
                    2 => serde_json::json!(["broadcast", json]).to_string().into_bytes(),
                    _ => [noise.as_slice(), payload, noise.as_slice()].concat(),
                };
                prop_assert_eq!(reader.read(&message), Read::Whole(marker));
            }
        }

        #[test]
        fn a_single_changed_byte_is_seen(marker in any_marker(), at in 0_usize..128, change in 1_u8..=255) {
            let (mut writer, mut reader) = pair(128);
            let mut payload = writer.write(&marker).to_vec();
            prop_assert_eq!(reader.read(&payload), Read::Whole(marker));
            payload[at] ^= change;
            prop_assert_eq!(reader.read(&payload), if at < 4 { Read::Foreign } else { Read::Corrupted });
        }

        #[test]
        fn a_payload_that_is_cut_is_corrupted(marker in any_marker(), length in 4_usize..128) {
            let (mut writer, mut reader) = pair(128);
            prop_assert_eq!(reader.read(&writer.write(&marker)[..length]), Read::Corrupted);
        }

        #[test]
        fn sequence_numbers_beyond_32_bits_are_told_by_nearness(expected in 0_u64..u64::MAX / 2, off in -1_000_000_i64..1_000_000) {
            let sequence = expected.checked_add_signed(off);
            let marker = Marker { sequence: expected.wrapping_add_signed(off) as u32, ..Marker::default() };
            prop_assert_eq!(marker.sequence_near(expected), sequence);
        }

        #[test]
        fn anything_can_be_read(message in prop::collection::vec(any::<u8>(), 0..300), magic in 0_usize..300) {
            let (_, mut reader) = pair(64);
            let mut message = message;
            let at = magic.min(message.len());
            message.splice(at..at, *MAGIC);
            prop_assert_eq!(reader.read(&message), Read::Corrupted);
        }
    }

    #[test]
    fn a_marker_of_another_run_is_corrupted_and_a_message_without_one_foreign() {
        let mut other = PayloadWriter::new(128, Filler::Random, RUN + 1, 5);
        let (_, mut reader) = pair(128);
        assert_eq!(reader.read(other.write(&Marker::default())), Read::Corrupted);
        assert_eq!(reader.read(b"{\"hello\":1}"), Read::Foreign);
        assert_eq!(reader.read(b""), Read::Foreign);
    }

    #[test]
    fn json_is_compared_to_its_last_byte_too() {
        let mut writer = PayloadWriter::new(4096, Filler::Json, RUN, 5);
        let mut reader = PayloadReader::new(4096, Filler::Json, RUN, 5);
        let markers = [1, 2].map(|sequence| Marker { sequence, ..Marker::default() });
        let payloads = markers.map(|marker| writer.write(&marker).to_vec());
        assert_ne!(payloads[0][MARKER_LEN..], payloads[1][MARKER_LEN..]);
        for (marker, mut payload) in markers.into_iter().zip(payloads) {
            assert_eq!(reader.read(&payload), Read::Whole(marker));
            *payload.last_mut().expect("4 KiB") ^= 1;
            assert_eq!(reader.read(&payload), Read::Corrupted);
        }
    }

    #[test]
    fn nothing_is_kept_that_was_not_seen() {
        for byte in 0..=255 {
            let (_, mut reader) = pair(MARKER_LEN);
            assert_eq!(reader.read(&[byte; MARKER_LEN]), Read::Foreign);
        }
    }

    #[test]
    fn something_that_looks_like_a_marker_does_not_hide_the_real_one() {
        let (mut writer, mut reader) = pair(100);
        let marker = Marker { stream: 1, sequence: 2, intended_ns: 3, delay_ns: 4 };
        let message = [b"topic FFm1FFm1 ".as_slice(), writer.write(&marker)].concat();
        assert_eq!(reader.read(&message), Read::Whole(marker));
    }

    #[test]
    fn a_longer_delay_than_fits_is_the_longest_that_does() {
        let (mut writer, mut reader) = pair(52);
        let payload = writer.write(&Marker { delay_ns: u64::MAX, ..Marker::default() });
        assert_eq!(reader.read(payload), Read::Whole(Marker { delay_ns: DELAY_MAX_NS, ..Marker::default() }));
    }
}
