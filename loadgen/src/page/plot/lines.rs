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

/// More steps than this are put together, two or more at a time: there are not more pixels.
const STEPS_MAX: usize = 240;

/// A time, and what is drawn of it: rates are means, everything else is the greatest value.
fn steps(line: &Line, intervals: &[Interval]) -> Vec<(f64, f64, f64)> {
    let together = intervals.len().div_ceil(STEPS_MAX).max(1);
    let step = |some: &[Interval]| {
        let values = || some.iter().map(line.read);
        let length_ns = |interval: &Interval| interval.length_ns as f64;
        let value = match line.unit {
            Unit::PerSecond => {
                let whole_ns: f64 = some.iter().map(length_ns).sum();
                let weighed: f64 = some.iter().zip(values()).map(|(interval, rate)| rate * length_ns(interval)).sum();
                if whole_ns > 0.0 { weighed / whole_ns } else { 0.0 }
            }
            _ => values().fold(0.0, f64::max),
        };
        let begin = some.first().map_or(0.0, |interval| interval.begin_ns as f64 / 1e9);
        (begin, some.last().map_or(begin, end), value)
    };
    intervals.chunks(together).map(step).collect()
}

/// One line over time; nothing if there are no intervals.
pub fn plot(line: &Line, intervals: &[Interval]) -> Markup {
    let (Some(first), Some(last)) = (intervals.first(), intervals.last()) else { return Markup::default() };
    let (from, to) = (first.begin_ns as f64 / 1e9, end(last));
    let steps = steps(line, intervals);
    let max = steps.iter().map(|(.., value)| *value).fold(0.0, f64::max);
    // The whole is what a share is looked at against.
    let max = if line.unit == Unit::Share { max.max(1.0) } else { max };
    let x = Axis { title: String::new(), ..Axis::seconds(from, to) };
    let frame = Frame { width: 520.0, height: 180.0, x, y: Axis::linear(max, line.unit, "") };
    let points = steps.iter().flat_map(|(begin, end, value)| {
        let y = frame.y(*value);
        [(frame.x(*begin), y), (frame.x(*end), y)]
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_intervals_become_few_steps_that_keep_mean_rates_and_greatest_lags() {
        let interval = |n: i64| Interval {
            begin_ns: n * 1_000_000_000,
            length_ns: 1_000_000_000,
            received: n as u64 % 2 * 100,
            lag_max_ns: n as u64,
            ..Interval::default()
        };
        let intervals: Vec<_> = (0..3600).map(interval).collect();
        let of = |title: &str| steps(LINES.iter().find(|line| line.title == title).unwrap(), &intervals);
        let (received, lag) = (of("Received"), of("Greatest lag of a worker"));
        assert!(received.len() <= STEPS_MAX && received.last().unwrap().1 == 3600.0);
        assert!(received.iter().all(|(.., rate)| (40.0..60.0).contains(rate)), "{received:?}");
        assert_eq!(lag.last().unwrap().2, 3599.0);
    }
}
