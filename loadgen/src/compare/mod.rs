//! The comparison of runs: is B better, worse, or is there no difference to be seen?

pub mod bootstrap;
pub mod family;
pub mod outcome;
pub mod permutation;
pub mod statistics;

#[cfg(test)]
mod simulation;

pub use bootstrap::Estimate;
pub use family::paired;
pub use outcome::{Finding, Outcome, Settings, Verdict};
