//! What there is: topics, histories, the server itself.

use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{StatusCode, Uri};
use serde::Serialize;

use super::error::ApiError;
use super::{Service, Shared, ok};
use crate::server::query::{BadQuery, Query};
use crate::server::sys::rounded;
use crate::server::{PAGE_DEFAULT, PAGE_MAX, check_topic, json};
use crate::{Deliveries, Pattern, Position, TopicInfo, TopicSettings};

type PathText = Result<Path<String>, PathRejection>;

/// The process lives.
pub(super) async fn health() -> Response {
    plain("ok\n")
}

/// The server takes new connections.
pub(super) async fn ready(State(service): Shared) -> Result<Response, ApiError> {
    if service.engine.is_ready() {
        Ok(plain("ready\n"))
    } else {
        Err(ApiError::unavailable("shutting_down", "the server is shutting down"))
    }
}

/// The metrics, for Prometheus.
pub(super) async fn metrics(State(service): Shared) -> Response {
    let text = service.engine.metrics();
    let headers =
        [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8"), (CACHE_CONTROL, "no-store")];
    (headers, text).into_response()
}

fn plain(text: &'static str) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, "no-store")], text).into_response()
}

/// The server.
pub(super) async fn info(State(service): Shared, uri: Uri) -> Result<Response, ApiError> {
    Query::parse(uri.query(), &[])?;
    ok(&server(&service))
}

#[derive(Debug, Serialize)]
struct ServerAnswer {
    name: &'static str,
    version: &'static str,
    ready: bool,
    uptime_s: u64,
    shards: usize,
    connections: u64,
    topics: usize,
    listen: Vec<String>,
    message_bytes: usize,
}

fn server(service: &Service) -> ServerAnswer {
    let engine = &service.engine;
    ServerAnswer {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        ready: engine.is_ready(),
        uptime_s: engine.uptime().as_secs(),
        shards: engine.shards(),
        connections: engine.connection_count(),
        topics: engine.topic_count(),
        listen: engine.local_addrs().iter().map(ToString::to_string).collect(),
        message_bytes: service.engine.settings().message_bytes,
    }
}

/// The topics, by name or the busiest first.
pub(super) async fn topics(State(service): Shared, uri: Uri) -> Result<Response, ApiError> {
    let query = Query::parse(uri.query(), &["pattern", "sort", "after", "limit"])?;
    // Which leaves out the server's own, `$sys.…`, unless they are asked for.
    let pattern = Some(Pattern::new(query.text("pattern").unwrap_or(">"))?);
    let (limit, after) = (limit(&query)?, query.text("after"));
    let by_rate = query.choice("sort", &[("name", false), ("rate", true)])?.unwrap_or(false);
    if by_rate {
        if after.is_some() {
            return Err(BadQuery("after needs sort=name: rates change between two pages".into()).into());
        }
        let engine = service.engine.clone();
        // Each topic is looked at: not where others wait.
        let busiest = tokio::task::spawn_blocking(move || engine.busiest_topics(pattern.as_ref(), limit)).await;
        let busiest = busiest.map_err(|_| ApiError::internal())?;
        return ok(&TopicsAnswer { topics: busiest.iter().map(Into::into).collect(), next: None });
    }
    let topics = service.engine.topics(pattern.as_ref(), after, limit);
    // A full page may be the last one: then the next is empty.
    let next = topics.last().filter(|_| topics.len() >= limit).map(|topic| topic.name.clone());
    ok(&TopicsAnswer { topics: topics.iter().map(Into::into).collect(), next })
}

/// One topic.
pub(super) async fn topic(State(service): Shared, name: PathText, uri: Uri) -> Result<Response, ApiError> {
    let Path(name) = name?;
    Query::parse(uri.query(), &[])?;
    check_topic(&name)?;
    let topic = service.engine.topic(&name).ok_or_else(|| no_such_topic(&name))?;
    ok(&TopicAnswer::from(&topic))
}

/// What is kept of a topic.
pub(super) async fn history(State(service): Shared, name: PathText, uri: Uri) -> Result<Response, ApiError> {
    let Path(name) = name?;
    let query = Query::parse(uri.query(), &["since", "limit"])?;
    check_topic(&name)?;
    let (since, limit) = (query.value::<Position>("since")?, limit(&query)?);
    let page = service.engine.history(&name, since, limit).ok_or_else(|| no_such_topic(&name))?;
    let mut body = b"{".to_vec();
    json::put_history(&mut body, &name, &page, since);
    body.push(b'}');
    Ok(super::json(StatusCode::OK, body))
}

pub(super) fn limit(query: &Query) -> Result<usize, ApiError> {
    Ok(query.number("limit", 1..=PAGE_MAX)?.unwrap_or(PAGE_DEFAULT))
}

/// Takes away what is kept of a topic.
pub(super) async fn remove_history(State(service): Shared, name: PathText, uri: Uri) -> Result<Response, ApiError> {
    let Path(name) = name?;
    Query::parse(uri.query(), &[])?;
    check_topic(&name)?;
    let removed = service.engine.remove_history(&name).ok_or_else(|| no_such_topic(&name))?;
    ok(&RemovedAnswer { topic: &name, removed })
}

fn no_such_topic(name: &str) -> ApiError {
    ApiError::not_found("no_such_topic", format!("there is no topic '{name}'"))
}

#[derive(Debug, Serialize)]
struct TopicsAnswer<'a> {
    topics: Vec<TopicAnswer<'a>>,
    /// Where the next page begins; null after the last.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct RemovedAnswer<'a> {
    topic: &'a str,
    /// So many publications.
    removed: usize,
}

/// Something that waits or is kept.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Amount {
    pub messages: usize,
    pub bytes: usize,
}

#[derive(Debug, Serialize)]
struct TopicAnswer<'a> {
    topic: &'a str,
    epoch: String,
    offset: u64,
    subscribers: u32,
    publications_per_s: f64,
    /// What these publications make of deliveries with the subscribers there are now.
    deliveries_per_s: f64,
    history: Amount,
    settings: SettingsAnswer,
    deliveries: DeliveriesAnswer,
}

impl<'a> From<&'a TopicInfo> for TopicAnswer<'a> {
    fn from(topic: &'a TopicInfo) -> Self {
        Self {
            topic: &topic.name,
            epoch: topic.epoch.to_string(),
            offset: topic.offset,
            subscribers: topic.subscribers,
            publications_per_s: rounded(topic.publications_per_s),
            deliveries_per_s: rounded(topic.publications_per_s * f64::from(topic.subscribers)),
            history: Amount { messages: topic.history_messages, bytes: topic.history_bytes },
            settings: (&topic.settings).into(),
            deliveries: (&topic.deliveries).into(),
        }
    }
}

#[derive(Debug, Serialize)]
struct SettingsAnswer {
    history_messages: usize,
    history_bytes: usize,
    history_age_s: u64,
    policy: &'static str,
    pending_messages: usize,
    pending_bytes: usize,
    pending_age_ms: u64,
}

impl From<&TopicSettings> for SettingsAnswer {
    fn from(settings: &TopicSettings) -> Self {
        Self {
            history_messages: settings.history_messages,
            history_bytes: settings.history_bytes,
            history_age_s: settings.history_age.as_secs(),
            policy: settings.policy.label(),
            pending_messages: settings.pending_messages,
            pending_bytes: settings.pending_bytes,
            pending_age_ms: millis(settings.pending_age),
        }
    }
}

#[derive(Debug, Serialize)]
struct DeliveriesAnswer {
    expected: u64,
    replayed: u64,
    written: u64,
    conflated: u64,
    dropped_oldest: u64,
    dropped_newest: u64,
    dropped_expired: u64,
    dropped_own: u64,
    dropped_unsubscribed: u64,
    discarded: u64,
    queued: u64,
    in_flight: u64,
}

impl From<&Deliveries> for DeliveriesAnswer {
    fn from(deliveries: &Deliveries) -> Self {
        Self {
            expected: deliveries.expected,
            replayed: deliveries.replayed,
            written: deliveries.written,
            conflated: deliveries.conflated,
            dropped_oldest: deliveries.dropped_oldest,
            dropped_newest: deliveries.dropped_newest,
            dropped_expired: deliveries.dropped_expired,
            dropped_own: deliveries.dropped_own,
            dropped_unsubscribed: deliveries.dropped_unsubscribed,
            discarded: deliveries.discarded,
            queued: deliveries.queued,
            in_flight: deliveries.in_flight,
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
