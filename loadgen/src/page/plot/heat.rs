//! Latency over time as a heat map: intervals from left to right, latencies from below, the darker the more deliveries.

use maud::{Markup, html};

use super::frame::{Axis, Frame, Scale, at, polyline};
use super::percentiles::key;
use crate::measure::{Interval, Latencies};
use crate::record::figures::Unit;

/// Shades, from few to many.
const SHADES: usize = 8;

/// Rows a decade of latency.
const ROWS_A_DECADE: f64 = 14.0;

/// More intervals than this are put together, two or more at a time.
const COLUMNS_MAX: usize = 240;

/// One column: some intervals put together.
struct Column {
    begin_s: f64,
    end_s: f64,
    latencies: Latencies,
}

/// The heat map of these intervals with the course of p50 and p99 over it. Nothing if nothing was delivered.
pub fn plot(intervals: &[Interval]) -> Markup {
    let columns = columns(intervals);
    let filled = || columns.iter().map(|column| &column.latencies).filter(|latencies| !latencies.is_empty());
    let Some(min) = filled().map(|latencies| latencies.quantile_ns(0.0)).min() else {
        return html! { p.note { "There is nothing to draw: no delivery was measured." } };
    };
    let max = filled().map(Latencies::max_ns).max().unwrap_or(min);
    let (from, to) = (columns.first().map_or(0.0, |c| c.begin_s), columns.last().map_or(1.0, |c| c.end_s));
    let frame = Frame {
        width: 1070.0,
        height: 330.0,
        x: Axis::seconds(from, to),
        y: Axis::log(min as f64, max as f64, Unit::Nanoseconds, "latency"),
    };
    let label = "Latency over time; darker where more deliveries lie. Lines: p50 and p99.";
    html! {
        (legend())
        div.plot { (frame.svg("wide", label, None, &html! {
            (cells(&frame, &columns))
            (warmup(&frame, from))
            @if from < 0.0 {
                text x=(at(frame.x(0.0) - 6.0)) y=(at(frame.top() - 6.0)) text-anchor="end" { "warm-up" }
            }
            @for (class, quantile) in [("b solid", 0.5), ("b", 0.99)] {
                @let points = course(&frame, &columns, quantile);
                polyline.over points=(points) {}
                polyline.curve.(class) points=(points) {}
            }
        })) }
    }
}

fn legend() -> Markup {
    html! {
        ul.legend {
            li {
                "few"
                svg.ramp viewBox="0 0 80 10" preserveAspectRatio="none" aria-hidden="true" {
                    @for n in 0..SHADES {
                        rect class={ "heat h" (n + 1) } x=(n * 10) y="0" width="10" height="10" {}
                    }
                }
                "many deliveries of the interval"
            }
            li { (key("curve b solid")) "p50" }
            li { (key("curve b")) "p99" }
        }
    }
}

fn columns(intervals: &[Interval]) -> Vec<Column> {
    let together = intervals.len().div_ceil(COLUMNS_MAX).max(1);
    let column = |intervals: &[Interval]| {
        let mut latencies = Latencies::default();
        intervals.iter().for_each(|interval| latencies.merge(&interval.corrected));
        let begin_s = intervals.first().map_or(0.0, |interval| interval.begin_ns as f64 / 1e9);
        let end = |interval: &Interval| (interval.begin_ns as f64 + interval.length_ns as f64) / 1e9;
        Column { begin_s, end_s: intervals.last().map_or(begin_s, end), latencies }
    };
    intervals.chunks(together).map(column).collect()
}

/// All cells, one path a shade: a page with many intervals stays small.
fn cells(frame: &Frame, columns: &[Column]) -> Markup {
    let Scale::Log(from, to) = frame.y.scale else { return Markup::default() };
    let rows = ((to / from).log10() * ROWS_A_DECADE).ceil() as usize;
    let mut paths = vec![String::new(); SHADES];
    for column in columns {
        let counts = counts(&column.latencies, from, rows);
        let (left, right) = (frame.x(column.begin_s), frame.x(column.end_s));
        for (row, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let edge = |row: usize| frame.y(from * 10_f64.powf(row as f64 / ROWS_A_DECADE));
            let (low, high) = (edge(row), edge(row + 1));
            let shade = shade(*count as f64 / column.latencies.len() as f64);
            let (left, high, right) = (at(left), at(high), at(right - 0.4));
            paths[shade].push_str(&format!("M{left} {high}H{right}V{}H{left}z", at(low)));
        }
    }
    html! { @for (n, path) in paths.iter().enumerate() { path class={ "heat h" (n + 1) } d=(path) {} } }
}

fn counts(latencies: &Latencies, from: f64, rows: usize) -> Vec<u64> {
    let mut counts = vec![0; rows.max(1)];
    for recorded in latencies.histogram().iter_recorded() {
        let row = ((recorded.value_iterated_to() as f64 / from).log10() * ROWS_A_DECADE).max(0.0) as usize;
        counts[row.min(rows.max(1) - 1)] += recorded.count_at_value();
    }
    counts
}

/// The shade of a share of an interval's deliveries: by its logarithm, from one of ten thousand to one of five.
fn shade(share: f64) -> usize {
    let place = (share / 1e-4).log10() / (0.2_f64 / 1e-4).log10();
    (place.clamp(0.0, 1.0) * SHADES as f64).min(SHADES as f64 - 1.0) as usize
}

/// A line that stands still within an interval.
fn course(frame: &Frame, columns: &[Column], quantile: f64) -> String {
    let filled = columns.iter().filter(|column| !column.latencies.is_empty());
    polyline(filled.flat_map(|column| {
        let y = frame.y(column.latencies.quantile_ns(quantile) as f64);
        [(frame.x(column.begin_s), y), (frame.x(column.end_s), y)]
    }))
}

/// Where the warm-up ends, if it is in the picture.
pub fn warmup(frame: &Frame, from: f64) -> Markup {
    html! {
        @if from < 0.0 {
            @let x = at(frame.x(0.0));
            path.mark d={ "M" (x) " " (at(frame.top())) "V" (at(frame.bottom())) } {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_delivery_lies_in_one_row(values in prop::collection::vec(1_u64..10_000_000_000, 0..100), from in 1.0_f64..1e9) {
            let mut latencies = Latencies::default();
            values.iter().for_each(|ns| latencies.record(*ns));
            prop_assert_eq!(counts(&latencies, from, 40).iter().sum::<u64>(), values.len() as u64);
        }

        #[test]
        fn more_is_never_lighter(a in 0.0_f64..1.0, b in 0.0_f64..1.0) {
            prop_assert!(a > b || shade(a) <= shade(b));
            prop_assert!(shade(a) < SHADES);
        }
    }

    #[test]
    fn many_intervals_are_put_together_and_none_is_left_out() {
        let mut interval = Interval { length_ns: 1_000_000_000, ..Interval::default() };
        interval.corrected.record(1_000_000);
        let intervals: Vec<_> =
            (0..COLUMNS_MAX as i64 + 1).map(|n| Interval { begin_ns: n * 1_000_000_000, ..interval.clone() }).collect();
        let columns = columns(&intervals);
        assert!(columns.len() <= COLUMNS_MAX);
        assert_eq!(columns.iter().map(|column| column.latencies.len()).sum::<u64>(), intervals.len() as u64);
        assert_eq!(columns.last().unwrap().end_s, intervals.len() as f64);
    }
}
