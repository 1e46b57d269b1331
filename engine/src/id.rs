//! Identifiers are types: which connection, which encoding.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// Names one connection for the life of the process: shard, slot in its slab, and the generation of that slot, so that
/// the name of a connection which has ended never means its successor.
///
/// Shown and parsed as `shard-slot-generation`, each in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The slot in the shard's slab.
    pub slot: u32,
    /// How often the slot had been given out before; 24 bits are used.
    pub generation: u32,
    /// The shard that owns the connection.
    pub shard: u16,
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}-{:x}", self.shard, self.slot, self.generation)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no connection's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadConnectionId;

impl fmt::Display for BadConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a connection is named shard-slot-generation in hexadecimal, for example 0-1a-0")
    }
}

impl std::error::Error for BadConnectionId {}

impl From<ParseIntError> for BadConnectionId {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl FromStr for ConnectionId {
    type Err = BadConnectionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('-');
        let (Some(shard), Some(slot), Some(generation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadConnectionId);
        };
        Ok(Self {
            shard: u16::from_str_radix(shard, 16)?,
            slot: u32::from_str_radix(slot, 16)?,
            generation: u32::from_str_radix(generation, 16)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_survives_its_text() {
        let id = ConnectionId { shard: 3, slot: 0xbeef, generation: 0x00ff_ffff };
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "1", "1-2", "1-2-3-4", "x-1-1", "1--1", "12345-1-1"] {
            assert_eq!(bad.parse::<ConnectionId>(), Err(BadConnectionId), "{bad}");
        }
    }
}
