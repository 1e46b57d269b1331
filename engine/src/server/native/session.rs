//! What each request of a native client does.

use std::sync::Arc;

use super::NativeEncoding;
use super::reply::{self, Reply};
use super::request::{Action, Id, Request, parse};
use crate::server::app::Client;
use crate::server::auth::{Action as Doing, Auth, Denied, Identity, is_reserved};
use crate::server::query::{BadQuery, Query};
use crate::server::{check_name, check_topic, go_elsewhere, member};
use crate::{
    Context, Message, Position, Publish, PublishError, Refusal, SendOutcome, Subscribe, SubscribeError, Subscribed,
};

/// `/ws` takes no parameters.
pub(in crate::server) fn accept(query: Option<&str>) -> Result<(), Refusal> {
    match Query::parse(query, &[]) {
        Ok(_) => Ok(()),
        Err(BadQuery(message)) => Err(Refusal::new(400).error("bad_query", &message)),
    }
}

/// Tells the client what its connection is called, and whether it is known who it is if that matters.
pub(in crate::server) fn open(auth: &Auth, ctx: &mut Context<'_, Client>) {
    let (connection, member) = (ctx.id(), ctx.data().member.clone());
    let is_known = |member: &Option<Arc<Identity>>| member.as_ref().is_some_and(|member| member.is_authenticated);
    let authenticated = auth.state().settings().is_on().then(|| is_known(&member));
    let subject = member.as_ref().and_then(|member| member.subject.as_deref());
    let expires_at = member.as_ref().and_then(|member| member.expires_at);
    answer(ctx, &Reply::Connected { connection, authenticated, subject, expires_at });
}

/// Tells the client that its token has been taken. `id` is what it calls its request, as JSON.
pub(in crate::server) fn authenticated(ctx: &mut Context<'_, Client>, id: Option<&str>, identity: &Identity) {
    let (subject, expires_at) = (identity.subject.as_deref(), identity.expires_at);
    answer(ctx, &Reply::Authenticated { id: id.and_then(Id::read), subject, expires_at });
}

/// Tells the client that its new token was not taken; what it had still holds.
pub(in crate::server) fn refuse(ctx: &mut Context<'_, Client>, id: Option<&str>, denied: &Denied) {
    fail(ctx, id.and_then(Id::read), denied.code(), &denied.message());
}

/// Tells the client that a subscription was ended, as its new token does not permit it.
pub(in crate::server) fn ended(ctx: &mut Context<'_, Client>, topic: &str) {
    answer(ctx, &Reply::Unsubscribed { id: None, topic, reason: Some("forbidden") });
}

/// Does what a message asks for, and answers it once.
pub(in crate::server) fn message(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>, message: Message<'_>) {
    match parse(message.payload()) {
        Ok(Request { id, action: Action::Auth { token } }) => {
            member::authenticate(auth, ctx, token.reveal(), id.map(Id::as_json));
        }
        _ if ctx.data().member.is_none() => member::close_unknown(auth, ctx),
        Ok(request) => act(ctx, &request),
        Err(fault) => answer(ctx, &Reply::fault(&fault)),
    }
}

/// Whether the client may do this; if not, it is told.
fn may(ctx: &mut Context<'_, Client>, id: Option<Id<'_>>, doing: Doing, topic: &str) -> bool {
    let checked = match &ctx.data().member {
        Some(member) => member.permissions.check(doing, Some(topic)),
        None => Err(Denied::NoToken),
    };
    if let Err(denied) = &checked {
        fail(ctx, id, denied.code(), &denied.message());
    }
    checked.is_ok()
}

fn act(ctx: &mut Context<'_, Client>, request: &Request<'_>) {
    let id = request.id;
    match &request.action {
        Action::Subscribe { topic, since, history } => {
            let subscribe = Subscribe { encoding: NativeEncoding::ID, since: *since, history: *history };
            self::subscribe(ctx, id, topic, subscribe);
        }
        Action::Unsubscribe { topic } => unsubscribe(ctx, id, topic),
        Action::Publish { topic, data, key } => publish(ctx, id, topic, data, key.as_deref()),
        Action::History { topic, since, limit } => history(ctx, id, topic, *since, *limit),
        Action::Ping => answer(ctx, &Reply::Pong { id }),
        // Taken before it comes here.
        Action::Auth { .. } => {}
    }
}

fn subscribe(ctx: &mut Context<'_, Client>, id: Option<Id<'_>>, topic: &str, subscribe: Subscribe) {
    if !may(ctx, id, Doing::Subscribe, topic) {
        return;
    }
    if ctx.is_subscribed(topic) {
        return fail(ctx, id, "already_subscribed", &format!("this connection has a subscription to '{topic}'"));
    }
    if ctx.engine().is_succeeded() {
        return go_elsewhere(ctx);
    }
    // The answer comes before what was missed, so the engine asks for it in between.
    let mut greet = |subscribed: &Subscribed| Some(Reply::subscribed(id, topic, subscribed).text());
    match ctx.subscribe_with(topic, subscribe, &mut greet) {
        Ok(_) | Err(SubscribeError::Closed) => {}
        Err(error) => fail(ctx, id, error.label(), &error.to_string()),
    }
}

fn unsubscribe(ctx: &mut Context<'_, Client>, id: Option<Id<'_>>, topic: &str) {
    if let Err(error) = check_name(topic) {
        fail(ctx, id, "bad_topic", &error.to_string());
    } else if ctx.unsubscribe(topic) {
        answer(ctx, &Reply::Unsubscribed { id, topic, reason: None });
    } else {
        fail(ctx, id, "not_subscribed", &format!("this connection has no subscription to '{topic}'"));
    }
}

fn publish(ctx: &mut Context<'_, Client>, id: Option<Id<'_>>, topic: &str, data: &str, key: Option<&str>) {
    if !may(ctx, id, Doing::Publish, topic) {
        return;
    }
    if is_reserved(topic) {
        return fail(ctx, id, "reserved", "topics that begin with '$' are the server's own: they can be subscribed to");
    }
    match ctx.publish_with(topic, data, Publish { key, others: false }) {
        Ok(published) => answer(ctx, &Reply::published(id, topic, &published)),
        // No answer yet: the message comes again when there may be room, and until then the client is not read from.
        Err(PublishError::Overloaded) => ctx.retry(),
        Err(error) => {
            fail(ctx, id, error.label(), &error.to_string());
            if error == PublishError::ShuttingDown && ctx.engine().is_succeeded() {
                go_elsewhere(ctx);
            }
        }
    }
}

fn history(ctx: &mut Context<'_, Client>, id: Option<Id<'_>>, topic: &str, since: Option<Position>, limit: usize) {
    if let Err(error) = check_topic(topic) {
        return fail(ctx, id, "bad_topic", &error.to_string());
    }
    if !may(ctx, id, Doing::History, topic) {
        return;
    }
    match ctx.engine().history(topic, since, limit) {
        Some(page) => answer_text(ctx, &reply::history(id, topic, &page, since)),
        None => fail(ctx, id, "no_such_topic", &format!("there is no topic '{topic}'")),
    }
}

fn fail(ctx: &mut Context<'_, Client>, id: Option<Id<'_>>, code: &str, message: &str) {
    answer(ctx, &Reply::Error { id, code, message });
}

fn answer(ctx: &mut Context<'_, Client>, reply: &Reply<'_>) {
    answer_text(ctx, &reply.text());
}

fn answer_text(ctx: &mut Context<'_, Client>, text: &str) {
    match ctx.send(text) {
        SendOutcome::Written | SendOutcome::Queued | SendOutcome::Closed => {}
        // A client that waits for an answer must not wait for ever.
        SendOutcome::Dropped => ctx.close(1013, "answers are not read fast enough"),
    }
}
