//! One connection as its shard keeps it. Small on purpose: what is rare is boxed, and an idle connection owns no buffer.

use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use mio::net::TcpStream;
use smallvec::SmallVec;

use super::rate::Rates;
use crate::close::CloseCause;
use crate::config::ConnectionLimits;
use crate::handler::Pending;
use crate::net::tls::TlsSession;
use crate::pubsub::outbound::Outbound;
use crate::pubsub::{EncodingId, Pattern};
use crate::ws::Opcode;
use crate::ws::deflate::Window;
use crate::ws::session::{Role, Session};

/// Where a connection stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The head of the first request is not complete.
    Head,
    /// A WebSocket.
    Open,
    /// A Close frame is sent or queued; the peer's has not come.
    Closing,
    /// Both Close frames are sent or queued: what waits is written, then the socket is closed.
    Flushing,
    /// All is written and our side is shut; what still comes is thrown away, so that the last bytes are not lost to a reset.
    Lingering,
    /// It will be removed at the end of the turn.
    Ended,
}

/// A connection's subscription to one topic.
#[derive(Debug, Clone, Copy)]
pub struct Subscription {
    /// The shard's entry of the topic.
    pub fanout: u32,
    /// The index among the subscribers there.
    pub index: u32,
    /// How many of the connection's patterns match it.
    pub patterns: u16,
    /// Whether it was subscribed to by its own name.
    pub explicit: bool,
}

/// So many subscriptions of one connection are found through an index.
const INDEXED_MIN: usize = if cfg!(test) { 4 } else { 64 };

/// What was read but may not be handled yet.
#[derive(Debug, Default)]
pub struct Stash {
    /// A message the handler wants to be given again.
    pub message: Option<(Opcode, Vec<u8>)>,
    /// Bytes behind it, of which those before `at` have been handled.
    pub bytes: Vec<u8>,
    /// See `bytes`.
    pub at: usize,
}

impl Stash {
    /// Bytes of memory held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.message.as_ref().map_or(0, |(_, payload)| payload.capacity()) + self.bytes.capacity()
    }
}

/// How a connection closes.
#[derive(Debug)]
pub struct Closing {
    /// Why.
    pub cause: CloseCause,
    /// The code of the first Close frame.
    pub code: u16,
    /// Its reason.
    pub reason: String,
}

/// A timer of the handler. Moving it later leaves its place in the wheel: when that comes, it is set anew.
#[derive(Debug, Clone, Copy)]
pub struct HandlerTimer {
    /// The handler's name for it.
    pub token: u64,
    /// When it is due, in ticks; `None` if it was cancelled.
    pub due: Option<u64>,
    /// Where it is in the wheel.
    pub armed: u64,
}

/// What few connections have.
#[derive(Debug, Default)]
pub struct Rare {
    /// An incomplete head.
    pub head: Vec<u8>,
    /// Unhandled input of a paused connection.
    pub stash: Option<Stash>,
    /// How many bytes of it are counted among all that is held.
    pub stash_booked: usize,
    /// How it closes.
    pub closing: Option<Closing>,
    /// Where the subscription at an entry of the shard is, for those who have many.
    pub places: Option<HashMap<u32, u32>>,
    /// Pattern subscriptions.
    pub patterns: Vec<(Pattern, EncodingId)>,
    /// Whose it is.
    pub subject: Option<Arc<str>>,
    /// Limits of its own.
    pub limits: Option<Box<ConnectionLimits>>,
    /// Tickets of messages that are encrypted, of which the socket has not taken all.
    pub unconfirmed: Vec<u64>,
    /// The handler's timers.
    pub timers: SmallVec<[HandlerTimer; 1]>,
}

/// What is known of the PROXY header in front of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// None is asked for, or the proxy has spoken for itself.
    None,
    /// It is still to come, whole or in part.
    Awaited,
    /// It was there: the connection is somebody's behind the proxy.
    Seen,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub generation: u32,
    pub state: State,
    /// The socket took less than it was given; it will tell when it takes more.
    pub blocked: bool,
    /// On the list of connections to be flushed.
    pub dirty: bool,
    /// On the list of sockets that may have more to read.
    pub unread: bool,
    /// How many deferrals are not completed yet: no messages until there are none.
    pub deferred: u32,
    /// A message waits to be handled again.
    pub retrying: bool,
    /// Was blocked since its queue was last empty: the handler is told when it is.
    pub behind: bool,
    /// The kernel has said that the peer ends its side; what it has sent before is still to be read.
    pub hung_up: bool,
    /// Its handler has published something that it may have to get before anything else.
    pub ahead: bool,
    /// Has sent more than its rates allow, and is not read from until it may send again.
    pub throttled: bool,
    /// All has been read: the peer has ended its side.
    pub read_closed: bool,
    /// Counted at the gate as one whose first request is not complete.
    pub inside: bool,
    /// Counted among the connections of its client's address, which is `peer`.
    pub counted: bool,
    pub proxy_header: ProxyHeader,
    /// What it has room for when it inflates, if permessage-deflate was agreed on.
    pub window: Option<Window>,
    /// `None` in the clear.
    pub tls: Option<Box<TlsSession>>,
    pub session: Session,
    pub outbound: Option<Box<Outbound>>,
    pub subscriptions: SmallVec<[Subscription; 1]>,
    /// Bytes read from the socket.
    pub bytes_in: u64,
    /// Bytes the socket has taken.
    pub bytes_out: u64,
    /// Whole messages received.
    pub messages_in: u32,
    pub rare: Option<Box<Rare>>,
    /// How much it has sent of late, if that is limited.
    pub rates: Option<Box<Rates>>,
    /// Ticks, wrapping.
    pub accepted_tick: u32,
    pub read_tick: u32,
    /// When the last whole message came.
    pub message_tick: u32,
    pub pinged_tick: u32,
    /// The tick for which the connection's next check is set; checks set earlier are void.
    pub check_tick: u32,
    /// The client: the peer of the socket, or whom a trusted proxy names.
    pub peer: SocketAddr,
}

/// What an idle connection costs besides its socket: part of the promise of 600 bytes.
const _: () = assert!(std::mem::size_of::<Connection>() <= 184);

impl Connection {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(stream: TcpStream, peer: SocketAddr, generation: u32, tick: u64) -> Self {
        Self {
            stream,
            generation,
            state: State::Head,
            blocked: false,
            dirty: false,
            unread: false,
            deferred: 0,
            retrying: false,
            behind: false,
            hung_up: false,
            ahead: false,
            throttled: false,
            read_closed: false,
            inside: false,
            counted: false,
            proxy_header: ProxyHeader::None,
            window: None,
            tls: None,
            session: Session::new(Role::Server),
            outbound: None,
            subscriptions: SmallVec::new(),
            bytes_in: 0,
            bytes_out: 0,
            messages_in: 0,
            rare: None,
            rates: None,
            accepted_tick: tick as u32,
            read_tick: tick as u32,
            message_tick: tick as u32,
            pinged_tick: tick as u32,
            check_tick: tick as u32,
            peer,
        }
    }

    /// Limits of its own, if it has any.
    #[must_use]
    pub fn limits(&self) -> Option<&ConnectionLimits> {
        self.rare.as_ref()?.limits.as_deref()
    }

    /// Bytes held of messages half received or not yet handled.
    #[cfg(test)]
    pub fn inbound_bytes(&self) -> usize {
        let stash = self.rare.as_ref().and_then(|rare| rare.stash.as_ref());
        let tls = self.tls.as_ref().map_or(0, |tls| tls.held_bytes());
        tls + self.session.held_bytes() + stash.map_or(0, Stash::held_bytes)
    }

    /// Ciphertext that its socket has not taken, in bytes.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.kept_bytes().len())
    }

    /// What waits to be written, ciphertext included.
    #[must_use]
    pub fn pending(&self) -> Pending {
        let queued = self.outbound.as_ref().map(|o| Pending { messages: o.messages(), bytes: o.bytes() });
        let mut pending = queued.unwrap_or_default();
        pending.bytes += self.kept_bytes();
        pending
    }

    /// What few connections have; made when first needed.
    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether messages may be handled now.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.deferred > 0 || self.retrying || self.throttled
    }

    /// Whether something was read that has not been handled yet.
    #[must_use]
    pub fn has_stash(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.stash.is_some())
    }

    /// The subscription at an entry of the shard.
    pub fn subscription(&mut self, fanout: u32) -> Option<&mut Subscription> {
        let place = self.place_of(fanout)?;
        self.subscriptions.get_mut(place)
    }

    /// Where the subscription at an entry of the shard is kept. Few are looked through, many have an index.
    #[must_use]
    pub fn place_of(&self, fanout: u32) -> Option<usize> {
        match self.rare.as_ref().and_then(|rare| rare.places.as_ref()) {
            Some(places) => places.get(&fanout).map(|place| *place as usize),
            None => self.subscriptions.iter().position(|subscription| subscription.fanout == fanout),
        }
    }

    /// A subscription is about to be, or has been, put at a place.
    pub fn note_place(&mut self, fanout: u32, place: u32) {
        if self.subscriptions.len() < INDEXED_MIN && self.rare.as_ref().is_none_or(|rare| rare.places.is_none()) {
            return;
        }
        let Self { rare, subscriptions, .. } = self;
        let places = rare.get_or_insert_default().places.get_or_insert_with(|| {
            subscriptions.iter().enumerate().map(|(place, own)| (own.fanout, place as u32)).collect()
        });
        places.insert(fanout, place);
    }

    /// A subscription has been taken out.
    pub fn forget_place(&mut self, fanout: u32) {
        if let Some(places) = self.rare.as_mut().and_then(|rare| rare.places.as_mut()) {
            places.remove(&fanout);
        }
    }
}
