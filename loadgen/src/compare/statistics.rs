//! The few formulas that the comparison stands on: medians, the normal and Student's distribution.

/// The median; of an even number, the mean of the middle two. None if there are no values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count.is_multiple_of(2) => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        _ => Some(sorted[middle]),
    }
}

/// The value at this share (0 to 1) of sorted values, interpolated between neighbours; the ends beyond them. Sorted values
/// must not be empty.
pub fn interpolated(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len() - 1;
    let place = (share * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
    let below = place as usize;
    let above = (below + 1).min(last);
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// The share of the normal distribution below `z` (Abramowitz and Stegun 26.2.17; error below 1e-7).
pub fn normal_below(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let tail = density * series.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// What 97.5 % of Student's distribution lie below (Cornish-Fisher expansion; within 1 % from 3 degrees of freedom on).
pub fn student_975(degrees: f64) -> f64 {
    let z: f64 = 1.959_963_985;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / degrees + second / degrees.powi(2) + third / degrees.powi(3)
}

/// The share of resamples to cut off at each end so that a percentile bootstrap of so few values covers 95 %: Hesterberg's
/// expanded percentile interval. `smaller` is the size of the smaller sample.
pub fn expanded_tail(degrees: f64, smaller: usize) -> f64 {
    let size = smaller as f64;
    normal_below(-(size / (size - 1.0)).sqrt() * student_975(degrees))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_agree_with_printed_tables() {
        for (z, share) in [(0.0, 0.5), (1.0, 0.841_345), (-1.96, 0.024_998), (2.575_8, 0.995), (-3.09, 0.001_001)] {
            assert!((normal_below(z) - share).abs() < 1e-5, "{z}: {}", normal_below(z));
        }
        for (degrees, t) in [(3.0, 3.182), (4.0, 2.776), (6.0, 2.447), (8.0, 2.306), (18.0, 2.101), (60.0, 2.000)] {
            assert!((student_975(degrees) / t - 1.0).abs() < 0.01, "{degrees}: {}", student_975(degrees));
        }
    }

    #[test]
    fn the_tail_widens_as_samples_shrink() {
        let tails: Vec<f64> = (3..40).map(|n| expanded_tail(2.0 * n as f64 - 2.0, n)).collect();
        assert!(tails.is_sorted(), "{tails:?}");
        assert!(tails.iter().all(|tail| *tail > 0.0 && *tail < 0.025));
    }

    #[test]
    fn medians_and_shares_of_sorted_values() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), Some(6.0));
        let sorted: Vec<f64> = (1..=99).map(f64::from).collect();
        assert!((interpolated(&sorted, 0.5) - 50.0).abs() < 1e-9);
        assert_eq!(interpolated(&sorted, 0.0), 1.0);
        assert_eq!(interpolated(&sorted, 1.0), 99.0);
    }
}
