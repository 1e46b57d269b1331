//! What came out of the rounds: a table for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::contestants::Contestant;
use crate::driver::Load;
use crate::rounds::{MAX_DISTURBANCE, Outcome, Plan};

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (&min, &max) = (values.first()?, values.last()?);
        let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: (low + high) / 2.0, min, max })
    }

    fn show(self, decimals: usize) -> String {
        let figure = |value| group_thousands(&format!("{value:.decimals$}"));
        format!("{} ({}–{})", figure(self.median), figure(self.min), figure(self.max))
    }

    fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// A row of the table: what a round says about it, if anything.
struct Row {
    label: &'static str,
    key: &'static str,
    decimals: usize,
    value: fn(&Outcome, &Reference) -> Option<f64>,
}

/// The send loop's outcome in each round, which the ratios are to.
type Reference = BTreeMap<usize, (f64, f64)>;

const ROWS: &[Row] = &[
    row("deliveries/s", "deliveries_per_s", 0, |o, _| Some(o.deliveries_per_s())),
    row("  × send-loop", "deliveries_per_s_to_send_loop", 2, |o, r| Some(o.deliveries_per_s() / r.get(&o.round)?.0)),
    row("server CPU ns/delivery", "server_ns_per_delivery", 1, |o, _| Some(o.server_ns_per_delivery())),
    row("  × send-loop", "server_ns_per_delivery_to_send_loop", 3, |o, r| {
        Some(o.server_ns_per_delivery() / r.get(&o.round)?.1)
    }),
    row("deliveries per server CPU s", "deliveries_per_server_cpu_s", 0, |o, _| Some(1e9 / o.server_ns_per_delivery())),
    row("server CPU, % of a core", "server_cpu_percent", 1, |o, _| {
        Some(100.0 * o.server_cpu.used().as_secs_f64() / o.phase.elapsed.as_secs_f64())
    }),
    row("latency p50, µs", "latency_p50_us", 0, |o, _| Some(quantile_us(&o.phase.received.latency_ns, 0.5))),
    row("latency p99, µs", "latency_p99_us", 0, |o, _| Some(quantile_us(&o.phase.received.latency_ns, 0.99))),
    row("last subscriber p50, µs", "completion_p50_us", 0, |o, _| {
        Some(quantile_us(&o.phase.received.completion_ns, 0.5))
    }),
    row("last subscriber p99, µs", "completion_p99_us", 0, |o, _| {
        Some(quantile_us(&o.phase.received.completion_ns, 0.99))
    }),
    row("frames per send()", "frames_per_send", 1, |o, _| {
        o.totals.map(|(totals, deliveries)| deliveries as f64 / totals.sends as f64)
    }),
    row("dropped by the server", "dropped", 0, |o, _| o.totals.map(|(totals, _)| totals.dropped as f64)),
    row("gaps", "gaps", 0, |o, _| Some(o.phase.received.gaps as f64)),
    row("client CPU, % of its core", "client_cpu_percent", 1, |o, _| Some(100.0 * o.client_cpu_share())),
    row("waited for a core, % of time", "disturbance_percent", 1, |o, _| Some(100.0 * o.disturbance())),
];

const fn row(
    label: &'static str,
    key: &'static str,
    decimals: usize,
    value: fn(&Outcome, &Reference) -> Option<f64>,
) -> Row {
    Row { label, key, decimals, value }
}

/// All outcomes of a run, by contestant.
#[derive(Debug)]
pub struct Report<'a> {
    plan: &'a Plan,
    outcomes: &'a [Outcome],
    send_loop: Reference,
}

impl<'a> Report<'a> {
    /// A report on what `plan` gave.
    pub fn new(plan: &'a Plan, outcomes: &'a [Outcome]) -> Self {
        let send_loop = outcomes.iter().filter(|outcome| outcome.contestant == Contestant::SendLoop);
        let figures = |outcome: &Outcome| (outcome.deliveries_per_s(), outcome.server_ns_per_delivery());
        Self { plan, outcomes, send_loop: send_loop.map(|outcome| (outcome.round, figures(outcome))).collect() }
    }

    /// The spread of the figure with this JSON key over the rounds of `contestant`.
    pub fn figure(&self, contestant: Contestant, key: &str) -> Option<Spread> {
        self.spread(contestant, ROWS.iter().find(|row| row.key == key)?)
    }

    /// The rounds in which something was lost, repeated or cut off.
    pub fn incomplete(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| !outcome.is_complete())
    }

    /// The table, and below it what one must know to read it.
    pub fn table(&self) -> String {
        let mut lines = vec![self.cells("", |contestant| contestant.name().to_owned())];
        for row in ROWS {
            lines.push(self.cells(row.label, |contestant| {
                self.spread(contestant, row).map_or_else(|| "-".to_owned(), |spread| spread.show(row.decimals))
            }));
        }
        lines.push(self.cells("void rounds (client limits)", |contestant| {
            let mut rounds = self.of(contestant).peekable();
            let count = rounds.peek().map_or(0, |_| self.of(contestant).count());
            format!("{} of {count}", rounds.filter(|outcome| outcome.is_void()).count())
        }));
        let mut text = format!("{}\nmedian (min–max) over the rounds\n\n{}", self.headline(), align(&lines));
        self.push_remarks(&mut text);
        text
    }

    /// The same for programs, with every round.
    pub fn to_json(&self) -> Value {
        let contestants: serde_json::Map<_, _> = self
            .plan
            .contestants
            .iter()
            .map(|&contestant| {
                let figures =
                    ROWS.iter().filter_map(|row| Some((row.key.into(), self.spread(contestant, row)?.to_json())));
                let rounds: Vec<_> = self.of(contestant).map(|outcome| self.round_to_json(outcome)).collect();
                let figures: serde_json::Map<_, _> = figures.collect();
                (contestant.name().into(), json!({ "figures": figures, "rounds": rounds }))
            })
            .collect();
        json!({
            "subscribers": self.plan.subscribers,
            "payload_bytes": self.plan.payload_bytes,
            "load": match self.plan.load {
                Load::InFlight(publications) => json!({ "in_flight": publications }),
                Load::Rate(per_s) => json!({ "rate_per_s": per_s }),
            },
            "duration_s": self.plan.duration.as_secs_f64(),
            "warm_up_s": self.plan.warm_up.as_secs_f64(),
            "server_cpu": self.plan.placement.server_cpu,
            "client_cpu": self.plan.placement.client_cpu,
            "machine": machine(),
            "contestants": contestants,
        })
    }

    fn round_to_json(&self, outcome: &Outcome) -> Value {
        let figures =
            ROWS.iter().filter_map(|row| Some((row.key.to_owned(), json!((row.value)(outcome, &self.send_loop)?))));
        let mut object: serde_json::Map<_, _> = figures.collect();
        let received = &outcome.phase.received;
        object.insert("round".into(), json!(outcome.round));
        object.insert("void".into(), json!(outcome.is_void()));
        object.insert("stalled".into(), json!(outcome.phase.stalled));
        object.insert("publications".into(), json!(outcome.phase.publications));
        object.insert("deliveries".into(), json!(received.deliveries));
        object.insert("repeated".into(), json!(received.repeated));
        object.insert("alien".into(), json!(received.alien));
        object.insert("closed".into(), json!(received.closed));
        object.insert("elapsed_s".into(), json!(outcome.phase.elapsed.as_secs_f64()));
        Value::Object(object)
    }

    fn headline(&self) -> String {
        let load = match self.plan.load {
            Load::InFlight(publications) => format!("{publications} publications in flight"),
            Load::Rate(per_s) => format!("{per_s} publications/s"),
        };
        let (plan, placement) = (self.plan, self.plan.placement);
        let cpu = |cpu: Option<usize>| cpu.map_or_else(|| "any CPU".to_owned(), |cpu| format!("CPU {cpu}"));
        format!(
            "{} subscribers, {} B, {load}; {} rounds of {} s; server on {}, client on {}; {}",
            plan.subscribers,
            plan.payload_bytes,
            plan.rounds,
            plan.duration.as_secs_f64(),
            cpu(placement.server_cpu),
            cpu(placement.client_cpu),
            machine(),
        )
    }

    fn push_remarks(&self, text: &mut String) {
        if self.outcomes.iter().any(Outcome::is_void) {
            text.push_str(
                "\nvoid: the client used over 90 % of its core. Throughput and latency of such a round are the client's \
                 (the server does at least that); the server's CPU per delivery stands.\n",
            );
        }
        let disturbed = self.outcomes.iter().filter(|outcome| outcome.disturbance() > MAX_DISTURBANCE).count();
        if disturbed > 0 {
            let _ = writeln!(
                text,
                "\nDISTURBED: in {disturbed} of {} rounds server or client waited for their core for over {} % of the \
                 time. Do not trust what is by the wall clock; repeat on a quiet machine.",
                self.outcomes.len(),
                100.0 * MAX_DISTURBANCE,
            );
        }
        for outcome in self.incomplete() {
            let (received, stalled) = (&outcome.phase.received, if outcome.phase.stalled { ", stalled" } else { "" });
            let _ = writeln!(
                text,
                "\nINCOMPLETE: {} in round {}: {} gaps, {} repeated, {} alien, {} closed{stalled}",
                outcome.contestant.name(),
                outcome.round,
                received.gaps,
                received.repeated,
                received.alien,
                received.closed,
            );
        }
    }

    fn of(&self, contestant: Contestant) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(move |outcome| outcome.contestant == contestant)
    }

    fn spread(&self, contestant: Contestant, row: &Row) -> Option<Spread> {
        Spread::of(self.of(contestant).filter_map(|outcome| (row.value)(outcome, &self.send_loop)))
    }

    fn cells(&self, label: &str, cell: impl Fn(Contestant) -> String) -> Vec<String> {
        std::iter::once(label.to_owned()).chain(self.plan.contestants.iter().map(|&c| cell(c))).collect()
    }
}

fn quantile_us(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e3
}

/// Columns as wide as their widest cell: the first to the left, the others to the right.
fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| Some(line.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text.extend(cells);
        text.push('\n');
    }
    text
}

fn group_thousands(figure: &str) -> String {
    let (whole, fraction) = figure.split_at(figure.find('.').unwrap_or(figure.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

/// The processor and the kernel, for whoever reads the figures elsewhere.
fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {model}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_of_an_even_number_of_values() {
        assert_eq!(Spread::of([4.0, 1.0, 3.0]), Some(Spread { median: 3.0, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([4.0, 1.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn thousands_are_grouped() {
        for (plain, grouped) in [("1", "1"), ("999", "999"), ("1000", "1,000"), ("-1234567.25", "-1,234,567.25")] {
            assert_eq!(group_thousands(plain), grouped);
        }
    }

    #[test]
    fn columns_line_up() {
        let lines = [vec!["".into(), "a".into()], vec!["µs".into(), "1,000".into()]];
        assert_eq!(align(&lines), "        a\nµs  1,000\n");
    }
}
