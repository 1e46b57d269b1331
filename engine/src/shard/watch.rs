//! What a shard tells the event log, see [`events`](crate::events). Keys and values are those that local-web-server made
//! familiar; `docs/EMBEDDING.md` lists them.

use serde_json::{Value, json};

use super::core::Core;
use crate::events::shown;
use crate::ws::Message;

impl Core {
    /// Tells of something that happened to a socket; `value` is an object to which the socket's name is added.
    pub fn watch(&self, slot: u32, key: &str, value: impl FnOnce() -> Value) {
        self.shared.events.emit(key, || {
            let mut value = value();
            let name = self.id(slot).to_string();
            if key.starts_with("websocket.") {
                value["webSocketId"] = name.clone().into();
            }
            value["socketId"] = name.into();
            value
        });
    }

    /// Who has come.
    pub fn acquaintance(&self, slot: u32) -> Value {
        json!({ "peer": self.connections[slot as usize].peer.to_string(), "subject": self.subject(slot).as_deref() })
    }

    /// Tells of a message.
    pub fn watch_message(&self, slot: u32, message: Message<'_>) {
        self.watch(slot, "websocket.socket.message", || {
            let is_text = matches!(message, Message::Text(_));
            json!({ "data": shown(message.payload(), is_text), "bytes": message.len(), "binary": !is_text })
        });
    }

    /// Tells of a ping or a pong.
    pub fn watch_control(&self, slot: u32, key: &str, payload: &[u8]) {
        self.watch(slot, key, || json!({ "data": shown(payload, std::str::from_utf8(payload).is_ok()) }));
    }
}
