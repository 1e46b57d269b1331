//! What is measured, as values that can be merged, sent between processes and stored.

pub mod latencies;
pub mod measurement;

pub use latencies::Latencies;
pub use measurement::{Connecting, Interval, Measurement, OwnWorker, RoleTally, StormOutcome, Tally, count_cause};
