//! A figure over many runs: medians with their range, in the order the runs were made.

use maud::{Markup, html};

use super::frame::{Axis, Frame, Scale, at, polyline};
use crate::record::figures::{Spread, Unit};

/// One run.
#[derive(Debug, Clone)]
pub struct Run {
    /// What stands below it: date or revision.
    pub label: String,
    /// What is said about it at the pointer.
    pub title: String,
    /// Where its page is, relative.
    pub link: String,
    /// The figure over its repetitions.
    pub spread: Spread,
    /// Whether its figures must not be used.
    pub void: bool,
}

/// Labels that fit below a plot.
const LABELS_MAX: usize = 6;

/// The course of a figure; nothing without runs.
pub fn plot(title: &str, unit: Unit, runs: &[Run]) -> Markup {
    if runs.is_empty() {
        return Markup::default();
    }
    let max = runs.iter().map(|run| run.spread.max).fold(0.0, f64::max);
    let frame = Frame { width: 520.0, height: 220.0, x: axis(runs), y: Axis::linear(max, unit, "") };
    let valid = runs.iter().enumerate().filter(|(_, run)| !run.void);
    let course = polyline(valid.map(|(n, run)| (frame.x(n as f64), frame.y(run.spread.median))));
    html! {
        div.plot { (frame.svg("", title, None, &html! {
            polyline.curve.thin.a points=(course) {}
            @for (n, run) in runs.iter().enumerate() { (point(&frame, n as f64, run, unit)) }
        })) }
    }
}

fn point(frame: &Frame, place: f64, run: &Run, unit: Unit) -> Markup {
    let x = at(frame.x(place));
    let (low, high) = (at(frame.y(run.spread.min)), at(frame.y(run.spread.max)));
    let class = if run.void { "dot hollow" } else { "dot a" };
    let Spread { median, min, max, count } = run.spread;
    let [median_text, min, max] = [median, min, max].map(|value| unit.format(value));
    html! {
        a href=(run.link) {
            path.whisker d={ "M" (x) " " (low) "V" (high) } {}
            circle class=(class) cx=(x) cy=(at(frame.y(median))) r="5" {
                title {
                    (run.title) ": " (median_text) " (" (min) " to " (max) ", " (count) " repetitions)"
                    @if run.void { ", void" }
                }
            }
        }
    }
}

fn axis(runs: &[Run]) -> Axis {
    let every = runs.len().div_ceil(LABELS_MAX).max(1);
    let labelled = runs.iter().enumerate().step_by(every);
    Axis {
        scale: Scale::Linear(-0.5, runs.len() as f64 - 0.5),
        ticks: labelled.map(|(n, run)| (n as f64, run.label.clone())).collect(),
        minor: Vec::new(),
        title: String::new(),
    }
}
