//! The bytes that a subscriber gets: its encoding, compressed or not; and what makes them of publications and messages.

use super::encoding::{EncodingId, Encodings};
use crate::metrics::ShardMetrics;
use crate::ws::deflate::{Compressor, Window};
use crate::ws::{Opcode, frame};

/// The most memory kept for what is compressed, between two messages.
const OUT_BYTES_MAX: usize = 256 << 10;

/// The longest payload that is compressed. Compressing is not done in pieces: it holds its shard, and other shards that wait for
/// the same frame, for about 5 ms a MiB at level 3, and much longer at level 9.
pub const DEFLATED_BYTES_MAX: usize = 1 << 20;

/// What a subscriber's frames look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Form {
    /// The encoding it subscribed with.
    pub encoding: EncodingId,
    /// What its connection has room for, if it takes compressed messages at all.
    pub window: Option<Window>,
}

impl Form {
    /// Never compressed.
    #[must_use]
    pub const fn plain(encoding: EncodingId) -> Self {
        Self { encoding, window: None }
    }
}

/// A shard's compressor, and how it is set.
#[derive(Debug)]
pub struct Deflater {
    compressor: Compressor,
    /// Where a message is compressed to, before it is known how long its header is.
    out: Vec<u8>,
    /// From 1 (fastest) to 9 (smallest).
    pub level: u8,
}

impl Deflater {
    /// Takes no memory before its first use.
    #[must_use]
    pub fn new(level: u8) -> Self {
        Self { compressor: Compressor::default(), out: Vec::new(), level }
    }

    /// The frame of a compressed message, right for every window that holds the payload or is the largest; `None` if it
    /// would not be smaller.
    pub fn frame(&mut self, opcode: Opcode, payload: &[u8], metrics: &ShardMetrics) -> Option<Vec<u8>> {
        let made = self.compressor.compress(self.level, payload, &mut self.out).then(|| {
            metrics.deflated_messages.add(1);
            metrics.deflate_input_bytes.add(payload.len() as u64);
            metrics.deflate_output_bytes.add(self.out.len() as u64);
            let mut frame = Vec::with_capacity(frame::header_len(self.out.len()) + self.out.len());
            frame::put_deflated(&mut frame, opcode, &self.out);
            frame
        });
        self.out.clear();
        if self.out.capacity() > OUT_BYTES_MAX {
            self.out = Vec::new();
        }
        made
    }
}

/// Whether a payload of this length is compressed for somebody who has this window: it is always done with the largest one,
/// and no reference goes back by more than the length of the payload.
pub fn is_within(window: Window, payload_len: usize) -> bool {
    payload_len <= DEFLATED_BYTES_MAX && (window == Window::MAX || window.holds(payload_len))
}

/// What makes frames: lent by a shard.
#[derive(Debug)]
pub struct Frames<'a> {
    /// Those of the engine.
    pub encodings: &'a Encodings,
    /// The shard's.
    pub deflater: &'a mut Deflater,
    /// Where it is counted.
    pub metrics: &'a ShardMetrics,
}

#[cfg(test)]
#[path = "form_tests.rs"]
pub(super) mod tests;
