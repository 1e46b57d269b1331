//! `/api/connections`: which there are, what one of them is about, and the closing of one.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use http::Uri;
use ipnet::{IpNet, Ipv4Net};
use serde::Serialize;
use tokio::time::Instant;

use super::error::ApiError;
use super::inspect::{Amount, limit, millis};
use super::{Shared, ok};
use crate::server::check_name;
use crate::server::query::{BadQuery, Query, cut};
use crate::server::sys::per_s;
use crate::{ConnectionFilter, ConnectionId, ConnectionInfo, ConnectionState, Gathered};

const PARAMETERS: [&str; 8] = ["subject", "peer", "topic", "state", "pending_min", "after", "limit", "rates_over_ms"];

/// The connections, by name.
pub(super) async fn list(State(service): Shared, uri: Uri) -> Result<Response, ApiError> {
    let query = Query::parse(uri.query(), &PARAMETERS)?;
    let (after, limit, filter) = (query.value::<ConnectionId>("after")?, limit(&query)?, filter(&query)?);
    let rates_over = query.number("rates_over_ms", 100..=10_000)?.map(Duration::from_millis);
    let began = Instant::now();
    let found = whole(service.engine.find_connections(filter, after, limit).await)?;
    let next = found.last().filter(|_| found.len() >= limit).map(|last| last.id.to_string());
    let mut connections: Vec<_> = found.iter().map(ConnectionAnswer::from).collect();
    if let Some(rates_over) = rates_over {
        let looked_at = Instant::now();
        tokio::time::sleep_until(began + rates_over).await;
        let ids: Vec<_> = found.iter().map(|info| info.id).collect();
        let later = whole(service.engine.describe_connections(&ids).await)?;
        let took = looked_at.elapsed();
        for ((answer, earlier), later) in connections.iter_mut().zip(&found).zip(later) {
            answer.rates = Some(later.map(|later| RatesAnswer::of(earlier, &later, took)));
        }
    }
    ok(&ConnectionsAnswer { connections, next })
}

/// All about one connection.
pub(super) async fn one(
    State(service): Shared,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let id = connection_id(&id?.0)?;
    Query::parse(uri.query(), &[])?;
    let details = service.engine.connection_details(id).await.ok_or_else(ApiError::overloaded)?;
    let details = details.ok_or_else(|| no_such_connection(id))?;
    ok(&DetailsAnswer {
        connection: ConnectionAnswer::from(&details.info),
        topics: details.names,
        topics_complete: details.names_complete,
    })
}

/// Closes a connection.
pub(super) async fn close(
    State(service): Shared,
    id: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let id = connection_id(&id?.0)?;
    let query = Query::parse(uri.query(), &["code", "reason"])?;
    let code = query.number("code", 1000..=4999)?.unwrap_or(1000);
    let reason = query.text("reason").unwrap_or("");
    check_close(code, reason).map_err(|message| ApiError::bad_request("bad_query", message))?;
    match service.engine.close(id, code, reason).await {
        Some(true) => ok(&ClosedAnswer { connection: id.to_string(), code, reason }),
        Some(false) => Err(no_such_connection(id)),
        None => Err(ApiError::overloaded()),
    }
}

pub(super) fn connection_id(text: &str) -> Result<ConnectionId, ApiError> {
    text.parse().map_err(|error| ApiError::bad_request("bad_connection", format!("'{}': {error}", cut(text))))
}

pub(super) fn no_such_connection(id: ConnectionId) -> ApiError {
    ApiError::not_found("no_such_connection", format!("there is no connection {id}"))
}

/// Whether a Close frame may say this (RFC 6455, section 7.4).
pub(super) fn check_close(code: u16, reason: &str) -> Result<(), String> {
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(format!("code is '{code}': it must be 1000 to 1003, 1007 to 1014, or 3000 to 4999"));
    }
    if reason.len() > 123 {
        return Err(format!("reason has {} bytes: it may have at most 123", reason.len()));
    }
    Ok(())
}

/// A list with a part missing would be taken for the whole.
fn whole<T>(gathered: Gathered<T>) -> Result<T, ApiError> {
    if gathered.is_whole() {
        return Ok(gathered.value);
    }
    let (answered, asked) = (gathered.answered, gathered.asked);
    Err(ApiError::unavailable("overloaded", format!("{answered} of {asked} shards have answered: try again")))
}

fn filter(query: &Query) -> Result<ConnectionFilter, ApiError> {
    let states = [("open", ConnectionState::Open), ("closing", ConnectionState::Closing)];
    let topic = query.text("topic").map(str::to_owned);
    if let Some(topic) = &topic {
        check_name(topic)?;
    }
    Ok(ConnectionFilter {
        subject: query.text("subject").map(Into::into),
        peer: query.text("peer").map(network).transpose()?,
        topic,
        state: query.choice("state", &states)?,
        pending_min: query.number("pending_min", 0..=usize::MAX)?.unwrap_or(0),
    })
}

/// An address, or a network in CIDR notation. IPv4 in IPv6 is IPv4.
fn network(text: &str) -> Result<IpNet, BadQuery> {
    let network = text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse::<IpNet>());
    let network = network.map_err(|_| {
        let example = "an IP address, or a network such as 10.0.0.0/8 or 2001:db8::/32";
        BadQuery(format!("peer is '{}': it must be {example}", cut(text)))
    })?;
    let IpNet::V6(v6) = network else { return Ok(network) };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    Ok(mapped.and_then(|(v4, bits)| Ipv4Net::new(v4, bits).ok()).map_or(network, IpNet::V4))
}

#[derive(Debug, Serialize)]
struct ConnectionsAnswer {
    connections: Vec<ConnectionAnswer>,
    /// Where the next page begins; null after the last.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct ClosedAnswer<'a> {
    connection: String,
    code: u16,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct DetailsAnswer {
    #[serde(flatten)]
    connection: ConnectionAnswer,
    topics: Vec<String>,
    topics_complete: bool,
}

/// A connection, also as one of `$sys.slow`.
#[derive(Debug, Serialize)]
pub(in crate::server) struct ConnectionAnswer {
    connection: String,
    subject: Option<String>,
    peer: String,
    state: &'static str,
    age_ms: u64,
    idle_ms: u64,
    subscriptions: usize,
    pending: Amount,
    received_bytes: u64,
    received_messages: u32,
    sent_bytes: u64,
    compressed: bool,
    /// Only if asked for; null if the connection ended meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<Option<RatesAnswer>>,
}

impl From<&ConnectionInfo> for ConnectionAnswer {
    fn from(connection: &ConnectionInfo) -> Self {
        Self {
            connection: connection.id.to_string(),
            subject: connection.subject.as_ref().map(ToString::to_string),
            peer: connection.peer.to_string(),
            state: connection.state.label(),
            age_ms: millis(connection.age),
            idle_ms: millis(connection.idle),
            subscriptions: connection.subscriptions,
            pending: Amount { messages: connection.pending.messages, bytes: connection.pending.bytes },
            received_bytes: connection.bytes_in,
            received_messages: connection.messages_in,
            sent_bytes: connection.bytes_out,
            compressed: connection.compressed,
            rates: None,
        }
    }
}

/// What has changed between two looks, a second.
#[derive(Debug, Serialize)]
struct RatesAnswer {
    received_bytes_per_s: f64,
    received_messages_per_s: f64,
    sent_bytes_per_s: f64,
}

impl RatesAnswer {
    fn of(earlier: &ConnectionInfo, later: &ConnectionInfo, took: Duration) -> Self {
        Self {
            received_bytes_per_s: per_s(later.bytes_in.saturating_sub(earlier.bytes_in), took),
            received_messages_per_s: per_s(u64::from(later.messages_in.wrapping_sub(earlier.messages_in)), took),
            sent_bytes_per_s: per_s(later.bytes_out.saturating_sub(earlier.bytes_out), took),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_or_a_network() {
        for (text, same) in [
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).unwrap(), same.parse::<IpNet>().unwrap(), "{text}");
        }
        for text in ["", "10.0.0", "10.0.0.0/33", "host", "10.0.0.1:80"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
