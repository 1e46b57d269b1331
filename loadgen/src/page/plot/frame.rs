//! Scales, ticks, grid and axes: the frame that every plot is drawn in. Pure arithmetic and text.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::record::figures::Unit;

/// How values become places on an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// From the first to the second value, evenly.
    Linear(f64, f64),
    /// From the first to the second value, which are positive, by their logarithm.
    Log(f64, f64),
}

/// One axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Where values lie.
    pub scale: Scale,
    /// Values with a grid line and a label.
    pub ticks: Vec<(f64, String)>,
    /// Values with a grid line only.
    pub minor: Vec<f64>,
    /// What it shows, with its unit.
    pub title: String,
}

/// A plot's area and its axes; sizes in pixels of the drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Of the whole drawing.
    pub width: f64,
    /// Of the whole drawing.
    pub height: f64,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
}

const LEFT: f64 = 72.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;

impl Scale {
    /// Where a value lies: 0 at the beginning, 1 at the end; values outside lie on the nearer edge.
    pub fn share(self, value: f64) -> f64 {
        let share = match self {
            Self::Linear(from, to) => (value - from) / (to - from),
            Self::Log(from, to) => (value.max(f64::MIN_POSITIVE) / from).ln() / (to / from).ln(),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

impl Axis {
    /// A logarithmic axis over these positive values, from a whole step of 1, 2, 5 to another.
    pub fn log(min: f64, max: f64, unit: Unit, title: &str) -> Self {
        let min = min.max(1.0);
        let max = max.max(min);
        let steps = |from: f64, to: f64| {
            let exponents = (from.log10().floor() as i32 - 1)..=(to.log10().ceil() as i32 + 1);
            exponents.flat_map(|e| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(e)))
        };
        let from = steps(min, max).rfind(|step| *step <= min * 1.001).unwrap_or(min);
        let to = steps(min, max).find(|step| *step >= max * 0.999 && *step > from * 1.5).unwrap_or(max * 2.0);
        let inside = steps(min, max).filter(|step| *step >= from * 0.999 && *step <= to * 1.001);
        let decades = (to / from).log10();
        let labelled = |step: f64| {
            let first_digit = (step / 10_f64.powf(step.log10().floor() + 1e-9)).round();
            decades <= 3.2 || first_digit == 1.0
        };
        let (ticks, minor): (Vec<f64>, Vec<f64>) = inside.partition(|step| labelled(*step));
        let ticks = ticks.into_iter().map(|step| (step, tick(unit, step))).collect();
        Self { scale: Scale::Log(from, to), ticks, minor, title: title.into() }
    }

    /// An even axis from zero to at least this value.
    pub fn linear(max: f64, unit: Unit, title: &str) -> Self {
        // Bytes are counted in powers of two, so even steps of them are too.
        let binary = [1_073_741_824.0, 1_048_576.0, 1024.0].into_iter().find(|size| unit == Unit::Bytes && max > *size);
        let size = binary.unwrap_or(1.0);
        let step = even_step(max / size, 5.0) * size;
        let count = (max / step - 1e-9).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|n| f64::from(n) * step).map(|value| (value, tick(unit, value)));
        Self { scale: Scale::Linear(0.0, count * step), ticks: ticks.collect(), minor: Vec::new(), title: title.into() }
    }

    /// An even axis over seconds of a run.
    pub fn seconds(from: f64, to: f64) -> Self {
        let to = to.max(from + 1e-9);
        let step = even_step(to - from, 10.0);
        let (first, last) = ((from / step).ceil() as i64, (to / step + 1e-9).floor() as i64);
        let ticks = (first..=last).map(|n| (n as f64 * step, format!("{} s", short(n as f64 * step)))).collect();
        Self { scale: Scale::Linear(from, to), ticks, minor: Vec::new(), title: "time".into() }
    }
}

/// A step of 1, 2 or 5 times a power of ten that gives so many parts or fewer.
fn even_step(length: f64, parts: f64) -> f64 {
    let rough = if length > 0.0 && length.is_finite() { length / parts } else { 1.0 / parts };
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= rough * 0.999).unwrap_or(10.0);
    step * power
}

/// A label without needless digits: `1 ms`, not `1.00 ms`.
fn tick(unit: Unit, value: f64) -> String {
    let text = unit.format(value);
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ',')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number}{unit}")
}

/// A number with as many digits as it needs, two after the point at most.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A coordinate.
pub fn at(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// The points of a polyline.
pub fn polyline(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    points.into_iter().fold(String::new(), |mut text, (x, y)| {
        let gap = if text.is_empty() { "" } else { " " };
        write!(text, "{gap}{},{}", at(x), at(y)).expect("a string takes what is written");
        text
    })
}

impl Frame {
    /// The left edge of the area.
    pub fn left(&self) -> f64 {
        LEFT
    }

    /// The right edge of the area.
    pub fn right(&self) -> f64 {
        self.width - RIGHT
    }

    /// The upper edge of the area.
    pub fn top(&self) -> f64 {
        TOP
    }

    /// The lower edge of the area.
    pub fn bottom(&self) -> f64 {
        self.height - BOTTOM
    }

    /// Where a value of the horizontal axis lies.
    pub fn x(&self, value: f64) -> f64 {
        LEFT + self.x.scale.share(value) * (self.right() - LEFT)
    }

    /// Where a value of the vertical axis lies.
    pub fn y(&self, value: f64) -> f64 {
        self.bottom() - self.y.scale.share(value) * (self.bottom() - TOP)
    }

    /// The whole drawing. `label` says what it shows to who cannot see it; `curves` is what the script reads, if any.
    pub fn svg(&self, class: &str, label: &str, curves: Option<&str>, inside: &Markup) -> Markup {
        let (width, height) = (at(self.width), at(self.height));
        html! {
            svg class={ "chart " (class) } viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(label)
                data-curves=[curves] {
                (self.grid())
                (inside)
                (self.labels())
            }
        }
    }

    fn grid(&self) -> Markup {
        let lines = |ticks: &[(f64, String)], minor: &[f64], horizontal: bool| {
            let line = |value: f64| {
                if horizontal {
                    format!("M{} {}H{}", at(LEFT), at(self.y(value)), at(self.right()))
                } else {
                    format!("M{} {}V{}", at(self.x(value)), at(TOP), at(self.bottom()))
                }
            };
            let major: String = ticks.iter().map(|(value, _)| line(*value)).collect();
            (major, minor.iter().map(|value| line(*value)).collect::<String>())
        };
        let (rows, minor_rows) = lines(&self.y.ticks, &self.y.minor, true);
        let (columns, minor_columns) = lines(&self.x.ticks, &self.x.minor, false);
        let base = format!("M{} {}H{}", at(LEFT), at(self.bottom()), at(self.right()));
        html! {
            path.grid d={ (minor_rows) (minor_columns) } {}
            path.grid.major d={ (rows) (columns) } {}
            path.base d=(base) {}
        }
    }

    /// Labels stand centred below their place, but for a long one at the right edge, which would be cut.
    fn anchor(&self, value: f64, label: &str) -> &'static str {
        let half = label.chars().count() as f64 * 3.6;
        if self.x(value) + half > self.width { "end" } else { "middle" }
    }

    fn labels(&self) -> Markup {
        let below = self.bottom() + 18.0;
        html! {
            @for (value, label) in &self.y.ticks {
                text x=(at(LEFT - 9.0)) y=(at(self.y(*value) + 4.0)) text-anchor="end" { (label) }
            }
            @for (value, label) in &self.x.ticks {
                text x=(at(self.x(*value))) y=(at(below)) text-anchor=(self.anchor(*value, label)) { (label) }
            }
            text.axis-title x=(at(8.0)) y="13" { (self.y.title) }
            text.axis-title x=(at(self.right())) y=(at(below + 18.0)) text-anchor="end" { (self.x.title) }
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
        fn a_log_axis_holds_its_values_between_labelled_steps(min in 1.0_f64..1e12, times in 1.0_f64..1e9) {
            let axis = Axis::log(min, min * times, Unit::Nanoseconds, "latency");
            let Scale::Log(from, to) = axis.scale else { panic!("a log scale") };
            prop_assert!(from <= min * 1.002 && to >= min * times * 0.998 && to > from);
            prop_assert!(!axis.ticks.is_empty() && axis.ticks.len() <= 16, "{} ticks", axis.ticks.len());
            prop_assert!(axis.ticks.is_sorted_by(|a, b| a.0 < b.0));
            prop_assert!(axis.ticks.iter().all(|(step, _)| *step >= from * 0.99 && *step <= to * 1.01));
        }

        #[test]
        fn an_even_axis_holds_its_values_and_has_a_handful_of_ticks(max in 0.0_f64..1e12) {
            let axis = Axis::linear(max, Unit::PerSecond, "rate");
            let Scale::Linear(from, to) = axis.scale else { panic!("an even scale") };
            prop_assert!(from == 0.0 && to >= max * 0.999 && to > 0.0);
            prop_assert!((2..=7).contains(&axis.ticks.len()), "{} ticks", axis.ticks.len());
        }

        #[test]
        fn every_value_lies_inside(value in prop::num::f64::ANY, from in 1.0_f64..1e6, times in 1.1_f64..1e6) {
            for scale in [Scale::Log(from, from * times), Scale::Linear(from, from * times)] {
                prop_assert!((0.0..=1.0).contains(&scale.share(value)));
            }
        }
    }

    #[test]
    fn labels_have_no_needless_digits() {
        let axis = Axis::log(150_000.0, 12_000_000.0, Unit::Nanoseconds, "latency");
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["100 µs", "200 µs", "500 µs", "1 ms", "2 ms", "5 ms", "10 ms", "20 ms"]);
    }

    #[test]
    fn bytes_are_stepped_in_powers_of_two() {
        let axis = Axis::linear(2600.0, Unit::Bytes, "memory");
        let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0 B", "1 KiB", "2 KiB", "3 KiB"]);
    }
}
