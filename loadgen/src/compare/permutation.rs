//! Whether a difference can be chance: permutation tests over whole repetitions, for all figures of a comparison at once.
//!
//! If A and B were alike, any way of dealing the repetitions to two sides would have been as likely as the one seen. So the
//! differences under all (or many random) ways are what chance gives, whatever the noise looks like. Whole repetitions are
//! dealt, so figures that move together (p99 and completion p99) stay together, and many figures cost less power than
//! Bonferroni's or Holm's rule takes: Westfall's and Young's step-down maximum, which holds the chance of **any** false
//! alarm in the comparison to the level, exactly.
//!
//! The statistic is Student's on values whose outliers were drawn in (before dealing, without regard to the side, so the
//! test stays exact); a figure of less interest gets a handicap, and so leaves power to those that were asked about.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::compare::statistics::median;

/// How far from the middle, in robust standard deviations, a value counts; beyond, it counts as that far.
const DRAWN_IN_AT: f64 = 2.0;

/// From the median absolute deviation to the standard deviation of normal values.
const SIGMA_OF_MAD: f64 = 1.4826;

/// Two statistics this close are the same: sums in another order.
const SAME: f64 = 1e-9;

/// Ways of dealing repetitions to A; what is not dealt is B's. The first is the one seen, or all are there.
#[derive(Debug)]
pub struct Deals {
    dealt: Vec<u32>,
    a: usize,
    all: usize,
}

impl Deals {
    /// All ways to deal `a` of `a + b`, if there are at most `limit`; else the one seen and `limit` random ones.
    pub fn new(a: usize, b: usize, limit: usize, seed: u64) -> Self {
        let all = a + b;
        let ways = (0..a.min(b)).fold(1.0, |ways, n| ways * (all - n) as f64 / (n + 1) as f64);
        let mut deals = Self { dealt: Vec::new(), a, all };
        let seen: Vec<u32> = (0..a as u32).collect();
        if ways <= limit as f64 {
            deals.enumerate(seen);
        } else {
            deals.dealt = seen;
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut order: Vec<u32> = (0..all as u32).collect();
            for _ in 0..limit {
                deals.dealt.extend_from_slice(order.partial_shuffle(&mut rng, a).0);
            }
        }
        deals
    }

    /// All combinations, in the order of the dictionary.
    fn enumerate(&mut self, mut chosen: Vec<u32>) {
        loop {
            self.dealt.extend_from_slice(&chosen);
            let most = |n: usize| (self.all - self.a + n) as u32;
            let Some(n) = (0..self.a).rev().find(|n| chosen[*n] < most(*n)) else { return };
            chosen[n] += 1;
            for next in n + 1..self.a {
                chosen[next] = chosen[next - 1] + 1;
            }
        }
    }

    /// How many ways there are.
    pub fn len(&self) -> usize {
        self.dealt.len() / self.a.max(1)
    }

    /// Whether there are none: nothing is dealt to A.
    pub fn is_empty(&self) -> bool {
        self.dealt.is_empty()
    }

    /// One way: the repetitions (A's first, then B's) that are dealt to A.
    pub fn deal(&self, way: usize) -> &[u32] {
        &self.dealt[way * self.a..(way + 1) * self.a]
    }

    /// The way it was: all of A's are dealt to A. It comes first.
    pub fn seen(&self) -> &[u32] {
        self.deal(0)
    }

    /// All ways.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        self.dealt.chunks_exact(self.a.max(1))
    }
}

/// Centred, outliers drawn in, and scaled so that the squares add up to 1; zeros if all are alike. `None` stays out.
pub fn scores(values: &[Option<f64>]) -> Vec<f64> {
    let present: Vec<f64> = values.iter().flatten().copied().collect();
    let Some(middle) = median(&present) else { return vec![0.0; values.len()] };
    let deviations: Vec<f64> = present.iter().map(|value| (value - middle).abs()).collect();
    let reach = DRAWN_IN_AT * SIGMA_OF_MAD * median(&deviations).unwrap_or_default();
    let drawn_in = |value: f64| if reach > 0.0 { value.clamp(middle - reach, middle + reach) } else { value };
    let mean = present.iter().map(|value| drawn_in(*value)).sum::<f64>() / present.len() as f64;
    let squares: f64 = present.iter().map(|value| (drawn_in(*value) - mean).powi(2)).sum();
    // What is below the precision of the sums is no deviation.
    if squares.sqrt() <= middle.abs() * 1e-12 {
        return vec![0.0; values.len()];
    }
    let score = |value: &Option<f64>| value.map_or(0.0, |value| (drawn_in(value) - mean) / squares.sqrt());
    values.iter().map(score).collect()
}

/// Student's statistic of two groups on the scale of a normal deviate, from the share of the squares explained. Monotone.
fn deviate(explained: f64, degrees: f64) -> f64 {
    (-degrees * (1.0 - explained.min(1.0 - 1e-12)).ln()).max(0.0).sqrt()
}

/// The probabilities of one figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance {
    /// That a difference like this or greater comes by chance, looking at this figure only.
    pub alone: f64,
    /// The same, for any figure of the family: what a verdict is made from.
    pub in_family: f64,
}

/// Adds up how often chance gave as much as was seen.
struct Count {
    seen: Vec<f64>,
    /// From the greatest to the least.
    order: Vec<usize>,
    alone: Vec<u32>,
    stepped: Vec<u32>,
    ways: u32,
}

impl Count {
    fn new(seen: Vec<f64>) -> Self {
        let mut order: Vec<usize> = (0..seen.len()).collect();
        order.sort_by(|one, other| seen[*other].total_cmp(&seen[*one]));
        Self { alone: vec![0; seen.len()], stepped: vec![0; seen.len()], seen, order, ways: 0 }
    }

    fn add(&mut self, statistics: &[f64]) {
        self.ways += 1;
        let mut greatest = f64::NEG_INFINITY;
        for figure in self.order.iter().rev().copied() {
            let seen = self.seen[figure] - SAME;
            greatest = greatest.max(statistics[figure]);
            self.alone[figure] += u32::from(statistics[figure] >= seen);
            self.stepped[figure] += u32::from(greatest >= seen);
        }
    }

    fn chances(self) -> Vec<Chance> {
        let share = |count: u32| f64::from(count) / f64::from(self.ways.max(1));
        let mut chances: Vec<Chance> =
            self.alone.iter().map(|count| Chance { alone: share(*count), in_family: 1.0 }).collect();
        let mut least = 0.0_f64;
        for figure in self.order {
            least = least.max(share(self.stepped[figure]));
            chances[figure].in_family = least;
        }
        chances
    }
}

/// The chances of the statistics seen, larger meaning more different; `of_way` fills in those of each way it could have come
/// out, the one seen among them.
pub fn step_down(seen: &[f64], ways: usize, mut of_way: impl FnMut(usize, &mut [f64])) -> Vec<Chance> {
    let mut count = Count::new(seen.to_vec());
    let mut statistics = vec![0.0; seen.len()];
    for way in 0..ways {
        of_way(way, &mut statistics);
        count.add(&statistics);
    }
    count.chances()
}

/// Two groups: `values[figure][repetition]`, A's `a` repetitions first, the same number in each figure.
pub fn two_groups(values: &[Vec<Option<f64>>], handicaps: &[f64], deals: &Deals) -> Vec<Chance> {
    let columns: Vec<Vec<f64>> = values.iter().map(|column| scores(column)).collect();
    let counts: Vec<f64> = values.iter().map(|column| column.iter().flatten().count() as f64).collect();
    let complete: Vec<bool> = values.iter().map(|column| column.iter().all(Option::is_some)).collect();
    let statistics_of = |deal: &[u32], statistics: &mut [f64]| {
        for (figure, scores) in columns.iter().enumerate() {
            let sum: f64 = deal.iter().map(|n| scores[*n as usize]).sum();
            let in_a = if complete[figure] {
                deal.len() as f64
            } else {
                deal.iter().filter(|n| values[figure][**n as usize].is_some()).count() as f64
            };
            let (all, in_b) = (counts[figure], counts[figure] - in_a);
            let explained = if in_a > 0.0 && in_b > 0.0 { sum * sum * all / (in_a * in_b) } else { 0.0 };
            statistics[figure] = deviate(explained, (all - 2.0).max(1.0)) - handicaps[figure];
        }
    };
    let mut seen = vec![0.0; values.len()];
    statistics_of(deals.seen(), &mut seen);
    step_down(&seen, deals.len(), |way, statistics| statistics_of(deals.deal(way), statistics))
}

/// Pairs: `differences[figure][pair]`. If both sides were alike, each pair could as well have come out the other way round.
pub fn pairs(differences: &[Vec<Option<f64>>], handicaps: &[f64], limit: usize, seed: u64) -> Vec<Chance> {
    let pairs = differences.first().map_or(0, Vec::len);
    let columns: Vec<Vec<f64>> = differences.iter().map(|column| drawn_in_around_zero(column)).collect();
    let squares: Vec<f64> = columns.iter().map(|column| column.iter().map(|value| value * value).sum()).collect();
    let counts: Vec<f64> = differences.iter().map(|column| column.iter().flatten().count() as f64).collect();
    let statistics_of = |flipped: &[bool], statistics: &mut [f64]| {
        for (figure, column) in columns.iter().enumerate() {
            let signed = column.iter().zip(flipped).map(|(value, flipped)| if *flipped { -value } else { *value });
            let sum: f64 = signed.sum();
            let explained = if squares[figure] > 0.0 { sum * sum / (counts[figure] * squares[figure]) } else { 0.0 };
            statistics[figure] = deviate(explained, (counts[figure] - 1.0).max(1.0)) - handicaps[figure];
        }
    };
    let mut flipped = vec![false; pairs];
    let mut seen = vec![0.0; differences.len()];
    statistics_of(&flipped, &mut seen);
    let all_ways = u32::try_from(pairs).ok().and_then(|pairs| 1_usize.checked_shl(pairs)).filter(|ways| *ways <= limit);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    step_down(&seen, all_ways.unwrap_or(limit + 1), |way, statistics| {
        for (pair, flipped) in flipped.iter_mut().enumerate() {
            *flipped = if all_ways.is_some() { way >> pair & 1 == 1 } else { way > 0 && rng.random::<bool>() };
        }
        statistics_of(&flipped, statistics);
    })
}

/// Outliers drawn in by size alone, the sign kept, so that turning a pair round turns its score round.
fn drawn_in_around_zero(differences: &[Option<f64>]) -> Vec<f64> {
    let sizes: Vec<f64> = differences.iter().flatten().map(|value| value.abs()).collect();
    let reach = 1.5 * DRAWN_IN_AT * median(&sizes).unwrap_or_default();
    let drawn_in = |value: f64| if reach > 0.0 { value.clamp(-reach, reach) } else { value };
    differences.iter().map(|value| value.map_or(0.0, drawn_in)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn column(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn few_repetitions_are_dealt_in_every_way_once() {
        for (a, b, ways) in [(4, 4, 70), (3, 3, 20), (2, 5, 21), (1, 3, 4), (5, 5, 252)] {
            let deals = Deals::new(a, b, 5000, 1);
            let all: BTreeSet<Vec<u32>> = deals.iter().map(<[u32]>::to_vec).collect();
            assert_eq!((all.len(), deals.iter().count()), (ways, ways));
            assert!(all.iter().all(|deal| deal.is_sorted() && deal.iter().all(|n| (*n as usize) < a + b)));
        }
    }

    #[test]
    fn many_repetitions_are_dealt_at_random_the_one_seen_first() {
        let deals = Deals::new(10, 12, 300, 1);
        assert_eq!(deals.iter().count(), 301);
        assert!(deals.iter().next().unwrap().iter().copied().eq(0..10));
        for deal in deals.iter() {
            let different: BTreeSet<u32> = deal.iter().copied().collect();
            assert!(different.len() == 10 && different.iter().all(|n| *n < 22));
        }
    }

    #[test]
    fn chances_agree_with_those_counted_by_hand() {
        // Of the 70 ways to deal 4 of 8, only two set all low ones apart from all high ones.
        let apart = column(&[1.0, 1.1, 1.2, 1.3, 5.0, 5.1, 5.2, 5.3]);
        let alike = column(&[1.0; 8]);
        let chances = two_groups(&[apart.clone(), alike], &[0.0, 0.0], &Deals::new(4, 4, 5000, 1));
        assert!((chances[0].alone - 2.0 / 70.0).abs() < 1e-12 && (chances[0].in_family - 2.0 / 70.0).abs() < 1e-12);
        assert_eq!((chances[1].alone, chances[1].in_family), (1.0, 1.0));
        // Of the 64 ways to turn 6 pairs round, two leave all differences on one side.
        let one_side = column(&[0.1, 0.2, 0.1, 0.3, 0.2, 0.1]);
        let chance = pairs(&[one_side], &[0.0], 5000, 1)[0];
        assert!((chance.alone - 2.0 / 64.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_missing_takes_no_part() {
        let mut with_holes = column(&[1.0, 1.1, 1.2, 1.3, 0.0, 5.0, 5.1, 5.2, 5.3, 0.0]);
        with_holes[4] = None;
        with_holes[9] = None;
        let chance = two_groups(&[with_holes], &[0.0], &Deals::new(5, 5, 5000, 1))[0];
        // 252 ways; those that set the four low and the four high apart: which of the holes lies where does not matter.
        assert!((chance.alone - 4.0 / 252.0).abs() < 1e-12, "{chance:?}");
    }

    proptest! {
        #[test]
        fn sides_units_and_the_order_of_repetitions_do_not_matter(
            values in prop::collection::vec(-5.0..5.0_f64, 8), scale in 0.1..9.0_f64, by in -9.0..9.0_f64,
        ) {
            let deals = Deals::new(4, 4, 5000, 1);
            let chance = |values: &[f64]| two_groups(&[column(values)], &[0.0], &deals)[0];
            let seen = chance(&values);
            let other_unit: Vec<f64> = values.iter().map(|value| value * scale + by).collect();
            prop_assert!((chance(&other_unit).alone - seen.alone).abs() < 1e-9);
            let swapped = [&values[4..], &values[..4]].concat();
            prop_assert!((chance(&swapped).alone - seen.alone).abs() < 1e-9);
            let mut reordered = values.clone();
            reordered[..4].reverse();
            prop_assert!((chance(&reordered).alone - seen.alone).abs() < 1e-9);
        }

        #[test]
        fn a_family_never_makes_a_figure_more_certain(
            values in prop::collection::vec(prop::collection::vec(-5.0..5.0_f64, 8), 1..5),
        ) {
            let columns: Vec<_> = values.iter().map(|values| column(values)).collect();
            let handicaps = vec![0.0; columns.len()];
            let chances = two_groups(&columns, &handicaps, &Deals::new(4, 4, 5000, 1));
            for chance in chances {
                prop_assert!(chance.in_family >= chance.alone && chance.in_family <= 1.0 && chance.alone > 0.0);
            }
        }
    }
}
