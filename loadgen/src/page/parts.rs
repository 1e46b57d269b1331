//! The tables of a result's page: who got what, how connections came to be, what both sides used, where it was made.

use maud::{Markup, html};

use super::layout::list;
use crate::measure::{Interval, Latencies, StormOutcome, Tally};
use crate::record::figures::{Unit, find, grouped, significant};
use crate::record::{Environment, Repetition, Report, words};

/// So many repetitions are drawn one by one; more would make a page of many megabytes.
const DRAWN_MAX: usize = 12;

/// Intervals in all tables of a page together; more are left out, and are in `report.json`.
const ROWS_MAX: usize = 3000;

/// The repetitions that are drawn one by one.
pub fn drawn(mut repetitions: Vec<&Repetition>) -> Vec<&Repetition> {
    repetitions.truncate(DRAWN_MAX);
    repetitions
}

pub fn count(count: u64) -> String {
    grouped(count as f64)
}

pub fn ns(ns: u64) -> String {
    Unit::Nanoseconds.format(ns as f64)
}

fn bytes(bytes: u64) -> String {
    Unit::Bytes.format(bytes as f64)
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// A count that is worth a row only if it is not zero.
fn unless_zero(name: &str, value: u64) -> (String, String) {
    pair(name, if value == 0 { String::new() } else { count(value) })
}

fn quantiles(latencies: &Latencies) -> String {
    if latencies.is_empty() {
        return String::new();
    }
    let [p50, p99] = [0.5, 0.99].map(|quantile| ns(latencies.quantile_ns(quantile)));
    format!("p50 {p50}, p99 {p99}, max {}", ns(latencies.max_ns()))
}

fn causes(causes: &std::collections::BTreeMap<String, u64>) -> String {
    let causes: Vec<_> = causes.iter().map(|(cause, n)| format!("{cause}: {}", count(*n))).collect();
    causes.join(" · ")
}

/// All repetitions' histograms of one kind, merged.
fn merged<'a>(repetitions: &[&'a Repetition], of: impl Fn(&'a Repetition) -> &'a Latencies) -> Latencies {
    let mut merged = Latencies::default();
    repetitions.iter().for_each(|repetition| merged.merge(of(repetition)));
    merged
}

/// Roles and counts.
pub fn deliveries(report: &Report) -> Markup {
    let usable = report.usable();
    let tally = words::tally(&usable);
    let medians = merged(&usable, |repetition| &repetition.measurement.subscriber_medians);
    let others = merged(&usable, |repetition| &repetition.measurement.others);
    html! {
        section {
            h2 { "Deliveries" }
            p.note { "Counted over whole repetitions, warm-up included, so that the sums come out exactly." }
            (roles(&tally))
            div.columns {
                (list(&publications(&tally)))
                (list(&[
                    pair("ended by the server", causes(&tally.closed)),
                    pair("medians of single subscribers", quantiles(&medians)),
                    pair("slow readers and churners", quantiles(&others)),
                    pair("fairness (p99 / p50 of medians)", fairness(&usable)),
                ]))
            }
        }
    }
}

fn fairness(repetitions: &[&Repetition]) -> String {
    let figure = find("fairness");
    let spread = figure.and_then(|figure| Some((figure, figure.spread(repetitions.iter().copied())?)));
    spread.map_or(String::new(), |(figure, spread)| figure.format(spread.median))
}

fn roles(tally: &Tally) -> Markup {
    let mut roles: Vec<_> = tally.roles.iter().collect();
    // Those whose deliveries are measured come first.
    roles.sort_by_key(|(role, _)| *role != "subscriber");
    html! {
        div.scroll { table {
            thead { tr {
                th { "role" } th { "expected" } th { "received" } th { "lost" } th { "gaps" } th { "duplicates" }
                th { "reordered" }
            } }
            tbody { @for (role, of) in roles { tr {
                td { (role) }
                @for n in [of.expected, of.received, of.lost, of.gaps, of.duplicates, of.reordered] { td { (count(n)) } }
            } } }
        } }
    }
}

fn publications(tally: &Tally) -> Vec<(String, String)> {
    let size = |bytes_in_all: u64| if bytes_in_all == 0 { String::new() } else { bytes(bytes_in_all) };
    vec![
        pair("publications sent", count(tally.published)),
        pair("sent late", count(tally.late)),
        unless_zero("due but never sent", tally.unsent),
        unless_zero("refused", tally.refused),
        unless_zero("not complete", tally.incomplete),
        unless_zero("corrupted messages", tally.corrupted),
        unless_zero("messages without marker", tally.foreign),
        pair("bytes on the wire", size(tally.wire_bytes)),
        pair("bytes of payload", size(tally.payload_bytes)),
        unless_zero("compressed connections", tally.deflated_connections),
        unless_zero("compressed messages", tally.deflated_messages),
        pair("their bytes as they came", size(tally.deflated_bytes)),
        pair("their bytes inflated", size(tally.inflated_bytes)),
    ]
}

/// The number of a repetition, with a mark if its figures must not be used.
pub fn number(n: usize, repetition: &Repetition) -> Markup {
    html! {
        (n + 1)
        @if !repetition.void.is_empty() { " " span.tag.void { "VOID" } }
        @else if !repetition.complete { " " span.tag.incomplete { "cut" } }
    }
}

/// The connection phase and the storm.
pub fn connections(report: &Report) -> Markup {
    let all = &report.repetitions;
    let of = all.iter().enumerate().filter(|(_, repetition)| repetition.connecting.wanted > 0);
    html! {
        section {
            h2 { "Connections" }
            div.scroll { table {
                thead { tr {
                    th { "repetition" } th { "wanted" } th { "connected" } th { "took" } th { "a second" }
                    th { "handshake p50" } th { "p99" } th { "max" } th.left { "failures" }
                } }
                tbody { @for (n, repetition) in of { tr {
                    @let connecting = &repetition.connecting;
                    td { (number(n, repetition)) } td { (count(connecting.wanted)) } td { (count(connecting.connected)) }
                    td { (ns(connecting.elapsed_ns)) }
                    td { (value("connects", repetition)) }
                    td { (ns(connecting.handshake.quantile_ns(0.5))) }
                    td { (ns(connecting.handshake.quantile_ns(0.99))) }
                    td { (ns(connecting.handshake.max_ns())) }
                    td.long { (causes(&connecting.failures)) }
                } } }
            } }
            @for (n, repetition) in all.iter().enumerate() {
                @if let Some(storm) = &repetition.measurement.storm { (storm_row(n + 1, storm)) }
            }
        }
    }
}

fn value(key: &str, repetition: &Repetition) -> String {
    let figure = find(key).and_then(|figure| Some((figure, figure.value(repetition)?)));
    figure.map_or("–".into(), |(figure, value)| figure.format(value))
}

fn storm_row(number: usize, storm: &StormOutcome) -> Markup {
    html! {
        h3 { "Reconnect storm of repetition " (number) }
        (list(&[
            pair("dropped at once", count(storm.dropped)),
            pair("back", count(storm.back)),
            pair("until the last was back", ns(storm.until_back_ns)),
            pair("handshakes", quantiles(&storm.handshake)),
            unless_zero("of these, resumed TLS sessions", storm.resumed),
            pair("failed attempts", causes(&storm.failures)),
        ]))
    }
}

/// The server's process beside the load generator's workers.
pub fn both_sides(report: &Report) -> Markup {
    let all = report.repetitions.as_slice();
    html! {
        section {
            h2 { "What both sides used" }
            @if all.iter().any(|repetition| repetition.server.is_some()) {
                h3 { "The server" }
                (servers(all))
            }
            h3 { "The load generator's workers" }
            (workers(all))
        }
    }
}

fn servers(repetitions: &[Repetition]) -> Markup {
    let with = repetitions.iter().enumerate().filter_map(|(n, r)| Some((n, r, r.server.as_ref()?)));
    html! {
        div.scroll { table {
            thead { tr {
                th { "repetition" } th { "CPU" } th { "user" } th { "system" } th { "cores" } th { "waited for a core" }
                th { "CPU a delivery" } th { "memory" } th { "a connection" } th { "kernel TCP" } th { "threads" }
            } }
            tbody { @for (n, repetition, server) in with { tr {
                td { (number(n, repetition)) } td { (ns(server.cpu_ns)) } td { (ns(server.user_ns)) } td { (ns(server.system_ns)) }
                td { (share(server.cpu_ns, server.wall_ns)) } td { (ns(server.waited_ns)) }
                td { (value("server-cpu", repetition)) } td { (bytes(server.rss_bytes)) }
                td { (value("server-rss", repetition)) } td { (bytes(server.kernel_tcp_bytes)) }
                td { (count(server.threads)) }
            } } }
        } }
    }
}

fn share(part: u64, of: u64) -> String {
    if of == 0 { "–".into() } else { Unit::Share.format(part as f64 / of as f64) }
}

fn workers(repetitions: &[Repetition]) -> Markup {
    let all = repetitions.iter().enumerate().flat_map(|(n, r)| r.measurement.workers.iter().map(move |w| (n, r, w)));
    html! {
        div.scroll { table {
            thead { tr {
                th { "repetition" } th { "process" } th { "connections" } th { "CPU" } th { "share of a core" }
                th { "waited for a core" } th { "lag p50" } th { "lag p99" } th { "lag max" } th { "memory" }
            } }
            tbody { @for (n, repetition, worker) in all { tr {
                td { (number(n, repetition)) } td { (worker.pid) } td { (count(worker.connections)) } td { (ns(worker.cpu_ns)) }
                td { (share(worker.cpu_ns, worker.wall_ns)) } td { (ns(worker.waited_ns)) }
                td { (ns(worker.lag.quantile_ns(0.5))) } td { (ns(worker.lag.quantile_ns(0.99))) }
                td { (ns(worker.lag.max_ns())) } td { (bytes(worker.rss_bytes)) }
            } } }
        } }
    }
}

/// What the machine can do at all, beside what was measured.
pub fn ceiling(report: &Report) -> Markup {
    let Some(ceiling) = &report.ceiling else { return Markup::default() };
    let usable = report.usable();
    let times = |key: &str, bare: f64| {
        let ours = find(key).and_then(|figure| figure.spread(usable.iter().copied()));
        ours.filter(|_| bare > 0.0).map_or("–".into(), |ours| format!("{}×", significant(ours.median / bare)))
    };
    let figure = |key: &str| {
        let figure = find(key).and_then(|figure| Some((figure, figure.spread(usable.iter().copied())?)));
        figure.map_or("–".into(), |(figure, spread)| figure.format(spread.median))
    };
    let rows = [
        ("completion p50", ceiling.completion.quantile_ns(0.5) as f64, "completion-p50"),
        ("completion p99", ceiling.completion.quantile_ns(0.99) as f64, "completion-p99"),
        ("p50", ceiling.latency.quantile_ns(0.5) as f64, "p50"),
        ("p99", ceiling.latency.quantile_ns(0.99) as f64, "p99"),
        ("CPU per delivery", ceiling.cpu_per_delivery_ns, "server-cpu"),
    ];
    html! {
        section {
            h2 { "This machine's ceiling" }
            p.note {
                "A bare loop of send() to " (count(ceiling.sockets)) " sockets, " (count(ceiling.payload_bytes))
                " bytes each, without any server: what sending alone costs here. It sends "
                (Unit::PerSecond.format(ceiling.sends_per_s)) " with one call a frame and "
                (Unit::PerSecond.format(ceiling.coalesced_per_s)) " with 64 frames a call."
            }
            div.scroll { table {
                thead { tr { th { "figure" } th { "bare loop" } th { "this server" } th { "times" } } }
                tbody { @for (name, bare, key) in rows { tr {
                    td { (name) } td { (Unit::Nanoseconds.format(bare)) } td { (figure(key)) }
                    td.median { (times(key, bare)) }
                } } }
            } }
        }
    }
}

/// Environment, scenario and command line.
pub fn circumstances(report: &Report) -> Markup {
    let scenario = toml::to_string(&report.scenario).unwrap_or_else(|error| format!("# {error}"));
    html! {
        section {
            h2 { "How it was made" }
            (list(&environment_rows(&report.environment)))
            h3 { "Command line" }
            pre { (report.command.join(" ")) }
            details { summary { "The whole scenario, flags applied" } pre { (scenario) } }
        }
    }
}

/// What is known of where a run was made, by name.
pub fn environment_rows(environment: &Environment) -> Vec<(String, String)> {
    let size = |n: u64| if n == 0 { String::new() } else { bytes(n) };
    let [one, five, fifteen] = environment.load_average;
    let mut rows = vec![
        pair("server", &*environment.server_revision),
        pair("server's command", environment.server_command.join(" ")),
        pair("loadgen", &*environment.loadgen),
        pair("host", &*environment.host),
        pair("kernel", &*environment.kernel),
        pair("CPU", &*environment.cpu),
        pair("cores", environment.cores.to_string()),
        pair("memory", size(environment.memory_bytes)),
        pair("open files", format!("{} (at most {})", count(environment.files.0), count(environment.files.1))),
        pair("load at the start", format!("{one} {five} {fifteen}")),
    ];
    rows.extend(environment.notes.iter().map(|(name, value)| (name.clone(), value.clone())));
    rows.extend(environment.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())));
    rows
}

/// One row an interval, in one of so many tables.
pub fn intervals(intervals: &[Interval], tables: usize) -> Markup {
    let rows = ROWS_MAX / tables.max(1);
    html! {
        div.scroll { table {
            thead { tr {
                th { "second" } th { "connections" } th { "published" } th { "received" } th { "p50" } th { "p99" }
                th { "max" } th { "gaps" } th { "bytes" } th { "lag max" } th { "CPU share" }
            } }
            tbody { @for interval in intervals.iter().take(rows) { tr {
                td { (seconds(interval.begin_ns)) } td { (count(interval.connections)) }
                td { (count(interval.published)) } td { (count(interval.received)) }
                td { (ns(interval.corrected.quantile_ns(0.5))) } td { (ns(interval.corrected.quantile_ns(0.99))) }
                td { (ns(interval.corrected.max_ns())) } td { (count(interval.gaps)) }
                td { (bytes(interval.wire_bytes)) } td { (ns(interval.lag_max_ns)) }
                td { (Unit::Share.format(interval.cpu_share_max)) }
            } } }
        } }
        @if intervals.len() > rows {
            p.note { "The first " (rows) " of " (intervals.len()) "; all are in report.json." }
        }
    }
}

fn seconds(ns: i64) -> String {
    let text = format!("{:.1}", ns as f64 / 1e9);
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}
