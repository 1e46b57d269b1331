//! The embedding API: what a program implements ([`Handler`]), what it is given ([`Upgrade`], [`Context`]), what it answers
//! ([`Decision`]).
//!
//! A handler is shared by all shards and called on the shard that owns the connection, one call at a time per connection.
//! Nothing a handler does through its [`Context`] calls a handler again before the present call has returned, and a panic in
//! one closes that connection (1011) and is counted, no more. Handlers should not block: [`Context::defer`] lets another
//! thread finish what takes long while that connection's messages wait in order.

use std::any::Any;
use std::net::SocketAddr;
use std::time::Duration;

use crate::close::CloseCause;
use crate::engine::EngineHandle;
use crate::id::ConnectionId;
use crate::pubsub::{EncodingId, Position, PublishError, Published, SubscribeError, Subscribed};
use crate::ws::{Message, handshake};

/// The program on top of the engine. Only [`upgrade`](Handler::upgrade) and, nearly always,
/// [`message`](Handler::message) need to be written.
#[allow(unused_variables)]
pub trait Handler: Send + Sync + 'static {
    /// What the program keeps for each connection.
    type Data: Send + 'static;

    /// Decides whether an upgrade becomes a connection. Called before anything is answered; on a shard, or on the control
    /// thread for an upgrade on a connection that has carried HTTP before.
    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<Self::Data>;

    /// The connection is open; what is sent here comes right behind the answer to the upgrade.
    fn open(&self, ctx: &mut Context<'_, Self::Data>) {}

    /// A whole message has arrived.
    fn message(&self, ctx: &mut Context<'_, Self::Data>, message: Message<'_>) {}

    /// What waited for this connection has been written: it is no longer behind.
    fn drain(&self, ctx: &mut Context<'_, Self::Data>) {}

    /// A ping has arrived; the pong is sent by the engine.
    fn ping(&self, ctx: &mut Context<'_, Self::Data>, payload: &[u8]) {}

    /// A pong has arrived.
    fn pong(&self, ctx: &mut Context<'_, Self::Data>, payload: &[u8]) {}

    /// What became of a message sent with [`Context::send_tracked`]: the kernel has taken the whole of it, or it had not when
    /// the connection ended (then it is called right before [`close`](Handler::close)).
    fn sent(&self, ctx: &mut Context<'_, Self::Data>, ticket: u64, written: bool) {}

    /// A timer set with [`Context::set_timer`] has run out.
    fn timer(&self, ctx: &mut Context<'_, Self::Data>, token: u64) {}

    /// What was deferred with [`Context::defer`] has been completed with this value.
    fn resume(&self, ctx: &mut Context<'_, Self::Data>, value: Box<dyn Any + Send>) {}

    /// The connection has ended. Sending is no longer possible; its subscriptions have already ended.
    fn close(&self, ctx: &mut Context<'_, Self::Data>, closed: &Closed<'_>) {}

    /// Called every `tick_interval` (see `Settings`), on the first shard.
    fn tick(&self, engine: &EngineHandle) {}
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed<'a> {
    /// Why, as the engine saw it.
    pub cause: CloseCause,
    /// The close code: the peer's if it closed first, else the one sent; 1005 for a Close frame without a code, 1006 if
    /// there was no Close frame (RFC 6455 section 7.1.5).
    pub code: u16,
    /// The reason in that Close frame.
    pub reason: &'a str,
}

/// A request to become a WebSocket, before it is answered.
#[derive(Debug)]
pub struct Upgrade<'a> {
    pub(crate) request: handshake::Request<'a>,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) id: Option<ConnectionId>,
}

impl<'a> Upgrade<'a> {
    /// The path of the target, as sent (not percent-decoded), without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.request.path()
    }

    /// The path, percent-decoded; `None` if that is not UTF-8.
    #[must_use]
    pub fn path_decoded(&self) -> Option<String> {
        percent_encoding::percent_decode_str(self.path()).decode_utf8().ok().map(Into::into)
    }

    /// The query, as sent, without the `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.request.query()
    }

    /// The first value of a query parameter, decoded (`+` and percent).
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        query_value(self.query().unwrap_or(""), name)
    }

    /// The first header of this name (case does not matter), if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.header(name)
    }

    /// All headers as sent, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.request.headers.iter().map(|header| (header.name, header.value))
    }

    /// The value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        self.request.cookie(name)
    }

    /// The subprotocols offered, in order.
    pub fn protocols(&self) -> impl Iterator<Item = &str> {
        self.request.protocols()
    }

    /// The first offered subprotocol that is among `supported`.
    #[must_use]
    pub fn choose_protocol<'p>(&self, supported: &[&'p str]) -> Option<&'p str> {
        handshake::choose_protocol(self.protocols(), supported)
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address it connected to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The connection's name, if it is accepted; `None` for an upgrade on a connection that has carried HTTP before.
    #[must_use]
    pub fn id(&self) -> Option<ConnectionId> {
        self.id
    }
}

/// The first value of a query parameter, decoded.
#[must_use]
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// What becomes of an upgrade.
#[derive(Debug)]
#[must_use]
pub enum Decision<D> {
    /// It becomes a connection.
    Accept(Accept<D>),
    /// It is answered and closed.
    Refuse(Refusal),
}

impl<D> Decision<D> {
    /// Accepts, with this data for the connection.
    pub fn accept(data: D) -> Self {
        Accept::new(data).into()
    }

    /// Refuses, with an HTTP status and a text.
    pub fn refuse(status: u16, text: &str) -> Self {
        Refusal::new(status).text(text).into()
    }
}

/// An accepted upgrade: per-connection data, subprotocol, extra headers of the answer.
#[derive(Debug)]
pub struct Accept<D> {
    pub(crate) data: D,
    pub(crate) protocol: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
}

impl<D> Accept<D> {
    /// Accepts, with this data for the connection.
    pub fn new(data: D) -> Self {
        Self { data, protocol: None, headers: Vec::new() }
    }

    /// Names the subprotocol, if any was chosen. One that was not offered is left out of the answer, as RFC 6455 section
    /// 4.2.2 demands.
    #[must_use]
    pub fn protocol(mut self, protocol: Option<&str>) -> Self {
        self.protocol = protocol.map(Into::into);
        self
    }

    /// Adds a header to the answer. One that is no valid header makes the upgrade fail with 500, counted as a refusal.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

impl<D> From<Accept<D>> for Decision<D> {
    fn from(accept: Accept<D>) -> Self {
        Self::Accept(accept)
    }
}

/// A refused upgrade: the HTTP answer.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Refusal {
    /// Refuses with this HTTP status (300 to 599; anything else becomes 500) and no body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        let status = if (300..600).contains(&status) { status } else { 500 };
        Self { status, headers: Vec::new(), content_type: "text/plain; charset=utf-8", body: Vec::new() }
    }

    /// A plain text as body.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.body = text.into();
        self
    }

    /// The JSON error body of the HTTP API: `{"code","message"}`.
    #[must_use]
    pub fn error(mut self, code: &str, message: &str) -> Self {
        self.content_type = "application/json";
        self.body = serde_json::json!({ "code": code, "message": message }).to_string().into();
        self
    }

    /// Adds a header to the answer; ignored if it is no valid header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if handshake::is_header_name(name) && handshake::is_header_value(value) {
            self.headers.push((name.into(), value.into()));
        }
        self
    }
}

impl<D> From<Refusal> for Decision<D> {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

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

    /// The address of the peer.
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
    pub fn retry(&mut self) {
        self.actions.retry();
    }

    /// Lets another thread finish what takes long: messages of this connection wait, in order, until the [`Deferred`] is
    /// completed or dropped; then [`Handler::resume`] is called with its value (not if it was dropped). Several deferrals are
    /// all waited for.
    #[must_use]
    pub fn defer(&mut self) -> Deferred {
        self.actions.defer()
    }

    /// Calls [`Handler::timer`] with this token after a while: never early, and up to two of the timer wheel's ticks of 4 ms
    /// late. Setting a token again
    /// moves its timer. False if the connection is closing or has 16 timers already.
    pub fn set_timer(&mut self, after: Duration, token: u64) -> bool {
        self.actions.set_timer(after, token)
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
