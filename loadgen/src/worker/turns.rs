//! The loop of a worker.

use std::io;
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use mio::Events;

use crate::fleet::message::{Order, Report};
use crate::worker::seat::{Alarm, State};
use crate::worker::sys::monotonic_ns;
use crate::worker::{EVENTS, TIMER, WAKER, Worker};

/// How long the answers to goodbyes are waited for.
const GOODBYE_NS: u64 = 500_000_000;

impl Worker {
    /// Works until it is told to close, or nobody is there to tell it.
    pub fn run(mut self) {
        self.report(Report::Started);
        while !self.is_over {
            if let Err(error) = self.turn() {
                return self.report(Report::Failed(format!("a worker cannot wait for its connections: {error}")));
            }
        }
        self.report(Report::Closed);
    }

    /// One turn.
    fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        let polled_ns = monotonic_ns();
        self.books.tick(polled_ns);
        self.list_ready();
        self.publish_due();
        self.look_at_listed(polled_ns);
        let now_ns = monotonic_ns();
        self.books.tick(now_ns);
        self.ring_alarms(now_ns);
        self.take_orders(now_ns);
        self.connect_due(now_ns);
        self.drive_on(now_ns);
        self.close_on(now_ns);
        Ok(())
    }

    /// Waits until something is ready or due.
    fn wait(&mut self) -> io::Result<()> {
        let wake_ns = self.wake_ns();
        let timeout = if self.listed.is_empty() && wake_ns > monotonic_ns() {
            self.timer.wake_at(wake_ns)?;
            None
        } else {
            Some(Duration::ZERO)
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            polled => polled,
        }
    }

    /// When there is something to do even if nothing comes.
    fn wake_ns(&self) -> u64 {
        let mut wake_ns = self.alarms.next_ns().min(self.pace.due_ns()).min(self.books.next_tick_ns());
        if let Some(driving) = &self.driving {
            let due_ns = if driving.is_held { u64::MAX } else { self.publishing.due_ns() };
            wake_ns = wake_ns.min(due_ns).min(driving.wake_ns());
        }
        if let Some(phase) = &self.connecting {
            wake_ns = wake_ns.min(phase.next_report_ns());
        }
        self.closing_until_ns.map_or(wake_ns, |until_ns| wake_ns.min(until_ns))
    }

    /// Puts those the poll tells of on the list.
    fn list_ready(&mut self) {
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let mut count = 0;
        for event in &events {
            count += 1;
            if matches!(event.token(), WAKER | TIMER) {
                continue;
            }
            let (slot, generation) = (event.token().0 as u32, (event.token().0 >> 32) as u32);
            let Some(seat) = self.seats.get_mut(slot as usize) else {
                let index = slot as usize - self.seats.len();
                if self.https.get(index).is_some_and(|publisher| publisher.generation == generation) {
                    self.listed.push(slot);
                }
                continue;
            };
            if seat.generation != generation {
                continue;
            }
            if event.is_read_closed()
                && let Some(client) = &mut seat.client
            {
                client.hang_up();
                // Nobody reads what a stalled reader was sent, so its end is all there is to see.
                if seat.is_stalled() {
                    let cause = if event.is_error() { "reset" } else { "end of stream" };
                    self.ended(slot, cause.into());
                    continue;
                }
            }
            if !std::mem::replace(&mut seat.is_listed, true) {
                self.listed.push(slot);
            }
        }
        self.events = events;
        self.ready_since_ns = (count == EVENTS).then(|| self.ready_since_ns.unwrap_or(self.books.now_ns));
    }

    /// Looks at everybody on the list, publishing what comes due in between.
    fn look_at_listed(&mut self, polled_ns: u64) {
        let listed = std::mem::take(&mut self.listed);
        if listed.is_empty() {
            return;
        }
        for slot in &listed {
            self.look(*slot);
            self.give_credit();
            if self.publishing.due_ns() <= self.books.now_ns {
                self.publish_due();
            }
        }
        let since_ns = self.ready_since_ns.unwrap_or(polled_ns).min(polled_ns);
        let lag_ns = self.books.now_ns.saturating_sub(since_ns);
        if let Some(driving) = &mut self.driving {
            driving.record_lag(self.books.account.window.holds(polled_ns), lag_ns);
        }
        // Those who have more are on the new list; the old one's memory serves again.
        let mut listed = listed;
        listed.clear();
        listed.append(&mut self.listed);
        self.listed = listed;
    }

    fn ring_alarms(&mut self, now_ns: u64) {
        while let Some((slot, generation, alarm)) = self.alarms.take(now_ns) {
            let Some(seat) = self.seats.get_mut(slot as usize) else {
                match alarm {
                    Alarm::Timeout => self.watch_http(slot as usize - self.seats.len(), now_ns),
                    _ => self.reconnect_http(slot),
                }
                continue;
            };
            if seat.generation != generation {
                continue;
            }
            match (alarm, seat.state) {
                (Alarm::Timeout, State::Opening) => self.ended(slot, "timed out".into()),
                (Alarm::Timeout, State::Leaving) => self.ended(slot, "closed".into()),
                (Alarm::Read, State::Open) => self.list(slot),
                (Alarm::Leave, State::Open) => self.say_goodbye(slot, now_ns),
                (Alarm::Again, State::Away) => self.again(slot),
                (Alarm::Heartbeat, State::Open) => self.heartbeat(slot, now_ns),
                _ => {}
            }
        }
    }

    /// Puts one on the list of those to be looked at.
    pub(super) fn list(&mut self, slot: u32) {
        if let Some(seat) = self.seats.get_mut(slot as usize)
            && !std::mem::replace(&mut seat.is_listed, true)
        {
            self.listed.push(slot);
        }
    }

    fn take_orders(&mut self, now_ns: u64) {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Connect { at_ns }) => self.begin_connecting(at_ns),
                Ok(Order::StopConnecting) => self.stop_connecting(now_ns),
                Ok(Order::Drive(order)) => self.begin_drive(order),
                Ok(Order::Begin) => {
                    if let Some(driving) = &mut self.driving {
                        driving.is_held = false;
                    }
                    self.publish_due();
                }
                Ok(Order::Credit { passed }) => {
                    self.publishing.credit(passed, now_ns);
                    self.publish_due();
                }
                Ok(Order::Unattended { streams }) => {
                    let base = |stream: u32| self.published.get(stream as usize).copied().unwrap_or(0);
                    streams.into_iter().for_each(|stream| self.publishing.leave(stream, base(stream)));
                }
                Ok(Order::Drain { published, until_ns }) => self.begin_drain(published, until_ns),
                Ok(Order::Stop { at_ns }) => self.stop_drive(at_ns),
                Ok(Order::Close) => self.begin_closing(now_ns),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.is_over = true;
                    return;
                }
            }
        }
    }

    fn begin_closing(&mut self, now_ns: u64) {
        self.pace.clear();
        self.driving = None;
        self.closing_until_ns = Some(now_ns + GOODBYE_NS);
        for slot in 0..self.seats.len() as u32 {
            if self.seats[slot as usize].state == State::Open {
                self.say_goodbye(slot, now_ns);
                self.list(slot);
            }
        }
    }

    fn close_on(&mut self, now_ns: u64) {
        if let Some(until_ns) = self.closing_until_ns {
            let is_leaving = |state: State| matches!(state, State::Leaving);
            self.is_over |= now_ns >= until_ns || !self.seats.iter().any(|seat| is_leaving(seat.state));
        }
    }
}
