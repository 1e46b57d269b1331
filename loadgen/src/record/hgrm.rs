//! The percentile distribution as text, as Java's `HistogramLogProcessor` writes it and the HdrHistogram plotter reads it.
//!
//! Values are milliseconds (nanoseconds divided by 1e6, the scale those tools use); five rows for each halving of the
//! distance to 100 %. As in Java's output, the row of the greatest value appears once with the percentile that was asked
//! for and once, at the end and without fourth column, with percentile 1.

use std::fmt::Write as _;

use crate::measure::Latencies;

/// Nanoseconds in the unit of the first column.
const SCALE: f64 = 1e6;

/// Rows for each halving of the distance to 100 %.
const ROWS_A_HALF: u32 = 5;

/// The whole text of a `.hgrm` file.
pub fn text(latencies: &Latencies) -> String {
    let histogram = latencies.histogram();
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    let mut ended = false;
    for row in histogram.iter_quantiles(ROWS_A_HALF) {
        total += row.count_since_last_iteration();
        let value = row.value_iterated_to() as f64 / SCALE;
        let quantile = row.quantile_iterated_to();
        let written = if quantile < 1.0 {
            writeln!(text, "{value:12.6} {quantile:2.12} {total:10} {:14.2}", 1.0 / (1.0 - quantile))
        } else if !std::mem::replace(&mut ended, true) {
            writeln!(text, "{value:12.6} {quantile:2.12} {total:10}")
        } else {
            Ok(())
        };
        written.expect("a string takes what is written");
    }
    text.push_str(&footer(latencies));
    text
}

fn footer(latencies: &Latencies) -> String {
    let histogram = latencies.histogram();
    let (mean, deviation) = if latencies.is_empty() { (0.0, 0.0) } else { (histogram.mean(), histogram.stdev()) };
    format!(
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]\n#[Max     = {:12.6}, Total count    = {:12}]\n\
         #[Buckets = {:12}, SubBuckets     = {:12}]\n",
        mean / SCALE,
        deviation / SCALE,
        latencies.max_ns() as f64 / SCALE,
        latencies.len(),
        histogram.buckets(),
        // Java names the size of the first bucket, which is twice the resolution rounded up to a power of two.
        2048,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Value in ns, percentile, total count; and the fourth column if there is one.
    fn rows(text: &str) -> Vec<(f64, f64, u64, Option<f64>)> {
        let (head, body) = text.split_once("\n\n").expect("an empty line after the heading");
        assert_eq!(
            head.split_whitespace().collect::<Vec<_>>(),
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        let rows = body.lines().filter(|line| !line.starts_with('#'));
        rows.map(|row| {
            let columns: Vec<f64> = row.split_whitespace().map(|column| column.parse().unwrap()).collect();
            (columns[0] * SCALE, columns[1], columns[2] as u64, columns.get(3).copied())
        })
        .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_row_agrees_with_the_sorted_list(mut values in prop::collection::vec(1_u64..10_000_000_000, 1..400)) {
            let mut latencies = Latencies::default();
            values.iter().for_each(|ns| latencies.record(*ns));
            values.sort_unstable();
            let text = text(&latencies);
            let rows = rows(&text);
            for (value, quantile, total, inverse) in &rows {
                // As many values as it says lie at or below the row's value: no value at all falls between.
                let below = values.iter().filter(|ns| **ns as f64 <= value + 0.5).count() as u64;
                prop_assert_eq!(below, *total);
                prop_assert!(*total as f64 >= quantile * values.len() as f64 - 1e-6);
                if let Some(inverse) = inverse {
                    prop_assert!((inverse * (1.0 - quantile) - 1.0).abs() < 0.01);
                }
            }
            prop_assert!(rows.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2));
            let last = rows.last().expect("a row");
            prop_assert_eq!((last.1, last.2, last.3), (1.0, values.len() as u64, None));
            prop_assert_eq!(rows.iter().filter(|row| row.1 == 1.0).count(), 1);
        }
    }

    #[test]
    fn the_footer_names_mean_deviation_greatest_and_count() {
        let mut latencies = Latencies::default();
        latencies.record_n(1_000_000, 3);
        latencies.record(5_000_000);
        let text = text(&latencies);
        let footer: Vec<&str> = text.lines().filter(|line| line.starts_with("#[")).collect();
        assert_eq!(footer.len(), 3);
        assert!(footer[0].starts_with("#[Mean    =     1.99"), "{}", footer[0]);
        assert!(footer[0].contains("StdDeviation   =     1.73"), "{}", footer[0]);
        assert!(
            footer[1].starts_with("#[Max     =     5.00") && footer[1].ends_with("=            4]"),
            "{}",
            footer[1]
        );
    }

    #[test]
    fn an_empty_histogram_has_no_rows() {
        let text = text(&Latencies::default());
        assert!(rows(&text).is_empty());
        assert!(!text.contains("NaN"), "{text}");
    }
}
