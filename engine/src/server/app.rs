//! The handler of the binary: the path of the upgrade chooses the protocol, and each connection keeps to its own. Who may
//! come in is decided before that, or with the first message.

use std::any::Any;
use std::sync::Arc;

use super::auth::credentials::{self, Credentials, Headers, choose_protocol, is_local, split_query, token_of};
use super::auth::jwt::TOKEN_BYTES_MAX;
use super::auth::{Auth, Denied, Identity, State, Verdict, now_s, outcome_of};
use super::query::BadQuery;
use super::{member, native, orders, raw};
use crate::{Accept, ConnectionLimits, Context, Decision, Handler, Message, Refusal, Upgrade};

/// The longest message of a client that has not shown a token yet, in bytes: one with the longest token.
const FIRST_MESSAGE_BYTES_MAX: usize = TOKEN_BYTES_MAX + 1024;

/// The program that `fanfare` runs on the engine. It keeps nothing but what each connection needs.
#[derive(Debug, Clone)]
pub struct App {
    auth: Arc<Auth>,
}

/// What is kept for a connection.
#[derive(Debug)]
pub struct Client {
    pub(super) kind: Kind,
    /// Who it is; none until that was shown.
    pub(super) member: Option<Arc<Identity>>,
}

/// Which protocol it speaks.
#[derive(Debug)]
pub enum Kind {
    /// On `/topics/{topic}`.
    Raw(raw::Raw),
    /// On `/ws`. All it needs, the engine knows.
    Native,
}

impl App {
    /// With this to decide who clients are.
    #[must_use]
    pub fn new(auth: Arc<Auth>) -> Self {
        Self { auth }
    }

    fn decide(&self, request: &Upgrade<'_>) -> Result<Decision<Client>, Refusal> {
        let state = self.auth.state();
        let settings = state.settings();
        let (in_query, query) = match settings.query_token {
            true => {
                split_query(request.query()).map_err(|BadQuery(what)| Refusal::new(400).error("bad_query", &what))?
            }
            false => (None, request.query().map(Into::into)),
        };
        let kind = route(request.path(), query.as_deref())?;
        let is_asked = settings.callback.is_some();
        let credentials = Credentials {
            token: state.checks_tokens().then(|| token_of(request, in_query, settings.cookie.as_deref())).flatten(),
            path: request.path().into(),
            query,
            client: Some(request.peer().ip()),
            headers: if is_asked { request.told() } else { Vec::new() },
        };
        let is_local = is_local(request.peer(), request.local(), request);
        let verdict = self.auth.judge(&state, &credentials);
        let auth = self.auth.clone();
        let certified = self.auth.by_certificate(&state, request.client_certificate());
        let protocol = choose_protocol(request);
        let entry = Entry { auth, state, kind, credentials, certified, is_local, protocol };
        Ok(match verdict {
            Ok(Verdict::Known(identity)) => entry.admit(Some(identity)),
            Ok(Verdict::Nobody) => entry.admit(None),
            Ok(Verdict::Ask) => Decision::Later(Box::pin(async move {
                match entry.auth.ask(&entry.state, &entry.credentials).await {
                    Ok(identity) => entry.admit(identity),
                    Err(denied) => entry.deny(&denied),
                }
            })),
            Err(denied) => entry.deny(&denied),
        })
    }
}

impl Handler for App {
    type Data = Client;

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<Client> {
        self.decide(request).unwrap_or_else(Into::into)
    }

    fn open(&self, ctx: &mut Context<'_, Client>) {
        member::open(&self.auth, ctx);
        match ctx.data() {
            Client { kind: Kind::Native, .. } => native::open(&self.auth, ctx),
            Client { member: Some(_), .. } => raw::open(ctx),
            // It is not subscribed before it is known who it is.
            Client { member: None, .. } => {}
        }
    }

    fn message(&self, ctx: &mut Context<'_, Client>, message: Message<'_>) {
        match ctx.data().kind {
            Kind::Raw(_) => raw::message(&self.auth, ctx, message),
            Kind::Native => native::message(&self.auth, ctx, message),
        }
    }

    fn timer(&self, ctx: &mut Context<'_, Client>, token: u64) {
        member::timer(&self.auth, ctx, token);
    }

    fn resume(&self, ctx: &mut Context<'_, Client>, value: Box<dyn Any + Send>) {
        member::resume(&self.auth, ctx, value);
    }

    fn told(&self, ctx: &mut Context<'_, Client>, word: &(dyn Any + Send + Sync)) {
        let is_native = matches!(ctx.data().kind, Kind::Native);
        orders::carry_out(ctx, is_native, word);
    }
}

/// Which protocol is spoken on this path.
fn route(path: &str, query: Option<&str>) -> Result<Kind, Refusal> {
    match path {
        "/ws" => native::accept(query).map(|()| Kind::Native),
        path => match path.strip_prefix("/topics/") {
            // One segment: a slash within a name is sent as %2F.
            Some(topic) if !topic.contains('/') => raw::accept(topic, query).map(Kind::Raw),
            _ => Err(Refusal::new(404).error("not_found", "there are WebSockets at /ws and at /topics/{topic}")),
        },
    }
}

/// An upgrade on its way.
struct Entry {
    auth: Arc<Auth>,
    state: Arc<State>,
    kind: Kind,
    credentials: Credentials,
    /// Who it is by the certificate it has shown, if it has; a token says more.
    certified: Option<Arc<Identity>>,
    /// Whether it comes from this machine itself.
    is_local: bool,
    protocol: Option<String>,
}

impl Entry {
    /// Lets in who is known, and who may come without a token or send one later.
    fn admit(self, known: Option<Arc<Identity>>) -> Decision<Client> {
        let shown = known.or_else(|| self.certified.clone());
        let member = shown.or_else(|| self.auth.without_token(&self.state, self.is_local));
        let refused = match (&member, &self.kind) {
            (None, _) if self.state.settings().timeout.is_zero() => Some(Denied::NoToken),
            (None, _) | (Some(_), Kind::Native) => None,
            (Some(identity), Kind::Raw(raw)) => {
                raw.check(identity).err().map(|denied| match identity.is_authenticated {
                    true => denied,
                    false if self.state.settings().is_on() => Denied::NoToken,
                    false => denied,
                })
            }
        };
        let late = member.as_ref().and_then(|identity| identity.check_time(now_s()).err());
        if let Some(denied) = refused.or(late) {
            return self.deny(&denied);
        }
        self.auth.metrics().count_allowed(member.as_deref().map_or("waiting", outcome_of));
        let accept = Accept::new(Client { kind: self.kind, member: member.clone() }).protocol(self.protocol.as_deref());
        let Some(identity) = member else {
            let limits = ConnectionLimits { message_bytes: Some(FIRST_MESSAGE_BYTES_MAX), ..Default::default() };
            return accept.limits(limits).into();
        };
        let accept = match &identity.subject {
            Some(subject) => accept.subject(subject),
            None => accept,
        };
        match identity.limits == ConnectionLimits::default() {
            true => accept.into(),
            false => accept.limits(identity.limits.clone()).into(),
        }
    }

    fn deny(&self, denied: &Denied) -> Decision<Client> {
        self.auth.metrics().count_denied(denied);
        let Credentials { path, client, .. } = &self.credentials;
        tracing::debug!(?client, path, outcome = denied.label(), "upgrade denied");
        denied.refusal().into()
    }
}

/// The subprotocol that clients may offer, for those who write them in Rust.
pub const PROTOCOL: &str = credentials::PROTOCOL;
