//! What a reader of a comparison should know besides its figures. Sentences.

use crate::compare::comparison::{Comparison, Options, Row, is_of_server, weight};
use crate::compare::family::{self, Column};
use crate::compare::outcome::{PAIRS_MIN, REPETITIONS_MIN, Remark, Settings, Verdict, Weight};
use crate::compare::set::{self, Set};
use crate::compare::shape::percent;
use crate::compare::statistics::median;
use crate::record::figures::{FIGURES, Figure, Unit, grouped};

/// All notes, the weightiest first.
pub fn notes(a: &Set, b: &Set, comparison: &Comparison, options: &Options) -> Vec<String> {
    let settings = &options.settings;
    let mut notes = Vec::new();
    notes.extend(if options.paired { too_few_pairs(comparison) } else { too_few(comparison) });
    notes.extend(comparison.rows.iter().filter_map(counted));
    notes.extend(alone_only(comparison));
    notes.extend(too_small(comparison, settings));
    notes.extend([a, b].into_iter().filter_map(|set| drifted(set, settings)));
    notes.extend(not_in_turn(a, b, comparison));
    if a.shares_a_result_with(b) {
        notes.push("A and B share a result: what is compared with itself cannot differ.".into());
    }
    notes.extend(a.left_out());
    notes.extend(b.left_out());
    notes.extend(used_before(a, b, comparison));
    notes.extend(clean(comparison));
    notes.extend(ceilings(a, b, comparison));
    notes
}

fn too_few(comparison: &Comparison) -> Option<String> {
    let (a, b) = comparison.repetitions;
    (a < REPETITIONS_MIN || b < REPETITIONS_MIN).then(|| {
        format!(
            "A has {a} and B has {b} usable repetitions; a verdict takes {REPETITIONS_MIN} of each, 5 to 10 are better: \
             loadgen run --repetitions 5, or more results with --a and --b."
        )
    })
}

fn too_few_pairs(comparison: &Comparison) -> Option<String> {
    let pairs = comparison.repetitions.0.min(comparison.repetitions.1);
    (pairs < PAIRS_MIN).then(|| {
        format!("There are {pairs} usable pairs; a verdict takes {PAIRS_MIN}, 20 or more are better: --pairs 20.")
    })
}

/// Things that should not happen, and happened on one side only.
fn counted(row: &Row) -> Option<String> {
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    let (a, b) = (sum(&row.outcome.a), sum(&row.outcome.b));
    if !row.is_count() || (a == 0.0) == (b == 0.0) {
        return None;
    }
    let (with, without, values) = if b > 0.0 { ("B", "A", &row.outcome.b) } else { ("A", "B", &row.outcome.a) };
    let in_repetitions = values.iter().filter(|count| **count > 0.0).count();
    let proof = match row.verdict().is_difference() {
        true => "",
        false => "; that is a fact, though no proof that it will be so again",
    };
    Some(format!(
        "{}: {} in {with}, in {in_repetitions} of its {} repetitions, none in {without}{proof}.",
        row.figure.title,
        grouped(a + b),
        values.len()
    ))
}

fn titles<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    rows.map(|row| row.figure.title).collect::<Vec<_>>().join(", ")
}

fn alone_only(comparison: &Comparison) -> Option<String> {
    let rows = comparison.rows.iter().filter(|row| row.outcome.remark == Some(Remark::AloneOnly));
    let titles = titles(rows);
    let judged = comparison.rows.iter().filter(|row| row.verdict() != Verdict::NotEnough).count();
    (!titles.is_empty()).then(|| {
        format!(
            "{titles}: looked at alone this would count as a difference, but among {judged} figures such a one comes by \
             chance. If it matters, make new runs and compare those with --figure."
        )
    })
}

fn too_small(comparison: &Comparison, settings: &Settings) -> Option<String> {
    let rows = comparison.rows.iter().filter(|row| row.outcome.remark == Some(Remark::TooSmall));
    let titles = titles(rows);
    (!titles.is_empty()).then(|| {
        format!("{titles}: there may be a difference, but one of less than {} (--least).", percent(settings.least))
    })
}

/// Whether one side's own results differ from each other: then so may A and B, without meaning anything.
fn drifted(set: &Set, settings: &Settings) -> Option<String> {
    let figures: Vec<&Figure> =
        FIGURES.iter().filter(|figure| is_of_server(figure) && weight(figure) != Weight::Further).collect();
    let (first, others) = set.sources.split_first()?;
    for other in others {
        let column = |figure: &&Figure| {
            let (a, b) = (set::values(&first.report, figure), set::values(&other.report, figure));
            Column { a, b, weight: weight(figure) }
        };
        let columns: Vec<Column> = figures.iter().map(column).collect();
        let outcomes = family::compare(&columns, settings);
        let differing =
            figures.iter().zip(&outcomes).find(|(figure, outcome)| outcome.verdict(figure.better).is_difference());
        if let Some((figure, outcome)) = differing {
            let by = outcome.ratio.map_or(f64::INFINITY, |ratio| (ratio.value - 1.0).abs());
            return Some(format!(
                "The results of {} differ among themselves: {} of {} and {} by {}. A difference of that size between A and B \
                 means nothing; loadgen ab alternates between both.",
                set.name,
                figure.title,
                first.path.display(),
                other.path.display(),
                percent(by)
            ));
        }
    }
    None
}

/// When the runs of one side all came before those of the other, the machine may have changed in between.
fn not_in_turn(a: &Set, b: &Set, comparison: &Comparison) -> Option<String> {
    let differs = comparison.rows.iter().any(|row| row.verdict().is_difference());
    let span = |set: &Set| {
        let begun: Vec<String> = set.repetitions().iter().map(|repetition| repetition.begun.clone()).collect();
        Some((begun.iter().min()?.clone(), begun.iter().max()?.clone()))
    };
    let ((from_a, to_a), (from_b, to_b)) = (span(a)?, span(b)?);
    let apart = to_a < from_b || to_b < from_a;
    (differs && apart).then(|| {
        format!(
            "A ran from {from_a} to {to_a}, B from {from_b} to {to_b}: a machine that changed in between looks like a \
             difference. loadgen ab alternates between both."
        )
    })
}

/// Memory is what a server's process grew by: one that has served before has it already, and grows by less.
fn used_before(a: &Set, b: &Set, comparison: &Comparison) -> Option<String> {
    let medians = |set: &Set| {
        let all = set.repetitions().into_iter().filter_map(|repetition| repetition.server.as_ref());
        let (before, grown): (Vec<f64>, Vec<f64>) = all
            .map(|server| (server.rss_before_bytes as f64, server.rss_bytes as f64 - server.rss_before_bytes as f64))
            .unzip();
        Some((median(&before)?, median(&grown)?))
    };
    let ((of_a, grown_a), (of_b, grown_b)) = (medians(a)?, medians(b)?);
    let differs = comparison.row("server-rss").is_some_and(|row| row.verdict().is_difference());
    // A difference at the beginning that is as great as what connections take is enough to make one at the end.
    let apart = (of_a - of_b).abs() * 2.0 > grown_a.max(grown_b);
    (differs && apart).then(|| {
        format!(
            "The server's process had {} before the first connection in A and {} in B: one that has served before grows by \
             less, so its memory per connection means little. Start it anew for each result.",
            Unit::Bytes.format(of_a),
            Unit::Bytes.format(of_b)
        )
    })
}

fn clean(comparison: &Comparison) -> Option<String> {
    let titles = titles(comparison.rows.iter().filter(|row| row.is_clean()));
    (!titles.is_empty()).then(|| format!("None on either side: {titles}."))
}

/// Where machines differ, what each can do at all helps to read the figures.
fn ceilings(a: &Set, b: &Set, comparison: &Comparison) -> Option<String> {
    let sends = |set: &Set| set.reports().find_map(|report| report.ceiling.as_ref()).map(|ceiling| ceiling.sends_per_s);
    let (of_a, of_b) = (sends(a)?, sends(b)?);
    let differs = comparison.differences.iter().any(|difference| difference.matters);
    (differs && of_a > 0.0 && of_b > 0.0).then(|| {
        format!(
            "What the machines can do at all (sends a second, no server): {} in A, {} in B, {:.2} of it.",
            grouped(of_a.round()),
            grouped(of_b.round()),
            of_b / of_a
        )
    })
}
