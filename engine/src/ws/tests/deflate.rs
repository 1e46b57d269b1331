//! Messages compressed and inflated: against an inflater that is not ours, against exact windows, under limits.

use proptest::prelude::*;
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

use super::config;
use crate::ws::ProtocolError;
use crate::ws::deflate::{Compressor, Inflater, Spent, Window, Work};

/// What a sync flush ends with, and a last block with nothing in it.
const TAIL: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];

const MIB: usize = 1 << 20;

/// As a client would do it that has no sync flush of its own.
fn miniz(payload: &[u8]) -> Option<Vec<u8>> {
    miniz_oxide::inflate::decompress_to_vec(&[payload, &TAIL].concat()).ok()
}

/// With the smallest window that the sender may count on: what is inflated is taken away at once, so that whatever is
/// referred to further back is not there any more.
fn with_window(payload: &[u8], bits: u8) -> Option<Vec<u8>> {
    let mut inflate = Inflate::new(false, bits);
    let (input, mut out, mut piece) = ([payload, &TAIL[..4]].concat(), Vec::new(), [0; 61]);
    loop {
        let (taken, written) = (inflate.total_in() as usize, inflate.total_out());
        inflate.decompress(&input[taken..], &mut piece, InflateFlush::SyncFlush).ok()?;
        let length = (inflate.total_out() - written) as usize;
        out.extend_from_slice(&piece[..length]);
        if length < piece.len() {
            return (inflate.total_in() as usize == input.len()).then_some(out);
        }
    }
}

/// What any sender may make of `payload`, smaller or not, flushed after each piece.
pub(super) fn deflated<'a>(level: u8, bits: u8, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut deflate = Deflate::new(i32::from(level), false, bits);
    let mut out = Vec::new();
    for piece in pieces {
        let (taken, written) = (deflate.total_in(), deflate.total_out());
        let mut room = vec![0; piece.len() + piece.len() / 8 + 200];
        deflate.compress(piece, &mut room, DeflateFlush::SyncFlush).expect("there is room");
        assert_eq!((deflate.total_in() - taken) as usize, piece.len());
        out.extend_from_slice(&room[..(deflate.total_out() - written) as usize]);
    }
    match out.strip_suffix(&TAIL[..4]) {
        Some(payload) => payload.to_vec(),
        // Nothing to flush (RFC 7692, 7.2.3.6).
        None => vec![0],
    }
}

/// Something between zeros and noise, with references near and far.
fn compressible(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let run = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..400),
        prop::collection::vec(0..4_u8, 1..400),
        (any::<u8>(), 1..2000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    (prop::collection::vec((run, any::<prop::sample::Index>(), 0..6_usize), 0..30)).prop_map(move |runs| {
        let mut out = Vec::new();
        for (run, from, times) in runs {
            out.extend(&run);
            for _ in 0..times {
                let from = from.index(out.len());
                out.extend_from_within(from..(from + 700).min(out.len()));
                out.extend(&run[..run.len().min(3)]);
            }
        }
        out.truncate(max);
        out
    })
}

/// JSON as a market would send it.
fn json(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut state = 1_u64;
    while out.len() < bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (price, volume) = (state >> 40, state >> 50);
        out.extend(format!("{{\"symbol\":\"S{}\",\"price\":{price},\"volume\":{volume}}},", state >> 60).bytes());
    }
    out.truncate(bytes);
    out
}

#[test]
fn the_examples_of_the_rfc_are_inflated() {
    let mut inflater = Inflater::default();
    for message in [
        &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], // 7.2.3.1: one block
        &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00][..], // 7.2.3.3: not compressed
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00][..], // 7.2.3.4: a last block
        &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], // and nothing behind it
        &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00][..], // 7.2.3.5: two blocks
    ] {
        assert_eq!(inflater.inflate(message, 5), Ok(&b"Hello"[..]));
        assert_eq!(inflater.inflate(message, 0), Ok(&b"Hello"[..]));
        assert_eq!(inflater.inflate(message, 4), Err(ProtocolError::MessageTooBig { limit: 4 }));
    }
    // 7.2.3.6: nothing, as it should be sent, and as it sometimes is.
    for nothing in [&[0x00][..], &[][..]] {
        assert_eq!(inflater.inflate(nothing, 1), Ok(&[][..]));
    }
    // 7.2.3.2: it refers to a message before it, and there is none.
    assert_eq!(inflater.inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], 5), Err(ProtocolError::BrokenDeflate));
    assert_eq!(
        inflater.take_work(),
        Work { messages: 12, input_bytes: 2 * (7 + 11 + 8 + 7 + 13) + 1, output_bytes: 50 },
        "what was refused is no message"
    );
    assert_eq!(inflater.take_work(), Work::default());
}

#[test]
fn what_was_refused_is_charged_as_what_was_taken() {
    let mut bomb = Vec::new();
    assert!(Compressor::default().compress(9, &vec![0; 10_000_000], &mut bomb));
    let mut inflater = Inflater::default();
    assert!(inflater.inflate(&bomb, MIB).is_err());
    let spent = inflater.take_spent();
    assert_eq!((spent.output_bytes, inflater.take_work()), (MIB as u64 + 1, Work::default()));
    assert!((1000..bomb.len() as u64).contains(&spent.input_bytes), "{spent:?}");
    // Broken behind all of it, and cut off before its end.
    let broken = [&bomb[..], &[0xff; 3]].concat();
    for (message, least) in [(&broken[..], 10_000_000), (&bomb[..bomb.len() - 2], 9_900_000)] {
        assert_eq!(inflater.inflate(message, 0), Err(ProtocolError::BrokenDeflate));
        let spent = inflater.take_spent();
        assert!(spent.output_bytes >= least && spent.input_bytes + 10 >= bomb.len() as u64, "{spent:?}");
    }
    // Headers of blocks that become nothing.
    let empty = [0, 0, 0, 0xff, 0xff].repeat(1000);
    assert_eq!(inflater.inflate(&[&empty[..], &[7]].concat(), 10), Err(ProtocolError::BrokenDeflate));
    assert!(inflater.take_spent().input_bytes >= 5000);
    assert_eq!(inflater.take_spent(), Spent::default());
}

#[test]
fn what_a_receiver_puts_behind_a_message_is_never_delivered_with_it() {
    // Last blocks, stored, longer than what comes: by all of what we put there, and by parts of it. By the four bytes of the
    // RFC it is a stream for nobody either, unless it is exactly those that it wants.
    for (length, rest) in [(9, 0), (9, 4), (4, 0), (6, 2), (1, 0), (100, 95), (10, 0)] {
        let (complement, mut message) = (!(length as u16), vec![1]);
        message.extend((length as u16).to_le_bytes());
        message.extend(complement.to_le_bytes());
        message.extend(std::iter::repeat_n(b'x', rest));
        assert_eq!(Inflater::default().inflate(&message, 0), Err(ProtocolError::BrokenDeflate), "{length} {rest}");
        let with_tail = miniz_oxide::inflate::decompress_to_vec(&[&message[..], &TAIL[..4]].concat());
        assert_eq!(with_tail.is_ok(), length - rest <= 4, "{length} {rest}");
    }
    assert_eq!(Inflater::default().inflate(&[1, 9, 0, 0xf6, 0xff], 0), Err(ProtocolError::BrokenDeflate));
    // As long as it should be, it is a message.
    assert_eq!(Inflater::default().inflate(&[1, 2, 0, 0xfd, 0xff, b'h', b'i'], 0), Ok(&b"hi"[..]));
}

#[test]
fn last_blocks_inside_a_message_begin_anew() {
    let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let mut inflater = Inflater::default();
    let many = hello.repeat(1000);
    assert_eq!(inflater.inflate(&many, 5000).map(<[u8]>::to_vec), Ok(b"Hello".repeat(1000)));
    assert_eq!(inflater.inflate(&many, 4999), Err(ProtocolError::MessageTooBig { limit: 4999 }));
    // Two bytes are the shortest stream there is; a million of them make nothing, and an end.
    assert_eq!(inflater.inflate(&[0x03, 0x00].repeat(MIB), 1), Ok(&[][..]));
}

#[test]
fn a_message_that_ends_inside_a_block_is_broken() {
    let mut inflater = Inflater::default();
    for whole in [deflated(6, 15, [&json(3000)[..]]), deflated(1, 15, [&json(3000)[..]])] {
        assert_eq!(inflater.inflate(&whole, 0), Ok(&json(3000)[..]));
        for end in 1..whole.len() {
            assert!(inflater.inflate(&whole[..end], 0) == Err(ProtocolError::BrokenDeflate), "cut at {end}");
        }
    }
}

#[test]
fn a_bomb_ends_at_the_limit_with_memory_of_about_the_limit() {
    let mut bomb = Vec::new();
    assert!(Compressor::default().compress(9, &vec![0; 10_000_000], &mut bomb));
    assert!(bomb.len() < 10_240, "{}", bomb.len());
    let mut inflater = Inflater::default();
    for limit in [0, 1, 1000, 100_000, MIB, 9_999_999, 10_000_000] {
        let mut inflater = Inflater::default();
        let outcome = inflater.inflate(&bomb, limit).map(<[u8]>::len);
        let fits = limit == 0 || limit == 10_000_000;
        let expected = if fits { Ok(10_000_000) } else { Err(ProtocolError::MessageTooBig { limit }) };
        assert_eq!(outcome, expected);
        assert!(fits || inflater.held_bytes() <= limit + 1 || inflater.held_bytes() <= 16 << 10);
    }
    assert_eq!(inflater.inflate(&bomb, MIB), Err(ProtocolError::MessageTooBig { limit: MIB }));
    assert!(inflater.held_bytes() < 21 * MIB / 10, "{}", inflater.held_bytes());
    assert!(inflater.held_bytes() > 64 << 10);
    inflater.release();
    assert!(inflater.held_bytes() <= 64 << 10, "{}", inflater.held_bytes());
    assert_eq!(inflater.inflate(&deflated(3, 15, [&b"still there"[..]]), 20), Ok(&b"still there"[..]));
    assert_eq!(inflater.inflate(&bomb, 30), Err(ProtocolError::MessageTooBig { limit: 30 }));
}

#[test]
fn small_messages_leave_the_memory_where_it_is() {
    let message = deflated(3, 15, [&json(4000)[..]]);
    let mut inflater = Inflater::default();
    let first = inflater.inflate(&message, 0).unwrap().as_ptr();
    inflater.release();
    assert_eq!(inflater.inflate(&message, 0).unwrap().as_ptr(), first);
}

#[test]
fn what_does_not_become_smaller_is_not_compressed() {
    let mut compressor = Compressor::default();
    let mut out = b"before".to_vec();
    let noise: Vec<u8> = json(40_000).iter().enumerate().map(|(at, &byte)| mix(at as u64 ^ u64::from(byte))).collect();
    for payload in [&b""[..], b"a", b"Hello", &noise, &noise[..100]] {
        assert!(!compressor.compress(6, payload, &mut out));
        assert_eq!(out, b"before");
    }
    // By one byte: what is compressed of it is appended, and nothing else.
    assert!(compressor.compress(6, b"aaaaaaaa", &mut out));
    assert!(out.starts_with(b"before") && out.len() < 6 + 8);
    assert_eq!(miniz(&out[6..]).as_deref(), Some(&b"aaaaaaaa"[..]));
}

fn mix(value: u64) -> u8 {
    let value = (value ^ (value >> 31)).wrapping_mul(0x7fb5_d329_728e_a185);
    ((value ^ (value >> 27)).wrapping_mul(0x81da_def4_bc2d_d44d) >> 56) as u8
}

#[test]
fn a_level_out_of_range_is_the_nearest_and_levels_differ() {
    let payload = json(20_000);
    let mut compressor = Compressor::default();
    let mut compress = |level| {
        let mut out = Vec::new();
        assert!(compressor.compress(level, &payload, &mut out));
        out
    };
    assert_eq!(compress(0), compress(1));
    assert_eq!(compress(255), compress(9));
    assert!(compress(9).len() < compress(1).len());
    // The same whatever was compressed before.
    assert_eq!(compress(1), compress(1));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_compressed_needs_no_larger_window_than_one_that_holds_it(
        payload in prop_oneof![compressible(100_000), compressible(1500)],
        level in 1..=9_u8,
    ) {
        let mut out = Vec::new();
        if Compressor::default().compress(level, &payload, &mut out) {
            prop_assert!(out.len() < payload.len());
            for window in (9..=15).filter_map(Window::new) {
                if window == Window::MAX || window.holds(payload.len()) {
                    prop_assert!(with_window(&out, window.bits()).is_some_and(|inflated| inflated == payload));
                }
            }
            prop_assert!(miniz(&out).is_some_and(|inflated| inflated == payload));
            let mut inflater = Inflater::default();
            prop_assert!(inflater.inflate(&out, payload.len()) == Ok(&payload[..]));
            let limit = payload.len() - 1;
            prop_assert_eq!(inflater.inflate(&out, limit.max(1)).map(<[u8]>::len), Err(ProtocolError::MessageTooBig { limit }));
        }
    }

    #[test]
    fn each_message_is_compressed_as_if_it_were_the_first(
        messages in prop::collection::vec((compressible(20_000), 1..=9_u8), 1..6),
    ) {
        let mut compressor = Compressor::default();
        let mut inflater = Inflater::default();
        for (payload, level) in messages {
            let (mut out, mut alone) = (Vec::new(), Vec::new());
            let is_smaller = compressor.compress(level, &payload, &mut out);
            prop_assert_eq!(is_smaller, Compressor::default().compress(level, &payload, &mut alone));
            prop_assert!(out == alone);
            if is_smaller {
                prop_assert!(inflater.inflate(&out, 0) == Ok(&payload[..]));
            }
        }
    }

    #[test]
    fn whatever_a_sender_flushes_between_is_inflated(
        pieces in prop::collection::vec(compressible(5_000), 0..5),
        level in 0..=9_u8,
        bits in 9..=15_u8,
    ) {
        let message = deflated(level, bits, pieces.iter().map(Vec::as_slice));
        prop_assert!(Inflater::default().inflate(&message, 0) == Ok(&pieces.concat()[..]));
    }

    #[test]
    fn damage_is_found_as_another_inflater_finds_it_or_makes_the_same(
        payload in compressible(3_000),
        level in 0..=9_u8,
        at in any::<prop::sample::Index>(),
        damage in 1..=255_u8,
        cut in any::<prop::sample::Index>(),
        is_cut: bool,
    ) {
        let mut message = deflated(level, 15, [&payload[..]]);
        let at = at.index(message.len());
        message[at] ^= damage;
        if is_cut {
            message.truncate(cut.index(message.len()) + 1);
        }
        same_as_miniz(&message)?;
    }

    #[test]
    fn noise_is_the_same_to_another_inflater(noise in prop::collection::vec(any::<u8>(), 1..300)) {
        same_as_miniz(&noise)?;
    }
}

/// Another inflater stops at a last block; ours begins anew there. Without one, both must agree.
fn same_as_miniz(message: &[u8]) -> Result<(), TestCaseError> {
    let mut inflater = Inflater::default();
    let ours = inflater.inflate(message, MIB);
    match (miniz(message), ours) {
        (Some(theirs), Ok(ours)) => prop_assert!(ours.starts_with(&theirs)),
        (None, Err(ProtocolError::BrokenDeflate)) => {}
        // Broken behind the last block, where the other one did not look any more; or our end was in it.
        (Some(_), Err(ProtocolError::BrokenDeflate)) => {}
        (theirs, ours) => prop_assert!(false, "{theirs:?} {ours:?}"),
    }
    let ours = ours_len(inflater.inflate(message, 1000));
    prop_assert!(ours.is_none_or(|len| len <= 1000));
    prop_assert!(inflater.held_bytes() <= MIB + 1);
    Ok(())
}

fn ours_len(outcome: Result<&[u8], ProtocolError>) -> Option<usize> {
    outcome.ok().map(<[u8]>::len)
}
