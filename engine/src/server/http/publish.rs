//! `POST /api/publish` and `POST /api/batch`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{StatusCode, Uri};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::access::Caller;
use super::error::ApiError;
use super::{Service, Shared, ok};
use crate::server::query::Query;
use crate::server::{KEY_BYTES_MAX, json};
use crate::{Message, Publish, PublishError, Published};

/// The most publications in one batch.
pub const BATCH_MAX: usize = 10_000;

/// Publishes the body.
pub(super) async fn one(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Result<Response, ApiError> {
    let query = Query::parse(uri.query(), &["topic", "key", "binary"])?;
    let topic = query.required("topic")?;
    caller.check_publish(&service, topic)?;
    let key = query.text("key").map(check_key).transpose()?;
    let flags = [("1", true), ("true", true), ("0", false), ("false", false)];
    let is_binary = query.choice("binary", &flags)?.unwrap_or(false);
    let body = service.bodies.read(body, service.engine.settings().message_bytes).await?;
    let message = if is_binary { Message::Binary(body.bytes()) } else { Message::Text(as_text(body.bytes())?) };
    let published = service.engine.publish_with(topic, message, Publish { key, others: false })?;
    ok(&receipt(topic, &published))
}

fn check_key(key: &str) -> Result<&str, ApiError> {
    match key.len() {
        0..=KEY_BYTES_MAX => Ok(key),
        length => {
            let message = format!("the key has {length} bytes: it may have at most {KEY_BYTES_MAX}");
            Err(ApiError::bad_request("bad_key", message))
        }
    }
}

pub(super) fn as_text(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|error| {
        ApiError::bad_request("bad_utf8", format!("the body is not text ({error}): publish it with binary=1"))
    })
}

/// What a publisher is told.
#[derive(Debug, Serialize)]
struct Receipt<'a> {
    topic: &'a str,
    epoch: String,
    offset: u64,
    subscribers: u32,
}

fn receipt<'a>(topic: &'a str, published: &Published) -> Receipt<'a> {
    let Published { epoch, offset, subscribers } = *published;
    Receipt { topic, epoch: epoch.to_string(), offset, subscribers }
}

/// Publishes one after the other, and tells of each what became of it.
pub(super) async fn batch(
    State(service): Shared,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    body: Body,
) -> Result<Response, ApiError> {
    Query::parse(uri.query(), &[])?;
    let body = service.bodies.read(body, service.engine.settings().message_bytes).await?;
    let text = as_text(body.bytes())?.trim_ascii();
    let is_array = text.starts_with('[');
    let items = if is_array { array(text)? } else { lines(text)? };
    if items.is_empty() {
        return Err(ApiError::bad_request("bad_request", "the batch is empty"));
    }
    let mut run = Run { service: &service, caller: &caller, full: HashSet::new(), overloaded: 0 };
    let results = items.iter().map(|item| run.publish(item)).collect::<Result<Vec<_>, _>>()?;
    if run.overloaded == results.len() {
        return Err(ApiError::overloaded());
    }
    if is_array { ok(&results) } else { Ok(as_lines(&results)) }
}

fn array(text: &str) -> Result<Vec<&str>, ApiError> {
    let (mut items, mut reader) = (Vec::new(), serde_json::Deserializer::from_str(text));
    let read = reader.deserialize_seq(Items(&mut items)).and_then(|()| reader.end());
    if items.len() > BATCH_MAX {
        return Err(too_many());
    }
    read.map_err(|error| ApiError::bad_request("bad_json", error.to_string()))?;
    Ok(items)
}

/// Where the items of an array go. A body may have millions of them: no more are read, or kept, than it takes to know that
/// there are too many.
struct Items<'i, 'a>(&'i mut Vec<&'a str>);

impl<'a> Visitor<'a> for Items<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<(), A::Error> {
        while self.0.len() <= BATCH_MAX
            && let Some(item) = array.next_element::<&RawValue>()?
        {
            self.0.push(item.get());
        }
        Ok(())
    }
}

fn lines(text: &str) -> Result<Vec<&str>, ApiError> {
    let mut lines = text.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
    let items = lines.by_ref().take(BATCH_MAX).collect();
    if lines.next().is_some() { Err(too_many()) } else { Ok(items) }
}

fn too_many() -> ApiError {
    let message = format!("a batch may have at most {BATCH_MAX} publications");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "batch_too_big", message)
}

fn as_lines(results: &[Box<RawValue>]) -> Response {
    let body: String = results.iter().map(|result| format!("{result}\n")).collect();
    let headers = [(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")];
    axum::response::IntoResponse::into_response((headers, body))
}

/// One publication of a batch.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
}

/// `"data":null` is a payload, not a missing one.
pub(super) fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A batch on its way.
struct Run<'a> {
    service: &'a Service,
    caller: &'a Caller,
    /// Topics that had no room: what comes later for them must not overtake what was refused.
    full: HashSet<String>,
    overloaded: usize,
}

impl Run<'_> {
    fn publish(&mut self, text: &str) -> Result<Box<RawValue>, ApiError> {
        self.try_publish(text).or_else(|error| {
            self.overloaded += usize::from(error.code() == "overloaded");
            to_raw_value(&BTreeMap::from([("error", error.value())])).map_err(|_| ApiError::internal())
        })
    }

    fn try_publish(&mut self, text: &str) -> Result<Box<RawValue>, ApiError> {
        let item: Item<'_> = serde_json::from_str(text).map_err(|error| bad_item(&error))?;
        let key = item.key.as_deref().map(check_key).transpose()?;
        self.caller.check_publish(self.service, &item.topic)?;
        if self.full.contains(&*item.topic) {
            return Err(ApiError::overloaded());
        }
        let binary = item.base64.as_deref().map(from_base64).transpose()?;
        let message = match (item.data, &item.text, &binary) {
            (Some(data), None, None) => Message::Text(data.get()),
            (None, Some(text), None) => Message::Text(text),
            (None, None, Some(bytes)) => Message::Binary(bytes),
            _ => return Err(ApiError::bad_request("bad_request", "one of data, text and base64 must be given")),
        };
        let published = self.service.engine.publish_with(&item.topic, message, Publish { key, others: false });
        if published == Err(PublishError::Overloaded) {
            self.full.insert(item.topic.clone().into_owned());
        }
        to_raw_value(&receipt(&item.topic, &published?)).map_err(|_| ApiError::internal())
    }
}

fn bad_item(error: &serde_json::Error) -> ApiError {
    let code = if error.is_data() { "bad_request" } else { "bad_json" };
    ApiError::bad_request(code, error.to_string())
}

pub(super) fn from_base64(text: &str) -> Result<Vec<u8>, ApiError> {
    let message = "base64 must be standard base64 with padding (RFC 4648, section 4)";
    json::base64_decode(text).ok_or_else(|| ApiError::bad_request("bad_request", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_of_a_batch_is_read_than_may_be_published() {
        let rest = "0,".repeat(BATCH_MAX - 1);
        assert_eq!(array(&format!("[{rest}0]")).unwrap().len(), BATCH_MAX);
        // What follows is not even looked at.
        assert_eq!(array(&format!("[{rest}0,0,rubbish")).unwrap_err().code(), "batch_too_big");
        assert_eq!(array(&format!("[{rest}rubbish")).unwrap_err().code(), "bad_json");
        assert_eq!(array("[0] 0").unwrap_err().code(), "bad_json");
        assert_eq!(lines(&"0\n\n".repeat(BATCH_MAX)).unwrap().len(), BATCH_MAX);
        assert_eq!(lines(&"0\n".repeat(BATCH_MAX + 1)).unwrap_err().code(), "batch_too_big");
    }
}
