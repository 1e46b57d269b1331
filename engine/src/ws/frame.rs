//! Frames, written (RFC 6455, 5.2): each function appends one whole frame to a buffer.
//!
//! A server's frames are unmasked, and so can be shared by all subscribers; the `put_masked_*` functions are for the
//! client role. The caller draws the keys: a browser's must be unpredictable (10.3), a load generator's need not be.

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{Opcode, mask};

/// Largest payload of a control frame, in bytes (RFC 6455, 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;

/// Largest reason of a close frame, in bytes: what two bytes of code leave of a control payload.
pub const CLOSE_REASON_MAX: usize = CONTROL_PAYLOAD_MAX - 2;

/// Whether a close frame may carry this code (RFC 6455, 7.4, and the IANA registry): 1000 to 1003, 1007 to 1014, and
/// 3000 to 4999 for libraries and applications.
pub fn is_sendable_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Length in bytes of a server's header for a payload of `payload_len` bytes: 2, 4 or 10.
pub fn header_len(payload_len: usize) -> usize {
    FrameHeader::default().len(payload_len as u64)
}

/// What a whole frame that [`put_data`] has written says, and its payload.
pub(crate) fn split(frame: &[u8]) -> (Opcode, &[u8]) {
    let opcode = if frame[0] & 0x0f == u8::from(OpCode::Data(Data::Text)) { Opcode::Text } else { Opcode::Binary };
    let header = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    (opcode, &frame[header..])
}

/// Appends a whole message in one unmasked frame.
pub fn put_data(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    put(out, data(opcode), payload, None);
}

/// Appends a whole compressed message in one unmasked frame (RFC 7692, 6.1). `payload` is what
/// [`Compressor::compress`](super::deflate::Compressor::compress) has made of it.
pub fn put_deflated(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let header = FrameHeader { opcode: data(opcode), rsv1: true, ..FrameHeader::default() };
    put_frame(out, &header, payload);
}

/// Appends an unmasked ping.
///
/// # Panics
///
/// If `payload` is longer than [`CONTROL_PAYLOAD_MAX`], here and for every other control frame.
pub fn put_ping(out: &mut Vec<u8>, payload: &[u8]) {
    put_control(out, Control::Ping, payload, None);
}

/// Appends an unmasked pong. The answer to a ping carries the ping's payload.
///
/// # Panics
///
/// If `payload` is longer than [`CONTROL_PAYLOAD_MAX`].
pub fn put_pong(out: &mut Vec<u8>, payload: &[u8]) {
    put_control(out, Control::Pong, payload, None);
}

/// Appends an unmasked close frame. Without a code its payload is empty and `reason` is not sent. A reason longer than
/// [`CLOSE_REASON_MAX`] is cut at a character boundary.
///
/// `code` is meant to be [sendable](is_sendable_close_code); it is not checked, so that tests can send others.
pub fn put_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    close(out, code, reason, None);
}

/// Appends a whole message in one frame, masked with `key`.
pub fn put_masked_data(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    put(out, data(opcode), payload, Some(key));
}

/// Appends a ping, masked with `key`.
///
/// # Panics
///
/// If `payload` is longer than [`CONTROL_PAYLOAD_MAX`].
pub fn put_masked_ping(out: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    put_control(out, Control::Ping, payload, Some(key));
}

/// Appends a pong, masked with `key`.
///
/// # Panics
///
/// If `payload` is longer than [`CONTROL_PAYLOAD_MAX`].
pub fn put_masked_pong(out: &mut Vec<u8>, payload: &[u8], key: [u8; 4]) {
    put_control(out, Control::Pong, payload, Some(key));
}

/// Appends a close frame, masked with `key`. Otherwise like [`put_close`].
pub fn put_masked_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str, key: [u8; 4]) {
    close(out, code, reason, Some(key));
}

fn data(opcode: Opcode) -> OpCode {
    OpCode::Data(match opcode {
        Opcode::Text => Data::Text,
        Opcode::Binary => Data::Binary,
    })
}

fn close(out: &mut Vec<u8>, code: Option<u16>, reason: &str, key: Option<[u8; 4]>) {
    let Some(code) = code else {
        return put_control(out, Control::Close, &[], key);
    };
    let reason = &reason.as_bytes()[..reason.floor_char_boundary(CLOSE_REASON_MAX)];
    let mut payload = [0; CONTROL_PAYLOAD_MAX];
    let payload = &mut payload[..2 + reason.len()];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..].copy_from_slice(reason);
    put_control(out, Control::Close, payload, key);
}

fn put_control(out: &mut Vec<u8>, control: Control, payload: &[u8], key: Option<[u8; 4]>) {
    // A peer's ping has passed the same limit, so only a mistake in this program gets here with more.
    assert!(payload.len() <= CONTROL_PAYLOAD_MAX, "the payload of a control frame exceeds 125 bytes");
    put(out, OpCode::Control(control), payload, key);
}

fn put(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8], key: Option<[u8; 4]>) {
    put_frame(out, &FrameHeader { opcode, mask: key, ..FrameHeader::default() }, payload);
}

fn put_frame(out: &mut Vec<u8>, header: &FrameHeader, payload: &[u8]) {
    let payload_len = payload.len() as u64;
    out.reserve(header.len(payload_len) + payload.len());
    header.format(payload_len, out).expect("a Vec takes every byte");
    let payload_at = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = header.mask {
        let _ = mask::apply(&mut out[payload_at..], key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_len_follows_the_three_length_formats() {
        for (payload_len, len) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            assert_eq!(header_len(payload_len), len);
            let mut out = Vec::new();
            put_data(&mut out, Opcode::Binary, &vec![7; payload_len]);
            assert_eq!(out.len(), len + payload_len);
            assert_eq!(split(&out), (Opcode::Binary, &*vec![7; payload_len]));
        }
    }

    #[test]
    fn frames_are_those_of_the_examples_in_the_rfc() {
        let mut out = Vec::new();
        put_data(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        put_masked_data(&mut out, Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        out.clear();
        put_ping(&mut out, b"Hello");
        assert_eq!(out, [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        put_masked_pong(&mut out, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(out, [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn a_frame_is_appended_to_what_the_buffer_holds() {
        let mut out = vec![1, 2, 3];
        put_masked_data(&mut out, Opcode::Binary, &[9], [0; 4]);
        assert_eq!(out, [1, 2, 3, 0x82, 0x81, 0, 0, 0, 0, 9]);
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character_boundary() {
        let mut out = Vec::new();
        put_close(&mut out, Some(1000), &"ä".repeat(100));
        // 123 bytes hold 61 characters of two bytes.
        assert_eq!(out.len(), 2 + 2 + 122);
        assert!(core::str::from_utf8(&out[4..]).is_ok());
    }

    #[test]
    fn a_close_without_a_code_is_empty() {
        let mut out = Vec::new();
        put_close(&mut out, None, "never sent");
        assert_eq!(out, [0x88, 0x00]);
    }

    #[test]
    #[should_panic(expected = "125 bytes")]
    fn an_oversized_control_payload_is_a_bug_of_the_caller() {
        put_ping(&mut Vec::new(), &[0; 126]);
    }
}
