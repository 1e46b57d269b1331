//! What is counted of authentication.

use std::fmt;
use std::sync::Weak;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{Auth, Denied};

/// Upper bounds of how long the program takes to answer, in seconds.
const BUCKETS_S: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// What became of those who wanted something: the labels.
const ALLOWED: [&str; 3] = ["accepted", "anonymous", "waiting"];
/// What became of requests to the program.
const CALLBACK: [&str; 9] =
    ["accepted", "rejected", "forbidden", "timeout", "unreachable", "bad_status", "bad_answer", "paused", "busy"];
/// Why open connections were closed.
const CLOSED: [&str; 4] = ["timeout", "invalid", "expired", "forbidden"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Lookup {
    cache: &'static str,
    result: &'static str,
}

/// The counters.
#[derive(Debug)]
pub struct AuthMetrics {
    decisions: Family<Outcome, Counter>,
    callbacks: Family<Outcome, Counter>,
    callback_seconds: Histogram,
    lookups: Family<Lookup, Counter>,
    closed: Family<Cause, Counter>,
}

impl Default for AuthMetrics {
    fn default() -> Self {
        let metrics = Self {
            decisions: Family::default(),
            callbacks: Family::default(),
            callback_seconds: Histogram::new(BUCKETS_S),
            lookups: Family::default(),
            closed: Family::default(),
        };
        // All of them are there from the beginning, with zero.
        for outcome in ALLOWED.into_iter().chain(Denied::LABELS) {
            drop(metrics.decisions.get_or_create(&Outcome { outcome }));
        }
        CALLBACK.into_iter().for_each(|outcome| drop(metrics.callbacks.get_or_create(&Outcome { outcome })));
        CLOSED.into_iter().for_each(|cause| drop(metrics.closed.get_or_create(&Cause { cause })));
        for cache in ["token", "callback"] {
            for result in ["hit", "miss"] {
                drop(metrics.lookups.get_or_create(&Lookup { cache, result }));
            }
        }
        metrics
    }
}

impl AuthMetrics {
    /// Somebody came in: `accepted`, `anonymous`, or `waiting` for the first message.
    pub fn count_allowed(&self, outcome: &'static str) {
        debug_assert!(ALLOWED.contains(&outcome));
        self.decisions.get_or_create(&Outcome { outcome }).inc();
    }

    /// Somebody did not.
    pub fn count_denied(&self, denied: &Denied) {
        self.decisions.get_or_create(&Outcome { outcome: denied.label() }).inc();
    }

    /// What became of a request to the program.
    pub fn count_callback(&self, outcome: &'static str) {
        debug_assert!(CALLBACK.contains(&outcome));
        self.callbacks.get_or_create(&Outcome { outcome }).inc();
    }

    /// How long the program took, or was waited for.
    pub fn observe_callback(&self, took: Duration) {
        self.callback_seconds.observe(took.as_secs_f64());
    }

    /// Whether something was known already.
    pub fn count_cache(&self, cache: &'static str, hit: bool) {
        self.lookups.get_or_create(&Lookup { cache, result: if hit { "hit" } else { "miss" } }).inc();
    }

    /// An open connection is closed for want of a valid token.
    pub fn count_closed(&self, cause: &'static str) {
        debug_assert!(CLOSED.contains(&cause));
        self.closed.get_or_create(&Cause { cause }).inc();
    }
}

/// Writes them when they are asked for.
#[derive(Debug)]
pub struct AuthCollector(pub Weak<Auth>);

impl Collector for AuthCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(auth) = self.0.upgrade() else { return Ok(()) };
        let metrics = auth.metrics();
        let paused = ConstGauge::new(i64::from(auth.is_callback_paused()));
        let all: [(&str, &str, &dyn Encode); 6] = [
            ("auth_decisions", "What became of those who had to show who they are", &metrics.decisions),
            ("auth_callback_requests", "Requests to the program that decides who clients are", &metrics.callbacks),
            ("auth_callback_seconds", "How long that program took to answer", &metrics.callback_seconds),
            ("auth_callback_paused", "Whether that program is left alone as it does not answer", &paused),
            ("auth_cache_lookups", "Looking up what was found out about credentials before", &metrics.lookups),
            ("auth_closed", "Open connections closed for want of a valid token", &metrics.closed),
        ];
        all.into_iter().try_for_each(|(name, help, metric)| metric.encode(&mut encoder, name, help))
    }
}

/// A metric whatever its type: `EncodeMetric` cannot be a trait object.
trait Encode {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> Encode for M {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        let encoder = encoder.encode_descriptor(name, help, None, self.metric_type())?;
        EncodeMetric::encode(self, encoder)
    }
}
