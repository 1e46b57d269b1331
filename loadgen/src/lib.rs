//! `loadgen`: a load generator for WebSocket servers that tells the truth, and the comparison of its runs.
//!
//! The way of a run: a [`scenario`] says what is to be done; a [`fleet`] of workers connects to its target and is driven;
//! what that gives is [`measure`]d, kept in a [`record`], looked at and compared.

pub mod client;
pub mod failure;
pub mod fleet;
pub mod load;
pub mod measure;
pub mod record;
pub mod scenario;
pub mod target;
pub mod units;
pub mod verify;
pub mod worker;
