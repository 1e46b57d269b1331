//! Compressed messages in a session: where RSV1 may be, what may be held, and against a model that knows the messages.

use proptest::prelude::*;
use proptest::sample::Index;

use super::config;
use super::deflate::deflated;
use super::session::{Seen, feed, feed_with};
use crate::ws::deflate::{Compressor, Inflater};
use crate::ws::{Event, Limits, Message, Opcode, ProtocolError, Role, Session, frame};

const NO_LIMIT: Limits = Limits { message_bytes: 0 };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
const MIB: usize = 1 << 20;

/// A session that has agreed on compression.
fn agreed() -> Session {
    let mut session = Session::new(Role::Server);
    session.agree_deflate();
    session
}

/// A frame of a client, with the first byte as given.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_masked_data(&mut out, Opcode::Text, payload, KEY);
    out[0] = first;
    out
}

/// What a session sees that has agreed on compression: the same in one piece and byte by byte.
fn serve(input: &[u8], limits: &Limits) -> (Vec<Seen>, Result<(), ProtocolError>) {
    let mut seen = Vec::new();
    let outcome = feed(&mut agreed(), input, limits, &mut seen);
    let mut seen_bytewise = Vec::new();
    let mut session = agreed();
    let bytewise = input.iter().try_for_each(|&byte| feed(&mut session, &[byte], limits, &mut seen_bytewise));
    assert_eq!((&seen, outcome), (&seen_bytewise, bytewise), "how the input is cut must not matter");
    (seen, outcome)
}

fn refused(input: &[u8], limits: &Limits) -> ProtocolError {
    serve(input, limits).1.expect_err("the peer's mistake must be refused")
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

#[test]
fn a_compressed_message_may_be_whole_or_in_fragments_and_empty() {
    assert_eq!(serve(&client_frame(0xc1, &HELLO), &NO_LIMIT), (vec![text("Hello")], Ok(())));
    assert_eq!(serve(&client_frame(0xc2, &HELLO), &NO_LIMIT), (vec![Seen::Binary(b"Hello".to_vec())], Ok(())));
    for nothing in [&[0][..], &[]] {
        assert_eq!(serve(&client_frame(0xc1, nothing), &NO_LIMIT), (vec![text("")], Ok(())));
    }
    for cut in 0..=HELLO.len() {
        let mut input = client_frame(0x41, &HELLO[..cut]);
        input.extend(client_frame(0x89, b"between"));
        input.extend(client_frame(0x80, &HELLO[cut..]));
        input.extend(client_frame(0x81, b"plain"));
        let expected = vec![Seen::Ping(b"between".to_vec()), text("Hello"), text("plain")];
        assert_eq!(serve(&input, &NO_LIMIT), (expected, Ok(())));
    }
    let mut empty = client_frame(0x42, b"");
    empty.extend(client_frame(0x00, b""));
    empty.extend(client_frame(0x80, &[0]));
    assert_eq!(serve(&empty, &NO_LIMIT), (vec![Seen::Binary(Vec::new())], Ok(())));
}

#[test]
fn rsv1_is_only_for_the_first_frame_of_a_message_and_the_others_for_none() {
    for opcode in [0x0, 0x8, 0x9, 0xa] {
        assert_eq!(refused(&client_frame(0xc0 | opcode, b""), &NO_LIMIT), ProtocolError::ReservedBits);
    }
    for first in [0x42, 0x02] {
        let mut input = client_frame(first, &HELLO);
        input.extend(client_frame(0xc0, b""));
        assert_eq!(refused(&input, &NO_LIMIT), ProtocolError::ReservedBits);
        let mut input = client_frame(first, &HELLO);
        input.extend(client_frame(0xc9, b""));
        assert_eq!(refused(&input, &NO_LIMIT), ProtocolError::ReservedBits);
        let mut input = client_frame(first, &HELLO);
        input.extend(client_frame(0xc1, &HELLO));
        assert_eq!(refused(&input, &NO_LIMIT), ProtocolError::InterleavedMessage);
    }
    for bits in [0x20, 0x10, 0x60, 0x50, 0x30, 0x70] {
        for opcode in [0x0, 0x1, 0x2, 0x8, 0x9, 0xa] {
            assert_eq!(refused(&client_frame(0x80 | bits | opcode, b""), &NO_LIMIT), ProtocolError::ReservedBits);
        }
    }
    let mut unagreed = Session::new(Role::Server);
    let outcome = feed(&mut unagreed, &client_frame(0xc1, &HELLO), &NO_LIMIT, &mut Vec::new());
    assert_eq!(outcome, Err(ProtocolError::ReservedBits));
}

#[test]
fn a_client_may_inflate_too() {
    let mut input = Vec::new();
    frame::put_deflated(&mut input, Opcode::Text, &HELLO);
    assert_eq!(input, [&[0xc1, 0x07][..], &HELLO].concat());
    let mut session = Session::new(Role::Client);
    session.agree_deflate();
    let mut seen = Vec::new();
    feed(&mut session, &input, &NO_LIMIT, &mut seen).unwrap();
    assert_eq!(seen, [text("Hello")]);
}

#[test]
fn text_is_checked_after_inflating() {
    // Compressed it is no text, inflated it is.
    let umlauts = "äöü€𝄞".repeat(20);
    let payload = deflated(6, 15, [umlauts.as_bytes()]);
    assert!(core::str::from_utf8(&payload).is_err());
    assert_eq!(serve(&client_frame(0xc1, &payload), &NO_LIMIT), (vec![text(&umlauts)], Ok(())));
    let (head, tail) = payload.split_at(9);
    let fragments = [client_frame(0x41, head), client_frame(0x80, tail)].concat();
    assert_eq!(serve(&fragments, &NO_LIMIT), (vec![text(&umlauts)], Ok(())));
    for wrong in [&b"\xff"[..], b"\xe2\x82", b"\xed\xa0\x80"] {
        let payload = deflated(6, 15, [wrong]);
        assert_eq!(refused(&client_frame(0xc1, &payload), &NO_LIMIT), ProtocolError::InvalidUtf8);
        let binary = vec![Seen::Binary(wrong.to_vec())];
        assert_eq!(serve(&client_frame(0xc2, &payload), &NO_LIMIT), (binary, Ok(())));
    }
}

#[test]
fn what_is_no_deflate_stream_ends_the_session() {
    for broken in [&[0xff][..], b"Hello", &HELLO[..3], &[0x06, 0x00]] {
        let mut input = client_frame(0xc2, broken);
        input.extend(client_frame(0x81, b"too late"));
        assert_eq!(serve(&input, &NO_LIMIT), (Vec::new(), Err(ProtocolError::BrokenDeflate)));
        let mut session = agreed();
        let pieces = [client_frame(0x42, broken), client_frame(0x80, b"")].concat();
        feed(&mut session, &pieces, &NO_LIMIT, &mut Vec::new()).unwrap_err();
        session.release();
        assert!(session.is_idle() && session.held_bytes() == 0);
    }
}

#[test]
fn the_limit_counts_what_was_inflated() {
    let limits = Limits { message_bytes: 1000 };
    let too_big = ProtocolError::MessageTooBig { limit: 1000 };
    for level in [0, 1, 6] {
        let whole = deflated(level, 15, [&[b'a'; 1000][..]]);
        let more = deflated(level, 15, [&[b'a'; 1001][..]]);
        assert_eq!(serve(&client_frame(0xc1, &whole), &limits), (vec![text(&"a".repeat(1000))], Ok(())));
        assert_eq!(refused(&client_frame(0xc1, &more), &limits), too_big);
        let (head, tail) = whole.split_at(4);
        let fragments = [client_frame(0x41, head), client_frame(0x80, tail)].concat();
        assert!(serve(&fragments, &limits).1.is_ok());
        let (head, tail) = more.split_at(4);
        let fragments = [client_frame(0x41, head), client_frame(0x80, tail)].concat();
        assert_eq!(refused(&fragments, &limits), too_big);
    }
}

/// A message of literals that take nine bits each, in blocks of 255: the worst that is made of a message.
fn worst(bytes: usize) -> Vec<u8> {
    let (mut bits, mut out) = (Vec::new(), Vec::new());
    for start in (0..bytes).step_by(255) {
        // Not the last block, fixed codes; the literals from 144 on are 1_1001_0000 and up; then the end of the block.
        bits.extend([0, 1, 0]);
        (start..bytes.min(start + 255)).for_each(|_| bits.extend([1, 1, 1, 1, 1, 1, 1, 1, 1]));
        bits.extend([0; 7]);
    }
    // The header of an empty block, whose rest is cut off.
    bits.extend([0; 3]);
    for byte in bits.chunks(8) {
        out.push(byte.iter().enumerate().map(|(at, bit)| bit << at).sum());
    }
    out
}

#[test]
fn the_worst_compressor_may_send_what_others_may_and_nobody_much_more() {
    for limit in [1, 10, 254, 255, 256, 1000, 65_536, MIB] {
        let limits = Limits { message_bytes: limit };
        let payload = worst(limit);
        assert!(payload.len() > limit + limit / 8, "it really is longer");
        let mut seen = Vec::new();
        feed(&mut agreed(), &client_frame(0xc2, &payload), &limits, &mut seen).unwrap();
        assert_eq!(seen, [Seen::Binary(vec![0xff; limit])]);
        let stored = deflated(0, 15, [&vec![7; limit][..]]);
        feed(&mut agreed(), &client_frame(0xc2, &stored), &limits, &mut seen).unwrap();

        // Announced, and refused before it comes; alone or after another fragment.
        let max = limit + limit / 8 + limit / 100 + 100;
        let header =
            |first, length: usize| [&[first, 0xff][..], &(length as u64 + 65_536).to_be_bytes(), &KEY].concat();
        let too_big = Err(ProtocolError::MessageTooBig { limit });
        assert_eq!(feed(&mut agreed(), &header(0xc2, max), &limits, &mut seen), too_big);
        let mut session = agreed();
        feed(&mut session, &client_frame(0x42, &[]), &limits, &mut seen).unwrap();
        assert_eq!(feed(&mut session, &header(0x00, max), &limits, &mut seen), too_big);
    }
}

#[test]
fn fragments_of_nothing_are_held_no_longer_than_the_limit_allows() {
    // Empty blocks, flushed again and again: a stream that is right and becomes nothing.
    let limits = Limits { message_bytes: 10_000 };
    let mut session = agreed();
    let empty = [0, 0, 0, 0xff, 0xff].repeat(100);
    feed(&mut session, &client_frame(0x42, &empty), &limits, &mut Vec::new()).unwrap();
    let outcome = (0..100).try_for_each(|_| {
        assert!(session.held_bytes() <= 2 * 11_400 + 200, "{}", session.held_bytes());
        feed(&mut session, &client_frame(0x00, &empty), &limits, &mut Vec::new())
    });
    assert_eq!(outcome, Err(ProtocolError::MessageTooBig { limit: 10_000 }));
}

#[test]
fn a_whole_message_is_inflated_from_where_it_lies_and_nothing_is_held_for_it() {
    let payload = deflated(6, 15, [&[b'x'; 100_000][..]]);
    let mut input = client_frame(0xc1, &payload);
    let (mut session, mut inflater) = (agreed(), Inflater::default());
    let received = session.receive(&mut input, &NO_LIMIT, &mut inflater).unwrap();
    assert!(matches!(received.event, Some(Event::Message(Message::Text(text))) if text.len() == 100_000));
    assert_eq!(session.held_bytes(), 0);

    // In pieces it is held as it came.
    let (head, tail) = input.split_at_mut(20);
    let mut whole = client_frame(0xc1, &payload);
    let (start, end) = whole.split_at_mut(20);
    head.copy_from_slice(start);
    tail.copy_from_slice(end);
    let mut session = agreed();
    assert_eq!(session.receive(head, &NO_LIMIT, &mut inflater).unwrap().event, None);
    assert!((12..2000).contains(&session.held_bytes()), "{}", session.held_bytes());
    let received = session.receive(tail, &NO_LIMIT, &mut inflater).unwrap();
    assert!(matches!(received.event, Some(Event::Message(message)) if message.len() == 100_000));
    assert!(session.is_idle());
    session.release();
    assert_eq!(session.held_bytes(), 0);
}

#[test]
fn a_bomb_is_refused_while_it_is_small() {
    let mut bomb = Vec::new();
    assert!(Compressor::default().compress(9, &vec![0; 10_000_000], &mut bomb));
    let limits = Limits { message_bytes: MIB };
    for input in [
        client_frame(0xc2, &bomb),
        bomb.chunks(1000).enumerate().flat_map(|(at, piece)| client_frame([0x42, 0][at.min(1)], piece)).collect(),
    ] {
        let mut input = [input, client_frame(0x80, b"")].concat();
        let (mut session, mut inflater) = (agreed(), Inflater::default());
        let error = loop {
            let received = session.receive(&mut input, &limits, &mut inflater);
            match received.map(|received| received.consumed) {
                Ok(consumed) => drop(input.drain(..consumed)),
                Err(error) => break error,
            }
        };
        assert_eq!(error, ProtocolError::MessageTooBig { limit: MIB });
        assert!(inflater.held_bytes() < 21 * MIB / 10, "{}", inflater.held_bytes());
        assert!(session.held_bytes() < 20_000 + 1000, "{}", session.held_bytes());
    }
}

/// A message as a peer may send it.
#[derive(Debug, Clone)]
struct Sent {
    seen: Seen,
    /// `None`: plain.
    level: Option<(u8, u8)>,
    cuts: Vec<Index>,
    /// Pings between its fragments.
    pings: Vec<Vec<u8>>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let payload = prop_oneof![
        "\\PC{0,40}".prop_map(|text| Seen::Text(text.repeat(1 + text.len() % 9))),
        prop::collection::vec(0..6_u8, 0..2000).prop_map(Seen::Binary),
        prop::collection::vec(any::<u8>(), 0..600).prop_map(Seen::Binary),
    ];
    (
        payload,
        prop::option::weighted(0.7, (0..=9_u8, 9..=15_u8)),
        prop::collection::vec(any::<Index>(), 0..4),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..126), 0..3),
    )
        .prop_map(|(seen, level, cuts, pings)| Sent { seen, level, cuts, pings })
}

impl Sent {
    fn payload(&self) -> &[u8] {
        match &self.seen {
            Seen::Text(text) => text.as_bytes(),
            Seen::Binary(bytes) => bytes,
            other => unreachable!("{other:?} is no message"),
        }
    }

    /// Appends its frames, and tells what a peer sees of them.
    fn put(&self, out: &mut Vec<u8>, seen: &mut Vec<Seen>) {
        let opcode = if matches!(self.seen, Seen::Text(_)) { 1 } else { 2 };
        let (payload, rsv1) = match self.level {
            Some((level, bits)) => (deflated(level, bits, [self.payload()]), 0x40),
            None => (self.payload().to_vec(), 0),
        };
        let mut ends: Vec<usize> = self.cuts.iter().map(|cut| cut.index(payload.len() + 1)).collect();
        ends.push(payload.len());
        ends.sort_unstable();
        let (mut start, last) = (0, ends.len() - 1);
        let mut pings = self.pings.iter();
        for (at, end) in ends.into_iter().enumerate() {
            let first = if at == 0 { opcode | rsv1 } else { 0 };
            let fin = if at == last { 0x80 } else { 0 };
            out.extend(client_frame(first | fin, &payload[start..end]));
            start = end;
            if at < last
                && let Some(ping) = pings.next()
            {
                out.extend(client_frame(0x89, ping));
                seen.push(Seen::Ping(ping.clone()));
            }
        }
        seen.push(self.seen.clone());
    }
}

/// `stream` in pieces that end at `cuts`, through one session and the shard's one inflater.
fn through(stream: &[u8], cuts: &[Index], limits: &Limits) -> (Vec<Seen>, Result<(), ProtocolError>, Session) {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([stream.len()]).collect();
    ends.sort_unstable();
    let (mut session, mut inflater, mut seen, mut start) = (agreed(), Inflater::default(), Vec::new(), 0);
    let outcome = ends.into_iter().try_for_each(|end| {
        let piece = &stream[start..end];
        start = end;
        inflater.release();
        feed_with(&mut session, piece, limits, &mut inflater, &mut seen)
    });
    (seen, outcome, session)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_was_sent_is_seen_however_it_is_compressed_fragmented_and_cut(
        messages in prop::collection::vec(sent(), 1..6),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        messages.iter().for_each(|message| message.put(&mut stream, &mut expected));
        let longest = messages.iter().map(|message| message.payload().len()).max().unwrap_or(0).max(1);
        let (seen, outcome, session) = through(&stream, &cuts, &Limits { message_bytes: longest });
        prop_assert_eq!((seen, outcome), (expected.clone(), Ok(())));
        prop_assert!(session.is_idle());
        prop_assert_eq!(session.held_bytes(), 0);

        // With a limit one less, all that comes before the first message of that length, and its pings or not.
        let limits = Limits { message_bytes: longest - 1 };
        if limits.message_bytes > 0 {
            let (seen, outcome, _) = through(&stream, &cuts, &limits);
            prop_assert_eq!(outcome, Err(ProtocolError::MessageTooBig { limit: longest - 1 }));
            prop_assert!(expected.starts_with(&seen));
        }
    }

    #[test]
    fn damage_is_the_same_however_it_is_cut_and_never_more_than_the_limit(
        messages in prop::collection::vec(sent(), 1..4),
        flips in prop::collection::vec((any::<Index>(), 0..8_u8), 0..4),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        limit in 1..3000_usize,
    ) {
        let mut stream = Vec::new();
        messages.iter().for_each(|message| message.put(&mut stream, &mut Vec::new()));
        for (at, bit) in flips {
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        let limits = Limits { message_bytes: limit };
        let (whole, outcome, _) = through(&stream, &[], &limits);
        let (seen, cut_outcome, session) = through(&stream, &cuts, &limits);
        prop_assert_eq!((&seen, cut_outcome), (&whole, outcome));
        prop_assert!(session.held_bytes() <= 2 * (limit + limit / 4 + 64) + 400);
        for seen in seen {
            match seen {
                Seen::Text(text) => prop_assert!(text.len() <= limit),
                Seen::Binary(bytes) => prop_assert!(bytes.len() <= limit),
                _ => {}
            }
        }
    }
}
