//! What a shard tells the event log, see [`events`](crate::events). Keys and values are those that local-web-server made
//! familiar; `docs/EMBEDDING.md` lists them.

use serde_json::{Value, json};

use super::core::Core;
use crate::events::shown;
use crate::ws::Message;
use crate::ws::handshake::Request;

/// What is shown in the place of what may be a secret.
const HIDDEN: &str = "(hidden)";
/// Headers whose values are never shown: they say who somebody is to whoever has them.
const SECRET_HEADERS: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "sec-websocket-protocol"];
/// Parameters of the query that are never shown.
const SECRET_PARAMETERS: [&str; 2] = ["token", "access_token"];

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

    /// Tells of an upgrade that is about to be decided.
    pub fn watch_upgrade(&self, slot: u32, request: &Request<'_>) {
        self.watch(slot, "server.upgrade", || upgrade(request));
    }

    /// Tells of the answer to an upgrade that was accepted.
    pub fn watch_answer(&self, slot: u32, answer: &[u8]) {
        self.watch(slot, "websocket.server.headers", || {
            let lines = answer.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
            let lines = lines.filter(|line| !line.is_empty()).map(String::from_utf8_lossy);
            json!({ "headers": lines.collect::<Vec<_>>() })
        });
    }

    /// Tells of a message.
    pub fn watch_message(&self, slot: u32, message: Message<'_>) {
        self.watch(slot, "websocket.socket.message", || {
            let is_text = matches!(message, Message::Text(_));
            json!({ "data": shown(message.payload(), is_text), "bytes": message.len(), "binary": !is_text })
        });
    }

    /// Tells of something done with a topic, and why not if it was not.
    pub fn watch_topic(&self, slot: u32, key: &str, topic: &str, error: impl FnOnce() -> Option<String>) {
        self.watch(slot, key, || json!({ "topic": topic, "error": error() }));
    }

    /// Tells of a ping or a pong.
    pub fn watch_control(&self, slot: u32, key: &str, payload: &[u8]) {
        self.watch(slot, key, || json!({ "data": shown(payload, std::str::from_utf8(payload).is_ok()) }));
    }
}

/// An upgrade as it is shown.
pub fn upgrade(request: &Request<'_>) -> Value {
    let header = |name: &str, value: &[u8]| match SECRET_HEADERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
    {
        true => HIDDEN.to_owned(),
        false => shown(value, true),
    };
    let headers = request.headers.iter().map(|own| (own.name.to_ascii_lowercase(), header(own.name, own.value).into()));
    let headers: serde_json::Map<String, Value> = headers.collect();
    json!({ "method": request.method, "url": url(request.target), "headers": headers })
}

/// A target as it is shown.
fn url(target: &str) -> String {
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let shown = query.split('&').map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        // Names can be written in many ways that mean the same.
        let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
        match SECRET_PARAMETERS.iter().any(|secret| decoded.eq_ignore_ascii_case(secret)) {
            true => format!("{name}={HIDDEN}"),
            false => pair.to_owned(),
        }
    });
    format!("{path}?{}", shown.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_may_be_a_secret_is_not_shown() {
        let header = |name, value: &'static str| httparse::Header { name, value: value.as_bytes() };
        let headers = [
            header("Host", "h"),
            header("Authorization", "Bearer s3cret"),
            header("COOKIE", "a=s3cret"),
            header("Sec-WebSocket-Protocol", "fanfare.v1, bearer.s3cret"),
        ];
        for target in
            ["/t?token=s3cret&mode=both", "/t?mode=both&to%6ben=s3cret", "/t?TOKEN=s3cret", "/t?access_token=s3cret#"]
        {
            let request = Request { method: "GET", target, minor_version: 1, headers: &headers };
            let text = upgrade(&request).to_string();
            assert!(!text.contains("s3cret") && text.contains("\"host\":\"h\""), "{text}");
        }
        assert_eq!(url("/t?mode=both&token="), "/t?mode=both&token=(hidden)");
        assert_eq!(url("/t"), "/t");
    }
}
