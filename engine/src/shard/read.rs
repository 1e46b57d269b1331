//! From sockets to the handler: bytes are read into the shard's one buffer, decrypted into another if they are TLS, the session
//! makes events of them, the handler is called. A connection whose handler has to wait is not read from; what was read behind the message it waits for is kept.

use std::io::{ErrorKind, Read};

use super::Shard;
use super::connection::{ProxyHeader, Stash, State};
use super::core::Core;
use super::rate::message_bytes;
use crate::close::CloseCause;
use crate::handler::Handler;
use crate::net::tls::session::Progress;
use crate::ws::deflate::{Inflater, Spent, Work};
use crate::ws::session::{Event, Limits, Role, Session};
use crate::ws::{Message, Opcode, ProtocolError, frame};

/// Reads from one connection before the others have their turn.
const READS_PER_TURN: usize = 4;
/// Bytes read in full buffers in one turn, over all connections; the rest has to wait for the next one.
pub const READ_BUDGET_BYTES: usize = 4 << 20;
/// What may be inflated for one connection before the others have their turn, in bytes of [`cost`], and the message that exceeds
/// it: a buffer of small messages can become a thousand times as long, and the rest of it has to wait.
const INFLATE_BYTES: u64 = 1 << 20;

enum Input {
    Bytes(usize),
    Nothing,
    Ended,
    Failed,
}

impl<H: Handler> Shard<H> {
    /// Reads what a socket has, up to its share of the turn.
    pub(super) fn read(&mut self, slot: u32) {
        let generation = self.core.generations[slot as usize];
        if self.core.read_budget > 0 && self.core.at(slot).has_stash() {
            return self.handle_stash(slot);
        }
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.core.connection(slot, generation) else { return };
            if connection.state == State::Open && connection.is_paused() {
                return;
            }
            // What came before the end is handled before it.
            if self.core.read_budget == 0 || connection.has_stash() {
                break;
            }
            if connection.tls.as_ref().is_some_and(|tls| tls.is_peer_closed()) && !connection.read_closed {
                return self.core.read_ended(slot);
            }
            let mut scratch = std::mem::take(&mut self.scratch);
            let input = self.core.receive(slot, &mut scratch);
            if let Input::Bytes(length) = input {
                if self.core.at(slot).state != State::Head {
                    self.core.watch(slot, "server.socket.data", || serde_json::json!({ "bytesRead": length }));
                }
                self.take_raw(slot, &mut scratch[..length]);
            }
            let all = scratch.len();
            self.scratch = scratch;
            if self.core.connection(slot, generation).is_none() {
                // It has ended, or speaks plain HTTP and belongs to the control plane now.
                return;
            }
            match input {
                // A read that does not fill the buffer has emptied the socket: the next bytes make a new event.
                Input::Bytes(length) if length < all && !self.core.at(slot).hung_up => return,
                Input::Bytes(length) => self.core.read_budget = self.core.read_budget.saturating_sub(length),
                Input::Nothing => return,
                Input::Ended => return self.core.read_ended(slot),
                Input::Failed => return self.core.end(slot, CloseCause::PeerReset),
            }
        }
        self.core.read_again(slot);
    }

    /// Goes on reading where a turn's share was not enough.
    pub(super) fn read_unread(&mut self) {
        for _ in 0..self.core.unread.len() {
            let Some((slot, generation)) = self.core.unread.pop_front() else { return };
            if self.core.connection(slot, generation).is_some() {
                self.core.at(slot).unread = false;
                self.read(slot);
            }
        }
    }

    /// Takes what the socket has brought. A PROXY header is in the clear, whatever follows it.
    fn take_raw(&mut self, slot: u32, bytes: &mut [u8]) {
        let connection = self.core.at(slot);
        if connection.tls.is_none() || connection.proxy_header == ProxyHeader::Awaited {
            return self.take_bytes(slot, bytes);
        }
        self.take_cipher(slot, bytes);
    }

    /// Decrypts what has come, and takes what was in it.
    pub(super) fn take_cipher(&mut self, slot: u32, bytes: &mut [u8]) {
        let generation = self.core.generations[slot as usize];
        let connection = self.core.at(slot);
        if matches!(connection.state, State::Flushing | State::Lingering | State::Ended) {
            return;
        }
        let Some(tls) = &mut connection.tls else { return };
        if tls.is_not_tls(bytes) {
            return self.core.refuse_plain(slot);
        }
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        let mut answer = Vec::new();
        let (held, was_open) = (tls.held_bytes(), tls.is_open());
        let received = tls.receive(bytes, &mut plain, &mut answer);
        let is_open = tls.is_open();
        self.core.book_held(slot, held);
        if self.core.connection(slot, generation).is_none() {
            self.plain = plain;
            return;
        }
        if is_open && !was_open {
            self.core.note_handshake(slot);
        }
        // Before anything is encrypted that answers what has come.
        if self.core.send_cipher(slot, &answer) && !plain.is_empty() {
            self.take_bytes(slot, &mut plain);
        }
        self.plain = plain;
        let Some(connection) = self.core.connection(slot, generation) else { return };
        match received {
            Err(failure) => self.core.fail_tls(slot, &failure),
            // What waits to be handled is handled before, as if the peer had only closed its socket.
            Ok(Progress::PeerClosed) if connection.has_stash() => {}
            Ok(Progress::PeerClosed) if connection.state == State::Open && connection.is_paused() => {}
            Ok(Progress::PeerClosed) => self.core.read_ended(slot),
            Ok(Progress::Handshaking | Progress::Open) => {}
        }
    }

    fn take_bytes(&mut self, slot: u32, bytes: &mut [u8]) {
        match self.core.at(slot).state {
            State::Head => self.take_head(slot, bytes),
            State::Open | State::Closing => self.feed(slot, bytes),
            State::Flushing | State::Lingering | State::Ended => {}
        }
    }

    /// Gives bytes to the session, and its events to the handler. As soon as the connection has to wait, the rest is kept.
    pub(super) fn feed(&mut self, slot: u32, bytes: &mut [u8]) {
        let handled = self.feed_some(slot, bytes);
        if handled < bytes.len() {
            self.core.keep(slot, |stash| {
                debug_assert!(stash.bytes.is_empty(), "nothing is read while something waits");
                stash.bytes = bytes[handled..].to_vec();
            });
            if !self.core.at(slot).is_paused() {
                self.core.read_again(slot);
            }
        }
    }

    /// Gives bytes to the session until the connection has to wait, or has had its share of the turn; returns how many.
    fn feed_some(&mut self, slot: u32, bytes: &mut [u8]) -> usize {
        // Taken out while the handler is called, which may do anything to the connection but read.
        let placeholder = Session::new(Role::Server);
        let mut session = std::mem::replace(&mut self.core.at(slot).session, placeholder);
        let mut inflater = std::mem::take(&mut self.inflater);
        let held = session.held_bytes();
        let mut at = 0;
        while at < bytes.len() {
            let connection = self.core.at(slot);
            if connection.state == State::Open && connection.is_paused() || cost(inflater.spent()) >= INFLATE_BYTES {
                break;
            }
            match self.step(slot, &mut session, &mut inflater, &mut bytes[at..]) {
                Ok(consumed) => at += consumed,
                Err(error) => {
                    self.core.fail(slot, &error);
                    at = bytes.len();
                }
            }
        }
        session.release();
        self.core.put_back(slot, session, held);
        self.core.count_inflated(inflater.take_work(), inflater.take_spent());
        inflater.release();
        self.inflater = inflater;
        match self.core.at(slot).state {
            State::Open | State::Closing => at,
            // Nothing it sends matters any more.
            State::Head | State::Flushing | State::Lingering | State::Ended => bytes.len(),
        }
    }

    /// The next event; how many bytes there were to it.
    fn step(
        &mut self,
        slot: u32,
        session: &mut Session,
        inflater: &mut Inflater,
        bytes: &mut [u8],
    ) -> Result<usize, ProtocolError> {
        let own = self.core.connections[slot as usize].limits();
        let limits = Limits { message_bytes: message_bytes(&self.core.settings, own) };
        let received = session.receive(bytes, &limits, inflater)?;
        let Some(event) = received.event else { return Ok(received.consumed) };
        let open = self.core.at(slot).state == State::Open;
        let tick = self.core.tick() as u32;
        match event {
            Event::Close { code, reason } => self.core.peer_closes(slot, code, reason),
            // After our Close frame only the peer's is waited for.
            _ if !open => {}
            Event::Message(message) => {
                self.core.metrics().messages_in.add(1);
                self.core.watch_message(slot, message);
                let connection = self.core.at(slot);
                connection.messages_in = connection.messages_in.wrapping_add(1);
                connection.message_tick = tick;
                if self.core.admit(slot, message.len()) && self.message(slot, message) {
                    let kept = (message.opcode(), message.payload().to_vec());
                    self.core.count_pause();
                    self.core.hold(slot, kept);
                }
            }
            // It makes work as a message does, since it is answered.
            Event::Ping(payload) if !self.core.admit(slot, payload.len()) => self.core.metrics().pings_in.add(1),
            Event::Ping(payload) => {
                self.core.watch_control(slot, "websocket.socket.ping", payload);
                self.core.answer_ping(slot, payload);
                self.call(slot, |handler, ctx| handler.ping(ctx, payload));
            }
            Event::Pong(payload) => {
                self.core.metrics().pongs_in.add(1);
                self.core.watch_control(slot, "websocket.socket.pong", payload);
                self.call(slot, |handler, ctx| handler.pong(ctx, payload));
            }
        }
        Ok(received.consumed)
    }

    /// Gives a message to the handler. True if it wants to be given it again.
    fn message(&mut self, slot: u32, message: Message<'_>) -> bool {
        let again = self.call(slot, |handler, ctx| handler.message(ctx, message)).is_some_and(|(_, retry)| retry);
        again && self.core.at(slot).state == State::Open
    }

    /// Handles the messages again for which there was no room, if there may be room now.
    pub(super) fn retry_held(&mut self) {
        for (slot, generation) in std::mem::take(&mut self.core.retrying) {
            if self.core.connection(slot, generation).is_none() || !self.core.at(slot).retrying {
                continue;
            }
            // Without room for it, asking would only copy the message once more.
            if self.core.has_room(self.core.held_bytes(slot)) {
                self.core.at(slot).retrying = false;
                self.handle_stash(slot);
            } else {
                self.core.retrying.push((slot, generation));
            }
        }
    }

    /// Handles what has waited, and then reads on.
    pub(super) fn handle_stash(&mut self, slot: u32) {
        let connection = self.core.at(slot);
        if !matches!(connection.state, State::Open | State::Closing) || connection.is_paused() {
            return;
        }
        // It was not read from meanwhile: the silence was not the peer's.
        let tick = self.core.tick() as u32;
        let connection = self.core.at(slot);
        (connection.read_tick, connection.message_tick) = (tick, tick);
        let stash = connection.rare.as_mut().and_then(|rare| rare.stash.take());
        let Some(Stash { message, mut bytes, at }) = stash else { return self.core.read_again(slot) };
        if let Some((opcode, payload)) = message
            && self.message(slot, as_message(opcode, &payload))
        {
            self.core.hold(slot, (opcode, payload));
        }
        let at = at + self.feed_some(slot, &mut bytes[at..]);
        if at < bytes.len() {
            // Kept as it is: a long stash of small messages is not copied for each of them.
            let stash = self.core.at(slot).rare().stash.get_or_insert_default();
            (stash.bytes, stash.at) = (bytes, at);
        }
        self.core.book_stash(slot);
        self.core.read_again(slot);
    }
}

/// What inflating counts as, as if so many bytes had been read: what became of it; and what it was, since a stream may be nothing
/// but headers of blocks, which take many times as long as what they describe. Whether it was refused in the end makes no difference.
fn cost(spent: Spent) -> u64 {
    spent.output_bytes + 16 * spent.input_bytes
}

/// A message that was checked when it came.
fn as_message(opcode: Opcode, payload: &[u8]) -> Message<'_> {
    match (opcode, std::str::from_utf8(payload)) {
        (Opcode::Text, Ok(text)) => Message::Text(text),
        _ => Message::Binary(payload),
    }
}

impl Core {
    fn receive(&mut self, slot: u32, scratch: &mut [u8]) -> Input {
        let tick = self.tick() as u32;
        let connection = self.at(slot);
        loop {
            match connection.stream.read(scratch) {
                Ok(0) => return Input::Ended,
                Ok(length) => {
                    connection.read_tick = tick;
                    connection.bytes_in += length as u64;
                    self.metrics().bytes_in.add(length as u64);
                    return Input::Bytes(length);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Input::Nothing,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Input::Failed,
            }
        }
    }

    /// Counts what was inflated: the metrics whole messages, and a turn all that it took, which was read as far as that is
    /// concerned.
    fn count_inflated(&mut self, work: Work, spent: Spent) {
        if work.messages > 0 {
            let metrics = self.metrics();
            metrics.inflated_messages.add(work.messages);
            metrics.inflate_input_bytes.add(work.input_bytes);
            metrics.inflate_output_bytes.add(work.output_bytes);
        }
        self.read_budget = self.read_budget.saturating_sub(usize::try_from(cost(spent)).unwrap_or(usize::MAX));
    }

    /// Has a socket read from in the next turn, or as soon as it is the turn of newcomers.
    pub(super) fn read_again(&mut self, slot: u32) {
        let connection = self.at(slot);
        if connection.state != State::Ended && !connection.unread {
            connection.unread = true;
            let entry = (slot, connection.generation);
            let list = if connection.state == State::Head { &mut self.newcomers } else { &mut self.unread };
            list.push_back(entry);
        }
    }

    /// The peer sends no more. Only in the middle of a closing handshake is there anything left to write for it.
    fn read_ended(&mut self, slot: u32) {
        let connection = self.at(slot);
        connection.read_closed = true;
        let state = connection.state;
        if state != State::Ended {
            self.watch(slot, "server.socket.end", || serde_json::json!({}));
        }
        let connection = self.at(slot);
        if connection.state != State::Flushing || connection.outbound.is_none() {
            self.answer_goodbye(slot);
            self.end(slot, CloseCause::PeerGone);
        }
    }

    /// Keeps a message until it can be handled.
    fn hold(&mut self, slot: u32, message: (Opcode, Vec<u8>)) {
        let connection = self.at(slot);
        connection.retrying = true;
        let generation = connection.generation;
        self.retrying.push((slot, generation));
        self.keep(slot, |stash| stash.message = Some(message));
    }

    /// The size of the message that is to be handled again.
    fn held_bytes(&self, slot: u32) -> usize {
        let stash = self.connections[slot as usize].rare.as_ref().and_then(|rare| rare.stash.as_ref());
        stash.and_then(|stash| stash.message.as_ref()).map_or(0, |(_, payload)| payload.len())
    }

    fn answer_ping(&mut self, slot: u32, payload: &[u8]) {
        self.metrics().pings_in.add(1);
        self.keep_order(slot);
        let mut bytes = Vec::with_capacity(2 + payload.len());
        frame::put_pong(&mut bytes, payload);
        let _ = self.send_control(slot, bytes);
    }
}

#[cfg(test)]
mod tests;
