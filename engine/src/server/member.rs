//! The one behind an open connection: shown with the upgrade or with a message, shown anew before that ends, and what
//! becomes of the connection if not.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::app::{Client, Kind};
use super::auth::credentials::Credentials;
use super::auth::denied::{CLOSE_EXPIRED, CLOSE_INVALID, CLOSE_TIMEOUT};
use super::auth::{Action, Auth, Denied, Identity, Verdict, now_s, outcome_of};
use super::{native, raw};
use crate::Context;

/// The timer until which a token must have come.
const TIMER_TOKEN: u64 = 1;
/// The timer of the token's end.
const TIMER_END: u64 = 2;

/// No timer is set for longer: who stays longer is looked at once more.
const TIMER_MAX: Duration = Duration::from_secs(24 * 3600);

/// What an answer of the program may be late, until the client is no longer waited for.
const MARGIN: Duration = Duration::from_secs(5);

/// What was found out about a token in a message.
struct Answered {
    outcome: Result<Arc<Identity>, Denied>,
    /// What the client calls its request.
    id: Option<String>,
}

/// Sets the timers of a new connection.
pub(super) fn open(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>) {
    match ctx.data().member.clone() {
        Some(identity) => await_end(ctx, &identity),
        None => {
            ctx.set_timer(auth.state().settings().timeout, TIMER_TOKEN);
        }
    }
}

fn await_end(ctx: &mut Context<'_, Client>, identity: &Identity) {
    match identity.ends_at {
        Some(end) => {
            let left = Duration::from_secs(end.saturating_sub(now_s()));
            ctx.set_timer(left.min(TIMER_MAX), TIMER_END);
        }
        None => {
            ctx.cancel_timer(TIMER_END);
        }
    }
}

/// A timer has run out.
pub(super) fn timer(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>, token: u64) {
    match (token, ctx.data().member.clone()) {
        (TIMER_TOKEN, None) => {
            auth.metrics().count_closed("timeout");
            log(ctx, "no token came in time");
            ctx.close(CLOSE_TIMEOUT, "authentication timeout");
        }
        (TIMER_END, Some(identity)) => match identity.check_time(now_s()) {
            Ok(()) => await_end(ctx, &identity),
            Err(_) => {
                auth.metrics().count_closed("expired");
                log(ctx, "the token has expired");
                ctx.close(CLOSE_EXPIRED, "token expired");
            }
        },
        _ => {}
    }
}

/// A message that is none where a token had to be.
pub(super) fn close_unknown(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>) {
    auth.metrics().count_denied(&Denied::NoToken);
    auth.metrics().count_closed("invalid");
    log(ctx, "the first message has no token");
    ctx.close(CLOSE_INVALID, "unauthenticated: the first message must be {\"type\":\"auth\",\"token\":…}");
}

/// Takes a token that came in a message. `id` is what the client calls its request, as JSON.
pub(super) fn authenticate(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>, token: &str, id: Option<&str>) {
    let state = auth.state();
    if !state.checks_tokens() {
        // Nobody is asked who he is; a client that says it all the same need not know.
        return match ctx.data().member.clone() {
            Some(identity) => native::authenticated(ctx, id, &identity),
            None => close_unknown(auth, ctx),
        };
    }
    let path = match &ctx.data().kind {
        Kind::Raw(raw) => format!("/topics/{}", raw.topic()),
        Kind::Native => "/ws".into(),
    };
    let credentials = Credentials::of_message(token, path, ctx.peer().ip());
    match auth.judge(&state, &credentials) {
        Ok(Verdict::Known(identity)) => settle(auth, ctx, Ok(identity), id),
        Ok(Verdict::Nobody) => settle(auth, ctx, Err(Denied::Malformed), id),
        Err(denied) => settle(auth, ctx, Err(denied), id),
        Ok(Verdict::Ask) => {
            if ctx.data().member.is_none() {
                // It has sent what it had to; should the answer get lost, it does not stay for ever.
                ctx.set_timer(state.callback_timeout() + MARGIN, TIMER_TOKEN);
            }
            let (deferred, auth, id) = (ctx.defer(), auth.clone(), id.map(Into::into));
            ctx.engine().clone().spawn(async move {
                let outcome = auth.ask(&state, &credentials).await.and_then(|found| found.ok_or(Denied::Rejected));
                deferred.complete(Answered { outcome, id });
            });
        }
    }
}

/// The program has answered.
pub(super) fn resume(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>, value: Box<dyn Any + Send>) {
    if let Ok(answered) = value.downcast::<Answered>() {
        settle(auth, ctx, answered.outcome, answered.id.as_deref());
    }
}

/// Does what follows from what was found out.
fn settle(auth: &Arc<Auth>, ctx: &mut Context<'_, Client>, outcome: Result<Arc<Identity>, Denied>, id: Option<&str>) {
    let is_new = ctx.data().member.is_none();
    let checked = outcome.and_then(|identity| check(ctx.data(), &identity).map(|()| identity));
    match checked {
        Ok(identity) => {
            auth.metrics().count_allowed(outcome_of(&identity));
            become_member(ctx, &identity);
            match ctx.data().kind {
                Kind::Native => {
                    native::authenticated(ctx, id, &identity);
                    end_forbidden(ctx, &identity);
                }
                Kind::Raw(_) if is_new => raw::open(ctx),
                Kind::Raw(_) => {}
            }
        }
        Err(denied) => {
            auth.metrics().count_denied(&denied);
            log(ctx, denied.label());
            if !is_new && matches!(ctx.data().kind, Kind::Native) {
                return native::refuse(ctx, id, &denied);
            }
            let cause = if matches!(denied, Denied::Forbidden(..)) { "forbidden" } else { "invalid" };
            auth.metrics().count_closed(cause);
            let (code, reason) = denied.close();
            ctx.close(code, &reason);
        }
    }
}

/// Whether a connection can become, or stay, that of this somebody.
fn check(client: &Client, identity: &Identity) -> Result<(), Denied> {
    identity.check_time(now_s())?;
    let own = client.member.as_ref().filter(|own| own.is_authenticated);
    if own.is_some_and(|own| own.subject != identity.subject) {
        return Err(Denied::OtherSubject);
    }
    match &client.kind {
        Kind::Raw(raw) => raw.check(identity),
        Kind::Native => Ok(()),
    }
}

fn become_member(ctx: &mut Context<'_, Client>, identity: &Arc<Identity>) {
    ctx.cancel_timer(TIMER_TOKEN);
    ctx.data().member = Some(identity.clone());
    ctx.set_subject(identity.subject.as_deref());
    ctx.set_limits(identity.limits.clone());
    await_end(ctx, identity);
}

/// Ends the subscriptions that a new token does not permit any more.
fn end_forbidden(ctx: &mut Context<'_, Client>, identity: &Identity) {
    for topic in ctx.subscriptions() {
        if !identity.permissions.allow(Action::Subscribe, &topic) && ctx.unsubscribe(&topic) {
            native::ended(ctx, &topic);
        }
    }
}

fn log(ctx: &Context<'_, Client>, what: &str) {
    tracing::debug!(connection = %ctx.id(), client = %ctx.peer().ip(), what, "authentication failed");
}
