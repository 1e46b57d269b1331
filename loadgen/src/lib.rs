//! `loadgen`: a load generator for WebSocket servers that tells the truth, and the comparison of its runs.
//!
//! The way of a run: a [`scenario`] says what is to be done; a [`fleet`] of workers connects to its target and is driven;
//! what that gives is [`measure`]d, kept in a [`record`], looked at and compared.

pub mod ab;
pub mod bare;
pub mod ceiling;
pub mod client;
pub mod command;
pub mod compare;
pub mod failure;
pub mod fleet;
pub mod load;
pub mod machine;
pub mod measure;
pub mod page;
pub mod record;
pub mod scenario;
pub mod search;
pub mod server_process;
pub mod target;
pub mod terminal;
pub mod units;
pub mod verify;
pub mod worker;
