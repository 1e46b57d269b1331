//! Publisher and subscribers under a load.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::Result;
use crate::clock::Clock;
use crate::cpu::CpuTime;
use crate::driver::Stamp;
use crate::driver::publisher::Publisher;
use crate::driver::subscribers::{Received, SubscriberSet};
use crate::sys::Timer;

const PUBLISHER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);

/// A server that delivers nothing for this long, while something is outstanding, delivers nothing any more.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// An open loop that is this far ahead of the server is not measuring any more.
const MAX_UNWRITTEN_BYTES: usize = 64 << 20;

/// How publications are offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// Closed loop: so many publications that not all subscribers have received; a new one for each completed one.
    InFlight(u64),
    /// Open loop: so many per second, at intended times that do not wait for the server.
    Rate(f64),
}

/// What a load gave, between two moments at which nothing was outstanding.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Publications offered.
    pub publications: u64,
    /// From the first publication to the last delivery.
    pub elapsed: Duration,
    /// CPU time of the driver's thread in that time.
    pub client_cpu: CpuTime,
    /// What the subscribers saw.
    pub received: Received,
    /// Whether the server stopped delivering, or taking, before everything was delivered.
    pub stalled: bool,
}

/// One publisher and its subscribers.
#[derive(Debug)]
pub struct Driver {
    poll: Poll,
    events: Events,
    timer: Timer,
    clock: Clock,
    subscribers: SubscriberSet,
    publisher: Publisher,
}

impl Driver {
    /// Connects all subscribers, then the publisher, to `topic` of the server at `address`.
    pub fn connect(address: SocketAddr, topic: &str, subscribers: usize, payload_len: usize) -> Result<Self> {
        let (poll, clock) = (Poll::new()?, Clock::start());
        let registry = poll.registry();
        let timer = Timer::new(registry, TIMER)?;
        let subscribe = format!("/topics/{topic}?mode=subscribe");
        let publish = format!("/topics/{topic}?mode=publish");
        let subscribers = SubscriberSet::connect(address, &subscribe, subscribers, registry, clock)?;
        let publisher = Publisher::connect(address, &publish, payload_len, registry, PUBLISHER)?;
        Ok(Self { poll, events: Events::with_capacity(1024), timer, clock, subscribers, publisher })
    }

    /// Offers `load` for `duration`, then waits until everything is delivered.
    pub fn run(&mut self, load: Load, duration: Duration) -> Result<Phase> {
        self.subscribers.reset();
        let first = self.subscribers.progress.published();
        let (start_ns, cpu_start) = (self.clock.now_ns(), CpuTime::of_this_thread()?);
        let mut schedule = Schedule::new(load, start_ns, duration);
        let stalled = self.offer_and_receive(&mut schedule)?;
        let elapsed = Duration::from_nanos(self.clock.now_ns() - start_ns);
        let client_cpu = CpuTime::of_this_thread()? - cpu_start;
        if stalled {
            self.subscribers.give_up();
        }
        let publications = self.subscribers.progress.published() - first;
        Ok(Phase { publications, elapsed, client_cpu, received: self.subscribers.received.clone(), stalled })
    }

    /// The loop of a phase; returns whether it ended by a stall.
    fn offer_and_receive(&mut self, schedule: &mut Schedule) -> Result<bool> {
        let (mut deliveries, mut delivered_ns) = (0, self.clock.now_ns());
        loop {
            let now_ns = self.clock.now_ns();
            self.offer(schedule, now_ns)?;
            if self.publisher.unwritten_bytes() > MAX_UNWRITTEN_BYTES {
                return Ok(true);
            }
            let outstanding = self.subscribers.progress.outstanding();
            if outstanding == 0 && schedule.is_over(now_ns) {
                return Ok(false);
            }
            if outstanding == 0 || self.subscribers.received.deliveries != deliveries {
                (deliveries, delivered_ns) = (self.subscribers.received.deliveries, now_ns);
            } else if now_ns - delivered_ns > STALL_TIMEOUT.as_nanos() as u64 {
                return Ok(true);
            }
            self.receive()?;
        }
    }

    /// Publishes what is due, in one write.
    fn offer(&mut self, schedule: &mut Schedule, now_ns: u64) -> Result<()> {
        let progress = &mut self.subscribers.progress;
        let before = progress.published();
        while let Some(intended_ns) = schedule.due(now_ns, progress.outstanding()) {
            let sequence = progress.publish(intended_ns);
            self.publisher.push(Stamp { sequence, intended_ns });
        }
        if progress.published() == before {
            return Ok(());
        }
        if matches!(schedule.load, Load::Rate(_)) {
            let wake_ns = schedule.next_ns().unwrap_or(schedule.end_ns);
            self.timer.arm(Duration::from_nanos(wake_ns.saturating_sub(now_ns)))?;
        }
        Ok(self.publisher.flush()?)
    }

    /// Waits for something to happen and handles it.
    fn receive(&mut self) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            if self.subscribers.on_readable(event.token()) || event.token() == TIMER {
                continue;
            }
            if event.is_readable() {
                self.publisher.discard_input()?;
            }
            if event.is_writable() {
                self.publisher.flush()?;
            }
        }
        Ok(())
    }
}

/// When publications are due.
struct Schedule {
    load: Load,
    start_ns: u64,
    end_ns: u64,
    /// Publications of this phase so far.
    offered: u64,
}

impl Schedule {
    fn new(load: Load, start_ns: u64, duration: Duration) -> Self {
        Self { load, start_ns, end_ns: start_ns + duration.as_nanos() as u64, offered: 0 }
    }

    /// The intended time of the next publication, if it is due.
    #[inline]
    fn due(&mut self, now_ns: u64, outstanding: u64) -> Option<u64> {
        let intended_ns = match self.load {
            Load::InFlight(window) => (outstanding < window && now_ns < self.end_ns).then_some(now_ns),
            Load::Rate(_) => self.next_ns().filter(|&next_ns| next_ns <= now_ns),
        };
        self.offered += u64::from(intended_ns.is_some());
        intended_ns
    }

    /// The intended time of the next publication of an open loop, which may lie in the past.
    fn next_ns(&self) -> Option<u64> {
        let Load::Rate(rate) = self.load else {
            return None;
        };
        let next_ns = self.start_ns + (self.offered as f64 * 1e9 / rate) as u64;
        (next_ns < self.end_ns).then_some(next_ns)
    }

    fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.end_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_open_loop_offers_its_rate_at_its_times_however_late_it_is_asked() {
        let mut schedule = Schedule::new(Load::Rate(100.0), 7, SECOND);
        let mut offer = |now_ns| std::iter::from_fn(|| schedule.due(now_ns, u64::MAX)).collect::<Vec<_>>();
        assert_eq!(offer(7), [7]);
        assert!(offer(10_000_006).is_empty());
        assert_eq!(offer(30_000_007), [10_000_007, 20_000_007, 30_000_007]);
        assert_eq!(offer(u64::MAX).len(), 96);
        assert_eq!(schedule.next_ns(), None);
    }

    #[test]
    fn a_closed_loop_offers_while_its_window_has_room() {
        let mut schedule = Schedule::new(Load::InFlight(3), 0, SECOND);
        assert_eq!(schedule.due(5, 2), Some(5));
        assert_eq!(schedule.due(5, 3), None);
        assert_eq!(schedule.due(1_000_000_000, 0), None);
        assert!(schedule.is_over(1_000_000_000));
    }
}
