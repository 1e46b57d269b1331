//! What a handler may do: the shard's side of a [`Context`](crate::handler::Context).
//!
//! A connection sees what its handler does in the order it was done. Publications take the way through the inbox, so
//! whatever a handler sends, or closes, after it has published in the same call is held back until the inbox has been taken:
//! when the call has returned, or before the handler does something that must not overtake it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::connection::State;
use super::core::{Core, ticks, ticks_of};
use super::timer::{TICK_MS, Timer};
use super::write::data_frame;
use crate::close::CloseCause;
use crate::engine::EngineHandle;
use crate::handler::{Actions, Deferred, Greeting, Pending, Publish, SendOutcome, Subscribe};
use crate::id::ConnectionId;
use crate::pubsub::{PublishError, Published, SubscribeError, Subscribed};
use crate::ws::{Message, frame};

/// Timers of one connection.
const TIMERS_MAX: usize = 16;

/// Something to be done once the publications before it have been taken.
enum Late {
    Send(Vec<u8>, Option<u64>),
    Close(u16, String),
}

/// One call of a handler.
pub struct Acting<'a> {
    core: &'a mut Core,
    slot: u32,
    published: bool,
    late: Vec<Late>,
    late_bytes: usize,
    retry: bool,
}

impl<'a> Acting<'a> {
    pub fn new(core: &'a mut Core, slot: u32) -> Self {
        Self { core, slot, published: false, late: Vec::new(), late_bytes: 0, retry: false }
    }

    /// The call has returned. True if the handler wants the message again.
    pub fn finish(mut self) -> bool {
        if !self.late.is_empty() {
            self.settle();
        }
        self.retry
    }

    /// Gives the connection what was published, and then what was held back behind it.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.published) {
            return;
        }
        let Self { core, slot, .. } = self;
        core.take_inbox();
        core.catch_up(*slot);
        self.late_bytes = 0;
        for late in std::mem::take(&mut self.late) {
            match late {
                Late::Send(frame, ticket) => {
                    let outcome = core.send_frame(*slot, frame, ticket);
                    if let (SendOutcome::Closed | SendOutcome::Dropped, Some(ticket)) = (outcome, ticket) {
                        core.tell_unsent(*slot, ticket);
                    }
                }
                Late::Close(code, reason) => core.close(*slot, CloseCause::Application, code, &reason),
            }
        }
    }

    fn is_open(&self) -> bool {
        self.core.connections[self.slot as usize].state == State::Open
            && !matches!(self.late.last(), Some(Late::Close(..)))
    }
}

impl Actions for Acting<'_> {
    fn id(&self) -> ConnectionId {
        self.core.id(self.slot)
    }

    fn peer(&self) -> SocketAddr {
        self.core.connections[self.slot as usize].peer
    }

    fn age(&self) -> Duration {
        let accepted = self.core.connections[self.slot as usize].accepted_tick;
        Duration::from_millis(u64::from((self.core.tick() as u32).wrapping_sub(accepted)) * TICK_MS)
    }

    fn engine(&self) -> &EngineHandle {
        &self.core.engine
    }

    fn pending(&self) -> Pending {
        let outbound = &self.core.connections[self.slot as usize].outbound;
        let waiting = outbound.as_ref().map(|o| Pending { messages: o.messages(), bytes: o.bytes() });
        let Pending { messages, bytes } = waiting.unwrap_or_default();
        Pending { messages: messages + self.late.len(), bytes: bytes + self.late_bytes }
    }

    fn send(&mut self, message: Message<'_>, ticket: Option<u64>) -> SendOutcome {
        if !self.is_open() {
            return SendOutcome::Closed;
        }
        let (pending, bounds) = (self.pending(), self.core.bounds());
        if pending.bytes + message.len() > bounds.bytes / 2 || pending.messages >= bounds.messages {
            // Before anything is dropped, what can be written is.
            self.settle();
        }
        if !self.published {
            return self.core.send_message(self.slot, message, ticket);
        }
        let frame = data_frame(message);
        self.late_bytes += frame.len();
        self.late.push(Late::Send(frame, ticket));
        if self.core.connections[self.slot as usize].blocked { SendOutcome::Queued } else { SendOutcome::Written }
    }

    fn ping(&mut self, payload: &[u8]) -> SendOutcome {
        let payload = &payload[..payload.len().min(frame::CONTROL_PAYLOAD_MAX)];
        let mut bytes = Vec::with_capacity(2 + payload.len());
        frame::put_ping(&mut bytes, payload);
        self.settle();
        self.core.send_control(self.slot, bytes)
    }

    fn close(&mut self, code: u16, reason: &str) {
        if self.published {
            if self.is_open() {
                self.late.push(Late::Close(code, reason.into()));
            }
        } else {
            self.core.close(self.slot, CloseCause::Application, code, reason);
        }
    }

    fn subscribe(
        &mut self,
        topic: &str,
        subscribe: Subscribe,
        greet: &mut Greeting<'_>,
    ) -> Result<Subscribed, SubscribeError> {
        self.settle();
        self.core.subscribe(self.slot, topic, subscribe, greet)
    }

    fn unsubscribe(&mut self, topic: &str) -> bool {
        // What was published before is still wanted.
        self.settle();
        self.core.unsubscribe(self.slot, topic)
    }

    fn is_subscribed(&self, topic: &str) -> bool {
        self.core.is_subscribed(self.slot, topic)
    }

    fn subscriptions(&self) -> Vec<String> {
        self.core.subscriptions(self.slot)
    }

    fn publish(&mut self, topic: &str, message: Message<'_>, publish: Publish<'_>) -> Result<Published, PublishError> {
        if !self.late.is_empty() {
            self.settle();
        }
        let except = publish.others.then(|| self.id());
        let published = self.core.shared.publish(topic, message, publish.key, except)?;
        self.published = true;
        Ok(published)
    }

    fn retry(&mut self) {
        self.retry = true;
    }

    fn defer(&mut self) -> Deferred {
        let connection = self.core.at(self.slot);
        connection.deferred += u32::from(connection.state == State::Open);
        Deferred { engine: self.core.engine.clone(), id: self.core.id(self.slot), done: false }
    }

    fn set_timer(&mut self, after: Duration, token: u64) -> bool {
        self.cancel_timer(token);
        if !self.is_open() {
            return false;
        }
        // The tick that is going on has begun earlier, and the turn, too: counted from its beginning it would come early.
        let tick = ticks(self.core.shared.clock.now()) + 1 + ticks_of(after);
        let slot = self.slot;
        let connection = self.core.at(slot);
        let generation = connection.generation;
        let timers = &mut connection.rare().timers;
        if timers.len() >= TIMERS_MAX {
            return false;
        }
        timers.push((token, tick));
        self.core.wheel.set(Timer { tick, slot, generation, token: Some(token) });
        true
    }

    fn cancel_timer(&mut self, token: u64) -> bool {
        let Some(rare) = &mut self.core.at(self.slot).rare else { return false };
        let before = rare.timers.len();
        rare.timers.retain(|(own, _)| *own != token);
        rare.timers.len() < before
    }
}

impl Core {
    /// Whether a handler's timer that has come due is still set; it is not any more.
    pub fn take_timer(&mut self, timer: Timer) -> Option<u64> {
        let token = timer.token?;
        let rare = self.connections.get_mut(timer.slot as usize)?.rare.as_mut()?;
        let at = rare.timers.iter().position(|own| *own == (token, timer.tick))?;
        rare.timers.swap_remove(at);
        Some(token)
    }

    /// Counts a publisher that has to wait for room.
    pub fn count_pause(&self) {
        self.metrics().publishers_paused.add(1);
    }

    /// Whether every inbox has room again.
    pub fn has_room(&self) -> bool {
        let settings = &self.shared.settings;
        let full = |inbox: &super::inbox::Inbox| {
            inbox.depth() >= settings.inbox_messages || inbox.depth_bytes() >= settings.inbox_bytes
        };
        !self.shared.inboxes.0.iter().any(full) || self.shared.aborting.load(Ordering::Relaxed)
    }
}
