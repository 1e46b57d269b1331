//! A result in words: what a reader should know before looking at any curve.
//!
//! Figures are those of the usable repetitions ([`Report::usable`]): medians over them, counts summed up.

use crate::measure::Tally;
use crate::record::figures::{self, Spread, Unit, grouped};
use crate::record::{Repetition, Report};
use crate::scenario::LoadKind;

/// Whether the figures may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They stand.
    Valid,
    /// They stand, but there is something to know.
    Warned,
    /// The run did not come to its end.
    Incomplete,
    /// Some or all repetitions must not be used.
    Void,
}

/// A result in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Whether its figures may be used.
    pub verdict: Verdict,
    /// The verdict in one sentence.
    pub headline: String,
    /// Why: what makes it void, incomplete, or is to be warned of. Sentences that name their repetition.
    pub reasons: Vec<String>,
    /// What was offered, what arrived, how fast, and how far the measurement can be trusted.
    pub sentences: Vec<String>,
}

/// A report in words.
pub fn of(report: &Report) -> Words {
    let verdict = verdict(report);
    Words { verdict, headline: headline(report, verdict), reasons: reasons(report), sentences: sentences(report) }
}

fn verdict(report: &Report) -> Verdict {
    let any = |of: fn(&Repetition) -> bool| report.repetitions.iter().any(of);
    if any(|repetition| !repetition.void.is_empty()) {
        Verdict::Void
    } else if !report.complete || report.repetitions.is_empty() || any(|repetition| !repetition.complete) {
        Verdict::Incomplete
    } else if any(|repetition| !repetition.warnings.is_empty()) {
        Verdict::Warned
    } else {
        Verdict::Valid
    }
}

fn headline(report: &Report, verdict: Verdict) -> String {
    let all = report.repetitions.len();
    let void = report.repetitions.iter().filter(|repetition| !repetition.void.is_empty()).count();
    match verdict {
        Verdict::Valid if all == 1 => "Valid: the load generator was not the bottleneck.".into(),
        Verdict::Valid => {
            format!("Valid: in none of the {all} repetitions the load generator was the bottleneck.")
        }
        Verdict::Warned => "Valid, with something to know.".into(),
        Verdict::Incomplete => match &report.ended_early {
            Some(why) => format!("Not complete: the run ended early ({why})."),
            None if report.complete => "Not complete: a repetition ended before its time.".into(),
            None => "Not complete: this is what was there when the process ended.".into(),
        },
        Verdict::Void if void == all => "Void: these figures must not be used.".into(),
        Verdict::Void => {
            format!("{void} of {all} repetitions are void; the figures are those of the others.")
        }
    }
}

/// What is said of several repetitions, but for its figures, is said once: of the first, naming the others.
fn reasons(report: &Report) -> Vec<String> {
    let several = report.repetitions.len() > 1;
    let mut told: Vec<(String, &str, Vec<usize>)> = Vec::new();
    for (n, repetition) in report.repetitions.iter().enumerate() {
        // With one repetition, the headline says so.
        let cut = (several && !repetition.complete).then_some("It is not complete.");
        let words = repetition.void.iter().map(String::as_str).chain(cut);
        for reason in words.chain(repetition.warnings.iter().map(String::as_str)) {
            let shape = without_figures(reason);
            match told.iter_mut().find(|(known, ..)| *known == shape) {
                Some((.., of)) if of.last() != Some(&n) => of.push(n),
                _ => told.push((shape, reason, vec![n])),
            }
        }
    }
    let sentence = |(_, reason, of): (String, &str, Vec<usize>)| match of.as_slice() {
        _ if !several => reason.to_owned(),
        [only] => format!("Repetition {}: {reason}", only + 1),
        [first, others @ ..] => format!("Repetition {}, similarly in {}: {reason}", first + 1, numbers(others)),
        [] => reason.to_owned(),
    };
    told.into_iter().map(sentence).collect()
}

/// A sentence without its figures and their units, but with the number of the worker it is about.
fn without_figures(sentence: &str) -> String {
    const UNITS: [&str; 7] = ["ns", "µs", "ms", "s", "KiB", "MiB", "GiB"];
    let mut shape: Vec<&str> = Vec::new();
    let mut before = "";
    for word in sentence.split_whitespace() {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric() && c != 'µ');
        let is_number = bare.starts_with(|c: char| c.is_ascii_digit());
        let is_unit = before == "#" && UNITS.contains(&bare);
        before = match (is_number && !before.eq_ignore_ascii_case("worker"), is_unit) {
            (true, _) => "#",
            (_, true) => continue,
            _ => word,
        };
        shape.push(before);
    }
    shape.join(" ")
}

/// `2`, `2 and 3`, `2, 3 and 5`: numbers of repetitions, which count from one.
fn numbers(of: &[usize]) -> String {
    let words: Vec<String> = of.iter().map(|n| (n + 1).to_string()).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The tally of all these repetitions.
pub fn tally(repetitions: &[&Repetition]) -> Tally {
    let mut tally = Tally::default();
    repetitions.iter().for_each(|repetition| tally.merge(&repetition.measurement.tally));
    tally
}

fn sentences(report: &Report) -> Vec<String> {
    let repetitions = report.usable();
    let median = |key: &str| figures::find(key).and_then(|figure| figure.spread(repetitions.iter().copied()));
    let tally = tally(&repetitions);
    let is_closed = report.scenario.load.kind == LoadKind::Closed;
    let all = [
        arrived(report, &tally, repetitions.len()),
        latency(&median),
        if is_closed { closed_loop(report, &median) } else { omission(&median) },
        schedule(report, &tally, &median).filter(|_| !is_closed),
        deflate(report, &tally),
        itself(&median),
        server(&median),
        ceiling(report, &median),
    ];
    all.into_iter().flatten().collect()
}

fn ns(spread: Spread) -> String {
    Unit::Nanoseconds.format(spread.median)
}

fn count(count: u64) -> String {
    grouped(count as f64)
}

fn arrived(report: &Report, tally: &Tally, repetitions: usize) -> Option<String> {
    let role = tally.subscribers();
    if role.expected == 0 {
        return None;
    }
    let subscribers = report.scenario.connections.subscribers();
    let who = match subscribers {
        0 => "The subscribers".to_owned(),
        1 => "One subscriber".to_owned(),
        many => format!("{} subscribers", count(many)),
    };
    let of = if repetitions > 1 { format!(" in {repetitions} repetitions") } else { String::new() };
    let got = match role.lost {
        0 => format!("{who} got all {} deliveries{of}", count(role.expected)),
        1 => format!("{who} got {} of {} deliveries{of}; 1 was lost", count(role.received), count(role.expected)),
        lost => {
            let (received, expected) = (count(role.received), count(role.expected));
            format!("{who} got {received} of {expected} deliveries{of}; {} were lost", count(lost))
        }
    };
    let mishaps = [
        (role.duplicates, "came twice"),
        (role.reordered, "came out of order"),
        (tally.corrupted, "were corrupted"),
        (tally.unsent, "were due but never sent"),
    ];
    let mishaps: Vec<_> = mishaps.iter().filter(|m| m.0 > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    let none = if role.lost == 0 { "; none came twice, out of order or corrupted" } else { "" };
    Some(if mishaps.is_empty() { format!("{got}{none}.") } else { format!("{got}; {}.", mishaps.join(", ")) })
}

fn latency(median: &impl Fn(&str) -> Option<Spread>) -> Option<String> {
    let (p50, p99, max) = (median("p50")?, median("p99")?, median("max")?);
    let (p50, p99) = (ns(p50), ns(p99));
    let completion = median("completion-p50").map_or(String::new(), |completion| {
        format!(" Until the last subscriber had a publication it took {} (median).", ns(completion))
    });
    Some(match max.count {
        1 => format!(
            "Half of the deliveries arrived within {p50} of the intended time of their publication, 99% within {p99}, the \
             last after {}.{completion}",
            ns(max)
        ),
        many => format!(
            "In the median of {many} repetitions half of the deliveries arrived within {p50} of the intended time of their \
             publication, 99% within {p99}, the last after {}; the slowest of all took {}.{completion}",
            ns(max),
            Unit::Nanoseconds.format(max.max)
        ),
    })
}

/// A closed loop has no intended times: what it cannot show is said instead.
fn closed_loop(report: &Report, median: &impl Fn(&str) -> Option<Spread>) -> Option<String> {
    median("p99")?;
    Some(format!(
        "The loop is closed, with at most {} publications that not every subscriber has yet: a server that stands still is \
         sent nothing, so latencies do not show how long a steady load would have waited. Compare its rates.",
        count(u64::from(report.scenario.load.in_flight))
    ))
}

/// What counting from the actual send would have hidden.
fn omission(median: &impl Fn(&str) -> Option<Spread>) -> Option<String> {
    let (corrected, service) = (median("p99")?, median("service-p99")?);
    let (with, without) = (ns(corrected), ns(service));
    let times = corrected.median / service.median.max(1.0);
    Some(if times > 1.1 {
        format!(
            "Counted from the moment of the actual send, p99 would be {without} instead of {with}: the difference is time \
             that publications had to wait before they could be sent, which a tool with coordinated omission does not show."
        )
    } else {
        let hidden = if times > 1.02 { "little" } else { "nothing" };
        format!(
            "Counted from the moment of the actual send, p99 is {without}, from the intended time {with}: {hidden} was \
             hidden by publications that had to wait."
        )
    })
}

fn schedule(report: &Report, tally: &Tally, median: &impl Fn(&str) -> Option<Spread>) -> Option<String> {
    let error = ns(median("schedule-error-p99")?);
    let after = Unit::Nanoseconds.format(report.scenario.client.late_after.0.as_nanos() as f64);
    let late = match tally.late {
        0 => format!("none was late by more than {after}"),
        late => format!("{} of {} were late by more than {after}", count(late), count(tally.published)),
    };
    Some(format!("99% of the publications were sent within {error} of their intended time; {late}."))
}

/// What compression made of it; or that it was offered in vain.
fn deflate(report: &Report, tally: &Tally) -> Option<String> {
    if tally.deflated_messages == 0 {
        let is_in_vain = report.scenario.target.deflate && tally.messages > 0;
        return is_in_vain.then(|| "permessage-deflate was offered, but all messages came uncompressed.".into());
    }
    let size = |bytes: u64| Unit::Bytes.format(bytes as f64);
    let ratio = tally.inflated_bytes as f64 / tally.deflated_bytes.max(1) as f64;
    Some(format!(
        "Of {} messages {} came compressed: {} of payloads in {}, which is {} times less.",
        count(tally.messages),
        count(tally.deflated_messages),
        size(tally.inflated_bytes),
        size(tally.deflated_bytes),
        figures::significant(ratio)
    ))
}

fn itself(median: &impl Fn(&str) -> Option<Spread>) -> Option<String> {
    let share = median("own-cpu-share")?;
    let lag = median("own-lag-p99").map_or(String::new(), |lag| {
        format!(", and what was ready waited less than {} before it was looked at (p99)", ns(lag))
    });
    Some(format!("The busiest worker of the load generator used {} of a core{lag}.", Unit::Share.format(share.median)))
}

fn server(median: &impl Fn(&str) -> Option<Spread>) -> Option<String> {
    let cpu = ns(median("server-cpu")?);
    let memory = median("server-rss")
        .map_or(String::new(), |rss| format!(" and {} of its memory a connection", Unit::Bytes.format(rss.median)));
    let own = median("own-cpu").map_or(String::new(), |own| format!("; the load generator used {} for each", ns(own)));
    Some(format!("The server used {cpu} of CPU time a delivery{memory}{own}."))
}

fn ceiling(report: &Report, median: &impl Fn(&str) -> Option<Spread>) -> Option<String> {
    let ceiling = report.ceiling.as_ref().filter(|ceiling| !ceiling.completion.is_empty())?;
    let bare = ceiling.completion.quantile_ns(0.5) as f64;
    let begin = format!(
        "A bare loop of send() on this machine has a message at all of {} sockets after {} (median)",
        count(ceiling.sockets),
        Unit::Nanoseconds.format(bare)
    );
    let completion = median("completion-p50").filter(|_| bare > 0.0);
    let times = completion.map_or(String::new(), |ours| {
        format!("; the server takes {} times as long", figures::significant(ours.median / bare))
    });
    let cpu = median("server-cpu").filter(|_| ceiling.cpu_per_delivery_ns > 0.0).map_or(String::new(), |cpu| {
        let ratio = figures::significant(cpu.median / ceiling.cpu_per_delivery_ns);
        format!(" and {ratio} times the CPU time a delivery")
    });
    Some(format!("{begin}{times}{cpu}."))
}
