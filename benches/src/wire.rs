//! Frames (RFC 6455, section 5.2) and handshakes (section 4), as far as these benches need them.

use tungstenite::handshake::derive_accept_key;

/// Opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const PING: u8 = 0x9;
/// Opcode of a pong.
pub const PONG: u8 = 0xA;

/// A frame header is never longer.
pub const MAX_HEADER_LEN: usize = 14;

/// The driver's masking key. A fixed one is no secret, but costs the server the same work.
pub const MASKING_KEY: [u8; 4] = [0x5A, 0xC3, 0x17, 0x9E];

/// What every client here sends as its key; the answer to it is checked.
const HANDSHAKE_KEY: &str = "ZmFuZmFyZS1iZW5jaGVzIQ==";

/// A parsed frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The low four bits of the first byte.
    pub opcode: u8,
    /// Bytes of the header itself.
    pub header_len: usize,
    /// Bytes of the payload.
    pub payload_len: u64,
    /// The masking key of a frame that came from a client.
    pub masking_key: Option<[u8; 4]>,
}

impl FrameHeader {
    /// Parses the header that `bytes` begin with; `None` if there are too few.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let &[first, second, ..] = bytes else {
            return None;
        };
        let (payload_len, mut header_len) = match second & 0x7F {
            126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        let mut masking_key = None;
        if second & 0x80 != 0 {
            masking_key = Some(*bytes.get(header_len..)?.first_chunk()?);
            header_len += 4;
        }
        Some(Self { opcode: first & 0x0F, header_len, payload_len, masking_key })
    }

    /// Header and payload together.
    #[inline(always)]
    pub fn frame_len(&self) -> u64 {
        self.header_len as u64 + self.payload_len
    }
}

/// Appends the header of an unfragmented frame.
pub fn push_header(opcode: u8, payload_len: usize, masking_key: Option<[u8; 4]>, out: &mut Vec<u8>) {
    let masked = if masking_key.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match payload_len {
        0..126 => out.push(masked | payload_len as u8),
        126..65_536 => {
            out.push(masked | 126);
            out.extend_from_slice(&(payload_len as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
    out.extend(masking_key.into_iter().flatten());
}

/// Masks or unmasks a payload in place.
pub fn mask(payload: &mut [u8], key: [u8; 4]) {
    let word = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut words = payload.chunks_exact_mut(8);
    for chunk in &mut words {
        let masked = u64::from_ne_bytes(chunk.try_into().unwrap_or_default()) ^ word;
        chunk.copy_from_slice(&masked.to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends a whole frame as a client sends it.
pub fn push_client_frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    push_header(opcode, payload.len(), Some(MASKING_KEY), out);
    let start = out.len();
    out.extend_from_slice(payload);
    mask(&mut out[start..], MASKING_KEY);
}

/// The upgrade request for `path`.
pub fn upgrade_request(host: std::net::SocketAddr, path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {HANDSHAKE_KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// The answer that accepts the request with `key`.
pub fn upgrade_response(key: &[u8]) -> Vec<u8> {
    let accept = derive_accept_key(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// Whether `response`, a whole response head, accepts [`upgrade_request`].
pub fn is_accepted(response: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut headers);
    let complete = parsed.parse(response).is_ok_and(|status| status.is_complete());
    let expected = derive_accept_key(HANDSHAKE_KEY.as_bytes());
    let mut accepts = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    complete && parsed.code == Some(101) && accepts.any(|header| header.value == expected.as_bytes())
}

/// Where the head of a request or response ends: behind its empty line.
pub fn head_len(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_parsed_as_it_was_written() {
        for payload_len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
            for masking_key in [None, Some(MASKING_KEY)] {
                let mut bytes = Vec::new();
                push_header(BINARY, payload_len, masking_key, &mut bytes);
                let expected = FrameHeader {
                    opcode: BINARY,
                    header_len: bytes.len(),
                    payload_len: payload_len as u64,
                    masking_key,
                };
                assert_eq!(FrameHeader::parse(&bytes), Some(expected));
                for cut in 0..bytes.len() {
                    assert_eq!(FrameHeader::parse(&bytes[..cut]), None);
                }
            }
        }
    }

    #[test]
    fn masking_is_what_tungstenite_understands() {
        use std::io::Cursor;
        let payload: Vec<u8> = (0..=255).cycle().take(1001).collect();
        let mut bytes = Vec::new();
        push_client_frame(BINARY, &payload, &mut bytes);
        let role = tungstenite::protocol::Role::Server;
        let mut server = tungstenite::WebSocket::from_raw_socket(Cursor::new(bytes), role, None);
        assert_eq!(server.read().unwrap().into_data(), payload);
    }

    #[test]
    fn a_response_to_our_key_is_accepted_and_no_other() {
        let ours = upgrade_response(HANDSHAKE_KEY.as_bytes());
        assert!(is_accepted(&ours));
        assert_eq!(head_len(&ours), Some(ours.len()));
        assert!(!is_accepted(&upgrade_response(b"dGhlIHNhbXBsZSBub25jZQ==")));
        assert!(!is_accepted(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"));
    }
}
