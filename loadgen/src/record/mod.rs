//! What is kept of a run: `report.json` and the files beside it. The schema is documented in docs/BENCHMARKING.md.

pub mod figures;
pub mod folder;
pub mod hgrm;
pub mod hlog;
pub mod read;
pub mod recorder;
#[doc(hidden)]
pub mod sample;
pub mod words;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::measure::{Connecting, Interval, Measurement};
use crate::scenario::Scenario;

/// What `format` of a report says.
pub const FORMAT: &str = "fanfare-loadgen-report";

/// The version of the schema; a reader refuses others, naming both.
pub const VERSION: u32 = 1;

/// A whole result: `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// When it was begun, RFC 3339, UTC.
    pub created: String,
    /// The command line, word by word.
    pub command: Vec<String>,
    /// The scenario, flags applied.
    pub scenario: Scenario,
    /// Where it was made.
    pub environment: Environment,
    /// Whether it was finished; else it holds what was there when the process ended.
    pub complete: bool,
    /// Why it ended before its end, if it did: `interrupted`, an error.
    pub ended_early: Option<String>,
    /// What the machine can do at all, if it was measured.
    pub ceiling: Option<Ceiling>,
    /// The repetitions, in order.
    pub repetitions: Vec<Repetition>,
}

impl Report {
    /// The repetitions whose figures may be used: whole ones that are not void. If there are none, all: better figures
    /// with a mark than none, and every output shows the mark.
    pub fn usable(&self) -> Vec<&Repetition> {
        let usable: Vec<_> = self.repetitions.iter().filter(|repetition| repetition.is_usable()).collect();
        if usable.is_empty() { self.repetitions.iter().collect() } else { usable }
    }
}

impl Repetition {
    /// Whether all of it is there and nothing makes it void.
    pub fn is_usable(&self) -> bool {
        self.complete && self.void.is_empty()
    }
}

/// One repetition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// When it was begun, RFC 3339, UTC.
    pub begun: String,
    /// Whether all of it is there.
    pub complete: bool,
    /// Why its figures must not be used; empty for a valid one. Sentences.
    pub void: Vec<String>,
    /// What a reader should know, though the figures stand. Sentences.
    pub warnings: Vec<String>,
    /// The connection phase; slices and later repetitions may keep their connections.
    pub connecting: Connecting,
    /// What was measured.
    pub measurement: Measurement,
    /// The course of it.
    pub intervals: Vec<Interval>,
    /// The server's process, if it was named.
    pub server: Option<ServerUsage>,
}

/// What the server's process used in the measured time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServerUsage {
    /// CPU time of all threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Of it in user mode (from clock ticks, so coarser), in nanoseconds.
    pub user_ns: u64,
    /// Of it in the kernel (from clock ticks), in nanoseconds.
    pub system_ns: u64,
    /// Time its threads were ready to run while their cores were somebody else's, in nanoseconds.
    pub waited_ns: u64,
    /// The measured time, in nanoseconds.
    pub wall_ns: u64,
    /// CPU time by delivery to anybody, in nanoseconds; 0 if there was none.
    pub cpu_per_delivery_ns: f64,
    /// Its memory before the first connection, in bytes: resident pages that it has written to, not those of its program
    /// file; 0 if unknown.
    pub rss_before_bytes: u64,
    /// Its memory with all connections, at the end, in bytes.
    pub rss_bytes: u64,
    /// Memory that the kernel holds for all TCP sockets of this machine, at the end, in bytes: both ends of a loopback
    /// connection.
    pub kernel_tcp_bytes: u64,
    /// Threads at the end.
    pub threads: u64,
}

/// A bare loop of `send()` to as many sockets, no server: what this machine can do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Sockets sent to.
    pub sockets: u64,
    /// Payload bytes.
    pub payload_bytes: u64,
    /// One publication to all sockets, from first send to the last receipt, each publication.
    pub completion: crate::measure::Latencies,
    /// From first send to receipt, each delivery.
    pub latency: crate::measure::Latencies,
    /// CPU time of the sending thread by delivery, in nanoseconds.
    pub cpu_per_delivery_ns: f64,
    /// Deliveries a second, sending as fast as it goes, one call a frame.
    pub sends_per_s: f64,
    /// Deliveries a second, sending as fast as it goes, 64 frames a call.
    pub coalesced_per_s: f64,
}

/// Where a run was made, as far as it matters to its figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Host name.
    pub host: String,
    /// Kernel name and release.
    pub kernel: String,
    /// The CPU's model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Open files a process may have (soft, hard).
    pub files: (u64, u64),
    /// The load averages at the start.
    pub load_average: [f64; 3],
    /// Kernel settings that matter, by name.
    pub sysctls: std::collections::BTreeMap<String, String>,
    /// The version of loadgen, with its revision if it was built from a repository.
    pub loadgen: String,
    /// What the server was called by the scenario.
    pub server_revision: String,
    /// The server's command line, if its process was named.
    pub server_command: Vec<String>,
    /// CPU frequency governor, virtualisation and the like, by name.
    pub notes: std::collections::BTreeMap<String, String>,
}
