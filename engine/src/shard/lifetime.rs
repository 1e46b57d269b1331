//! How long a connection may last and be silent: pings, what happens if they are not answered, and the time limits. One check
//! is set for each connection, for the first moment at which one of these may have come.

use std::sync::Arc;
use std::time::Duration;

use super::connection::{Connection, State};
use super::core::{Core, ticks_of};
use crate::close::CloseCause;
use crate::config::Settings;
use crate::handler::SendOutcome;
use crate::ws::frame;

/// Connections whose checks are set anew in one turn, after settings have changed.
const REARMED_PER_TURN: usize = 1024;

/// A limit in ticks; `None` if it is off.
fn limit(duration: Duration) -> Option<u64> {
    (!duration.is_zero()).then(|| ticks_of(duration))
}

/// Ticks from one moment to a later one, both wrapping.
fn since(now: u32, then: u32) -> u64 {
    u64::from(now.wrapping_sub(then))
}

/// The part of its lifetime that a connection does not get, in 1/2^32 of what settings allow: the same whenever it is asked.
fn jitter(parts: [u32; 4]) -> u64 {
    let mut mixed = 0_u64;
    for part in parts {
        // splitmix64, as it takes next to nothing and mixes well.
        mixed = (mixed ^ u64::from(part)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
    }
    mixed >> 32
}

impl Core {
    /// Has the connection looked at when the first of its limits may be reached.
    pub(super) fn schedule_alive(&mut self, slot: u32) {
        if let Some(ticks) = self.next_check(slot) {
            self.check_at(slot, self.tick() + ticks.max(1));
        }
    }

    /// As [`schedule_alive`](Self::schedule_alive), but leaves a check that comes earlier: it will see what is to be done.
    fn schedule_earlier(&mut self, slot: u32, ticks: Option<u64>) {
        let Some(tick) = ticks.map(|ticks| self.tick() + ticks.max(1)) else { return };
        let set = self.connections[slot as usize].check_tick;
        let is_ahead = set.wrapping_sub(self.tick() as u32).cast_signed() > 0;
        if !is_ahead || (tick as u32).wrapping_sub(set).cast_signed() < 0 {
            self.check_at(slot, tick);
        }
    }

    /// Ticks to the first limit that may be reached.
    fn next_check(&self, slot: u32) -> Option<u64> {
        let (now, settings) = (self.tick() as u32, &*self.settings);
        let connection = &self.connections[slot as usize];
        let silent = self.silence(connection);
        let pinged = is_pinged(connection);
        // While a ping is not answered it is looked again after another interval: the answer may have come by then.
        let ping = limit(settings.ping_interval);
        let ping = ping.map(|interval| if pinged { interval } else { interval.saturating_sub(silent) });
        let idle = limit(settings.idle_timeout).map(|idle| idle.saturating_sub(silent));
        let pong = limit(settings.pong_timeout).filter(|_| pinged);
        let pong = pong.map(|pong| pong.saturating_sub(since(now, connection.pinged_tick)));
        let message = limit(settings.message_idle_timeout);
        let message = message.map(|most| most.saturating_sub(self.message_silence(connection)));
        let life = self.lifetime(slot).map(|life| life.saturating_sub(since(now, connection.accepted_tick)));
        [ping, idle, pong, message, life].into_iter().flatten().min()
    }

    /// Ticks since the peer has sent anything. Nothing is read while a connection has to wait; that silence is ours.
    fn silence(&self, connection: &Connection) -> u64 {
        if connection.is_paused() { 0 } else { since(self.tick() as u32, connection.read_tick) }
    }

    fn message_silence(&self, connection: &Connection) -> u64 {
        if connection.is_paused() { 0 } else { since(self.tick() as u32, connection.message_tick) }
    }

    /// How long a connection may last, in ticks; `None` is for ever.
    fn lifetime(&self, slot: u32) -> Option<u64> {
        let connection = &self.connections[slot as usize];
        let own = connection.limits().and_then(|limits| limits.lifetime);
        let life = limit(own.unwrap_or(self.settings.lifetime))?;
        let share = jitter([u32::from(self.shard), slot, connection.generation, connection.accepted_tick]);
        let percent = u64::from(self.settings.lifetime_jitter_percent.min(100));
        let shorter = u128::from(life) * u128::from(share * percent) / (100_u128 << 32);
        Some(life - shorter as u64)
    }

    /// Pings a silent peer, gives it up, or ends what has lasted long enough.
    pub(super) fn check_alive(&mut self, slot: u32) {
        self.forget_rates(slot);
        if let Some(cause) = self.limit_reached(slot) {
            return self.close(slot, cause, cause.code(), cause.text());
        }
        self.ping_if_silent(slot);
        if self.connections[slot as usize].state == State::Open {
            self.schedule_alive(slot);
        }
    }

    fn limit_reached(&mut self, slot: u32) -> Option<CloseCause> {
        let now = self.tick() as u32;
        let connection = &self.connections[slot as usize];
        if self.lifetime(slot).is_some_and(|life| since(now, connection.accepted_tick) >= life) {
            return Some(CloseCause::Lifetime);
        }
        let settings = &*self.settings;
        if limit(settings.idle_timeout).is_some_and(|idle| self.silence(connection) >= idle) {
            return Some(CloseCause::IdleTimeout);
        }
        if limit(settings.message_idle_timeout).is_some_and(|most| self.message_silence(connection) >= most) {
            return Some(CloseCause::MessageIdle);
        }
        let pong = limit(settings.pong_timeout).filter(|_| is_pinged(connection) && !connection.is_paused());
        if pong.is_some_and(|pong| since(now, connection.pinged_tick) >= pong) {
            if !connection.behind {
                return Some(CloseCause::PongTimeout);
            }
            // The ping still waits behind what the peer has not taken: its time has not begun.
            self.at(slot).pinged_tick = now;
        }
        None
    }

    fn ping_if_silent(&mut self, slot: u32) {
        let tick = self.tick() as u32;
        let connection = &self.connections[slot as usize];
        let Some(interval) = limit(self.settings.ping_interval) else { return };
        // A connection that is not read from is pinged again and again: the kernel notices if that is not acknowledged.
        let unanswered = is_pinged(connection) && !connection.is_paused();
        let pinged = since(tick, connection.pinged_tick) < interval;
        if since(tick, connection.read_tick) < interval || unanswered || pinged {
            return;
        }
        let mut bytes = Vec::with_capacity(2);
        frame::put_ping(&mut bytes, b"");
        if matches!(self.send_control(slot, bytes), SendOutcome::Written | SendOutcome::Queued) {
            self.metrics().pings_out.add(1);
        }
        // Not the tick of the last read, even if that was just now.
        let connection = self.at(slot);
        connection.pinged_tick = tick.max(connection.read_tick.wrapping_add(1));
    }

    /// Other settings: every connection is looked at once more, some of them a turn.
    pub(super) fn take_settings(&mut self, settings: Arc<Settings>) {
        self.deflater.level = settings.deflate_level;
        self.settings = settings;
        self.rearming = Some(0);
    }

    /// Sets the checks of some connections anew, after settings have changed.
    pub(super) fn rearm(&mut self) {
        let Some(from) = self.rearming else { return };
        let end = (from + REARMED_PER_TURN).min(self.generations.len());
        for slot in from..end {
            if self.connections.contains(slot) {
                self.rearm_one(slot as u32);
            }
        }
        self.rearming = (end < self.generations.len()).then_some(end);
    }

    /// A connection's limits have changed: what may be due earlier now is looked at earlier.
    pub(super) fn rearm_one(&mut self, slot: u32) {
        let now = self.tick() as u32;
        let connection = &self.connections[slot as usize];
        let left = |limit: Duration, then: u32| Some(ticks_of(limit).saturating_sub(since(now, then)));
        let ticks = match connection.state {
            State::Head => left(self.settings.handshake_timeout, connection.accepted_tick),
            State::Open => self.next_check(slot),
            State::Closing | State::Flushing => left(self.settings.close_timeout, connection.pinged_tick),
            State::Lingering | State::Ended => return,
        };
        self.schedule_earlier(slot, ticks);
        self.throttle_anew(slot);
    }
}

/// Whether a ping has gone out after which nothing has come. Anything counts as an answer.
fn is_pinged(connection: &Connection) -> bool {
    connection.pinged_tick.wrapping_sub(connection.read_tick).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::jitter;

    #[test]
    fn jitter_spreads_evenly_whatever_differs_and_is_the_same_again() {
        for vary in 0..4 {
            let mut tenths = [0; 10];
            for n in 0..10_000 {
                let mut parts = [1, 70_000, 3, 9_000_000];
                parts[vary] += n;
                let share = jitter(parts);
                assert!(share < 1 << 32);
                assert_eq!(share, jitter(parts));
                tenths[((share * 10) >> 32) as usize] += 1;
            }
            assert!(tenths.iter().all(|n| (800..1200).contains(n)), "{tenths:?}");
        }
    }
}
