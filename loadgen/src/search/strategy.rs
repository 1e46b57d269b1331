//! Which load to try next: doubled until the objective is missed, then halved in between, then confirmed.
//!
//! Pure: loads in, verdicts in, the next load out. What was kept once is believed only after it was kept twice.

/// Between which loads is searched, and how finely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The first load tried, and the smallest.
    pub from: f64,
    /// The largest that may be tried.
    pub to: f64,
    /// When kept and missed loads are this close, as a ratio above 1, the search is over.
    pub precision: f64,
    /// Whether loads are whole numbers.
    pub whole: bool,
}

/// How the search ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Found {
    /// The largest load that kept the objective, twice; and the smallest that did not, unless all were kept.
    Largest {
        /// What was kept.
        kept: f64,
        /// What was missed.
        missed: Option<f64>,
    },
    /// Not even the smallest load kept it.
    Nothing {
        /// The smallest that was tried.
        missed: f64,
    },
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Next {
    /// This load is to be tried.
    Try(f64),
    /// This load is to be tried again, because the answer hangs on it.
    Confirm(f64),
    /// The search is over.
    Done(Found),
}

/// A search under way.
#[derive(Debug, Clone)]
pub struct Search {
    bounds: Bounds,
    /// Kept loads, ascending; each larger than the one before and smaller than `missed`.
    kept: Vec<f64>,
    missed: Option<f64>,
    next: Next,
}

impl Search {
    /// Begins at `bounds.from`.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, kept: Vec::new(), missed: None, next: Next::Try(bounds.rounded(bounds.from)) }
    }

    /// What is to be done next.
    pub fn next(&self) -> Next {
        self.next
    }

    /// Whether the load that was to be tried kept the objective.
    pub fn tell(&mut self, was_kept: bool) {
        self.next = match self.next {
            Next::Try(load) => {
                if was_kept {
                    self.kept.push(load);
                } else {
                    self.missed = Some(load);
                }
                self.narrow()
            }
            Next::Confirm(load) if was_kept => Next::Done(Found::Largest { kept: load, missed: self.missed }),
            Next::Confirm(load) => {
                self.kept.pop();
                self.missed = Some(load);
                self.narrow_or_confirm_lower()
            }
            done @ Next::Done(_) => done,
        };
    }

    fn narrow(&self) -> Next {
        let Some(&low) = self.kept.last() else {
            return Next::Done(Found::Nothing { missed: self.missed.unwrap_or(self.bounds.from) });
        };
        match self.missed {
            None if low >= self.bounds.to => Next::Confirm(low),
            None => Next::Try(self.bounds.rounded((low * 2.0).min(self.bounds.to))),
            Some(high) => {
                // In the middle of the ratio: 100 and 10,000 have 1,000 between them.
                let middle = self.bounds.rounded((low * high).sqrt());
                let is_close = high / low <= self.bounds.precision || middle <= low || middle >= high;
                if is_close { Next::Confirm(low) } else { Next::Try(middle) }
            }
        }
    }

    /// After a load that was kept once and not twice: the next lower one has to stand the same test.
    fn narrow_or_confirm_lower(&self) -> Next {
        match self.kept.last() {
            Some(&lower) => Next::Confirm(lower),
            None => self.narrow(),
        }
    }
}

impl Bounds {
    /// Whole numbers, or three digits.
    fn rounded(&self, load: f64) -> f64 {
        if self.whole {
            return load.round();
        }
        let unit = 10_f64.powf(load.log10().floor() - 2.0);
        ((load / unit).round() * unit).clamp(self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Searches a server that keeps the objective up to `limit`; gives what was found and the loads tried.
    fn search(bounds: Bounds, limit: f64) -> (Found, Vec<f64>) {
        let (mut search, mut tried) = (Search::new(bounds), Vec::new());
        loop {
            match search.next() {
                Next::Try(load) | Next::Confirm(load) => {
                    tried.push(load);
                    assert!(tried.len() < 100, "it never ends: {tried:?}");
                    search.tell(load <= limit);
                }
                Next::Done(found) => return (found, tried),
            }
        }
    }

    proptest! {
        #[test]
        fn the_limit_is_found_as_finely_as_asked(limit in 1.0_f64..1e6, whole: bool) {
            let bounds = Bounds { from: 1.0, to: 1e6, precision: 1.05, whole };
            let (found, tried) = search(bounds, limit);
            let Found::Largest { kept, missed } = found else { panic!("{found:?}") };
            prop_assert!(kept <= limit && tried.iter().filter(|load| **load == kept).count() >= 2, "confirmed");
            if let Some(missed) = missed {
                prop_assert!(missed > limit);
                prop_assert!(missed / kept <= 1.05 || whole && missed - kept <= 1.0, "{kept} {missed}");
            }
            prop_assert!(tried.iter().all(|load| (1.0..=1e6).contains(load)));
            prop_assert!(tried.len() <= 32, "{tried:?}");
        }

        #[test]
        fn it_ends_whatever_it_is_told(answers in prop::collection::vec(any::<bool>(), 200)) {
            let mut search = Search::new(Bounds { from: 1.0, to: 1e5, precision: 1.02, whole: true });
            let mut steps = 0;
            for answer in answers {
                if matches!(search.next(), Next::Done(_)) { break; }
                search.tell(answer);
                steps += 1;
            }
            prop_assert!(matches!(search.next(), Next::Done(_)) && steps < 60);
        }
    }

    #[test]
    fn what_was_kept_once_only_is_not_believed() {
        let mut search = Search::new(Bounds { from: 100.0, to: 1000.0, precision: 1.6, whole: true });
        assert_eq!(search.next(), Next::Try(100.0));
        search.tell(true);
        assert_eq!(search.next(), Next::Try(200.0));
        search.tell(true);
        search.tell(false);
        assert_eq!(search.next(), Next::Try(283.0), "between 200 and 400");
        search.tell(false);
        assert_eq!(search.next(), Next::Confirm(200.0));
        search.tell(false);
        assert_eq!(search.next(), Next::Confirm(100.0));
        search.tell(true);
        assert_eq!(search.next(), Next::Done(Found::Largest { kept: 100.0, missed: Some(200.0) }));
    }

    #[test]
    fn the_ends_of_the_range_are_told() {
        let bounds = Bounds { from: 10.0, to: 25.0, precision: 1.05, whole: true };
        assert_eq!(search(bounds, 5.0).0, Found::Nothing { missed: 10.0 });
        assert_eq!(search(bounds, 1e9), (Found::Largest { kept: 25.0, missed: None }, vec![10.0, 20.0, 25.0, 25.0]));
    }
}
