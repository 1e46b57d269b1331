//! Who has received how far: the window of publications that not all subscribers have.
//!
//! Kept as a count of subscribers at each position of the window, so a read of sixty frames costs two steps, not sixty.

use std::collections::VecDeque;

/// The window between the first publication that somebody still waits for and the last one published.
///
/// A subscriber's position is the sequence number it expects next. Invariant: the counts of `waiting` add up to the
/// number of subscribers, and its length is that of `intended_ns` plus one.
#[derive(Debug)]
pub struct Progress {
    /// The lowest position of any subscriber.
    lowest: u64,
    /// `waiting[i]`: subscribers at position `lowest + i`. The last entry is those who have all.
    waiting: VecDeque<usize>,
    /// The intended times of the publications in the window.
    intended_ns: VecDeque<u64>,
}

impl Progress {
    /// All of `subscribers` at position 0, nothing published.
    pub fn new(subscribers: usize) -> Self {
        Self { lowest: 0, waiting: VecDeque::from([subscribers]), intended_ns: VecDeque::new() }
    }

    /// Adds a publication to the window and returns its sequence number.
    pub fn publish(&mut self, intended_ns: u64) -> u64 {
        self.waiting.push_back(0);
        self.intended_ns.push_back(intended_ns);
        self.published() - 1
    }

    /// The number of publications so far, and the position of a subscriber that has all of them.
    pub fn published(&self) -> u64 {
        self.lowest + self.intended_ns.len() as u64
    }

    /// The number of publications that somebody has not received.
    pub fn outstanding(&self) -> u64 {
        self.intended_ns.len() as u64
    }

    /// The lowest position of any subscriber: all publications before it are complete.
    pub fn lowest(&self) -> u64 {
        self.lowest
    }

    /// One subscriber went from position `from` to `to`, neither beyond [`Self::published`]. `completed` gets the
    /// intended time of each publication that everybody has by this.
    #[inline]
    pub fn advance(&mut self, from: u64, to: u64, completed: impl FnMut(u64)) {
        if from == to {
            return;
        }
        self.waiting[(from - self.lowest) as usize] -= 1;
        self.waiting[(to - self.lowest) as usize] += 1;
        self.complete(completed);
    }

    /// A subscriber at position `from` is gone and is not waited for any more.
    pub fn leave(&mut self, from: u64, completed: impl FnMut(u64)) {
        self.waiting[(from - self.lowest) as usize] -= 1;
        self.complete(completed);
    }

    fn complete(&mut self, mut completed: impl FnMut(u64)) {
        while self.waiting.front() == Some(&0) {
            let Some(intended_ns) = self.intended_ns.pop_front() else {
                return;
            };
            self.waiting.pop_front();
            self.lowest += 1;
            completed(intended_ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_publication_is_complete_with_its_last_subscriber() {
        let mut progress = Progress::new(2);
        assert_eq!([progress.publish(10), progress.publish(20)], [0, 1]);
        let mut completed = Vec::new();
        progress.advance(0, 2, |at| completed.push(at));
        assert!(completed.is_empty());
        progress.advance(0, 1, |at| completed.push(at));
        assert_eq!((completed.as_slice(), progress.outstanding()), ([10].as_slice(), 1));
        progress.leave(1, |at| completed.push(at));
        assert_eq!((completed.as_slice(), progress.lowest(), progress.published()), ([10, 20].as_slice(), 2, 2));
    }

    proptest! {
        #[test]
        fn the_window_is_that_of_the_slowest(steps in prop::collection::vec((0_usize..5, 0_u64..6), 1..200)) {
            let (mut progress, mut positions, mut completed) = (Progress::new(4), [0_u64; 4], 0_u64);
            for (who, how_far) in steps {
                match positions.get_mut(who) {
                    None => { progress.publish(progress.published()); }
                    Some(position) => {
                        let to = (*position + how_far).min(progress.published());
                        progress.advance(*position, to, |intended| { assert_eq!(intended, completed); completed += 1; });
                        *position = to;
                    }
                }
                let lowest = *positions.iter().min().unwrap();
                prop_assert_eq!(progress.lowest(), lowest);
                prop_assert_eq!(completed, lowest);
                prop_assert_eq!(progress.outstanding(), progress.published() - lowest);
            }
        }
    }
}
