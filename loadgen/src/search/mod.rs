//! The largest load that keeps an objective.

pub mod strategy;
