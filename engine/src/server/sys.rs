//! The topics `$sys.…`: how the server is, once a second, for the page `/admin`, for `--stats`, and for whoever else
//! subscribes. `$sys.stats` is always published and keeps its last 300, so that a page that is opened later shows the past;
//! `$sys.topics` and `$sys.slow` are only made while somebody listens.
//!
//! Names that begin with `$` are the server's: clients cannot publish to them, and `*` and `>` do not reach them.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Once;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::http::connections::ConnectionAnswer;
use crate::{CloseCause, EngineHandle, Latency, PublishError, RefusalCause, ShardStats, Stats, TopicInfo, TopicRules};
use crate::{DeliveryPolicy, TopicSettings};

/// How it is.
pub const STATS: &str = "$sys.stats";
/// The busiest topics.
pub const TOPICS: &str = "$sys.topics";
/// The connections with the most that waits.
pub const SLOW: &str = "$sys.slow";

/// So many of the newest `$sys.stats` are kept.
const HISTORY: usize = 300;
/// Topics and connections in their lists.
const LISTED: usize = 20;
/// Looking takes at most one part in so many of the time: with very many topics, the looks become rarer.
const SHARE: u32 = 50;

/// Gives the topics `$sys.…` their settings, unless there is a rule of the same pattern.
pub fn add_rules(rules: &mut TopicRules) {
    let newest = TopicSettings { policy: DeliveryPolicy::Conflate, pending_messages: 4, ..TopicSettings::default() };
    let kept = TopicSettings {
        history_messages: HISTORY,
        history_age: Duration::ZERO,
        policy: DeliveryPolicy::DropOldest,
        pending_messages: 2 * HISTORY,
        ..TopicSettings::default()
    };
    for (pattern, settings) in [("$sys.>", newest), (STATS, kept)] {
        rules.add(pattern, settings).expect("constant patterns");
    }
}

/// Publishes for as long as the engine lives. An interval of 0 publishes nothing.
pub fn start(engine: &EngineHandle, interval: Duration) {
    if interval.is_zero() {
        return;
    }
    let task = engine.clone();
    engine.spawn(async move {
        let mut sampler = Sampler::new(task.clone());
        let mut pause = interval;
        loop {
            tokio::time::sleep(pause).await;
            let began = Instant::now();
            // Each topic is looked at, which takes a while if there are very many: not on the thread that serves HTTP.
            let listed = if is_heard(&task, TOPICS) { LISTED } else { 0 };
            let looked = tokio::task::spawn_blocking(move || {
                let began = Instant::now();
                let sample = sampler.look(listed);
                (sampler, sample, began.elapsed())
            });
            let Ok((back, sample, looking)) = looked.await else { return };
            sampler = back;
            publish(&task, STATS, &sample.report);
            if listed > 0 {
                let topics: Vec<_> = sample.busiest.iter().map(BusyTopic::from).collect();
                publish(&task, TOPICS, &TopicsReport { time_ms: sample.report.time_ms, topics });
            }
            if is_heard(&task, SLOW) {
                let slowest = task.slowest_connections(LISTED).await.value;
                let connections: Vec<_> = slowest.iter().map(ConnectionAnswer::from).collect();
                publish(&task, SLOW, &SlowReport { time_ms: sample.report.time_ms, connections });
            }
            pause = interval.saturating_sub(began.elapsed()).max(looking * SHARE);
        }
    });
}

fn is_heard(engine: &EngineHandle, topic: &str) -> bool {
    engine.topic(topic).is_some_and(|topic| topic.subscribers > 0)
}

fn publish(engine: &EngineHandle, topic: &str, report: &impl Serialize) {
    let Ok(text) = serde_json::to_string(report) else { return };
    match engine.publish(topic, &*text) {
        Ok(_) => {}
        // A setting that leaves no room for reports: said once, for it stays so.
        Err(error @ (PublishError::TooBig { .. } | PublishError::TooManyTopics { .. })) => {
            static SAID: Once = Once::new();
            SAID.call_once(|| tracing::warn!(topic, bytes = text.len(), %error, "a report cannot be published"));
        }
        // A server that is overloaded leaves one out; the next one says so by its counters.
        Err(error) => tracing::debug!(topic, %error, "a report was not published"),
    }
}

/// Looks at the engine again and again, and tells what has happened in between.
#[derive(Debug)]
pub struct Sampler {
    engine: EngineHandle,
    earlier: Stats,
    cpu: Duration,
}

/// What one look gives.
#[derive(Debug)]
pub struct Sample {
    /// What `$sys.stats` says.
    pub report: Report,
    /// The busiest topics, as many as asked for.
    pub busiest: Vec<TopicInfo>,
}

impl Sampler {
    /// Looks for the first time.
    #[must_use]
    pub fn new(engine: EngineHandle) -> Self {
        let earlier = engine.stats(0);
        Self { engine, earlier, cpu: cpu_time() }
    }

    /// Looks again.
    pub fn look(&mut self, busiest: usize) -> Sample {
        let (mut now, cpu) = (self.engine.stats(busiest), cpu_time());
        let busiest = std::mem::take(&mut now.busiest);
        let took = now.uptime.saturating_sub(self.earlier.uptime).max(Duration::from_micros(1));
        let mut report = Report::between(&self.earlier, &now, took);
        report.ready = self.engine.is_ready();
        report.cores = significant(cpu.saturating_sub(self.cpu).as_secs_f64() / took.as_secs_f64());
        (self.earlier, self.cpu) = (now, cpu);
        Sample { report, busiest }
    }
}

/// How the server is: what there is now, and what has happened since the last report, a second.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// What the rates and latencies are over.
    pub interval_ms: u64,
    /// Since the start.
    pub uptime_s: u64,
    /// Whether it takes new connections.
    pub ready: bool,
    /// WebSockets open.
    pub connections: u64,
    /// Connections whose socket does not take what waits for them.
    pub backlogged: u64,
    /// HTTP connections.
    pub http_connections: usize,
    /// Topics, those of the server included.
    pub topics: usize,
    /// Subscriptions to patterns.
    pub patterns: usize,
    /// Publications sequenced.
    pub publications_per_s: f64,
    /// Frames taken by the kernel.
    pub deliveries_per_s: f64,
    /// Messages from clients.
    pub received_messages_per_s: f64,
    /// Bytes from clients.
    pub received_bytes_per_s: f64,
    /// Bytes to clients.
    pub sent_bytes_per_s: f64,
    /// Connections that became WebSockets.
    pub upgrades_per_s: f64,
    /// Publications refused because an inbox was full.
    pub overloaded_per_s: f64,
    /// From sequencing to the kernel; null if there was none.
    pub delivery_ms: Option<Times>,
    /// From sequencing to the last subscriber.
    pub completion_ms: Option<Times>,
    /// Turns of all shards.
    pub turn_ms: Option<Times>,
    /// Deliveries dropped, by reason; `conflated` and `discarded` among them. Only those that happened.
    pub dropped_per_s: BTreeMap<&'static str, f64>,
    /// Connections ended, by cause.
    pub closed_per_s: BTreeMap<&'static str, f64>,
    /// Connections refused, by cause.
    pub refused_per_s: BTreeMap<&'static str, f64>,
    /// Deliveries that wait in queues of connections.
    pub queued: u64,
    /// Deliveries on their way to a shard.
    pub in_flight: u64,
    /// Bytes kept by histories.
    pub history_bytes: u64,
    /// Resident memory of the process; 0 if the system does not tell.
    pub memory_bytes: u64,
    /// Cores that the process kept busy.
    pub cores: f64,
    /// Each shard.
    pub shards: Vec<ShardReport>,
}

/// A shard.
#[derive(Debug, Clone, Serialize)]
pub struct ShardReport {
    /// WebSockets open.
    pub connections: u64,
    /// Those whose socket does not take what waits for them.
    pub backlogged: u64,
    /// Publications that hold room in its inbox.
    pub inbox: usize,
    /// The share of the time in which it was busy, 0 to 1.
    pub busy: f64,
    /// Bytes to clients.
    pub sent_bytes_per_s: f64,
}

/// Measured times in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Times {
    /// How many.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// Nine of ten were no longer.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p999: f64,
    /// None was longer.
    pub max: f64,
}

impl Times {
    fn of(measured: &Latency) -> Option<Self> {
        let at = |share| measured.quantile(share).map(|time| significant(time.as_secs_f64() * 1000.0));
        Some(Self {
            count: measured.count(),
            p50: at(0.5)?,
            p90: at(0.9)?,
            p99: at(0.99)?,
            p999: at(0.999)?,
            max: at(1.0)?,
        })
    }
}

impl Report {
    fn between(before: &Stats, now: &Stats, took: Duration) -> Self {
        let rate = |now: u64, before: u64| per_s(now.saturating_sub(before), took);
        let sum = |stats: &Stats, read: fn(&ShardStats) -> u64| stats.shards.iter().map(read).sum::<u64>();
        let shards_rate = |read: fn(&ShardStats) -> u64| rate(sum(now, read), sum(before, read));
        let (old, new) = (&before.deliveries, &now.deliveries);
        let dropped = [
            ("oldest", new.dropped_oldest, old.dropped_oldest),
            ("newest", new.dropped_newest, old.dropped_newest),
            ("expired", new.dropped_expired, old.dropped_expired),
            ("own", new.dropped_own, old.dropped_own),
            ("unsubscribed", new.dropped_unsubscribed, old.dropped_unsubscribed),
            ("conflated", new.conflated, old.conflated),
            ("discarded", new.discarded, old.discarded),
        ];
        let happened =
            |(name, now, before): (&'static str, u64, u64)| (now > before).then(|| (name, rate(now, before)));
        let closed = CloseCause::ALL.map(|c| (c.label(), now.closed[c as usize], before.closed[c as usize]));
        let refused = RefusalCause::ALL.map(|c| (c.label(), now.refused[c as usize], before.refused[c as usize]));
        let turns = now.shards.iter().zip(&before.shards).map(|(now, before)| now.turns.since(&before.turns));
        let turns: Vec<Latency> = turns.collect();
        let shard = |((now, before), turns): ((&ShardStats, &ShardStats), &Latency)| ShardReport {
            connections: now.connections,
            backlogged: now.backlogged,
            inbox: now.inbox_publications,
            busy: significant((turns.sum().as_secs_f64() / took.as_secs_f64()).min(1.0)),
            sent_bytes_per_s: rate(now.bytes_out, before.bytes_out),
        };
        Self {
            time_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64),
            interval_ms: took.as_millis() as u64,
            uptime_s: now.uptime.as_secs(),
            ready: true,
            connections: sum(now, |shard| shard.connections),
            backlogged: sum(now, |shard| shard.backlogged),
            http_connections: now.http_connections,
            topics: now.topics,
            patterns: now.patterns,
            publications_per_s: rate(new.publications, old.publications),
            deliveries_per_s: rate(new.written, old.written),
            received_messages_per_s: shards_rate(|shard| shard.messages_in),
            received_bytes_per_s: shards_rate(|shard| shard.bytes_in),
            sent_bytes_per_s: shards_rate(|shard| shard.bytes_out),
            upgrades_per_s: shards_rate(|shard| shard.upgrades),
            overloaded_per_s: rate(now.overloaded, before.overloaded),
            delivery_ms: Times::of(&now.delivery.since(&before.delivery)),
            completion_ms: Times::of(&now.completion.since(&before.completion)),
            turn_ms: turns.iter().cloned().reduce(|all, own| all.with(&own)).and_then(|all| Times::of(&all)),
            dropped_per_s: dropped.into_iter().filter_map(happened).collect(),
            closed_per_s: closed.into_iter().filter_map(happened).collect(),
            refused_per_s: refused.into_iter().filter_map(happened).collect(),
            queued: new.queued,
            in_flight: new.in_flight,
            history_bytes: now.history_bytes,
            memory_bytes: memory_bytes(),
            cores: 0.0,
            shards: now.shards.iter().zip(&before.shards).zip(&turns).map(shard).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct TopicsReport<'a> {
    time_ms: u64,
    topics: Vec<BusyTopic<'a>>,
}

#[derive(Debug, Serialize)]
struct BusyTopic<'a> {
    topic: &'a str,
    subscribers: u32,
    publications_per_s: f64,
    deliveries_per_s: f64,
    offset: u64,
    queued: u64,
    dropped: u64,
    policy: &'static str,
}

impl<'a> From<&'a TopicInfo> for BusyTopic<'a> {
    fn from(topic: &'a TopicInfo) -> Self {
        Self {
            topic: &topic.name,
            subscribers: topic.subscribers,
            publications_per_s: rounded(topic.publications_per_s),
            deliveries_per_s: rounded(topic.publications_per_s * f64::from(topic.subscribers)),
            offset: topic.offset,
            queued: topic.deliveries.queued,
            dropped: topic.deliveries.dropped() + topic.deliveries.conflated,
            policy: topic.settings.policy.label(),
        }
    }
}

#[derive(Debug, Serialize)]
struct SlowReport {
    time_ms: u64,
    connections: Vec<ConnectionAnswer>,
}

/// So many in this time, a second.
pub(super) fn per_s(count: u64, took: Duration) -> f64 {
    rounded(count as f64 / took.as_secs_f64().max(1e-6))
}

/// To two digits behind the point.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// To three significant digits: more were not measured.
fn significant(number: f64) -> f64 {
    if number <= 0.0 {
        return 0.0;
    }
    let scale = 10_f64.powi(2 - number.log10().floor() as i32);
    (number * scale).round() / scale
}

/// Resident memory.
fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Time that all threads were on a core.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name, which may have spaces. The 14th and 15th count hundredths of a second, whatever the
    // kernel's own clock is.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let hundredths: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(hundredths * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_kept_of_the_stats_alone() {
        let mut rules = TopicRules::default();
        add_rules(&mut rules);
        assert_eq!(rules.settings(STATS).history_messages, 300);
        assert_eq!(rules.settings(SLOW).history_messages, 0);
        assert_eq!(rules.settings("lobby"), rules.default_settings());
    }

    #[test]
    fn numbers_are_as_long_as_they_are_true() {
        for (number, short) in
            [(0.0, 0.0), (0.012_345, 0.012_3), (1.2345, 1.23), (123_456.0, 123_000.0), (99.96, 100.0)]
        {
            assert!((significant(number) - short).abs() < 1e-9, "{number}: {}", significant(number));
        }
    }

    #[test]
    fn the_system_tells_memory_and_time() {
        assert!(memory_bytes() > 1 << 20);
        let busy = Instant::now();
        while cpu_time().is_zero() {
            assert!(busy.elapsed() < Duration::from_secs(30), "a busy process uses time");
        }
    }
}
