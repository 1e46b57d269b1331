//! A comparison on the terminal: a table, the shape in a sentence, what differs, and notes.

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use crate::compare::comparison::{Comparison, Row};
use crate::compare::fail_if::{Judged, Met};
use crate::compare::outcome::{Remark, Verdict};
use crate::compare::set::{Set, Source};
use crate::compare::shape::percent;
use crate::page::compare::{CompareRow, Told};
use crate::record::figures::grouped;

/// Which results are compared: a line each.
pub fn heading(a: &Set, b: &Set) -> String {
    let line = |set: &Set, source: &Source| {
        let usable = source.report.repetitions.iter().filter(|repetition| repetition.is_usable()).count();
        let revision = match source.report.environment.server_revision.as_str() {
            "" => String::new(),
            revision => format!("{revision}, "),
        };
        let repetitions = if usable == 1 { "repetition" } else { "repetitions" };
        format!("{}: {} ({revision}{usable} {repetitions})\n", set.name, source.path.display())
    };
    [a, b].into_iter().flat_map(|set| set.sources.iter().map(move |source| line(set, source))).collect()
}

/// The whole of it. Without `colours` there is no escape sequence in it.
pub fn text(comparison: &Comparison, judged: &[Judged], colours: bool) -> String {
    let mut parts = Vec::new();
    if comparison.rows.iter().any(|row| !row.is_clean()) {
        parts.push(table(&comparison.rows, colours).to_string());
    }
    parts.push(comparison.headline());
    parts.push(format!("Distribution: {}", comparison.shape_sentence()));
    parts.extend(listed("Differences between the results:", &differences(comparison)));
    parts.extend(listed("Notes:", &comparison.notes));
    let judged: Vec<String> = judged.iter().map(condition).collect();
    parts.extend(listed("Conditions:", &judged));
    parts.join("\n") + "\n"
}

fn table(rows: &[Row], colours: bool) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    if colours {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    let right = |text: &str| Cell::new(text).set_alignment(CellAlignment::Right);
    let header = ["A", "B", "B / A", "95% interval"].map(right);
    table.set_header([Cell::new("figure")].into_iter().chain(header).chain([Cell::new("verdict")]));
    for row in rows.iter().filter(|row| !row.is_clean()) {
        let words = words(row);
        let figures = [&words.a, &words.b, &words.ratio, &words.interval].map(|text| right(text));
        let verdict = match row.verdict() {
            Verdict::Better => Cell::new(&words.verdict).fg(Color::Green).add_attribute(Attribute::Bold),
            Verdict::Worse => Cell::new(&words.verdict).fg(Color::Red).add_attribute(Attribute::Bold),
            _ => Cell::new(&words.verdict),
        };
        table.add_row([Cell::new(&words.figure)].into_iter().chain(figures).chain([verdict]));
    }
    table
}

/// What is said besides the figures, for the page.
pub fn told(comparison: &Comparison) -> Told {
    Told {
        headline: comparison.headline(),
        distribution: comparison.shape_sentence(),
        differences: differences(comparison),
        notes: comparison.notes.clone(),
    }
}

/// A row as text, for the table and the page.
pub fn words(row: &Row) -> CompareRow {
    let (outcome, figure) = (&row.outcome, row.figure);
    let side = |median: Option<f64>, values: &[f64]| match row.is_count() {
        true => format!("{} in all", grouped(values.iter().sum())),
        false => median.map(|median| figure.format(median)).unwrap_or_default(),
    };
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    // With fewer repetitions than a verdict takes an interval would promise too much.
    let interval = outcome.ratio.filter(|_| outcome.chance.is_some());
    CompareRow {
        figure: figure.title.to_owned(),
        a: side(outcome.median_a, &outcome.a),
        b: side(outcome.median_b, &outcome.b),
        ratio: or_none(outcome.ratio.map(|ratio| format!("{:.3}", ratio.value))),
        interval: or_none(interval.map(|ratio| format!("{:.3} – {:.3}", ratio.low, ratio.high))),
        verdict: verdict(row),
        class: match row.verdict() {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Higher | Verdict::Lower | Verdict::NoDifference => "same",
            Verdict::NotEnough => "unknown",
        },
    }
}

/// The verdict, and with no difference how great a one would have been seen.
fn verdict(row: &Row) -> String {
    let words = row.verdict().words();
    match (row.verdict(), row.outcome.remark, row.outcome.seen_from()) {
        (Verdict::NoDifference, Some(Remark::TooSmall), _) => format!("{words} worth telling"),
        (Verdict::NoDifference, Some(Remark::AloneOnly), _) => "no difference proven, see notes".into(),
        (Verdict::NoDifference, None, Some(from)) => format!("{words} ({})", seen(from)),
        _ => words.to_owned(),
    }
}

/// How great a difference would have been seen: `±3.1%`, and from twice as much on `up to ×2.4`.
fn seen(from: f64) -> String {
    match from {
        from if from < 0.0005 => "±<0.1%".into(),
        from if from < 1.0 => format!("±{}", percent(from)),
        from => format!("up to ×{:.1}", 1.0 + from),
    }
}

fn differences(comparison: &Comparison) -> Vec<String> {
    let sentence = |difference: &crate::compare::comparable::Difference| {
        let mark = if difference.matters { "" } else { " (does not forbid a comparison)" };
        format!("{}{mark}", difference.words())
    };
    comparison.differences.iter().map(sentence).collect()
}

fn condition(judged: &Judged) -> String {
    let met = match judged.met {
        Met::Yes => "met",
        Met::No => "not met",
        Met::Unknown => "not met, as there is no telling",
    };
    format!("{}: {met}; {}", judged.condition, judged.sentence)
}

fn listed(title: &str, sentences: &[String]) -> Option<String> {
    let lines: String = sentences.iter().map(|sentence| format!("\n  - {sentence}")).collect();
    (!sentences.is_empty()).then(|| format!("\n{title}{lines}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::bootstrap::Estimate;
    use crate::compare::outcome::{Finding, Outcome};
    use crate::record::figures::find;

    fn row(low: f64, value: f64, high: f64, remark: Option<Remark>) -> Row {
        let outcome = Outcome {
            a: vec![1.0; 4],
            b: vec![1.0; 4],
            median_a: Some(1.0),
            median_b: Some(1.0),
            ratio: Some(Estimate { value, low, high }),
            chance_alone: Some(0.5),
            chance: Some(0.5),
            finding: Finding::NoDifference,
            remark,
        };
        Row { figure: find("p99").unwrap(), outcome }
    }

    #[test]
    fn no_difference_says_how_great_a_one_would_have_been_seen_and_never_that_it_is_certain() {
        assert_eq!(words(&row(0.97, 1.0, 1.03, None)).verdict, "no difference (±3.0%)");
        assert_eq!(words(&row(0.25, 1.0, 4.0, None)).verdict, "no difference (up to ×4.0)");
        assert_eq!(words(&row(1.0, 1.0, 1.0, None)).verdict, "no difference (±<0.1%)");
        assert_eq!(words(&row(2.0, 5.0, 15.0, Some(Remark::AloneOnly))).verdict, "no difference proven, see notes");
    }
}
