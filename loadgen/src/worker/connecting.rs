//! Connections made, and what becomes of them: the connection phase, churners, storms.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use crate::client::{Client, Wire, cause};
use crate::fleet::message::Report;
use crate::load::{Place, Role};
use crate::measure::{Connecting, StormOutcome, count_cause};
use crate::target::Part;
use crate::worker::looking::SMALL_RECEIVE_BUFFER;
use crate::worker::seat::{Alarm, Attempt, State};
use crate::worker::sys::monotonic_ns;
use crate::worker::{ConnectPhase, Storm, Worker};

/// From one report of the connection phase to the next.
const REPORT_NS: u64 = 100_000_000;

/// How long one who could not come back waits before trying again.
const AGAIN_NS: u64 = 50_000_000;

/// How long a churner waits for the answer to its goodbye.
const GOODBYE_NS: u64 = 1_000_000_000;

impl ConnectPhase {
    pub(super) fn next_report_ns(&self) -> u64 {
        self.reported_ns + REPORT_NS
    }
}

impl Worker {
    pub(super) fn begin_connecting(&mut self, at_ns: u64) {
        let wanted = (self.seats.len() + self.https.len()) as u64;
        let figures = Connecting { wanted, ..Connecting::default() };
        let https_left = self.https.len() as u64;
        self.connecting = Some(ConnectPhase { figures, begin_ns: at_ns, https_left, reported_ns: at_ns });
        self.pace.begin(0..self.seats.len() as u32, at_ns);
        for index in 0..self.https.len() {
            self.connect_http(index);
        }
    }

    /// Makes what connections are due, and ends the phase when all are made.
    pub(super) fn connect_due(&mut self, now_ns: u64) {
        while let Some(slot) = self.pace.next(now_ns) {
            self.connect(slot);
        }
        let Some(phase) = &mut self.connecting else {
            return;
        };
        if self.pace.is_idle() && phase.https_left == 0 {
            let figures = std::mem::take(&mut phase.figures);
            self.connecting = None;
            self.report(Report::Connected(Box::new(figures)));
        } else if now_ns >= phase.next_report_ns() {
            phase.reported_ns = now_ns;
            let (connected, failures) = (phase.figures.connected, phase.figures.failures.clone());
            self.report(Report::Connecting { connected, failures });
        }
    }

    /// Ends the phase with what there is.
    pub(super) fn stop_connecting(&mut self, now_ns: u64) {
        self.pace.clear();
        for slot in 0..self.seats.len() {
            if self.seats[slot].state == State::Opening {
                self.seats[slot].clear();
                self.pace.settled();
            }
        }
        if let Some(phase) = &mut self.connecting {
            phase.https_left = 0;
        }
        self.connect_due(now_ns);
    }

    /// Begins one connection.
    fn connect(&mut self, slot: u32) {
        let place = self.seats[slot as usize].place;
        let (part, topic) = match place.role {
            Role::Publisher => (Part::Publisher, (place.id % u64::from(self.plan.roster.topics())) as u32),
            Role::Idle => (Part::Idle, place.topic),
            _ => (Part::Subscriber, place.topic),
        };
        let dial = self.plan.target.dial(part, place.id, &self.topic_name(topic));
        let receive_buffer = matches!(place.role, Role::Slow | Role::Stalled).then_some(SMALL_RECEIVE_BUFFER);
        let mask_seed = self.plan.scenario.seed ^ place.id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let registry = self.poll.registry();
        let (generation, now_ns) = (self.seats[slot as usize].generation, monotonic_ns());
        let made = loop {
            let bind = self.sources.choose();
            let token = Self::token(slot, generation);
            match Client::connect(&dial, bind, receive_buffer, mask_seed, registry, token) {
                Err(error) if self.sources.failed(&error) => {}
                made => break made,
            }
        };
        let seat = &mut self.seats[slot as usize];
        seat.state = State::Opening;
        seat.begun_ns = now_ns;
        match made {
            Ok(client) => {
                seat.client = Some(client);
                let timeout_ns = self.plan.scenario.connect.timeout.0.as_nanos() as u64;
                self.alarms.set(now_ns.saturating_add(timeout_ns), slot, generation, Alarm::Timeout);
            }
            Err(error) => self.ended(slot, cause(&error)),
        }
    }

    /// Its upgrade was answered.
    pub(super) fn upgraded(&mut self, attempt: Attempt, handshake_ns: u64, resumed: bool) {
        let (handshake, of_resumed) = match (attempt, &mut self.connecting, &mut self.storm) {
            (Attempt::First, Some(phase), _) => (&mut phase.figures.handshake, &mut phase.figures.resumed),
            (Attempt::Storm, _, Some(storm)) => (&mut storm.outcome.handshake, &mut storm.outcome.resumed),
            _ => return,
        };
        handshake.record(handshake_ns);
        *of_resumed += u64::from(resumed);
    }

    /// It can be used.
    pub(super) fn opened(&mut self, slot: u32, now_ns: u64) {
        self.open += 1;
        let seat = &mut self.seats[slot as usize];
        seat.state = State::Open;
        let (attempt, generation, Place { role, topic, .. }) = (seat.attempt, seat.generation, seat.place);
        if role == Role::Subscriber {
            self.attend(topic);
        }
        match attempt {
            Attempt::Churn => {}
            Attempt::First => {
                self.pace.settled();
                self.connected(now_ns);
            }
            Attempt::Storm => {
                self.pace.settled();
                if let Some(storm) = &mut self.storm {
                    storm.outcome.back += 1;
                    storm.outcome.until_back_ns = now_ns.saturating_sub(storm.begin_ns);
                    if storm.outcome.back == storm.outcome.dropped {
                        self.forgive();
                    }
                }
            }
        }
        if role == Role::Churning {
            let stay_ns = self.stay_ns(slot, generation);
            self.alarms.set(now_ns.saturating_add(stay_ns), slot, generation, Alarm::Leave);
        }
        if let Some(every) = self.plan.target.heartbeat() {
            // Spread over the first interval, so that not all speak at once.
            let share = f64::from(slot % 64 + 1) / 64.0;
            let at_ns = now_ns.saturating_add((every.as_nanos() as f64 * share) as u64);
            self.alarms.set(at_ns, slot, generation, Alarm::Heartbeat);
        }
    }

    fn connected(&mut self, now_ns: u64) {
        if let Some(phase) = &mut self.connecting {
            phase.figures.connected += 1;
            phase.figures.elapsed_ns = now_ns.saturating_sub(phase.begin_ns);
        }
    }

    /// How long a churner stays this time: half to one and a half of what was asked for.
    fn stay_ns(&self, slot: u32, generation: u32) -> u64 {
        let seed = self.plan.scenario.seed ^ u64::from(generation) << 32 ^ self.seats[slot as usize].place.id;
        let share: f64 = Xoshiro256PlusPlus::seed_from_u64(seed).random_range(0.5..1.5);
        (self.plan.scenario.connections.churn_lifetime.0.as_nanos() as f64 * share) as u64
    }

    /// Its connection is over, for this cause.
    pub(super) fn ended(&mut self, slot: u32, cause: String) {
        let now_ns = monotonic_ns();
        let seat = &mut self.seats[slot as usize];
        let (state, attempt, Place { role, topic, .. }) = (seat.state, seat.attempt, seat.place);
        // Dropping it closes it.
        drop(seat.clear());
        match state {
            State::Away => {}
            State::Opening => self.failed(slot, attempt, cause, now_ns),
            State::Leaving => {
                self.open = self.open.saturating_sub(1);
                self.release(slot);
                if self.closing_until_ns.is_none() && role == Role::Churning {
                    self.again(slot);
                }
            }
            State::Open => {
                self.open = self.open.saturating_sub(1);
                self.closed_by_server(slot, role, cause, now_ns);
                if role == Role::Subscriber {
                    self.leave(topic);
                }
            }
        }
    }

    /// The server ended an open connection.
    fn closed_by_server(&mut self, slot: u32, role: Role, cause: String, now_ns: u64) {
        self.count_closed(cause);
        if self.driving.is_some()
            && let Some(follower) = &mut self.seats[slot as usize].follower
        {
            self.books.lose(follower);
        }
        match role {
            Role::Publisher => {
                self.publishing.lose(slot as usize);
                self.books.measurement.tally.refused += 1;
            }
            Role::Churning => self.wait_and_try_again(slot, Attempt::Churn, now_ns),
            _ => {}
        }
    }

    fn count_closed(&mut self, cause: String) {
        let closed = match self.driving {
            Some(_) => &mut self.books.measurement.tally.closed,
            None => &mut self.closed_between,
        };
        count_cause(closed, cause);
    }

    /// An attempt to connect has failed.
    fn failed(&mut self, slot: u32, attempt: Attempt, cause: String, now_ns: u64) {
        match attempt {
            Attempt::First => {
                self.pace.settled();
                if let Some(phase) = &mut self.connecting {
                    count_cause(&mut phase.figures.failures, cause);
                }
            }
            Attempt::Storm => {
                self.pace.settled();
                if let Some(storm) = &mut self.storm {
                    count_cause(&mut storm.outcome.failures, cause);
                }
                self.wait_and_try_again(slot, attempt, now_ns);
            }
            Attempt::Churn => {
                self.count_closed(format!("coming back: {cause}"));
                self.wait_and_try_again(slot, attempt, now_ns);
            }
        }
    }

    fn wait_and_try_again(&mut self, slot: u32, attempt: Attempt, now_ns: u64) {
        let seat = &mut self.seats[slot as usize];
        seat.attempt = attempt;
        self.alarms.set(now_ns + AGAIN_NS, slot, seat.generation, Alarm::Again);
    }

    /// Comes back: in a storm when it is its turn, a churner at once.
    pub(super) fn again(&mut self, slot: u32) {
        match self.seats[slot as usize].attempt {
            Attempt::Storm => self.pace.again(slot),
            Attempt::First | Attempt::Churn => {
                self.seats[slot as usize].attempt = Attempt::Churn;
                self.connect(slot);
            }
        }
    }

    /// Leaves by itself, with a close frame.
    pub(super) fn say_goodbye(&mut self, slot: u32, now_ns: u64) {
        let seat = &mut self.seats[slot as usize];
        if let Some(client) = &mut seat.client {
            client.close(1000);
        }
        seat.state = State::Leaving;
        self.alarms.set(now_ns.saturating_add(GOODBYE_NS), slot, seat.generation, Alarm::Timeout);
    }

    /// It has left by itself: what came until now counts, what is sent from now on is not for it.
    fn release(&mut self, slot: u32) {
        if self.driving.is_some()
            && let Some(follower) = &mut self.seats[slot as usize].follower
        {
            self.books.release(follower);
        }
    }

    /// In a closed loop what was published to those who were away is not waited for. Of all workers' subscribers only the
    /// conductor knows, so these are taken for an example of all.
    fn forgive(&mut self) {
        if !self.books.account.is_alone() {
            self.publishing.forgive();
        }
    }

    /// All subscribers drop their connections and come back.
    pub(super) fn begin_storm(&mut self) {
        let begin_ns = monotonic_ns();
        let mut dropped = Vec::new();
        for slot in 0..self.seats.len() as u32 {
            let seat = &mut self.seats[slot as usize];
            if seat.place.role != Role::Subscriber || seat.state != State::Open {
                continue;
            }
            if let Some(follower) = &mut seat.follower {
                self.books.release(follower);
            }
            if let Some(client) = seat.clear() {
                client.drop_hard(self.poll.registry());
            }
            seat.attempt = Attempt::Storm;
            dropped.push(slot);
            let topic = self.seats[slot as usize].place.topic;
            self.leave(topic);
        }
        self.open = self.open.saturating_sub(dropped.len() as u64);
        self.forgive();
        let outcome = StormOutcome { dropped: dropped.len() as u64, ..StormOutcome::default() };
        self.storm = Some(Storm { outcome, begin_ns });
        self.pace.begin(dropped, begin_ns);
    }

    /// Begins the connection of a publisher by HTTP.
    fn connect_http(&mut self, index: usize) {
        let (slot, target) = ((self.seats.len() + index) as u32, &self.plan.target);
        let now_ns = monotonic_ns();
        let publisher = &mut self.https[index];
        let token = Self::token(slot, publisher.generation);
        let made = loop {
            let bind = self.sources.choose();
            let registry = self.poll.registry();
            match Wire::connect(target.http_address(), target.http_tls(), bind, None, registry, token) {
                Err(error) if self.sources.failed(&error) => {}
                made => break made,
            }
        };
        match made {
            Ok(wire) => {
                publisher.begin(wire, now_ns);
                if !publisher.is_watched {
                    self.watch_http(index, now_ns);
                }
            }
            Err(error) => {
                self.http_failed(index, cause(&error));
                self.alarms.set(now_ns + AGAIN_NS, slot, 0, Alarm::Again);
            }
        }
    }

    pub(super) fn reconnect_http(&mut self, slot: u32) {
        let index = slot as usize - self.seats.len();
        if self.closing_until_ns.is_none() && self.https.get(index).is_some_and(|publisher| !publisher.has_wire()) {
            self.connect_http(index);
        }
    }

    pub(super) fn http_connected(&mut self, index: usize, now_ns: u64) {
        self.open += 1;
        if self.settle_http(index) {
            self.connected(now_ns);
        }
    }

    /// The connection of a publisher by HTTP is over, or was not made.
    pub(super) fn http_failed(&mut self, index: usize, cause: String) {
        if self.settle_http(index)
            && let Some(phase) = &mut self.connecting
        {
            count_cause(&mut phase.figures.failures, cause);
        }
    }

    /// The first attempt of a publisher by HTTP to connect has ended; whether that is news to the connection phase.
    fn settle_http(&mut self, index: usize) -> bool {
        let is_news = !std::mem::replace(&mut self.https[index].is_settled, true);
        if let Some(phase) = self.connecting.as_mut().filter(|_| is_news) {
            phase.https_left = phase.https_left.saturating_sub(1);
            return true;
        }
        false
    }
}
