//! What one drive (one repetition, or one slice of an `ab`) measured. Every type can be merged with another of its kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::Latencies;

/// The connection phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Connecting {
    /// Connections asked for.
    pub wanted: u64,
    /// Connections that were opened and said what they had to say.
    pub connected: u64,
    /// Attempts that failed, by cause: `refused`, `timed out`, `HTTP 403`, `certificate: …`.
    pub failures: BTreeMap<String, u64>,
    /// From the first connect to the last success, in nanoseconds.
    pub elapsed_ns: u64,
    /// From connect to the upgrade's answer.
    pub handshake: Latencies,
    /// Of these, so many went on with an earlier TLS session.
    #[serde(default)]
    pub resumed: u64,
}

/// What was measured between the beginning and the end of one measured time.
///
/// The measured time begins after the warm-up; histograms and `window` hold publications **intended** in it, however late
/// they arrive. [`Tally`] counts the whole drive, warm-up included: only then do the sums come out exactly.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// The measured time, in nanoseconds.
    pub window_ns: u64,
    /// Publications sent whose intended time lies in the measured time.
    pub published: u64,
    /// Deliveries of subscribers **received** in the measured time: throughput is this by `window_ns`.
    pub received: u64,
    /// From the intended time of a publication to its receipt: latency without coordinated omission.
    pub corrected: Latencies,
    /// From the moment a publication was really sent to its receipt.
    pub service: Latencies,
    /// From the intended time of a publication to its receipt by the last subscriber; publications that somebody did
    /// not get at all are not in it.
    pub completion: Latencies,
    /// From the intended time of a publication to the moment it was really sent.
    pub schedule_error: Latencies,
    /// Answers to HTTP publications, from the request's first byte.
    pub publish_answer: Latencies,
    /// Medians of the latencies of single subscribers: one entry a subscriber.
    pub subscriber_medians: Latencies,
    /// Latencies of slow readers and churners, kept apart.
    pub others: Latencies,
    /// Everything counted.
    pub tally: Tally,
    /// A reconnect storm, if there was one.
    pub storm: Option<StormOutcome>,
    /// The load generator's workers.
    pub workers: Vec<OwnWorker>,
}

/// Counts over a whole drive, warm-up and drain included.
///
/// For subscribers, exactly: `expected = received + lost`, and `received` counts each publication once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Publications sent.
    pub published: u64,
    /// Sent later after their intended time than `late_after`.
    pub late: u64,
    /// Due, but never sent: the server took nothing any more.
    pub unsent: u64,
    /// HTTP publications answered with something else than 2xx or not at all, and WebSocket publishers' connections lost.
    pub refused: u64,
    /// Publications that not every one of their subscribers got.
    pub incomplete: u64,
    /// Data messages without a marker of this run, such as greetings.
    pub foreign: u64,
    /// Data messages with a marker whose bytes are not what was published.
    pub corrupted: u64,
    /// Connections that the server ended, by cause: `close 1008`, `reset`, `end of stream`, `protocol error: …`.
    pub closed: BTreeMap<String, u64>,
    /// Bytes received, as they came (for TLS: after decryption).
    pub wire_bytes: u64,
    /// Bytes of the messages' payloads, after inflation.
    pub payload_bytes: u64,
    /// Connections on which permessage-deflate was agreed on.
    pub deflated_connections: u64,
    /// Data messages, of whatever content.
    #[serde(default)]
    pub messages: u64,
    /// Of these, so many came compressed.
    #[serde(default)]
    pub deflated_messages: u64,
    /// Bytes of their payloads as they came.
    #[serde(default)]
    pub deflated_bytes: u64,
    /// Bytes of their payloads after inflation.
    #[serde(default)]
    pub inflated_bytes: u64,
    /// By role: `subscriber`, `slow`, `stalled`, `churning`.
    pub roles: BTreeMap<String, RoleTally>,
}

/// What the connections of one role saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleTally {
    /// Publications × connections that were subscribed to their topic when they were sent.
    pub expected: u64,
    /// Publications received, each once per connection.
    pub received: u64,
    /// Expected and not received until the end of the drain.
    pub lost: u64,
    /// How often a sequence number was skipped, later filled or not.
    pub gaps: u64,
    /// Received again.
    pub duplicates: u64,
    /// Received after a later one.
    pub reordered: u64,
}

/// A reconnect storm.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StormOutcome {
    /// Connections dropped at once.
    pub dropped: u64,
    /// Of these, back and subscribed.
    pub back: u64,
    /// Of those back, so many had received nothing when the drive ended: since nothing is owed to them before the first they
    /// see, no loss tells of them.
    #[serde(default)]
    pub silent: u64,
    /// Until the last of them was back, in nanoseconds.
    pub until_back_ns: u64,
    /// Handshakes of the storm.
    pub handshake: Latencies,
    /// Of these, so many went on with an earlier TLS session.
    #[serde(default)]
    pub resumed: u64,
    /// Attempts that failed, by cause (and were tried again).
    pub failures: BTreeMap<String, u64>,
}

/// One worker thread, during the measured time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnWorker {
    /// The process it belongs to.
    pub pid: u32,
    /// Its connections.
    pub connections: u64,
    /// CPU time used, in nanoseconds.
    pub cpu_ns: u64,
    /// Time it was ready to run while its core was somebody else's, in nanoseconds.
    pub waited_ns: u64,
    /// The measured time by its own clock, in nanoseconds.
    pub wall_ns: u64,
    /// How long whatever was ready waited in this worker before it was looked at, each turn of the loop.
    pub lag: Latencies,
    /// The greatest memory of its process, in bytes.
    pub rss_bytes: u64,
}

/// A piece of the measured time: usually a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it begins, after the beginning of the measured time (negative during the warm-up), in nanoseconds.
    pub begin_ns: i64,
    /// Its length in nanoseconds.
    pub length_ns: u64,
    /// Publications sent in it.
    pub published: u64,
    /// Deliveries received in it.
    pub received: u64,
    /// Bytes received in it.
    pub wire_bytes: u64,
    /// Skipped sequence numbers seen in it.
    pub gaps: u64,
    /// Connections open at its end.
    pub connections: u64,
    /// Corrected latencies of the deliveries received in it.
    pub corrected: Latencies,
    /// The greatest lag of a worker in it, in nanoseconds.
    pub lag_max_ns: u64,
    /// The greatest share of a core that a worker used in it.
    pub cpu_share_max: f64,
}

/// Causes that are told apart: a peer that makes up new ones fills neither the memory nor a page.
const CAUSES_MAX: usize = 100;

/// Counts one more of a cause.
pub fn count_cause(causes: &mut BTreeMap<String, u64>, cause: String) {
    let is_told = causes.len() < CAUSES_MAX || causes.contains_key(&cause);
    *causes.entry(if is_told { cause } else { "other causes".into() }).or_default() += 1;
}

fn merge_counts(into: &mut BTreeMap<String, u64>, from: &BTreeMap<String, u64>) {
    for (cause, count) in from {
        *into.entry(cause.clone()).or_default() += count;
    }
}

impl Connecting {
    /// Adds what another worker saw in the same phase.
    pub fn merge(&mut self, other: &Self) {
        self.wanted += other.wanted;
        self.connected += other.connected;
        merge_counts(&mut self.failures, &other.failures);
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.handshake.merge(&other.handshake);
        self.resumed += other.resumed;
    }
}

impl Measurement {
    /// Adds what another worker, or another slice, measured. `window_ns` stays: who adds slices adds it.
    pub fn merge(&mut self, other: &Self) {
        self.published += other.published;
        self.received += other.received;
        self.corrected.merge(&other.corrected);
        self.service.merge(&other.service);
        self.completion.merge(&other.completion);
        self.schedule_error.merge(&other.schedule_error);
        self.publish_answer.merge(&other.publish_answer);
        self.subscriber_medians.merge(&other.subscriber_medians);
        self.others.merge(&other.others);
        self.tally.merge(&other.tally);
        if let Some(other) = &other.storm {
            self.storm.get_or_insert_default().merge(other);
        }
        self.workers.extend(other.workers.iter().cloned());
    }
}

impl Tally {
    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Self) {
        self.published += other.published;
        self.late += other.late;
        self.unsent += other.unsent;
        self.refused += other.refused;
        self.incomplete += other.incomplete;
        self.foreign += other.foreign;
        self.corrupted += other.corrupted;
        merge_counts(&mut self.closed, &other.closed);
        self.wire_bytes += other.wire_bytes;
        self.payload_bytes += other.payload_bytes;
        self.deflated_connections += other.deflated_connections;
        self.messages += other.messages;
        self.deflated_messages += other.deflated_messages;
        self.deflated_bytes += other.deflated_bytes;
        self.inflated_bytes += other.inflated_bytes;
        for (role, tally) in &other.roles {
            self.roles.entry(role.clone()).or_default().merge(tally);
        }
    }

    /// The tally of the subscribers.
    pub fn subscribers(&self) -> RoleTally {
        self.roles.get("subscriber").copied().unwrap_or_default()
    }
}

impl RoleTally {
    /// Adds what others of this role saw.
    pub fn merge(&mut self, other: &Self) {
        self.expected += other.expected;
        self.received += other.received;
        self.lost += other.lost;
        self.gaps += other.gaps;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
    }
}

impl StormOutcome {
    /// Adds what another worker saw of the same storm.
    pub fn merge(&mut self, other: &Self) {
        self.dropped += other.dropped;
        self.back += other.back;
        self.silent += other.silent;
        self.until_back_ns = self.until_back_ns.max(other.until_back_ns);
        self.handshake.merge(&other.handshake);
        self.resumed += other.resumed;
        merge_counts(&mut self.failures, &other.failures);
    }
}

impl Interval {
    /// Adds what another worker saw of the same piece of time.
    pub fn merge(&mut self, other: &Self) {
        self.length_ns = self.length_ns.max(other.length_ns);
        self.published += other.published;
        self.received += other.received;
        self.wire_bytes += other.wire_bytes;
        self.gaps += other.gaps;
        self.connections += other.connections;
        self.corrected.merge(&other.corrected);
        self.lag_max_ns = self.lag_max_ns.max(other.lag_max_ns);
        self.cpu_share_max = self.cpu_share_max.max(other.cpu_share_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_makes_up_causes_is_counted_and_fills_nothing() {
        let mut causes = BTreeMap::new();
        (0..1_000).for_each(|n| count_cause(&mut causes, format!("message of {n} bytes")));
        count_cause(&mut causes, "message of 7 bytes".into());
        assert_eq!((causes.len(), causes.values().sum()), (CAUSES_MAX + 1, 1_001_u64));
        assert_eq!((causes["message of 7 bytes"], causes["other causes"]), (2, 900));
    }
}
