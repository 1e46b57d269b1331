//! UTF-8 as Markus Kuhn's stress test and section 6 of the Autobahn test suite check it: what is valid passes however
//! it is cut, and what is not fails at the first byte that proves it.

use std::collections::HashSet;

use proptest::prelude::*;

use super::config;
use super::session::{Seen, feed};
use crate::ws::utf8::{InvalidUtf8, complete_len};
use crate::ws::{Limits, Opcode, ProtocolError, Role, Session, frame};

const NO_LIMIT: Limits = Limits { message_bytes: 0 };
const KEY: [u8; 4] = [0xa1, 0x02, 0xfe, 0x80];

/// Invalid sequences, and the index of the byte that proves it. The numbers are Kuhn's sections.
const INVALID: &[(&[u8], usize)] = &[
    // 2.1, 2.2: sequences of five and six bytes are no longer UTF-8.
    (b"\xf8\x88\x80\x80\x80", 0),
    (b"\xfc\x84\x80\x80\x80\x80", 0),
    (b"\xf7\xbf\xbf\xbf", 0),
    (b"\xfb\xbf\xbf\xbf\xbf", 0),
    (b"\xfd\xbf\xbf\xbf\xbf\xbf", 0),
    // 2.3: above U+10FFFF.
    (b"\xf4\x90\x80\x80", 1),
    (b"\xf5\x80\x80\x80", 0),
    // 3.1: continuation bytes alone.
    (b"\x80", 0),
    (b"\xbf", 0),
    (b"\x80\xbf\x80", 0),
    // 3.2: first bytes alone, followed by a blank.
    (b"\xc2 ", 1),
    (b"\xdf ", 1),
    (b"\xe0 ", 1),
    (b"\xef ", 1),
    (b"\xf0 ", 1),
    (b"\xf4 ", 1),
    (b"\xf8 ", 0),
    (b"\xfc ", 0),
    // 3.3: the last continuation byte missing.
    (b"\xe0\xa0 ", 2),
    (b"\xf0\x90\x80 ", 3),
    (b"\xef\xbf ", 2),
    (b"\xf4\x8f\xbf ", 3),
    // 3.5: impossible bytes.
    (b"\xfe", 0),
    (b"\xff", 0),
    (b"\xfe\xfe\xff\xff", 0),
    // 4.1 to 4.3: overlong forms.
    (b"\xc0\xaf", 0),
    (b"\xe0\x80\xaf", 1),
    (b"\xf0\x80\x80\xaf", 1),
    (b"\xf8\x80\x80\x80\xaf", 0),
    (b"\xfc\x80\x80\x80\x80\xaf", 0),
    (b"\xc1\xbf", 0),
    (b"\xe0\x9f\xbf", 1),
    (b"\xf0\x8f\xbf\xbf", 1),
    (b"\xc0\x80", 0),
    (b"\xe0\x80\x80", 1),
    (b"\xf0\x80\x80\x80", 1),
    // 5.1, 5.2: surrogates, alone and in pairs.
    (b"\xed\xa0\x80", 1),
    (b"\xed\xad\xbf", 1),
    (b"\xed\xae\x80", 1),
    (b"\xed\xaf\xbf", 1),
    (b"\xed\xb0\x80", 1),
    (b"\xed\xbe\x80", 1),
    (b"\xed\xbf\xbf", 1),
    (b"\xed\xa0\x80\xed\xb0\x80", 1),
];

/// Valid text at the borders of each length; Kuhn's sections 1, 2.1 to 2.3 and 5.3.
const VALID: &[&str] = &[
    "κόσμε",
    "\0",
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10000}",
    "\u{1fffe}",
    "\u{10ffff}",
];

fn one_frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_masked_data(&mut out, Opcode::Text, payload, KEY);
    out
}

fn two_frames(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut out = one_frame(first);
    out[0] = 0x01;
    let second_at = out.len();
    frame::put_masked_data(&mut out, Opcode::Text, second, KEY);
    out[second_at] = 0x80;
    out
}

/// A text frame that announces four more bytes than `payload`, which it ends with.
fn unfinished(payload: &[u8]) -> Vec<u8> {
    let mut out = one_frame(&[payload, b"more"].concat());
    out.truncate(out.len() - 4);
    out
}

fn serve(input: &[u8], piece: usize) -> Result<Vec<Seen>, ProtocolError> {
    let mut session = Session::new(Role::Server);
    let mut seen = Vec::new();
    input.chunks(piece).try_for_each(|piece| feed(&mut session, piece, &NO_LIMIT, &mut seen))?;
    Ok(seen)
}

#[test]
fn an_invalid_byte_is_refused_at_once_even_within_a_frame() {
    for (bytes, proof) in INVALID {
        let payload = ["κόσμε".as_bytes(), &bytes[..=*proof]].concat();
        let input = unfinished(&payload);
        for piece in [1, input.len()] {
            assert_eq!(serve(&input, piece), Err(ProtocolError::InvalidUtf8), "{bytes:02x?}");
            // Not a byte too early.
            assert_eq!(serve(&input[..input.len() - 1], piece), Ok(vec![]), "{bytes:02x?}");
        }
    }
}

#[test]
fn invalid_text_is_refused_in_one_frame_and_in_any_two_fragments() {
    for (bytes, _) in INVALID {
        assert_eq!(serve(&one_frame(bytes), 100), Err(ProtocolError::InvalidUtf8), "{bytes:02x?}");
        for cut in 0..=bytes.len() {
            let (first, second) = bytes.split_at(cut);
            let outcome = serve(&two_frames(first, second), 100);
            assert_eq!(outcome, Err(ProtocolError::InvalidUtf8), "{bytes:02x?} cut at {cut}");
        }
    }
}

#[test]
fn a_message_must_not_end_within_a_character() {
    for text in VALID {
        for end in (1..text.len()).filter(|&end| !text.is_char_boundary(end)) {
            let part = &text.as_bytes()[..end];
            for input in [one_frame(part), two_frames(part, b"")] {
                assert_eq!(serve(&input, 1), Err(ProtocolError::InvalidUtf8), "{part:02x?}");
                assert_eq!(serve(&input, 100), Err(ProtocolError::InvalidUtf8), "{part:02x?}");
            }
        }
    }
}

#[test]
fn every_valid_text_is_only_incomplete_until_it_is_whole() {
    for text in VALID {
        assert_eq!(complete_len(text.as_bytes()), Ok(text.len()));
        for end in 0..text.len() {
            assert_eq!(complete_len(&text.as_bytes()[..end]), Ok(text.floor_char_boundary(end)));
        }
    }
}

#[test]
fn bytes_are_incomplete_exactly_if_a_character_begins_with_them() {
    let mut beginnings = HashSet::new();
    for character in char::MIN..=char::MAX {
        let mut buffer = [0; 4];
        let bytes = character.encode_utf8(&mut buffer).as_bytes();
        beginnings.extend((1..bytes.len().min(3)).map(|len| bytes[..len].to_vec()));
    }
    let pairs = (0x80..=0xff_u8).flat_map(|first| (0..=0xff_u8).map(move |second| vec![first, second]));
    for bytes in pairs.chain((0x80..=0xff_u8).map(|first| vec![first])) {
        let expected = match core::str::from_utf8(&bytes) {
            Ok(_) => Ok(bytes.len()),
            Err(_) if beginnings.contains(&bytes) => Ok(0),
            Err(_) => Err(InvalidUtf8),
        };
        assert_eq!(complete_len(&bytes), expected, "{bytes:02x?}");
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn text_passes_however_it_is_cut(text: String, cut: prop::sample::Index, piece in 1..20_usize) {
        let (first, second) = text.as_bytes().split_at(cut.index(text.len() + 1));
        prop_assert_eq!(serve(&two_frames(first, second), piece), Ok(vec![Seen::Text(text.clone())]));
    }
}
