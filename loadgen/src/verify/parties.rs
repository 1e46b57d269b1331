//! Completion over several workers: what each tells of its own subscribers, put together by the conductor.

use std::collections::HashMap;

use crate::verify::completion::{Completion, Step};

/// The workers as those who wait: a worker's position in a stream is that of its last subscriber.
#[derive(Debug)]
pub struct Parties {
    completion: Completion,
    /// By party and stream.
    positions: HashMap<(u32, u32), u64>,
}

impl Parties {
    /// Nobody waits for anything; see [`Self::begin`].
    pub fn new(streams: u32) -> Self {
        Self { completion: Completion::new(streams), positions: HashMap::new() }
    }

    /// These parties have subscribers of `stream`, whose next publication is `from`.
    pub fn begin(&mut self, stream: u32, from: u64, parties: impl IntoIterator<Item = u32>) {
        let mut people = 0;
        for party in parties {
            self.positions.insert((party, stream), from);
            people += 1;
        }
        self.completion.begin(stream, from, people);
    }

    /// Takes what a party tells. The steps of one party come in their order, those of several in any.
    pub fn take(&mut self, party: u32, step: Step, out: &mut impl FnMut(Step)) {
        let completion = &mut self.completion;
        let (stream, to) = match step {
            Step::Done { stream, sequence, .. } | Step::Passed { stream, sequence, .. } => (stream, sequence + 1),
            Step::Skipped { stream, to, .. } => (stream, to),
            Step::Filled { stream, sequence, intended_ns, at_ns } => {
                return completion.fill(stream, sequence, intended_ns, at_ns, out);
            }
        };
        let Some(position) = self.positions.get_mut(&(party, stream)) else {
            return;
        };
        let from = std::mem::replace(position, to);
        let at_ns = match step {
            Step::Done { sequence, intended_ns, at_ns, .. } => {
                completion.learn(stream, sequence, intended_ns, out);
                // Nobody was there: whoever else was tells when it was complete.
                if intended_ns == 0 { 0 } else { at_ns }
            }
            Step::Passed { sequence, intended_ns, .. } => {
                completion.learn(stream, sequence, intended_ns, out);
                completion.miss(stream, sequence, to, out);
                0
            }
            Step::Skipped { excused, .. } => {
                if !excused {
                    completion.miss(stream, from, to, out);
                }
                0
            }
            Step::Filled { .. } => return,
        };
        completion.advance_at(stream, from, to, at_ns, out);
    }
}
