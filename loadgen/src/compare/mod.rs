//! The comparison of runs: is B better, worse, or is there no difference to be seen?
//!
//! Three layers: formulas ([`statistics`], [`bootstrap`], [`permutation`]), which know numbers only; verdicts over families of
//! figures and over distributions ([`family`], [`shape`]); and results ([`set`], [`comparable`], [`comparison`]) with what is
//! said of them. How it works, and how often it errs, is told in docs/BENCHMARKING.md.

pub mod bootstrap;
pub mod comparable;
pub mod comparison;
pub mod fail_if;
pub mod family;
pub mod json;
pub mod notes;
pub mod outcome;
pub mod permutation;
pub mod set;
pub mod shape;
pub mod statistics;
pub mod table;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use bootstrap::Estimate;
pub use comparison::{Comparison, Options, Row, compare};
pub use family::{PairedColumn, compare_pairs, paired};
pub use outcome::{Finding, Outcome, Settings, Verdict, Weight};
pub use set::{Set, Source};
