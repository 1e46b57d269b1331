//! What any thread may know of the connections, and do for those of a subject. All shards are asked, one after the other and
//! each for a part at a time; which of them have answered is always said, as a shard that is overloaded cannot.

use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

use super::{EngineHandle, Reply};
use crate::handler::Subscribe;
use crate::id::ConnectionId;
use crate::shard::inbox::{Act, Command};
use crate::shard::inspect::{ConnectionDetails, ConnectionFilter, ConnectionInfo};
use crate::shard::write::data_frame;
use crate::ws::Message;

/// The most connections listed at once.
const CONNECTIONS_MAX: usize = 1000;

/// What shards have answered together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[must_use = "not every shard may have answered"]
pub struct Gathered<T> {
    /// The answers, put together.
    pub value: T,
    /// How many shards were asked.
    pub asked: usize,
    /// How many have answered to the end. An overloaded one does not take the question, one that has ended neither.
    pub answered: usize,
}

impl<T> Gathered<T> {
    /// Whether every shard that was asked has answered.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.answered == self.asked
    }
}

/// For how many connections of a subject something was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// The connections it has.
    pub connections: usize,
    /// Those of them for which it was done.
    pub done: usize,
}

impl EngineHandle {
    /// Describes a connection; `None` within if it is not there.
    pub fn connection(&self, id: ConnectionId) -> Reply<Option<ConnectionInfo>> {
        self.ask(id, None, |reply| Command::Connection { id, reply })
    }

    /// Tells all about a connection, the names of its subscriptions included; `None` within if it is not there.
    pub fn connection_details(&self, id: ConnectionId) -> Reply<Option<ConnectionDetails>> {
        self.ask(id, None, |reply| Command::Details { id, reply })
    }

    /// Lists connections of all shards in the order of shard and slot, after one of them, at most `limit` (1,000 at most).
    /// Shards that are overloaded are left out; [`find_connections`](Self::find_connections) tells whether there were any.
    pub async fn connections(&self, after: Option<ConnectionId>, limit: usize) -> Vec<ConnectionInfo> {
        self.find_connections(ConnectionFilter::default(), after, limit).await.value
    }

    /// Lists the connections that are meant, as [`connections`](Self::connections) does. A shard is asked for some thousand
    /// of its connections at a time, and serves others meanwhile.
    pub async fn find_connections(
        &self,
        filter: ConnectionFilter,
        after: Option<ConnectionId>,
        limit: usize,
    ) -> Gathered<Vec<ConnectionInfo>> {
        let (filter, limit) = (Arc::new(filter), limit.min(CONNECTIONS_MAX));
        let mut all = Gathered { value: Vec::new(), asked: 0, answered: 0 };
        for shard in after.map_or(0, |id| id.shard)..self.shards() as u16 {
            if all.value.len() >= limit {
                break;
            }
            let mut from = after.filter(|id| id.shard == shard).map(|id| id.slot.checked_add(1)).unwrap_or(Some(0));
            all.asked += 1;
            let complete = loop {
                let Some(from_slot) = from.filter(|_| all.value.len() < limit) else { break true };
                let (filter, limit) = (filter.clone(), limit - all.value.len());
                let page = self.ask(of(shard), Default::default(), |reply| Command::Connections {
                    filter,
                    from_slot,
                    limit,
                    reply,
                });
                let Some(page) = page.await else { break false };
                all.value.extend(page.found);
                from = page.next_slot;
            };
            all.answered += usize::from(complete);
        }
        all
    }

    /// Describes connections anew, in their order, `None` for those that have gone: for what has changed since an earlier
    /// look. At most 1,000.
    pub async fn describe_connections(&self, ids: &[ConnectionId]) -> Gathered<Vec<Option<ConnectionInfo>>> {
        let ids = &ids[..ids.len().min(CONNECTIONS_MAX)];
        let mut all = Gathered { value: vec![None; ids.len()], asked: 0, answered: 0 };
        let shards: HashSet<u16> = ids.iter().map(|id| id.shard).collect();
        for shard in shards {
            let places: Vec<usize> = (0..ids.len()).filter(|place| ids[*place].shard == shard).collect();
            let own: Vec<ConnectionId> = places.iter().map(|place| ids[*place]).collect();
            all.asked += 1;
            let Some(found) = self.ask(of(shard), Vec::new(), |reply| Command::Describe { ids: own, reply }).await
            else {
                continue;
            };
            all.answered += 1;
            for (place, info) in places.into_iter().zip(found) {
                all.value[place] = info;
            }
        }
        all
    }

    /// The connections with the most bytes waiting for them, most first, at most `most` (1,000 at most).
    pub async fn slowest_connections(&self, most: usize) -> Gathered<Vec<ConnectionInfo>> {
        let most = most.min(CONNECTIONS_MAX);
        let mut all = Gathered { value: Vec::new(), asked: 0, answered: 0 };
        for shard in 0..self.shards() as u16 {
            all.asked += 1;
            if self.shared().metrics[usize::from(shard)].backlogged.get() == 0 {
                all.answered += 1;
                continue;
            }
            let mut next = Some(0);
            while let Some(from) = next {
                let behind = self.ask(of(shard), Default::default(), |reply| Command::Behind { from, most, reply });
                let Some(behind) = behind.await else { break };
                all.value.extend(behind.most);
                next = behind.next;
            }
            all.answered += usize::from(next.is_none());
            all.value.sort_by_key(|info| (std::cmp::Reverse(info.pending.bytes), info.id));
            all.value.dedup_by_key(|info| info.id);
            all.value.truncate(most);
        }
        all
    }

    /// Closes all connections of a subject behind all that waits for them.
    pub async fn disconnect_subject(&self, subject: &str, code: u16, reason: &str) -> Gathered<Reach> {
        self.act(subject, Act::Close { code, reason: reason.into() }).await
    }

    /// Sends a message to all connections of a subject. Done means taken for sending; at a connection's bound it is dropped.
    pub async fn send_subject<'m>(&self, subject: &str, message: impl Into<Message<'m>>) -> Gathered<Reach> {
        self.act(subject, Act::Send { frame: data_frame(message.into()) }).await
    }

    /// Subscribes all connections of a subject.
    pub async fn subscribe_subject(&self, subject: &str, topic: &str, subscribe: Subscribe) -> Gathered<Reach> {
        self.act(subject, Act::Subscribe { topic: topic.into(), subscribe }).await
    }

    /// Ends a subscription of all connections of a subject.
    pub async fn unsubscribe_subject(&self, subject: &str, topic: &str) -> Gathered<Reach> {
        self.act(subject, Act::Unsubscribe { topic: topic.into() }).await
    }

    /// Has the handler of a connection called with something ([`Handler::told`](crate::Handler::told)). Answers whether the
    /// connection was there.
    pub fn tell(&self, id: ConnectionId, word: Arc<dyn Any + Send + Sync>) -> Reply<bool> {
        self.ask(id, false, |reply| Command::Tell { id, word, reply })
    }

    /// The same for all connections of a subject.
    pub async fn tell_subject(&self, subject: &str, word: Arc<dyn Any + Send + Sync>) -> Gathered<Reach> {
        self.act(subject, Act::Tell { word }).await
    }

    async fn act(&self, subject: &str, act: Act) -> Gathered<Reach> {
        let (subject, act): (Arc<str>, _) = (subject.into(), Arc::new(act));
        let mut all = Gathered::<Reach>::default();
        for shard in 0..self.shards() as u16 {
            all.asked += 1;
            let mut next = Some(0);
            while let Some(from_slot) = next {
                let (subject, act) = (subject.clone(), act.clone());
                let reached = self.ask(of(shard), Default::default(), |reply| Command::Subject {
                    subject,
                    from_slot,
                    act,
                    reply,
                });
                let Some(reached) = reached.await else { break };
                all.value.connections += reached.connections;
                all.value.done += reached.done;
                next = reached.next_slot;
            }
            all.answered += usize::from(next.is_none());
        }
        all
    }
}

/// Names a shard where a connection is to be named.
fn of(shard: u16) -> ConnectionId {
    ConnectionId { shard, slot: 0, generation: 0 }
}
