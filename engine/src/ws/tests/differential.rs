//! Against `tungstenite`, an implementation that is not ours: the same bytes, cut at random, must give the same events
//! and the same end; and what one side writes, the other must read.
//!
//! Where the two differ on purpose:
//!
//! 1. A length that is not minimal: `tungstenite` accepts it, here it is refused (RFC 6455, 5.2: a MUST).
//! 2. A close code that must not be sent: `tungstenite` reports a close with 1002 in its place, here it is a mistake.
//! 3. The close code 1014 (Bad Gateway, in the IANA registry): `tungstenite` takes it for one of those.
//! 4. `tungstenite` compares the length of a frame with the limit before it looks at the rest of the header and for
//!    control frames too; here the limit is the last check, and for data only.
//! 5. `tungstenite` judges a frame when it is complete, here as early as possible. The input therefore ends with filler
//!    that completes every frame.
//! 6. A masked frame of a server with reserved bits: `tungstenite` names the bits, here the mask is named.

use std::io::{self, Read, Write};

use proptest::prelude::*;
use proptest::sample::Index;
use tungstenite::error::{CapacityError, Error, ProtocolError as OracleError};
use tungstenite::protocol::{CloseFrame, Role as OracleRole, WebSocketConfig, WebSocketContext};

use super::config;
use super::session::{Seen, feed};
use crate::ws::{Limits, Opcode, ProtocolError, Role, Session, frame, mask};

const LIMIT: usize = 300;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More input is wanted, or the peer closed.
    Quiet,
    Masked,
    Unmasked,
    ReservedBits,
    ReservedOpcode,
    FragmentedControl,
    ControlTooLong,
    UnexpectedContinuation,
    InterleavedMessage,
    Utf8,
    ClosePayload,
    TooBig,
}

/// The bytes of a peer in pieces; what is written vanishes.
struct Peer<'a> {
    pieces: std::collections::VecDeque<&'a [u8]>,
}

impl Read for Peer<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.pieces.front_mut() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let len = piece.read(buffer)?;
        if piece.is_empty() {
            self.pieces.pop_front();
        }
        Ok(len)
    }
}

impl Write for Peer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `bytes` in pieces that end at `cuts`, none of them empty.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([bytes.len()]).collect();
    ends.sort_unstable();
    ends.dedup();
    let starts = [0].into_iter().chain(ends.iter().copied());
    starts.zip(&ends).map(|(start, &end)| &bytes[start..end]).filter(|piece| !piece.is_empty()).collect()
}

fn ours(role: Role, pieces: &[&[u8]]) -> (Vec<Seen>, Result<(), ProtocolError>) {
    let mut session = Session::new(role);
    let mut seen = Vec::new();
    let limits = Limits { message_bytes: LIMIT };
    let end = pieces.iter().try_for_each(|piece| feed(&mut session, piece, &limits, &mut seen));
    (seen, end)
}

fn oracle(role: Role, pieces: &[&[u8]]) -> (Vec<Seen>, End) {
    use tungstenite::Message;
    let config =
        WebSocketConfig::default().read_buffer_size(64).max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let role = match role {
        Role::Server => OracleRole::Server,
        Role::Client => OracleRole::Client,
    };
    let mut context = WebSocketContext::new(role, Some(config));
    let mut peer = Peer { pieces: pieces.iter().copied().collect() };
    let mut seen = Vec::new();
    loop {
        match context.read(&mut peer) {
            Ok(Message::Text(text)) => seen.push(Seen::Text(text.to_string())),
            Ok(Message::Binary(bytes)) => seen.push(Seen::Binary(bytes.to_vec())),
            Ok(Message::Ping(payload)) => seen.push(Seen::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => seen.push(Seen::Pong(payload.to_vec())),
            Ok(Message::Close(None)) => {
                seen.push(Seen::Close(None, String::new()));
                return (seen, End::Quiet);
            }
            Ok(Message::Close(Some(CloseFrame { code, reason }))) => {
                seen.push(Seen::Close(Some(code.into()), reason.to_string()));
                return (seen, End::Quiet);
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            Err(error) => return (seen, oracle_end(&error)),
        }
    }
}

fn oracle_end(error: &Error) -> End {
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::WouldBlock => End::Quiet,
        Error::Protocol(OracleError::UnmaskedFrameFromClient) => End::Unmasked,
        Error::Protocol(OracleError::MaskedFrameFromServer) => End::Masked,
        Error::Protocol(OracleError::NonZeroReservedBits) => End::ReservedBits,
        Error::Protocol(OracleError::InvalidOpcode(_)) => End::ReservedOpcode,
        Error::Protocol(OracleError::FragmentedControlFrame) => End::FragmentedControl,
        Error::Protocol(OracleError::ControlFrameTooBig) => End::ControlTooLong,
        Error::Protocol(OracleError::UnexpectedContinueFrame) => End::UnexpectedContinuation,
        Error::Protocol(OracleError::ExpectedFragment(_)) => End::InterleavedMessage,
        Error::Protocol(OracleError::InvalidCloseSequence) => End::ClosePayload,
        Error::Utf8(_) => End::Utf8,
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::TooBig,
        other => panic!("the oracle ended with {other}"),
    }
}

fn our_end(error: ProtocolError) -> End {
    match error {
        ProtocolError::UnmaskedFrame => End::Unmasked,
        ProtocolError::MaskedFrame => End::Masked,
        ProtocolError::ReservedBits => End::ReservedBits,
        ProtocolError::ReservedOpcode(_) => End::ReservedOpcode,
        ProtocolError::FragmentedControl => End::FragmentedControl,
        ProtocolError::ControlTooLong => End::ControlTooLong,
        ProtocolError::UnexpectedContinuation => End::UnexpectedContinuation,
        ProtocolError::InterleavedMessage => End::InterleavedMessage,
        ProtocolError::InvalidUtf8 => End::Utf8,
        ProtocolError::InvalidClosePayload => End::ClosePayload,
        ProtocolError::LengthOverflow | ProtocolError::MessageTooBig { .. } => End::TooBig,
        ProtocolError::InvalidCloseCode(_) | ProtocolError::NonMinimalLength => unreachable!("handled by the caller"),
        ProtocolError::BrokenDeflate => unreachable!("nothing is compressed here"),
    }
}

/// Whether the difference is one of those listed at the top, or none.
fn assert_same(
    (mut seen, end): (Vec<Seen>, Result<(), ProtocolError>),
    (oracle_seen, oracle_end): (Vec<Seen>, End),
) -> Result<(), TestCaseError> {
    let replaced = || Seen::Close(Some(1002), "Protocol violation".into());
    match (seen.last_mut(), end) {
        (_, Err(ProtocolError::NonMinimalLength)) => {
            prop_assert!(oracle_seen.starts_with(&seen), "{seen:?} does not begin {oracle_seen:?}");
            return Ok(());
        }
        (_, Err(ProtocolError::InvalidCloseCode(_))) => {
            seen.push(replaced());
            prop_assert_eq!((seen, End::Quiet), (oracle_seen, oracle_end));
            return Ok(());
        }
        (Some(close @ Seen::Close(Some(1014), _)), _) => *close = replaced(),
        _ => {}
    }
    prop_assert_eq!(seen, oracle_seen);
    match (end.map_or_else(our_end, |()| End::Quiet), oracle_end) {
        (
            End::Masked
            | End::Unmasked
            | End::ReservedBits
            | End::FragmentedControl
            | End::ControlTooLong
            | End::UnexpectedContinuation
            | End::InterleavedMessage,
            End::TooBig,
        )
        | (End::Masked, End::ReservedBits) => {}
        (ours, oracles) => prop_assert_eq!(ours, oracles),
    }
    Ok(())
}

/// How the payload length of a frame is written.
#[derive(Debug, Clone, Copy)]
enum LengthForm {
    Minimal,
    Short16,
    Long64,
    /// Some other length, in the shortest form.
    Lie(u64),
}

/// A frame with nothing guaranteed.
#[derive(Debug, Clone)]
struct RawFrame {
    first: u8,
    wrong_mask: bool,
    length: LengthForm,
    key: [u8; 4],
    payload: Vec<u8>,
}

impl RawFrame {
    fn put(&self, out: &mut Vec<u8>, role: Role) {
        let is_masked = (role == Role::Server) != self.wrong_mask;
        let mask_bit = if is_masked { 0x80 } else { 0 };
        let len = self.payload.len() as u64;
        out.push(self.first);
        match self.length {
            LengthForm::Short16 => put_len16(out, mask_bit, len),
            LengthForm::Long64 => put_len64(out, mask_bit, len),
            LengthForm::Minimal => put_len(out, mask_bit, len),
            LengthForm::Lie(len) => put_len(out, mask_bit, len),
        }
        let payload_at = out.len() + if is_masked { 4 } else { 0 };
        if is_masked {
            out.extend(self.key);
        }
        out.extend(&self.payload);
        if is_masked {
            let _ = mask::apply(&mut out[payload_at..], self.key);
        }
    }
}

fn put_len(out: &mut Vec<u8>, mask_bit: u8, len: u64) {
    match len {
        0..=125 => out.push(mask_bit | len as u8),
        126..=65_535 => put_len16(out, mask_bit, len),
        _ => put_len64(out, mask_bit, len),
    }
}

fn put_len16(out: &mut Vec<u8>, mask_bit: u8, len: u64) {
    out.push(mask_bit | 126);
    out.extend((len as u16).to_be_bytes());
}

fn put_len64(out: &mut Vec<u8>, mask_bit: u8, len: u64) {
    out.push(mask_bit | 127);
    out.extend(len.to_be_bytes());
}

fn good(first: u8, payload: Vec<u8>, key: [u8; 4]) -> RawFrame {
    RawFrame { first, wrong_mask: false, length: LengthForm::Minimal, key, payload }
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..=max)
}

/// Text, or something close to it.
fn text_bytes() -> impl Strategy<Value = Vec<u8>> {
    let spoilt = ("\\PC{0,40}", any::<Index>(), any::<u8>()).prop_map(|(text, at, byte)| {
        let mut bytes = text.into_bytes();
        bytes.insert(at.index(bytes.len() + 1), byte);
        bytes
    });
    prop_oneof![6 => "\\PC{0,100}".prop_map(String::into_bytes), 1 => spoilt]
}

fn control() -> impl Strategy<Value = RawFrame> {
    (prop_oneof![Just(0x89), Just(0x8a)], bytes(125), any::<[u8; 4]>())
        .prop_map(|(first, payload, key)| good(first, payload, key))
}

fn close() -> impl Strategy<Value = RawFrame> {
    let code = prop_oneof![999..1017_u16, 2999..3001_u16, 4999..5001_u16, any::<u16>()];
    let payload = prop_oneof![
        4 => (code, text_bytes()).prop_map(|(code, mut reason)| {
            reason.truncate(123);
            [&code.to_be_bytes()[..], &reason].concat()
        }),
        1 => bytes(1),
    ];
    (payload, any::<[u8; 4]>()).prop_map(|(payload, key)| good(0x88, payload, key))
}

/// A message in one or more frames, cut anywhere, with control frames between them.
fn message() -> impl Strategy<Value = Vec<RawFrame>> {
    let content = prop_oneof![text_bytes().prop_map(|text| (1, text)), bytes(LIMIT + 20).prop_map(|bytes| (2, bytes))];
    let fragments = prop::collection::vec((any::<Index>(), prop::option::of(control()), any::<[u8; 4]>()), 0..4);
    (content, fragments, any::<[u8; 4]>()).prop_map(|((opcode, payload), fragments, last_key)| {
        let mut frames = Vec::new();
        let mut rest = &payload[..];
        let mut first = opcode;
        for (cut, control, key) in fragments {
            let (fragment, after) = rest.split_at(cut.index(rest.len() + 1));
            frames.push(good(first, fragment.to_vec(), key));
            frames.extend(control);
            (first, rest) = (0, after);
        }
        frames.push(good(first | 0x80, rest.to_vec(), last_key));
        frames
    })
}

fn anything() -> impl Strategy<Value = RawFrame> {
    let length = prop_oneof![
        9 => Just(LengthForm::Minimal),
        1 => Just(LengthForm::Short16),
        1 => Just(LengthForm::Long64),
        1 => (0..400_u64).prop_map(LengthForm::Lie),
        1 => any::<u64>().prop_map(LengthForm::Lie),
    ];
    let payload = prop_oneof![3 => bytes(140), 2 => text_bytes(), 1 => bytes(LIMIT + 2)];
    let known = prop::sample::select(vec![0x00, 0x80, 0x01, 0x81, 0x02, 0x82, 0x08, 0x88, 0x09, 0x89, 0x0a, 0x8a_u8]);
    let first = prop_oneof![9 => known, 1 => any::<u8>()];
    (first, prop::bool::weighted(0.1), length, any::<[u8; 4]>(), payload)
        .prop_map(|(first, wrong_mask, length, key, payload)| RawFrame { first, wrong_mask, length, key, payload })
}

/// Frames of which most are valid, so that the sequences go deep.
fn frames() -> impl Strategy<Value = Vec<RawFrame>> {
    let item = prop_oneof![
        12 => message(),
        4 => control().prop_map(|frame| vec![frame]),
        1 => close().prop_map(|frame| vec![frame]),
        2 => anything().prop_map(|frame| vec![frame]),
    ];
    prop::collection::vec(item, 0..8).prop_map(|items| items.concat())
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..40)
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![3 => Just(Role::Server), 1 => Just(Role::Client)]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_session_and_the_oracle_see_the_same(
        frames in frames(),
        spoilt_bit in prop::option::weighted(0.3, (any::<Index>(), 0..8_u32)),
        cuts in cuts(),
        oracle_cuts in cuts(),
        role in role(),
    ) {
        let mut stream = Vec::new();
        frames.iter().for_each(|frame| frame.put(&mut stream, role));
        if let Some((at, bit)) = spoilt_bit && !stream.is_empty() {
            let at = at.index(stream.len());
            stream[at] ^= 1 << bit;
        }
        stream.extend([0; LIMIT + 20]);
        assert_same(ours(role, &pieces(&stream, &cuts)), oracle(role, &pieces(&stream, &oracle_cuts)))?;
    }

    #[test]
    fn noise_is_the_same_to_a_session_and_the_oracle(noise in bytes(200), cuts in cuts(), role in role()) {
        let stream = [&noise[..], &[0; LIMIT + 20]].concat();
        let pieces = pieces(&stream, &cuts);
        assert_same(ours(role, &pieces), oracle(role, &pieces))?;
    }

    #[test]
    fn the_oracle_reads_what_is_written_here(
        messages in prop::collection::vec(any_seen(), 0..6),
        key: [u8; 4],
        cuts in cuts(),
        role in role(),
    ) {
        let mut stream = Vec::new();
        messages.iter().for_each(|message| put_seen(&mut stream, message, role, key));
        let is_close = |message: &Seen| matches!(message, Seen::Close(..));
        let end = messages.iter().position(is_close).map_or(messages.len(), |at| at + 1);
        let expected = (messages[..end].to_vec(), End::Quiet);
        prop_assert_eq!(oracle(role, &pieces(&stream, &cuts)), expected.clone());
        let (seen, outcome) = ours(role, &pieces(&stream, &cuts));
        prop_assert_eq!((seen, outcome), (expected.0, Ok(())));
    }

    #[test]
    fn a_session_reads_what_the_oracle_writes(
        messages in prop::collection::vec(any_seen(), 0..6),
        cuts in cuts(),
        role in role(),
    ) {
        let writer = match role {
            Role::Server => OracleRole::Client,
            Role::Client => OracleRole::Server,
        };
        let mut context = WebSocketContext::new(writer, None);
        let mut wire = Wire::default();
        let mut expected = Vec::new();
        for message in messages {
            let is_close = matches!(message, Seen::Close(..));
            context.write(&mut wire, oracle_message(&message)).unwrap();
            context.flush(&mut wire).unwrap();
            expected.push(message);
            if is_close {
                break;
            }
        }
        prop_assert_eq!(ours(role, &pieces(&wire.0, &cuts)), (expected, Ok(())));
    }
}

/// Keeps what is written; there is never anything to read.
#[derive(Default)]
struct Wire(Vec<u8>);

impl Read for Wire {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Anything that may be sent.
fn any_seen() -> impl Strategy<Value = Seen> {
    let code = prop_oneof![1000..=1003_u16, 1007..=1013_u16, 3000..=4999_u16];
    prop_oneof![
        4 => "\\PC{0,60}".prop_map(Seen::Text),
        4 => bytes(LIMIT).prop_map(Seen::Binary),
        2 => bytes(125).prop_map(Seen::Ping),
        2 => bytes(125).prop_map(Seen::Pong),
        1 => (code, "\\PC{0,30}").prop_map(|(code, reason)| Seen::Close(Some(code), reason)),
        1 => Just(Seen::Close(None, String::new())),
    ]
}

fn put_seen(out: &mut Vec<u8>, message: &Seen, reader: Role, key: [u8; 4]) {
    match (message, reader) {
        (Seen::Text(text), Role::Client) => frame::put_data(out, Opcode::Text, text.as_bytes()),
        (Seen::Text(text), Role::Server) => frame::put_masked_data(out, Opcode::Text, text.as_bytes(), key),
        (Seen::Binary(bytes), Role::Client) => frame::put_data(out, Opcode::Binary, bytes),
        (Seen::Binary(bytes), Role::Server) => frame::put_masked_data(out, Opcode::Binary, bytes, key),
        (Seen::Ping(payload), Role::Client) => frame::put_ping(out, payload),
        (Seen::Ping(payload), Role::Server) => frame::put_masked_ping(out, payload, key),
        (Seen::Pong(payload), Role::Client) => frame::put_pong(out, payload),
        (Seen::Pong(payload), Role::Server) => frame::put_masked_pong(out, payload, key),
        (Seen::Close(code, reason), Role::Client) => frame::put_close(out, *code, reason),
        (Seen::Close(code, reason), Role::Server) => frame::put_masked_close(out, *code, reason, key),
    }
}

fn oracle_message(message: &Seen) -> tungstenite::Message {
    use tungstenite::Message;
    match message.clone() {
        Seen::Text(text) => Message::text(text),
        Seen::Binary(bytes) => Message::binary(bytes),
        Seen::Ping(payload) => Message::Ping(payload.into()),
        Seen::Pong(payload) => Message::Pong(payload.into()),
        Seen::Close(None, _) => Message::Close(None),
        Seen::Close(Some(code), reason) => {
            Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))
        }
    }
}
