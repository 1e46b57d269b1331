//! Whether the figures of a repetition may be used, and what a reader should know besides: sentences.

use std::collections::BTreeMap;

use crate::measure::{OwnWorker, Tally};
use crate::record::figures::{Unit, grouped};
use crate::record::{Environment, Repetition};
use crate::scenario::{LoadKind, Scenario};
use crate::terminal::causes;

/// Above this p99 the intended times were not kept well enough for the finest figures.
const SCHEDULE_ERROR_MAX_NS: u64 = 200_000;

/// Above this share of the time without its core a process was disturbed.
const WAITED_SHARE_MAX: f64 = 0.05;

/// What is to be said of a repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why its figures must not be used.
    pub void: Vec<String>,
    /// What a reader should know, though they stand.
    pub warnings: Vec<String>,
}

/// Judges a repetition by its own figures, what the scenario allows, and where it was made.
pub fn judge(scenario: &Scenario, environment: &Environment, repetition: &Repetition) -> Judgement {
    let mut warnings = Vec::new();
    disturbed(environment, repetition, &mut warnings);
    schedule(scenario, repetition, &mut warnings);
    connections(scenario, repetition, &mut warnings);
    deliveries(&repetition.measurement.tally, &mut warnings);
    cost(repetition, &mut warnings);
    Judgement { void: void(scenario, &repetition.measurement.workers), warnings }
}

/// The load generator was itself the bottleneck.
fn void(scenario: &Scenario, workers: &[OwnWorker]) -> Vec<String> {
    let client = &scenario.client;
    let mut void = Vec::new();
    for (n, worker) in workers.iter().enumerate() {
        let cpu = share(worker.cpu_ns, worker.wall_ns);
        if client.cpu_share_max < 1.0 && cpu > client.cpu_share_max {
            void.push(format!(
                "Worker {} used {} of a core, more than client.cpu_share_max allows ({}): the load generator may have \
                 been the bottleneck.",
                n + 1,
                percent(cpu),
                percent(client.cpu_share_max)
            ));
        }
        let lag_ns = worker.lag.quantile_ns(0.99);
        if u128::from(lag_ns) > client.lag_max.0.as_nanos() {
            void.push(format!(
                "What was ready waited {} (p99) in worker {} before it was looked at, longer than client.lag_max allows \
                 ({}).",
                time(lag_ns),
                n + 1,
                client.lag_max
            ));
        }
    }
    void
}

/// Others were on the machine.
fn disturbed(environment: &Environment, repetition: &Repetition, warnings: &mut Vec<String>) {
    let load = environment.load_average[0];
    if environment.cores > 0 && load > f64::from(environment.cores) {
        warnings.push(format!(
            "The load average was {load:.1} at the start, on {} cores: other programs were running.",
            environment.cores
        ));
    }
    for (n, worker) in repetition.measurement.workers.iter().enumerate() {
        let waited = share(worker.waited_ns, worker.wall_ns);
        if waited > WAITED_SHARE_MAX {
            warnings.push(format!(
                "Worker {} waited for its core {} of the time: something else was running on it.",
                n + 1,
                percent(waited)
            ));
        }
    }
    let server = repetition.server.as_ref();
    let waited = server.map_or(0.0, |server| share(server.waited_ns, server.wall_ns));
    if waited > WAITED_SHARE_MAX {
        warnings.push(format!(
            "The server's threads waited for a core {} of the time, all added up: they had not enough cores, or something \
             else was running on them.",
            percent(waited)
        ));
    }
}

/// Publications were not sent when they were intended to be.
fn schedule(scenario: &Scenario, repetition: &Repetition, warnings: &mut Vec<String>) {
    let measurement = &repetition.measurement;
    let tally = &measurement.tally;
    let error_ns = measurement.schedule_error.quantile_ns(0.99);
    if scenario.load.kind != LoadKind::Closed && error_ns > SCHEDULE_ERROR_MAX_NS {
        warnings.push(format!(
            "99% of the publications were sent within {} of their intended time only; within {} would be good.",
            time(error_ns),
            time(SCHEDULE_ERROR_MAX_NS)
        ));
    }
    if tally.late > 0 {
        let after = scenario.client.late_after;
        warnings.push(format!(
            "{} {} sent more than {after} after {} intended time; the corrected latencies hold that delay.",
            of(tally.late, tally.published, "publications"),
            if tally.late == 1 { "was" } else { "were" },
            if tally.late == 1 { "its" } else { "their" },
        ));
    }
    if scenario.connections.publishers > 0 && (tally.published, tally.unsent) == (0, 0) {
        warnings.push("Nothing was published: there was nobody to publish, or to publish to.".into());
    }
    if tally.unsent > 0 {
        let unsent = count(tally.unsent, "publication was", "publications were");
        warnings.push(format!("{unsent} due but never sent: the server took nothing any more."));
    }
    if tally.refused > 0 {
        let refused = count(tally.refused, "publication was", "publications were");
        warnings
            .push(format!("{refused} refused by the server, not answered, or lost with the publisher's connection."));
    }
}

/// Connections were not what was asked for.
fn connections(scenario: &Scenario, repetition: &Repetition, warnings: &mut Vec<String>) {
    let connecting = &repetition.connecting;
    let failed: u64 = connecting.failures.values().sum();
    if failed > 0 {
        let failed = count(failed, "attempt to connect failed", "attempts to connect failed");
        warnings.push(format!("{failed}, and the run went on: {}.", causes(&connecting.failures)));
    }
    let closed: &BTreeMap<String, u64> = &repetition.measurement.tally.closed;
    let ended: u64 = closed.values().sum();
    if ended > 0 {
        warnings.push(format!("The server ended {}: {}.", count(ended, "connection", "connections"), causes(closed)));
    }
    if let Some(storm) = repetition.measurement.storm.as_ref().filter(|storm| storm.back < storm.dropped) {
        let missing = grouped((storm.dropped - storm.back) as f64);
        warnings.push(format!(
            "Of {} connections {missing} never came back after the storm.",
            grouped(storm.dropped as f64)
        ));
    }
    if let Some(storm) = repetition.measurement.storm.as_ref().filter(|storm| storm.silent > 0) {
        let silent = count(storm.silent, "subscriber that was back", "subscribers that were back");
        warnings.push(format!("{silent} after the storm received nothing until the end."));
    }
    let deflated = repetition.measurement.tally.deflated_connections;
    if scenario.target.deflate && deflated < connecting.connected {
        warnings.push(format!(
            "permessage-deflate was offered, but agreed on with only {} of {} connections.",
            grouped(deflated as f64),
            grouped(connecting.connected as f64)
        ));
    }
    let tally = &repetition.measurement.tally;
    if deflated > 0 && tally.deflated_messages == 0 && tally.messages > 0 {
        warnings.push(format!(
            "permessage-deflate was agreed on, but of {} not one came compressed.",
            count(tally.messages, "message", "messages")
        ));
    }
    if scenario.target.tls.insecure {
        warnings.push("The server's certificate was not checked (target.tls.insecure).".into());
    }
}

/// Subscribers did not get each publication once, in order, as it was.
fn deliveries(tally: &Tally, warnings: &mut Vec<String>) {
    let role = tally.subscribers();
    if role.expected > 0 && role.received == 0 {
        warnings.push("Subscribers received nothing at all.".into());
    } else if role.lost > 0 {
        let was = if role.lost == 1 { "was" } else { "were" };
        warnings.push(format!("{} {was} lost.", of(role.lost, role.expected, "deliveries")));
    }
    let mishaps = [(role.duplicates, "came twice"), (role.reordered, "came out of order")];
    for (number, what) in mishaps.into_iter().filter(|(number, _)| *number > 0) {
        warnings.push(format!("{} {what}.", of(number, role.received, "deliveries")));
    }
    if tally.corrupted > 0 {
        warnings.push(format!("{} corrupted.", count(tally.corrupted, "message was", "messages were")));
    }
}

/// Where the load generator works more for a delivery than the server, it is the load generator that is measured.
fn cost(repetition: &Repetition, warnings: &mut Vec<String>) {
    let measurement = &repetition.measurement;
    let Some(server) = repetition.server.as_ref().filter(|server| server.cpu_per_delivery_ns > 0.0) else {
        return;
    };
    let own_ns: u64 = measurement.workers.iter().map(|worker| worker.cpu_ns).sum();
    let own_ns = own_ns as f64 / measurement.received.max(1) as f64;
    if own_ns > server.cpu_per_delivery_ns {
        let format = |ns: f64| Unit::Nanoseconds.format(ns);
        warnings.push(format!(
            "The load generator used more CPU time for a delivery ({}) than the server ({}).",
            format(own_ns),
            format(server.cpu_per_delivery_ns)
        ));
    }
}

fn share(part_ns: u64, whole_ns: u64) -> f64 {
    if whole_ns == 0 { 0.0 } else { part_ns as f64 / whole_ns as f64 }
}

fn percent(share: f64) -> String {
    Unit::Share.format(share)
}

fn time(ns: u64) -> String {
    Unit::Nanoseconds.format(ns as f64)
}

/// `1 connection`, `5 connections`.
fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number as f64), if number == 1 { one } else { many })
}

/// `12 of 1,000 publications`.
fn of(part: u64, whole: u64, what: &str) -> String {
    format!("{} of {} {what}", grouped(part as f64), grouped(whole as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Latencies, StormOutcome};
    use crate::record::ServerUsage;
    use crate::record::sample::Sample;

    /// A repetition of which there is nothing to be said.
    fn good() -> (Scenario, Environment, Repetition) {
        let mut report = Sample { repetitions: 1, seconds: 2, subscribers: 20, ..Sample::default() }.report();
        let mut repetition = report.repetitions.remove(0);
        let measurement = &mut repetition.measurement;
        measurement.workers.truncate(1);
        measurement.workers[0].waited_ns = 0;
        measurement.workers[0].cpu_ns = measurement.received;
        measurement.storm = None;
        let kept = measurement.tally.roles["subscriber"];
        measurement.tally = Tally { published: measurement.tally.published, ..Tally::default() };
        measurement.tally.roles.insert("subscriber".into(), kept);
        repetition.connecting.failures.clear();
        repetition.server = None;
        report.environment.load_average = [0.5; 3];
        (report.scenario, report.environment, repetition)
    }

    fn changed(change: impl FnOnce(&mut Scenario, &mut Environment, &mut Repetition)) -> Judgement {
        let (mut scenario, mut environment, mut repetition) = good();
        change(&mut scenario, &mut environment, &mut repetition);
        judge(&scenario, &environment, &repetition)
    }

    fn slow_latencies(ns: u64) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.record_n(ns, 100);
        latencies
    }

    #[test]
    fn of_a_good_repetition_there_is_nothing_to_say() {
        assert_eq!(changed(|_, _, _| {}), Judgement::default());
    }

    #[test]
    fn a_worker_above_its_share_or_its_lag_makes_it_void_and_one_at_the_bound_does_not() {
        let busy = |share: f64| {
            changed(|_, _, repetition| {
                let worker = &mut repetition.measurement.workers[0];
                (worker.wall_ns, worker.cpu_ns) = (1_000_000_000, (share * 1e9) as u64);
            })
        };
        assert!(busy(0.9).void.is_empty());
        let void = busy(0.91).void;
        assert!(void.len() == 1 && void[0].contains("91%") && void[0].contains("client.cpu_share_max"), "{void:?}");
        let no_bound = changed(|scenario, _, repetition| {
            scenario.client.cpu_share_max = 1.0;
            repetition.measurement.workers[0].cpu_ns = repetition.measurement.workers[0].wall_ns * 2;
        });
        assert!(no_bound.void.is_empty());
        let void = changed(|_, _, r| r.measurement.workers[0].lag = slow_latencies(11_000_000)).void;
        assert!(void.len() == 1 && void[0].contains("11.0 ms") && void[0].contains("client.lag_max"), "{void:?}");
    }

    #[test]
    fn each_mishap_is_warned_of_in_one_sentence_with_its_figure() {
        type Change = fn(&mut Scenario, &mut Environment, &mut Repetition);
        let cases: &[(Change, &[&str])] = &[
            (|_, e, _| (e.load_average[0], e.cores) = (3.1, 2), &["load average", "3.1", "2 cores"]),
            (
                |_, _, r| r.measurement.workers[0].waited_ns = r.measurement.workers[0].wall_ns / 10,
                &["Worker 1", "10%"],
            ),
            (|_, _, r| r.measurement.schedule_error = slow_latencies(300_000), &["300 µs"]),
            (|_, _, r| r.measurement.tally.late = 12, &["12 of", "1ms"]),
            (|_, _, r| r.measurement.tally.published = 0, &["Nothing was published"]),
            (|_, _, r| r.measurement.tally.unsent = 1, &["1 publication was due"]),
            (|_, _, r| r.measurement.tally.refused = 2, &["2 publications were refused"]),
            (
                |_, _, r| *r.connecting.failures.entry("refused".into()).or_default() = 3,
                &["3 attempts", "went on", "refused 3"],
            ),
            (
                |_, _, r| *r.measurement.tally.closed.entry("close 1008".into()).or_default() = 5,
                &["5 connections", "close 1008 5"],
            ),
            (
                |_, _, r| r.measurement.storm = Some(StormOutcome { dropped: 9, back: 7, ..StormOutcome::default() }),
                &["Of 9 connections 2 never"],
            ),
            (|s, _, _| s.target.deflate = true, &["permessage-deflate", "only 0 of"]),
            (
                |_, _, r| (r.measurement.tally.deflated_connections, r.measurement.tally.messages) = (9, 1234),
                &["permessage-deflate was agreed on", "1,234 messages"],
            ),
            (|s, _, _| s.target.tls.insecure = true, &["certificate was not checked"]),
            (|_, _, r| r.measurement.tally.roles.get_mut("subscriber").unwrap().lost = 4, &["4 of", "lost"]),
            (|_, _, r| r.measurement.tally.roles.get_mut("subscriber").unwrap().received = 0, &["nothing at all"]),
            (|_, _, r| r.measurement.tally.roles.get_mut("subscriber").unwrap().duplicates = 4, &["4 of", "twice"]),
            (
                |_, _, r| r.measurement.tally.roles.get_mut("subscriber").unwrap().reordered = 4,
                &["4 of", "out of order"],
            ),
            (|_, _, r| r.measurement.tally.corrupted = 4, &["4 messages were corrupted"]),
            (
                |_, _, r| r.server = Some(ServerUsage { cpu_per_delivery_ns: 0.5, ..ServerUsage::default() }),
                &["more CPU time for a delivery", "1 ns"],
            ),
            (
                |_, _, r| r.server = Some(ServerUsage { waited_ns: 7, wall_ns: 100, ..ServerUsage::default() }),
                &["server's threads waited", "7.00%"],
            ),
        ];
        for (change, parts) in cases {
            let Judgement { void, warnings } = changed(*change);
            assert_eq!((void.len(), warnings.len()), (0, 1), "{parts:?}: {void:?} {warnings:?}");
            assert!(parts.iter().all(|part| warnings[0].contains(part)), "{parts:?}: {}", warnings[0]);
            assert!(warnings[0].ends_with('.') && !warnings[0].contains('\n'), "{}", warnings[0]);
        }
    }

    #[test]
    fn a_closed_loop_has_no_schedule_to_keep() {
        let judged = changed(|scenario, _, repetition| {
            scenario.load.kind = LoadKind::Closed;
            repetition.measurement.schedule_error = slow_latencies(300_000);
        });
        assert_eq!(judged, Judgement::default());
    }
}
