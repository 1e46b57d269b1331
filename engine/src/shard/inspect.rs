//! What other threads may know of a shard's connections.

use std::time::Duration;

use super::connection::State;
use super::core::Core;
use super::inbox::ConnectionInfo;
use super::timer::TICK_MS;
use crate::handler::Pending;

impl Core {
    /// Describes the connections from a slot on, at most so many.
    pub fn list_connections(&self, from_slot: u32, limit: usize) -> Vec<ConnectionInfo> {
        let slots = from_slot..self.generations.len() as u32;
        slots.filter_map(|slot| self.describe(slot)).take(limit).collect()
    }

    /// Describes a connection that is or was a WebSocket.
    pub fn describe(&self, slot: u32) -> Option<ConnectionInfo> {
        let connection = self.connections.get(slot as usize)?;
        let state = match connection.state {
            State::Open => "open",
            State::Closing | State::Flushing => "closing",
            State::Head | State::Lingering | State::Ended => return None,
        };
        let since = |tick: u32| Duration::from_millis(u64::from((self.tick() as u32).wrapping_sub(tick)) * TICK_MS);
        let pending = connection.outbound.as_ref();
        Some(ConnectionInfo {
            id: self.id(slot),
            peer: connection.peer,
            age: since(connection.accepted_tick),
            idle: since(connection.read_tick),
            subscriptions: connection.subscriptions.len(),
            pending: pending.map(|o| Pending { messages: o.messages(), bytes: o.bytes() }).unwrap_or_default(),
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            messages_in: connection.messages_in,
            state,
        })
    }
}
