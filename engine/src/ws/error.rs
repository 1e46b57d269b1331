//! Every mistake a peer can make in the protocol, and what it is answered with.

use std::fmt;
use std::str::Utf8Error;

use super::utf8::InvalidUtf8;

/// A peer broke RFC 6455, RFC 7692 or a limit. The connection must be failed (7.1.7): send [`close_code`](Self::close_code), stop
/// reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolError {
    /// A client sent a frame without a mask (5.1).
    UnmaskedFrame,
    /// A server sent a frame with a mask (5.1).
    MaskedFrame,
    /// A reserved bit is set which no negotiated extension gives a meaning (5.2).
    ReservedBits,
    /// The opcode is reserved: 3 to 7 or 11 to 15 (5.2).
    ReservedOpcode(u8),
    /// A control frame without FIN (5.5).
    FragmentedControl,
    /// A control frame of more than 125 bytes (5.5).
    ControlTooLong,
    /// A continuation frame, but no message to continue (5.4).
    UnexpectedContinuation,
    /// A new data message before the fragmented one ended (5.4).
    InterleavedMessage,
    /// A text message or a close reason is not UTF-8 (5.6, 8.1).
    InvalidUtf8,
    /// A compressed message is no deflate stream (RFC 7692, 7.2.2).
    BrokenDeflate,
    /// A close code that must not be sent (7.4).
    InvalidCloseCode(u16),
    /// A close payload of one byte: half a code (5.5.1).
    InvalidClosePayload,
    /// A payload length not in its shortest form (5.2).
    NonMinimalLength,
    /// A 64-bit payload length with the top bit set (5.2).
    LengthOverflow,
    /// A message longer than allowed.
    MessageTooBig {
        /// The limit that was exceeded, in bytes.
        limit: usize,
    },
}

impl ProtocolError {
    /// The close code to answer with (RFC 6455, 7.4.1): 1002, 1007 or 1009.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::UnmaskedFrame
            | Self::MaskedFrame
            | Self::ReservedBits
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl
            | Self::ControlTooLong
            | Self::UnexpectedContinuation
            | Self::InterleavedMessage
            | Self::InvalidCloseCode(_)
            | Self::InvalidClosePayload
            | Self::NonMinimalLength
            | Self::LengthOverflow => 1002,
            // RFC 7692 names no code. The frames were right, it is what they carry that is not what they say: as `ws` and
            // Jetty have it.
            Self::InvalidUtf8 | Self::BrokenDeflate => 1007,
            Self::MessageTooBig { .. } => 1009,
        }
    }

    /// The name of this mistake for logs: snake_case, without the values. Metrics count by the coarser cause, see `close`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnmaskedFrame => "unmasked_frame",
            Self::MaskedFrame => "masked_frame",
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode(_) => "reserved_opcode",
            Self::FragmentedControl => "fragmented_control",
            Self::ControlTooLong => "control_too_long",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::InterleavedMessage => "interleaved_message",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::BrokenDeflate => "broken_deflate",
            Self::InvalidCloseCode(_) => "invalid_close_code",
            Self::InvalidClosePayload => "invalid_close_payload",
            Self::NonMinimalLength => "non_minimal_length",
            Self::LengthOverflow => "length_overflow",
            Self::MessageTooBig { .. } => "message_too_big",
        }
    }
}

/// A sentence that fits into a close reason (123 bytes).
impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnmaskedFrame => f.write_str("a client must mask every frame"),
            Self::MaskedFrame => f.write_str("a server must not mask frames"),
            Self::ReservedBits => f.write_str("a reserved bit is set without an extension for it"),
            Self::ReservedOpcode(opcode) => write!(f, "the opcode {opcode} is reserved"),
            Self::FragmentedControl => f.write_str("a control frame must not be fragmented"),
            Self::ControlTooLong => f.write_str("a control frame must not exceed 125 bytes"),
            Self::UnexpectedContinuation => f.write_str("there is no message to continue"),
            Self::InterleavedMessage => f.write_str("a new message began before the last fragment of another"),
            Self::InvalidUtf8 => f.write_str("the text is not valid UTF-8"),
            Self::BrokenDeflate => f.write_str("the compressed message cannot be inflated"),
            Self::InvalidCloseCode(code) => write!(f, "the close code {code} must not be sent"),
            Self::InvalidClosePayload => f.write_str("a close payload must be empty or begin with a two-byte code"),
            Self::NonMinimalLength => f.write_str("the payload length is not in its shortest form"),
            Self::LengthOverflow => f.write_str("the top bit of a payload length must be zero"),
            Self::MessageTooBig { limit } => write!(f, "the message exceeds {limit} bytes"),
        }
    }
}

impl std::error::Error for ProtocolError {}

impl From<InvalidUtf8> for ProtocolError {
    fn from(_: InvalidUtf8) -> Self {
        Self::InvalidUtf8
    }
}

impl From<Utf8Error> for ProtocolError {
    fn from(_: Utf8Error) -> Self {
        Self::InvalidUtf8
    }
}
