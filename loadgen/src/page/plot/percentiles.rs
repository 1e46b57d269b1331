//! The percentile curve: latency over 1/(1 − percentile), both logarithmic, so that the tail gets the room it deserves.

use maud::{Markup, html};
use serde::Serialize;

use super::frame::{Axis, Frame, Scale, polyline};
use crate::measure::Latencies;
use crate::record::figures::Unit;

/// One curve.
#[derive(Debug, Clone)]
pub struct Curve<'a> {
    /// Its name in the legend; thin curves have none.
    pub name: String,
    /// Its colour: `a`, `b`, `c`, `d`.
    pub class: &'static str,
    /// What it shows.
    pub latencies: &'a Latencies,
    /// A single repetition behind the merged one.
    pub thin: bool,
}

/// How a latency becomes a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Height {
    /// By its logarithm.
    Log,
    /// Evenly.
    Linear,
}

/// Points a decade of 1/(1 − percentile).
const POINTS_A_DECADE: u32 = 32;

/// The rarest that is drawn: one of ten million.
const RAREST: f64 = 1e7;

/// What the script reads: places of the points, and what the curves say there.
#[derive(Serialize)]
struct Hover<'a> {
    top: f64,
    bottom: f64,
    x: Vec<f64>,
    label: Vec<String>,
    curves: Vec<HoverCurve<'a>>,
}

#[derive(Serialize)]
struct HoverCurve<'a> {
    name: &'a str,
    class: &'a str,
    y: Vec<u64>,
}

/// The values of 1/(1 − percentile) at which curves are read, up to `rarest`.
fn grid(rarest: f64) -> Vec<f64> {
    let steps = (rarest.log10() * f64::from(POINTS_A_DECADE)).floor().max(0.0) as u32;
    let mut grid: Vec<f64> = (0..=steps).map(|n| 10_f64.powf(f64::from(n) / f64::from(POINTS_A_DECADE))).collect();
    if grid.last().is_some_and(|last| last * 1.0001 < rarest) {
        grid.push(rarest);
    }
    grid
}

/// What a histogram says at each value of the grid, as far as it has enough values to say anything; in one pass.
fn read(latencies: &Latencies, grid: &[f64]) -> Vec<u64> {
    let total = latencies.len();
    let mut values = Vec::with_capacity(grid.len());
    let mut below = 0;
    for recorded in latencies.histogram().iter_recorded() {
        below += recorded.count_at_value();
        while let Some(inverse) = grid.get(values.len()) {
            // One more row than there are values would only repeat the greatest.
            let wanted = (total as f64 * (1.0 - 1.0 / inverse)).ceil().max(1.0) as u64;
            if wanted > below || *inverse > total as f64 * 1.0001 {
                break;
            }
            values.push(recorded.value_iterated_to().min(latencies.max_ns()));
        }
    }
    // The slowest of n stands where one of n is rarer than all others.
    if let Some(last) = values.last_mut()
        && total as f64 <= RAREST
    {
        *last = latencies.max_ns();
    }
    values
}

/// The name of a percentile: `99.9%`.
fn percentile(inverse: f64) -> String {
    let percent = 100.0 * (1.0 - 1.0 / inverse);
    let digits = (inverse.log10() - 0.01).floor().max(1.0) as usize;
    let text = format!("{percent:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}%")
}

/// The plot of these curves, and its legend above. Nothing if they are all empty.
pub fn plot(curves: &[Curve<'_>], height: Height) -> Markup {
    let curves: Vec<&Curve<'_>> = curves.iter().filter(|curve| !curve.latencies.is_empty()).collect();
    let Some(most) = curves.iter().map(|curve| curve.latencies.len()).max() else {
        return html! { p.note { "There is nothing to draw: no delivery was measured." } };
    };
    let rarest = (most as f64).clamp(10.0, RAREST);
    let grid = grid(rarest);
    let read: Vec<Vec<u64>> = curves.iter().map(|curve| read(curve.latencies, &grid)).collect();
    let min = read.iter().filter_map(|values| values.first()).min().copied().unwrap_or(1);
    let max = read.iter().filter_map(|values| values.last()).max().copied().unwrap_or(1);
    let frame = frame(rarest, min as f64, max as f64, height);
    let points = |values: &[u64]| polyline(grid.iter().zip(values).map(|(x, y)| (frame.x(*x), frame.y(*y as f64))));
    let hover = hover(&frame, &grid, &curves, &read);
    let label = "Latency by percentile; the greater the percentile, the further to the right.";
    html! {
        (legend(&curves))
        div.plot {
            (frame.svg("wide", label, hover.as_deref(), &html! {
                // Thin ones first: the merged curves lie on top.
                @for (curve, values) in curves.iter().zip(&read).filter(|(curve, _)| curve.thin) {
                    polyline.curve.thin.(curve.class) points=(points(values)) {}
                }
                @for (curve, values) in curves.iter().zip(&read).filter(|(curve, _)| !curve.thin) {
                    polyline.curve.(curve.class) points=(points(values)) {}
                }
            }))
        }
    }
}

fn frame(rarest: f64, min: f64, max: f64, height: Height) -> Frame {
    let marks = [1.0, 2.0, 4.0, 10.0, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];
    let ticks = marks.into_iter().filter(|inverse| *inverse <= rarest * 1.001);
    let x = Axis {
        scale: Scale::Log(1.0, rarest),
        ticks: ticks.map(|inverse| (inverse, percentile(inverse))).collect(),
        minor: Vec::new(),
        title: "percentile".into(),
    };
    let y = match height {
        Height::Log => Axis::log(min, max, Unit::Nanoseconds, "latency"),
        Height::Linear => Axis::linear(max, Unit::Nanoseconds, "latency"),
    };
    Frame { width: 1070.0, height: 420.0, x, y }
}

fn hover(frame: &Frame, grid: &[f64], curves: &[&Curve<'_>], read: &[Vec<u64>]) -> Option<String> {
    let named = curves.iter().zip(read).filter(|(curve, _)| !curve.thin);
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    serde_json::to_string(&Hover {
        top: frame.top(),
        bottom: frame.bottom(),
        x: grid.iter().map(|inverse| tenth(frame.x(*inverse))).collect(),
        label: grid.iter().map(|inverse| percentile(*inverse)).collect(),
        curves: named.map(|(c, values)| HoverCurve { name: &c.name, class: c.class, y: values.clone() }).collect(),
    })
    .ok()
}

/// Names with their lines as they are drawn.
fn legend(curves: &[&Curve<'_>]) -> Markup {
    let thin = curves.iter().filter(|curve| curve.thin).count();
    html! {
        ul.legend {
            @for curve in curves.iter().filter(|curve| !curve.thin) {
                li { (key(&format!("curve {}", curve.class))) (curve.name) }
            }
            @if thin > 0 { li { (key("curve thin a")) "thin: single repetitions" } }
        }
    }
}

/// A piece of line for a legend.
pub fn key(class: &str) -> Markup {
    html! { svg viewBox="0 0 30 10" aria-hidden="true" { line class=(class) x1="1" y1="5" x2="29" y2="5" {} } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_curve_says_what_the_histogram_says(values in prop::collection::vec(1_u64..10_000_000_000, 1..300)) {
            let mut latencies = Latencies::default();
            values.iter().for_each(|ns| latencies.record(*ns));
            let grid = grid((values.len() as f64).max(10.0));
            let read = read(&latencies, &grid);
            prop_assert!(!read.is_empty());
            for (inverse, ns) in grid.iter().zip(&read[..read.len() - 1]) {
                let quantile = 1.0 - 1.0 / inverse;
                let exact = latencies.quantile_ns(quantile);
                prop_assert!(ns.abs_diff(exact) <= exact / 500 + 1, "{quantile}: {ns} and {exact}");
            }
            prop_assert!(read.is_sorted());
            if values.len() >= 10 {
                prop_assert_eq!(read.len(), grid.len());
            }
            prop_assert_eq!(*read.last().unwrap(), latencies.max_ns());
        }
    }

    #[test]
    fn percentiles_have_their_names() {
        let names = [1.0, 2.0, 4.0, 10.0, 1e2, 1e3, 1e4, 1e7].map(percentile);
        assert_eq!(names, ["0%", "50%", "75%", "90%", "99%", "99.9%", "99.99%", "99.99999%"]);
    }
}
