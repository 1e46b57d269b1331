//! The receiving half of one connection: bytes in, events out (RFC 6455, 5 to 8; RFC 7692, 6).
//!
//! Owner: the connection. Invariants: a message that lies whole in the input is delivered from there, neither copied
//! nor allocated for; memory is held only for what is half received, and only as much as has really arrived; after the
//! peer's close frame or its first mistake all further input is ignored. A compressed message is kept as it came until it is
//! whole, and then inflated into the shard's memory: no connection ever holds what it becomes.

use std::io::Cursor;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::deflate::Inflater;
use super::frame::{CONTROL_PAYLOAD_MAX, is_sendable_close_code};
use super::utf8::{self, InvalidUtf8};
use super::{Message, Opcode, ProtocolError, mask};

/// Longest header: two bytes, a 64-bit length, a masking key.
const HEADER_MAX: usize = 14;

/// Which side of the connection this session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Receives from a client, which must mask every frame.
    Server,
    /// Receives from a server, which must not mask.
    Client,
}

/// What a peer may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest payload of a message in bytes, counted over all its fragments, and after it was inflated; exactly this many
    /// pass. 0 means no limit.
    pub message_bytes: usize,
}

impl Limits {
    /// What the largest message can have come as, in bytes. Compressing makes some messages longer, and no more can be held
    /// against their sender than the worst that deflate does to them: literals of nine bits, in blocks of 255 bytes with
    /// three bits of header and seven for its end, a ninth to an eighth more (zlib's `deflateBound`); and a few flushes.
    fn deflated_bytes(&self) -> usize {
        let bytes = self.message_bytes;
        bytes.saturating_add((bytes >> 3) + (bytes >> 8) + (bytes >> 9) + 64)
    }

    /// Checks what a message would have on the wire, with the fragment that a header announces.
    fn check(&self, len: usize, is_deflated: bool) -> Result<(), ProtocolError> {
        let limit = self.message_bytes;
        let max = if is_deflated { self.deflated_bytes() } else { limit };
        if limit > 0 && len > max { Err(ProtocolError::MessageTooBig { limit }) } else { Ok(()) }
    }
}

/// What a peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole data message.
    Message(Message<'a>),
    /// A ping; it wants a pong with the same payload (RFC 6455, 5.5.2).
    Ping(&'a [u8]),
    /// A pong, asked for or not (5.5.3).
    Pong(&'a [u8]),
    /// A close frame; it wants one back (5.5.1). Nothing comes after it.
    Close {
        /// The code, one that may be sent; `None` if the frame was empty.
        code: Option<u16>,
        /// The reason, often empty.
        reason: &'a str,
    },
}

/// The outcome of [`Session::receive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Received<'a> {
    /// How many bytes of the input were taken; all of them if there is no event.
    pub consumed: usize,
    /// The event that ends at `consumed`, if the input reached as far.
    pub event: Option<Event<'a>>,
}

/// The state of one connection's receiving half.
#[derive(Debug)]
pub struct Session {
    half_received: Option<Box<HalfReceived>>,
    role: Role,
    /// Whether RSV1 means a compressed message (RFC 7692, 6).
    deflate: bool,
    /// The peer closed or made a mistake: whatever follows is ignored (RFC 6455, 5.5.1 and 7.1.7).
    ended: bool,
}

// A million idle sessions should cost megabytes.
const _: () = assert!(size_of::<Session>() <= 24);

impl Session {
    /// A session that has received nothing yet. It holds no heap memory.
    pub fn new(role: Role) -> Self {
        Self { half_received: None, role, deflate: false, ended: false }
    }

    /// permessage-deflate was agreed on, without context takeover in this direction: from now on a message may come
    /// compressed.
    pub fn agree_deflate(&mut self) {
        self.deflate = true;
    }

    /// Takes bytes from the front of `input`, unmasking them in place, up to the end of the next event. Call it again
    /// with the rest. Without an event all of `input` was taken and more is needed.
    ///
    /// A compressed message is delivered from the `inflater`, any one. What an event borrows from the session is freed at the next call, or by [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// The peer's mistake, as early as the bytes show it. The session has then ended and ignores further input.
    pub fn receive<'a>(
        &'a mut self,
        input: &'a mut [u8],
        limits: &Limits,
        inflater: &'a mut Inflater,
    ) -> Result<Received<'a>, ProtocolError> {
        self.release();
        let (consumed, found) = match self.advance(input, limits) {
            Ok(progress) => progress,
            Err(error) => {
                self.ended = true;
                return Err(error);
            }
        };
        let Some(found) = found else {
            return Ok(Received { consumed, event: None });
        };
        let event = found.event(input, self.half_received.as_deref(), limits, inflater);
        self.ended = matches!(event, Err(_) | Ok(Event::Close { .. }));
        Ok(Received { consumed, event: Some(event?) })
    }

    /// Frees what the last event borrowed from this session. To be called when there is no more input for now;
    /// [`receive`](Self::receive) does it itself.
    pub fn release(&mut self) {
        if let Some(half) = &mut self.half_received {
            half.forget_delivered();
            if self.ended || half.is_idle() {
                self.half_received = None;
            }
        }
    }

    /// Whether nothing is half received: no frame is incomplete, and no message waits for its last fragment.
    pub fn is_idle(&self) -> bool {
        self.ended || self.half_received.as_ref().is_none_or(|half| half.is_idle())
    }

    /// Bytes of heap memory held; 0 if idle and [released](Self::release).
    pub fn held_bytes(&self) -> usize {
        self.half_received.as_ref().map_or(0, |half| half.held_bytes())
    }

    /// Takes frames until one completes an event or the input ends: the bytes taken, and the event.
    fn advance(&mut self, input: &mut [u8], limits: &Limits) -> Result<(usize, Option<Found>), ProtocolError> {
        if self.ended {
            return Ok((input.len(), None));
        }
        let mut at = 0;
        while at < input.len() {
            let (end, found) = self.advance_frame(input, at, limits)?;
            at = end;
            if found.is_some() {
                return Ok((at, found));
            }
        }
        Ok((at, None))
    }

    /// Takes as much as there is of one frame, from `at` in `input`: where it ends, and the event it completes.
    fn advance_frame(
        &mut self,
        input: &mut [u8],
        at: usize,
        limits: &Limits,
    ) -> Result<(usize, Option<Found>), ProtocolError> {
        let begun = self.half_received.as_mut().and_then(|half| half.frame.take());
        let is_new = begun.is_none();
        let (mut frame, payload_at) = match begun {
            Some(frame) => (frame, at),
            None => match self.take_header(&input[at..])? {
                Some(header) => (self.admit(&header, limits)?, at + header.taken),
                None => return Ok((input.len(), None)),
            },
        };
        let end = payload_at + frame.missing.min(input.len() - payload_at);
        let payload = &mut input[payload_at..end];
        frame.take(payload);
        let found = match frame.event_alone() {
            Some(kind) if is_new => Some(Found { kind, place: Place::Input(payload_at..end) }),
            _ => self.keep(frame, payload)?,
        };
        Ok((end, found))
    }

    /// The next frame's header from the front of `input`, together with what an earlier input ended with; `None` if it
    /// is still incomplete, and then all of `input` is kept.
    fn take_header(&mut self, input: &[u8]) -> Result<Option<Header>, ProtocolError> {
        let Some(half) = self.half_received.as_mut().filter(|half| half.header_len > 0) else {
            let header = Header::parse(input)?;
            if header.is_none() {
                self.half_received.get_or_insert_default().keep_header(input);
            }
            return Ok(header);
        };
        let kept = half.header_len;
        half.keep_header(&input[..input.len().min(HEADER_MAX - kept)]);
        let mut header = Header::parse(&half.header[..half.header_len])?;
        if let Some(header) = &mut header {
            header.taken -= kept;
            half.header_len = 0;
        }
        Ok(header)
    }

    /// Checks everything that a header alone can break.
    fn admit(&self, header: &Header, limits: &Limits) -> Result<Frame, ProtocolError> {
        match (self.role, header.fields.mask) {
            (Role::Server, None) => return Err(ProtocolError::UnmaskedFrame),
            (Role::Client, Some(_)) => return Err(ProtocolError::MaskedFrame),
            (Role::Server, Some(_)) | (Role::Client, None) => {}
        }
        check_reserved_bits(&header.fields, self.deflate)?;
        let kind = Kind::of(&header.fields)?;
        let message = self.half_received.as_ref().and_then(|half| half.message.as_ref());
        match (kind, message) {
            (Kind::Control(_), _) if !header.fields.is_final => return Err(ProtocolError::FragmentedControl),
            (Kind::Control(_), _) if header.payload_len > CONTROL_PAYLOAD_MAX => {
                return Err(ProtocolError::ControlTooLong);
            }
            (Kind::Continuation, None) => return Err(ProtocolError::UnexpectedContinuation),
            (Kind::Data(..), Some(_)) => return Err(ProtocolError::InterleavedMessage),
            (Kind::Control(_), _) => {}
            (Kind::Data(_, is_deflated), None) => limits.check(header.payload_len, is_deflated)?,
            (Kind::Continuation, Some(message)) => {
                limits.check(message.bytes.len().saturating_add(header.payload_len), message.is_deflated)?;
            }
        }
        Ok(Frame { kind, is_final: header.fields.is_final, key: header.fields.mask, missing: header.payload_len })
    }

    /// Keeps a piece of a payload that no event could be made of where it lay.
    fn keep(&mut self, frame: Frame, payload: &[u8]) -> Result<Option<Found>, ProtocolError> {
        let half = self.half_received.get_or_insert_default();
        let is_complete = frame.missing == 0;
        half.frame = (!is_complete).then_some(frame);
        let message = match frame.kind {
            Kind::Control(control) => {
                half.control.extend_from_slice(payload);
                return Ok(is_complete.then_some(Found { kind: EventKind::Control(control), place: Place::Control }));
            }
            Kind::Data(opcode, is_deflated) => half.message.get_or_insert_with(|| Assembly::new(opcode, is_deflated)),
            Kind::Continuation => half.message.as_mut().ok_or(ProtocolError::UnexpectedContinuation)?,
        };
        message.append(payload, frame.missing)?;
        message.is_complete = is_complete && frame.is_final;
        let kind = EventKind::Message(message.opcode, message.is_deflated);
        Ok(message.is_complete.then_some(Found { kind, place: Place::Message }))
    }
}

/// The one place where a bit gets a meaning: RSV1 on the first frame of a data message, if permessage-deflate was agreed on
/// (RFC 7692, 6).
fn check_reserved_bits(fields: &FrameHeader, deflate: bool) -> Result<(), ProtocolError> {
    let may_be_deflated = deflate && matches!(fields.opcode, OpCode::Data(Data::Text | Data::Binary));
    let rsv1 = fields.rsv1 && !may_be_deflated;
    if rsv1 || fields.rsv2 || fields.rsv3 { Err(ProtocolError::ReservedBits) } else { Ok(()) }
}

/// A header as it was on the wire.
struct Header {
    fields: FrameHeader,
    payload_len: usize,
    /// Bytes of the input it took.
    taken: usize,
}

impl Header {
    /// Parses a header at the front of `bytes`; `None` if it is incomplete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ProtocolError> {
        let mut cursor = Cursor::new(bytes);
        // Of a slice, parsing fails for one reason only: a reserved opcode.
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| ProtocolError::ReservedOpcode(bytes[0] & 0x0F))?;
        let Some((fields, payload_len)) = parsed else { return Ok(None) };
        if payload_len > i64::MAX as u64 {
            return Err(ProtocolError::LengthOverflow);
        }
        let taken = cursor.position() as usize;
        if taken != fields.len(payload_len) {
            return Err(ProtocolError::NonMinimalLength);
        }
        let payload_len = usize::try_from(payload_len).map_err(|_| ProtocolError::LengthOverflow)?;
        Ok(Some(Self { fields, payload_len, taken }))
    }
}

/// What a frame is for.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The first frame of a message, and whether that is compressed.
    Data(Opcode, bool),
    Continuation,
    Control(ControlKind),
}

#[derive(Debug, Clone, Copy)]
enum ControlKind {
    Close,
    Ping,
    Pong,
}

impl Kind {
    fn of(fields: &FrameHeader) -> Result<Self, ProtocolError> {
        Ok(match fields.opcode {
            OpCode::Data(Data::Text) => Self::Data(Opcode::Text, fields.rsv1),
            OpCode::Data(Data::Binary) => Self::Data(Opcode::Binary, fields.rsv1),
            OpCode::Data(Data::Continue) => Self::Continuation,
            OpCode::Control(Control::Close) => Self::Control(ControlKind::Close),
            OpCode::Control(Control::Ping) => Self::Control(ControlKind::Ping),
            OpCode::Control(Control::Pong) => Self::Control(ControlKind::Pong),
            OpCode::Data(Data::Reserved(code)) | OpCode::Control(Control::Reserved(code)) => {
                return Err(ProtocolError::ReservedOpcode(code));
            }
        })
    }
}

/// A frame whose header was admitted.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: Kind,
    is_final: bool,
    /// The masking key, turned to the next byte of the payload.
    key: Option<[u8; 4]>,
    /// Bytes of the payload not taken yet.
    missing: usize,
}

impl Frame {
    /// Unmasks and counts the next piece of the payload.
    fn take(&mut self, payload: &mut [u8]) {
        self.missing -= payload.len();
        if let Some(key) = &mut self.key {
            *key = mask::apply(payload, *key);
        }
    }

    /// The event this frame is by itself, if it is complete and more than a fragment.
    fn event_alone(&self) -> Option<EventKind> {
        match self.kind {
            _ if self.missing > 0 => None,
            Kind::Data(opcode, is_deflated) => self.is_final.then_some(EventKind::Message(opcode, is_deflated)),
            Kind::Continuation => None,
            Kind::Control(control) => Some(EventKind::Control(control)),
        }
    }
}

/// What waits for more bytes, and what was just delivered from here.
#[derive(Debug, Default)]
struct HalfReceived {
    /// The message waiting for its end.
    message: Option<Assembly>,
    /// The payload so far of an incomplete control frame. It may come between the fragments of `message`.
    control: Vec<u8>,
    /// The frame whose payload is incomplete.
    frame: Option<Frame>,
    /// The beginning of a header that is incomplete itself.
    header: [u8; HEADER_MAX],
    header_len: usize,
}

impl HalfReceived {
    fn keep_header(&mut self, bytes: &[u8]) {
        let end = self.header_len + bytes.len();
        self.header[self.header_len..end].copy_from_slice(bytes);
        self.header_len = end;
    }

    /// Frees the payload of a complete control frame or message: its event is over.
    fn forget_delivered(&mut self) {
        if self.frame.is_none() {
            self.control = Vec::new();
        }
        self.message.take_if(|message| message.is_complete);
    }

    fn is_idle(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.as_ref().is_none_or(|message| message.is_complete)
    }

    fn held_bytes(&self) -> usize {
        let message_bytes = self.message.as_ref().map_or(0, |message| message.bytes.capacity());
        size_of::<Self>() + message_bytes + self.control.capacity()
    }
}

/// A message put together from fragments, or from the pieces of one frame.
#[derive(Debug)]
struct Assembly {
    opcode: Opcode,
    is_deflated: bool,
    /// Grows with what arrives, never with what a header announces: a length costs its sender nothing. But not beyond that
    /// either: a message of one frame is never held in twice its size.
    bytes: Vec<u8>,
    /// How many of `bytes` are known to be whole characters, if this is text and not compressed.
    checked_len: usize,
    is_complete: bool,
}

impl Assembly {
    fn new(opcode: Opcode, is_deflated: bool) -> Self {
        Self { opcode, is_deflated, bytes: Vec::new(), checked_len: 0, is_complete: false }
    }

    /// Adds a piece of a frame of which so many bytes are still to come.
    fn append(&mut self, payload: &[u8], missing: usize) -> Result<(), InvalidUtf8> {
        if self.bytes.capacity() - self.bytes.len() < payload.len() {
            let doubled = self.bytes.capacity().saturating_mul(2) - self.bytes.len();
            self.bytes.reserve_exact(doubled.clamp(payload.len(), payload.len().saturating_add(missing)));
        }
        self.bytes.extend_from_slice(payload);
        if self.opcode == Opcode::Text && !self.is_deflated {
            self.checked_len += utf8::complete_len(&self.bytes[self.checked_len..])?;
        }
        Ok(())
    }
}

/// An event that is complete, before anything is borrowed for it.
struct Found {
    kind: EventKind,
    place: Place,
}

enum EventKind {
    /// And whether its payload is compressed.
    Message(Opcode, bool),
    Control(ControlKind),
}

/// Where an event's payload lies.
enum Place {
    Input(Range<usize>),
    Message,
    Control,
}

impl Found {
    fn event<'a>(
        self,
        input: &'a [u8],
        half: Option<&'a HalfReceived>,
        limits: &Limits,
        inflater: &'a mut Inflater,
    ) -> Result<Event<'a>, ProtocolError> {
        let payload = match self.place {
            Place::Input(range) => &input[range],
            Place::Message => half.and_then(|half| half.message.as_ref()).map_or(&[][..], |message| &message.bytes),
            Place::Control => half.map_or(&[][..], |half| &half.control),
        };
        let payload = match self.kind {
            EventKind::Message(_, true) => inflater.inflate(payload, limits.message_bytes)?,
            EventKind::Message(_, false) | EventKind::Control(_) => payload,
        };
        Ok(match self.kind {
            // Text put together was checked as it came, all but a last character that never did; compressed text was not.
            EventKind::Message(Opcode::Text, _) => Event::Message(Message::Text(core::str::from_utf8(payload)?)),
            EventKind::Message(Opcode::Binary, _) => Event::Message(Message::Binary(payload)),
            EventKind::Control(ControlKind::Ping) => Event::Ping(payload),
            EventKind::Control(ControlKind::Pong) => Event::Pong(payload),
            EventKind::Control(ControlKind::Close) => close_event(payload)?,
        })
    }
}

fn close_event(payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    match payload {
        [] => Ok(Event::Close { code: None, reason: "" }),
        [_] => Err(ProtocolError::InvalidClosePayload),
        [high, low, reason @ ..] => {
            let reason = core::str::from_utf8(reason)?;
            let code = u16::from_be_bytes([*high, *low]);
            if !is_sendable_close_code(code) {
                return Err(ProtocolError::InvalidCloseCode(code));
            }
            Ok(Event::Close { code: Some(code), reason })
        }
    }
}
