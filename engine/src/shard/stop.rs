//! How a shard ends: no new connections, then those that are there are closed, spread over the time there is, and in the end
//! whoever is left.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shard;
use super::connection::{Connection, State};
use super::core::Core;
use super::ending::Phase;
use crate::close::CloseCause;
use crate::config::Settings;
use crate::handler::Handler;

/// How often a stopping shard looks what is to be done.
pub const STEP: Duration = Duration::from_millis(10);
/// How long publishers that have not noticed the end yet are given.
const LAST_PUBLICATIONS: Duration = STEP;
/// How long a stopping shard waits for connections that have not said anything.
const SILENT_HEADS: Duration = Duration::from_secs(1);
/// The close code of a service that is restarted (the registry of RFC 6455 section 11.7).
const SERVICE_RESTART: u16 = 1012;

/// A shard that stops.
pub struct Stopping {
    since: Instant,
    /// When it has seen that nothing is published any more.
    silent_since: Option<Instant>,
    /// The connections, as slot and generation, that were there at the beginning.
    leaving: Vec<(u32, u32)>,
    /// How many of them have been told.
    told: usize,
}

impl<H: Handler> Shard<H> {
    /// Stops, once it has been asked to, a little with every turn.
    pub(super) fn stop_if_asked(&mut self) {
        if !self.core.shared.is_stopping() {
            return;
        }
        let now = Instant::now();
        if self.stopping.is_none() {
            self.stop_accepting();
            let leaving = self.core.connections.iter();
            let leaving = leaving.map(|(slot, connection)| (slot as u32, connection.generation)).collect();
            self.stopping = Some(Stopping { since: now, silent_since: None, leaving, told: 0 });
        }
        let Some(stopping) = &mut self.stopping else { return };
        if stopping.silent_since.is_none() && self.core.shared.ending.has_reached(Phase::Silent) {
            stopping.silent_since = Some(now);
        }
        match stopping.silent_since {
            // What was published before goes out in front of the Close frames, also what a publisher that had just looked
            // at the phase is still about to put into the inbox.
            Some(since) if now.duration_since(since) < LAST_PUBLICATIONS => {}
            Some(_) => {
                self.core.take_inbox();
                self.core.tell_all();
            }
            None => {
                let due = stopping.due(now, self.core.settings.shutdown_spread);
                if due.is_empty() {
                    return;
                }
                self.core.take_inbox();
                for (slot, generation) in due {
                    if self.core.connection(slot, generation).is_some() {
                        self.core.tell(slot);
                    }
                }
            }
        }
    }

    /// Nobody comes in any more. Who waits to be accepted is answered by this shard, unless somebody else will: then closing
    /// our end of the listener loses nobody.
    fn stop_accepting(&mut self) {
        self.accept_all();
        for acceptor in &mut self.acceptors {
            // A socket that others hold, too, would go on waking us.
            let _ = self.poll.registry().deregister(acceptor.listener());
        }
        self.acceptors.clear();
        self.accepting.clear();
    }

    pub(super) fn has_stopped(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let silent = |connection: &Connection| {
            connection.state == State::Head && connection.rare.as_ref().is_none_or(|rare| rare.head.is_empty())
        };
        let patient = stopping.since.elapsed() <= SILENT_HEADS;
        let waits_for = |(_, connection): (usize, &Connection)| patient || !silent(connection);
        let timeout = self.core.settings.shutdown_timeout;
        self.core.shared.aborting.load(Ordering::Relaxed)
            || stopping.silent_since.is_some_and(|since| since.elapsed() > timeout)
            || !self.core.connections.iter().any(waits_for)
    }
}

impl Stopping {
    /// The connections whose turn to be closed has come: the spread divides them evenly.
    fn due(&mut self, now: Instant, spread: Duration) -> Vec<(u32, u32)> {
        let passed = now.duration_since(self.since).as_nanos();
        let all = self.leaving.len();
        let upto = match spread.as_nanos() {
            0 => all,
            spread => (all as u128 * passed / spread).min(all as u128) as usize,
        };
        let due = self.leaving[self.told.min(upto)..upto].to_vec();
        self.told = self.told.max(upto);
        due
    }
}

impl Core {
    /// Closes every open connection for the shutdown.
    fn tell_all(&mut self) {
        let open = |(slot, connection): (usize, &Connection)| (connection.state == State::Open).then_some(slot as u32);
        let slots: Vec<u32> = self.connections.iter().filter_map(open).collect();
        for slot in slots {
            self.tell(slot);
        }
    }

    /// Closes a connection for the shutdown, with advice when to come back if there is any.
    fn tell(&mut self, slot: u32) {
        let cause = CloseCause::Shutdown;
        match retry_after_ms(&self.settings) {
            Some(retry_after_ms) => {
                let reason = format!("{{\"retry_after_ms\":{retry_after_ms}}}");
                self.close(slot, cause, SERVICE_RESTART, &reason);
            }
            None => self.close(slot, cause, cause.code(), cause.text()),
        }
    }
}

/// When the next client shall come back: each at a time of its own, so that they do not come together.
fn retry_after_ms(settings: &Settings) -> Option<u64> {
    let within = settings.shutdown_retry.as_millis() as u64;
    // Its keys are different every time: a source of randomness that is good enough for this.
    (within > 0).then(|| RandomState::new().hash_one(0) % within)
}

/// The headers of the answer to an upgrade that comes too late.
pub fn retry_after(settings: &Settings) -> [(String, String); 1] {
    let after_s = retry_after_ms(settings).unwrap_or_default().div_ceil(1000).max(1);
    [("Retry-After".to_owned(), after_s.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_divides_the_connections_evenly_and_forgets_none() {
        let since = Instant::now();
        let leaving: Vec<_> = (0..1000).map(|slot| (slot, 0)).collect();
        let mut stopping = Stopping { since, silent_since: None, leaving: leaving.clone(), told: 0 };
        let spread = Duration::from_secs(10);
        let mut told = stopping.due(since, spread);
        assert_eq!(told, []);
        for ms in (0..=12_000).step_by(10) {
            let due = stopping.due(since + Duration::from_millis(ms), spread);
            assert!(due.len() <= 1, "{ms} ms: {due:?}");
            told.extend(due);
        }
        assert_eq!(told, leaving);
        stopping.told = 0;
        assert_eq!(stopping.due(since, Duration::ZERO), leaving);
    }
}
