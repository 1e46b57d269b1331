//! Where in the distribution B differs from A: the ratio of the merged distributions, quantile by quantile.
//!
//! Two levels: the values within a repetition belong together (one disturbed second makes thousands of them), so whole
//! repetitions are resampled for the band and dealt for the test, never single values. Repetitions are kept as cumulated
//! counts over one common axis; a resample is then a vector of weights, and a quantile a search by halving.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use crate::compare::bootstrap::Estimate;
use crate::compare::outcome::{LEVEL, REPETITIONS_MIN, Settings};
use crate::compare::permutation::{Deals, step_down};
use crate::compare::statistics::{expanded_tail, interpolated};
use crate::measure::Latencies;

/// The quantiles that are compared, in percent.
pub const PERCENTILES: [f64; 18] =
    [1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99];

/// So many values must lie beyond a quantile, on either side, or it tells nothing.
const BEYOND_MIN: f64 = 10.0;

/// Resamples and deals are much work here, so there are fewer of them at most.
const DRAWS_MAX: usize = 1_000;

/// One quantile of both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    /// The quantile, in percent.
    pub percentile: f64,
    /// A's, all repetitions merged, in nanoseconds.
    pub a_ns: u64,
    /// B's.
    pub b_ns: u64,
    /// B's by A's, with its 95 % interval.
    pub ratio: Estimate,
    /// That such a difference, or a greater one, comes by chance at any of the quantiles; none with too few repetitions.
    pub chance: Option<f64>,
    /// Whether B differs here: not by chance, and by more than what is too small to be told. Where the table has the same
    /// figure, its verdict.
    pub differs: bool,
}

/// Where B differs from A.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Shape {
    /// From the lowest quantile to the highest that has enough values.
    pub points: Vec<Point>,
}

/// All repetitions, A's first, as cumulated counts.
struct Cumulated {
    /// The values that occur, sorted.
    axis: Vec<u64>,
    /// For each of them, how many are not above it in each repetition: a row a value.
    counts: Vec<u64>,
    repetitions: usize,
}

impl Cumulated {
    fn new(repetitions: &[&Latencies]) -> Self {
        let values = |latencies: &Latencies| {
            let histogram = latencies.histogram();
            let recorded = histogram.iter_recorded();
            recorded.map(|value| (value.value_iterated_to(), value.count_at_value())).collect::<Vec<_>>()
        };
        let of_each: Vec<Vec<(u64, u64)>> = repetitions.iter().map(|latencies| values(latencies)).collect();
        let mut axis: Vec<u64> = of_each.iter().flatten().map(|(value, _)| *value).collect();
        axis.sort_unstable();
        axis.dedup();
        let mut counts = vec![0; axis.len() * repetitions.len()];
        for (repetition, values) in of_each.iter().enumerate() {
            let (mut next, mut below) = (values.iter().peekable(), 0);
            for (row, value) in axis.iter().enumerate() {
                while let Some((_, count)) = next.next_if(|(there, _)| there <= value) {
                    below += count;
                }
                counts[row * repetitions.len() + repetition] = below;
            }
        }
        Self { axis, counts, repetitions: repetitions.len() }
    }

    fn below(&self, row: usize, weights: &[u64]) -> u64 {
        let row = &self.counts[row * self.repetitions..(row + 1) * self.repetitions];
        row.iter().zip(weights).map(|(count, weight)| count * weight).sum()
    }

    /// The quantiles of the repetitions merged, each as often as `weights` says.
    fn quantiles(&self, weights: &[u64], percentiles: &[f64], into: &mut [u64]) {
        let total = self.axis.len().checked_sub(1).map_or(0, |last| self.below(last, weights));
        let mut from = 0;
        for (percentile, into) in percentiles.iter().zip(into) {
            let wanted = (percentile / 100.0 * total as f64).ceil().max(1.0) as u64;
            let (mut low, mut high) = (from, self.axis.len());
            while low < high {
                let middle = usize::midpoint(low, high);
                if self.below(middle, weights) < wanted { low = middle + 1 } else { high = middle }
            }
            *into = self.axis.get(low).copied().unwrap_or_default();
            from = low.min(self.axis.len().saturating_sub(1));
        }
    }
}

/// Both sides' quantiles for weights of all repetitions.
struct Sides<'a> {
    cumulated: &'a Cumulated,
    percentiles: &'a [f64],
    a: Vec<u64>,
    b: Vec<u64>,
}

impl Sides<'_> {
    fn logs(&mut self, weights_a: &[u64], weights_b: &[u64], into: &mut [f64]) {
        self.cumulated.quantiles(weights_a, self.percentiles, &mut self.a);
        self.cumulated.quantiles(weights_b, self.percentiles, &mut self.b);
        for (into, (a, b)) in into.iter_mut().zip(self.a.iter().zip(&self.b)) {
            *into = (*b as f64).max(1.0).ln() - (*a as f64).max(1.0).ln();
        }
    }
}

/// Compares the distributions of the repetitions' latencies. None if a side has fewer than two repetitions or hardly any
/// values.
pub fn compare(a: &[&Latencies], b: &[&Latencies], settings: &Settings) -> Option<Shape> {
    let count = |side: &[&Latencies]| side.iter().map(|latencies| latencies.len()).sum::<u64>();
    let fewer = count(a).min(count(b)) as f64;
    let percentiles: Vec<f64> =
        PERCENTILES.into_iter().filter(|percentile| fewer * (1.0 - percentile / 100.0) >= BEYOND_MIN).collect();
    if percentiles.is_empty() || a.len() < 2 || b.len() < 2 {
        return None;
    }
    let all: Vec<&Latencies> = a.iter().chain(b).copied().collect();
    let cumulated = Cumulated::new(&all);
    let zeros = vec![0; percentiles.len()];
    let mut sides = Sides { cumulated: &cumulated, percentiles: &percentiles, a: zeros.clone(), b: zeros };
    let (mut weights_a, mut weights_b) = (vec![0; all.len()], vec![0; all.len()]);
    weights_a[..a.len()].fill(1);
    weights_b[a.len()..].fill(1);
    let mut seen = vec![0.0; percentiles.len()];
    sides.logs(&weights_a, &weights_b, &mut seen);
    let (at_a, at_b) = (sides.a.clone(), sides.b.clone());
    let ratios = band(&mut sides, &seen, (a.len(), b.len()), settings);
    let chances = chances(&mut sides, &seen, (a.len(), b.len()), settings);
    let point = |(n, percentile): (usize, &f64)| {
        let (ratio, chance) = (ratios[n].exp(), chances.as_ref().map(|chances| chances[n]));
        let is_certain = chance.is_some_and(|chance| chance <= LEVEL);
        let differs = is_certain && ratio.excludes(1.0) && (ratio.value - 1.0).abs() >= settings.least;
        Point { percentile: *percentile, a_ns: at_a[n], b_ns: at_b[n], ratio, chance, differs }
    };
    Some(Shape { points: percentiles.iter().enumerate().map(point).collect() })
}

/// The 95 % intervals, quantile by quantile, by resampling repetitions.
fn band(sides: &mut Sides<'_>, seen: &[f64], (a, b): (usize, usize), settings: &Settings) -> Vec<Estimate> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let draws = settings.resamples.min(DRAWS_MAX);
    let mut drawn = vec![Vec::with_capacity(draws); seen.len()];
    let mut logs = vec![0.0; seen.len()];
    for _ in 0..draws {
        let (mut of_a, mut of_b) = (vec![0; a + b], vec![0; a + b]);
        (0..a).for_each(|_| of_a[rng.random_range(0..a)] += 1);
        (0..b).for_each(|_| of_b[a + rng.random_range(0..b)] += 1);
        sides.logs(&of_a, &of_b, &mut logs);
        drawn.iter_mut().zip(&logs).for_each(|(drawn, log)| drawn.push(*log));
    }
    let tail = expanded_tail((a + b - 2) as f64, a.min(b));
    let estimate = |(drawn, value): (&mut Vec<f64>, &f64)| {
        drawn.sort_unstable_by(f64::total_cmp);
        let (low, high) = (interpolated(drawn, tail), interpolated(drawn, 1.0 - tail));
        Estimate { value: *value, low: low.min(*value), high: high.max(*value) }
    };
    drawn.iter_mut().zip(seen).map(estimate).collect()
}

/// The chance of such a difference at any quantile, by dealing repetitions.
fn chances(sides: &mut Sides<'_>, seen: &[f64], (a, b): (usize, usize), settings: &Settings) -> Option<Vec<f64>> {
    if a < REPETITIONS_MIN || b < REPETITIONS_MIN {
        return None;
    }
    let deals = Deals::new(a, b, settings.deals.min(DRAWS_MAX), settings.seed ^ u64::from(seen[0].to_bits() as u32));
    let mut of_deals: Vec<Vec<f64>> = Vec::new();
    let mut logs = vec![0.0; seen.len()];
    for deal in deals.iter() {
        let (mut of_a, mut of_b) = (vec![0; a + b], vec![1; a + b]);
        for repetition in deal {
            of_a[*repetition as usize] = 1;
            of_b[*repetition as usize] = 0;
        }
        sides.logs(&of_a, &of_b, &mut logs);
        of_deals.push(logs.clone());
    }
    // What chance gives at each quantile is the measure for what was seen there.
    let spread = |n: usize| of_deals.iter().map(|logs| logs[n].powi(2)).sum::<f64>().sqrt();
    let spreads: Vec<f64> = (0..seen.len()).map(spread).collect();
    let standard = |logs: &[f64], into: &mut [f64]| {
        for (n, into) in into.iter_mut().enumerate() {
            *into = if spreads[n] > 0.0 { logs[n].abs() / spreads[n] } else { 0.0 };
        }
    };
    let mut standardised = vec![0.0; seen.len()];
    standard(seen, &mut standardised);
    let chances = step_down(&standardised, of_deals.len(), |way, into| standard(&of_deals[way], into));
    Some(chances.into_iter().map(|chance| chance.in_family).collect())
}

impl Shape {
    /// Takes over the verdict of a figure that is the same as the quantile of this percentile, so that both never say
    /// different things.
    pub(crate) fn agree(&mut self, percentile: f64, differs: bool) {
        for point in self.points.iter_mut().filter(|point| point.percentile == percentile && point.chance.is_some()) {
            point.differs = differs;
        }
    }

    /// Where B differs, in one sentence.
    pub fn sentence(&self) -> String {
        let Some(last) = self.points.last() else {
            return "There are too few latencies to compare their shape.".into();
        };
        if self.points.iter().any(|point| point.chance.is_none()) {
            return "There are too few repetitions to say where the distributions differ.".into();
        }
        let regions = self.regions();
        if regions.is_empty() {
            let seen = |wanted: f64| {
                let point = self.points.iter().rfind(|point| point.percentile <= wanted).unwrap_or(last);
                format!("{} at {}", percent(point.ratio.half_width()), name(point.percentile))
            };
            let (middle, tail) = (seen(50.0), seen(99.0));
            return format!(
                "No part of the distribution differs; a difference of about {middle} or {tail} would have been seen."
            );
        }
        let told: Vec<String> = regions.iter().map(|region| self.told(region)).collect();
        let same = match regions.len() {
            1 if regions[0].len() == self.points.len() => "",
            _ => "; elsewhere no difference is proven",
        };
        format!("B is {}{same}.", told.join(", "))
    }

    /// Neighbouring points at which B differs to the same side.
    fn regions(&self) -> Vec<&[Point]> {
        let side = |point: &Point| match point.differs {
            true if point.ratio.value > 1.0 => 1,
            true => -1,
            false => 0,
        };
        self.points.chunk_by(|one, other| side(one) == side(other)).filter(|region| region[0].differs).collect()
    }

    fn told(&self, region: &[Point]) -> String {
        let changes = region.iter().map(|point| (point.ratio.value - 1.0).abs());
        let (least, most) = changes.fold((f64::INFINITY, 0.0_f64), |(least, most), by| (least.min(by), most.max(by)));
        let by = match (percent(least), percent(most)) {
            (least, most) if least == most => least,
            (least, most) => format!("{least} to {most}"),
        };
        let word = if region[0].ratio.value > 1.0 { "slower" } else { "faster" };
        let (first, last) = (region[0].percentile, region[region.len() - 1].percentile);
        let from_start = self.points.first().is_some_and(|point| point.percentile == first);
        let to_end = self.points.last().is_some_and(|point| point.percentile == last);
        let place = match (from_start, to_end) {
            (true, true) => "throughout".into(),
            (true, false) => format!("up to {}", name(last)),
            (false, true) => format!("from {} on", name(first)),
            (false, false) if first == last => format!("at {}", name(first)),
            (false, false) => format!("from {} to {}", name(first), name(last)),
        };
        format!("{by} {word} {place}")
    }
}

fn name(percentile: f64) -> String {
    format!("p{percentile}")
}

/// A share as people read it: `4.2%`, `12%`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() {
        size if !size.is_finite() => "any size".into(),
        size if size < 9.95 => format!("{percent:.1}%"),
        _ => format!("{percent:.0}%"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_distr::{Distribution, LogNormal};

    use super::*;

    /// Repetitions of log-normal latencies that drift by 3 %; above `from` nanoseconds all are slower by `factor`.
    fn repetitions(rng: &mut Xoshiro256PlusPlus, count: usize, from: f64, factor: f64) -> Vec<Latencies> {
        let repetition = |rng: &mut Xoshiro256PlusPlus| {
            let drift = LogNormal::new(0.0, 0.03).unwrap().sample(rng);
            let mut latencies = Latencies::default();
            for _ in 0..5_000 {
                let latency: f64 = LogNormal::new(1e6_f64.ln(), 0.5).unwrap().sample(rng);
                let latency = if latency > from { from + (latency - from) * factor } else { latency };
                latencies.record((latency * drift) as u64);
            }
            latencies
        };
        (0..count).map(|_| repetition(rng)).collect()
    }

    fn shape(a: &[Latencies], b: &[Latencies]) -> Shape {
        let settings = Settings { resamples: 200, deals: 200, ..Settings::default() };
        compare(&a.iter().collect::<Vec<_>>(), &b.iter().collect::<Vec<_>>(), &settings).expect("there are latencies")
    }

    #[test]
    fn alike_distributions_have_at_most_5_percent_false_alarms_at_any_quantile() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(7);
        let alarms = (0..60).filter(|n| {
            let count = [4, 5, 7][n % 3];
            let (a, b) = (repetitions(&mut rng, count, 0.0, 1.0), repetitions(&mut rng, count, 0.0, 1.0));
            shape(&a, &b).points.iter().any(|point| point.differs)
        });
        let alarms = alarms.count();
        assert!(alarms <= 3, "{alarms} of 60");
    }

    #[test]
    fn a_slower_tail_is_found_where_it_begins() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(8);
        let a = repetitions(&mut rng, 7, 0.0, 1.0);
        // p90 of A is 1.9 ms, p99 3.2 ms.
        let b = repetitions(&mut rng, 7, 1_900_000.0, 1.6);
        let shape = shape(&a, &b);
        let differs =
            |percentile: f64| shape.points.iter().any(|point| point.percentile == percentile && point.differs);
        assert!(differs(99.0) && differs(99.5) && !differs(50.0) && !differs(10.0), "{}", shape.sentence());
        let sentence = shape.sentence();
        assert!(sentence.contains("slower from p9") && sentence.contains("no difference"), "{sentence}");
    }

    #[test]
    fn too_few_repetitions_say_so_and_no_latencies_give_no_shape() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
        let (a, b) = (repetitions(&mut rng, 3, 0.0, 1.0), repetitions(&mut rng, 2, 0.0, 2.0));
        assert!(shape(&a, &b).sentence().contains("too few repetitions"));
        assert_eq!(compare(&[&Latencies::default()], &[&a[0]], &Settings::default()), None);
    }

    proptest! {
        #[test]
        fn quantiles_of_weighted_repetitions_are_those_of_merged_histograms(
            values in prop::collection::vec(prop::collection::vec(1..3_000_000_u64, 1..40), 2..5),
            weights in prop::collection::vec(0..3_u64, 5),
        ) {
            let of = |values: &Vec<u64>| {
                let mut latencies = Latencies::default();
                values.iter().for_each(|value| latencies.record(*value));
                latencies
            };
            let repetitions: Vec<Latencies> = values.iter().map(of).collect();
            let weights = &weights[..repetitions.len()];
            let mut merged = Latencies::default();
            for (repetition, weight) in repetitions.iter().zip(weights) {
                (0..*weight).for_each(|_| merged.merge(repetition));
            }
            prop_assume!(!merged.is_empty());
            let mut quantiles = [0; PERCENTILES.len()];
            let cumulated = Cumulated::new(&repetitions.iter().collect::<Vec<_>>());
            cumulated.quantiles(weights, &PERCENTILES, &mut quantiles);
            for (percentile, quantile) in PERCENTILES.iter().zip(quantiles) {
                prop_assert!(merged.histogram().equivalent(quantile, merged.quantile_ns(percentile / 100.0)));
            }
        }
    }
}
