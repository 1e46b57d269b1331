//! Publications sent, by whoever is to send them.

use crate::worker::publishing::{Due, Room, Sent};
use crate::worker::sys::monotonic_ns;
use crate::worker::{Worker, seat::State};

/// A publisher with more unsent bytes than this gets no new publications.
pub(super) const UNSENT_MAX: usize = 1 << 20;

/// Publications between two looks at the clock.
const CLOCK_EVERY: usize = 16;

/// Publications in a row before others get their turn.
const ROW_MAX: usize = 1024;

impl Worker {
    /// Sends what is due. Called often: mostly there is nothing.
    #[inline]
    pub(super) fn publish_due(&mut self) {
        let may = self.driving.as_ref().is_some_and(|driving| !driving.is_held);
        if may && self.publishing.due_ns() <= self.books.now_ns {
            self.publish_row();
        }
    }

    fn publish_row(&mut self) {
        let mut now_ns = monotonic_ns();
        for n in 1..=ROW_MAX {
            let Some(due) = self.publishing.next_due(now_ns) else {
                break;
            };
            let publisher = self.publishing.publisher_of(due.stream);
            match self.room(publisher) {
                Room::Free if !self.publishing.is_waiting_for(publisher) => self.send(publisher, due, now_ns),
                room => self.publishing.hold(due, room),
            }
            if n % CLOCK_EVERY == 0 {
                now_ns = monotonic_ns();
            }
        }
        self.flush();
    }

    /// A publisher has room again: what waited for it is sent.
    pub(super) fn send_held(&mut self, publisher: usize) {
        while self.room(publisher) == Room::Free {
            let Some(due) = self.publishing.release(publisher) else {
                break;
            };
            self.send(publisher, due, monotonic_ns());
        }
        self.flush();
    }

    fn send(&mut self, publisher: usize, due: Due, now_ns: u64) {
        if self.publications.get(due.stream as usize).is_some_and(Option::is_none) {
            self.make_publication(publisher, due.stream);
        }
        let Some(Some(publication)) = self.publications.get(due.stream as usize) else {
            return;
        };
        let (sent, payload) = self.publishing.send(due, now_ns);
        if let Some(http) = self.https.get_mut(publisher) {
            http.ask(now_ns, |out| publication.put(payload, out));
            if !http.is_watched {
                self.watch_http(publisher, now_ns);
            }
        } else if let Some(client) = self.seats[publisher].client.as_mut() {
            self.message.clear();
            publication.put(payload, &mut self.message);
            client.push(&self.message, self.plan.scenario.payload.binary);
            if self.unflushed.last() != Some(&(publisher as u32)) {
                self.unflushed.push(publisher as u32);
            }
        }
        self.account_for(sent);
    }

    #[cold]
    fn make_publication(&mut self, publisher: usize, stream: u32) {
        let topic = self.topic_name(self.plan.roster.topic_of(stream));
        let (target, client) = (&self.plan.target, publisher as u64);
        let by_http = !self.https.is_empty();
        let made = if by_http { target.http_publication(client, &topic) } else { target.publication(client, &topic) };
        self.publications[stream as usize] = Some(made);
    }

    fn account_for(&mut self, sent: Sent) {
        let late_after_ns = self.plan.scenario.client.late_after.0.as_nanos() as u64;
        let (measurement, window) = (&mut self.books.measurement, self.books.account.window);
        measurement.tally.published += 1;
        measurement.tally.late += u64::from(sent.delay_ns > late_after_ns);
        self.books.interval.published += 1;
        if window.holds(sent.intended_ns) {
            measurement.published += 1;
            measurement.schedule_error.record(sent.delay_ns);
        }
    }

    fn flush(&mut self) {
        while let Some(publisher) = self.unflushed.pop() {
            let Some(client) = self.seats[publisher as usize].client.as_mut() else {
                continue;
            };
            let is_over = client.flush().is_err();
            // No edge need come: the next look tells why it is over, or that there is room for what waits.
            let is_waited_for = self.publishing.is_waiting_for(publisher as usize);
            if is_over || is_waited_for && self.room(publisher as usize) == Room::Free {
                self.list(publisher);
            }
        }
    }

    /// In a closed loop whose subscribers are all here: what has passed them makes room for more.
    #[inline]
    pub(super) fn give_credit(&mut self) {
        if self.books.account.is_alone() {
            self.publishing.credit(self.books.account.completed.passed, self.books.now_ns);
            while let Some(stream) = self.books.take_heard() {
                self.publishing.hear(stream);
            }
        }
    }

    /// A subscriber of `topic` has come.
    pub(super) fn attend(&mut self, topic: u32) {
        let people = &mut self.attending[topic as usize];
        *people += 1;
        if *people == 1 && self.books.account.is_alone() {
            self.plan.roster.streams_of(topic).for_each(|stream| self.publishing.join(stream));
        }
    }

    /// A subscriber of `topic` has left.
    pub(super) fn leave(&mut self, topic: u32) {
        let people = &mut self.attending[topic as usize];
        *people = people.saturating_sub(1);
        if *people == 0 && self.books.account.is_alone() {
            self.leave_streams(topic);
        }
    }

    /// A drive begins: topics that nobody here is subscribed to. Where there are other workers, the conductor tells.
    pub(super) fn leave_unattended(&mut self) {
        if self.books.account.is_alone() {
            let topics = (0..).zip(&self.attending).filter(|(_, people)| **people == 0);
            let topics: Vec<u32> = topics.map(|(topic, _)| topic).collect();
            topics.into_iter().for_each(|topic| self.leave_streams(topic));
        }
    }

    fn leave_streams(&mut self, topic: u32) {
        // What has passed by now is credit, whoever it is that leaves.
        self.give_credit();
        for stream in self.plan.roster.streams_of(topic) {
            self.publishing.leave(stream, self.books.unheard(stream));
        }
    }

    /// Says what is to be said from time to time.
    pub(super) fn heartbeat(&mut self, slot: u32, now_ns: u64) {
        let Some(every) = self.plan.target.heartbeat() else {
            return;
        };
        let seat = &mut self.seats[slot as usize];
        if let Some(client) = seat.client.as_mut().filter(|_| seat.state == State::Open) {
            client.heartbeat();
            let is_over = client.flush().is_err();
            let at_ns = now_ns.saturating_add(every.as_nanos() as u64);
            self.alarms.set(at_ns, slot, seat.generation, super::seat::Alarm::Heartbeat);
            if is_over {
                self.list(slot);
            }
        }
    }
}
