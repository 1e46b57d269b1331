//! The table at the end of a run: every figure, what arrived, and in large letters whether all that may be used.

use std::path::Path;

use comfy_table::{Cell, CellAlignment, Table, presets};

use crate::measure::StormOutcome;
use crate::record::figures::{self, FIGURES, Figure, Unit, grouped};
use crate::record::words::{self, Verdict};
use crate::record::{Repetition, Report};

/// Figures that belong together; those of none of them come last.
const GROUPS: &[(&str, &[&str])] = &[
    ("latency, from the intended time", &["p50", "p90", "p99", "p99.9", "max"]),
    ("latency, from the actual send", &["service-p50", "service-p99"]),
    ("until the last subscriber has it", &["completion-p50", "completion-p99", "completion-max", "fairness"]),
    ("rates", &["publications", "deliveries", "schedule-error-p99", "late"]),
    ("bytes", &["wire-bytes", "compressed", "compression"]),
    ("what went wrong", &["lost", "gaps", "duplicates", "reordered", "corrupted"]),
    ("connection phase", &["connects", "handshake-p50", "handshake-p99"]),
    ("server", &["server-cpu", "server-rss"]),
    ("load generator", &["own-cpu", "own-cpu-share", "own-lag-p99"]),
];

const VOID: &str = "\
█   █  ███  ███ ████
█   █ █   █  █  █   █
 █ █  █   █  █  █   █
 █ █  █   █  █  █   █
  █    ███  ███ ████
";

/// The whole of it, for a terminal; `folder` is where its files are.
pub fn text(report: &Report, folder: &Path) -> String {
    let repetitions = report.usable();
    let parts = [
        heading(report),
        figures_table(&repetitions),
        roles_table(&repetitions),
        storms(&repetitions),
        causes(report),
        words(report),
        files(folder),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n") + "\n"
}

/// Who was asked to do what.
fn heading(report: &Report) -> String {
    let scenario = &report.scenario;
    let server = match scenario.server.revision.as_str() {
        "" => String::new(),
        revision => format!(" ({revision})"),
    };
    let connections = report.repetitions.last().map_or(0, |repetition| repetition.connecting.connected);
    format!(
        "{}: {} connections to {}{server}, {} payloads\n",
        scenario.name,
        grouped(connections as f64),
        scenario.target.url,
        Unit::Bytes.format(scenario.payload.bytes.0 as f64),
    )
}

fn figures_table(repetitions: &[&Repetition]) -> String {
    let mut table = fresh();
    let several = repetitions.len() > 1;
    table.set_header(if several {
        right(["figure", "median", "least", "greatest"].map(str::to_owned).to_vec())
    } else {
        right(["figure", "value"].map(str::to_owned).to_vec())
    });
    let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, keys)| keys.iter().copied()).collect();
    let others: Vec<&str> = FIGURES.iter().map(|figure| figure.key).filter(|key| !grouped.contains(key)).collect();
    for (title, keys) in GROUPS.iter().copied().chain([("others", others.as_slice())]) {
        let rows: Vec<Vec<String>> =
            keys.iter().filter_map(|key| figures::find(key)).filter_map(|figure| row(figure, repetitions)).collect();
        if !rows.is_empty() {
            table.add_row([Cell::new(title.to_uppercase())]);
            table.add_rows(rows.into_iter().map(right));
        }
    }
    if table.row_count() == 0 { String::new() } else { format!("{}\n", table.trim_fmt()) }
}

/// None if it was not measured.
fn row(figure: &Figure, repetitions: &[&Repetition]) -> Option<Vec<String>> {
    let spread = figure.spread(repetitions.iter().copied())?;
    let values = if repetitions.len() > 1 { vec![spread.median, spread.min, spread.max] } else { vec![spread.median] };
    let values = values.into_iter().map(|value| figure.format(value));
    Some([format!("  {}", figure.title)].into_iter().chain(values).collect())
}

/// What each role saw, in all repetitions, where there are others than subscribers.
fn roles_table(repetitions: &[&Repetition]) -> String {
    let tally = words::tally(repetitions);
    if tally.roles.keys().all(|role| role == "subscriber") {
        return String::new();
    }
    let mut table = fresh();
    let columns = ["role", "expected", "received", "lost", "gaps", "duplicates", "reordered"];
    table.set_header(right(columns.map(str::to_owned).to_vec()));
    for (name, role) in &tally.roles {
        let counts = [role.expected, role.received, role.lost, role.gaps, role.duplicates, role.reordered];
        let counts = counts.iter().map(|count| grouped(*count as f64));
        table.add_row(right([name.clone()].into_iter().chain(counts).collect()));
    }
    format!("{}\n", table.trim_fmt())
}

fn storms(repetitions: &[&Repetition]) -> String {
    let storms = repetitions.iter().filter_map(|repetition| repetition.measurement.storm.as_ref());
    storms.map(|storm| format!("{}\n", storm_words(storm))).collect()
}

/// A reconnect storm in one sentence.
fn storm_words(storm: &StormOutcome) -> String {
    let ns = |ns: u64| Unit::Nanoseconds.format(ns as f64);
    let missing = storm.dropped.saturating_sub(storm.back);
    let outcome = match missing {
        0 => format!("all were back after {}", ns(storm.until_back_ns)),
        _ => format!("{} were back after {}, {} never", grouped(storm.back as f64), ns(storm.until_back_ns), missing),
    };
    let failures = match super::causes(&storm.failures) {
        causes if causes.is_empty() => String::new(),
        causes => format!("; attempts that failed and were made again: {causes}"),
    };
    let handshake = ns(storm.handshake.quantile_ns(0.99));
    let resumed = match storm.resumed {
        0 => String::new(),
        resumed => format!(", {} went on with an earlier TLS session", grouped(resumed as f64)),
    };
    format!(
        "Storm: {} connections dropped at once, {outcome}; handshake p99 {handshake}{resumed}{failures}.",
        grouped(storm.dropped as f64)
    )
}

/// Connections that failed, and connections that the server ended.
fn causes(report: &Report) -> String {
    let mut text = String::new();
    for (n, repetition) in report.repetitions.iter().enumerate() {
        let which = if report.repetitions.len() > 1 { format!(" in repetition {}", n + 1) } else { String::new() };
        let failures = super::causes(&repetition.connecting.failures);
        if !failures.is_empty() {
            text += &format!("Connections that failed{which}: {failures}\n");
        }
        let closed = super::causes(&repetition.measurement.tally.closed);
        if !closed.is_empty() {
            text += &format!("Connections that the server ended{which}: {closed}\n");
        }
    }
    text
}

/// The verdict comes last: it is what is still on the screen.
fn words(report: &Report) -> String {
    let words = words::of(report);
    let mut text = words.sentences.join("\n");
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    if words.verdict == Verdict::Void {
        text.push_str(VOID);
        text.push('\n');
    }
    text.push_str(&words.headline);
    text.push('\n');
    for reason in &words.reasons {
        text.push_str(&format!("  - {reason}\n"));
    }
    text
}

fn files(folder: &Path) -> String {
    let report = crate::record::folder::REPORT_FILE;
    format!("Files: {} ({report}, report.html, *.hgrm, *.hlog)", folder.display())
}

fn fresh() -> Table {
    let mut table = Table::new();
    // No wrapping and no colours: the same text on a terminal and in a file.
    table.load_style(presets::UTF8_BORDERS_ONLY).force_no_tty();
    table
}

/// Cells of which all but the first are figures.
fn right(words: Vec<String>) -> Vec<Cell> {
    let align = |n: usize| if n == 0 { CellAlignment::Left } else { CellAlignment::Right };
    words.into_iter().enumerate().map(|(n, word)| Cell::new(word).set_alignment(align(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::RoleTally;
    use crate::record::sample::Sample;

    fn report(repetitions: u32) -> Report {
        Sample { repetitions, seconds: 3, subscribers: 50, ..Sample::default() }.report()
    }

    fn shown(report: &Report) -> String {
        text(report, Path::new("results/2026-11-20-a"))
    }

    #[test]
    fn every_figure_that_was_measured_is_shown_with_median_and_range() {
        let report = report(3);
        let text = shown(&report);
        let usable = report.usable();
        for figure in FIGURES {
            let Some(spread) = figure.spread(usable.iter().copied()) else {
                continue;
            };
            let line = text.lines().find(|line| line.starts_with(&format!("│   {} ", figure.title)));
            let line = line.unwrap_or_else(|| panic!("{} is not shown:\n{text}", figure.key));
            for value in [spread.median, spread.min, spread.max] {
                assert!(line.contains(&figure.format(value)), "{line}");
            }
        }
        assert!(text.contains("median") && text.contains("results/2026-11-20-a"), "{text}");
    }

    #[test]
    fn one_repetition_has_values_and_no_range() {
        let text = shown(&report(1));
        assert!(text.contains("value") && !text.contains("median  "), "{text}");
    }

    #[test]
    fn a_void_run_says_so_in_large_letters_with_its_reasons() {
        let mut report = report(1);
        assert!(!shown(&report).contains(VOID));
        report.repetitions[0].void = vec!["Worker 1 used 97% of a core.".into()];
        let text = shown(&report);
        assert!(text.contains(VOID) && text.contains("  - Worker 1 used 97% of a core."), "{text}");
    }

    #[test]
    fn roles_storms_and_causes_are_shown_where_there_are_any() {
        let mut report = report(1);
        report.repetitions[0].measurement.tally.roles.retain(|role, _| role == "subscriber");
        let plain = shown(&report);
        assert!(!plain.contains("role") && !plain.contains("Storm"), "{plain}");
        let repetition = &mut report.repetitions[0];
        let slow = RoleTally { expected: 1234, received: 1000, lost: 234, ..RoleTally::default() };
        repetition.measurement.tally.roles.insert("slow".into(), slow);
        repetition.measurement.tally.closed.insert("close 1008".into(), 3);
        repetition.connecting.failures.insert("refused".into(), 2);
        repetition.measurement.storm = Some(StormOutcome { dropped: 50, back: 49, ..StormOutcome::default() });
        let text = shown(&report);
        for part in ["slow", "1,234", "234", "close 1008 3", "refused 2", "Storm: 50 connections", "1 never"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
    }

    #[test]
    fn a_result_without_a_repetition_can_be_shown() {
        let mut report = report(1);
        report.repetitions.clear();
        report.complete = false;
        report.ended_early = Some("interrupted".into());
        let text = shown(&report);
        assert!(text.contains("interrupted") && !text.contains('│') && !text.contains("\n\n\n"), "{text}");
    }
}
