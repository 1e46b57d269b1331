//! The embedding API: what a program implements ([`Handler`]), what it is given ([`Upgrade`], [`Context`]), what it answers
//! ([`Decision`]).
//!
//! A handler is shared by all shards and called on the shard that owns the connection, one call at a time per connection.
//! Nothing a handler does through its [`Context`] calls a handler again before the present call has returned, and a panic in
//! one closes that connection (1011) and is counted, no more. Handlers should not block: [`Context::defer`] lets another
//! thread finish what takes long while that connection's messages wait in order.

mod context;
mod upgrade;

use std::any::Any;

pub(crate) use self::context::{Actions, Greeting};
pub use self::context::{Context, Deferred, Pending, Publish, SendOutcome, Subscribe};
pub(crate) use self::upgrade::Terms;
pub use self::upgrade::{Accept, Decision, Later, Refusal, Upgrade};
use crate::close::CloseCause;
use crate::engine::EngineHandle;
use crate::ws::Message;

/// The program on top of the engine. Only [`upgrade`](Handler::upgrade) and, nearly always,
/// [`message`](Handler::message) need to be written.
#[allow(unused_variables)]
pub trait Handler: Send + Sync + 'static {
    /// What the program keeps for each connection.
    type Data: Send + 'static;

    /// Decides whether an upgrade becomes a connection. Called before anything is answered; on a shard, or on the control
    /// thread for an upgrade on a connection that has carried HTTP before. After [`Decision::Later`] it is called once more,
    /// on the control thread, where the answer is waited for.
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

    /// The program says something to this connection: with [`EngineHandle::tell`] or [`EngineHandle::tell_subject`].
    fn told(&self, ctx: &mut Context<'_, Self::Data>, word: &(dyn Any + Send + Sync)) {}

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
