//! Frames of a server (RFC 6455, 5), taken apart where they lie: sans-IO, made for many short messages in one read.
//!
//! Owner: a client. A message whose frame lies whole in the receive buffer is a slice of it; only what is unfinished is
//! kept, as raw bytes (`tail`) if its frame is short, else as the payload so far (`joining`). Between two reads a
//! connection that has nothing unfinished holds no heap.
//!
//! Text is not checked for UTF-8: whoever wants to know compares payloads byte by byte, which finds more.

use std::fmt;

/// The longest unfinished frame that is kept as raw bytes, header included. Longer ones are joined as they come.
pub(super) const TAIL_BYTES_MAX: usize = 16 << 10;

/// A tail's memory is kept for the next one up to this, in bytes.
const TAIL_BYTES_KEPT: usize = 1 << 10;

/// The memory a frame's header may claim before its bytes have come.
const CLAIM_BYTES_MAX: usize = 1 << 20;

const CONTROL_PAYLOAD_MAX: u64 = 125;

/// What a connection allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of a message, as they come (deflated or not).
    pub message_bytes_max: u64,
    /// Whether permessage-deflate was agreed on, so that RSV1 has a meaning.
    pub deflate: bool,
}

/// What a server says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// A whole data message.
    Message { payload: &'a [u8], deflated: bool },
    /// A ping, to be answered with its payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close frame with its code; nothing follows it.
    Close(Option<u16>),
}

/// A mistake of the server; the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameError {
    Masked,
    ReservedBits,
    BadOpcode(u8),
    FragmentedControl,
    LongControl,
    UnexpectedContinuation,
    InterleavedMessage,
    LengthNotMinimal,
    LengthHighBit,
    ClosePayload,
    TooBig(u64),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::TooBig(bytes) => return write!(f, "message of {bytes} bytes exceeds client.message_bytes_max"),
            Self::BadOpcode(opcode) => return write!(f, "protocol error: bad opcode {opcode}"),
            Self::Masked => "masked frame",
            Self::ReservedBits => "reserved bits",
            Self::FragmentedControl => "fragmented control frame",
            Self::LongControl => "control frame longer than 125 bytes",
            Self::UnexpectedContinuation => "continuation of nothing",
            Self::InterleavedMessage => "new message inside a fragmented one",
            Self::LengthNotMinimal => "length not minimal",
            Self::LengthHighBit => "length with its highest bit set",
            Self::ClosePayload => "close frame with half a code",
        };
        write!(f, "protocol error: {what}")
    }
}

/// Takes the bytes of one connection apart.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    tail: Vec<u8>,
    joining: Option<Box<Joining>>,
}

/// A message of several frames, or of one too long to be kept as a tail.
#[derive(Debug, Default)]
struct Joining {
    message: Vec<u8>,
    /// Of the frame at hand, what is still to come.
    remaining: u64,
    /// Whether the frame at hand is the last.
    fin: bool,
    deflated: bool,
    /// Given out whole: to be forgotten.
    done: bool,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    rsv1: bool,
    opcode: u8,
    len: usize,
    payload_len: u64,
}

/// Where the next event is.
enum Found {
    Nothing,
    Here { from: usize, to: usize, deflated: bool },
    Joined,
    Control { opcode: u8, from: usize, to: usize },
}

impl Decoder {
    /// The raw bytes of an unfinished frame: they stand before what is read next.
    pub fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// The next event in `input` from `at` on, which moves behind what has been used. `None`: the rest, if any, is to be
    /// [kept](Self::keep), and more is to be read.
    ///
    /// # Errors
    /// The server's mistake, as soon as it shows.
    #[inline]
    pub fn next<'a>(
        &'a mut self,
        input: &'a [u8],
        at: &mut usize,
        limits: Limits,
    ) -> Result<Option<Event<'a>>, FrameError> {
        if self.joining.is_none()
            && let Some((from, to)) = usual(input, *at, limits)
        {
            *at = to;
            return Ok(Some(Event::Message { payload: &input[from..to], deflated: false }));
        }
        Ok(match self.find(input, at, limits)? {
            Found::Nothing => None,
            Found::Here { from, to, deflated } => Some(Event::Message { payload: &input[from..to], deflated }),
            Found::Joined => {
                self.joining.as_ref().map(|j| Event::Message { payload: &j.message, deflated: j.deflated })
            }
            Found::Control { opcode, from, to } => Some(control(opcode, &input[from..to])?),
        })
    }

    /// Keeps the rest of an input: less than a frame.
    pub fn keep(&mut self, rest: &[u8]) {
        self.tail.clear();
        if rest.is_empty() && self.tail.capacity() > TAIL_BYTES_KEPT {
            self.tail = Vec::new();
        }
        self.tail.extend_from_slice(rest);
    }

    /// Bytes held for what is unfinished.
    #[cfg(test)]
    fn held_bytes(&self) -> usize {
        self.tail.capacity() + self.joining.as_ref().map_or(0, |joining| joining.message.capacity())
    }

    fn find(&mut self, input: &[u8], at: &mut usize, limits: Limits) -> Result<Found, FrameError> {
        if self.joining.as_ref().is_some_and(|joining| joining.done) {
            self.joining = None;
        }
        loop {
            if let Some(joining) = &mut self.joining
                && joining.remaining > 0
            {
                joining.take(input, at);
                if joining.remaining > 0 {
                    return Ok(Found::Nothing);
                }
                if joining.finish_frame() {
                    return Ok(Found::Joined);
                }
            }
            let Some(header) = Header::read(&input[*at..])? else { return Ok(Found::Nothing) };
            let from = *at + header.len;
            let whole = usize::try_from(header.payload_len)
                .ok()
                .and_then(|len| from.checked_add(len))
                .filter(|to| *to <= input.len());
            if header.opcode >= 8 {
                let Some(to) = header.check_control(whole)? else { return Ok(Found::Nothing) };
                *at = to;
                return Ok(Found::Control { opcode: header.opcode, from, to });
            }
            self.check_data(&header, limits)?;
            match whole {
                Some(to) if header.fin && self.joining.is_none() => {
                    *at = to;
                    return Ok(Found::Here { from, to, deflated: header.rsv1 });
                }
                None if header.len as u64 + header.payload_len <= TAIL_BYTES_MAX as u64 => return Ok(Found::Nothing),
                _ => {}
            }
            let first = || Box::new(Joining { deflated: header.rsv1, ..Joining::default() });
            let joining = self.joining.get_or_insert_with(first);
            joining.begin_frame(&header);
            *at = from;
            if header.payload_len == 0 && joining.finish_frame() {
                return Ok(Found::Joined);
            }
            if header.payload_len > 0 && *at == input.len() {
                return Ok(Found::Nothing);
            }
        }
    }

    fn check_data(&self, header: &Header, limits: Limits) -> Result<(), FrameError> {
        let so_far = match (&self.joining, header.opcode) {
            (None, 0) => return Err(FrameError::UnexpectedContinuation),
            (Some(_), 1 | 2) => return Err(FrameError::InterleavedMessage),
            (joining, _) => joining.as_ref().map_or(0, |joining| joining.message.len() as u64),
        };
        // Only the first frame says whether a message is deflated (RFC 7692, 6.1).
        if header.rsv1 && (!limits.deflate || header.opcode == 0) {
            return Err(FrameError::ReservedBits);
        }
        let bytes = so_far + header.payload_len;
        if bytes > limits.message_bytes_max { Err(FrameError::TooBig(bytes)) } else { Ok(()) }
    }
}

/// Where the payload is, in the usual case: a whole message of up to 64 KiB that is not deflated and lies here whole.
#[inline]
fn usual(input: &[u8], at: usize, limits: Limits) -> Option<(usize, usize)> {
    let (header_len, payload_len) = match &input[at..] {
        [0x81 | 0x82, len @ 0..126, ..] => (2, usize::from(*len)),
        [0x81 | 0x82, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        _ => return None,
    };
    let (from, to) = (at + header_len, at + header_len + payload_len);
    // A length that is not minimal is one of the unusual cases.
    let is_usual =
        to <= input.len() && payload_len as u64 <= limits.message_bytes_max && (header_len == 2) == (payload_len < 126);
    is_usual.then_some((from, to))
}

impl Joining {
    fn begin_frame(&mut self, header: &Header) {
        self.fin = header.fin;
        self.remaining = header.payload_len;
        self.message.reserve(CLAIM_BYTES_MAX.min(usize::try_from(header.payload_len).unwrap_or(usize::MAX)));
    }

    fn take(&mut self, input: &[u8], at: &mut usize) {
        let rest = &input[*at..];
        let len = usize::try_from(self.remaining).map_or(rest.len(), |remaining| remaining.min(rest.len()));
        self.message.extend_from_slice(&rest[..len]);
        self.remaining -= len as u64;
        *at += len;
    }

    /// Whether the message is whole.
    fn finish_frame(&mut self) -> bool {
        self.done = self.fin;
        self.done
    }
}

impl Header {
    /// Reads a header; `None` if it is not there whole. What its first bytes say wrong is found without the others.
    fn read(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let (fin, rsv1, opcode) = (first & 0x80 != 0, first & 0x40 != 0, first & 0x0f);
        if first & 0x30 != 0 || (rsv1 && opcode >= 8) {
            return Err(FrameError::ReservedBits);
        }
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err(FrameError::BadOpcode(opcode));
        }
        if opcode >= 8 && !fin {
            return Err(FrameError::FragmentedControl);
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err(FrameError::Masked);
        }
        let (len, payload_len) = match second {
            126 => {
                let Some(long) = bytes.get(2..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
                (4, u64::from(u16::from_be_bytes(*long)))
            }
            127 => {
                let Some(long) = bytes.get(2..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
                (10, u64::from_be_bytes(*long))
            }
            short => (2, u64::from(short)),
        };
        if payload_len >> 63 != 0 {
            return Err(FrameError::LengthHighBit);
        }
        if (len == 4 && payload_len < 126) || (len == 10 && payload_len <= 0xffff) {
            return Err(FrameError::LengthNotMinimal);
        }
        Ok(Some(Self { fin, rsv1, opcode, len, payload_len }))
    }

    fn check_control(&self, whole: Option<usize>) -> Result<Option<usize>, FrameError> {
        if self.payload_len > CONTROL_PAYLOAD_MAX { Err(FrameError::LongControl) } else { Ok(whole) }
    }
}

fn control(opcode: u8, payload: &[u8]) -> Result<Event<'_>, FrameError> {
    Ok(match (opcode, payload) {
        (9, ping) => Event::Ping(ping),
        (10, _) => Event::Pong,
        (_, []) => Event::Close(None),
        (_, [high, low, ..]) => Event::Close(Some(u16::from_be_bytes([*high, *low]))),
        (_, [_]) => return Err(FrameError::ClosePayload),
    })
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
