//! How connections end: the close handshake from either side, failures, and the plain end of a socket.
//!
//! The logical end ([`Core::conclude`]) comes first: subscriptions end, the handler is told. What waits is still written,
//! the Close frame behind it; then our side is shut and what still comes is thrown away, so that the last bytes are not lost
//! to a reset.

use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;

use super::connection::{Closing, State};
use super::core::{Call, Core, ticks_of};
use crate::close::{CloseCause, RefusalCause};
use crate::ws::handshake::put_response;
use crate::ws::{ProtocolError, frame};

/// How long a peer may take to close its side once everything has been said.
const LINGER: Duration = Duration::from_secs(2);
/// The close code for "no code was there" (RFC 6455 section 7.1.5); never sent.
const NO_CODE: u16 = 1005;

impl Core {
    /// Closes from our side, behind all that waits (RFC 6455 section 7.1.2).
    pub fn close(&mut self, slot: u32, cause: CloseCause, code: u16, reason: &str) {
        if self.at(slot).state != State::Open {
            return;
        }
        self.catch_up(slot);
        self.write_tracked(slot);
        if self.at(slot).state != State::Open {
            return;
        }
        let code = if frame::is_sendable_close_code(code) { code } else { 1000 };
        let reason = &reason[..reason.floor_char_boundary(frame::CLOSE_REASON_MAX)];
        self.conclude(slot, cause, code, reason);
        self.say_close(slot, Some(code), reason, State::Closing);
    }

    /// Closes from our side without what waits, but for a frame that is half written.
    pub fn close_now(&mut self, slot: u32, cause: CloseCause) {
        if self.at(slot).state != State::Open {
            return;
        }
        self.conclude(slot, cause, cause.code(), cause.text());
        self.discard(slot, true);
        self.say_close(slot, Some(cause.code()), cause.text(), State::Closing);
    }

    /// The peer broke the protocol: it is told so, and nothing it sends matters any more (RFC 6455 section 7.1.7).
    pub fn fail(&mut self, slot: u32, error: &ProtocolError) {
        let cause = match error.close_code() {
            1007 => CloseCause::InvalidPayload,
            1009 => CloseCause::MessageTooBig,
            _ => CloseCause::ProtocolError,
        };
        match self.at(slot).state {
            State::Open => self.give_up(slot, cause, error.close_code(), &error.to_string()),
            // Our Close frame is on its way already; the peer's will not come.
            State::Closing => self.finish_closing(slot),
            State::Head | State::Flushing | State::Lingering | State::Ended => {}
        }
    }

    /// Nothing more is wanted from the peer, not even its Close frame: it is told why.
    pub fn fail_with(&mut self, slot: u32, cause: CloseCause) {
        match self.at(slot).state {
            State::Open => self.give_up(slot, cause, cause.code(), cause.text()),
            State::Closing => self.finish_closing(slot),
            State::Head | State::Flushing | State::Lingering | State::Ended => {}
        }
    }

    fn give_up(&mut self, slot: u32, cause: CloseCause, code: u16, reason: &str) {
        self.conclude(slot, cause, code, reason);
        self.say_close(slot, Some(code), reason, State::Flushing);
    }

    /// The peer's Close frame has come; it is answered with its own code (RFC 6455 section 5.5.1).
    pub fn peer_closes(&mut self, slot: u32, code: Option<u16>, reason: &str) {
        match self.at(slot).state {
            State::Open => {
                self.keep_order(slot);
                self.catch_up(slot);
                self.write_tracked(slot);
                if self.at(slot).state == State::Open {
                    self.conclude(slot, CloseCause::PeerClose, code.unwrap_or(NO_CODE), reason);
                    self.say_close(slot, code, reason, State::Flushing);
                }
            }
            State::Closing => self.finish_closing(slot),
            State::Head | State::Flushing | State::Lingering | State::Ended => {}
        }
    }

    /// The closing handshake is complete but for what waits to be written.
    fn finish_closing(&mut self, slot: u32) {
        self.at(slot).state = State::Flushing;
        if self.at(slot).outbound.is_none() {
            self.linger(slot);
        }
    }

    fn say_close(&mut self, slot: u32, code: Option<u16>, reason: &str, state: State) {
        let mut bytes = Vec::with_capacity(8 + reason.len());
        frame::put_close(&mut bytes, code, reason);
        self.outbound(slot).push_control(bytes);
        let tick = self.tick() as u32;
        let connection = self.at(slot);
        connection.state = state;
        connection.pinged_tick = tick;
        self.book_pending(slot);
        self.mark_dirty(slot);
        self.check_after(slot, self.settings.close_timeout);
    }

    /// Writes what can be written if the handler wants to know what becomes of some of it: soon it cannot be told any more.
    fn write_tracked(&mut self, slot: u32) {
        if self.at(slot).outbound.as_ref().is_some_and(|outbound| outbound.has_tickets()) {
            self.flush(slot);
        }
    }

    /// The logical end: no subscriptions, no messages, the handler is told; of messages it tracks and that are not written
    /// yet, first. Exactly once for every open connection.
    pub(super) fn conclude(&mut self, slot: u32, cause: CloseCause, code: u16, reason: &str) {
        self.leave_all(slot);
        self.drop_stash(slot);
        let connection = self.at(slot);
        (connection.deferred, connection.retrying, connection.throttled) = (0, false, false);
        connection.rates = None;
        let rare = connection.rare();
        rare.timers.clear();
        rare.closing = Some(Closing { cause, code, reason: reason.into() });
        self.tell_closed(slot, cause, code, reason);
        self.forget_subject(slot);
        self.watch(
            slot,
            "websocket.socket.close",
            || json!({ "code": code, "reason": reason, "cause": cause.label() }),
        );
        self.metrics().open.sub(1);
        // It may not have been read from for a while, and the peer's Close frame may be there already.
        self.read_again(slot);
        let id = self.id(slot);
        let Self { connections, calls, .. } = self;
        let connection = &mut connections[slot as usize];
        let mut lost = |ticket| calls.push_back((id, Call::Sent(ticket, false)));
        connection.rare().unconfirmed.drain(..).for_each(&mut lost);
        if let Some(outbound) = &mut connection.outbound {
            outbound.take_tickets(lost);
        }
        self.call(slot, Call::Close);
    }

    /// Drops what waits.
    pub(super) fn discard(&mut self, slot: u32, keep_begun: bool) {
        if let Some(outbound) = &mut self.at(slot).outbound {
            outbound.discard(keep_begun);
        }
        self.book_pending(slot);
    }

    /// Nothing more is said but what is on its way already, and our side is shut.
    pub(super) fn shut_down(&mut self, slot: u32) {
        let tick = self.tick() as u32;
        let connection = self.at(slot);
        connection.state = State::Flushing;
        connection.pinged_tick = tick;
        if connection.blocked {
            self.check_after(slot, self.settings.close_timeout);
        } else {
            self.caught_up(slot);
        }
    }

    /// All is written: our side is shut, and the peer is given a moment to shut its own.
    pub fn linger(&mut self, slot: u32) {
        if !self.say_goodbye(slot) {
            // The connection has ended, or comes here again when that is written, too.
            return;
        }
        let tick = self.tick() as u32;
        let connection = self.at(slot);
        connection.state = State::Lingering;
        connection.pinged_tick = tick;
        if connection.read_closed || connection.stream.shutdown(Shutdown::Write).is_err() {
            return self.end(slot, CloseCause::PeerGone);
        }
        self.check_after(slot, LINGER);
    }

    /// The socket is done with, for whatever reason; what waits is lost and counted.
    pub fn end(&mut self, slot: u32, cause: CloseCause) {
        match self.at(slot).state {
            State::Ended => return,
            State::Open => self.conclude(slot, cause, cause.code(), cause.text()),
            State::Head => {
                self.tell_refused(self.connections[slot as usize].peer, RefusalCause::Gone, 0, "it went away")
            }
            State::Closing | State::Flushing | State::Lingering => {}
        }
        self.leave_gate(slot);
        self.forget_subject(slot);
        self.discard(slot, false);
        self.unbook_pending(slot);
        self.forget_inbound(slot);
        drop(self.take_tls(slot));
        let behind = self.at(slot).behind;
        if behind {
            self.metrics().backlogged.sub(1);
        }
        let Self { connections, registry, .. } = self;
        let connection = &mut connections[slot as usize];
        (connection.state, connection.behind, connection.blocked) = (State::Ended, false, false);
        connection.outbound = None;
        let (read, written) = (connection.bytes_in, connection.bytes_out);
        // Closing the descriptor would do it too, but events of this turn would go on to name it.
        let _ = registry.deregister(&mut connection.stream);
        self.ended.push(slot);
        self.watch(slot, "server.socket.close", || json!({ "bytesRead": read, "bytesWritten": written }));
    }

    /// Answers a request that does not become a WebSocket, and closes. The body is the JSON of every error.
    pub fn refuse(&mut self, slot: u32, cause: RefusalCause, status: u16, headers: &[(String, String)], message: &str) {
        let body = serde_json::json!({ "code": cause.label(), "message": message }).to_string();
        let mut bytes = Vec::with_capacity(256);
        put_response(&mut bytes, status, headers, "application/json", body.as_bytes(), true);
        self.answer_and_close(slot, cause, bytes);
    }

    /// Ends a connection that is not answered.
    pub fn drop_unanswered(&mut self, slot: u32, cause: RefusalCause, why: &str) {
        self.tell_refused(self.connections[slot as usize].peer, cause, 0, why);
        // Counted already: not once more as gone.
        self.at(slot).state = State::Flushing;
        self.end(slot, CloseCause::PeerReset);
    }

    /// Sends a whole answer and closes.
    pub fn answer_and_close(&mut self, slot: u32, cause: RefusalCause, answer: Vec<u8>) {
        let connection = &self.connections[slot as usize];
        let alerted = connection.tls.as_ref().is_some_and(|tls| !tls.is_open());
        self.tell_answered(connection.peer, cause, &answer, alerted);
        self.part_with(slot, answer);
    }

    /// Says the last word to somebody who does not become a WebSocket. As long as TLS is not open, an answer cannot be given.
    pub(super) fn part_with(&mut self, slot: u32, last: Vec<u8>) {
        self.leave_gate(slot);
        let connection = self.at(slot);
        connection.rare = None;
        if connection.tls.as_ref().is_some_and(|tls| !tls.is_open()) {
            return self.shut_down(slot);
        }
        connection.state = State::Flushing;
        self.outbound(slot).push_control(last);
        self.mark_dirty(slot);
        self.check_after(slot, LINGER);
    }

    /// A check of a connection that is not open has come due.
    pub fn check_closing(&mut self, slot: u32) {
        let settings = &self.settings;
        let (limit, state) = match self.connections[slot as usize].state {
            State::Closing | State::Flushing => (settings.close_timeout, State::Closing),
            _ => (LINGER, State::Lingering),
        };
        let since = (self.tick() as u32).wrapping_sub(self.at(slot).pinged_tick);
        if u64::from(since) >= ticks_of(limit) || state == State::Lingering {
            self.end(slot, CloseCause::PeerGone);
        } else {
            self.check_after(slot, limit);
        }
    }
}
