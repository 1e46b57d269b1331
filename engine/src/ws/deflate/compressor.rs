//! Messages compressed, each by itself.

use std::fmt;

use zlib_rs::{Deflate, DeflateFlush};

use super::{CUT_OFF, Window};

/// Bytes that zlib writes at once.
const CHUNK_BYTES: usize = 16 << 10;

/// One compressor for all connections of a shard, with the largest window. Its memory is taken at its first use: 400 KB.
#[derive(Default)]
pub struct Compressor {
    state: Option<State>,
    chunk: Vec<u8>,
}

struct State {
    deflate: Deflate,
    level: u8,
}

impl Compressor {
    /// Appends the compressed payload to `out` (RFC 7692, 7.2.1), at a level of 1 (fastest) to 9 (smallest); what is outside
    /// counts as the nearest. False, and nothing is appended, if it would not be smaller.
    ///
    /// A message refers to nothing before it, so one that fits in a smaller window keeps to that, too ([`Window::holds`]).
    pub fn compress(&mut self, level: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let is_smaller = self.append(level.clamp(1, 9), payload, out) && {
            let end = out.len().saturating_sub(CUT_OFF.len());
            let is_flushed = end >= start && out[end..] == CUT_OFF;
            out.truncate(end.max(start));
            is_flushed && end - start < payload.len()
        };
        if !is_smaller {
            out.truncate(start);
        }
        is_smaller
    }

    /// Appends all that zlib makes of it. False if that is too long, and is therefore not complete.
    fn append(&mut self, level: u8, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        self.chunk.resize(CHUNK_BYTES, 0);
        let deflate = state(&mut self.state, level);
        loop {
            let (taken, written) = (deflate.total_in() as usize, deflate.total_out());
            let status = deflate.compress(&payload[taken..], &mut self.chunk, DeflateFlush::SyncFlush);
            let length = (deflate.total_out() - written) as usize;
            out.extend_from_slice(&self.chunk[..length]);
            if status.is_err() || out.len() - start >= payload.len() + CUT_OFF.len() {
                return false;
            }
            // Only with room left is a flush known to be complete.
            if length < self.chunk.len() {
                return deflate.total_in() as usize == payload.len();
            }
        }
    }
}

/// What compresses the next message. What it has learnt of the last one is forgotten.
fn state(place: &mut Option<State>, level: u8) -> &mut Deflate {
    place.take_if(|state| state.level != level);
    let made = || State { deflate: Deflate::new(i32::from(level), false, Window::MAX.bits()), level };
    let deflate = &mut place.get_or_insert_with(made).deflate;
    deflate.reset();
    deflate
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compressor")
    }
}
