//! The referee of the engine's own benches: who fans out how fast, for how much CPU, memory and allocations.
//!
//! * [`driver`]: the client. One thread, many subscribers, one publisher; closed or open loop.
//! * [`contestants`]: the servers the engine is compared with, from the naive program to the bare `send()` loop.
//! * [`server_process`]: starts a contestant as a process of its own, pinned to a core of its own.
//! * [`rounds`]: interleaved rounds over the contestants; [`report`]: what came out, as a table and as JSON.
//! * [`cpu`], [`memory`]: what the kernel says a process has used.
//! * [`idle_connections`], [`shard_allocations`]: what a connection and what a delivery cost beside time.
//! * [`sys`]: the only module with `unsafe` in it.
//! * [`wire`], [`clock`]: frames and handshakes, and the one clock.
//!
//! The binaries `fanout`, `memory` and `allocations` are thin; `benches/README.md` says what each one answers.
//! This stays the small in-repository referee: the load generator for any server is another package.

#![deny(unsafe_code)]

pub mod clock;
pub mod contestants;
pub mod cpu;
pub mod driver;
pub mod held_connections;
pub mod idle_connections;
pub mod memory;
pub mod report;
pub mod rounds;
pub mod server_process;
pub mod shard_allocations;
#[allow(unsafe_code)]
pub mod sys;
pub mod wire;

/// What goes wrong in a bench, told to a person and nobody else.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;
