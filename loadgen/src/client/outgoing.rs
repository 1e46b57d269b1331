//! What a connection has to say and the socket has not taken: frames, masked.
//!
//! Owner: a client. Masks come from a seeded generator: RFC 6455 (10.3) wants them unpredictable to protect proxies from
//! what web pages send; a load generator sends its own words only, and seeds make its runs repeatable.

use std::io::{self, ErrorKind};

use fanfare::ws::Opcode;
use fanfare::ws::frame;

use super::wire::Wire;

/// Memory kept for the next frames when all is sent, in bytes.
const KEPT_BYTES: usize = 1 << 10;

/// With more than this unsent, in bytes, what a peer asks for (pongs, answers) is left unsaid: a peer that asks and does
/// not read must not fill the memory.
const ANSWERS_UNSENT_MAX: usize = 64 << 10;

/// Frames to be written.
#[derive(Debug)]
pub(super) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    mask_state: u64,
}

impl Outgoing {
    /// Empty; masks follow from `mask_seed`.
    pub fn new(mask_seed: u64) -> Self {
        // Multiplied, so that neighbouring seeds give unlike masks; xorshift must not start at 0.
        Self { bytes: Vec::new(), sent: 0, mask_state: mask_seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// The buffer, for what is no frame.
    pub fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a message.
    pub fn message(&mut self, payload: &[u8], binary: bool) {
        let opcode = if binary { Opcode::Binary } else { Opcode::Text };
        let mask = self.mask();
        frame::put_masked_data(&mut self.bytes, opcode, payload, mask);
    }

    /// Adds a text message that a peer asked for, if not too much waits.
    pub fn answer(&mut self, payload: &[u8]) {
        if self.len() <= ANSWERS_UNSENT_MAX {
            self.message(payload, false);
        }
    }

    /// Adds the answer to a ping, if not too much waits. Pings in between may go unanswered (RFC 6455, 5.5.3).
    pub fn pong(&mut self, payload: &[u8]) {
        if self.len() <= ANSWERS_UNSENT_MAX {
            let mask = self.mask();
            frame::put_masked_pong(&mut self.bytes, payload, mask);
        }
    }

    /// Adds a close frame.
    pub fn close(&mut self, code: Option<u16>) {
        let mask = self.mask();
        frame::put_masked_close(&mut self.bytes, code, "", mask);
    }

    /// Writes what the wire takes.
    pub fn flush(&mut self, wire: &mut Wire) -> io::Result<()> {
        while self.sent < self.bytes.len() {
            match wire.write(&self.bytes[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.sent += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.close_up();
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.sent = 0;
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        match wire.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Gives back what is sent of the buffer, once that is the greater part: each byte is moved once at most on average.
    fn close_up(&mut self) {
        if self.sent > self.bytes.len() / 2 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    fn mask(&mut self) -> [u8; 4] {
        // xorshift64: its upper half is the better one.
        let mut x = self.mask_state;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.mask_state = x;
        ((x >> 32) as u32).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_repeat_with_the_seed_and_differ_otherwise() {
        let masks = |seed| {
            let mut outgoing = Outgoing::new(seed);
            (0..100).map(|_| outgoing.mask()).collect::<std::collections::BTreeSet<_>>()
        };
        for seed in [0, 1, 2, u64::MAX] {
            assert_eq!(masks(seed), masks(seed));
            assert!(masks(seed).len() > 95);
        }
        assert!(masks(4).is_disjoint(&masks(5)));
    }

    #[test]
    fn a_peer_that_asks_and_does_not_read_fills_no_memory() {
        let mut outgoing = Outgoing::new(1);
        for _ in 0..100_000 {
            outgoing.pong(&[7; 125]);
            outgoing.answer(b"3");
        }
        assert!(outgoing.len() < ANSWERS_UNSENT_MAX + 200);
        outgoing.message(b"own words are always taken", false);
        assert!(outgoing.len() > ANSWERS_UNSENT_MAX);
    }
}
