//! Reproducible randomness.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator (SplitMix64): the same seed gives the same test on every machine.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator seeded from `FANFARE_SEED`, else from the clock. Prints the seed, so that a failed run can be repeated.
    ///
    /// # Panics
    /// If `FANFARE_SEED` is no number.
    #[must_use]
    pub fn from_env() -> Self {
        let seed = match std::env::var("FANFARE_SEED") {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("FANFARE_SEED is '{text}': it must be a whole number")),
            Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64),
        };
        println!("FANFARE_SEED={seed}");
        Self(seed)
    }

    /// A generator with this seed.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// Any bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.bits() as u8).collect()
    }

    /// A generator of its own, for a thread.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.bits())
    }
}
