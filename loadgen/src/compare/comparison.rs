//! Two sides compared: every figure, the shape of the distribution, and what a reader should know besides.

use crate::compare::comparable::{self, Difference};
use crate::compare::fail_if::{Condition, Judged};
use crate::compare::family;
use crate::compare::notes;
use crate::compare::outcome::{Outcome, Remark, Settings, Verdict, Weight};
use crate::compare::set::{self, Set};
use crate::compare::shape::{self, Shape};
use crate::measure::Latencies;
use crate::record::figures::{FIGURES, Figure, Unit};

/// What is looked at first, if nothing was asked about by name.
const MAIN: [&str; 1] = ["p99"];

/// What gets more weight than the rest.
const HEADLINES: [&str; 4] = ["p50", "completion-p99", "deliveries", "server-cpu"];

/// Figures of the load generator, not of the server: only compared when asked about.
const OF_LOADGEN: [&str; 5] = ["own-cpu", "own-cpu-share", "own-lag-p99", "schedule-error-p99", "late"];

/// What is to be compared, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only these figures; all that are the server's if there are none.
    pub figures: Vec<&'static Figure>,
    /// How it is reckoned.
    pub settings: Settings,
    /// The n-th repetition of A and the n-th of B were measured right after each other and form a pair.
    pub paired: bool,
}

/// One figure of both sides.
#[derive(Debug, Clone)]
pub struct Row {
    /// The figure.
    pub figure: &'static Figure,
    /// What the comparison came to.
    pub outcome: Outcome,
}

/// A comparison.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The figures that both sides have.
    pub rows: Vec<Row>,
    /// The distribution of corrected latencies; none without at least two repetitions a side and some latencies.
    pub shape: Option<Shape>,
    /// In what the results differ.
    pub differences: Vec<Difference>,
    /// What a reader should know. Sentences.
    pub notes: Vec<String>,
    /// Usable repetitions of A and of B.
    pub repetitions: (usize, usize),
}

impl Row {
    /// The verdict on B.
    pub fn verdict(&self) -> Verdict {
        self.outcome.verdict(self.figure.better)
    }

    /// A count of what should not happen, and which did not happen on either side.
    pub fn is_clean(&self) -> bool {
        self.is_count() && self.outcome.a.iter().chain(&self.outcome.b).all(|count| *count == 0.0)
    }

    /// Whether it is a count: then sums are told, not medians.
    pub fn is_count(&self) -> bool {
        self.figure.unit == Unit::Count
    }
}

/// How important a figure is when nothing was asked about by name.
pub fn weight(figure: &Figure) -> Weight {
    if MAIN.contains(&figure.key) {
        Weight::Main
    } else if HEADLINES.contains(&figure.key) {
        Weight::Headline
    } else {
        Weight::Further
    }
}

/// Whether a figure is compared without being asked about.
pub fn is_of_server(figure: &Figure) -> bool {
    !OF_LOADGEN.contains(&figure.key)
}

/// Compares two sides; whether they may be compared is not looked at here.
pub fn compare(a: &Set, b: &Set, options: &Options) -> Comparison {
    let asked = !options.figures.is_empty();
    let figures: Vec<&'static Figure> =
        if asked { options.figures.clone() } else { FIGURES.iter().filter(|figure| is_of_server(figure)).collect() };
    let weighed: Vec<_> =
        figures.into_iter().map(|figure| (figure, if asked { Weight::Main } else { weight(figure) })).collect();
    let rows = rows(&weighed, a, b, options);
    let (of_a, of_b) = (a.repetitions(), b.repetitions());
    let latencies_a: Vec<&Latencies> = of_a.iter().map(|repetition| &repetition.measurement.corrected).collect();
    let latencies_b: Vec<&Latencies> = of_b.iter().map(|repetition| &repetition.measurement.corrected).collect();
    let mut shape = shape::compare(&latencies_a, &latencies_b, &options.settings);
    if let Some(shape) = &mut shape {
        agree(shape, &rows);
    }
    let mut comparison = Comparison {
        rows,
        shape,
        differences: comparable::differences(a, b),
        notes: Vec::new(),
        repetitions: (of_a.len(), of_b.len()),
    };
    comparison.notes = notes::notes(a, b, &comparison, options);
    comparison
}

/// The figures that were measured on both sides, compared together.
fn rows(figures: &[(&'static Figure, Weight)], a: &Set, b: &Set, options: &Options) -> Vec<Row> {
    let row = |(figure, outcome)| Row { figure, outcome };
    if options.paired {
        let columns = figures.iter().map(|(figure, weight)| (*figure, set::paired_column(figure, *weight, a, b)));
        let (figures, columns): (Vec<_>, Vec<_>) =
            columns.filter(|(_, column)| column.pairs.iter().flatten().count() > 1).unzip();
        return figures.into_iter().zip(family::compare_pairs(&columns, &options.settings)).map(row).collect();
    }
    let columns = figures.iter().map(|(figure, weight)| (*figure, set::column(figure, *weight, a, b)));
    let measured = |values: &[Option<f64>]| values.iter().any(Option::is_some);
    let (figures, columns): (Vec<_>, Vec<_>) =
        columns.filter(|(_, column)| measured(&column.a) && measured(&column.b)).unzip();
    figures.into_iter().zip(family::compare(&columns, &options.settings)).map(row).collect()
}

/// What comes of each condition. Each is judged by itself: it was asked about, so it is no part of the family of figures.
pub fn judge(conditions: &[Condition], a: &Set, b: &Set, options: &Options) -> Vec<Judged> {
    let judge = |condition: &Condition| {
        let outcome = if condition.is_change() {
            rows(&[(condition.figure(), Weight::Main)], a, b, options).pop().map(|row| row.outcome)
        } else {
            of_value(condition.figure(), a, b, &options.settings)
        };
        condition.judge(outcome.as_ref(), &options.settings)
    };
    conditions.iter().map(judge).collect()
}

/// For a condition on B's own value: A need not have been measured, and pairs do not matter.
fn of_value(figure: &'static Figure, a: &Set, b: &Set, settings: &Settings) -> Option<Outcome> {
    let column = set::column(figure, Weight::Main, a, b);
    let is_measured = column.b.iter().any(Option::is_some);
    is_measured.then(|| family::compare(&[column], settings).pop()).flatten()
}

/// Figures that are quantiles of the distribution whose shape is told.
const QUANTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// Lets the shape say of these quantiles what the table says. Where the table calls a difference not certain among so many
/// figures, the shape may.
fn agree(shape: &mut Shape, rows: &[Row]) {
    for (key, percentile) in QUANTILES {
        let Some(row) = rows.iter().find(|row| row.figure.key == key) else { continue };
        match row.verdict() {
            Verdict::NotEnough => {}
            Verdict::NoDifference if row.outcome.remark == Some(Remark::AloneOnly) => {}
            verdict => shape.agree(percentile, verdict.is_difference()),
        }
    }
}

impl Comparison {
    /// The row of a figure.
    pub fn row(&self, key: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.figure.key == key)
    }

    /// What the distributions look like beside each other, in one sentence.
    ///
    /// Where no figure differs the sentence does not say that a part of the distribution does: that would be one more chance
    /// of a false alarm.
    pub fn shape_sentence(&self) -> String {
        let Some(shape) = &self.shape else {
            return "There are too few repetitions, or too few latencies, to compare their distribution.".into();
        };
        let differs = self.rows.iter().any(|row| row.verdict().is_difference());
        let sentence = shape.sentence();
        match shape.points.iter().any(|point| point.differs) && !differs {
            true => {
                let sentence = sentence.trim_end_matches('.');
                format!(
                    "Looked at alone, the curves would say: {sentence}; but no figure differs, so it may be chance."
                )
            }
            false => sentence,
        }
    }

    /// The whole in one sentence.
    pub fn headline(&self) -> String {
        let named = |verdict: Verdict| {
            let rows = self.rows.iter().filter(|row| row.verdict() == verdict);
            rows.map(|row| row.figure.title).collect::<Vec<_>>().join(", ")
        };
        let (worse, better) = (named(Verdict::Worse), named(Verdict::Better));
        match (worse.is_empty(), better.is_empty()) {
            (false, true) => format!("B is worse in {worse}."),
            (false, false) => format!("B is worse in {worse}, and better in {better}."),
            (true, false) if self.rows.iter().any(|row| row.verdict() == Verdict::NotEnough) => {
                format!("B is better in {better}.")
            }
            (true, false) => format!("B is better in {better}, and worse in nothing."),
            (true, true) if self.rows.is_empty() => "There is no figure that both sides have.".into(),
            (true, true) if self.rows.iter().all(|row| row.verdict() == Verdict::NotEnough) => {
                "There is no telling: not enough repetitions.".into()
            }
            (true, true) => "No difference is seen.".into(),
        }
    }
}
