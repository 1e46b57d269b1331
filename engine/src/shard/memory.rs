//! What all connections together may hold: of messages half received or not yet handled, and of what waits to be sent. Both
//! are counted where something is held already; what is handled or sent at once touches no counter.

use std::sync::atomic::Ordering;

use super::connection::{Stash, State};
use super::core::Core;
use crate::close::{CloseCause, RefusalCause};
use crate::net::tls::TlsSession;
use crate::pubsub::outbound::Bounds;
use crate::ws::session::{Role, Session};

/// Other shards are told of bytes that wait when so many have changed, and at the end of every turn.
const TELL_BYTES: usize = 64 << 10;

impl Core {
    /// A connection holds more or less than before of what it has received.
    pub(super) fn book_inbound(&self, before: usize, after: usize) {
        let all = &self.shared.inbound_bytes;
        if after > before {
            all.fetch_add(after - before, Ordering::Relaxed);
        } else if before > after {
            all.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Whether all connections together hold more than they may of what they have received.
    fn is_inbound_full(&self) -> bool {
        let limit = self.settings.inbound_total_bytes;
        limit > 0 && self.shared.inbound_bytes.load(Ordering::Relaxed) > limit
    }

    /// A TLS session holds more or less than before of what has come and is not complete.
    pub(super) fn book_held(&mut self, slot: u32, before: usize) {
        let held = self.at(slot).tls.as_ref().map_or(0, |tls| tls.held_bytes());
        self.book_inbound(before, held);
        if held > before {
            self.refuse_if_full(slot);
        }
    }

    /// Takes a TLS session away from a connection, and out of the books.
    pub(super) fn take_tls(&mut self, slot: u32) -> Option<Box<TlsSession>> {
        let mut tls = self.at(slot).tls.take()?;
        self.book_inbound(tls.held_bytes(), 0);
        self.add_pending(-std::mem::take(&mut tls.booked).cast_signed());
        self.metrics().tls_connections.sub(1);
        Some(tls)
    }

    /// Puts a session back that held so many bytes when it was taken out.
    pub(super) fn put_back(&mut self, slot: u32, session: Session, held: usize) {
        let connection = self.at(slot);
        let now_held = match connection.state {
            State::Open | State::Closing => {
                let now_held = session.held_bytes();
                connection.session = session;
                now_held
            }
            // Nothing it sends matters any more.
            State::Head | State::Flushing | State::Lingering | State::Ended => 0,
        };
        self.book_inbound(held, now_held);
        if now_held > held {
            self.refuse_if_full(slot);
        }
    }

    /// Keeps something that has been received and may not be handled yet.
    pub(super) fn keep(&mut self, slot: u32, keep: impl FnOnce(&mut Stash)) {
        keep(self.at(slot).rare().stash.get_or_insert_default());
        if self.book_stash(slot) {
            self.refuse_if_full(slot);
        }
    }

    /// Counts what is kept now; whether that is more than before. What has been taken out to be handled stays counted until
    /// this is called.
    pub(super) fn book_stash(&mut self, slot: u32) -> bool {
        let Some(rare) = &mut self.at(slot).rare else { return false };
        let held = rare.stash.as_ref().map_or(0, Stash::held_bytes);
        let before = std::mem::replace(&mut rare.stash_booked, held);
        self.book_inbound(before, held);
        held > before
    }

    /// Lets go of what was kept.
    pub(super) fn drop_stash(&mut self, slot: u32) {
        if let Some(rare) = &mut self.at(slot).rare {
            rare.stash = None;
            self.book_stash(slot);
        }
    }

    /// The connection that asks for more than there is, ends.
    fn refuse_if_full(&mut self, slot: u32) {
        if self.is_inbound_full() {
            if self.at(slot).state == State::Head {
                // Before the handshake is done there is nothing to tell it with, and who is connected must not pay for it.
                return self.drop_unanswered(slot, RefusalCause::TlsHandshake, "inbound_total_bytes is reached");
            }
            self.fail_with(slot, CloseCause::InboundMemory);
            self.forget_inbound(slot);
        }
    }

    /// Lets go of everything half received or not yet handled.
    pub(super) fn forget_inbound(&mut self, slot: u32) {
        self.drop_stash(slot);
        let session = std::mem::replace(&mut self.at(slot).session, Session::new(Role::Server));
        self.book_inbound(session.held_bytes(), 0);
    }

    /// All bytes that wait for connections whose sockets do not take them.
    fn pending_total(&self) -> usize {
        let told = self.shared.pending_bytes.load(Ordering::Relaxed).cast_signed();
        usize::try_from(told + self.pending_delta).unwrap_or(0)
    }

    /// Whether all connections together have as much waiting as they may. Counted, since something is about to be held back.
    fn is_pending_full(&self) -> bool {
        let limit = self.settings.pending_total_bytes;
        let full = limit > 0 && self.pending_total() >= limit;
        if full {
            self.metrics().pending_full.add(1);
        }
        full
    }

    /// The bounds of a connection's queue: its own; and if all together are at theirs, what waits already of a connection
    /// whose socket takes nothing.
    pub fn bounds(&self, slot: u32) -> Bounds {
        let connection = &self.connections[slot as usize];
        let mut bounds = self.own_bounds(slot);
        if connection.blocked
            && let Some(outbound) = &connection.outbound
            && self.is_pending_full()
        {
            bounds.bytes = bounds.bytes.min(outbound.bytes());
        }
        bounds
    }

    /// What may wait for a connection, whatever waits for others.
    pub fn own_bounds(&self, slot: u32) -> Bounds {
        let own = self.connections[slot as usize].limits().and_then(|limits| limits.pending_bytes);
        let settings = &self.settings;
        Bounds { bytes: own.unwrap_or(settings.pending_bytes).max(1), messages: settings.pending_messages }
    }

    /// As [`bounds`](Self::bounds), for what is replayed, which can be much: nothing while all together are at their bound.
    pub fn replay_bounds(&self, slot: u32) -> Bounds {
        let mut bounds = self.own_bounds(slot);
        if self.is_pending_full() {
            bounds.bytes = 0;
        }
        bounds
    }

    /// Counts what waits for a connection that is behind, after something has changed. What only waits for the end of the turn
    /// is not counted.
    pub fn book_pending(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        let Some(outbound) = &mut connection.outbound else { return };
        let mut waits = if connection.behind { outbound.bytes() } else { 0 };
        let mut before = std::mem::replace(&mut outbound.booked, waits);
        if let Some(tls) = &mut connection.tls {
            let kept = if connection.behind { tls.kept_bytes().len() } else { 0 };
            before += std::mem::replace(&mut tls.booked, kept);
            waits += kept;
        }
        self.add_pending(waits.cast_signed() - before.cast_signed());
    }

    /// The queue goes, whatever is in it.
    pub fn unbook_pending(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if let Some(outbound) = &mut connection.outbound {
            let mut before = std::mem::take(&mut outbound.booked);
            before += connection.tls.as_mut().map_or(0, |tls| std::mem::take(&mut tls.booked));
            self.add_pending(-before.cast_signed());
        }
    }

    fn add_pending(&mut self, bytes: isize) {
        self.pending_delta += bytes;
        if self.pending_delta.unsigned_abs() >= TELL_BYTES {
            self.tell_pending();
        }
    }

    /// Tells the other shards how much has changed.
    pub fn tell_pending(&mut self) {
        match std::mem::take(&mut self.pending_delta) {
            0 => {}
            more @ 1.. => drop(self.shared.pending_bytes.fetch_add(more.unsigned_abs(), Ordering::Relaxed)),
            less => drop(self.shared.pending_bytes.fetch_sub(less.unsigned_abs(), Ordering::Relaxed)),
        }
    }
}
