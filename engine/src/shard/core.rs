//! What a shard owns, but for the handler and its data: connections, topics' shares, timers, lists of what is to be done.
//! Everything that does not call the handler happens here; what the handler is to be told is put on [`Core::calls`].

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use hashbrown::HashMap;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::admission::Admission;
use super::connection::{Connection, State};
use super::inbox::{Adoption, Inbox, Item, Word};
use super::log::CauseLog;
use super::shared::Shared;
use super::timer::{Due, TICK_MS, Timer, Wheel};
use super::transport::Sealing;
use crate::config::Settings;
use crate::engine::EngineHandle;
use crate::id::ConnectionId;
use crate::metrics::ShardMetrics;
use crate::pubsub::fanout::{Buffers, Fanout};
use crate::pubsub::form::Deflater;
use crate::pubsub::outbound::Outbound;
use crate::pubsub::publication::Now;

/// The token of the waker; those of listeners follow it downwards.
pub const WAKER: Token = Token(usize::MAX);
const GENERATION_BITS: u32 = 24;
/// Queues kept for the next connection that falls behind.
const POOL_MAX: usize = 256;

/// Something the handler is to be told, once nothing of the shard is in use.
#[derive(Debug)]
pub enum Call {
    /// The queue is empty again.
    Drain,
    /// A tracked message was written, or never will be.
    Sent(u64, bool),
    /// A timer has run out, unless it is cancelled before the handler is told.
    Timer(Timer),
    /// A connection that has sent too fast may be read from again.
    Refill,
    /// The program says something to it.
    Told(Word),
    /// A deferral has been completed.
    Resume(Option<Box<dyn Any + Send>>),
    /// The connection has ended.
    Close,
}

/// A shard's state.
pub struct Core {
    pub shard: u16,
    pub engine: EngineHandle,
    pub shared: Arc<Shared>,
    /// What [`Shared::settings`] held when the turn began.
    pub settings: Arc<Settings>,
    pub registry: Registry,
    pub inbox: Receiver<Item>,
    pub connections: Slab<Connection>,
    /// By slot; the generation of its present or next connection.
    pub generations: Vec<u32>,
    pub fanouts: Slab<Fanout>,
    /// The slots of open connections by whose they are.
    pub subjects: HashMap<Arc<str>, BTreeSet<u32>>,
    /// Entries of `fanouts` with visits to make.
    pub listed: VecDeque<u32>,
    /// Connections with something new in their queue.
    pub dirty: Vec<u32>,
    /// Sockets that may have more to read than one turn takes.
    pub unread: VecDeque<(u32, u32)>,
    /// Those of them whose head is not complete: they have to wait until the others have been served.
    pub newcomers: VecDeque<(u32, u32)>,
    /// Those who are no connections yet, or not any more.
    pub admission: Admission,
    /// Connections that are behind, some of them perhaps no more.
    pub backlog: Vec<(u32, u32)>,
    /// Connections whose message is to be handled again.
    pub retrying: Vec<(u32, u32)>,
    pub calls: VecDeque<(ConnectionId, Call)>,
    /// Connections to take over.
    pub adopted: Vec<Adoption>,
    /// Connections to be removed at the end of the turn.
    pub ended: Vec<u32>,
    pub wheel: Wheel,
    pub now: Now,
    /// What of each cause has been logged lately.
    pub causes: CauseLog,
    /// The first slot of those whose checks are still to be set anew, after settings have changed.
    pub rearming: Option<usize>,
    /// By how much the bytes that wait for this shard's connections have changed since all were told.
    pub pending_delta: isize,
    /// Bytes that may still be read in this turn.
    pub read_budget: usize,
    /// Buffers for what is encrypted.
    pub sealing: Sealing,
    /// Buffers for batches that are not in use.
    pub spare: Vec<Buffers>,
    /// Compresses for all connections of the shard.
    pub deflater: Deflater,
    /// Boxed as in the connections, so that a queue changes hands by its pointer.
    #[allow(clippy::vec_box)]
    pool: Vec<Box<Outbound>>,
}

impl Core {
    pub fn new(shard: u16, engine: EngineHandle, registry: Registry, inbox: Receiver<Item>) -> Self {
        let shared = engine.shared().clone();
        let now = shared.clock.now();
        let settings = shared.settings();
        let deflater = Deflater::new(settings.deflate_level);
        Self {
            shard,
            engine,
            shared,
            settings,
            registry,
            inbox,
            connections: Slab::new(),
            generations: Vec::new(),
            fanouts: Slab::new(),
            subjects: HashMap::new(),
            listed: VecDeque::new(),
            dirty: Vec::new(),
            unread: VecDeque::new(),
            newcomers: VecDeque::new(),
            admission: Admission::default(),
            backlog: Vec::new(),
            retrying: Vec::new(),
            calls: VecDeque::new(),
            adopted: Vec::new(),
            ended: Vec::new(),
            wheel: Wheel::new(ticks(now)),
            now,
            causes: CauseLog::default(),
            rearming: None,
            pending_delta: 0,
            read_budget: 0,
            sealing: Sealing::default(),
            spare: Vec::new(),
            deflater,
            pool: Vec::new(),
        }
    }

    pub fn metrics(&self) -> &ShardMetrics {
        &self.shared.metrics[usize::from(self.shard)]
    }

    pub fn own_inbox(&self) -> &Inbox {
        &self.shared.inboxes.0[usize::from(self.shard)]
    }

    pub fn tick(&self) -> u64 {
        ticks(self.now)
    }

    /// The name of a slot's present connection.
    pub fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId { shard: self.shard, slot, generation: self.generations[slot as usize] }
    }

    /// The slot of a connection that is still there.
    pub fn slot(&self, id: ConnectionId) -> Option<u32> {
        (id.shard == self.shard).then_some(())?;
        self.connection(id.slot, id.generation).map(|_| id.slot)
    }

    pub fn connection(&self, slot: u32, generation: u32) -> Option<&Connection> {
        self.connections
            .get(slot as usize)
            .filter(|connection| connection.generation == generation && connection.state != State::Ended)
    }

    pub fn at(&mut self, slot: u32) -> &mut Connection {
        &mut self.connections[slot as usize]
    }

    /// Adds a connection and registers its socket, once, for both directions.
    pub fn insert(&mut self, mut connection: Connection) -> Option<u32> {
        let entry = self.connections.vacant_entry();
        let slot = entry.key() as u32;
        if self.generations.len() <= slot as usize {
            self.generations.resize(slot as usize + 1, 0);
        }
        connection.generation = self.generations[slot as usize];
        let token = token(slot, connection.generation);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self.registry.register(&mut connection.stream, token, interest).is_err() {
            return None;
        }
        let (held, speaks_tls) = connection.tls.as_ref().map_or((0, false), |tls| (tls.held_bytes(), true));
        entry.insert(connection);
        self.book_inbound(0, held);
        self.metrics().tls_connections.add(u64::from(speaks_tls));
        self.metrics().connections.add(1);
        self.watch(
            slot,
            "server.socket.new",
            || serde_json::json!({ "peer": self.connections[slot as usize].peer.to_string() }),
        );
        Some(slot)
    }

    /// Removes what has ended. Slots are free for others only now: events of this turn may still have named them.
    pub fn reap(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        for slot in ended {
            let connection = &self.connections[slot as usize];
            if connection.rare.as_ref().is_some_and(|rare| rare.closing.is_some()) {
                // The handler is still to be told.
                self.ended.push(slot);
                continue;
            }
            let connection = self.connections.remove(slot as usize);
            self.generations[slot as usize] = (connection.generation + 1) & ((1 << GENERATION_BITS) - 1);
            self.metrics().connections.sub(1);
            self.shared.release_connection(connection.counted.then(|| connection.peer.ip()));
        }
    }

    /// Has the connection looked at again after a while, and not before.
    pub fn check_after(&mut self, slot: u32, after: Duration) {
        self.check_at(slot, self.tick() + ticks_of(after));
    }

    /// Has the connection looked at again at a tick, and not before.
    pub fn check_at(&mut self, slot: u32, tick: u64) {
        let connection = self.at(slot);
        connection.check_tick = tick as u32;
        let generation = connection.generation;
        self.wheel.set(Timer { tick, slot, generation, due: Due::Check });
    }

    pub fn call(&mut self, slot: u32, call: Call) {
        let id = self.id(slot);
        self.calls.push_back((id, call));
    }

    /// The connection's queue, made if there is none.
    pub fn outbound(&mut self, slot: u32) -> &mut Outbound {
        let connection = &mut self.connections[slot as usize];
        connection.outbound.get_or_insert_with(|| self.pool.pop().unwrap_or_default())
    }

    /// Takes an empty queue back.
    pub fn release_outbound(&mut self, slot: u32) {
        self.unbook_pending(slot);
        if let Some(mut outbound) = self.connections[slot as usize].outbound.take()
            && self.pool.len() < POOL_MAX
        {
            outbound.reset();
            self.pool.push(outbound);
        }
    }

    /// Puts a connection on the list of those to be flushed.
    pub fn mark_dirty(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if !connection.dirty && !connection.blocked {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Whether there is something to do without waiting for anything.
    pub fn has_work(&self) -> bool {
        !(self.listed.is_empty()
            && self.dirty.is_empty()
            && self.unread.is_empty()
            && self.newcomers.is_empty()
            && self.calls.is_empty()
            && self.adopted.is_empty()
            && self.ended.is_empty()
            && self.rearming.is_none())
    }
}

/// The ticks of a moment.
pub fn ticks(now: Now) -> u64 {
    now.nanos / (TICK_MS * 1_000_000)
}

/// A duration in ticks, rounded up; at least one.
pub fn ticks_of(duration: Duration) -> u64 {
    (duration.as_millis() as u64).div_ceil(TICK_MS).max(1)
}

/// The token of a connection: slot and generation, so that a late event never means the slot's next owner.
pub fn token(slot: u32, generation: u32) -> Token {
    Token((generation as usize) << 32 | slot as usize)
}

/// Slot and generation of a token.
pub fn from_token(token: Token) -> (u32, u32) {
    (token.0 as u32, (token.0 >> 32) as u32)
}
