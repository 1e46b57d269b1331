//! Messages inflated, in steps, under a limit.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

use super::{CUT_OFF, Window};
use crate::ws::ProtocolError;

/// The first piece of memory for what is inflated, in bytes.
const FIRST_BYTES: usize = 16 << 10;

/// What is kept of that memory from one turn to the next, in bytes.
const KEPT_BYTES: usize = 64 << 10;

/// What is put behind each message: what was cut off of it, which ends at a byte's end; and there, and only there, a last
/// block with nothing in it is one, so that a stream which ends otherwise is found out.
const END: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];
const _: () = assert!(matches!(END.first_chunk(), Some(&CUT_OFF)));

/// One inflater for all connections of a shard. Its memory is taken at its first use: 48 KB, and what the largest message
/// since the last [`release`](Self::release) became.
#[derive(Default)]
pub struct Inflater {
    zlib: Option<Inflate>,
    /// Its length is the room there is.
    room: Vec<u8>,
    work: Work,
    spent: Spent,
}

/// What an inflater has been through, whatever came of it: a message that is refused in the end has taken as long as one that
/// is not, so this is what has to be charged for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Bytes taken in.
    pub input_bytes: u64,
    /// Bytes put out.
    pub output_bytes: u64,
}

/// What an inflater has done: whole messages only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Messages inflated.
    pub messages: u64,
    /// Their length in bytes as they came.
    pub input_bytes: u64,
    /// Their length in bytes as they were meant.
    pub output_bytes: u64,
}

impl Inflater {
    /// Inflates a whole message (RFC 7692, 7.2.2). What is returned is valid until the next call.
    ///
    /// Besides what the RFC wants of a sender, a message may be empty, and may end with a last block (7.2.3.4) without the
    /// empty one that should follow: there are senders of both, and they cannot be misunderstood. But a message that ends in
    /// the middle of a block is broken, never half delivered.
    ///
    /// # Errors
    /// It becomes longer than `limit` bytes (0: without limit), found out as soon as it does, and never is more memory taken
    /// than for that; or it is no deflate stream.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<&[u8], ProtocolError> {
        let zlib = self.zlib.get_or_insert_with(|| Inflate::new(false, Window::MAX.bits()));
        zlib.reset(false);
        let mut message = Growing { room: &mut self.room, written: 0, limit, spent: &mut self.spent };
        if !payload.is_empty() && !message.append(zlib, payload)? {
            let written = message.written;
            // What we put behind it must not become part of it, as what a stored block wants that was cut off.
            if !message.append(zlib, &END)? || message.written > written {
                return Err(ProtocolError::BrokenDeflate);
            }
        }
        let written = message.written;
        self.work.messages += 1;
        self.work.input_bytes += payload.len() as u64;
        self.work.output_bytes += written as u64;
        Ok(&self.room[..written])
    }

    /// Gives back memory that an unusually large message has taken, all but 64 KiB.
    pub fn release(&mut self) {
        if self.room.capacity() > KEPT_BYTES {
            self.room.truncate(KEPT_BYTES);
            self.room.shrink_to(KEPT_BYTES);
        }
    }

    /// What it has been through since that was last [taken](Self::take_spent).
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// What it has been through since it was asked last.
    pub fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    /// What it has done since it was asked last.
    pub fn take_work(&mut self) -> Work {
        std::mem::take(&mut self.work)
    }

    /// Bytes held for what was inflated.
    pub fn held_bytes(&self) -> usize {
        self.room.capacity()
    }
}

/// A message that is being inflated.
struct Growing<'a> {
    room: &'a mut Vec<u8>,
    written: usize,
    limit: usize,
    spent: &'a mut Spent,
}

impl Growing<'_> {
    /// Inflates the next piece of the stream. Whether it ends with the end of a last block.
    fn append(&mut self, zlib: &mut Inflate, mut input: &[u8]) -> Result<bool, ProtocolError> {
        // One byte more than allowed, so that a message exactly as long as allowed ends by itself.
        let max = if self.limit == 0 { usize::MAX } else { self.limit.saturating_add(1) };
        loop {
            if self.written == self.room.len() {
                let length = self.room.len().saturating_mul(2).max(FIRST_BYTES).min(max).max(self.room.len());
                self.room.reserve_exact(length - self.room.len());
                self.room.resize(length, 0);
            }
            let room = self.room.len().min(max);
            let (taken, written) = (zlib.total_in(), zlib.total_out());
            let status = zlib.decompress(input, &mut self.room[self.written..room], InflateFlush::SyncFlush);
            // Of a stream that turns out to be broken, too.
            let (taken, written) = (zlib.total_in() - taken, zlib.total_out() - written);
            self.spent.input_bytes += taken;
            self.spent.output_bytes += written;
            let status = status.map_err(|_| ProtocolError::BrokenDeflate)?;
            let (taken, written) = (taken as usize, written as usize);
            input = &input[taken..];
            self.written += written;
            if self.written == max {
                return Err(ProtocolError::MessageTooBig { limit: self.limit });
            }
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(true),
                // A last block inside a message is allowed (7.2.3.4): another stream follows. Each has taken two bytes at
                // least, so this ends.
                Status::StreamEnd => zlib.reset(false),
                // Whether there is more to come shows when there is room for it.
                _ if self.written == room => {}
                _ if input.is_empty() => return Ok(false),
                _ if taken == 0 && written == 0 => return Err(ProtocolError::BrokenDeflate),
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}
