//! The answers of the native protocol, as they stand on the wire.

use serde::{Serialize, Serializer};

use super::request::{Fault, Id};
use crate::server::json;
use crate::{ConnectionId, Epoch, HistoryPage, Position, Published, Subscribed};

/// An answer. `id` is that of the request, if it had one.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply<'a> {
    /// The first message of every connection.
    Connected {
        /// The name of the connection, as the HTTP API knows it.
        #[serde(serialize_with = "text")]
        connection: ConnectionId,
        /// Whether it is known who the client is; left out if nobody is asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        authenticated: Option<bool>,
        /// Who it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<&'a str>,
        /// Until when its token holds, in seconds since 1970.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<u64>,
    },
    /// Answer to `auth`.
    Authenticated {
        /// As in the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
        /// Who the client is; null if the token does not say.
        subject: Option<&'a str>,
        /// Until when the token holds, in seconds since 1970; null if for ever.
        expires_at: Option<u64>,
    },
    /// Answer to `subscribe`; what was missed follows, then what is new.
    Subscribed {
        /// As in the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
        /// The topic or pattern.
        topic: &'a str,
        /// The topic's life.
        #[serde(serialize_with = "text")]
        epoch: Epoch,
        /// The newest offset.
        offset: u64,
        /// Whether all since the given position follows; null if none was given.
        recovered: Option<bool>,
    },
    /// Answer to `unsubscribe`, or without having been asked for, then with a reason: nothing of this topic follows.
    Unsubscribed {
        /// As in the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
        /// The topic or pattern.
        topic: &'a str,
        /// Why, if it was not asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
    },
    /// Answer to `publish`.
    Published {
        /// As in the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
        /// The topic.
        topic: &'a str,
        /// The topic's life.
        #[serde(serialize_with = "text")]
        epoch: Epoch,
        /// The place the publication got.
        offset: u64,
    },
    /// Answer to `ping`.
    Pong {
        /// As in the request.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
    },
    /// Answer to whatever cannot be done.
    Error {
        /// As in the request, if it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id<'a>>,
        /// For programs.
        code: &'a str,
        /// For people.
        message: &'a str,
    },
}

impl<'a> Reply<'a> {
    /// The answer to a successful `subscribe`.
    #[must_use]
    pub fn subscribed(id: Option<Id<'a>>, topic: &'a str, subscribed: &Subscribed) -> Self {
        let Subscribed { epoch, offset, recovered, .. } = *subscribed;
        Self::Subscribed { id, topic, epoch, offset, recovered }
    }

    /// The answer to a successful `publish`.
    #[must_use]
    pub fn published(id: Option<Id<'a>>, topic: &'a str, published: &Published) -> Self {
        Self::Published { id, topic, epoch: published.epoch, offset: published.offset }
    }

    /// The answer to a request that cannot be read.
    #[must_use]
    pub fn fault(fault: &'a Fault<'_>) -> Self {
        Self::Error { id: fault.id, code: fault.code, message: &fault.message }
    }

    /// The text of the message.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("an answer can be written to memory")
    }
}

/// The answer to `history`. Not a [`Reply`], as its payloads are copied once, not twice.
#[must_use]
pub fn history(id: Option<Id<'_>>, topic: &str, page: &HistoryPage, since: Option<Position>) -> String {
    let mut out = b"{\"type\":\"history\",".to_vec();
    if let Some(id) = id {
        out.extend_from_slice(b"\"id\":");
        out.extend_from_slice(id.as_json().as_bytes());
        out.push(b',');
    }
    json::put_history(&mut out, topic, page, since);
    out.push(b'}');
    // Made of nothing but UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

fn text<S: Serializer>(value: &impl ToString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_on_the_wire_as_documented() {
        let id = Some(Id::read("7").unwrap());
        let connection = ConnectionId { shard: 0, slot: 26, generation: 1 };
        let done = Subscribed { epoch: Epoch(0x5f), offset: 3, recovered: None, already: false };
        let published = Published { epoch: Epoch(0x5f), offset: 4, subscribers: 2 };
        for (reply, wire) in [
            (
                Reply::Connected { connection, authenticated: None, subject: None, expires_at: None },
                r#"{"type":"connected","connection":"0-1a-1"}"#,
            ),
            (
                Reply::Connected { connection, authenticated: Some(true), subject: Some("ada"), expires_at: Some(9) },
                r#"{"type":"connected","connection":"0-1a-1","authenticated":true,"subject":"ada","expires_at":9}"#,
            ),
            (
                Reply::Authenticated { id, subject: Some("ada"), expires_at: None },
                r#"{"type":"authenticated","id":7,"subject":"ada","expires_at":null}"#,
            ),
            (
                Reply::Unsubscribed { id: None, topic: "t", reason: Some("forbidden") },
                r#"{"type":"unsubscribed","topic":"t","reason":"forbidden"}"#,
            ),
            (
                Reply::subscribed(id, "t", &done),
                r#"{"type":"subscribed","id":7,"topic":"t","epoch":"5f","offset":3,"recovered":null}"#,
            ),
            (
                Reply::subscribed(None, "t", &Subscribed { recovered: Some(true), ..done }),
                r#"{"type":"subscribed","topic":"t","epoch":"5f","offset":3,"recovered":true}"#,
            ),
            (Reply::Unsubscribed { id, topic: "t", reason: None }, r#"{"type":"unsubscribed","id":7,"topic":"t"}"#),
            (
                Reply::published(id, "t", &published),
                r#"{"type":"published","id":7,"topic":"t","epoch":"5f","offset":4}"#,
            ),
            (Reply::Pong { id: Some(Id::read("\"a\"").unwrap()) }, r#"{"type":"pong","id":"a"}"#),
            (Reply::Pong { id: None }, r#"{"type":"pong"}"#),
            (
                Reply::Error { id: None, code: "bad_json", message: "no" },
                r#"{"type":"error","code":"bad_json","message":"no"}"#,
            ),
        ] {
            assert_eq!(reply.text(), wire);
        }
    }
}
