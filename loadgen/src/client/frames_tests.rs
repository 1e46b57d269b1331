//! The decoder against the engine's session, which is written otherwise: the same bytes, cut at random, give the same events
//! and fail at the same places.

use fanfare::ws::{self, Opcode, ProtocolError, Role, Session, frame};
use proptest::prelude::*;

use super::*;

const LIMIT: usize = 40_000;
const PLAIN: Limits = Limits { message_bytes_max: LIMIT as u64, deflate: false };

/// An event, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Message(Vec<u8>, bool),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message { payload, deflated } => Self::Message(payload.to_vec(), deflated),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong => Self::Pong,
            Event::Close(code) => Self::Close(code),
        }
    }
}

/// Reads `stream` in pieces, as a client does: the tail is put before what comes next.
fn decode(stream: &[u8], pieces: &[usize], limits: Limits) -> (Vec<Seen>, Option<FrameError>) {
    let mut decoder = Decoder::default();
    let (mut seen, mut from) = (Vec::new(), 0);
    let mut pieces = pieces.iter().cycle();
    while from < stream.len() {
        let to = (from + pieces.next().copied().unwrap_or(usize::MAX)).min(stream.len());
        let input = [decoder.tail(), &stream[from..to]].concat();
        let mut at = 0;
        loop {
            match decoder.next(&input, &mut at, limits) {
                Ok(Some(event)) => seen.push(event.into()),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
            if let Some(Seen::Close(_)) = seen.last() {
                return (seen, None);
            }
        }
        decoder.keep(&input[at..]);
        assert!(decoder.tail().len() <= TAIL_BYTES_MAX);
        let claimed = decoder.joining.as_ref().map_or(0, |joining| joining.message.len());
        assert!(claimed <= limits.message_bytes_max as usize);
        from = to;
    }
    (seen, None)
}

/// What the engine's session makes of it.
fn expected(stream: &[u8]) -> (Vec<Seen>, Option<ProtocolError>) {
    let mut session = Session::new(Role::Client);
    let limits = ws::Limits { message_bytes: LIMIT };
    let mut stream = stream.to_vec();
    let (mut seen, mut at, mut inflater) = (Vec::new(), 0, ws::deflate::Inflater::default());
    while at < stream.len() {
        let received = match session.receive(&mut stream[at..], &limits, &mut inflater) {
            Ok(received) => received,
            Err(error) => return (seen, Some(error)),
        };
        let (consumed, is_close) = (received.consumed, matches!(received.event, Some(ws::Event::Close { .. })));
        match received.event {
            Some(ws::Event::Message(message)) => seen.push(Seen::Message(message.payload().to_vec(), false)),
            Some(ws::Event::Ping(payload)) => seen.push(Seen::Ping(payload.to_vec())),
            Some(ws::Event::Pong(_)) => seen.push(Seen::Pong),
            Some(ws::Event::Close { code, .. }) => seen.push(Seen::Close(code)),
            None if consumed == 0 => break,
            None => {}
        }
        if is_close {
            break;
        }
        at += consumed;
    }
    (seen, None)
}

/// A frame as its fields say, right or wrong.
fn raw_frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut out = vec![first];
    match payload.len() {
        len @ 0..126 => out.push(mask | len as u8),
        len @ 126..0x10000 => {
            out.push(mask | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(mask | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![6 => 0..200_usize, 2 => 120..135_usize, 1 => 16_000..18_000_usize, 1 => 30_000..41_000_usize];
    (len, b'a'..=b'z').prop_map(|(len, byte)| vec![byte; len])
}

/// A right message in frames, with control frames between them.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let control = prop_oneof![
        4 => Just(Vec::new()),
        1 => prop::collection::vec(any::<u8>(), 0..126).prop_map(|p| raw_frame(0x89, false, &p)),
        1 => Just(raw_frame(0x8a, false, b"pong")),
    ];
    let fragments = prop::collection::vec((payload(), control), 1..5);
    (fragments, any::<bool>()).prop_map(|(fragments, binary)| {
        let last = fragments.len() - 1;
        let mut out = Vec::new();
        for (n, (payload, control)) in fragments.into_iter().enumerate() {
            let opcode = if n > 0 { 0 } else { 1 + u8::from(binary) };
            out.extend(raw_frame(opcode | if n == last { 0x80 } else { 0 }, false, &payload));
            out.extend(control);
        }
        out
    })
}

/// Any frame, most of them wrong in some way.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        3 => Just(0x81_u8), 2 => Just(0x01), 2 => Just(0x80), 1 => Just(0x00), 1 => Just(0x89), 1 => Just(0x88),
        1 => any::<u8>()
    ];
    let text = prop::collection::vec(b'a'..=b'z', 0..150);
    (first, prop::bool::weighted(0.03), text).prop_map(|(first, masked, text)| raw_frame(first, masked, &text))
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1..10_usize, 1..300_usize, 1..40_000_usize], 1..20)
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn right_streams_give_the_events_of_the_engines_session_however_they_are_cut(
        messages in prop::collection::vec(message(), 0..6),
        close in prop::option::of(prop::option::of(3000..5000_u16)),
        pieces in pieces(),
    ) {
        let mut stream = messages.concat();
        if let Some(code) = close {
            frame::put_close(&mut stream, code, "reason");
            frame::put_data(&mut stream, Opcode::Text, b"not heard any more");
        }
        let (theirs, their_error) = expected(&stream);
        let (ours, our_error) = decode(&stream, &pieces, PLAIN);
        prop_assert!(ours == theirs);
        // Messages above the limit are among them.
        prop_assert_eq!(our_error.is_some(), their_error.is_some());
    }

    #[test]
    fn wrong_streams_fail_where_they_fail_in_the_engines_session(
        frames in prop::collection::vec(any_frame(), 1..6),
        pieces in pieces(),
    ) {
        // The filler completes every frame: the session judges a header when it is whole, here each byte as it comes.
        let stream = [frames.concat(), vec![0; 200]].concat();
        let (theirs, their_error) = expected(&stream);
        let (ours, our_error) = decode(&stream, &pieces, PLAIN);
        // A close frame's code and reason are judged there; here its code is only reported.
        let is_judged = matches!(ours.last(), Some(Seen::Close(_)));
        prop_assert_eq!(our_error.is_some() || is_judged, their_error.is_some() || is_judged);
        prop_assert!(ours == theirs || (is_judged && ours[..ours.len() - 1] == theirs[..]));
    }

    #[test]
    fn no_bytes_make_it_panic_and_no_cut_changes_what_they_mean(
        stream in prop::collection::vec(any::<u8>(), 0..300),
        pieces in pieces(),
        deflate: bool,
        message_bytes_max in 0..400_u64,
    ) {
        let limits = Limits { message_bytes_max, deflate };
        prop_assert_eq!(decode(&stream, &pieces, limits), decode(&stream, &[usize::MAX], limits));
    }
}

#[test]
fn each_mistake_has_its_name() {
    let error = |stream: &[u8]| decode(stream, &[1], PLAIN).1.expect("it is wrong").to_string();
    assert_eq!(error(&raw_frame(0x81, true, b"x")), "protocol error: masked frame");
    assert_eq!(error(&[0xa1]), "protocol error: reserved bits");
    assert_eq!(error(&[0xc1, 0x00]), "protocol error: reserved bits");
    assert_eq!(error(&[0x83]), "protocol error: bad opcode 3");
    assert_eq!(error(&[0x8f]), "protocol error: bad opcode 15");
    assert_eq!(error(&[0x09]), "protocol error: fragmented control frame");
    assert_eq!(error(&[0x89, 126, 0, 126]), "protocol error: control frame longer than 125 bytes");
    assert_eq!(error(&[0x80, 0]), "protocol error: continuation of nothing");
    assert_eq!(error(&[0x01, 1, b'a', 0x81, 0]), "protocol error: new message inside a fragmented one");
    assert_eq!(error(&[0x82, 126, 0, 125]), "protocol error: length not minimal");
    assert_eq!(error(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), "protocol error: length with its highest bit set");
    assert_eq!(error(&[0x88, 1, 3]), "protocol error: close frame with half a code");
}

#[test]
fn a_frame_of_a_gigabyte_ends_at_its_header_without_memory_for_it() {
    let mut stream = vec![0x82, 127];
    stream.extend_from_slice(&(1_u64 << 30).to_be_bytes());
    let mut decoder = Decoder::default();
    let error = decoder.next(&stream, &mut 0, PLAIN).expect_err("too big");
    assert_eq!(error.to_string(), "message of 1073741824 bytes exceeds client.message_bytes_max");
    assert_eq!(decoder.held_bytes(), 0);

    // As fragments, too; and a limit of what a connection may hold does not mean that it is claimed beforehand.
    let limits = Limits { message_bytes_max: 1 << 30, deflate: false };
    assert_eq!(decoder.next(&stream, &mut 0, limits), Ok(None));
    assert!(decoder.held_bytes() <= CLAIM_BYTES_MAX);
    let fragments = [raw_frame(0x01, false, &[b'a'; 30_000]), raw_frame(0x80, false, &[b'a'; 30_000])].concat();
    assert_eq!(decode(&fragments, &[1000], PLAIN), (Vec::new(), Some(FrameError::TooBig(60_000))));
}

#[test]
fn only_the_first_frame_of_a_message_says_that_it_is_deflated() {
    let limits = Limits { deflate: true, ..PLAIN };
    let stream = [
        raw_frame(0xc1, false, b"one"),
        raw_frame(0x81, false, b"two"),
        raw_frame(0x42, false, b"thr"),
        raw_frame(0x89, false, b""),
        raw_frame(0x80, false, b"ee"),
        raw_frame(0x01, false, b"fo"),
        raw_frame(0xc0, false, b"ur"),
    ];
    let (seen, error) = decode(&stream.concat(), &[3], limits);
    let message = |text: &str, deflated| Seen::Message(text.into(), deflated);
    assert_eq!(seen, [message("one", true), message("two", false), Seen::Ping(Vec::new()), message("three", true)]);
    assert_eq!(error, Some(FrameError::ReservedBits));
}

#[test]
fn nothing_unfinished_means_no_memory() {
    let mut decoder = Decoder::default();
    for len in [10_000, 100_000] {
        let stream = raw_frame(0x82, false, &vec![7; len]);
        let limits = Limits { message_bytes_max: 1 << 20, deflate: false };
        let (half, rest) = stream.split_at(5000);
        let mut at = 0;
        assert_eq!(decoder.next(half, &mut at, limits), Ok(None));
        decoder.keep(&half[at..]);
        assert!(decoder.held_bytes() >= half.len() - 10);
        let input = [decoder.tail(), rest].concat();
        let mut at = 0;
        let message = decoder.next(&input, &mut at, limits);
        assert!(matches!(message, Ok(Some(Event::Message { payload, .. })) if payload.len() == len));
        assert_eq!(decoder.next(&input, &mut at, limits), Ok(None));
        decoder.keep(&input[at..]);
        assert_eq!(decoder.held_bytes(), 0);
    }
}
