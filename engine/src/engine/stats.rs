//! The state of the engine at a moment, as values: for programs that want to know what happens, and how fast. Two of them
//! make rates.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::{EngineHandle, TopicInfo};
use crate::close::{CloseCause, RefusalCause};
use crate::metrics::ShardMetrics;
use crate::pubsub::tally::Deliveries;
use crate::pubsub::{Pattern, name};

/// Measured times, two significant digits.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// What was measured after an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut histogram = self.0.clone();
        // The later one holds all of the earlier one; should it not, the whole is as near as can be.
        let _ = histogram.subtract(&earlier.0);
        Self(histogram)
    }

    /// Together with others.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        // Both have the same bounds, so that adding cannot fail.
        let _ = self.0.add(&other.0);
        self
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of them (0 to 1) did not exceed; `None` if there were none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_nanos(self.0.value_at_quantile(share)))
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        // The mean of none is no number.
        if self.0.is_empty() {
            Duration::ZERO
        } else {
            Duration::from_nanos((self.0.mean() * self.0.len() as f64) as u64)
        }
    }
}

/// One shard at a moment.
#[derive(Debug, Clone)]
pub struct ShardStats {
    /// WebSockets open.
    pub connections: u64,
    /// TCP connections, those before their upgrade included.
    pub tcp_connections: u64,
    /// Connections whose socket does not take what waits for them.
    pub backlogged: u64,
    /// Publications that hold room in its inbox.
    pub inbox_publications: usize,
    /// Their bytes.
    pub inbox_bytes: usize,
    /// Bytes received since the start.
    pub bytes_in: u64,
    /// Bytes sent since the start.
    pub bytes_out: u64,
    /// Messages received since the start.
    pub messages_in: u64,
    /// Upgrades accepted since the start.
    pub upgrades: u64,
    /// The times of its turns since the start; their sum is how long it was busy.
    pub turns: Latency,
}

/// The engine at a moment. Counters count from the start of the engine.
#[derive(Debug, Clone)]
pub struct Stats {
    /// How long the engine has been running.
    pub uptime: Duration,
    /// Its shards.
    pub shards: Vec<ShardStats>,
    /// What became of all deliveries.
    pub deliveries: Deliveries,
    /// Publications refused because an inbox was full.
    pub overloaded: u64,
    /// From sequencing to the kernel taking the frame, for each delivery.
    pub delivery: Latency,
    /// From sequencing to the last subscriber served, for each publication.
    pub completion: Latency,
    /// Connections ended, by cause.
    pub closed: [u64; CloseCause::ALL.len()],
    /// Connections refused, by cause.
    pub refused: [u64; RefusalCause::ALL.len()],
    /// HTTP connections on the control thread.
    pub http_connections: usize,
    /// Topics.
    pub topics: usize,
    /// Subscriptions to patterns.
    pub patterns: usize,
    /// Bytes kept by all histories.
    pub history_bytes: u64,
    /// The topics with the most publications a second, most first.
    pub busiest: Vec<TopicInfo>,
}

impl EngineHandle {
    /// Looks at everything, and at each topic once; of those, tells the busiest, at most so many. It takes some
    /// 0.1 ms for a thousand topics, and holds the lock of each shard's histograms for some microseconds; not for a handler.
    #[must_use]
    pub fn stats(&self, busiest: usize) -> Stats {
        let shared = self.shared();
        let survey = self.survey(None, busiest);
        let mut latencies = crate::metrics::Latencies::default();
        let shards = shared.metrics.iter().zip(&shared.inboxes.0).map(|(metrics, inbox)| {
            let own = metrics.latencies.lock().clone();
            latencies.merge(&own);
            ShardStats {
                connections: metrics.open.get(),
                tcp_connections: metrics.connections.get(),
                backlogged: metrics.backlogged.get(),
                inbox_publications: inbox.depth(),
                inbox_bytes: inbox.depth_bytes(),
                bytes_in: metrics.bytes_in.get(),
                bytes_out: metrics.bytes_out.get(),
                messages_in: metrics.messages_in.get(),
                upgrades: metrics.upgrades.get(),
                turns: Latency(own.turn),
            }
        });
        let shards = shards.collect();
        let sum = |read: &dyn Fn(&ShardMetrics) -> u64| shared.metrics.iter().map(read).sum::<u64>();
        Stats {
            uptime: self.uptime(),
            shards,
            deliveries: survey.deliveries,
            overloaded: shared.overloaded.load(Ordering::Relaxed),
            delivery: Latency(latencies.delivery),
            completion: Latency(latencies.completion),
            closed: CloseCause::ALL.map(|cause| sum(&|m| m.closed[cause as usize].get())),
            refused: RefusalCause::ALL.map(|cause| sum(&|m| m.refused[cause as usize].get())),
            http_connections: shared.http_connections.load(Ordering::Relaxed),
            topics: survey.topics,
            patterns: shared.topics.patterns(),
            history_bytes: survey.history_bytes,
            busiest: survey.busiest,
        }
    }

    /// The topics with the most publications a second, of those that match (without a pattern, all whose names do not begin
    /// with `$`), most first, at most so many.
    #[must_use]
    pub fn busiest_topics(&self, pattern: Option<&Pattern>, limit: usize) -> Vec<TopicInfo> {
        self.survey(pattern, limit).busiest
    }

    /// Looks at each topic once.
    fn survey(&self, pattern: Option<&Pattern>, limit: usize) -> Survey {
        let shared = self.shared();
        let now = shared.clock.now();
        let (all, mut deliveries) = shared.topics.all_with_retired();
        let mut survey = Survey { topics: shared.topics.len(), ..Survey::default() };
        let mut best = BinaryHeap::new();
        for (place, topic) in all.iter().enumerate() {
            let snapshot = topic.snapshot(now);
            deliveries.merge(&snapshot.deliveries);
            survey.history_bytes += snapshot.history_bytes as u64;
            // As with a pattern: who does not ask for those that begin with `$` does not get them.
            let is_meant = pattern.map_or(!name::is_reserved(topic.name()), |pattern| pattern.matches(topic.name()));
            if limit == 0 || !is_meant || topic.is_gone() {
                continue;
            }
            // Thousandths, as floating numbers have no order; of equals the first one.
            best.push(Reverse(((snapshot.publications_per_s * 1000.0) as u64, snapshot.offset, Reverse(place))));
            if best.len() > limit {
                best.pop();
            }
        }
        let places = best.into_sorted_vec().into_iter().map(|Reverse((_, _, Reverse(place)))| place);
        survey.busiest = places.map(|place| self.topic_info(&all[place])).collect();
        survey.deliveries = deliveries;
        survey
    }
}

/// What a look at all topics gives.
#[derive(Default)]
struct Survey {
    topics: usize,
    deliveries: Deliveries,
    history_bytes: u64,
    busiest: Vec<TopicInfo>,
}
