//! The harness of the end to end tests: everything here speaks to the server from outside, through sockets, files and signals.
//!
//! | Module | What it is |
//! |---|---|
//! | [`program`] | our binaries as processes: where they are, what they print |
//! | [`loadgen`] | one `loadgen` from its arguments to its report |
//! | [`faulty`] | a WebSocket server that delays, drops, doubles, swaps and corrupts, on purpose and countably |
//! | [`wrong`] | servers that speak anything but the protocol |
//! | [`server`] | a `fanfare` process on a port of its own, watched for panics, ended with the test |
//! | [`raw`] | a TCP connection under full control: any bytes, any frame, any way to end |
//! | [`swarm`] | thousands of subscribers that come back with their position, on one thread |
//! | [`ws`] | clients that are not ours: `tungstenite`, bare or speaking the native protocol |
//! | [`http`] | a small HTTP/1.1 client with keep-alive and pipelining |
//! | [`metrics`] | the Prometheus text, as values to compare |
//! | [`rng`] | reproducible randomness: the seed comes from `FANFARE_SEED` and is printed |
//!
//! Nothing sleeps to give the server time: [`eventually`] and [`wait_for`] look at a condition until it holds or a generous
//! deadline has passed.

use std::thread;
use std::time::{Duration, Instant};

pub mod faulty;
pub mod http;
pub mod loadgen;
pub mod metrics;
pub mod program;
pub mod raw;
pub mod rng;
pub mod server;
pub mod swarm;
pub mod wrong;
pub mod ws;

pub use http::Http;
pub use metrics::Metrics;
pub use raw::Raw;
pub use rng::Rng;
pub use server::Server;
pub use swarm::Swarm;
pub use ws::{Client, Native};

/// How long anything may take that should happen at once: generous, for a noisy machine with two cores.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not within [`DEADLINE`]; the message says `what` was waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `attempt` gives a value.
///
/// # Panics
/// If it does not within [`DEADLINE`]; the message says `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain: {what}");
        thread::park_timeout(LOOK_EVERY);
    }
}

/// The root of the repository, as it was when the tests were built.
#[must_use]
pub fn repository() -> &'static std::path::Path {
    std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A topic name that nothing else uses within one server.
#[must_use]
pub fn topic(name: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}.t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
