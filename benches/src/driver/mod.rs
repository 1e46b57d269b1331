//! The client: one thread, many subscribers and one publisher of one topic, as cheap as it can be made, because it has to
//! outrun every server.
//!
//! * [`connect`]: connections and upgrades. [`scanner`]: frames out of bytes. [`progress`]: who has received how far.
//! * [`subscribers`]: the reading side. [`publisher`]: the writing side. [`run`]: both, under a load.
//!
//! A payload is a sequence number, the intended time of its publication, and filler; see [`Stamp`].

pub mod connect;
pub mod progress;
pub mod publisher;
pub mod run;
pub mod scanner;
pub mod subscribers;

pub use run::{Driver, Load, Phase};
pub use subscribers::SubscriberSet;

/// What a payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The publisher's sequence number, from 0, without gaps.
    pub sequence: u64,
    /// When the publication was to be sent, on the driver's clock.
    pub intended_ns: u64,
}

impl Stamp {
    /// Bytes of a stamp, and thereby the shortest payload.
    pub const LEN: usize = 16;

    /// The stamp as it stands in a payload.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..].copy_from_slice(&self.intended_ns.to_le_bytes());
        bytes
    }

    /// Reads the stamp at the beginning of a payload.
    #[inline(always)]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (sequence, rest) = payload.split_first_chunk()?;
        let intended_ns = rest.first_chunk()?;
        Some(Self { sequence: u64::from_le_bytes(*sequence), intended_ns: u64::from_le_bytes(*intended_ns) })
    }
}
