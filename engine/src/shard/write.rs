//! All writing but the fan-out's direct sends: frames for one connection, the one vectored write at the end of a turn, and
//! the watch over those that are behind.

use std::time::Duration;

use super::connection::{Connection, State};
use super::core::{Call, Core};
use crate::close::CloseCause;
use crate::handler::SendOutcome;
use crate::metrics::clamp_latency;
use crate::pubsub::form::is_within;
use crate::pubsub::outbound::{Bounds, Enqueued};
use crate::ws::{Message, Opcode, frame};

/// How often connections that are behind are looked at for publications that have waited too long.
pub const BACKLOG_CHECK: Duration = Duration::from_millis(100);
/// A peer that does not read is not sent any more pings and pongs once so many frames of any kind wait for it.
const CONTROL_PENDING_MAX: usize = 4096;

impl Core {
    /// Sends a message to one connection.
    pub fn send_message(&mut self, slot: u32, message: Message<'_>, ticket: Option<u64>) -> SendOutcome {
        let bounds = self.bounds(slot);
        let deflated = self.deflate(slot, message.opcode(), message.payload(), bounds);
        self.send_as_it_is(slot, deflated.unwrap_or_else(|| data_frame(message)), ticket, bounds)
    }

    /// Sends a message to one connection whose frame was made elsewhere.
    pub fn send_frame(&mut self, slot: u32, frame: Vec<u8>, ticket: Option<u64>) -> SendOutcome {
        let (opcode, payload) = frame::split(&frame);
        let bounds = self.bounds(slot);
        let deflated = self.deflate(slot, opcode, payload, bounds);
        self.send_as_it_is(slot, deflated.unwrap_or(frame), ticket, bounds)
    }

    /// The frame of a message, compressed, if the connection takes that and it is worth it: not if it would be dropped anyway,
    /// so that a peer that does not read cannot have everything compressed for it in vain.
    fn deflate(&mut self, slot: u32, opcode: Opcode, payload: &[u8], bounds: Bounds) -> Option<Vec<u8>> {
        let Self { connections, settings, deflater, shared, shard, .. } = self;
        let connection = &connections[slot as usize];
        let window = connection.window.filter(|_| connection.state == State::Open)?;
        let is_in_vain = connection.blocked && connection.outbound.as_ref().is_some_and(|queue| queue.is_at(bounds));
        let worth_it = !is_in_vain && payload.len() >= settings.deflate_min_bytes && is_within(window, payload.len());
        worth_it.then(|| deflater.frame(opcode, payload, &shared.metrics[usize::from(*shard)])).flatten()
    }

    fn send_as_it_is(&mut self, slot: u32, frame: Vec<u8>, ticket: Option<u64>, bounds: Bounds) -> SendOutcome {
        let connection = self.at(slot);
        if connection.state != State::Open {
            return SendOutcome::Closed;
        }
        let mut blocked = connection.blocked;
        if !blocked && connection.outbound.as_ref().is_some_and(|outbound| outbound.bytes() > bounds.bytes / 2) {
            // Only the end of the turn is waited for; that is no reason to drop anything.
            self.flush(slot);
            let connection = self.at(slot);
            if connection.state != State::Open {
                return SendOutcome::Closed;
            }
            blocked = connection.blocked;
        }
        if !self.outbound(slot).push_direct(frame, ticket, bounds) {
            self.metrics().messages_direct_dropped.add(1);
            return SendOutcome::Dropped;
        }
        self.metrics().messages_direct.add(1);
        self.book_pending(slot);
        self.mark_dirty(slot);
        if blocked { SendOutcome::Queued } else { SendOutcome::Written }
    }

    /// Sends a control frame, behind what waits. A peer that floods us with pings but does not read is not answered any
    /// more; the bound keeps its queue finite.
    pub fn send_control(&mut self, slot: u32, frame: Vec<u8>) -> SendOutcome {
        if self.at(slot).state != State::Open {
            return SendOutcome::Closed;
        }
        self.flush_if_large(slot);
        if self.at(slot).state != State::Open {
            return SendOutcome::Closed;
        }
        if self.at(slot).blocked && self.outbound(slot).messages() >= CONTROL_PENDING_MAX {
            return SendOutcome::Dropped;
        }
        self.outbound(slot).push_control(frame);
        self.book_pending(slot);
        self.mark_dirty(slot);
        if self.at(slot).blocked { SendOutcome::Queued } else { SendOutcome::Written }
    }

    /// Writes what waits for the connections that have something new.
    pub fn flush_dirty(&mut self) {
        while let Some(slot) = self.dirty.pop() {
            // A slot is given to another connection only after the turn in which this list is worked off.
            if let Some(connection) = self.connections.get_mut(slot as usize) {
                connection.dirty = false;
                self.flush(slot);
            }
        }
    }

    /// Writes what waits for a connection, until it is written or the socket takes no more.
    pub fn flush(&mut self, slot: u32) {
        if self.connections[slot as usize].blocked {
            return;
        }
        loop {
            match self.write_once(slot) {
                Written::All => return self.caught_up(slot),
                Written::Some => {}
                Written::Blocked => return self.block(slot),
                Written::Failed(cause) => return self.end(slot, cause),
                Written::Nothing => return,
            }
        }
    }

    fn write_once(&mut self, slot: u32) -> Written {
        let Self { connections, shared, shard, calls, sealing, .. } = self;
        let connection = &mut connections[slot as usize];
        if connection.state == State::Ended {
            return Written::Nothing;
        }
        let Connection { stream, tls, rare, outbound: Some(outbound), .. } = connection else {
            return Written::Nothing;
        };
        let metrics = &shared.metrics[usize::from(*shard)];
        let sent = match sealing.send_queued(stream, tls.as_deref_mut(), outbound) {
            Ok(Some(sent)) => sent,
            Ok(None) => return Written::All,
            Err(cause) => {
                metrics.writes.add(1);
                return Written::Failed(cause);
            }
        };
        metrics.writes.add(sent.writes);
        metrics.bytes_out.add(sent.bytes as u64);
        connection.bytes_out += sent.bytes as u64;
        let kept = tls.as_ref().is_some_and(|tls| !tls.kept_bytes().is_empty());
        let nanos = shared.clock.nanos();
        let id = crate::id::ConnectionId { shard: *shard, slot, generation: connection.generation };
        let mut told = |ticket| calls.push_back((id, Call::Sent(ticket, true)));
        if tls.is_some() && (!kept || sent.taken > 0) {
            // All that was kept before is out.
            rare.iter_mut().flat_map(|rare| rare.unconfirmed.drain(..)).for_each(&mut told);
        }
        let mut latencies = metrics.latencies.lock();
        outbound.advance(
            sent.taken,
            |ticket| if kept { rare.get_or_insert_default().unconfirmed.push(ticket) } else { told(ticket) },
            |publication| {
                let took = clamp_latency(nanos.saturating_sub(publication.nanos()));
                latencies.delivery.saturating_record(took);
            },
        );
        match (outbound.is_empty(), sent.full) {
            (_, true) => Written::Blocked,
            (true, false) => Written::All,
            (false, false) => Written::Some,
        }
    }

    /// Nothing waits any more.
    pub(super) fn caught_up(&mut self, slot: u32) {
        self.release_outbound(slot);
        let connection = self.at(slot);
        let state = connection.state;
        if std::mem::take(&mut connection.behind) {
            self.metrics().backlogged.sub(1);
            if state == State::Open {
                self.call(slot, Call::Drain);
            }
        }
        if state == State::Flushing {
            self.linger(slot);
        }
    }

    /// The socket takes more again.
    pub fn writable(&mut self, slot: u32) {
        let connection = self.at(slot);
        if connection.blocked {
            connection.blocked = false;
            self.mark_dirty(slot);
        }
    }

    /// Applies `pending_age` to the connections that are behind. Called every [`BACKLOG_CHECK`].
    pub fn expire_backlog(&mut self) {
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog.sort_unstable();
        backlog.dedup();
        backlog.retain(|(slot, generation)| {
            self.connection(*slot, *generation).is_some_and(|connection| connection.behind)
        });
        for (slot, _) in &backlog {
            let nanos = self.now.nanos;
            if let Some(outbound) = &mut self.at(*slot).outbound
                && outbound.expire(nanos) == Enqueued::Overflow
            {
                self.close_now(*slot, CloseCause::SlowConsumer);
            }
            self.book_pending(*slot);
        }
        self.backlog.append(&mut backlog);
    }
}

enum Written {
    All,
    Some,
    Blocked,
    Failed(CloseCause),
    Nothing,
}

/// The whole frame of a message.
pub fn data_frame(message: Message<'_>) -> Vec<u8> {
    let payload = message.payload();
    let mut bytes = Vec::with_capacity(frame::header_len(payload.len()) + payload.len());
    frame::put_data(&mut bytes, message.opcode(), payload);
    bytes
}
