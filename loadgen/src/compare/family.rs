//! Figures of two sets of repetitions, compared together, and figures of pairs of slices.

use crate::compare::bootstrap::{self, Estimate};
use crate::compare::outcome::{Finding, Outcome, PAIRS_MIN, REPETITIONS_MIN, Settings, Weight, find};
use crate::compare::permutation::{self, Chance, Deals};
use crate::compare::statistics::median;

/// More pairs than this are averaged with their neighbours first: their ratios are no more independent than that anyway.
const PAIRS_MAX: usize = 256;

/// One figure of all repetitions: none where it was not measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Column {
    /// A's repetitions, in order.
    pub a: Vec<Option<f64>>,
    /// B's.
    pub b: Vec<Option<f64>>,
    /// How important it is.
    pub weight: Weight,
}

/// One figure of all pairs: (A, B); none where it was not measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairedColumn {
    /// The pairs, in order.
    pub pairs: Vec<Option<(f64, f64)>>,
    /// How important it is.
    pub weight: Weight,
}

/// On which scale values are compared: logarithms, or, with zeros among them, logarithms of one more.
fn scale(mut values: impl Iterator<Item = f64>) -> (fn(f64) -> f64, bool) {
    let has_ratio = values.all(|value| value > 0.0);
    if has_ratio { (f64::ln, true) } else { (|value| value.max(0.0).ln_1p(), false) }
}

fn present(values: &[Option<f64>]) -> Vec<f64> {
    values.iter().flatten().copied().collect()
}

/// Compares figures of two sets of repetitions, holding the chance of any false alarm among them all to
/// [`LEVEL`](crate::compare::outcome::LEVEL). Every column must have as many values on each side as the others, missing ones
/// included; values must be finite.
pub fn compare(columns: &[Column], settings: &Settings) -> Vec<Outcome> {
    let Some(first) = columns.first() else { return Vec::new() };
    let scaled: Vec<Vec<Option<f64>>> = columns.iter().map(on_scale).collect();
    let deals = Deals::new(first.a.len(), first.b.len(), settings.deals, settings.seed ^ fingerprint(&scaled));
    // Figures that can raise no alarm take no part, and so take no power from the others.
    let judged: Vec<usize> = (0..columns.len()).filter(|n| is_enough(&columns[*n])).collect();
    let taking_part = |n: &usize| match can_matter(&columns[*n], settings.least) {
        true => scaled[*n].clone(),
        false => vec![None; scaled[*n].len()],
    };
    let values: Vec<Vec<Option<f64>>> = judged.iter().map(taking_part).collect();
    let handicaps: Vec<f64> = judged.iter().map(|n| columns[*n].weight.handicap()).collect();
    let chances = permutation::two_groups(&values, &handicaps, &deals);
    let chance_of = |n: usize| judged.iter().position(|judged| *judged == n).map(|place| chances[place]);
    columns.iter().enumerate().map(|(n, column)| outcome(column, chance_of(n), settings)).collect()
}

/// A number made of the values, so that the random deals are others for other values: a fixed choice of deals would raise a
/// little too many or too few alarms for good.
fn fingerprint(values: &[Vec<Option<f64>>]) -> u64 {
    let bits = values.iter().flatten().flatten().map(|value| value.to_bits());
    bits.fold(0, |all: u64, bits| (all ^ bits).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29))
}

/// Whether any way of dealing the values could show a difference worth telling. It looks at all values together, without
/// regard to their sides, so leaving the others out is fair.
fn can_matter(column: &Column, least: f64) -> bool {
    let all = || column.a.iter().chain(&column.b).flatten().copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    high > low && (low <= 0.0 || high / low >= 1.0 + least)
}

fn on_scale(column: &Column) -> Vec<Option<f64>> {
    let all = || column.a.iter().chain(&column.b);
    let (scale, _) = scale(all().flatten().copied());
    all().map(|value| value.map(scale)).collect()
}

fn is_enough(column: &Column) -> bool {
    let count = |values: &[Option<f64>]| values.iter().flatten().count();
    count(&column.a) >= REPETITIONS_MIN && count(&column.b) >= REPETITIONS_MIN
}

fn outcome(column: &Column, chance: Option<Chance>, settings: &Settings) -> Outcome {
    let (a, b) = (present(&column.a), present(&column.b));
    let (scale, has_ratio) = scale(a.iter().chain(&b).copied());
    let logs = |values: &[f64]| -> Vec<f64> { values.iter().copied().map(scale).collect() };
    let (logs_a, logs_b) = (logs(&a), logs(&b));
    let can_be_drawn = has_ratio && a.len() > 1 && b.len() > 1;
    let ratio = can_be_drawn.then(|| bootstrap::difference(&logs_a, &logs_b, settings.seed, settings.resamples).exp());
    let mean = |logs: &[f64]| logs.iter().sum::<f64>() / logs.len().max(1) as f64;
    let direction = mean(&logs_b) - mean(&logs_a);
    judged(a, b, ratio, direction, chance, settings)
}

fn judged(
    a: Vec<f64>,
    b: Vec<f64>,
    ratio: Option<Estimate>,
    direction: f64,
    chance: Option<Chance>,
    settings: &Settings,
) -> Outcome {
    let (finding, remark) = match chance {
        None => (Finding::NotEnough, None),
        Some(chance) => find(ratio.as_ref(), direction, chance.alone, chance.in_family, settings.least),
    };
    Outcome {
        median_a: median(&a),
        median_b: median(&b),
        a,
        b,
        ratio,
        chance_alone: chance.map(|chance| chance.alone),
        chance: chance.map(|chance| chance.in_family),
        finding,
        remark,
    }
}

/// Compares one figure of pairs (A, B) that were measured right after each other, so that what drifts cancels out. Values
/// must be finite. Fewer than [`PAIRS_MIN`] are not enough.
pub fn paired(pairs: &[(f64, f64)], seed: u64) -> Outcome {
    let column = PairedColumn { pairs: pairs.iter().copied().map(Some).collect(), weight: Weight::Main };
    let settings = Settings { seed, ..Settings::default() };
    compare_pairs(&[column], &settings).into_iter().next().expect("one column gives one outcome")
}

/// Compares figures of pairs together, holding the chance of any false alarm among them all to the level, as [`compare`]
/// does. Every column must have as many pairs as the others, missing ones included.
pub fn compare_pairs(columns: &[PairedColumn], settings: &Settings) -> Vec<Outcome> {
    let differences: Vec<Vec<Option<f64>>> = columns.iter().map(differences).collect();
    let is_enough = |n: &usize| differences[*n].iter().flatten().count() >= PAIRS_MIN;
    let judged_columns: Vec<usize> = (0..columns.len()).filter(is_enough).collect();
    let values: Vec<Vec<Option<f64>>> = judged_columns.iter().map(|n| differences[*n].clone()).collect();
    let handicaps: Vec<f64> = judged_columns.iter().map(|n| columns[*n].weight.handicap()).collect();
    let seed = settings.seed ^ fingerprint(&values);
    let chances = permutation::pairs(&values, &handicaps, settings.deals, seed);
    let outcomes = columns.iter().enumerate().map(|(n, column)| {
        let chance = judged_columns.iter().position(|judged| *judged == n).map(|place| chances[place]);
        let present: Vec<f64> = differences[n].iter().flatten().copied().collect();
        let (a, b): (Vec<f64>, Vec<f64>) = column.pairs.iter().flatten().copied().unzip();
        let has_ratio = scale(a.iter().chain(&b).copied()).1 && present.len() > 1;
        let ratio = has_ratio.then(|| bootstrap::middle(&present, settings.seed, settings.resamples).exp());
        judged(a, b, ratio, present.iter().sum(), chance, settings)
    });
    outcomes.collect()
}

/// Of logarithms, neighbours averaged if there are very many.
fn differences(column: &PairedColumn) -> Vec<Option<f64>> {
    let (scale, _) = scale(column.pairs.iter().flatten().flat_map(|(a, b)| [*a, *b]));
    let all: Vec<Option<f64>> = column.pairs.iter().map(|pair| pair.map(|(a, b)| scale(b) - scale(a))).collect();
    let together = all.len().div_ceil(PAIRS_MAX);
    let average = |some: &[Option<f64>]| {
        let present: Vec<f64> = some.iter().flatten().copied().collect();
        (!present.is_empty()).then(|| present.iter().sum::<f64>() / present.len() as f64)
    };
    all.chunks(together.max(1)).map(average).collect()
}
