//! When a program that does not answer is left alone for a while: after so many failures in a row, for so long; then one
//! request is tried.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Decides whether the program may be asked.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Nobody asks before.
    until: Option<Instant>,
    /// Whether somebody is trying.
    probing: bool,
}

/// The permission to ask; given back unused, it says nothing about the program.
#[derive(Debug)]
#[must_use = "whether it answered has to be told"]
pub struct Attempt<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    /// With `failures_max` 0 the program is always asked.
    #[must_use]
    pub fn new(failures_max: u32, pause: Duration) -> Self {
        Self { failures_max, pause, state: Mutex::default() }
    }

    /// Asks for permission; none while the program is left alone.
    #[must_use]
    pub fn attempt(&self, now: Instant) -> Option<Attempt<'_>> {
        let mut state = self.state.lock();
        let is_probe = match state.until {
            None => false,
            Some(until) if now < until || state.probing => return None,
            Some(_) => true,
        };
        state.probing |= is_probe;
        Some(Attempt { breaker: self, is_probe })
    }

    /// Whether the program is left alone.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state.lock().until.is_some()
    }
}

impl Attempt<'_> {
    /// The program has answered. True if it had been left alone before.
    pub fn succeeded(self) -> bool {
        let mut state = self.breaker.state.lock();
        state.failures = 0;
        state.until.take().is_some()
    }

    /// It has not. True if it is left alone from now on.
    pub fn failed(self, now: Instant) -> bool {
        let mut state = self.breaker.state.lock();
        state.failures = state.failures.saturating_add(1);
        let max = self.breaker.failures_max;
        if max == 0 || state.failures < max {
            return false;
        }
        let was_open = state.until.replace(now + self.breaker.pause).is_some();
        !was_open
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.state.lock().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_failures_in_a_row_one_probe_at_a_time_decides() {
        let (breaker, start) = (Breaker::new(2, Duration::from_secs(10)), Instant::now());
        let at = |s| start + Duration::from_secs(s);
        assert!(!breaker.attempt(at(0)).unwrap().failed(at(0)));
        assert!(!breaker.attempt(at(0)).unwrap().succeeded(), "an answer in between begins the count anew");
        assert!(!breaker.attempt(at(0)).unwrap().failed(at(0)));
        assert!(breaker.attempt(at(0)).unwrap().failed(at(0)));
        assert!(breaker.is_open() && breaker.attempt(at(9)).is_none());
        let probe = breaker.attempt(at(10)).unwrap();
        assert!(breaker.attempt(at(10)).is_none(), "only one tries");
        drop(probe);
        let probe = breaker.attempt(at(10)).expect("one that was given up does not bar the way");
        assert!(!probe.failed(at(10)));
        assert!(breaker.attempt(at(19)).is_none());
        assert!(breaker.attempt(at(20)).unwrap().succeeded());
        assert!(!breaker.is_open());
        let (_one, _two) = (breaker.attempt(at(20)).unwrap(), breaker.attempt(at(20)).unwrap());
    }

    #[test]
    fn with_zero_it_is_always_asked() {
        let breaker = Breaker::new(0, Duration::from_secs(10));
        for _ in 0..10 {
            assert!(!breaker.attempt(Instant::now()).unwrap().failed(Instant::now()));
        }
    }
}
