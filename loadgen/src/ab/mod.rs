//! Two servers under one load, in turns, so that a machine that drifts does the same to both.
//!
//! * [`turns`]: whose turn it is. [`contestant`]: a server and its connections.
//! * [`slices`]: both run, and short slices of load alternate. [`whole`]: where they cannot run at once, whole runs do.

pub mod contestant;
pub mod slices;
pub mod turns;
pub mod whole;

pub use contestant::{Contestant, Entrant};
pub use turns::Side;

use crate::record::Repetition;

/// What was taken: as many of A as of B, the n-th of each forming a pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// Of A.
    pub a: Vec<Repetition>,
    /// Of B.
    pub b: Vec<Repetition>,
    /// Slices that were taken again because other programs were on the cores.
    pub retaken: u32,
    /// Slices that were kept although they were disturbed, because the machine did not get quieter.
    pub disturbed: u32,
}

impl Pairs {
    fn of(&mut self, side: Side) -> &mut Vec<Repetition> {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Cuts off what has no counterpart, after an end before the end.
    pub fn even_out(&mut self) {
        let pairs = self.a.len().min(self.b.len());
        self.a.truncate(pairs);
        self.b.truncate(pairs);
    }
}
