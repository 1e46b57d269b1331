//! `/topics/{topic}`: the WebSocket is the topic. Each message in is published with its opcode and its payload
//! untouched; frames out are the bare payload. So nothing can be answered in band: what a client got wrong is said at
//! the upgrade, and what goes wrong later in the code and reason of the close.

use std::sync::Arc;

use serde::Deserialize;
use std::borrow::Cow;

use super::app::{Client, Kind};
use super::auth::{Action, Auth, Denied, Identity, is_reserved};
use super::query::{BadQuery, Query, cut, percent_decode};
use super::{check_name, go_elsewhere, member};
use crate::{Context, Message, Position, Publish, PublishError, Refusal, Subscribe, SubscribeError};

/// The close code when `since` cannot be honoured whole: the client knows it has missed something.
pub const CLOSE_CANNOT_RECOVER: u16 = 4010;

/// What a raw client is here for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It listens; a message from it is an error.
    Subscribe,
    /// It publishes; it gets nothing.
    Publish,
    /// Both.
    #[default]
    Both,
}

/// A connection on `/topics/{topic}`.
#[derive(Debug)]
pub struct Raw {
    topic: Arc<str>,
    mode: Mode,
    echo: bool,
    /// Only until it is subscribed, so not a part of every connection for good.
    subscribe: Option<Box<Subscribe>>,
}

/// What becomes of a message from this connection.
#[derive(Debug)]
struct Publisher {
    topic: Arc<str>,
    mode: Mode,
    echo: bool,
}

impl Raw {
    /// What the WebSocket is.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether somebody may do what this connection is for.
    pub(super) fn check(&self, identity: &Identity) -> Result<(), Denied> {
        let actions: &[_] = match self.mode {
            Mode::Subscribe => &[Action::Subscribe],
            Mode::Publish => &[Action::Publish],
            Mode::Both => &[Action::Subscribe, Action::Publish],
        };
        actions.iter().try_for_each(|action| identity.permissions.check(*action, Some(&self.topic)))
    }
}

/// Reads path and query of an upgrade. `topic` is the last segment of the path, as sent.
pub(super) fn accept(topic: &str, query: Option<&str>) -> Result<Raw, Refusal> {
    let topic = percent_decode(topic).ok_or_else(|| bad_topic("a topic name must be UTF-8"))?;
    let is_pattern = check_name(&topic).map_err(|error| bad_topic(&error.to_string()))?;
    let raw = parse(topic, query).map_err(|BadQuery(message)| bad_query(&message))?;
    if is_pattern && raw.mode != Mode::Subscribe {
        return Err(bad_query("a pattern can only be subscribed to: with it, mode must be 'subscribe'"));
    }
    if is_reserved(&raw.topic) && raw.mode != Mode::Subscribe {
        let message = "topics that begin with '$' can only be subscribed to: with them, mode must be 'subscribe'";
        return Err(Refusal::new(403).error("reserved", message));
    }
    if is_pattern && raw.subscribe.as_ref().is_some_and(|subscribe| subscribe.since.is_some() || subscribe.history > 0)
    {
        return Err(bad_query("a pattern has no history of its own: neither since nor history goes with it"));
    }
    Ok(raw)
}

fn parse(topic: String, query: Option<&str>) -> Result<Raw, BadQuery> {
    let query = Query::parse(query, &["mode", "echo", "since", "history"])?;
    let modes = [("subscribe", Mode::Subscribe), ("publish", Mode::Publish), ("both", Mode::Both)];
    let mode = query.choice("mode", &modes)?.unwrap_or_default();
    let echo = query.choice("echo", &[("true", true), ("false", false)])?.unwrap_or(true);
    let since: Option<Position> = query.value("since")?;
    let history = query.number("history", 0..=u32::MAX)?;
    match (mode, since, history) {
        (_, Some(_), Some(_)) => return Err(BadQuery("since and history exclude each other".into())),
        (Mode::Publish, Some(_), _) => return Err(BadQuery("since needs mode 'subscribe' or 'both'".into())),
        (Mode::Publish, _, Some(_)) => return Err(BadQuery("history needs mode 'subscribe' or 'both'".into())),
        _ => {}
    }
    let subscribe = Subscribe { since, history: history.unwrap_or(0) as usize, ..Subscribe::default() };
    let subscribe = (mode != Mode::Publish).then(|| Box::new(subscribe));
    Ok(Raw { topic: topic.into(), mode, echo, subscribe })
}

fn bad_topic(message: &str) -> Refusal {
    Refusal::new(400).error("bad_topic", message)
}

fn bad_query(message: &str) -> Refusal {
    Refusal::new(400).error("bad_query", message)
}

/// Subscribes, if that is what the client is here for.
pub(super) fn open(ctx: &mut Context<'_, Client>) {
    let Kind::Raw(raw) = &mut ctx.data().kind else { return };
    let (topic, Some(subscribe)) = (raw.topic.clone(), raw.subscribe.take()) else { return };
    if ctx.engine().is_succeeded() {
        return go_elsewhere(ctx);
    }
    match ctx.subscribe(&topic, *subscribe) {
        // Whole or refused, never silent: without an envelope, the close is the only way to say it.
        Ok(subscribed) if subscribed.recovered == Some(false) && subscribe.since.is_some() => {
            ctx.unsubscribe(&topic);
            let since = subscribe.since.map(|position| position.to_string()).unwrap_or_default();
            ctx.close(CLOSE_CANNOT_RECOVER, &format!("cannot recover since {since}"));
        }
        Ok(_) => {}
        Err(error) => close_unsubscribed(ctx, &error),
    }
}

fn close_unsubscribed(ctx: &mut Context<'_, Client>, error: &SubscribeError) {
    let code = match error {
        SubscribeError::Name(_) | SubscribeError::PatternRecovery => 1008,
        SubscribeError::TooManySubscriptions { .. } | SubscribeError::TooManyTopics { .. } => 1013,
        SubscribeError::UnknownEncoding => 1011,
        SubscribeError::Closed => return,
    };
    ctx.close(code, &reason(error.label(), &error.to_string()));
}

/// A token in a message: the one thing that is not published.
#[derive(Deserialize)]
struct Token<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    token: Cow<'a, str>,
}

/// The token in a message, if it is one that has one. Most messages are told apart without being read as JSON.
fn token_in<'m>(message: &Message<'m>) -> Option<Cow<'m, str>> {
    let Message::Text(text) = message else { return None };
    if !text.trim_ascii_start().starts_with('{') || !(text.contains("\"auth\"") || text.contains("\\u")) {
        return None;
    }
    let token: Token<'m> = serde_json::from_str(text).ok()?;
    (token.kind == "auth").then_some(token.token)
}

/// Takes a token, or publishes what the client has sent, or says why not by closing.
pub(super) fn message(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>, message: Message<'_>) {
    if auth.checks_tokens()
        && let Some(token) = token_in(&message)
    {
        return member::authenticate(auth, ctx, &token, None);
    }
    match ctx.data() {
        Client { member: None, .. } => member::close_unknown(auth, ctx),
        Client { kind: Kind::Raw(raw), .. } => {
            let publisher = Publisher { topic: raw.topic.clone(), mode: raw.mode, echo: raw.echo };
            publish(ctx, &publisher, message);
        }
        Client { kind: Kind::Native, .. } => {}
    }
}

fn publish(ctx: &mut Context<'_, Client>, publisher: &Publisher, message: Message<'_>) {
    if publisher.mode == Mode::Subscribe {
        ctx.close(1008, "this connection only subscribes");
        return;
    }
    let publish = Publish { key: None, others: !publisher.echo };
    let Err(error) = ctx.publish_with(&publisher.topic, message, publish) else { return };
    let code = match error {
        PublishError::Overloaded => return ctx.retry(),
        PublishError::Name(_) => 1008,
        PublishError::TooManyTopics { .. } => 1013,
        PublishError::TooBig { .. } => 1009,
        PublishError::ShuttingDown if ctx.engine().is_succeeded() => return go_elsewhere(ctx),
        PublishError::ShuttingDown => 1001,
    };
    ctx.close(code, &reason(error.label(), &error.to_string()));
}

/// A close reason holds 123 bytes.
fn reason(label: &str, message: &str) -> String {
    format!("{label}: {}", cut(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;
    use proptest::prelude::*;

    #[test]
    fn everything_has_a_default() {
        let raw = accept("big%20room", None).unwrap();
        assert_eq!((&*raw.topic, raw.mode, raw.echo), ("big room", Mode::Both, true));
        let subscribe = raw.subscribe.unwrap();
        assert_eq!((subscribe.since, subscribe.history), (None, 0));
    }

    #[test]
    fn the_query_chooses_what_the_connection_does() {
        let raw = accept("t", Some("mode=publish&echo=false")).unwrap();
        assert_eq!((raw.mode, raw.echo, raw.subscribe.is_none()), (Mode::Publish, false, true));
        let raw = accept("t", Some("since=5f:42")).unwrap();
        assert_eq!(raw.subscribe.unwrap().since, Some(Position { epoch: Epoch(0x5f), offset: 42 }));
        let raw = accept("a%2Fb", Some("history=10")).unwrap();
        assert_eq!((&*raw.topic, raw.subscribe.unwrap().history), ("a/b", 10));
        assert_eq!(accept("prices.*", Some("mode=subscribe")).unwrap().mode, Mode::Subscribe);
    }

    #[test]
    fn bad_values_are_refused_at_the_upgrade() {
        for (topic, query) in [
            ("", ""),
            ("%ff", ""),
            ("a%0Ab", ""),
            ("t", "mode=listen"),
            ("t", "echo=no"),
            ("t", "since=42"),
            ("t", "history=-1"),
            ("t", "history=1&since=1:1"),
            ("t", "mode=publish&history=1"),
            ("t", "mode=publish&since=1:1"),
            ("t", "sinse=1:1"),
            ("prices.*", ""),
            ("prices.*", "mode=publish"),
            ("prices.*", "mode=subscribe&history=1"),
            ("prices.*", "mode=subscribe&since=1:1"),
        ] {
            assert!(accept(topic, Some(query)).is_err(), "{topic}?{query}");
        }
    }

    #[test]
    fn a_connection_keeps_little() {
        assert!(size_of::<Client>() <= 40);
    }

    proptest! {
        #[test]
        fn no_upgrade_makes_it_panic(topic in "\\PC{0,80}", query in "\\PC{0,80}") {
            let _ = accept(&topic, Some(&query));
        }

        #[test]
        fn reasons_fit_a_close_frame(message in "\\PC{0,300}") {
            prop_assert!(reason("too_many_subscriptions", &message).len() <= 123);
        }
    }
}
