//! What is done for connections from outside: `POST /api/{disconnect,subscribe,unsubscribe,send}`, for one connection or for
//! all of a subject, and the same of one connection under `/api/connections/{id}`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::connections::{check_close, connection_id, no_such_connection};
use super::error::ApiError;
use super::publish::{as_text, from_base64, present};
use super::{Service, Shared, ok};
use crate::server::orders::{Errand, Order, Outcomes};
use crate::server::query::{Query, cut};
use crate::server::{SUBJECT_BYTES_MAX, check_name};
use crate::{ConnectionId, Gathered, Opcode, Reach};

type PathText = Result<Path<String>, PathRejection>;

/// For whom.
#[derive(Debug)]
enum Target {
    Connection(ConnectionId),
    Subject(String),
}

/// What a body says: the connection or the subject, and what is to be done.
type Wish<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>, Order);

/// The fields by which a body says for whom.
fn target(connection: Option<Cow<'_, str>>, subject: Option<Cow<'_, str>>) -> Result<Target, ApiError> {
    match (connection, subject) {
        (Some(connection), None) => connection_id(&connection).map(Target::Connection),
        (None, Some(subject)) if subject.len() <= SUBJECT_BYTES_MAX => Ok(Target::Subject(subject.into_owned())),
        (None, Some(subject)) => {
            Err(bad(format!("the subject has {} bytes: it may have at most {SUBJECT_BYTES_MAX}", subject.len())))
        }
        _ => Err(bad("either 'connection' or 'subject' must be given")),
    }
}

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::bad_request("bad_request", message)
}

/// For how many it was done.
#[derive(Debug, Serialize)]
struct Answer {
    connections: usize,
    done: usize,
    failed: BTreeMap<&'static str, usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Disconnect<'a> {
    #[serde(borrow, default)]
    connection: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(default)]
    code: Option<u16>,
    #[serde(borrow, default)]
    reason: Option<Cow<'a, str>>,
}

/// Closes one connection, or all of a subject.
pub(super) async fn disconnect(State(service): Shared, uri: Uri, body: Body) -> Result<Response, ApiError> {
    Query::parse(uri.query(), &[])?;
    let body = service.bodies.read(body, service.engine.settings().message_bytes).await?;
    let wish: Disconnect<'_> = read(body.bytes())?;
    let (code, reason) = (wish.code.unwrap_or(1000), wish.reason.unwrap_or_default());
    check_close(code, &reason).map_err(bad)?;
    match target(wish.connection, wish.subject)? {
        Target::Connection(id) => match service.engine.close(id, code, &reason).await {
            Some(true) => ok(&Answer { connections: 1, done: 1, failed: BTreeMap::new() }),
            Some(false) => Err(no_such_connection(id)),
            None => Err(ApiError::overloaded()),
        },
        Target::Subject(subject) => {
            let reached = service.engine.disconnect_subject(&subject, code, &reason).await;
            whole(&reached, reached.value.done)?;
            let Reach { connections, done } = reached.value;
            ok(&Answer { connections, done, failed: BTreeMap::new() })
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe<'a> {
    #[serde(borrow, default)]
    connection: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(default)]
    history: Option<u32>,
}

impl<'a> Subscribe<'a> {
    fn split(self) -> Result<Wish<'a>, ApiError> {
        let history = self.history.unwrap_or(0) as usize;
        if check_name(&self.topic)? && history > 0 {
            return Err(bad("'history' needs a topic: a pattern has no single order"));
        }
        Ok((self.connection, self.subject, Order::Subscribe { topic: self.topic.into_owned(), history }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribe<'a> {
    #[serde(borrow, default)]
    connection: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow)]
    topic: Cow<'a, str>,
}

impl<'a> Unsubscribe<'a> {
    fn split(self) -> Result<Wish<'a>, ApiError> {
        check_name(&self.topic)?;
        Ok((self.connection, self.subject, Order::Unsubscribe { topic: self.topic.into_owned() }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Send<'a> {
    #[serde(borrow, default)]
    connection: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    base64: Option<Cow<'a, str>>,
}

impl<'a> Send<'a> {
    fn split(self) -> Result<Wish<'a>, ApiError> {
        let (opcode, payload) = match (self.data, self.text, self.base64) {
            (Some(data), None, None) => (Opcode::Text, data.get().as_bytes().to_vec()),
            (None, Some(text), None) => (Opcode::Text, text.into_owned().into_bytes()),
            (None, None, Some(base64)) => (Opcode::Binary, from_base64(&base64)?),
            _ => return Err(bad("one of data, text and base64 must be given")),
        };
        Ok((self.connection, self.subject, Order::Send { opcode, payload }))
    }
}

/// Makes the routes of an order: by body, and of the connection in the path.
macro_rules! routes {
    ($($wish:ident: $any:ident, $one:ident;)*) => {$(
        #[doc = concat!("`", stringify!($wish), "`, for whom the body says.")]
        pub(super) async fn $any(State(service): Shared, uri: Uri, body: Body) -> Result<Response, ApiError> {
            Query::parse(uri.query(), &[])?;
            let body = service.bodies.read(body, service.engine.settings().message_bytes).await?;
            let (connection, subject, order) = read::<$wish<'_>>(body.bytes())?.split()?;
            run(&service, target(connection, subject)?, order).await
        }

        #[doc = concat!("`", stringify!($wish), "`, for one connection.")]
        pub(super) async fn $one(
            State(service): Shared,
            id: PathText,
            uri: Uri,
            body: Body,
        ) -> Result<Response, ApiError> {
            let id = connection_id(&id?.0)?;
            Query::parse(uri.query(), &[])?;
            let body = service.bodies.read(body, service.engine.settings().message_bytes).await?;
            let (connection, subject, order) = read::<$wish<'_>>(body.bytes())?.split()?;
            if connection.is_some() || subject.is_some() {
                return Err(bad("the path names the connection: neither 'connection' nor 'subject' goes here"));
            }
            run(&service, Target::Connection(id), order).await
        }
    )*};
}

routes! {
    Subscribe: subscribe, subscribe_one;
    Unsubscribe: unsubscribe, unsubscribe_one;
    Send: send, send_one;
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_str(as_text(body)?).map_err(|error| {
        let code = if error.is_data() { "bad_request" } else { "bad_json" };
        let message = error.to_string();
        ApiError::bad_request(code, cut_long(&message))
    })
}

/// Sentences repeat what they complain of, which may be long.
fn cut_long(message: &str) -> &str {
    &message[..message.floor_char_boundary(500)]
}

async fn run(service: &Arc<Service>, target: Target, order: Order) -> Result<Response, ApiError> {
    let (word, outcomes) = Errand::begin(order);
    match target {
        Target::Connection(id) => {
            let found = service.engine.tell(id, word).await.ok_or_else(ApiError::overloaded)?;
            let outcomes = outcomes.await.unwrap_or_default();
            if !found {
                return Err(no_such_connection(id));
            }
            one_outcome(id, &outcomes)
        }
        Target::Subject(subject) => {
            let told = service.engine.tell_subject(&subject, word).await;
            let Outcomes { done, failed, .. } = outcomes.await.unwrap_or_default();
            whole(&told, done)?;
            ok(&Answer { connections: told.value.connections, done, failed })
        }
    }
}

fn one_outcome(id: ConnectionId, outcomes: &Outcomes) -> Result<Response, ApiError> {
    let Some(code) = outcomes.failed.keys().next().copied() else {
        return if outcomes.done == 1 {
            ok(&Answer { connections: 1, done: 1, failed: BTreeMap::new() })
        } else {
            // It ended between being told and doing it.
            Err(no_such_connection(id))
        };
    };
    let status = match code {
        "bad_topic" | "pattern_recovery" => StatusCode::BAD_REQUEST,
        "not_subscribed" => StatusCode::NOT_FOUND,
        "closed" => return Err(no_such_connection(id)),
        "too_many_topics" => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::CONFLICT,
    };
    Err(ApiError::new(status, code, cut(&outcomes.message)))
}

/// It may have been done for a part, and is to be done again for the rest: whatever it is, twice does no harm.
fn whole<T>(gathered: &Gathered<T>, done: usize) -> Result<(), ApiError> {
    if gathered.is_whole() {
        return Ok(());
    }
    let (answered, asked) = (gathered.answered, gathered.asked);
    let message = format!("{answered} of {asked} shards have answered; it was done for {done} connections: try again");
    Err(ApiError::unavailable("overloaded", message))
}
