//! What other threads may know of a shard's connections. Every look is bounded: so many slots at a time, and then it says
//! where to go on, so that no question holds up deliveries, however many connections there are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::connection::{Connection, State};
use super::core::Core;
use super::timer::TICK_MS;
use crate::handler::Pending;
use crate::id::ConnectionId;
use crate::pubsub::name;

/// Slots looked at for one command: some 0.1 ms.
pub const LOOKS_MAX: usize = 4096;
/// The most names of subscriptions told of one connection.
pub const NAMES_MAX: usize = 1000;

/// Where a connection stands, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// It is a WebSocket.
    Open,
    /// Its closing has begun: a Close frame is sent, or waits behind what is still to be written.
    Closing,
}

impl ConnectionState {
    /// The name in answers: `open` or `closing`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
        }
    }
}

/// A connection as seen from outside.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Its name.
    pub id: ConnectionId,
    /// The address of the client: of the peer, or what a trusted proxy says it is (port 0 if it does not say).
    pub peer: SocketAddr,
    /// Whose it is, if the program has said so.
    pub subject: Option<Arc<str>>,
    /// How long ago it was accepted.
    pub age: Duration,
    /// How long ago something was received.
    pub idle: Duration,
    /// Topics it subscribes to, those its patterns reach included.
    pub subscriptions: usize,
    /// What waits for it.
    pub pending: Pending,
    /// Bytes read from its socket, the head of the upgrade included.
    pub bytes_in: u64,
    /// Bytes its socket has taken.
    pub bytes_out: u64,
    /// Whole messages received; wraps at 2^32.
    pub messages_in: u32,
    /// Whether permessage-deflate was agreed on.
    pub compressed: bool,
    /// Where it stands.
    pub state: ConnectionState,
}

/// All about one connection.
#[derive(Debug, Clone)]
pub struct ConnectionDetails {
    /// What a list tells of it.
    pub info: ConnectionInfo,
    /// The topics and patterns it has subscribed to by name, at most 1,000 of them.
    pub names: Vec<String>,
    /// Whether those are all.
    pub names_complete: bool,
}

/// Which connections are meant: those to which everything applies that is given. The default is all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Whose they are. Found through an index.
    pub subject: Option<Arc<str>>,
    /// Where the client's address lies; a single address is a network of its own. IPv4 in IPv6 counts as IPv4.
    pub peer: Option<IpNet>,
    /// What they subscribe to: a topic, by name or through a pattern, or a pattern they have subscribed to as such.
    pub topic: Option<String>,
    /// Where they stand.
    pub state: Option<ConnectionState>,
    /// The least number of bytes that wait.
    pub pending_min: usize,
}

/// A part of a list.
#[derive(Debug, Default)]
pub struct Page {
    /// What was found.
    pub found: Vec<ConnectionInfo>,
    /// From which slot on to go on; `None` at the end.
    pub next_slot: Option<u32>,
}

/// Connections that are behind.
#[derive(Debug, Default)]
pub struct Behind {
    /// Those with the most that waits.
    pub most: Vec<ConnectionInfo>,
    /// Where to go on; `None` at the end.
    pub next: Option<usize>,
}

/// What a filter's topic means to this shard.
enum Wanted<'a> {
    Anything,
    /// The shard's entry of the topic; `None` if it has no subscribers here.
    Entry(Option<u32>),
    Pattern(&'a str),
}

impl ConnectionFilter {
    fn admits(&self, connection: &Connection, wanted: &Wanted<'_>) -> bool {
        self.state.is_none_or(|state| state_of(connection) == Some(state))
            && self.peer.is_none_or(|network| network.contains(&canonical(connection.peer.ip())))
            && (self.pending_min == 0 || connection.pending().bytes >= self.pending_min)
            && match wanted {
                Wanted::Anything => true,
                Wanted::Entry(entry) => entry.is_some_and(|entry| connection.place_of(entry).is_some()),
                Wanted::Pattern(pattern) => {
                    let rare = connection.rare.as_ref();
                    rare.is_some_and(|rare| rare.patterns.iter().any(|(own, _)| own.as_str() == *pattern))
                }
            }
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn state_of(connection: &Connection) -> Option<ConnectionState> {
    match connection.state {
        State::Open => Some(ConnectionState::Open),
        State::Closing | State::Flushing => Some(ConnectionState::Closing),
        State::Head | State::Lingering | State::Ended => None,
    }
}

impl Core {
    /// Describes the connections that are meant, from a slot on, at most so many; looks at [`LOOKS_MAX`] slots at most.
    pub fn list_connections(&mut self, filter: &ConnectionFilter, from_slot: u32, limit: usize) -> Page {
        let wanted = self.wanted(filter);
        let (slots, end): (Vec<u32>, bool) = match &filter.subject {
            Some(subject) => self.slots_of(subject, from_slot),
            None => {
                let all = self.generations.len() as u32;
                let until = from_slot.saturating_add(LOOKS_MAX as u32).min(all);
                ((from_slot..until).collect(), until >= all)
            }
        };
        let mut page = Page::default();
        for slot in &slots {
            if page.found.len() >= limit {
                page.next_slot = Some(*slot);
                return page;
            }
            let connection = self.connections.get(*slot as usize);
            if connection.is_some_and(|connection| filter.admits(connection, &wanted)) {
                page.found.extend(self.describe(*slot));
            }
        }
        page.next_slot = slots.last().filter(|_| !end).map(|slot| slot + 1);
        page
    }

    fn wanted<'a>(&mut self, filter: &'a ConnectionFilter) -> Wanted<'a> {
        let Some(name) = filter.topic.as_deref() else { return Wanted::Anything };
        if name::is_pattern(name) {
            return Wanted::Pattern(name);
        }
        let topic = self.shared.topics.get(name);
        Wanted::Entry(topic.and_then(|topic| self.meet_if_member(&topic)))
    }

    /// The slots of a subject's connections from one on, at most [`LOOKS_MAX`], and whether these are the last.
    pub fn slots_of(&self, subject: &str, from_slot: u32) -> (Vec<u32>, bool) {
        let Some(all) = self.subjects.get(subject) else { return (Vec::new(), true) };
        let slots: Vec<u32> = all.range(from_slot..).take(LOOKS_MAX).copied().collect();
        let end = slots.len() < LOOKS_MAX;
        (slots, end)
    }

    /// Describes connections, if they are still there.
    pub fn describe_all(&self, ids: &[ConnectionId]) -> Vec<Option<ConnectionInfo>> {
        ids.iter().map(|id| self.slot(*id).and_then(|slot| self.describe(slot))).collect()
    }

    /// Describes a connection that is or was a WebSocket.
    pub fn describe(&self, slot: u32) -> Option<ConnectionInfo> {
        let connection = self.connections.get(slot as usize)?;
        let state = state_of(connection)?;
        let since = |tick: u32| Duration::from_millis(u64::from((self.tick() as u32).wrapping_sub(tick)) * TICK_MS);
        Some(ConnectionInfo {
            id: self.id(slot),
            peer: connection.peer,
            subject: connection.rare.as_ref().and_then(|rare| rare.subject.clone()),
            age: since(connection.accepted_tick),
            idle: since(connection.read_tick),
            subscriptions: connection.subscriptions.len(),
            pending: connection.pending(),
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            messages_in: connection.messages_in,
            compressed: connection.window.is_some(),
            state,
        })
    }

    /// All about one connection.
    pub fn details(&self, slot: u32) -> Option<ConnectionDetails> {
        let info = self.describe(slot)?;
        let mut names = self.subscriptions(slot);
        let names_complete = names.len() <= NAMES_MAX;
        names.truncate(NAMES_MAX);
        Some(ConnectionDetails { info, names, names_complete })
    }

    /// Of the connections that are behind, from one on and [`LOOKS_MAX`] at most, those with the most that waits.
    pub fn behind(&self, from: usize, most: usize) -> Behind {
        let until = (from + LOOKS_MAX).min(self.backlog.len());
        let mut waiting: Vec<(usize, u32)> = self
            .backlog
            .get(from..until)
            .unwrap_or_default()
            .iter()
            .filter_map(|(slot, generation)| {
                let connection = self.connection(*slot, *generation).filter(|connection| connection.behind)?;
                Some((connection.pending().bytes, *slot))
            })
            .collect();
        // One that falls behind, catches up and falls behind again may stand there twice.
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        waiting.dedup();
        let most = waiting.into_iter().take(most).filter_map(|(_, slot)| self.describe(slot)).collect();
        Behind { most, next: (until < self.backlog.len()).then_some(until) }
    }
}
