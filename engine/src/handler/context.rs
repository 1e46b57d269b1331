//! A connection as its handler sees it during a call, and the words of that conversation.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ConnectionLimits;
use crate::engine::EngineHandle;
use crate::id::ConnectionId;
use crate::pubsub::{EncodingId, Position, PublishError, Published, SubscribeError, Subscribed};
use crate::ws::Message;

/// What became of a message handed to [`Context::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a dropped message is lost"]
pub enum SendOutcome {
    /// Nothing waits in front of it: it goes out with this turn's write.
    Written,
    /// It waits behind what the socket has not taken yet.
    Queued,
    /// The connection's bound of pending bytes or messages is reached: it was dropped, and counted.
    Dropped,
    /// The connection is closing.
    Closed,
}

/// What waits for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pending {
    /// Messages.
    pub messages: usize,
    /// Bytes, frame headers included.
    pub bytes: usize,
}

/// How to subscribe.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subscribe {
    /// What the publications shall look like. Default: raw.
    pub encoding: EncodingId,
    /// Asks for all that was published after this position: whole or not at all.
    pub since: Option<Position>,
    /// Asks for the last publications, as many as are kept, at most this many. Not looked at with `since`.
    pub history: usize,
}

impl Subscribe {
    /// With an encoding.
    #[must_use]
    pub fn encoding(mut self, encoding: EncodingId) -> Self {
        self.encoding = encoding;
        self
    }

    /// With recovery since a position.
    #[must_use]
    pub fn since(mut self, position: Position) -> Self {
        self.since = Some(position);
        self
    }

    /// With the last `messages` publications.
    #[must_use]
    pub fn history(mut self, messages: usize) -> Self {
        self.history = messages;
        self
    }
}

/// How to publish.
#[derive(Debug, Clone, Copy, Default)]
pub struct Publish<'a> {
    /// What the publication is the newest state of, for the policy `conflate`.
    pub key: Option<&'a str>,
    /// To all subscribers but the publishing connection.
    pub others: bool,
}

impl<'a> Publish<'a> {
    /// With a key.
    #[must_use]
    pub fn key(mut self, key: &'a str) -> Self {
        self.key = Some(key);
        self
    }

    /// To all but oneself.
    #[must_use]
    pub fn others(mut self) -> Self {
        self.others = true;
        self
    }
}

/// What is sent between a subscription's registration and what it has missed.
pub(crate) type Greeting<'a> = dyn FnMut(&Subscribed) -> Option<String> + 'a;

/// What the shard does for a handler. One implementation; a trait object, so that programs compile fast.
pub(crate) trait Actions {
    fn id(&self) -> ConnectionId;
    fn peer(&self) -> SocketAddr;
    fn age(&self) -> Duration;
    fn engine(&self) -> &EngineHandle;
    fn pending(&self) -> Pending;
    fn send(&mut self, message: Message<'_>, ticket: Option<u64>) -> SendOutcome;
    fn ping(&mut self, payload: &[u8]) -> SendOutcome;
    fn close(&mut self, code: u16, reason: &str);
    fn subscribe(
        &mut self,
        topic: &str,
        subscribe: Subscribe,
        greet: &mut Greeting<'_>,
    ) -> Result<Subscribed, SubscribeError>;
    fn unsubscribe(&mut self, topic: &str) -> bool;
    fn is_subscribed(&self, topic: &str) -> bool;
    fn subscriptions(&self) -> Vec<String>;
    fn publish(&mut self, topic: &str, message: Message<'_>, publish: Publish<'_>) -> Result<Published, PublishError>;
    fn retry(&mut self);
    fn defer(&mut self) -> Deferred;
    fn set_timer(&mut self, after: Duration, token: u64) -> bool;
    fn cancel_timer(&mut self, token: u64) -> bool;
    fn subject(&self) -> Option<Arc<str>>;
    fn set_subject(&mut self, subject: Option<&str>);
    fn set_limits(&mut self, limits: ConnectionLimits);
    fn event(&self, key: &str, value: &mut dyn FnMut() -> serde_json::Value);
}

/// A connection, as its handler sees it during one call.
pub struct Context<'a, D> {
    pub(crate) actions: &'a mut dyn Actions,
    pub(crate) data: &'a mut D,
}

impl<D> Context<'_, D> {
    /// The connection's name.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.actions.id()
    }

    /// The address of the client: of the peer, or what a trusted proxy says it is (port 0 if it does not say).
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.actions.peer()
    }

    /// How long ago it was accepted.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.actions.age()
    }

    /// What the program keeps for this connection.
    #[must_use]
    pub fn data(&mut self) -> &mut D {
        self.data
    }

    /// The engine, for what concerns other connections.
    #[must_use]
    pub fn engine(&self) -> &EngineHandle {
        self.actions.engine()
    }

    /// What waits for this connection.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.actions.pending()
    }

    /// Sends a message to this connection. A connection sees what its handler does in the order it was done: what is sent
    /// after a publication to a topic it subscribes to arrives after it.
    pub fn send<'m>(&mut self, message: impl Into<Message<'m>>) -> SendOutcome {
        self.actions.send(message.into(), None)
    }

    /// Sends a message; [`Handler::sent`] tells once when the kernel has taken the whole of it, or that this had not happened
    /// when the connection ended. It is not called for [`SendOutcome::Dropped`] and [`SendOutcome::Closed`].
    ///
    /// [`Handler::sent`]: super::Handler::sent
    pub fn send_tracked<'m>(&mut self, message: impl Into<Message<'m>>, ticket: u64) -> SendOutcome {
        self.actions.send(message.into(), Some(ticket))
    }

    /// Sends a ping with a payload of at most 125 bytes (longer ones are cut).
    pub fn ping(&mut self, payload: &[u8]) -> SendOutcome {
        self.actions.ping(payload)
    }

    /// Closes the connection after all that waits has been written. A code that may not be sent (RFC 6455 section 7.4)
    /// becomes 1000; a reason is cut to 123 bytes.
    pub fn close(&mut self, code: u16, reason: &str) {
        self.actions.close(code, reason);
    }

    /// Subscribes to a topic or a pattern. What was missed (`since`, `history`) is sent after what this call of the handler
    /// has sent so far and before anything newer. Subscribing again changes nothing and says so.
    ///
    /// # Errors
    /// See [`SubscribeError`].
    pub fn subscribe(&mut self, topic: &str, subscribe: Subscribe) -> Result<Subscribed, SubscribeError> {
        self.actions.subscribe(topic, subscribe, &mut |_| None)
    }

    /// Subscribes, and sends the text that `greet` makes of the outcome before anything of the topic: the place for an
    /// answer that tells the client what follows.
    ///
    /// # Errors
    /// See [`SubscribeError`]; `greet` is then not called.
    pub fn subscribe_with(
        &mut self,
        topic: &str,
        subscribe: Subscribe,
        greet: &mut dyn FnMut(&Subscribed) -> Option<String>,
    ) -> Result<Subscribed, SubscribeError> {
        self.actions.subscribe(topic, subscribe, greet)
    }

    /// Ends a subscription to a topic or pattern; what waits of it is dropped, and counted. False if there was none.
    pub fn unsubscribe(&mut self, topic: &str) -> bool {
        self.actions.unsubscribe(topic)
    }

    /// Whether this very topic or pattern is subscribed to.
    #[must_use]
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.actions.is_subscribed(topic)
    }

    /// The topics and patterns subscribed to.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<String> {
        self.actions.subscriptions()
    }

    /// Publishes to all subscribers of a topic, this connection included if it is one.
    ///
    /// # Errors
    /// See [`PublishError`]. On [`PublishError::Overloaded`], [`retry`](Self::retry) makes the peer wait.
    pub fn publish<'m>(&mut self, topic: &str, message: impl Into<Message<'m>>) -> Result<Published, PublishError> {
        self.actions.publish(topic, message.into(), Publish::default())
    }

    /// Publishes to all subscribers of a topic but this connection.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_others<'m>(
        &mut self,
        topic: &str,
        message: impl Into<Message<'m>>,
    ) -> Result<Published, PublishError> {
        self.actions.publish(topic, message.into(), Publish::default().others())
    }

    /// Publishes with a key, or without oneself.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish_with<'m>(
        &mut self,
        topic: &str,
        message: impl Into<Message<'m>>,
        publish: Publish<'_>,
    ) -> Result<Published, PublishError> {
        self.actions.publish(topic, message.into(), publish)
    }

    /// Asks to be given the present message again when there may be room: until then nothing more is read from this
    /// connection, so that its peer feels the backpressure. Of use in [`Handler::message`] only.
    ///
    /// [`Handler::message`]: super::Handler::message
    pub fn retry(&mut self) {
        self.actions.retry();
    }

    /// Lets another thread finish what takes long: messages of this connection wait, in order, until the [`Deferred`] is
    /// completed or dropped; then [`Handler::resume`] is called with its value (not if it was dropped). Several deferrals are
    /// all waited for.
    ///
    /// [`Handler::resume`]: super::Handler::resume
    #[must_use]
    pub fn defer(&mut self) -> Deferred {
        self.actions.defer()
    }

    /// Calls [`Handler::timer`] with this token after a while: never early, and up to two of the timer wheel's ticks of 4 ms
    /// late. Setting a token again
    /// moves its timer. False if the connection is closing or has 16 timers already.
    ///
    /// [`Handler::timer`]: super::Handler::timer
    pub fn set_timer(&mut self, after: Duration, token: u64) -> bool {
        self.actions.set_timer(after, token)
    }

    /// Whose connection it is, if that was said.
    #[must_use]
    pub fn subject(&self) -> Option<Arc<str>> {
        self.actions.subject()
    }

    /// Says whose connection it is, or that it is nobody's: a name of the program's own, such as a user's. Connections are
    /// found and closed by it.
    pub fn set_subject(&mut self, subject: Option<&str>) {
        self.actions.set_subject(subject);
    }

    /// Gives the connection limits that differ from the settings, in the place of those it had.
    pub fn set_limits(&mut self, limits: ConnectionLimits) {
        self.actions.set_limits(limits);
    }

    /// Tells the event log something of the program's own, see [`events`](crate::events). The value is only made if somebody
    /// watches.
    pub fn event(&self, key: &str, value: impl FnOnce() -> serde_json::Value) {
        let mut value = Some(value);
        self.actions.event(key, &mut || value.take().map(|value| value()).unwrap_or_default());
    }

    /// Cancels the timer with this token. False if there was none.
    pub fn cancel_timer(&mut self, token: u64) -> bool {
        self.actions.cancel_timer(token)
    }
}

/// The promise to finish later, from any thread, what a handler has begun.
#[derive(Debug)]
pub struct Deferred {
    pub(crate) engine: EngineHandle,
    pub(crate) id: ConnectionId,
    pub(crate) done: bool,
}

impl Deferred {
    /// The connection that waits.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.id
    }

    /// Finishes: [`Handler::resume`] is called with the value, and waiting messages go on.
    ///
    /// [`Handler::resume`]: super::Handler::resume
    pub fn complete(mut self, value: impl Any + Send) {
        self.done = true;
        self.engine.resume(self.id, Some(Box::new(value)));
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if !self.done {
            self.engine.resume(self.id, None);
        }
    }
}
