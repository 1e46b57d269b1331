//! The rules of RFC 6455 one by one, and what a session may hold.

use std::collections::HashSet;

use crate::ws::deflate::Inflater;
use crate::ws::{Event, Limits, Message, Opcode, ProtocolError, Role, Session, frame};

const NO_LIMIT: Limits = Limits { message_bytes: 0 };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An event that owns its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(Message::Text(text)) => Self::Text(text.to_owned()),
            Event::Message(Message::Binary(bytes)) => Self::Binary(bytes.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// Gives `input` to `session`, and collects the events until the input or the session ends.
pub(super) fn feed(
    session: &mut Session,
    input: &[u8],
    limits: &Limits,
    seen: &mut Vec<Seen>,
) -> Result<(), ProtocolError> {
    feed_with(session, input, limits, &mut Inflater::default(), seen)
}

/// As [`feed`], with an inflater that has inflated before.
pub(super) fn feed_with(
    session: &mut Session,
    input: &[u8],
    limits: &Limits,
    inflater: &mut Inflater,
    seen: &mut Vec<Seen>,
) -> Result<(), ProtocolError> {
    let mut input = input.to_vec();
    let mut rest = &mut input[..];
    while !rest.is_empty() {
        let rest_len = rest.len();
        let received = session.receive(rest, limits, inflater)?;
        let consumed = received.consumed;
        assert!(received.event.is_some() || consumed == rest_len, "without an event everything is taken");
        seen.extend(received.event.map(Seen::from));
        rest = &mut rest[consumed..];
    }
    session.release();
    Ok(())
}

/// A frame of a client, with the first byte as given.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::put_masked_data(&mut out, Opcode::Text, payload, KEY);
    out[0] = first;
    out
}

/// What a server sees of `input`: the same in one piece and byte by byte.
fn serve(input: &[u8], limits: &Limits) -> Result<Vec<Seen>, ProtocolError> {
    let mut seen = Vec::new();
    let outcome = feed(&mut Session::new(Role::Server), input, limits, &mut seen);

    let mut seen_bytewise = Vec::new();
    let mut session = Session::new(Role::Server);
    let bytewise = input.iter().try_for_each(|&byte| feed(&mut session, &[byte], limits, &mut seen_bytewise));
    assert_eq!((&seen, outcome), (&seen_bytewise, bytewise), "how the input is cut must not matter");

    outcome.map(|()| seen)
}

fn refused(input: &[u8]) -> ProtocolError {
    serve(input, &NO_LIMIT).expect_err("the peer's mistake must be refused")
}

#[test]
fn a_whole_message_is_delivered_from_where_it_lies() {
    for opcode in [Opcode::Text, Opcode::Binary] {
        let mut input = Vec::new();
        frame::put_masked_data(&mut input, opcode, &[b'x'; 1000], KEY);
        let range = input.as_ptr_range();
        let mut inflater = Inflater::default();
        let mut session = Session::new(Role::Server);
        let received = session.receive(&mut input, &NO_LIMIT, &mut inflater).unwrap();
        let Some(Event::Message(message)) = received.event else { panic!("no message") };
        assert_eq!(message.opcode(), opcode);
        assert_eq!(message.payload(), [b'x'; 1000]);
        assert!(range.contains(&message.payload().as_ptr()));
        assert_eq!(session.held_bytes(), 0);
    }
}

#[test]
fn a_message_is_delivered_from_the_input_even_if_its_header_came_before() {
    let mut input = Vec::new();
    frame::put_masked_data(&mut input, Opcode::Binary, &[5; 300], KEY);
    let (header, payload) = input.split_at_mut(7);
    let mut inflater = Inflater::default();
    let mut session = Session::new(Role::Server);
    assert_eq!(session.receive(header, &NO_LIMIT, &mut inflater).unwrap().event, None);
    assert!(!session.is_idle());
    let range = payload.as_ptr_range();
    let received = session.receive(payload, &NO_LIMIT, &mut inflater).unwrap();
    let Some(Event::Message(Message::Binary(bytes))) = received.event else { panic!("no message") };
    assert!(range.contains(&bytes.as_ptr()));
    assert!(session.is_idle());
    session.release();
    assert_eq!(session.held_bytes(), 0);
}

#[test]
fn an_event_ends_where_its_frame_ends() {
    let mut input = client_frame(0x81, b"one");
    let first_len = input.len();
    input.extend(client_frame(0x89, b"two"));
    let mut inflater = Inflater::default();
    let mut session = Session::new(Role::Server);
    let received = session.receive(&mut input, &NO_LIMIT, &mut inflater).unwrap();
    assert_eq!(received.consumed, first_len);
    assert_eq!(received.event, Some(Event::Message(Message::Text("one"))));
    let received = session.receive(&mut input[first_len..], &NO_LIMIT, &mut inflater).unwrap();
    assert_eq!(received.event, Some(Event::Ping(b"two")));
}

#[test]
fn every_length_format_is_understood() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
        let payload = vec![b'a'; len];
        let expected = Seen::Binary(payload.clone());
        assert_eq!(serve(&client_frame(0x82, &payload), &NO_LIMIT), Ok(vec![expected]));
    }
}

#[test]
fn a_client_takes_unmasked_frames_only_and_a_server_masked_ones_only() {
    let mut unmasked = Vec::new();
    frame::put_data(&mut unmasked, Opcode::Text, b"Hello");
    assert_eq!(refused(&unmasked), ProtocolError::UnmaskedFrame);

    let mut seen = Vec::new();
    feed(&mut Session::new(Role::Client), &unmasked, &NO_LIMIT, &mut seen).unwrap();
    assert_eq!(seen, [Seen::Text("Hello".into())]);
    let masked = client_frame(0x81, b"Hello");
    let outcome = feed(&mut Session::new(Role::Client), &masked, &NO_LIMIT, &mut seen);
    assert_eq!(outcome, Err(ProtocolError::MaskedFrame));
}

#[test]
fn control_frames_between_fragments_come_at_once_and_leave_the_message_alone() {
    let mut input = client_frame(0x01, b"Hel");
    input.extend(client_frame(0x89, b"ping"));
    input.extend(client_frame(0x00, b"l"));
    input.extend(client_frame(0x8a, b""));
    input.extend(client_frame(0x80, b"o"));
    let expected = vec![Seen::Ping(b"ping".to_vec()), Seen::Pong(Vec::new()), Seen::Text("Hello".into())];
    assert_eq!(serve(&input, &NO_LIMIT), Ok(expected));
}

#[test]
fn fragments_may_be_empty() {
    let mut input = client_frame(0x01, b"");
    input.extend(client_frame(0x00, b""));
    input.extend(client_frame(0x80, b""));
    assert_eq!(serve(&input, &NO_LIMIT), Ok(vec![Seen::Text(String::new())]));
}

#[test]
fn seventy_thousand_fragments_make_one_message() {
    let mut input = client_frame(0x01, b"x");
    for _ in 0..70_000 {
        input.extend(client_frame(0x00, b"y"));
    }
    input.extend(client_frame(0x80, b"z"));
    let seen = serve(&input, &NO_LIMIT).unwrap();
    let [Seen::Text(text)] = &seen[..] else { panic!("one message, not {}", seen.len()) };
    assert_eq!(text.len(), 70_002);
}

#[test]
fn reserved_bits_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        assert_eq!(refused(&client_frame(0x81 | bit, b"x")), ProtocolError::ReservedBits);
        assert_eq!(refused(&client_frame(0x89 | bit, b"x")), ProtocolError::ReservedBits);
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in (3..=7).chain(11..=15) {
        assert_eq!(refused(&client_frame(0x80 | opcode, b"")), ProtocolError::ReservedOpcode(opcode));
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [0x8, 0x9, 0xa] {
        assert_eq!(refused(&client_frame(opcode, b"")), ProtocolError::FragmentedControl);
        assert_eq!(refused(&client_frame(0x80 | opcode, &[0; 126])), ProtocolError::ControlTooLong);
    }
    assert_eq!(serve(&client_frame(0x89, &[7; 125]), &NO_LIMIT), Ok(vec![Seen::Ping(vec![7; 125])]));
}

#[test]
fn fragments_come_in_order() {
    assert_eq!(refused(&client_frame(0x80, b"x")), ProtocolError::UnexpectedContinuation);
    assert_eq!(refused(&client_frame(0x00, b"x")), ProtocolError::UnexpectedContinuation);
    for second in [0x01, 0x81, 0x02, 0x82] {
        let mut input = client_frame(0x01, b"x");
        input.extend(client_frame(second, b"y"));
        assert_eq!(refused(&input), ProtocolError::InterleavedMessage);
    }
    // A finished message leaves nothing to continue.
    let mut input = client_frame(0x01, b"x");
    input.extend(client_frame(0x80, b"y"));
    input.extend(client_frame(0x80, b"z"));
    assert_eq!(refused(&input), ProtocolError::UnexpectedContinuation);
}

#[test]
fn lengths_are_minimal_and_below_two_to_the_63() {
    assert_eq!(refused(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0]), ProtocolError::NonMinimalLength);
    assert_eq!(refused(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]), ProtocolError::NonMinimalLength);
    assert_eq!(refused(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), ProtocolError::LengthOverflow);
}

#[test]
fn the_limit_itself_passes_and_one_more_byte_does_not() {
    let limits = Limits { message_bytes: 300 };
    let too_big = Err(ProtocolError::MessageTooBig { limit: 300 });
    for first in [0x81, 0x82] {
        assert!(serve(&client_frame(first, &[b'a'; 300]), &limits).is_ok());
        assert_eq!(serve(&client_frame(first, &[b'a'; 301]), &limits), too_big);

        let mut input = client_frame(first & 0x0f, &[b'a'; 200]);
        input.extend(client_frame(0x80, &[b'a'; 100]));
        assert!(serve(&input, &limits).is_ok());
        let mut input = client_frame(first & 0x0f, &[b'a'; 200]);
        input.extend(client_frame(0x00, &[b'a'; 100]));
        input.extend(client_frame(0x80, b"a"));
        assert_eq!(serve(&input, &limits), too_big);
    }
}

#[test]
fn control_frames_do_not_count_against_the_message_limit() {
    let limits = Limits { message_bytes: 10 };
    assert_eq!(serve(&client_frame(0x89, &[7; 125]), &limits), Ok(vec![Seen::Ping(vec![7; 125])]));
}

#[test]
fn an_announced_length_is_refused_before_its_payload_and_never_reserved() {
    let announced = [0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let limits = Limits { message_bytes: 1 << 20 };
    assert_eq!(serve(&announced, &limits), Err(ProtocolError::MessageTooBig { limit: 1 << 20 }));

    let mut session = Session::new(Role::Server);
    feed(&mut session, &announced, &NO_LIMIT, &mut Vec::new()).unwrap();
    feed(&mut session, &[1; 1000], &NO_LIMIT, &mut Vec::new()).unwrap();
    assert!((1000..4000).contains(&session.held_bytes()), "{} bytes held", session.held_bytes());
}

#[test]
fn what_is_held_of_one_frame_is_never_more_than_the_frame() {
    let length: u32 = 100_000;
    let empty = Session::new(Role::Server).held_bytes();
    for piece in [1, 999, 40_000, 70_000] {
        let mut session = Session::new(Role::Server);
        let mut frame = vec![0x82, 0xff, 0, 0, 0, 0];
        frame.extend(length.to_be_bytes());
        feed(&mut session, &frame, &NO_LIMIT, &mut Vec::new()).unwrap();
        feed(&mut session, &[0; 4], &NO_LIMIT, &mut Vec::new()).unwrap();
        let besides = session.held_bytes() - empty;
        for bytes in vec![1; length as usize - 1].chunks(piece) {
            feed(&mut session, bytes, &NO_LIMIT, &mut Vec::new()).unwrap();
            assert!(session.held_bytes() <= besides + length as usize, "{} held, by {piece}", session.held_bytes());
        }
    }
}

#[test]
fn close_codes_are_those_that_may_be_sent() {
    for code in 0..=u16::MAX {
        let mut input = Vec::new();
        frame::put_masked_close(&mut input, Some(code), "why", KEY);
        let valid = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let expected = if valid {
            Ok(Some(Event::Close { code: Some(code), reason: "why" }))
        } else {
            Err(ProtocolError::InvalidCloseCode(code))
        };
        let mut inflater = Inflater::default();
        let mut session = Session::new(Role::Server);
        assert_eq!(session.receive(&mut input, &NO_LIMIT, &mut inflater).map(|received| received.event), expected);
        assert_eq!(frame::is_sendable_close_code(code), valid);
    }
}

#[test]
fn a_close_payload_is_empty_or_a_code_and_text() {
    assert_eq!(serve(&client_frame(0x88, b""), &NO_LIMIT), Ok(vec![Seen::Close(None, String::new())]));
    assert_eq!(refused(&client_frame(0x88, &[3])), ProtocolError::InvalidClosePayload);
    let code_only = client_frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(serve(&code_only, &NO_LIMIT), Ok(vec![Seen::Close(Some(1000), String::new())]));
    assert_eq!(refused(&client_frame(0x88, &[0x03, 0xe8, 0xff])), ProtocolError::InvalidUtf8);
    assert_eq!(refused(&client_frame(0x88, &[0x03, 0xe8, 0xce])), ProtocolError::InvalidUtf8);
}

#[test]
fn nothing_is_seen_after_a_close() {
    let mut input = client_frame(0x01, b"half a message");
    input.extend(client_frame(0x88, b""));
    input.extend(client_frame(0x81, b"too late"));
    input.extend([0xff; 50]);
    assert_eq!(serve(&input, &NO_LIMIT), Ok(vec![Seen::Close(None, String::new())]));

    let mut session = Session::new(Role::Server);
    feed(&mut session, &input, &NO_LIMIT, &mut Vec::new()).unwrap();
    assert!(session.is_idle());
    assert_eq!(session.held_bytes(), 0);
}

#[test]
fn nothing_is_seen_after_a_mistake() {
    let mut session = Session::new(Role::Server);
    let mut seen = Vec::new();
    let mut half = client_frame(0x01, b"half a message");
    half.extend([0xff; 20]);
    feed(&mut session, &half, &NO_LIMIT, &mut seen).unwrap_err();
    assert!(session.is_idle());
    session.release();
    assert_eq!(session.held_bytes(), 0);
    feed(&mut session, &client_frame(0x81, b"too late"), &NO_LIMIT, &mut seen).unwrap();
    assert_eq!(seen, []);
}

#[test]
fn memory_is_held_only_for_what_is_half_received() {
    let mut inflater = Inflater::default();
    let mut session = Session::new(Role::Server);
    let input = client_frame(0x81, &[b'a'; 5000]);
    feed(&mut session, &input[..3000], &NO_LIMIT, &mut Vec::new()).unwrap();
    assert!(!session.is_idle());
    assert!(session.held_bytes() > 2900);

    let mut rest = input[3000..].to_vec();
    let received = session.receive(&mut rest, &NO_LIMIT, &mut inflater).unwrap();
    assert!(matches!(received.event, Some(Event::Message(message)) if message.len() == 5000));
    assert!(session.is_idle());
    assert!(session.held_bytes() >= 5000, "what was delivered could still be borrowed");
    session.release();
    assert_eq!(session.held_bytes(), 0);
}

#[test]
fn a_delivered_message_is_freed_when_the_next_input_comes() {
    let mut inflater = Inflater::default();
    let mut session = Session::new(Role::Server);
    let input = client_frame(0x82, &[7; 5000]);
    feed(&mut session, &input[..10], &NO_LIMIT, &mut Vec::new()).unwrap();
    let _ = session.receive(&mut input[10..].to_vec(), &NO_LIMIT, &mut inflater).unwrap();
    let _ = session.receive(&mut client_frame(0x8a, b""), &NO_LIMIT, &mut inflater).unwrap();
    assert_eq!(session.held_bytes(), 0);
}

#[test]
fn an_unfinished_message_survives_release() {
    let mut session = Session::new(Role::Server);
    let mut seen = Vec::new();
    feed(&mut session, &client_frame(0x01, b"a"), &NO_LIMIT, &mut seen).unwrap();
    session.release();
    assert!(!session.is_idle());
    feed(&mut session, &client_frame(0x80, b"b"), &NO_LIMIT, &mut seen).unwrap();
    assert_eq!(seen, [Seen::Text("ab".into())]);
}

#[test]
fn every_mistake_has_a_label_of_its_own_a_close_code_and_a_sentence_that_fits() {
    use ProtocolError::*;
    let all = [
        (UnmaskedFrame, 1002),
        (MaskedFrame, 1002),
        (ReservedBits, 1002),
        (ReservedOpcode(3), 1002),
        (FragmentedControl, 1002),
        (ControlTooLong, 1002),
        (UnexpectedContinuation, 1002),
        (InterleavedMessage, 1002),
        (InvalidUtf8, 1007),
        (BrokenDeflate, 1007),
        (InvalidCloseCode(1005), 1002),
        (InvalidClosePayload, 1002),
        (NonMinimalLength, 1002),
        (LengthOverflow, 1002),
        (MessageTooBig { limit: usize::MAX }, 1009),
    ];
    let labels: HashSet<_> = all.iter().map(|(error, _)| error.label()).collect();
    assert_eq!(labels.len(), all.len());
    for (error, code) in all {
        assert_eq!(error.close_code(), code);
        assert!(error.to_string().len() <= frame::CLOSE_REASON_MAX);
        assert!(error.label().bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
    }
}

#[test]
fn messages_tell_their_type_and_payload() {
    let text = String::from("ä");
    let bytes = vec![1, 2, 3];
    assert_eq!(Message::from(&text), Message::Text("ä"));
    assert_eq!(Message::from("ä").payload(), "ä".as_bytes());
    assert_eq!(Message::from(&bytes), Message::from(&bytes[..]));
    assert_eq!((Message::from(&bytes).len(), Message::from(&bytes).opcode()), (3, Opcode::Binary));
    assert!(Message::from("").is_empty());
}
