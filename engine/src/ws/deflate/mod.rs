//! permessage-deflate (RFC 7692), server side: [`offer`] reads what a client offers and answers it, [`compressor`] and
//! [`inflater`] do the work.
//!
//! No context is ever carried from one message to the next, in either direction, and every answer says so: one compressor and
//! one inflater serve all connections of a shard, and what is compressed for one subscriber is right for all of them. The
//! price is a worse ratio for streams of small messages that resemble each other.

use std::num::NonZeroU8;

pub mod compressor;
pub mod inflater;
pub mod offer;

pub use compressor::Compressor;
pub use inflater::{Inflater, Spent, Work};
pub use offer::{Agreed, MalformedOffer, negotiate};

/// What a sender cuts off of each message and a receiver puts back (RFC 7692, 7.2.1): what a sync flush ends with.
const CUT_OFF: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The window that a client has room for (RFC 7692, 7.1.2.1): nothing compressed for it refers back by more bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window(NonZeroU8);

// Every connection has one, or none.
const _: () = assert!(size_of::<Option<Window>>() == 1);

impl Window {
    /// 32 KiB: what everybody has who does not ask for less.
    pub const MAX: Self = Self(NonZeroU8::new(15).unwrap());

    /// Of so many bits; `None` unless 9 to 15. A window of 8 bits is allowed by the RFC, but no zlib makes it.
    #[must_use]
    pub const fn new(bits: u8) -> Option<Self> {
        match NonZeroU8::new(bits) {
            Some(bits) if matches!(bits.get(), 9..=15) => Some(Self(bits)),
            _ => None,
        }
    }

    /// The base-two logarithm of its size in bytes: 9 to 15.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0.get()
    }

    /// Whether a message of so many bytes fits in, so that however it is compressed, this window is enough for it.
    #[must_use]
    pub const fn holds(self, bytes: usize) -> bool {
        bytes <= 1 << self.0.get()
    }
}
