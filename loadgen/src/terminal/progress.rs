//! How a run is getting on, on standard error: bars on a terminal, a line a phase elsewhere, nothing if quiet.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stop::Stop;
use crate::fleet::Watch;
use crate::measure::{Connecting, Interval};
use crate::record::figures::{Unit, grouped};

/// How often a bar is drawn: drawing costs CPU time on the machine that is measured.
const DRAWN_PER_S: u8 = 5;

/// Shows how a run is getting on, and hands on the wish to end it.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    stop: Stop,
    /// `repetition 2 of 5`, or nothing.
    title: String,
    phase: Phase,
}

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Bars,
    Lines,
    Quiet,
}

#[derive(Debug)]
enum Phase {
    None,
    Connecting(ProgressBar),
    Driving(Driving),
    Stepping(ProgressBar),
}

#[derive(Debug)]
struct Driving {
    bar: ProgressBar,
    begun: Instant,
    warmup: Duration,
    duration: Duration,
    gaps: u64,
}

impl Progress {
    /// As suits standard error.
    pub fn new(quiet: bool, stop: Stop) -> Self {
        let style = match std::io::stderr().is_terminal() {
            _ if quiet => Style::Quiet,
            true => Style::Bars,
            false => Style::Lines,
        };
        Self { style, stop, title: String::new(), phase: Phase::None }
    }

    /// A part of the run begins, such as `repetition 2 of 5`; empty if there is only one.
    pub fn begin_part(&mut self, title: &str) {
        self.clear();
        self.title = title.to_owned();
    }

    /// Connections are about to be made.
    pub fn begin_connecting(&mut self, wanted: u64, url: &str) {
        self.clear();
        self.line(&format!("connecting {} to {url}", grouped(wanted as f64)));
        self.phase = Phase::Connecting(self.bar(wanted, "connecting"));
    }

    /// A load is about to be driven.
    pub fn begin_drive(&mut self, warmup: Duration, duration: Duration) {
        self.clear();
        let seconds = |time: Duration| crate::units::Span(time).to_string();
        self.line(&format!("measuring for {} after {} of warm-up", seconds(duration), seconds(warmup)));
        let whole = u64::try_from((warmup + duration).as_millis()).unwrap_or(u64::MAX);
        let bar = self.bar(whole, "");
        let driving = Driving { bar, begun: Instant::now(), warmup, duration, gaps: 0 };
        driving.show_time();
        self.phase = Phase::Driving(driving);
    }

    /// Something else takes a while, such as the ceiling.
    pub fn note(&mut self, what: &str) {
        self.clear();
        self.line(what);
        if self.style == Style::Bars {
            eprintln!("{what}");
        }
    }

    /// So many of so many steps are done; a bar on a terminal, and nothing elsewhere.
    pub fn step(&mut self, what: &str, done: u64, of: u64) {
        if !matches!(self.phase, Phase::Stepping(_)) {
            self.clear();
            self.phase = Phase::Stepping(self.bar(of, ""));
        }
        if let Phase::Stepping(bar) = &self.phase {
            bar.set_position(done);
            bar.set_message(what.to_owned());
        }
    }

    /// Takes away what is shown.
    pub fn clear(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::None) {
            Phase::None => {}
            Phase::Connecting(bar) | Phase::Stepping(bar) | Phase::Driving(Driving { bar, .. }) => {
                bar.finish_and_clear()
            }
        }
    }

    /// The wish to end, as a handle of its own.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    fn line(&self, what: &str) {
        if self.style == Style::Lines {
            let colon = if self.title.is_empty() { "" } else { ": " };
            eprintln!("loadgen: {}{colon}{what}", self.title);
        }
    }

    fn bar(&self, length: u64, what: &str) -> ProgressBar {
        if self.style != Style::Bars {
            return ProgressBar::hidden();
        }
        let template = "{prefix:.bold} {bar:24.cyan/dim} {msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(DRAWN_PER_S));
        bar.set_style(style.progress_chars("━━─"));
        bar.set_prefix(join(&self.title, what));
        bar
    }
}

impl Driving {
    /// Moves the bar on and says which part of the drive it is.
    fn show_time(&self) {
        let elapsed = self.begun.elapsed();
        self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        let part = if elapsed < self.warmup {
            "warming up"
        } else if elapsed < self.warmup + self.duration {
            "measuring"
        } else {
            "waiting for the last deliveries"
        };
        if !self.bar.prefix().ends_with(part) {
            let prefix = self.bar.prefix();
            let title = ["warming up", "measuring"].iter().find_map(|part| prefix.strip_suffix(part));
            self.bar.set_prefix(join(title.unwrap_or(&prefix).trim_end_matches(" · "), part));
        }
    }
}

impl Watch for Progress {
    fn connecting(&mut self, so_far: &Connecting) {
        if let Phase::Connecting(bar) = &self.phase {
            bar.set_length(so_far.wanted);
            bar.set_position(so_far.connected);
            bar.set_message(connecting_words(so_far));
        }
    }

    fn interval(&mut self, interval: &Interval) {
        if let Phase::Driving(driving) = &mut self.phase {
            driving.gaps += interval.gaps;
            driving.bar.set_message(interval_words(interval, driving.gaps));
        }
    }

    fn is_stopped(&self) -> bool {
        // Asked often, so it is also what moves the bar between two intervals.
        if let Phase::Driving(driving) = &self.phase {
            driving.show_time();
        }
        self.stop.is_set()
    }
}

fn join(title: &str, what: &str) -> String {
    if title.is_empty() || what.is_empty() { format!("{title}{what}") } else { format!("{title} · {what}") }
}

/// `1,200 of 10,000 · 3.41k/s · p99 handshake 2.1 ms · 3 failed: refused 3`
fn connecting_words(so_far: &Connecting) -> String {
    let mut words = vec![format!("{} of {}", grouped(so_far.connected as f64), grouped(so_far.wanted as f64))];
    if so_far.elapsed_ns > 0 {
        let per_s = so_far.connected as f64 * 1e9 / so_far.elapsed_ns as f64;
        words.push(Unit::PerSecond.format(per_s));
    }
    if !so_far.handshake.is_empty() {
        let p99 = so_far.handshake.quantile_ns(0.99) as f64;
        words.push(format!("handshake p99 {}", Unit::Nanoseconds.format(p99)));
    }
    let failed: u64 = so_far.failures.values().sum();
    if failed > 0 {
        words.push(format!("{} failed: {}", grouped(failed as f64), super::causes(&so_far.failures)));
    }
    words.join(" · ")
}

/// `100/s out · 100k/s in · p50 0.8 ms · p99 1.9 ms · lag 0.2 ms · CPU 34%`, and gaps if there are any.
fn interval_words(interval: &Interval, gaps: u64) -> String {
    let per_s = |count: u64| {
        let seconds = interval.length_ns.max(1) as f64 / 1e9;
        Unit::PerSecond.format(count as f64 / seconds)
    };
    let ns = |ns: u64| Unit::Nanoseconds.format(ns as f64);
    let mut words = vec![format!("{} out", per_s(interval.published)), format!("{} in", per_s(interval.received))];
    if !interval.corrected.is_empty() {
        words.push(format!("p50 {}", ns(interval.corrected.quantile_ns(0.5))));
        words.push(format!("p99 {}", ns(interval.corrected.quantile_ns(0.99))));
    }
    words.push(format!("lag {}", ns(interval.lag_max_ns)));
    words.push(format!("CPU {}", Unit::Share.format(interval.cpu_share_max)));
    if gaps > 0 {
        words.push(format!("{} gaps", grouped(gaps as f64)));
    }
    words.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_phase_tells_how_many_how_fast_and_what_failed() {
        let mut so_far =
            Connecting { wanted: 10_000, connected: 1200, elapsed_ns: 500_000_000, ..Connecting::default() };
        so_far.handshake.record(2_000_000);
        so_far.failures = [("refused".into(), 2), ("HTTP 403".into(), 1)].into();
        let words = connecting_words(&so_far);
        for part in ["1,200 of 10,000", "2.40k/s", "handshake p99 2", "3 failed", "refused 2", "HTTP 403 1"] {
            assert!(words.contains(part), "{words}");
        }
        assert_eq!(connecting_words(&Connecting { wanted: 5, ..Connecting::default() }), "0 of 5");
    }

    #[test]
    fn an_interval_tells_rates_latency_lag_and_gaps() {
        let mut interval = Interval {
            length_ns: 500_000_000,
            published: 50,
            received: 5000,
            lag_max_ns: 200_000,
            cpu_share_max: 0.34,
            ..Interval::default()
        };
        interval.corrected.record(1_000_000);
        let words = interval_words(&interval, 7);
        for part in ["100/s out", "10k/s in", "p50 1", "p99 1", "lag 200 µs", "CPU 34", "7 gaps"] {
            assert!(words.contains(part), "{words}");
        }
        assert!(!interval_words(&Interval::default(), 0).contains("gaps"));
    }

    #[test]
    fn a_wish_to_end_is_handed_on_in_every_phase() {
        let stop = Stop::default();
        let mut progress =
            Progress { style: Style::Quiet, stop: stop.clone(), title: String::new(), phase: Phase::None };
        progress.begin_connecting(5, "ws://a");
        progress.begin_drive(Duration::ZERO, Duration::from_secs(1));
        progress.interval(&Interval { gaps: 2, ..Interval::default() });
        assert!(!progress.is_stopped());
        stop.set();
        assert!(progress.is_stopped());
        let Phase::Driving(driving) = &progress.phase else {
            panic!("it is driving");
        };
        assert_eq!(driving.gaps, 2);
    }

    #[test]
    fn titles_and_parts_are_joined_where_both_are_there() {
        assert_eq!((join("a", "b"), join("", "b"), join("a", "")), ("a · b".into(), "b".into(), "a".into()));
    }
}
