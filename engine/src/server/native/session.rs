//! What each request of a native client does.

use super::NativeEncoding;
use super::reply::{self, Reply};
use super::request::{Action, Id, Request, parse};
use crate::server::query::{BadQuery, Query};
use crate::server::sys::{self, Reserved};
use crate::server::{check_name, check_topic};
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

/// Tells the client what its connection is called.
pub(in crate::server) fn open<D>(ctx: &mut Context<'_, D>) {
    let connection = ctx.id();
    answer(ctx, &Reply::Connected { connection });
}

/// Does what a message asks for, and answers it once.
pub(in crate::server) fn message<D>(ctx: &mut Context<'_, D>, message: Message<'_>) {
    match parse(message.payload()) {
        Ok(request) => act(ctx, &request),
        Err(fault) => answer(ctx, &Reply::fault(&fault)),
    }
}

fn act<D>(ctx: &mut Context<'_, D>, request: &Request<'_>) {
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
    }
}

fn subscribe<D>(ctx: &mut Context<'_, D>, id: Option<Id<'_>>, topic: &str, subscribe: Subscribe) {
    if ctx.is_subscribed(topic) {
        return fail(ctx, id, "already_subscribed", &format!("this connection has a subscription to '{topic}'"));
    }
    // The answer comes before what was missed, so the engine asks for it in between.
    let mut greet = |subscribed: &Subscribed| Some(Reply::subscribed(id, topic, subscribed).text());
    match ctx.subscribe_with(topic, subscribe, &mut greet) {
        Ok(_) | Err(SubscribeError::Closed) => {}
        Err(error) => fail(ctx, id, error.label(), &error.to_string()),
    }
}

fn unsubscribe<D>(ctx: &mut Context<'_, D>, id: Option<Id<'_>>, topic: &str) {
    if let Err(error) = check_name(topic) {
        fail(ctx, id, "bad_topic", &error.to_string());
    } else if ctx.unsubscribe(topic) {
        answer(ctx, &Reply::Unsubscribed { id, topic });
    } else {
        fail(ctx, id, "not_subscribed", &format!("this connection has no subscription to '{topic}'"));
    }
}

fn publish<D>(ctx: &mut Context<'_, D>, id: Option<Id<'_>>, topic: &str, data: &str, key: Option<&str>) {
    if let Err(reserved) = sys::check_publish(topic) {
        return fail(ctx, id, Reserved::CODE, &reserved.to_string());
    }
    match ctx.publish_with(topic, data, Publish { key, others: false }) {
        Ok(published) => answer(ctx, &Reply::published(id, topic, &published)),
        // No answer yet: the message comes again when there may be room, and until then the client is not read from.
        Err(PublishError::Overloaded) => ctx.retry(),
        Err(error) => fail(ctx, id, error.label(), &error.to_string()),
    }
}

fn history<D>(ctx: &mut Context<'_, D>, id: Option<Id<'_>>, topic: &str, since: Option<Position>, limit: usize) {
    if let Err(error) = check_topic(topic) {
        return fail(ctx, id, "bad_topic", &error.to_string());
    }
    match ctx.engine().history(topic, since, limit) {
        Some(page) => answer_text(ctx, &reply::history(id, topic, &page, since)),
        None => fail(ctx, id, "no_such_topic", &format!("there is no topic '{topic}'")),
    }
}

fn fail<D>(ctx: &mut Context<'_, D>, id: Option<Id<'_>>, code: &str, message: &str) {
    answer(ctx, &Reply::Error { id, code, message });
}

fn answer<D>(ctx: &mut Context<'_, D>, reply: &Reply<'_>) {
    answer_text(ctx, &reply.text());
}

fn answer_text<D>(ctx: &mut Context<'_, D>, text: &str) {
    match ctx.send(text) {
        SendOutcome::Written | SendOutcome::Queued | SendOutcome::Closed => {}
        // A client that waits for an answer must not wait for ever.
        SendOutcome::Dropped => ctx.close(1013, "answers are not read fast enough"),
    }
}
