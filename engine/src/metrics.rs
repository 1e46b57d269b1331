//! What a shard counts and measures. Counters are written by their shard only and read by anyone, so that counting costs
//! a plain addition; latencies are HDR histograms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use crate::close::{CloseCause, RefusalCause};

/// A counter that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; by the owning thread only, which is why no locked instruction is needed.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes away; by the owning thread only.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(n), Ordering::Relaxed);
    }

    /// Sets; by the owning thread only.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The present value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The largest latency told apart, in nanoseconds: one minute.
const LATENCY_MAX: u64 = 60_000_000_000;

/// A shard's latencies, in nanoseconds, two significant digits.
#[derive(Debug, Clone)]
pub struct Latencies {
    /// From sequencing to the moment the kernel has taken the whole frame, per delivery.
    pub delivery: Histogram<u64>,
    /// From sequencing to the moment the last subscriber of all shards has been served, per publication. A subscriber whose
    /// socket takes nothing counts as served when the publication is in its queue.
    pub completion: Histogram<u64>,
    /// The time of a turn, waiting not included.
    pub turn: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        // The bounds are constants within the range hdrhistogram accepts.
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 2).expect("valid constant bounds");
        Self { delivery: histogram(), completion: histogram(), turn: histogram() }
    }
}

impl Latencies {
    /// Adds another shard's.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.delivery, &other.delivery),
            (&mut self.completion, &other.completion),
            (&mut self.turn, &other.turn),
        ] {
            // Both have the same bounds, so that adding cannot fail.
            let _ = own.add(other);
        }
    }
}

/// Clamps to what the histograms can hold; a latency of 0 counts as 1 ns.
#[must_use]
pub fn clamp_latency(nanos: u64) -> u64 {
    nanos.clamp(1, LATENCY_MAX)
}

/// TLS handshakes completed, by version and by whether they resumed an earlier session. One thread writes.
#[derive(Debug, Default)]
pub struct TlsHandshakes([Count; 4]);

impl TlsHandshakes {
    /// The labels of each count: the version and whether it was resumed.
    pub const LABELS: [(&str, &str); 4] = [("1.2", "false"), ("1.2", "true"), ("1.3", "false"), ("1.3", "true")];

    /// Counts one.
    pub fn note(&self, tls13: bool, resumed: bool) {
        self.0[usize::from(tls13) * 2 + usize::from(resumed)].add(1);
    }

    /// The counts, as [`LABELS`](Self::LABELS) has them.
    #[must_use]
    pub fn get(&self) -> [u64; 4] {
        self.0.each_ref().map(Count::get)
    }
}

/// What a shard counts.
#[derive(Debug, Default)]
pub struct ShardMetrics {
    /// TCP connections accepted.
    pub accepted: Count,
    /// TCP connections now.
    pub connections: Count,
    /// WebSockets now, until their closing begins.
    pub open: Count,
    /// Upgrades accepted.
    pub upgrades: Count,
    /// Requests handed to the control plane.
    pub handed_over: Count,
    /// Times accepting failed, other than for want of file descriptors.
    pub accept_errors: Count,
    /// Bytes received.
    pub bytes_in: Count,
    /// Bytes sent.
    pub bytes_out: Count,
    /// Messages received.
    pub messages_in: Count,
    /// Messages received compressed, and inflated.
    pub inflated_messages: Count,
    /// Their bytes as they came.
    pub inflate_input_bytes: Count,
    /// Their bytes as they were meant.
    pub inflate_output_bytes: Count,
    /// Messages sent to one connection by its handler or from another thread, taken for sending.
    pub messages_direct: Count,
    /// Such messages dropped at a connection's bound.
    pub messages_direct_dropped: Count,
    /// Pings received.
    pub pings_in: Count,
    /// Pongs received.
    pub pongs_in: Count,
    /// Pings sent for silence.
    pub pings_out: Count,
    /// Writes to sockets.
    pub writes: Count,
    /// Writes of which the socket took nothing or only a part.
    pub writes_blocked: Count,
    /// Connections with something waiting now.
    pub backlogged: Count,
    /// Upgrades of them that agreed on permessage-deflate.
    pub upgrades_deflated: Count,
    /// Messages compressed: publications once per encoding, whoever gets them.
    pub deflated_messages: Count,
    /// Bytes of their payloads before.
    pub deflate_input_bytes: Count,
    /// And after.
    pub deflate_output_bytes: Count,
    /// Times a publisher was not read from because an inbox was full.
    pub publishers_paused: Count,
    /// Times a connection was not read from because it had sent more than its rates allow.
    pub rate_paused: Count,
    /// Messages and pings dropped because a connection had sent more than its rates allow.
    pub rate_dropped: Count,
    /// Times a queue was held to what waited in it because all together were at `pending_total_bytes`.
    pub pending_full: Count,
    /// Turns.
    pub turns: Count,
    /// Handlers that panicked.
    pub handler_panics: Count,
    /// Connections that speak TLS, their handshakes included.
    pub tls_connections: Count,
    /// TLS handshakes completed.
    pub tls_handshakes: TlsHandshakes,
    /// Connections ended, by cause.
    pub closed: [Count; CloseCause::ALL.len()],
    /// Connections refused, by cause.
    pub refused: [Count; RefusalCause::ALL.len()],
    /// Latencies. The lock is the shard's own but for the moment somebody copies them.
    pub latencies: Mutex<Latencies>,
}

impl ShardMetrics {
    /// Counts an ended connection.
    pub fn close(&self, cause: CloseCause) {
        self.closed[cause as usize].add(1);
    }

    /// Counts a refused connection.
    pub fn refuse(&self, cause: RefusalCause) {
        self.refused[cause as usize].add(1);
    }

    /// Records a turn.
    pub fn turn(&self, took: Duration) {
        self.turns.add(1);
        self.latencies.lock().turn.saturating_record(clamp_latency(took.as_nanos() as u64));
    }
}
