//! The one clock of the driver: nanoseconds of `CLOCK_MONOTONIC` since the driver was made.
//!
//! Publisher and subscribers live in one process, so a time that travels through the server in a payload is read by
//! the same clock that wrote it.

use std::time::Instant;

/// A monotonic clock that counts from its own creation.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that says 0 now.
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Nanoseconds since [`Clock::start`].
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}
