//! A hashed timer wheel: setting a timer is a push, a turn looks only at the ticks that have passed, and nothing is ever
//! searched. Cancelling is the owner's business: it forgets the timer and ignores it when it comes.

/// The length of a tick, in milliseconds.
pub const TICK_MS: u64 = 4;
/// One revolution takes `SLOTS * TICK_MS` = 16.4 s; what lies further ahead stays in its slot for another one.
const SLOTS: usize = 4096;

/// Something that shall happen at a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timer {
    /// When, in ticks since the engine started.
    pub tick: u64,
    /// The connection's slot.
    pub slot: u32,
    /// The generation of the slot.
    pub generation: u32,
    /// What.
    pub due: Due,
}

/// What shall happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// The engine looks at the connection: silence, time limits, handshakes.
    Check,
    /// The handler's timer with this token.
    Handler(u64),
    /// A connection that has sent too fast may be read from again.
    Refill,
}

/// The timers of a shard.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Timer>>,
    /// A bit for each slot that is not empty, so that the next one is found by looking at words.
    occupied: Vec<u64>,
    /// Ticks up to this one have been looked at.
    tick: u64,
    len: usize,
}

impl Wheel {
    /// No timers, at a tick.
    #[must_use]
    pub fn new(tick: u64) -> Self {
        Self { slots: vec![Vec::new(); SLOTS], occupied: vec![0; SLOTS / 64], tick, len: 0 }
    }

    /// Sets a timer; one in the past comes with the next tick.
    pub fn set(&mut self, mut timer: Timer) {
        debug_assert!(timer.tick > self.tick || timer.due == Due::Check, "a handler's timer is found by its tick");
        timer.tick = timer.tick.max(self.tick + 1);
        let slot = timer.tick as usize % SLOTS;
        self.slots[slot].push(timer);
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
    }

    /// The next tick at which there may be something to do.
    #[must_use]
    pub fn next_tick(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let start = (self.tick + 1) as usize % SLOTS;
        let mut word = start / 64;
        let mut bits = self.occupied[word] & (u64::MAX << (start % 64));
        for _ in 0..=SLOTS / 64 {
            if bits != 0 {
                let slot = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(self.tick + 1 + ahead as u64);
            }
            word = (word + 1) % (SLOTS / 64);
            bits = self.occupied[word];
        }
        None
    }

    /// Moves on to a tick and hands out everything that has come due.
    pub fn advance(&mut self, tick: u64, due: &mut Vec<Timer>) {
        if tick <= self.tick {
            return;
        }
        // After a long pause every slot is looked at once, not once per revolution missed.
        let first = (self.tick + 1).max(tick.saturating_sub(SLOTS as u64 - 1));
        for at in first..=tick {
            let slot = at as usize % SLOTS;
            if self.occupied[slot / 64] & (1 << (slot % 64)) == 0 {
                continue;
            }
            let timers = &mut self.slots[slot];
            let before = timers.len();
            timers.retain(|timer| {
                let waits = timer.tick > tick;
                if !waits {
                    due.push(*timer);
                }
                waits
            });
            self.len -= before - timers.len();
            if timers.is_empty() {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                timers.shrink_to(64);
            }
        }
        self.tick = tick;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_timer_comes_once_and_never_early_and_never_missed(
            start in 0_u64..100_000,
            steps in prop::collection::vec((prop::collection::vec(0_u64..20_000, 0..5), 1_u64..6_000), 1..60),
        ) {
            let mut wheel = Wheel::new(start);
            let (mut tick, mut slot) = (start, 0);
            let mut waiting: Vec<Timer> = Vec::new();
            for (ahead, step) in steps {
                for ahead in ahead {
                    let timer = Timer { tick: tick + ahead, slot, generation: 0, due: Due::Check };
                    slot += 1;
                    wheel.set(timer);
                    waiting.push(Timer { tick: timer.tick.max(tick + 1), ..timer });
                }
                let next = wheel.next_tick();
                prop_assert_eq!(next.is_none(), waiting.is_empty());
                if let (Some(next), Some(first)) = (next, waiting.iter().map(|timer| timer.tick).min()) {
                    prop_assert!(next > tick && next <= first, "sleeping until {next} misses {first}");
                }
                tick += step;
                let mut due = Vec::new();
                wheel.advance(tick, &mut due);
                let (mut expected, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|timer| timer.tick <= tick);
                waiting = rest;
                due.sort_by_key(|timer| timer.slot);
                expected.sort_by_key(|timer| timer.slot);
                prop_assert_eq!(due, expected);
            }
        }
    }
}
