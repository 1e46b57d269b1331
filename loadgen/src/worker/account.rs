//! What becomes of publications: recorded where all subscribers are, or handed on to where they come together.

use crate::measure::Latencies;
use crate::verify::Step;

/// The measured time, nanoseconds of `CLOCK_MONOTONIC`: from, up to and without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Its beginning.
    pub begin_ns: u64,
    /// Its end.
    pub end_ns: u64,
}

impl Window {
    /// Whether a time lies in it.
    #[inline]
    pub fn holds(&self, at_ns: u64) -> bool {
        self.begin_ns <= at_ns && at_ns < self.end_ns
    }

    /// Its length.
    pub fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }

    /// Ends it at `at_ns` if it would end later.
    pub fn stop(&mut self, at_ns: u64) {
        self.end_ns = self.end_ns.min(at_ns);
        self.begin_ns = self.begin_ns.min(self.end_ns);
    }
}

/// Sums over the publications of one drive.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Completed {
    /// From intended time to the last receipt, of publications intended in the measured time.
    pub latency: Latencies,
    /// Publications that all of their subscribers got.
    pub done: u64,
    /// Publications that had no subscriber when they came, and nobody is to blame for.
    pub unattended: u64,
    /// Publications that nobody is waited for any more: the credit of a closed loop.
    pub passed: u64,
}

impl Completed {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.latency.clear();
        (self.done, self.unattended, self.passed) = (0, 0, 0);
    }

    /// Of so many publications that had subscribers at the beginning, those that not every one of them got.
    pub fn incomplete_of(&self, published: u64) -> u64 {
        published.saturating_sub(self.done + self.unattended)
    }

    /// Takes what became of a publication.
    pub fn take(&mut self, step: Step, window: Window) {
        match step {
            Step::Done { intended_ns: 0, .. } => {
                self.passed += 1;
                self.unattended += 1;
            }
            Step::Done { intended_ns, at_ns, .. } => {
                self.passed += 1;
                self.complete(intended_ns, at_ns, window);
            }
            Step::Passed { .. } => self.passed += 1,
            Step::Filled { intended_ns, at_ns, .. } => self.complete(intended_ns, at_ns, window),
            Step::Skipped { from, to, excused, .. } => {
                self.passed += to - from;
                self.unattended += if excused { to - from } else { 0 };
            }
        }
    }

    #[inline]
    fn complete(&mut self, intended_ns: u64, at_ns: u64, window: Window) {
        self.done += 1;
        if window.holds(intended_ns) {
            self.latency.record(at_ns.saturating_sub(intended_ns));
        }
    }
}

/// Where a worker's steps go.
#[derive(Debug)]
pub struct Account {
    /// The sums, if this worker has all subscribers.
    pub completed: Completed,
    /// What is to be told to the conductor, if there are others.
    pub steps: Vec<Step>,
    /// The measured time.
    pub window: Window,
    is_alone: bool,
}

impl Account {
    /// For the only worker of a fleet, or one of several.
    pub fn new(is_alone: bool) -> Self {
        Self { completed: Completed::default(), steps: Vec::new(), window: Window::default(), is_alone }
    }

    /// Whether this worker has all subscribers.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Takes what became of a publication.
    #[inline]
    pub fn take(&mut self, step: Step) {
        if self.is_alone {
            self.completed.take(step, self.window);
        } else {
            self.steps.push(step);
        }
    }
}
