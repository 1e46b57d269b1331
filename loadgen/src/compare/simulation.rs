//! The promises of the comparison, kept over simulated runs: how often alike runs are called different, how often planted
//! differences are found, how often an interval holds the truth. Seeds are fixed, so a run of these tests is repeatable.
//!
//! The tables of docs/BENCHMARKING.md are printed by `tables`:
//! `cargo test -p loadgen --lib compare::simulation::tables -- --ignored --nocapture`.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use crate::compare::family::{Column, PairedColumn, compare, compare_pairs};
use crate::compare::outcome::{Finding, Outcome, Settings, Weight};

/// How one repetition differs from the next.
#[derive(Debug, Clone, Copy)]
enum Noise {
    /// Log-normal.
    Normal,
    /// Student's with 3 degrees of freedom: now and then far out, on either side.
    Heavy,
    /// More to the slow side than to the fast.
    Skewed,
    /// Normal, but one repetition in 14 is slowed by 8 standard deviations.
    Outliers,
}

const NOISES: [Noise; 4] = [Noise::Normal, Noise::Heavy, Noise::Skewed, Noise::Outliers];

fn deviate(rng: &mut Xoshiro256PlusPlus, noise: Noise) -> f64 {
    let mut normal = || -> f64 { StandardNormal.sample(rng) };
    let z = normal();
    match noise {
        Noise::Normal => z,
        Noise::Heavy => z / (0..3).map(|_| normal().powi(2)).sum::<f64>().sqrt(),
        Noise::Skewed => ((0.8 * z).exp() - 1.377) / 1.3,
        Noise::Outliers => z + if rng.random_range(0..14) == 0 { 8.0 } else { 0.0 },
    }
}

/// The figures of a repetition: how much the machine, the tail, connecting and the server's CPU move each of them (in
/// logarithms), and what is its own; p99 moves by 3 % in all, and figures of the same deliveries move together.
const FIGURES: &[(&str, [f64; 4], f64, Weight)] = &[
    ("p50", [0.025, 0.0, 0.0, 0.0], 0.005, Weight::Headline),
    ("p90", [0.022, 0.010, 0.0, 0.0], 0.006, Weight::Further),
    ("p99", [0.018, 0.022, 0.0, 0.0], 0.009, Weight::Main),
    ("p99.9", [0.018, 0.035, 0.0, 0.0], 0.03, Weight::Further),
    ("max", [0.018, 0.05, 0.0, 0.0], 0.15, Weight::Further),
    ("service-p50", [0.025, 0.0, 0.0, 0.0], 0.0055, Weight::Further),
    ("service-p99", [0.018, 0.022, 0.0, 0.0], 0.010, Weight::Further),
    ("completion-p50", [0.022, 0.010, 0.0, 0.0], 0.006, Weight::Further),
    ("completion-p99", [0.018, 0.022, 0.0, 0.0], 0.012, Weight::Headline),
    ("completion-max", [0.018, 0.05, 0.0, 0.0], 0.15, Weight::Further),
    ("deliveries", [0.0; 4], 0.0005, Weight::Headline),
    ("publications", [0.0; 4], 0.0001, Weight::Further),
    ("handshake-p50", [0.01, 0.0, 0.03, 0.0], 0.02, Weight::Further),
    ("handshake-p99", [0.01, 0.0, 0.06, 0.0], 0.06, Weight::Further),
    ("connects", [-0.01, 0.0, -0.03, 0.0], 0.02, Weight::Further),
    ("server-cpu", [0.01, 0.0, 0.0, 0.010], 0.004, Weight::Headline),
    ("server-rss", [0.0; 4], 0.005, Weight::Further),
    ("fairness", [0.0, 0.003, 0.0, 0.0], 0.01, Weight::Further),
];

const P99: usize = 2;

/// What p99 moves by in the model, from one repetition to the next.
const P99_NOISE: f64 = 0.03;

/// One repetition's figures; `scale` multiplies all noise.
fn repetition(rng: &mut Xoshiro256PlusPlus, noise: Noise, scale: f64) -> Vec<f64> {
    let common: [f64; 4] = std::array::from_fn(|_| deviate(rng, noise));
    let mut figure = |of_common: &[f64; 4], own: f64| {
        let moved: f64 = of_common.iter().zip(&common).map(|(by, common)| by * common).sum();
        1e6 * (scale * (moved + own * deviate(rng, noise))).exp()
    };
    FIGURES.iter().map(|(_, of_common, own, _)| figure(of_common, *own)).collect()
}

/// So many repetitions of two alike servers.
fn alike(rng: &mut Xoshiro256PlusPlus, (a, b): (usize, usize), noise: Noise, scale: f64) -> Vec<Column> {
    let all: Vec<Vec<f64>> = (0..a + b).map(|_| repetition(rng, noise, scale)).collect();
    let column = |(n, (_, _, _, weight)): (usize, &(&str, [f64; 4], f64, Weight))| {
        let of = |repetitions: &[Vec<f64>]| repetitions.iter().map(|figures| Some(figures[n])).collect();
        Column { a: of(&all[..a]), b: of(&all[a..]), weight: *weight }
    };
    FIGURES.iter().enumerate().map(column).collect()
}

fn make_worse(column: &mut Column, factor: f64) {
    for value in column.b.iter_mut().flatten() {
        *value *= factor;
    }
}

fn is_alarm(outcome: &Outcome) -> bool {
    matches!(outcome.finding, Finding::Higher | Finding::Lower)
}

/// Fewer draws than the command makes: the tests are to take seconds. Fewer draws make no more alarms.
fn quick(seed: u64) -> Settings {
    Settings { seed, resamples: 300, deals: 499, ..Settings::default() }
}

/// What came of many comparisons.
#[derive(Debug, Default)]
struct Counted {
    comparisons: usize,
    any: usize,
    single: Vec<usize>,
    covered: usize,
    found: usize,
    found_alone: usize,
}

/// Compares alike servers, and the same with p99 made worse by 5 %.
fn count(comparisons: usize, sizes: (usize, usize), noise: Noise, scale: f64, settings: Settings) -> Counted {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed);
    let mut counted = Counted { comparisons, single: vec![0; FIGURES.len()], ..Counted::default() };
    for _ in 0..comparisons {
        let mut columns = alike(&mut rng, sizes, noise, scale);
        let outcomes = compare(&columns, &settings);
        counted.any += usize::from(outcomes.iter().any(is_alarm));
        for (single, outcome) in counted.single.iter_mut().zip(&outcomes) {
            *single += usize::from(is_alarm(outcome));
        }
        counted.covered += usize::from(outcomes[P99].ratio.is_some_and(|ratio| !ratio.excludes(1.0)));
        make_worse(&mut columns[P99], 1.05);
        counted.found += usize::from(compare(&columns, &settings)[P99].finding == Finding::Higher);
        let alone = compare(&columns[P99..=P99], &settings);
        counted.found_alone += usize::from(alone[0].finding == Finding::Higher);
    }
    counted
}

#[test]
fn a_thousand_alike_pairs_raise_at_most_5_percent_false_alarms_in_any_figure() {
    let (mut any, mut p99, mut comparisons) = (0, 0, 0);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(2026);
    for n in 0..1000 {
        let noise = NOISES[n % NOISES.len()];
        let sizes = [(4, 4), (5, 5), (6, 6), (5, 8), (10, 10)][n / NOISES.len() % 5];
        let scale = [0.33, 1.0, 3.3][n / (NOISES.len() * 5) % 3];
        let outcomes = compare(&alike(&mut rng, sizes, noise, scale), &quick(1));
        any += usize::from(outcomes.iter().any(is_alarm));
        p99 += usize::from(is_alarm(&outcomes[P99]));
        comparisons += 1;
    }
    assert!(any <= comparisons / 20, "{any} of {comparisons} comparisons of alike servers say that they differ");
    assert!(p99 <= comparisons / 20, "{p99} of {comparisons} say so of p99");
    assert!(any > 0, "a test that never raises an alarm proves nothing");
}

#[test]
fn a_p99_5_percent_worse_is_found_with_10_repetitions() {
    let counted = count(300, (10, 10), Noise::Normal, 1.0, quick(3));
    assert!(counted.found * 100 >= 80 * counted.comparisons, "found {} of {}", counted.found, counted.comparisons);
}

#[test]
fn a_p99_30_percent_worse_is_found_with_4_repetitions() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(4);
    let mut found = 0;
    for _ in 0..200 {
        let mut columns = alike(&mut rng, (4, 4), Noise::Normal, 1.0);
        make_worse(&mut columns[P99], 1.3);
        found += usize::from(compare(&columns, &quick(1))[P99].finding == Finding::Higher);
    }
    assert!(found >= 190, "{found} of 200");
}

#[test]
fn the_interval_holds_the_truth_in_about_95_percent() {
    for (noise, sizes) in [(Noise::Normal, (4, 4)), (Noise::Heavy, (5, 5)), (Noise::Skewed, (5, 12))] {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut held = 0;
        for _ in 0..600 {
            let mut column = alike(&mut rng, sizes, noise, 1.0).swap_remove(P99);
            make_worse(&mut column, 1.2);
            let ratio = compare(&[column], &quick(1))[0].ratio.expect("all values are above zero");
            held += usize::from(ratio.low <= 1.2 && 1.2 <= ratio.high);
        }
        // Three standard errors below 95 %.
        assert!((554..=594).contains(&held), "{held} of 600 with {noise:?} noise and {sizes:?} repetitions");
    }
}

/// Pairs of a machine that drifts by 10 % from each to the next: both sides of a pair drift alike. With `factor`, p99 of B
/// (and only that) is worse by it.
fn drifting_pairs(
    rng: &mut Xoshiro256PlusPlus,
    pairs: usize,
    noise: Noise,
    scale: f64,
    factor: f64,
) -> Vec<PairedColumn> {
    let mut drift = 0.0;
    let mut pair = || {
        drift += 0.1 * deviate(rng, Noise::Normal);
        (repetition(rng, noise, scale), repetition(rng, noise, scale), f64::exp(drift))
    };
    let all: Vec<(Vec<f64>, Vec<f64>, f64)> = (0..pairs).map(|_| pair()).collect();
    let column = |n: usize| {
        let factor = if n == P99 { factor } else { 1.0 };
        let pair = |(a, b, drift): &(Vec<f64>, Vec<f64>, f64)| Some((a[n] * drift, b[n] * drift * factor));
        PairedColumn { pairs: all.iter().map(pair).collect(), weight: FIGURES[n].3 }
    };
    (0..FIGURES.len()).map(column).collect()
}

#[test]
fn pairs_of_alike_servers_raise_at_most_5_percent_false_alarms_however_the_machine_drifts() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(6);
    let (mut any, mut found) = (0, 0);
    for n in 0..1000 {
        let (noise, pairs) = (NOISES[n % NOISES.len()], [6, 8, 12, 20][n / NOISES.len() % 4]);
        any += usize::from(
            compare_pairs(&drifting_pairs(&mut rng, pairs, noise, 1.0, 1.0), &quick(1)).iter().any(is_alarm),
        );
        if n % 10 == 0 {
            let worse = compare_pairs(&drifting_pairs(&mut rng, 20, Noise::Normal, 1.0, 1.05), &quick(1));
            found += usize::from(worse[P99].finding == Finding::Higher);
        }
    }
    assert!(any <= 50, "{any} of 1,000");
    assert!(found >= 90, "5 % worse is found in {found} of 100 with 20 pairs");
}

#[test]
#[ignore = "prints the tables of the documentation; takes minutes"]
fn tables() {
    println!(
        "| noise of p99 | shape | repetitions | any false alarm | p99 | interval holds 1 | +5 % found | with --figure p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let normal = [1.0 / 3.0, 1.0, 5.0 / 3.0, 10.0 / 3.0].map(|scale| (scale, Noise::Normal));
    let others = [Noise::Heavy, Noise::Skewed, Noise::Outliers].map(|noise| (1.0, noise));
    for (scale, noise) in normal.into_iter().chain(others) {
        for n in [4, 5, 7, 10, 20] {
            println!("{}", row(n, noise, scale));
        }
    }
    println!("\n| noise of p99 | pairs | any false alarm | p99 +5 % found |\n|---|---|---|---|");
    for (name, scale) in [("3 %", 1.0), ("5 %", 5.0 / 3.0)] {
        for pairs in [6, 8, 12, 20, 40] {
            println!("| {name} | {pairs} | {} |", paired_row(pairs, scale));
        }
    }
}

const MANY: Settings = Settings { seed: 1, resamples: 400, deals: 999, least: 0.01 };

fn row(n: usize, noise: Noise, scale: f64) -> String {
    let counted = count(1000, (n, n), noise, scale, MANY);
    let share = |count: usize| 100.0 * count as f64 / counted.comparisons as f64;
    format!(
        "| {:.0} % | {noise:?} | {n} + {n} | {:.1} % | {:.1} % | {:.1} % | {:.0} % | {:.0} % |",
        scale * P99_NOISE * 100.0,
        share(counted.any),
        share(counted.single[P99]),
        share(counted.covered),
        share(counted.found),
        share(counted.found_alone)
    )
}

fn paired_row(pairs: usize, scale: f64) -> String {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let (mut any, mut found) = (0, 0);
    for _ in 0..1000 {
        let alike = drifting_pairs(&mut rng, pairs, Noise::Normal, scale, 1.0);
        any += usize::from(compare_pairs(&alike, &MANY).iter().any(is_alarm));
        let worse = drifting_pairs(&mut rng, pairs, Noise::Normal, scale, 1.05);
        found += usize::from(compare_pairs(&worse, &MANY)[P99].finding == Finding::Higher);
    }
    format!("{:.1} % | {:.0} %", any as f64 / 10.0, found as f64 / 10.0)
}
