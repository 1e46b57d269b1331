//! A figure of each interval over time: throughput, lag, CPU.

use maud::{Markup, html};

use super::frame::{Axis, Frame, at, polyline};
use super::heat::warmup;
use crate::measure::Interval;
use crate::record::figures::Unit;

/// What is drawn.
#[derive(Clone, Copy)]
pub struct Line {
    /// Its name, the plot's title.
    pub title: &'static str,
    /// Its colour: `a`, `b`, `c`, `d`.
    pub class: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// The value of an interval.
    pub read: fn(&Interval) -> f64,
}

fn per_second(count: u64, interval: &Interval) -> f64 {
    if interval.length_ns == 0 { 0.0 } else { count as f64 * 1e9 / interval.length_ns as f64 }
}

/// The small plots of a repetition, in the order they are shown.
pub const LINES: &[Line] = &[
    Line { title: "Received", class: "a", unit: Unit::PerSecond, read: |i| per_second(i.received, i) },
    Line { title: "Published", class: "c", unit: Unit::PerSecond, read: |i| per_second(i.published, i) },
    Line { title: "Greatest lag of a worker", class: "d", unit: Unit::Nanoseconds, read: |i| i.lag_max_ns as f64 },
    Line { title: "Busiest worker's share of a core", class: "b", unit: Unit::Share, read: |i| i.cpu_share_max },
];

/// One line over time; nothing if there are no intervals.
pub fn plot(line: &Line, intervals: &[Interval]) -> Markup {
    let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else { return Markup::default() };
    let (from, to) = (first.begin_ns as f64 / 1e9, end(last));
    let max = intervals.iter().map(line.read).fold(0.0, f64::max);
    // The whole is what a share is looked at against.
    let max = if line.unit == Unit::Share { max.max(1.0) } else { max };
    let x = Axis { title: String::new(), ..Axis::seconds(from, to) };
    let frame = Frame { width: 520.0, height: 180.0, x, y: Axis::linear(max, line.unit, "") };
    let points: Vec<(f64, f64)> = intervals
        .iter()
        .flat_map(|interval| {
            let y = frame.y((line.read)(interval));
            [(frame.x(interval.begin_ns as f64 / 1e9), y), (frame.x(end(interval)), y)]
        })
        .collect();
    let points = polyline(points);
    let (left, right, bottom) = (at(frame.x(from)), at(frame.x(to)), at(frame.bottom()));
    html! {
        div.plot { (frame.svg("", line.title, None, &html! {
            polygon.area.(line.class) points={ (left) "," (bottom) " " (points) " " (right) "," (bottom) } {}
            polyline.curve.solid.(line.class) points=(points) {}
            (warmup(&frame, from))
        })) }
    }
}

fn end(interval: &Interval) -> f64 {
    (interval.begin_ns as f64 + interval.length_ns as f64) / 1e9
}
