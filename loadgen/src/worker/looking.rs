//! One look at one connection: what it received goes to the books, what became of it is acted upon.

use crate::client::{Looked, Sink, Upgraded};
use crate::load::Role;
use crate::worker::books::{Books, Follower};
use crate::worker::http_publisher::HttpLooked;
use crate::worker::seat::{Alarm, Seat, State};
use crate::worker::sys::monotonic_ns;
use crate::worker::{Worker, publishing::Room};

/// What a look reads at most, in bytes: little enough that a publication that comes due meanwhile is not late.
const BUDGET: usize = 64 << 10;

/// A slow reader reads so many times a second, if that gives it at least a byte.
const SLOW_READS_PER_S: u64 = 4;

/// The receive buffer of those who shall not read, in bytes (the kernel doubles it).
pub(super) const SMALL_RECEIVE_BUFFER: usize = 4096;

/// How long an HTTP publisher waits before it tries again to connect.
const HTTP_AGAIN_NS: u64 = 100_000_000;

/// What a connection receives in one look.
struct Looking<'a> {
    books: &'a mut Books,
    follower: Option<&'a mut Follower>,
    wire_bytes: usize,
    upgraded: Option<Upgraded>,
    is_opened: bool,
}

impl Sink for Looking<'_> {
    #[inline]
    fn read(&mut self, wire_bytes: usize) {
        self.wire_bytes += wire_bytes;
        self.books.begin_read(self.follower.as_deref_mut(), monotonic_ns(), wire_bytes);
    }

    fn upgraded(&mut self, upgraded: Upgraded) {
        self.upgraded = Some(upgraded);
    }

    #[inline]
    fn inflated(&mut self, wire_bytes: usize, payload_bytes: usize) {
        self.books.inflated(wire_bytes, payload_bytes);
    }

    fn opened(&mut self) {
        self.is_opened = true;
    }

    #[inline]
    fn message(&mut self, payload: &[u8]) {
        match &mut self.follower {
            Some(follower) => self.books.message(follower, payload),
            None => self.books.message_to_other(payload),
        }
    }
}

impl Seat {
    /// Whether nothing is read from it.
    pub(super) fn is_stalled(&self) -> bool {
        self.place.role == Role::Stalled && self.state == State::Open
    }
}

impl Worker {
    /// Looks at one that is ready.
    #[inline]
    pub(super) fn look(&mut self, slot: u32) {
        let Some(seat) = self.seats.get_mut(slot as usize) else {
            return self.look_at_http(slot);
        };
        seat.is_listed = false;
        let is_slow = seat.place.role == Role::Slow && seat.state == State::Open;
        // What a slow reader is owed later it has an alarm for.
        if seat.is_stalled() || is_slow && self.books.now_ns < seat.read_at_ns {
            return;
        }
        let budget = if is_slow { slow_budget(self.plan.scenario.connections.slow_bytes_per_s.0) } else { BUDGET };
        let Some(client) = &mut seat.client else {
            return;
        };
        let follower = seat.follower.as_mut();
        let mut looking = Looking { books: &mut self.books, follower, wire_bytes: 0, upgraded: None, is_opened: false };
        let looked = client.look(&mut self.shared, budget, &mut looking);
        let Looking { wire_bytes, upgraded, is_opened, .. } = looking;
        if let Some(follower) = &mut seat.follower {
            self.books.end_read(follower);
        }
        if upgraded.is_some() || is_opened {
            self.came_further(slot, upgraded, is_opened);
        }
        if is_slow && wire_bytes > 0 {
            self.rest(slot, wire_bytes as u64);
        }
        match looked {
            Looked::Drained => {}
            Looked::More => self.list(slot),
            Looked::Ended(cause) => return self.ended(slot, cause),
        }
        // Publishers have the first numbers.
        if self.publishing.is_waiting_for(slot as usize) && self.plan.member == 0 {
            self.send_held(slot as usize);
        }
    }

    /// A slow reader has read so many bytes and rests as long as they are worth.
    fn rest(&mut self, slot: u32, bytes: u64) {
        let bytes_per_s = self.plan.scenario.connections.slow_bytes_per_s.0.max(1);
        let seat = &mut self.seats[slot as usize];
        let from_ns = seat.read_at_ns.max(self.books.now_ns);
        seat.read_at_ns = from_ns.saturating_add(bytes.saturating_mul(1_000_000_000) / bytes_per_s);
        self.alarms.set(seat.read_at_ns, slot, seat.generation, Alarm::Read);
    }

    /// The upgrade was answered, or the opening conversation is done.
    #[cold]
    fn came_further(&mut self, slot: u32, upgraded: Option<Upgraded>, is_opened: bool) {
        let now_ns = self.books.now_ns;
        if let Some(Upgraded { deflate, resumed }) = upgraded {
            let seat = &mut self.seats[slot as usize];
            seat.is_deflated = deflate;
            let (attempt, handshake_ns) = (seat.attempt, now_ns.saturating_sub(seat.begun_ns));
            self.upgraded(attempt, handshake_ns, resumed);
        }
        if is_opened {
            self.opened(slot, now_ns);
        }
    }

    fn look_at_http(&mut self, slot: u32) {
        let index = slot as usize - self.seats.len();
        let Some(publisher) = self.https.get_mut(index) else {
            return;
        };
        let (was_connected, was_asking) = (publisher.is_connected(), publisher.is_asking());
        let now_ns = monotonic_ns();
        let looked = publisher.look(now_ns);
        let (is_connected, has_wire) = (publisher.is_connected(), publisher.has_wire());
        if is_connected && !was_connected {
            self.http_connected(index, now_ns);
        }
        match looked {
            HttpLooked::Waiting => {}
            HttpLooked::Answered(status, answer_ns) => {
                let measurement = &mut self.books.measurement;
                if self.books.account.window.holds(now_ns.saturating_sub(answer_ns)) {
                    measurement.publish_answer.record(answer_ns);
                }
                measurement.tally.refused += u64::from(!(200..300).contains(&status));
            }
            HttpLooked::Ended(cause) => {
                self.books.measurement.tally.refused += u64::from(was_asking);
                self.http_failed(index, cause);
            }
        }
        if !has_wire {
            self.http_again(index, was_connected || is_connected, now_ns);
        }
        if self.publishing.is_waiting_for(index) {
            self.send_held(index);
        }
    }

    /// The connection of a publisher by HTTP is over: another one is made.
    fn http_again(&mut self, index: usize, was_connected: bool, now_ns: u64) {
        self.open = self.open.saturating_sub(u64::from(was_connected));
        // A server may close a connection after each answer: then the next is made at once.
        let again_ns = if self.https[index].has_answered() { now_ns } else { now_ns + HTTP_AGAIN_NS };
        self.alarms.set(again_ns, (self.seats.len() + index) as u32, 0, Alarm::Again);
    }

    /// A publisher by HTTP has an alarm as long as it waits for something.
    pub(super) fn watch_http(&mut self, index: usize, now_ns: u64) {
        let slot = (self.seats.len() + index) as u32;
        let timeout_ns = self.plan.scenario.connect.timeout.0.as_nanos() as u64;
        let publisher = &mut self.https[index];
        let Some(since_ns) = publisher.waits_since_ns() else {
            publisher.is_watched = false;
            return;
        };
        let until_ns = since_ns.saturating_add(timeout_ns);
        publisher.is_watched = until_ns > now_ns;
        if publisher.is_watched {
            self.alarms.set(until_ns, slot, 0, Alarm::Timeout);
        } else {
            self.give_up_http(index, now_ns);
        }
    }

    /// Nothing is waited for any longer: neither a connection nor an answer, which would be taken for that to a later one.
    fn give_up_http(&mut self, index: usize, now_ns: u64) {
        let publisher = &mut self.https[index];
        let (was_connected, was_asking) = (publisher.is_connected(), publisher.is_asking());
        publisher.hang_up();
        self.books.measurement.tally.refused += u64::from(was_asking);
        self.http_failed(index, "timed out".into());
        self.http_again(index, was_connected, now_ns);
    }

    /// A drive ends: what is not answered by now is counted in it, and by nobody else.
    pub(super) fn give_up_answers(&mut self) {
        let now_ns = monotonic_ns();
        for index in 0..self.https.len() {
            if self.https[index].is_asking() {
                self.give_up_http(index, now_ns);
            }
        }
    }

    /// Whether this publisher can take a publication.
    pub(super) fn room(&self, publisher: usize) -> Room {
        if let Some(http) = self.https.get(publisher) {
            return if http.is_free() { Room::Free } else { Room::Full };
        }
        match self.seats.get(publisher) {
            Some(Seat { state: State::Open, client: Some(client), .. }) => {
                if client.unsent_bytes() > super::sending::UNSENT_MAX { Room::Full } else { Room::Free }
            }
            _ => Room::Gone,
        }
    }
}

/// What a slow reader reads at once.
fn slow_budget(bytes_per_s: u64) -> usize {
    (bytes_per_s / SLOW_READS_PER_S).clamp(1, BUDGET as u64) as usize
}
