//! A shard: one thread, one loop, and the connections that are its own.
//!
//! A turn, in the order of [`Shard::turn`]: wait; [`read`](self::read) what sockets bring, which calls the handler; take the
//! [`inbox`] and [`fan_out`] to subscribers; tell the handler what has happened meanwhile; [`write`] what waits, once per
//! connection ([`transport`]: in the clear or through TLS); then, for a short while, see to newcomers ([`accept`], [`admission`]); run the [`timer`]s; remove what has
//! ended. [`rate`], [`memory`] and [`lifetime`] bound what a connection may send, what may wait for and from all of them
//! together, and how long they may last. [`core`] owns the state, [`connection`] is one connection, [`subscribe`] and
//! [`close`](self::close) are the beginnings and ends, [`actions`] is what a handler may do, [`command`] and [`inspect`] what
//! other threads ask, [`shared`] what all shards have in common.

mod accept;
mod actions;
pub mod admission;
mod close;
mod command;
mod connection;
mod core;
pub mod ending;
mod extensions;
mod fan_out;
pub mod inbox;
pub mod inspect;
mod lifetime;
pub mod log;
mod memory;
pub mod mirror;
mod rate;
mod read;
pub mod shared;
pub mod stop;
mod subscribe;
mod terms;
mod timer;
mod transport;
mod watch;
pub mod write;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

pub use self::accept::{NOT_TLS, bad_header, error_answer};
use self::actions::Acting;
use self::connection::{Connection, State};
pub use self::core::WAKER;
use self::core::{Call, Core, from_token};
pub use self::extensions::{agree_deflate, take_deflate};
use self::inbox::Adoption;
use self::shared::Seat;
use self::stop::Stopping;
use self::timer::{Due, TICK_MS};
pub use self::transport::begin_tls;
use crate::close::CloseCause;
use crate::engine::EngineHandle;
use crate::handler::{Closed, Context, Handler, Terms};
use crate::id::ConnectionId;
use crate::net::listener::Acceptor;
use crate::ws::deflate::Inflater;

/// Bytes read at once; one buffer serves all connections of a shard.
const SCRATCH_BYTES: usize = 64 << 10;
/// Events taken from the kernel at once: so many connections are seen to before those who wait for a publication, even if
/// thousands end at once.
const EVENTS_MAX: usize = 256;
/// How soon it is tried again to accept without a file descriptor.
const EXHAUSTED: Duration = Duration::from_millis(10);
/// How soon a message is handled again for which there was no room.
const RETRY: Duration = Duration::from_millis(1);

/// A shard with its handler.
pub struct Shard<H: Handler> {
    core: Core,
    poll: Poll,
    handler: Arc<H>,
    /// By slot.
    data: Vec<Option<H::Data>>,
    acceptors: Vec<Acceptor>,
    /// Listeners that may have more to accept than one turn takes.
    accepting: Vec<usize>,
    scratch: Vec<u8>,
    /// What is decrypted of it; empty as long as nobody speaks TLS.
    plain: Vec<u8>,
    inflater: Inflater,
    /// No file descriptor is left, not even to refuse with.
    exhausted: bool,
    stopping: Option<Stopping>,
    next_tick_at: Option<Instant>,
    next_backlog_check_at: Instant,
}

impl<H: Handler> Shard<H> {
    /// A shard that will accept from these listeners.
    ///
    /// # Errors
    /// What the kernel says to registering a listener.
    pub fn new(
        shard: u16,
        engine: EngineHandle,
        seat: Seat,
        handler: Arc<H>,
        mut acceptors: Vec<Acceptor>,
    ) -> std::io::Result<Self> {
        let Seat { poll, inbox } = seat;
        for (index, acceptor) in acceptors.iter_mut().enumerate() {
            poll.registry().register(acceptor.listener(), listener_token(index), Interest::READABLE)?;
        }
        let core = Core::new(shard, engine, poll.registry().try_clone()?, inbox);
        let tick_interval = core.settings.tick_interval;
        let ticks = shard == 0 && !tick_interval.is_zero();
        Ok(Self {
            core,
            poll,
            handler,
            data: Vec::new(),
            accepting: (0..acceptors.len()).collect(),
            acceptors,
            scratch: vec![0; SCRATCH_BYTES],
            plain: Vec::new(),
            inflater: Inflater::default(),
            exhausted: false,
            stopping: None,
            next_tick_at: ticks.then(|| Instant::now() + tick_interval),
            next_backlog_check_at: Instant::now(),
        })
    }

    /// The engine it belongs to.
    pub fn engine(&self) -> &EngineHandle {
        &self.core.engine
    }

    /// Turns until the engine has stopped.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.has_stopped() {
            let timeout = self.timeout();
            self.turn(&mut events, timeout);
        }
    }

    fn turn(&mut self, events: &mut Events, timeout: Option<Duration>) {
        self.wait(events, timeout);
        let began = self.core.shared.clock.nanos();
        if let Some(newer) = self.core.shared.newer_settings(&self.core.settings) {
            self.core.take_settings(newer);
        }
        self.core.read_budget = read::READ_BUDGET_BYTES;
        self.stop_if_asked();
        self.take_events(events);
        self.read_unread();
        self.retry_held();
        self.core.rearm();
        self.core.take_inbox();
        self.adopt();
        self.core.fan_out();
        self.call_back();
        self.core.flush_dirty();
        self.see_to_newcomers();
        self.run_timers();
        self.core.reap();
        self.core.tell_pending();
        let took = self.core.shared.clock.nanos() - began;
        self.core.metrics().turn(Duration::from_nanos(took));
    }

    /// How long to wait: not at all if there is work left.
    fn timeout(&mut self) -> Option<Duration> {
        let busy = self.core.has_work() || (!self.accepting.is_empty() && !self.exhausted);
        let may_sleep = !busy && self.core.own_inbox().may_sleep(&self.core.inbox);
        // Looked at after saying that it may sleep, as the flag is.
        if !may_sleep || self.has_to_stop() || self.core.has_granted() { Some(Duration::ZERO) } else { self.patience() }
    }

    /// Whether it has been asked to stop and has not begun to. Looked at after saying that it may sleep: who asks before
    /// that does not wake it, who asks after that does.
    fn has_to_stop(&self) -> bool {
        self.stopping.is_none() && self.core.shared.is_stopping()
    }

    /// Waits for sockets, other threads or timers.
    fn wait(&mut self, events: &mut Events, timeout: Option<Duration>) {
        if let Err(error) = self.poll.poll(events, timeout) {
            // A signal; anything else would come again at once and is not ours to repair.
            debug_assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
        }
        self.core.own_inbox().woken();
        self.core.now = self.core.shared.clock.now();
    }

    /// How long there is nothing to do but wait.
    fn patience(&self) -> Option<Duration> {
        let now = Instant::now();
        let timer = self.core.wheel.next_tick().map(|tick| {
            let due = Duration::from_millis(tick * TICK_MS);
            due.saturating_sub(Duration::from_nanos(self.core.shared.clock.nanos()))
        });
        let retry = (!self.core.retrying.is_empty()).then_some(RETRY);
        let tick = self.next_tick_at.map(|at| at.saturating_duration_since(now));
        let backlog =
            (!self.core.backlog.is_empty()).then(|| self.next_backlog_check_at.saturating_duration_since(now));
        let stopping = self.stopping.as_ref().map(|_| stop::STEP);
        let exhausted = self.exhausted.then_some(EXHAUSTED);
        let admission = self.core.admission_patience();
        [timer, retry, tick, backlog, stopping, exhausted, admission].into_iter().flatten().min()
    }

    fn take_events(&mut self, events: &Events) {
        for event in events {
            let token = event.token();
            if token == WAKER {
                continue;
            }
            if let Some(index) = listener_index(token, self.acceptors.len()) {
                if !self.accepting.contains(&index) {
                    self.accepting.push(index);
                }
                continue;
            }
            let (slot, generation) = from_token(token);
            if self.core.connection(slot, generation).is_none() {
                continue;
            }
            if event.is_error() {
                self.core.end(slot, CloseCause::PeerReset);
                continue;
            }
            if event.is_writable() {
                self.core.writable(slot);
            }
            // It comes once, perhaps together with the last bytes: reading must go on to the end.
            self.core.at(slot).hung_up |= event.is_read_closed();
            if event.is_readable() || event.is_read_closed() {
                match self.core.at(slot).state {
                    State::Head => self.core.read_again(slot),
                    _ => self.read(slot),
                }
            }
        }
    }

    /// Calls the handler for a connection; a panic closes it. `None` if there is no such connection, or it panicked.
    fn call<R>(&mut self, slot: u32, call: impl FnOnce(&H, &mut Context<'_, H::Data>) -> R) -> Option<(R, bool)> {
        let mut data = self.data.get_mut(slot as usize)?.take()?;
        let mut acting = Acting::new(&mut self.core, slot);
        let handler = &*self.handler;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut ctx = Context { actions: &mut acting, data: &mut data };
            call(handler, &mut ctx)
        }));
        let retry = acting.wants_retry();
        self.data[slot as usize] = Some(data);
        match outcome {
            Ok(result) => Some((result, retry)),
            Err(_) => {
                self.core.metrics().handler_panics.add(1);
                let cause = CloseCause::HandlerPanic;
                self.core.close(slot, cause, cause.code(), cause.text());
                None
            }
        }
    }

    /// Tells the handler what has happened while it could not be called.
    fn call_back(&mut self) {
        // What these calls lead to is told in the next turn.
        for _ in 0..self.core.calls.len() {
            let Some((id, call)) = self.core.calls.pop_front() else { return };
            let slot = id.slot;
            let generation = self.core.connections.get(slot as usize).map(|connection| connection.generation);
            if generation != Some(id.generation) {
                continue;
            }
            match call {
                Call::Close => self.say_closed(slot),
                Call::Sent(ticket, written) => {
                    self.call(slot, |handler, ctx| handler.sent(ctx, ticket, written));
                }
                Call::Resume(value) => self.resume(slot, value),
                _ if self.core.connections[slot as usize].state != State::Open => {}
                Call::Drain => {
                    self.call(slot, |handler, ctx| handler.drain(ctx));
                }
                Call::Refill => self.refilled(slot),
                Call::Told(word) => {
                    self.call(slot, |handler, ctx| handler.told(ctx, &*word));
                }
                Call::Timer(timer) => {
                    if let Some(token) = self.core.take_timer(timer) {
                        self.call(slot, |handler, ctx| handler.timer(ctx, token));
                    }
                }
            }
        }
    }

    fn say_closed(&mut self, slot: u32) {
        let closing = self.core.at(slot).rare.as_mut().and_then(|rare| rare.closing.take());
        if let Some(closing) = closing {
            let closed = Closed { cause: closing.cause, code: closing.code, reason: &closing.reason };
            self.call(slot, |handler, ctx| handler.close(ctx, &closed));
        }
        if let Some(data) = self.data.get_mut(slot as usize).and_then(Option::take) {
            // A destructor is the program's code, too.
            if catch_unwind(AssertUnwindSafe(|| drop(data))).is_err() {
                self.core.metrics().handler_panics.add(1);
            }
        }
    }

    /// A deferral has been completed: its value first, then the messages that have waited.
    fn resume(&mut self, slot: u32, value: Option<Box<dyn Any + Send>>) {
        let connection = self.core.at(slot);
        if connection.state != State::Open {
            return;
        }
        // What was deferred after the connection had ended was not counted, and is not told.
        connection.deferred -= 1;
        if let Some(value) = value {
            self.call(slot, |handler, ctx| handler.resume(ctx, value));
        }
        self.handle_stash(slot);
    }

    /// Takes over connections that were upgraded on the control plane.
    fn adopt(&mut self) {
        for Adoption { stream, tls, peer, counted, data, terms, rest } in std::mem::take(&mut self.core.adopted) {
            let Ok(data) = data.downcast::<H::Data>() else { continue };
            let stream = mio::net::TcpStream::from_std(stream);
            let mut connection = Connection::new(stream, peer, 0, self.core.tick());
            (connection.counted, connection.tls) = (counted, tls);
            let Some(slot) = self.core.insert(connection) else {
                self.core.shared.release_connection(counted.then(|| peer.ip()));
                continue;
            };
            if self.core.at(slot).kept_bytes() > 0 {
                // Perhaps the answer to the upgrade: it is the first to be written.
                self.core.outbound(slot);
                self.core.mark_dirty(slot);
            }
            self.open(slot, *data, terms, Vec::new());
            let mut rest = rest;
            self.feed(slot, &mut rest);
            self.core.read_again(slot);
        }
    }

    /// A connection becomes a WebSocket; `answer` goes out in front of what the handler sends.
    fn open(&mut self, slot: u32, data: H::Data, terms: Terms, answer: Vec<u8>) {
        if self.data.len() <= slot as usize {
            self.data.resize_with(slot as usize + 1, || None);
        }
        self.data[slot as usize] = Some(data);
        self.core.agree(slot, terms);
        self.core.watch_answer(slot, &answer);
        self.core.begin(slot, answer);
        self.core.watch(slot, "websocket.server.connection", || self.core.acquaintance(slot));
        self.call(slot, |handler, ctx| handler.open(ctx));
    }

    fn run_timers(&mut self) {
        let mut due = Vec::new();
        self.core.wheel.advance(self.core.tick(), &mut due);
        for timer in due {
            if self.core.connection(timer.slot, timer.generation).is_none() {
                continue;
            }
            match timer.due {
                Due::Check => self.core.check(timer),
                Due::Handler(_) => self.core.call(timer.slot, Call::Timer(timer)),
                Due::Refill => self.core.refill(timer),
            }
        }
        let now = Instant::now();
        if now >= self.next_backlog_check_at {
            self.next_backlog_check_at = now + write::BACKLOG_CHECK;
            self.core.expire_backlog();
        }
        if self.next_tick_at.is_some_and(|at| now >= at) {
            self.next_tick_at = Some(now + self.core.settings.tick_interval);
            let (handler, engine) = (&*self.handler, &self.core.engine);
            if catch_unwind(AssertUnwindSafe(|| handler.tick(engine))).is_err() {
                self.core.metrics().handler_panics.add(1);
            }
        }
    }
}

impl<H: Handler> Drop for Shard<H> {
    /// Connections that are left have ended, too: the handler is told, and what they waited for is counted.
    fn drop(&mut self) {
        let slots: Vec<u32> = self.core.connections.iter().map(|(slot, _)| slot as u32).collect();
        for slot in slots {
            self.core.end(slot, CloseCause::Shutdown);
        }
        self.call_back();
        self.core.reap();
    }
}

impl Core {
    /// A check of a connection has come due.
    fn check(&mut self, timer: timer::Timer) {
        let connection = &self.connections[timer.slot as usize];
        if connection.check_tick != timer.tick as u32 {
            return;
        }
        match connection.state {
            State::Head => self.check_head(timer.slot),
            State::Open => self.check_alive(timer.slot),
            State::Closing | State::Flushing | State::Lingering => self.check_closing(timer.slot),
            State::Ended => {}
        }
    }

    /// The slot of a connection that is open.
    fn open_slot(&self, id: ConnectionId) -> Option<u32> {
        self.slot(id).filter(|slot| self.connections[*slot as usize].state == State::Open)
    }
}

fn listener_token(index: usize) -> Token {
    Token(WAKER.0 - 1 - index)
}

fn listener_index(token: Token, listeners: usize) -> Option<usize> {
    let index = WAKER.0.checked_sub(token.0 + 1)?;
    (index < listeners).then_some(index)
}

#[cfg(test)]
pub mod simulation;
