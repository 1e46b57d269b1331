//! All metrics as text (OpenMetrics 1.0, which Prometheus reads). Gathered when asked for; nothing of it touches a shard but
//! the copying of its histograms.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::close::{CloseCause, RefusalCause};
use crate::metrics::{Count, Latencies, ShardMetrics, TlsHandshakes};
use crate::shard::shared::Shared;

/// Upper bounds of the exported latency buckets, in microseconds: 1, 2.5, 5 in each decade from 10 µs to 10 s, then 20 s, 30 s, 60 s.
const BUCKETS_US: [u64; 22] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 60_000_000,
];

/// The text of all metrics.
pub fn render(shared: &Arc<Shared>) -> String {
    let mut registry = Registry::with_prefix("fanfare");
    registry.register_collector(Box::new(Scrape(shared.clone())));
    for collector in shared.collectors.lock().iter() {
        registry.register_collector(collector());
    }
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = text::encode(&mut out, &registry);
    out
}

struct Scrape(Arc<Shared>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

type Labels = [(&'static str, String)];
/// Reads one counter or gauge of a shard.
type Read = fn(&ShardMetrics) -> &Count;

/// Counters of each shard: name, help, where to read it.
const COUNTERS: [(&str, &str, Read); 20] = [
    ("accepts", "TCP connections accepted", |m| &m.accepted),
    ("accept_errors", "Times accepting failed", |m| &m.accept_errors),
    ("upgrades", "WebSocket upgrades accepted", |m| &m.upgrades),
    ("http_handovers", "Connections that speak plain HTTP, handed to the control plane", |m| &m.handed_over),
    ("received_bytes", "Bytes received", |m| &m.bytes_in),
    ("sent_bytes", "Bytes sent", |m| &m.bytes_out),
    ("messages_received", "Messages received", |m| &m.messages_in),
    ("messages_direct", "Messages for one connection, taken for sending", |m| &m.messages_direct),
    ("messages_direct_dropped", "Messages for one connection, dropped at its bound", |m| &m.messages_direct_dropped),
    ("pings_received", "Pings received", |m| &m.pings_in),
    ("pongs_received", "Pongs received", |m| &m.pongs_in),
    ("pings_sent", "Pings sent for silence", |m| &m.pings_out),
    ("writes", "Writes to sockets", |m| &m.writes),
    ("writes_blocked", "Writes of which the socket took a part or nothing", |m| &m.writes_blocked),
    ("publishers_paused", "Times a publisher was not read from because an inbox was full", |m| &m.publishers_paused),
    ("rate_pauses", "Times a connection was not read from because it had sent too fast", |m| &m.rate_paused),
    ("rate_dropped", "Messages and pings dropped because a connection had sent too fast", |m| &m.rate_dropped),
    ("pending_total_reached", "Times a queue could not grow because of pending_total_bytes", |m| &m.pending_full),
    ("turns", "Turns of the loop", |m| &m.turns),
    ("handler_panics", "Panics of the program's handler", |m| &m.handler_panics),
];

/// Gauges of each shard.
const GAUGES: [(&str, &str, Read); 4] = [
    ("tcp_connections", "TCP connections of the shard, those before their upgrade included", |m| &m.connections),
    ("tls_connections", "TCP connections of the shard that speak TLS, handshakes included", |m| &m.tls_connections),
    ("connections", "WebSockets open", |m| &m.open),
    ("backlogged_connections", "Connections whose socket does not take what waits for it", |m| &m.backlogged),
];

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shared = &*self.0;
        self.encode_shards(&mut encoder)?;
        self.encode_causes(&mut encoder)?;
        self.encode_tls(&mut encoder)?;
        self.encode_topics(&mut encoder)?;
        counter(&mut encoder, "http_requests", "HTTP requests answered", shared.control.requests.get())?;
        counter(
            &mut encoder,
            "http_upgrades",
            "WebSocket upgrades accepted on connections that had carried HTTP before",
            shared.control.upgrades.get(),
        )?;
        counter(
            &mut encoder,
            "http_upgrades_refused",
            "WebSocket upgrades refused there",
            shared.control.refused.get(),
        )?;
        counter(
            &mut encoder,
            "http_handler_panics",
            "Panics of the program's handler and routes there",
            shared.control.handler_panics.get(),
        )?;
        self.encode_admission(&mut encoder)?;
        let http = shared.http_connections.load(Ordering::Relaxed) as u64;
        gauge(&mut encoder, "http_connections", "Connections on the control plane", http)?;
        let uptime = shared.clock.uptime().as_secs();
        gauge(&mut encoder, "uptime_seconds", "Seconds since the engine started", uptime)?;
        gauge(&mut encoder, "ready", "1 while new connections are welcome", u64::from(shared.is_ready()))?;
        self.encode_latencies(&mut encoder)
    }
}

impl Scrape {
    fn encode_shards(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let by_shard = |read: Read| {
            let shards = self.0.metrics.iter().enumerate();
            shards.map(move |(shard, metrics)| ([("shard", shard.to_string())], read(metrics).get()))
        };
        for (name, help, read) in COUNTERS {
            let rows: Vec<_> = by_shard(read).collect();
            counters(encoder, name, help, &rows)?;
        }
        for (name, help, read) in GAUGES {
            let rows: Vec<_> = by_shard(read).collect();
            gauges(encoder, name, help, &rows)?;
        }
        let inboxes = || self.0.inboxes.0.iter().enumerate();
        let depth: Vec<_> =
            inboxes().map(|(shard, inbox)| ([("shard", shard.to_string())], inbox.depth() as u64)).collect();
        gauges(encoder, "inbox_publications", "Publications waiting in the shard's inbox", &depth)?;
        let bytes: Vec<_> =
            inboxes().map(|(shard, inbox)| ([("shard", shard.to_string())], inbox.depth_bytes() as u64)).collect();
        gauges(encoder, "inbox_bytes", "Bytes of publications waiting in the shard's inbox", &bytes)
    }

    fn encode_causes(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let sum = |read: &dyn Fn(&ShardMetrics) -> u64| self.0.metrics.iter().map(read).sum::<u64>();
        let closed: Vec<_> = CloseCause::ALL
            .into_iter()
            .map(|cause| ([("cause", cause.label().to_owned())], sum(&|m| m.closed[cause as usize].get())))
            .collect();
        counters(encoder, "closed", "WebSockets ended, by cause", &closed)?;
        let refused: Vec<_> = RefusalCause::ALL
            .into_iter()
            .map(|cause| {
                let control = self.0.control.refusals[cause as usize].get();
                ([("cause", cause.label().to_owned())], control + sum(&|m| m.refused[cause as usize].get()))
            })
            .collect();
        counters(encoder, "refused", "Connections refused before they became WebSockets, by cause", &refused)
    }

    /// TLS handshakes of all shards and the control plane.
    fn encode_tls(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut sums = self.0.control.tls_handshakes.get();
        for metrics in &self.0.metrics {
            sums.iter_mut().zip(metrics.tls_handshakes.get()).for_each(|(sum, own)| *sum += own);
        }
        let labels =
            |(version, resumed): (&str, &str)| [("version", version.to_owned()), ("resumed", resumed.to_owned())];
        let rows: Vec<_> = TlsHandshakes::LABELS.into_iter().map(labels).zip(sums).collect();
        counters(encoder, "tls_handshakes", "TLS handshakes completed", &rows)
    }

    /// Who comes in.
    fn encode_admission(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gate = self.0.gate.counts();
        gauge(encoder, "handshakes", "Connections whose first request is not complete", gate.inside as u64)?;
        gauge(encoder, "accepts_waiting", "New connections that wait to be admitted", gate.waiting as u64)?;
        counter(encoder, "accepts_delayed", "New connections that have had to wait to be admitted", gate.delayed)?;
        let addresses = self.0.addresses.len() as u64;
        gauge(encoder, "client_addresses", "Client addresses that have a connection", addresses)
    }

    /// The conservation law over all topics: expected + replayed = all the others.
    fn encode_topics(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let topics = &self.0.topics;
        gauge(encoder, "topics", "Topics", topics.len() as u64)?;
        gauge(encoder, "pattern_subscriptions", "Subscriptions to patterns", topics.patterns() as u64)?;
        let load = |bytes: &std::sync::atomic::AtomicUsize| bytes.load(Ordering::Relaxed) as u64;
        let inbound = load(&self.0.inbound_bytes);
        gauge(encoder, "inbound_bytes", "Bytes of messages half received or not yet handled", inbound)?;
        let pending = load(&self.0.pending_bytes);
        gauge(encoder, "pending_bytes", "Bytes waiting for connections whose sockets do not take them", pending)?;
        gauge(encoder, "history_bytes", "Bytes kept by the histories of all topics", topics.histories.bytes() as u64)?;
        let evicted = topics.histories.evicted();
        counter(encoder, "history_evicted", "Publications given up because of history_total_bytes", evicted)?;
        let overloaded = self.0.overloaded.load(Ordering::Relaxed);
        counter(encoder, "publications_overloaded", "Publications refused because an inbox was full", overloaded)?;
        let panics = self.0.encodings.panics();
        counter(encoder, "encoding_panics", "Panics of the program's encodings; an empty message was sent", panics)?;
        let sum = topics.deliveries(self.0.clock.now());
        counter(encoder, "publications", "Publications sequenced", sum.publications)?;
        counter(encoder, "deliveries_expected", "Subscribers at sequencing, over all publications", sum.expected)?;
        counter(encoder, "deliveries_replayed", "Deliveries from history to new subscribers", sum.replayed)?;
        let outcome =
            |outcome: &str, reason: &str, n: u64| ([("outcome", outcome.to_owned()), ("reason", reason.to_owned())], n);
        let rows = [
            outcome("written", "", sum.written),
            outcome("conflated", "", sum.conflated),
            outcome("dropped", "oldest", sum.dropped_oldest),
            outcome("dropped", "newest", sum.dropped_newest),
            outcome("dropped", "expired", sum.dropped_expired),
            outcome("dropped", "own", sum.dropped_own),
            outcome("dropped", "unsubscribed", sum.dropped_unsubscribed),
            outcome("discarded", "disconnected", sum.discarded),
        ];
        counters(encoder, "deliveries", "What became of deliveries", &rows)?;
        gauge(encoder, "deliveries_queued", "Deliveries waiting in queues of connections", sum.queued)?;
        gauge(encoder, "deliveries_in_flight", "Deliveries on their way to a shard", sum.in_flight)
    }

    fn encode_latencies(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut all = Latencies::default();
        for metrics in &self.0.metrics {
            let own = metrics.latencies.lock().clone();
            all.merge(&own);
        }
        for (name, help, measured) in [
            ("delivery_seconds", "From sequencing to the kernel taking the frame, per delivery", &all.delivery),
            (
                "completion_seconds",
                "From sequencing to the last subscriber served, per publication; a blocked one counts when queued",
                &all.completion,
            ),
            ("turn_seconds", "Time of a turn of the loop, waiting not included", &all.turn),
        ] {
            histogram(encoder, name, help, measured)?;
        }
        Ok(())
    }
}

fn counters<L>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, rows: &[(L, u64)]) -> fmt::Result
where
    L: AsRef<Labels>,
{
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in rows {
        ConstCounter::new(*value).encode(family.encode_family(&labels.as_ref())?)?;
    }
    Ok(())
}

fn gauges<L>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, rows: &[(L, u64)]) -> fmt::Result
where
    L: AsRef<Labels>,
{
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in rows {
        ConstGauge::new(*value).encode(family.encode_family(&labels.as_ref())?)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstCounter::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn histogram(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, measured: &Histogram<u64>) -> fmt::Result {
    let mut buckets = Vec::with_capacity(BUCKETS_US.len() + 1);
    // Differences of running counts, so that a bucket of the histogram that straddles a bound is counted once.
    let mut below = 0;
    for bound in BUCKETS_US {
        let upto = measured.count_between(0, bound * 1000);
        buckets.push((bound as f64 / 1e6, upto - below));
        below = upto;
    }
    let count = measured.len();
    buckets.push((f64::INFINITY, count - below));
    let sum = measured.mean() * measured.len() as f64 / 1e9;
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets, None)
}
