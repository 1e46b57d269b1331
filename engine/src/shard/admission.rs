//! Who may come in, and when: `accepts_per_s` and `handshakes_max` hold over all shards, and those beyond them wait in one
//! line, over all shards the first to come first.
//!
//! [`Gate`] is the line and what all shards share of it; the sockets that wait stay with the shard that has accepted them
//! ([`Admission`]), in the same order, unknown to its poll: waiting costs a socket and some bytes. A shard asks the gate
//! before it sleeps, and whoever makes room wakes the shards whose turn it is, so that nobody waits for longer than he must.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use parking_lot::Mutex;
use smallvec::SmallVec;

use super::core::Core;
use crate::close::RefusalCause;
use crate::config::Settings;
use crate::net::tls::Security;
use crate::net::tls::session::TURNED_AWAY;

/// What may come at once under `accepts_per_s`: as many as in this time.
const BURST_NANOS: u64 = 1_000_000_000;
/// How long somebody who was turned away is given to read why before the socket is closed.
const PARTING: Duration = Duration::from_secs(1);
/// Sockets of those who were turned away that a shard keeps open for that; one more closes the oldest.
const PARTING_MAX: usize = 256;

/// Shards to be woken.
pub type Wake = SmallVec<[u16; 4]>;

/// The line of those who wait to be let in, over all shards, and how many are inside: those whose first request is not
/// complete. The lock is held for some additions only.
#[derive(Debug)]
pub struct Gate(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    inside: usize,
    /// The shards of those who wait, in the order in which they came.
    waiting: VecDeque<u16>,
    /// By shard: how many of those at the front of its own queue may come in.
    granted: Vec<usize>,
    /// When the next may come if all before have come at the rate, in nanoseconds of the engine's clock and [`BURST_NANOS`]
    /// more.
    next: u64,
    /// How many have had to wait.
    delayed: u64,
}

/// The answer at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Come in.
    Inside,
    /// Wait.
    Waits,
    /// There are `accept_queue_max` who wait.
    Full,
    /// It would take so long, which is more than `accept_queue_timeout`.
    TooLong(Duration),
}

/// What the gate counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct GateCounts {
    /// Connections whose first request is not complete.
    pub inside: usize,
    /// Those who wait.
    pub waiting: usize,
    /// All who have had to wait.
    pub delayed: u64,
}

impl Gate {
    /// An open gate for so many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self(Mutex::new(Line { granted: vec![0; shards], ..Line::default() }))
    }

    /// Somebody has come to a shard.
    pub fn enter(&self, shard: u16, nanos: u64, settings: &Settings) -> Entry {
        let mut line = self.0.lock();
        let interval = interval(settings);
        if line.waiting.is_empty() && line.inside < settings.handshakes_max && line.wait(nanos, interval).is_zero() {
            line.book(nanos, interval);
            line.inside += 1;
            return Entry::Inside;
        }
        if line.waiting.len() >= settings.accept_queue_max {
            return Entry::Full;
        }
        let ahead = interval.unwrap_or(0).saturating_mul(line.waiting.len() as u64);
        let wait = line.wait(nanos, interval).saturating_add(Duration::from_nanos(ahead));
        if wait > settings.accept_queue_timeout {
            return Entry::TooLong(wait);
        }
        line.waiting.push_back(shard);
        line.delayed += 1;
        Entry::Waits
    }

    /// Somebody inside has shown what he wants, or is gone.
    pub fn leave(&self, shard: u16, nanos: u64, settings: &Settings) -> Wake {
        let mut line = self.0.lock();
        line.inside = line.inside.saturating_sub(1);
        line.advance(shard, nanos, settings)
    }

    /// How many of those who wait at this shard may come in now; they are inside from now on.
    pub fn take_granted(&self, shard: u16, nanos: u64, settings: &Settings) -> (usize, Wake) {
        let mut line = self.0.lock();
        let wake = line.advance(shard, nanos, settings);
        (std::mem::take(&mut line.granted[usize::from(shard)]), wake)
    }

    /// The one who has waited longest at this shard gives up. False if he was just let in.
    pub fn give_up(&self, shard: u16) -> bool {
        let mut line = self.0.lock();
        if line.granted[usize::from(shard)] > 0 {
            return false;
        }
        let place = line.waiting.iter().position(|own| *own == shard);
        place.is_some_and(|place| line.waiting.remove(place).is_some())
    }

    /// How long it takes, as far as the rate is concerned, until the next may come in; `None` if somebody inside has to make
    /// room first.
    pub fn patience(&self, nanos: u64, settings: &Settings) -> Option<Duration> {
        let line = self.0.lock();
        let stands = !line.waiting.is_empty() && line.inside < settings.handshakes_max;
        stands.then(|| line.wait(nanos, interval(settings)))
    }

    /// How many there are.
    pub fn counts(&self) -> GateCounts {
        let line = self.0.lock();
        GateCounts { inside: line.inside, waiting: line.waiting.len(), delayed: line.delayed }
    }
}

impl Line {
    /// How long it takes until the rate lets the next one in.
    fn wait(&self, nanos: u64, interval: Option<u64>) -> Duration {
        let Some(interval) = interval else { return Duration::ZERO };
        Duration::from_nanos(self.due(nanos, interval).saturating_sub(nanos + BURST_NANOS))
    }

    /// When the next one is due: what was not used is saved for so long that the one who comes now is the last of a burst.
    fn due(&self, nanos: u64, interval: u64) -> u64 {
        self.next.max(nanos + interval)
    }

    /// Somebody is let in.
    fn book(&mut self, nanos: u64, interval: Option<u64>) {
        if let Some(interval) = interval {
            self.next = self.due(nanos, interval) + interval;
        }
    }

    /// Lets in those whose turn it is; tells which other shards they are at.
    fn advance(&mut self, own: u16, nanos: u64, settings: &Settings) -> Wake {
        let (mut wake, interval) = (Wake::new(), interval(settings));
        while self.inside < settings.handshakes_max
            && self.wait(nanos, interval).is_zero()
            && let Some(shard) = self.waiting.pop_front()
        {
            self.book(nanos, interval);
            self.inside += 1;
            self.granted[usize::from(shard)] += 1;
            if shard != own && !wake.contains(&shard) {
                wake.push(shard);
            }
        }
        wake
    }
}

/// The time between two, at the rate; at most [`BURST_NANOS`].
fn interval(settings: &Settings) -> Option<u64> {
    (settings.accepts_per_s > 0).then(|| BURST_NANOS / u64::from(settings.accepts_per_s))
}

/// What a shard keeps of those who are not connections of it: not yet, or not any more.
#[derive(Debug, Default)]
pub struct Admission {
    waiting: VecDeque<Waiting>,
    /// How many at the front have been let in.
    granted: usize,
    parting: VecDeque<Parting>,
}

/// Somebody who has been accepted and waits. The address of the client is counted if it is known.
#[derive(Debug)]
pub struct Waiting {
    pub stream: TcpStream,
    pub peer: SocketAddr,
    pub counted: bool,
    pub security: Security,
    /// When he came, in nanoseconds.
    since: u64,
}

/// Somebody who has been answered and may still be reading it.
#[derive(Debug)]
struct Parting {
    /// Kept open, no more: closing it could take the answer back.
    _stream: TcpStream,
    until: u64,
}

impl Core {
    /// Somebody has come just now.
    pub(super) fn waiting(&self, stream: TcpStream, peer: SocketAddr, counted: bool, security: Security) -> Waiting {
        Waiting { stream, peer, counted, security, since: self.now.nanos }
    }

    /// Somebody has to wait: he is in the line already.
    pub(super) fn line_up(&mut self, waiting: Waiting) {
        self.admission.waiting.push_back(waiting);
    }

    /// The next one who may come in.
    pub(super) fn next_granted(&mut self) -> Option<Waiting> {
        if !self.has_granted() {
            return None;
        }
        self.admission.granted -= 1;
        self.admission.waiting.pop_front()
    }

    /// Whether somebody who waits here may come in.
    pub(super) fn has_granted(&mut self) -> bool {
        if self.admission.waiting.is_empty() {
            return false;
        }
        if self.admission.granted == 0 {
            let nanos = self.shared.clock.nanos();
            let (granted, wake) = self.shared.gate.take_granted(self.shard, nanos, &self.settings);
            self.admission.granted = granted;
            self.wake(&wake);
        }
        self.admission.granted > 0
    }

    /// The next one who has waited for too long. Those who may come in come first.
    pub(super) fn next_given_up(&mut self) -> Option<Waiting> {
        let since = self.admission.waiting.front()?.since;
        let waited = Duration::from_nanos(self.now.nanos.saturating_sub(since));
        let gives_up = waited >= self.settings.accept_queue_timeout
            && self.admission.granted == 0
            && self.shared.gate.give_up(self.shard);
        gives_up.then(|| self.admission.waiting.pop_front())?
    }

    /// Everybody who waits, as the engine ends and nobody may be lost; with whether he is counted as inside.
    pub(super) fn next_at_the_end(&mut self) -> Option<(Waiting, bool)> {
        let waiting = self.admission.waiting.pop_front()?;
        let inside = self.admission.granted > 0;
        if inside {
            self.admission.granted -= 1;
            return Some((waiting, true));
        }
        // Let in by another shard a moment ago: then it counts.
        let inside = !self.shared.gate.give_up(self.shard);
        if inside {
            let nanos = self.shared.clock.nanos();
            let (granted, wake) = self.shared.gate.take_granted(self.shard, nanos, &self.settings);
            self.admission.granted = granted.saturating_sub(1);
            self.wake(&wake);
        }
        Some((waiting, inside))
    }

    /// The head of a connection is complete, or will never be: there is room for another.
    pub(super) fn leave_gate(&mut self, slot: u32) {
        if std::mem::take(&mut self.at(slot).inside) {
            self.leave_gate_unseated();
        }
    }

    /// Somebody who was let in has not become a connection.
    pub(super) fn leave_gate_unseated(&self) {
        let wake = self.shared.gate.leave(self.shard, self.now.nanos, &self.settings);
        self.wake(&wake);
    }

    fn wake(&self, shards: &[u16]) {
        for shard in shards {
            self.shared.inboxes.0[usize::from(*shard)].wake();
        }
    }

    /// Answers somebody there is no place for: a handshake for no more than that would cost what there is none of, so who speaks
    /// TLS gets an alert. What the socket does not take is lost; it is kept open for a moment, as closing it on a request
    /// that is still coming would be a reset that takes the answer with it.
    pub(super) fn turn_away(
        &mut self,
        mut stream: TcpStream,
        security: Security,
        cause: RefusalCause,
        mut answer: &[u8],
    ) {
        use std::io::{Read, Write};
        let nowhere = ([0, 0, 0, 0], 0).into();
        let alerted = security == Security::Tls;
        self.tell_answered(stream.peer_addr().unwrap_or(nowhere), cause, answer, alerted);
        if alerted {
            answer = &TURNED_AWAY;
        }
        let mut request = [0; 2048];
        let _ = stream.read(&mut request);
        let _ = stream.write(answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // There is no descriptor to spare for those who came too late for one.
        if cause != RefusalCause::FileDescriptors {
            if self.admission.parting.len() >= PARTING_MAX {
                self.admission.parting.pop_front();
            }
            let until = self.now.nanos + PARTING.as_nanos() as u64;
            self.admission.parting.push_back(Parting { _stream: stream, until });
        }
    }

    /// Closes the sockets of those who have had their moment.
    pub(super) fn part(&mut self) {
        let now = self.now.nanos;
        while self.admission.parting.front().is_some_and(|parting| parting.until <= now) {
            self.admission.parting.pop_front();
        }
    }

    /// Closes them all: their descriptors are needed.
    pub(super) fn part_with_all(&mut self) {
        self.admission.parting.clear();
    }

    /// How long there is nothing to do about those who wait or part.
    pub(super) fn admission_patience(&self) -> Option<Duration> {
        let nanos = self.shared.clock.nanos();
        let until = |moment: u64| Duration::from_nanos(moment.saturating_sub(nanos));
        let parting = self.admission.parting.front().map(|parting| until(parting.until));
        let waiting = self.admission.waiting.front().map(|front| {
            let timeout = u64::try_from(self.settings.accept_queue_timeout.as_nanos()).unwrap_or(u64::MAX);
            let patience = until(front.since.saturating_add(timeout));
            let due = self.shared.gate.patience(nanos, &self.settings);
            due.map_or(patience, |due| due.min(patience))
        });
        [parting, waiting].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
