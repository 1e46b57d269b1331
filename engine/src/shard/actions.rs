//! What a handler may do: the shard's side of a [`Context`](crate::handler::Context).
//!
//! A connection sees what its handler does in the order it was done. Publications take the way through the inbox; so before
//! anything else is done for a connection whose handler has published, the inbox is taken and what the connection has not got
//! yet is put into its queue ([`Core::keep_order`]).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::connection::{HandlerTimer, State};
use super::core::{Core, ticks, ticks_of};
use super::timer::{Due, TICK_MS, Timer};
use crate::close::CloseCause;
use crate::config::ConnectionLimits;
use crate::engine::EngineHandle;
use crate::handler::{Actions, Deferred, Greeting, Pending, Publish, SendOutcome, Subscribe};
use crate::id::ConnectionId;
use crate::pubsub::{PublishError, Published, SubscribeError, Subscribed};
use crate::ws::{Message, frame};

/// Timers of one connection.
const TIMERS_MAX: usize = 16;

/// One call of a handler.
pub struct Acting<'a> {
    core: &'a mut Core,
    slot: u32,
    retry: bool,
}

impl<'a> Acting<'a> {
    pub fn new(core: &'a mut Core, slot: u32) -> Self {
        Self { core, slot, retry: false }
    }

    /// Whether the handler wants the message again.
    pub fn wants_retry(&self) -> bool {
        self.retry
    }

    fn is_open(&self) -> bool {
        self.core.connections[self.slot as usize].state == State::Open
    }

    fn keep_order(&mut self) {
        self.core.keep_order(self.slot);
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
        self.core.connections[self.slot as usize].pending()
    }

    fn send(&mut self, message: Message<'_>, ticket: Option<u64>) -> SendOutcome {
        self.keep_order();
        self.core.send_message(self.slot, message, ticket)
    }

    fn ping(&mut self, payload: &[u8]) -> SendOutcome {
        self.keep_order();
        let payload = &payload[..payload.len().min(frame::CONTROL_PAYLOAD_MAX)];
        let mut bytes = Vec::with_capacity(2 + payload.len());
        frame::put_ping(&mut bytes, payload);
        self.core.send_control(self.slot, bytes)
    }

    fn close(&mut self, code: u16, reason: &str) {
        self.keep_order();
        self.core.close(self.slot, CloseCause::Application, code, reason);
    }

    fn subscribe(
        &mut self,
        topic: &str,
        subscribe: Subscribe,
        greet: &mut Greeting<'_>,
    ) -> Result<Subscribed, SubscribeError> {
        self.keep_order();
        let outcome = self.core.subscribe(self.slot, topic, subscribe, greet);
        self.core.watch_topic(self.slot, "topic.subscribe", topic, || outcome.as_ref().err().map(ToString::to_string));
        outcome
    }

    fn unsubscribe(&mut self, topic: &str) -> bool {
        self.keep_order();
        let was = self.core.unsubscribe(self.slot, topic);
        self.core.watch_topic(self.slot, "topic.unsubscribe", topic, || (!was).then(|| "there was none".into()));
        was
    }

    fn is_subscribed(&self, topic: &str) -> bool {
        self.core.is_subscribed(self.slot, topic)
    }

    fn subscriptions(&self) -> Vec<String> {
        self.core.subscriptions(self.slot)
    }

    fn publish(&mut self, topic: &str, message: Message<'_>, publish: Publish<'_>) -> Result<Published, PublishError> {
        let except = publish.others.then(|| self.id());
        let outcome = self.core.shared.publish(topic, message, publish.key, except);
        self.core.watch_topic(self.slot, "topic.publish", topic, || outcome.as_ref().err().map(ToString::to_string));
        let published = outcome?;
        self.core.at(self.slot).ahead = true;
        Ok(published)
    }

    fn retry(&mut self) {
        self.retry = true;
    }

    fn defer(&mut self) -> Deferred {
        let connection = self.core.at(self.slot);
        if connection.state == State::Open {
            connection.deferred = connection.deferred.saturating_add(1);
        }
        Deferred { engine: self.core.engine.clone(), id: self.core.id(self.slot), done: false }
    }

    fn set_timer(&mut self, after: Duration, token: u64) -> bool {
        if !self.is_open() {
            return false;
        }
        // The tick that is going on has begun earlier, and the turn, too: counted from its beginning it would come early.
        let (slot, tick) = (self.slot, ticks(self.core.shared.clock.now()) + 1 + ticks_of(after));
        let connection = self.core.at(slot);
        let generation = connection.generation;
        let timers = &mut connection.rare().timers;
        if let Some(timer) = timers.iter_mut().find(|timer| timer.token == token) {
            timer.due = Some(tick);
            if timer.armed <= tick {
                return true;
            }
            timer.armed = tick;
        } else {
            if timers.len() >= TIMERS_MAX {
                timers.retain(|timer| timer.due.is_some());
            }
            if timers.len() >= TIMERS_MAX {
                return false;
            }
            timers.push(HandlerTimer { token, due: Some(tick), armed: tick });
        }
        self.core.wheel.set(Timer { tick, slot, generation, due: Due::Handler(token) });
        true
    }

    fn subject(&self) -> Option<Arc<str>> {
        self.core.subject(self.slot)
    }

    fn set_subject(&mut self, subject: Option<&str>) {
        self.core.set_subject(self.slot, subject.map(Into::into));
    }

    fn set_limits(&mut self, limits: ConnectionLimits) {
        self.core.set_limits(self.slot, Some(Box::new(limits)));
    }

    fn event(&self, key: &str, value: &mut dyn FnMut() -> serde_json::Value) {
        self.core.shared.events.emit(key, value);
    }

    fn cancel_timer(&mut self, token: u64) -> bool {
        let Some(rare) = &mut self.core.at(self.slot).rare else { return false };
        let timer = rare.timers.iter_mut().find(|timer| timer.token == token);
        timer.is_some_and(|timer| timer.due.take().is_some())
    }
}

impl Core {
    /// The handler's timer whose place in the wheel has come, if it is due; one that was moved is set anew.
    pub fn take_timer(&mut self, timer: Timer) -> Option<u64> {
        let Due::Handler(token) = timer.due else { return None };
        let rare = self.connections.get_mut(timer.slot as usize)?.rare.as_mut()?;
        let at = rare.timers.iter().position(|own| own.token == token && own.armed == timer.tick)?;
        match rare.timers[at].due {
            Some(due) if due > timer.tick => {
                rare.timers[at].armed = due;
                self.wheel.set(Timer { tick: due, ..timer });
                None
            }
            due => {
                rare.timers.swap_remove(at);
                due.map(|_| token)
            }
        }
    }

    /// Counts a publisher that has to wait for room.
    pub fn count_pause(&self) {
        self.metrics().publishers_paused.add(1);
    }

    /// Whether every inbox has room for a message of this size again.
    pub fn has_room(&self, bytes: usize) -> bool {
        let settings = &self.settings;
        let full = |inbox: &super::inbox::Inbox| {
            let waiting = inbox.depth_bytes();
            inbox.depth() >= settings.inbox_messages || (waiting > 0 && waiting + bytes > settings.inbox_bytes)
        };
        !self.shared.inboxes.0.iter().any(full) || self.shared.aborting.load(Ordering::Relaxed)
    }
}
