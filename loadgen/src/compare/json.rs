//! A comparison for machines: the fields of `loadgen compare --json`.

use serde::Serialize;

use crate::compare::bootstrap::Estimate;
use crate::compare::comparable::Difference;
use crate::compare::comparison::{Comparison, Row};
use crate::compare::fail_if::Judged;
use crate::compare::outcome::{Remark, Verdict};
use crate::compare::set::Set;
use crate::compare::shape::Point;

/// What `format` says.
pub const FORMAT: &str = "fanfare-loadgen-comparison";

/// The version of these fields.
pub const VERSION: u32 = 1;

/// The whole document.
#[derive(Debug, Clone, Serialize)]
pub struct Document {
    /// [`FORMAT`].
    pub format: &'static str,
    /// [`VERSION`].
    pub version: u32,
    /// The first side.
    pub a: Side,
    /// The second.
    pub b: Side,
    /// The whole in one sentence.
    pub headline: String,
    /// Every figure that both sides have.
    pub figures: Vec<FigureOutcome>,
    /// Where in the distribution B differs, in one sentence.
    pub distribution: String,
    /// The same in numbers, quantile by quantile.
    pub quantiles: Vec<Point>,
    /// In what the results differ.
    pub differences: Vec<Difference>,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// The conditions of `--fail-if`, and whether they are met.
    pub conditions: Vec<Judged>,
}

/// One side.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// Folders of its results.
    pub results: Vec<String>,
    /// Revisions of the server that they name.
    pub revisions: Vec<String>,
    /// Its usable repetitions.
    pub repetitions: usize,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct FigureOutcome {
    /// Its name on the command line.
    pub key: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The verdict on B.
    pub verdict: Verdict,
    /// What is to be said about it.
    pub remark: Option<Remark>,
    /// The median of A's repetitions; durations in nanoseconds, shares from 0 to 1.
    pub median_a: Option<f64>,
    /// The median of B's.
    pub median_b: Option<f64>,
    /// B by A with its 95 % interval; none where values are not all above zero.
    pub ratio: Option<Estimate>,
    /// How great a difference would have been seen, as a share.
    pub seen_from: Option<f64>,
    /// The chance of such a difference in this figure if there is none.
    pub chance_alone: Option<f64>,
    /// The chance of such a difference in any of the figures compared together; the verdict is made from this.
    pub chance: Option<f64>,
    /// A's repetitions, in order.
    pub a: Vec<f64>,
    /// B's.
    pub b: Vec<f64>,
}

impl Document {
    /// Of a comparison.
    pub fn new(a: &Set, b: &Set, comparison: &Comparison, conditions: Vec<Judged>) -> Self {
        Self {
            format: FORMAT,
            version: VERSION,
            a: Side::new(a, comparison.repetitions.0),
            b: Side::new(b, comparison.repetitions.1),
            headline: comparison.headline(),
            figures: comparison.rows.iter().map(FigureOutcome::new).collect(),
            distribution: comparison.shape_sentence(),
            quantiles: comparison.shape.clone().unwrap_or_default().points,
            differences: comparison.differences.clone(),
            notes: comparison.notes.clone(),
            conditions,
        }
    }
}

impl Side {
    fn new(set: &Set, repetitions: usize) -> Self {
        let mut revisions: Vec<String> =
            set.reports().map(|report| report.environment.server_revision.clone()).collect();
        revisions.retain(|revision| !revision.is_empty());
        revisions.sort();
        revisions.dedup();
        let results = set.sources.iter().map(|source| source.path.display().to_string()).collect();
        Self { results, revisions, repetitions }
    }
}

impl FigureOutcome {
    fn new(row: &Row) -> Self {
        let outcome = &row.outcome;
        Self {
            key: row.figure.key,
            title: row.figure.title,
            verdict: row.verdict(),
            remark: outcome.remark,
            median_a: outcome.median_a,
            median_b: outcome.median_b,
            ratio: outcome.ratio,
            seen_from: outcome.seen_from(),
            chance_alone: outcome.chance_alone,
            chance: outcome.chance,
            a: outcome.a.clone(),
            b: outcome.b.clone(),
        }
    }
}
