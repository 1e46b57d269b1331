//! A client that compresses by itself, with windows as small as it says.

use std::net::SocketAddr;

use fanfare_tests::raw::{masked, op, upgrade_request_with};
use fanfare_tests::{Raw, Server};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use zlib_rs::{Deflate, DeflateFlush};

pub const OFFER: &str = "permessage-deflate; client_max_window_bits";
/// What every answer says.
pub const NO_TAKEOVER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

const RSV1: u8 = 0x40;
const CUT_OFF: [u8; 4] = [0, 0, 0xff, 0xff];

/// A client that has agreed on compression, or on none if it offers none.
pub struct Member {
    pub raw: Raw,
    window: Option<u8>,
}

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub compressed: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
    /// Bytes on the wire, without the header.
    pub wire: usize,
}

/// How somebody offers the extension who has a window of so many bits.
pub fn offer(window: u8) -> String {
    if window == 15 { OFFER.to_owned() } else { format!("permessage-deflate; server_max_window_bits={window}") }
}

impl Member {
    pub fn plain(addr: SocketAddr, path: &str) -> Self {
        Self { raw: Raw::open(addr, path), window: None }
    }

    /// Agrees on a window of so many bits.
    #[track_caller]
    pub fn compressed(addr: SocketAddr, path: &str, window: u8) -> Self {
        Self::upgrade(Raw::connect(addr), path, window)
    }

    #[track_caller]
    pub fn upgrade(mut raw: Raw, path: &str, window: u8) -> Self {
        raw.send(upgrade_request_with(path, &format!("Sec-WebSocket-Extensions: {}\r\n", offer(window))));
        let answer = raw.read_head();
        let agreed = answer.header("sec-websocket-extensions").expect("it is agreed on");
        assert!(agreed.starts_with(NO_TAKEOVER), "{agreed}");
        assert_eq!(agreed.contains(&format!("server_max_window_bits={window}")), window < 15, "{agreed}");
        raw.take_compressed();
        Self { raw, window: Some(window) }
    }

    /// Connects somehow: `None` is plain.
    pub fn of(server: &Server, path: &str, window: Option<u8>) -> Self {
        match window {
            Some(window) => Self::compressed(server.addr(), path, window),
            None => Self::plain(server.addr(), path),
        }
    }

    /// The next message.
    #[track_caller]
    pub fn read(&mut self) -> Seen {
        let frame = self.raw.read_frame();
        assert!(frame.fin && matches!(frame.opcode, op::TEXT | op::BINARY), "{frame:?}");
        let wire = frame.payload.len();
        let payload =
            if frame.rsv1 { inflate(&frame.payload, self.window.expect("it was agreed on")) } else { frame.payload };
        Seen { compressed: frame.rsv1, opcode: frame.opcode, payload, wire }
    }

    #[track_caller]
    pub fn read_text(&mut self) -> String {
        let seen = self.read();
        assert_eq!(seen.opcode, op::TEXT);
        String::from_utf8(seen.payload).expect("a text is UTF-8")
    }

    /// Sends a message, compressed.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.raw.send(deflated(opcode, payload));
    }

    pub fn send_text(&mut self, text: &str) {
        self.send(op::TEXT, text.as_bytes());
    }
}

/// A whole compressed message in one masked frame.
pub fn deflated(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(0x80 | RSV1 | opcode, &deflate(payload))
}

pub fn deflate(payload: &[u8]) -> Vec<u8> {
    let mut deflate = Deflate::new(6, false, 15);
    let mut out = vec![0; payload.len() + payload.len() / 8 + 64];
    deflate.compress(payload, &mut out, DeflateFlush::SyncFlush).expect("there is room");
    out.truncate(deflate.total_out() as usize);
    assert!(out.ends_with(&CUT_OFF));
    out.truncate(out.len() - CUT_OFF.len());
    out
}

/// Inflates with a memory of so many bits.
pub fn inflate(payload: &[u8], window: u8) -> Vec<u8> {
    let input = [payload, &CUT_OFF].concat();
    // What it remembers is a ring of the window's size: a distance beyond that is refused.
    let mut ring = vec![0; 1 << window];
    let (mut state, mut out, mut taken, mut at) = (DecompressorOxide::new(), Vec::new(), 0, 0);
    loop {
        let (status, read, written) = decompress(&mut state, &input[taken..], &mut ring, at, TINFL_FLAG_HAS_MORE_INPUT);
        out.extend_from_slice(&ring[at..at + written]);
        taken += read;
        at = (at + written) % ring.len();
        match status {
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::NeedsMoreInput if taken == input.len() => return out,
            status => panic!("no deflate stream within a window of {} bytes: {status:?}", ring.len()),
        }
    }
}

/// Words as an application sends them, of about this length.
pub fn ticks(length: usize) -> String {
    let mut text = String::from("[");
    let mut n = 1_u32;
    while text.len() < length {
        n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += &format!("{{\"symbol\":\"S{}\",\"bid\":{},\"ask\":{}}},", n % 97, n % 9973, n % 9967);
    }
    text.truncate(length.max(1));
    text
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

/// The counters of what the compressor did: messages, bytes before, bytes after.
pub fn deflated_so_far(server: &Server) -> (u64, u64, u64) {
    let metrics = server.metrics();
    (
        metrics.count("fanfare_deflated_messages_total", &[]),
        metrics.count("fanfare_deflate_input_bytes_total", &[]),
        metrics.count("fanfare_deflate_output_bytes_total", &[]),
    )
}
