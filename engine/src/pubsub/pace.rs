//! How fast a topic is published to: a rate that decays, kept in constant time and space.

/// After so long a publication counts for 1/e of what it did.
const MEMORY_S: f64 = 5.0;
/// Publications are taken together over at least so long, so that an exponential is worked out at most ten times a second.
const FOLD_NANOS: u64 = 100_000_000;
/// A topic younger than this is measured as if it were so old: one publication does not make a rate.
const AGE_MIN_S: f64 = 1.0;

/// The publication rate of one topic.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// Publications a second, each second weighted by its age, up to `folded_at`.
    rate: f64,
    /// The sum of these weights: 1 for a topic that is old.
    weight: f64,
    /// Nanoseconds.
    folded_at: u64,
    /// Publications since then.
    since: u32,
}

impl Pace {
    /// Nothing has been published yet.
    #[must_use]
    pub fn new(now_nanos: u64) -> Self {
        Self { folded_at: now_nanos, ..Self::default() }
    }

    /// Counts a publication.
    pub fn count(&mut self, now_nanos: u64) {
        self.since += 1;
        if now_nanos.saturating_sub(self.folded_at) >= FOLD_NANOS || self.since == u32::MAX {
            self.fold(now_nanos);
        }
    }

    fn fold(&mut self, now_nanos: u64) {
        let seconds = now_nanos.saturating_sub(self.folded_at).max(1) as f64 / 1e9;
        let kept = (-seconds / MEMORY_S).exp();
        self.rate = self.rate * kept + f64::from(self.since) / seconds * (1.0 - kept);
        self.weight = self.weight * kept + (1.0 - kept);
        (self.folded_at, self.since) = (now_nanos, 0);
    }

    /// Publications a second, those of the last seconds counting most.
    #[must_use]
    pub fn per_s(&self, now_nanos: u64) -> f64 {
        let mut now = *self;
        now.fold(now_nanos);
        now.rate / now.weight.max(1.0 - (-AGE_MIN_S / MEMORY_S).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_steady_rate_is_found_at_once_and_forgotten_in_seconds() {
        for per_s in [1_u64, 7, 100, 20_000] {
            let mut pace = Pace::new(3 * SECOND);
            let mut now = 3 * SECOND;
            for seconds in 1..=20 {
                for _ in 0..per_s {
                    now += SECOND / per_s;
                    pace.count(now);
                }
                let found = pace.per_s(now);
                let off = (found - per_s as f64).abs() / per_s as f64;
                assert!(off < 0.25, "{per_s}/s after {seconds} s: {found}");
            }
            assert!(pace.per_s(now + 5 * SECOND) < per_s as f64 * 0.4);
            assert!(pace.per_s(now + 60 * SECOND) < per_s as f64 * 0.001);
        }
    }

    #[test]
    fn it_follows_a_change() {
        let mut pace = Pace::new(0);
        let mut now = 0;
        for (per_s, seconds) in [(1000, 30), (10, 30)] {
            for _ in 0..per_s * seconds {
                now += SECOND / per_s;
                pace.count(now);
            }
            let found = pace.per_s(now);
            assert!((found / per_s as f64 - 1.0).abs() < 0.3, "{per_s}/s: {found}");
        }
    }

    #[test]
    fn one_publication_is_no_storm() {
        let mut pace = Pace::new(SECOND);
        assert!(pace.per_s(SECOND).abs() < f64::EPSILON);
        pace.count(SECOND);
        for now in [SECOND, SECOND + 1, SECOND + 1_000_000] {
            let found = pace.per_s(now);
            assert!(found > 0.0 && found < 1.2, "{found}");
        }
    }
}
