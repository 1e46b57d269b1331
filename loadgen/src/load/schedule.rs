//! Intended times: when each publication of an open loop is due, whatever the server does.
//!
//! Pure and seeded. Times are nanoseconds after the start of the offered load, which is the start of the warm-up. A rate
//! that changes is kept as pieces that change linearly, and the n-th publication is due when the integral of the rate
//! reaches n: nothing is summed up publication by publication, so nothing drifts.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, Exp1};

use crate::scenario::{Load, LoadKind};

/// The intended times of one drive, in order. A closed loop has none.
#[derive(Debug, Clone)]
pub struct Schedule {
    arrivals: Arrivals,
    /// Times at or after this are none any more.
    end_ns: u64,
    next_ns: Option<u64>,
}

#[derive(Debug, Clone)]
enum Arrivals {
    None,
    Bursts { size: u64, every_ns: u64, made: u64 },
    Rate { pieces: Vec<Piece>, current: usize, reached: f64, spacing: Spacing },
}

/// How far the integral of the rate goes from one publication to the next.
#[derive(Debug, Clone)]
enum Spacing {
    Even,
    Random(Box<Xoshiro256PlusPlus>),
}

/// A time in which the rate changes linearly. Units: seconds and publications a second.
#[derive(Debug, Clone, Copy)]
struct Piece {
    begin_s: f64,
    length_s: f64,
    from_rate: f64,
    to_rate: f64,
    /// The integral of the rate over all earlier pieces.
    integral_before: f64,
}

impl Schedule {
    /// The intended times of `load`: at its first rate during `warmup`, then as it says, until `duration` has passed.
    /// Steps that end earlier are followed by nothing.
    pub fn new(load: &Load, warmup: Duration, duration: Duration, seed: u64) -> Self {
        let arrivals = match load.kind {
            LoadKind::Closed => Arrivals::None,
            LoadKind::Burst => Arrivals::bursts(load),
            _ => Arrivals::rate(load, warmup, duration, seed),
        };
        let mut schedule = Self { arrivals, end_ns: nanoseconds(warmup + duration), next_ns: None };
        schedule.next_ns = schedule.compute();
        schedule
    }

    /// When the next publication is due, without taking it.
    #[inline]
    pub fn peek(&self) -> Option<u64> {
        self.next_ns
    }

    /// Ends the schedule earlier: times at or after `end_ns` are none any more.
    pub fn end_at(&mut self, end_ns: u64) {
        self.end_ns = self.end_ns.min(end_ns);
        self.next_ns = self.next_ns.filter(|next_ns| *next_ns < self.end_ns);
    }

    fn compute(&mut self) -> Option<u64> {
        self.arrivals.next_ns().filter(|next_ns| *next_ns < self.end_ns)
    }
}

impl Iterator for Schedule {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let due_ns = self.next_ns?;
        self.next_ns = self.compute();
        Some(due_ns)
    }
}

impl Arrivals {
    fn bursts(load: &Load) -> Self {
        match nanoseconds(load.burst_every.0) {
            0 => Self::None,
            _ if load.burst_size == 0 => Self::None,
            every_ns => Self::Bursts { size: u64::from(load.burst_size), every_ns, made: 0 },
        }
    }

    fn rate(load: &Load, warmup: Duration, duration: Duration, seed: u64) -> Self {
        let (warmup_s, duration_s) = (warmup.as_secs_f64(), duration.as_secs_f64());
        let mut pieces = Vec::new();
        match load.kind {
            LoadKind::Steps => {
                add(&mut pieces, warmup_s, load.steps.first().map_or(0.0, |step| step.rate_per_s), None);
                for step in &load.steps {
                    add(&mut pieces, step.duration.0.as_secs_f64(), step.rate_per_s, None);
                }
            }
            LoadKind::Ramp => {
                add(&mut pieces, warmup_s, load.rate_per_s, None);
                add(&mut pieces, duration_s, load.rate_per_s, Some(load.to_rate_per_s));
            }
            _ => add(&mut pieces, warmup_s + duration_s, load.rate_per_s, None),
        }
        let (spacing, reached) = match load.kind {
            LoadKind::Poisson => {
                let mut random = Box::new(Xoshiro256PlusPlus::seed_from_u64(seed));
                let first = exponential(&mut random);
                (Spacing::Random(random), first)
            }
            _ => (Spacing::Even, 0.0),
        };
        Self::Rate { pieces, current: 0, reached, spacing }
    }

    /// The next time, taken.
    fn next_ns(&mut self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bursts { size, every_ns, made } => {
                let burst = *made / *size;
                *made += 1;
                burst.checked_mul(*every_ns)
            }
            Self::Rate { pieces, current, reached, spacing } => loop {
                let piece = pieces.get(*current)?;
                match piece.when(*reached) {
                    None => *current += 1,
                    Some(at_s) => {
                        *reached += match spacing {
                            Spacing::Even => 1.0,
                            Spacing::Random(random) => exponential(random),
                        };
                        return Some((at_s * 1e9).round() as u64);
                    }
                }
            },
        }
    }
}

impl Piece {
    fn integral(&self) -> f64 {
        (self.from_rate + self.to_rate) / 2.0 * self.length_s
    }

    /// When the integral over all pieces reaches `n`, if that is in this piece.
    fn when(&self, n: f64) -> Option<f64> {
        let wanted = n - self.integral_before;
        if wanted >= self.integral() {
            return None;
        }
        let slope = (self.to_rate - self.from_rate) / self.length_s;
        // The root of from·t + slope·t²/2 = wanted, in the form that loses no digits when the slope is small.
        let root = (self.from_rate * self.from_rate + 2.0 * slope * wanted).max(0.0).sqrt();
        let after_s = if wanted > 0.0 { 2.0 * wanted / (self.from_rate + root) } else { 0.0 };
        Some(self.begin_s + after_s)
    }
}

/// Adds a piece of `length_s` behind the others; without `to_rate` its rate is constant.
fn add(pieces: &mut Vec<Piece>, length_s: f64, from_rate: f64, to_rate: Option<f64>) {
    let (begin_s, integral_before) =
        pieces.last().map_or((0.0, 0.0), |last| (last.begin_s + last.length_s, last.integral_before + last.integral()));
    let to_rate = to_rate.unwrap_or(from_rate);
    pieces.push(Piece { begin_s, length_s, from_rate, to_rate, integral_before });
}

fn exponential(random: &mut Xoshiro256PlusPlus) -> f64 {
    Exp1.sample(random)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::RateStep;
    use crate::units::Span;

    const SECOND: u64 = 1_000_000_000;

    fn load(kind: LoadKind, rate_per_s: f64) -> Load {
        Load { kind, rate_per_s, ..Load::default() }
    }

    fn times(load: &Load, warmup_s: u64, duration_s: u64, seed: u64) -> Vec<u64> {
        Schedule::new(load, Duration::from_secs(warmup_s), Duration::from_secs(duration_s), seed).collect()
    }

    proptest! {
        #[test]
        fn a_constant_rate_has_its_number_of_publications_and_does_not_drift(rate in 1_u32..20_000, seconds in 1_u64..5) {
            let times = times(&load(LoadKind::Constant, f64::from(rate)), 0, seconds, 1);
            prop_assert_eq!(times.len() as u64, u64::from(rate) * seconds);
            for (n, at_ns) in times.iter().enumerate() {
                let exact = n as u128 * u128::from(SECOND) / u128::from(rate);
                prop_assert!(u128::from(*at_ns).abs_diff(exact) <= 1, "{n}: {at_ns} and {exact}");
            }
        }

        #[test]
        fn a_ramp_has_the_integral_of_its_rate_behind_it_at_every_publication(
            from in 0_u32..2_000,
            to in 0_u32..2_000,
            seconds in 1_u64..10,
        ) {
            let load = Load { to_rate_per_s: f64::from(to), ..load(LoadKind::Ramp, f64::from(from)) };
            let (from, to, length) = (f64::from(from), f64::from(to), seconds as f64);
            for (n, at_ns) in times(&load, 0, seconds, 1).into_iter().enumerate() {
                let t = at_ns as f64 / 1e9;
                let integral = from * t + (to - from) * t * t / (2.0 * length);
                prop_assert!((integral - n as f64).abs() < 1e-3, "{n} at {t} s: {integral}");
            }
        }

        #[test]
        fn every_schedule_is_ordered_ends_in_time_and_is_the_same_for_the_same_seed(
            kind in prop::sample::select(vec![LoadKind::Constant, LoadKind::Poisson, LoadKind::Ramp, LoadKind::Burst]),
            rate in 1_u32..3_000,
            seed: u64,
        ) {
            let burst_every = Span(Duration::from_millis(70));
            let load = Load { to_rate_per_s: 50.0, burst_size: 7, burst_every, ..load(kind, f64::from(rate)) };
            let times = times(&load, 1, 2, seed);
            prop_assert!(times.is_sorted());
            prop_assert!(times.last().is_none_or(|last| *last < 3 * SECOND));
            prop_assert_eq!(&times, &super::tests::times(&load, 1, 2, seed));
        }
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_variance_of_poisson() {
        // 2,000 windows of 100 ms at 500 a second: 50 are expected in each, with a variance of 50.
        let times = times(&load(LoadKind::Poisson, 500.0), 0, 200, 7);
        let mut counts = vec![0_f64; 2_000];
        times.iter().for_each(|at_ns| counts[(at_ns / (SECOND / 10)) as usize] += 1.0);
        let mean = counts.iter().sum::<f64>() / 2_000.0;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 1_999.0;
        // Four standard errors: of the mean √(50/2000), of the variance 50·√(2/2000).
        assert!((mean - 50.0).abs() < 4.0 * 0.158, "mean {mean}");
        assert!((variance - 50.0).abs() < 4.0 * 1.6, "variance {variance}");
    }

    #[test]
    fn steps_follow_each_other_after_a_warm_up_at_the_first_rate() {
        let step = |rate_per_s, seconds| RateStep { rate_per_s, duration: Span(Duration::from_secs(seconds)) };
        let load = Load { steps: vec![step(10.0, 2), step(0.0, 1), step(100.0, 1)], ..load(LoadKind::Steps, 0.0) };
        let times = times(&load, 1, 4, 1);
        let in_second = |second| times.iter().filter(|at_ns| **at_ns / SECOND == second).count();
        assert_eq!([0, 1, 2, 3, 4].map(in_second), [10, 10, 10, 0, 100]);
    }

    #[test]
    fn a_burst_is_due_at_one_moment() {
        let burst_every = Span(Duration::from_millis(500));
        let load = Load { burst_size: 3, burst_every, ..load(LoadKind::Burst, 0.0) };
        assert_eq!(times(&load, 0, 1, 1), [0, 0, 0, SECOND / 2, SECOND / 2, SECOND / 2]);
    }

    #[test]
    fn a_closed_loop_and_a_rate_of_zero_have_no_times() {
        assert!(times(&load(LoadKind::Closed, 10.0), 1, 1, 1).is_empty());
        assert!(times(&load(LoadKind::Constant, 0.0), 1, 1, 1).is_empty());
    }

    #[test]
    fn a_schedule_that_is_ended_earlier_has_nothing_after_its_end() {
        let mut schedule = Schedule::new(&load(LoadKind::Constant, 10.0), Duration::ZERO, Duration::from_secs(1), 1);
        schedule.end_at(SECOND / 4);
        assert_eq!(schedule.collect::<Vec<_>>(), [0, SECOND / 10, SECOND / 5]);
    }
}
