//! The named figures of a repetition: the one list that the terminal's table, `compare`, `--fail-if` and the pages use.
//!
//! A figure is read from one [`Repetition`]; what was not measured is `None`, never zero. How a value is written lies here
//! too, so that the same figure looks the same everywhere.

use crate::measure::{Latencies, Measurement, RoleTally};
use crate::record::Repetition;

/// Which direction is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Less is better, as with latency.
    Lower,
    /// More is better, as with throughput.
    Higher,
    /// It tells something, but is no merit.
    Neither,
}

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// So many a second.
    PerSecond,
    /// Bytes.
    Bytes,
    /// So many.
    Count,
    /// One by another of the same kind; 1 means alike.
    Ratio,
    /// A part of a whole, from 0 to 1; written as a percentage.
    Share,
}

/// One named figure.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name on the command line and in JSON, for example `p99`, `completion-p99`, `server-cpu`.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// Which direction is the better one.
    pub better: Better,
    read: fn(&Repetition) -> Option<f64>,
}

impl Figure {
    /// The figure of one repetition, in [`Self::unit`]; none if it was not measured.
    pub fn value(&self, repetition: &Repetition) -> Option<f64> {
        (self.read)(repetition).filter(|value| value.is_finite())
    }

    /// The figure over several repetitions, those without it left out; none if none has it.
    pub fn spread<'a>(&self, repetitions: impl IntoIterator<Item = &'a Repetition>) -> Option<Spread> {
        Spread::of(repetitions.into_iter().filter_map(|repetition| self.value(repetition)))
    }

    /// A value of this figure as people write it: `12.3 ms`, `1.20M/s`, `4.1 KiB`.
    pub fn format(&self, value: f64) -> String {
        self.unit.format(value)
    }
}

/// A figure over several repetitions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median; of an even number, the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// Of how many.
    pub count: usize,
}

impl Spread {
    /// Of these values; none if there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(values[middle - 1], values[middle])
        } else {
            values[middle]
        };
        Some(Self { median, min, max, count: values.len() })
    }
}

impl Unit {
    /// A value of this unit as people write it: three significant digits; counts in full.
    pub fn format(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => scaled(value, &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")]),
            Self::PerSecond => scaled(value, &[(1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
            Self::Bytes => {
                scaled(value, &[(1_073_741_824.0, " GiB"), (1_048_576.0, " MiB"), (1024.0, " KiB"), (1.0, " B")])
            }
            Self::Count => grouped(value),
            Self::Ratio => format!("{value:.2}×"),
            Self::Share => format!("{}%", significant(value * 100.0)),
        }
    }
}

/// The value in the first unit that it reaches, when rounded.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let (size, name) =
        units.iter().find(|(size, _)| value.abs() >= size * 0.9995).or(units.last()).unwrap_or(&(1.0, ""));
    format!("{}{name}", significant(value / size))
}

/// Three significant digits, but never more than two after the point; whole numbers without a point.
pub fn significant(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        _ if size >= 99.95 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    match text.strip_suffix(".00").or_else(|| text.strip_suffix(".0")) {
        Some(whole) if value.fract() == 0.0 => whole.to_owned(),
        _ => text,
    }
}

/// A count with its thousands set apart: `1,234,567`; halves (of medians) keep their digit.
pub fn grouped(value: f64) -> String {
    let text = if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), ""), |(whole, fraction)| (whole, fraction));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut grouped = String::from(sign);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

/// The figure of this name.
pub fn find(key: &str) -> Option<&'static Figure> {
    FIGURES.iter().find(|figure| figure.key == key)
}

fn quantile(latencies: &Latencies, quantile: f64) -> Option<f64> {
    (!latencies.is_empty()).then(|| latencies.quantile_ns(quantile) as f64)
}

fn max(latencies: &Latencies) -> Option<f64> {
    (!latencies.is_empty()).then(|| latencies.max_ns() as f64)
}

fn per_second(count: u64, elapsed_ns: u64) -> Option<f64> {
    (elapsed_ns > 0).then(|| count as f64 * 1e9 / elapsed_ns as f64)
}

/// Deliveries to subscribers in the measured time, a second.
fn deliveries(measurement: &Measurement) -> Option<f64> {
    per_second(measurement.received, measurement.window_ns)
}

/// A count of the subscribers; none if there were none.
fn of_subscribers(repetition: &Repetition, read: fn(&RoleTally) -> u64) -> Option<f64> {
    repetition.measurement.tally.roles.get("subscriber").map(|tally| read(tally) as f64)
}

/// Publications sent late; none if none were sent.
fn late(repetition: &Repetition) -> Option<f64> {
    let tally = &repetition.measurement.tally;
    (tally.published > 0).then_some(tally.late as f64)
}

/// Messages that came corrupted; none if nobody listened.
fn corrupted(repetition: &Repetition) -> Option<f64> {
    let tally = &repetition.measurement.tally;
    (!tally.roles.is_empty() || tally.corrupted > 0).then_some(tally.corrupted as f64)
}

/// Memory a connection: what the server's process grew by.
fn server_rss(repetition: &Repetition) -> Option<f64> {
    let server = repetition.server.as_ref()?;
    let grown = server.rss_bytes.checked_sub(server.rss_before_bytes)?;
    let known = server.rss_before_bytes > 0 && repetition.connecting.connected > 0;
    known.then(|| grown as f64 / repetition.connecting.connected as f64)
}

/// CPU time of all workers by delivery to a subscriber.
fn own_cpu(repetition: &Repetition) -> Option<f64> {
    let measurement = &repetition.measurement;
    let cpu_ns: u64 = measurement.workers.iter().map(|worker| worker.cpu_ns).sum();
    (measurement.received > 0 && cpu_ns > 0).then(|| cpu_ns as f64 / measurement.received as f64)
}

/// The share of a core of the busiest worker.
fn own_cpu_share(repetition: &Repetition) -> Option<f64> {
    let workers = repetition.measurement.workers.iter().filter(|worker| worker.wall_ns > 0);
    workers.map(|worker| worker.cpu_ns as f64 / worker.wall_ns as f64).reduce(f64::max)
}

/// The lag of the worker that lags most.
fn own_lag(repetition: &Repetition) -> Option<f64> {
    repetition.measurement.workers.iter().filter_map(|worker| quantile(&worker.lag, 0.99)).reduce(f64::max)
}

/// Bytes received for each delivery, to whomever: frames, compressed as they came, heartbeats and all.
fn wire_bytes(repetition: &Repetition) -> Option<f64> {
    let tally = &repetition.measurement.tally;
    let received: u64 = tally.roles.values().map(|role| role.received).sum();
    (received > 0 && tally.wire_bytes > 0).then(|| tally.wire_bytes as f64 / received as f64)
}

/// How much shorter deflate made what came compressed; none if nothing did.
fn compression(repetition: &Repetition) -> Option<f64> {
    let tally = &repetition.measurement.tally;
    (tally.deflated_bytes > 0).then(|| tally.inflated_bytes as f64 / tally.deflated_bytes as f64)
}

/// The share of the messages that came compressed; none where it was agreed on nowhere.
fn compressed(repetition: &Repetition) -> Option<f64> {
    let tally = &repetition.measurement.tally;
    let is_told = tally.deflated_connections > 0 || tally.deflated_messages > 0;
    (is_told && tally.messages > 0).then(|| tally.deflated_messages as f64 / tally.messages as f64)
}

/// How far apart subscribers are: p99 of their medians by the p50 of their medians.
fn fairness(repetition: &Repetition) -> Option<f64> {
    let medians = &repetition.measurement.subscriber_medians;
    Some(quantile(medians, 0.99)? / quantile(medians, 0.5)?.max(1.0))
}

const fn figure(
    key: &'static str,
    title: &'static str,
    unit: Unit,
    better: Better,
    read: fn(&Repetition) -> Option<f64>,
) -> Figure {
    Figure { key, title, unit, better, read }
}

/// A duration; shorter is better.
const fn latency(key: &'static str, title: &'static str, read: fn(&Repetition) -> Option<f64>) -> Figure {
    figure(key, title, Unit::Nanoseconds, Better::Lower, read)
}

/// A count of things that should not happen.
const fn mishaps(key: &'static str, title: &'static str, read: fn(&Repetition) -> Option<f64>) -> Figure {
    figure(key, title, Unit::Count, Better::Lower, read)
}

/// All figures, in the order they are shown. Latencies are corrected (from the intended time) unless named otherwise.
pub static FIGURES: &[Figure] = &[
    latency("p50", "p50", |r| quantile(&r.measurement.corrected, 0.5)),
    latency("p90", "p90", |r| quantile(&r.measurement.corrected, 0.9)),
    latency("p99", "p99", |r| quantile(&r.measurement.corrected, 0.99)),
    latency("p99.9", "p99.9", |r| quantile(&r.measurement.corrected, 0.999)),
    latency("max", "max", |r| max(&r.measurement.corrected)),
    latency("service-p50", "service p50", |r| quantile(&r.measurement.service, 0.5)),
    latency("service-p99", "service p99", |r| quantile(&r.measurement.service, 0.99)),
    latency("completion-p50", "completion p50", |r| quantile(&r.measurement.completion, 0.5)),
    latency("completion-p99", "completion p99", |r| quantile(&r.measurement.completion, 0.99)),
    latency("completion-max", "completion max", |r| max(&r.measurement.completion)),
    figure("deliveries", "deliveries", Unit::PerSecond, Better::Higher, |r| deliveries(&r.measurement)),
    figure("publications", "publications", Unit::PerSecond, Better::Higher, |r| {
        per_second(r.measurement.published, r.measurement.window_ns)
    }),
    latency("schedule-error-p99", "schedule error p99", |r| quantile(&r.measurement.schedule_error, 0.99)),
    figure("wire-bytes", "bytes on the wire per delivery", Unit::Bytes, Better::Lower, wire_bytes),
    figure("compressed", "messages that came compressed", Unit::Share, Better::Neither, compressed),
    figure("compression", "payload by compressed bytes", Unit::Ratio, Better::Neither, compression),
    mishaps("late", "sent late", late),
    mishaps("lost", "lost", |r| of_subscribers(r, |tally| tally.lost)),
    mishaps("gaps", "gaps", |r| of_subscribers(r, |tally| tally.gaps)),
    mishaps("duplicates", "duplicates", |r| of_subscribers(r, |tally| tally.duplicates)),
    mishaps("reordered", "reordered", |r| of_subscribers(r, |tally| tally.reordered)),
    mishaps("corrupted", "corrupted", corrupted),
    latency("handshake-p50", "handshake p50", |r| quantile(&r.connecting.handshake, 0.5)),
    latency("handshake-p99", "handshake p99", |r| quantile(&r.connecting.handshake, 0.99)),
    figure("connects", "connects", Unit::PerSecond, Better::Higher, |r| {
        per_second(r.connecting.connected, r.connecting.elapsed_ns).filter(|rate| *rate > 0.0)
    }),
    latency("server-cpu", "server CPU per delivery", |r| {
        r.server.as_ref().map(|server| server.cpu_per_delivery_ns).filter(|ns| *ns > 0.0)
    }),
    figure("server-rss", "server memory per connection", Unit::Bytes, Better::Lower, server_rss),
    latency("own-cpu", "own CPU per delivery", own_cpu),
    figure("own-cpu-share", "own CPU share", Unit::Share, Better::Lower, own_cpu_share),
    latency("own-lag-p99", "own lag p99", own_lag),
    figure("fairness", "fairness", Unit::Ratio, Better::Lower, fairness),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_with_three_digits_and_their_unit() {
        let cases = [
            (Unit::Nanoseconds, 0.0, "0 ns"),
            (Unit::Nanoseconds, 842.0, "842 ns"),
            (Unit::Nanoseconds, 999.9, "1.00 µs"),
            (Unit::Nanoseconds, 12_345.0, "12.3 µs"),
            (Unit::Nanoseconds, 1_234_567.0, "1.23 ms"),
            (Unit::Nanoseconds, 2_000_000_000.0, "2 s"),
            (Unit::PerSecond, 999_998.0, "1.00M/s"),
            (Unit::PerSecond, 12_345.0, "12.3k/s"),
            (Unit::PerSecond, 100.0, "100/s"),
            (Unit::Bytes, 4198.0, "4.10 KiB"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::Count, 2.5, "2.5"),
            (Unit::Ratio, 1.0, "1.00×"),
            (Unit::Share, 0.4321, "43.2%"),
        ];
        for (unit, value, text) in cases {
            assert_eq!(unit.format(value), text);
        }
    }

    #[test]
    fn every_figure_is_found_by_its_own_key_only() {
        for figure in FIGURES {
            assert!(std::ptr::eq(find(figure.key).expect("a key of the list"), figure), "{}", figure.key);
        }
        assert!(find("p98").is_none());
    }
}
