//! Who a client is, and what it may do.
//!
//! [`credentials`] is what a request brings, [`jwt`] and [`keys`] check tokens, [`callback`] asks a program (with
//! [`breaker`], so that one that does not answer is left alone), [`claims`] is what either says, [`identity`] and
//! [`permissions`] what comes of it, [`cache`] keeps it for a while, and [`denied`] is every way not to be let in. All that
//! is decided by lies in one [`State`], which is replaced as a whole.

pub mod breaker;
pub mod cache;
pub mod callback;
pub mod claims;
pub mod credentials;
pub mod denied;
pub mod identity;
pub mod jwt;
pub mod keys;
pub mod metrics;
pub mod permissions;
pub mod settings;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;

use self::cache::{Fingerprint, Identities};
use self::callback::Callback;
use self::credentials::{Credentials, Headers};
pub use self::denied::Denied;
pub use self::identity::{Identity, now_s};
use self::jwt::{TOKEN_BYTES_MAX, Verifier};
use self::metrics::{AuthCollector, AuthMetrics};
use self::permissions::{Permissions, check_role_pattern};
pub use self::settings::{AuthSettings, CallbackSettings, JwtKey, Role, Rules, Secret};
use super::http::error::ApiError;
use crate::{Arrival, ClientCertificate, EngineHandle};

/// What somebody wants to do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Get its publications.
    Subscribe,
    /// Publish to it.
    Publish,
    /// Read what is kept of it, beyond what a subscription brings.
    History,
    /// Look into it and remove things; on `>`: everything, connections and the server itself included.
    Admin,
}

/// All that is decided by at one time.
#[derive(Debug)]
pub struct State {
    settings: AuthSettings,
    verifier: Option<Verifier>,
    callback: Option<Callback>,
    api_token: Option<Fingerprint>,
    /// Whose tokens have been checked.
    known: Identities,
    /// Who comes without a token, if anybody may.
    anonymous: Option<Arc<Identity>>,
}

/// What can be said about credentials at once.
#[derive(Debug)]
pub enum Verdict {
    /// This is who it is.
    Known(Arc<Identity>),
    /// There is nothing to go by.
    Nobody,
    /// The program has to be asked.
    Ask,
}

/// Decides who a client is and what it may do. One for the server; what it decides by can be replaced while it runs.
pub struct Auth {
    state: ArcSwap<State>,
    metrics: Arc<AuthMetrics>,
    /// Who has the token that may do everything.
    everything: Arc<Identity>,
    /// Who is on this machine, or comes over a listener for operators, and has shown nothing.
    trusted: Arc<Identity>,
    /// Everybody, if nobody is asked who he is.
    everybody: Arc<Identity>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

impl Auth {
    /// Reads the keys.
    ///
    /// # Errors
    /// A sentence that names the setting and the file, and says what to do.
    pub fn new(settings: &AuthSettings) -> Result<Self, String> {
        let metrics = Arc::<AuthMetrics>::default();
        Ok(Self {
            state: ArcSwap::from_pointee(State::new(settings, &metrics)?),
            metrics,
            everything: Arc::new(Identity { is_authenticated: true, ..Identity::nobody(Permissions::everything()) }),
            trusted: Arc::new(Identity::nobody(Permissions::everything())),
            everybody: Arc::new(Identity::nobody(Permissions::all_topics())),
        })
    }

    /// Reads the keys anew and decides by them from now on; keeps what it had if something is wrong. Connections keep what
    /// they were permitted, until their token ends or they send another.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn reload(&self, settings: &AuthSettings) -> Result<(), String> {
        self.state.store(Arc::new(State::new(settings, &self.metrics)?));
        Ok(())
    }

    /// Adds what is counted to the engine's metrics.
    pub fn add_metrics(self: &Arc<Self>, engine: &EngineHandle) {
        let auth = Arc::downgrade(self);
        engine.add_metrics(move || Box::new(AuthCollector(auth.clone())));
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &AuthMetrics {
        &self.metrics
    }

    /// What is decided by now.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Whether there is anything that a token could be checked by: only then it is looked at.
    #[must_use]
    pub fn checks_tokens(&self) -> bool {
        self.state.load().checks_tokens()
    }

    /// Whether the program that decides is left alone, as it does not answer.
    #[must_use]
    pub fn is_callback_paused(&self) -> bool {
        self.state.load().callback.as_ref().is_some_and(Callback::is_paused)
    }

    /// What can be said at once.
    ///
    /// # Errors
    /// The token is not valid.
    pub fn judge(&self, state: &State, credentials: &Credentials) -> Result<Verdict, Denied> {
        let now = now_s();
        if let Some(token) = credentials.token.as_deref() {
            if token.len() > TOKEN_BYTES_MAX {
                return Err(Denied::TooLong);
            }
            if state.is_api_token(token) {
                return Ok(Verdict::Known(self.everything.clone()));
            }
            if let Some(verifier) = &state.verifier
                && (Verifier::is_jwt(token) || state.callback.is_none())
            {
                return self.verify(state, verifier, token, now).map(Verdict::Known);
            }
        }
        match &state.callback {
            Some(callback) if credentials.is_something() => Ok(match callback.known(credentials) {
                Some(identity) => Verdict::Known(identity),
                None => Verdict::Ask,
            }),
            None if credentials.token.is_some() && state.checks_tokens() => Err(Denied::Malformed),
            _ => Ok(Verdict::Nobody),
        }
    }

    fn verify(&self, state: &State, verifier: &Verifier, token: &str, now: u64) -> Result<Arc<Identity>, Denied> {
        let fingerprint = Fingerprint::of(&[Some(token.as_bytes())]);
        let known = state.known.get(&fingerprint, now);
        self.metrics.count_cache("token", known.is_some());
        if let Some(identity) = known {
            return Ok(identity);
        }
        let claims = verifier.verify(token, now)?;
        let identity = Arc::new(Identity::new(claims, &state.settings.roles, verifier.leeway_s()));
        state.known.put(fingerprint, &identity, identity.ends_at.unwrap_or(now));
        Ok(identity)
    }

    /// Asks the program, after [`Verdict::Ask`]. Who has brought no token but only what may be meant for others, as cookies,
    /// and is not known by it, is as good as nobody.
    ///
    /// # Errors
    /// What the program says against it, or that it does not answer.
    pub async fn ask(&self, state: &State, credentials: &Credentials) -> Result<Option<Arc<Identity>>, Denied> {
        let Some(callback) = &state.callback else { return Err(Denied::Malformed) };
        match callback.ask(credentials, &state.settings.roles).await {
            Ok(identity) => Ok(Some(identity)),
            Err(Denied::Rejected) if credentials.token.is_none() => Ok(None),
            Err(denied) => Err(denied),
        }
    }

    /// Who it is that has shown a certificate in the TLS handshake; none without one, or after its end: a connection may go on
    /// for longer. Permissions are those of the role
    /// `default`, as with a token that claims nothing but its subject.
    #[must_use]
    pub fn by_certificate(&self, state: &State, certificate: Option<&ClientCertificate>) -> Option<Arc<Identity>> {
        let certificate = certificate.filter(|_| state.settings.client_certificates)?;
        // It holds up to and including that second.
        let end = u64::try_from(certificate.not_after()).ok()?;
        if end < now_s() {
            return None;
        }
        // Told from tokens, which have one part.
        let fingerprint = Fingerprint::of(&[Some(b"certificate"), Some(certificate.der())]);
        if let Some(identity) = state.known.get(&fingerprint, now_s()) {
            return Some(identity);
        }
        let identity = Arc::new(Identity::of_certificate(certificate, &state.settings.roles));
        state.known.put(fingerprint, &identity, end);
        Some(identity)
    }

    /// Who it is that has brought nothing: anonymous; everything or everybody if nobody is asked who he is.
    #[must_use]
    pub fn without_token(&self, state: &State, is_local: bool) -> Option<Arc<Identity>> {
        if state.settings.is_on() {
            return state.anonymous.clone();
        }
        let trusts_local = is_local && state.settings.api_on_loopback;
        Some(if trusts_local { self.trusted.clone() } else { self.everybody.clone() })
    }

    /// Finds out who an HTTP request is from, for all that it wants to do.
    ///
    /// # Errors
    /// The answer: 401 without valid credentials, 503 if it cannot be found out now.
    pub async fn identify(&self, arrival: &Arrival, headers: &http::HeaderMap) -> Result<Arc<Identity>, ApiError> {
        let found = self.find(arrival, headers).await;
        match &found {
            Ok(identity) => self.metrics.count_allowed(outcome_of(identity)),
            Err(denied) => {
                self.metrics.count_denied(denied);
                tracing::debug!(client = %arrival.client.ip(), outcome = denied.label(), "HTTP request denied");
            }
        }
        Ok(found?)
    }

    async fn find(&self, arrival: &Arrival, headers: &http::HeaderMap) -> Result<Arc<Identity>, Denied> {
        let state = self.state();
        // Who shows a token although none is needed is who the token says: otherwise one that does not hold, or permits
        // nothing, would seem to be good when it is tried out here.
        let is_shown = state.checks_tokens() && headers.bearer().is_some();
        if !is_shown && state.is_exempt(arrival, headers) {
            return Ok(self.trusted.clone());
        }
        let credentials = Credentials {
            token: headers.bearer().or_else(|| headers.cookie_value(state.settings.cookie.as_deref()?)),
            path: "/api".into(),
            query: None,
            client: Some(arrival.client.ip()),
            headers: headers.told(),
        };
        let found = match self.judge(&state, &credentials)? {
            Verdict::Known(identity) => Some(identity),
            Verdict::Ask => self.ask(&state, &credentials).await?,
            Verdict::Nobody => None,
        };
        let shown = || self.by_certificate(&state, arrival.client_certificate.as_deref());
        let anonymous = || state.anonymous.clone().filter(|_| state.settings.is_on());
        found.or_else(shown).or_else(anonymous).ok_or(Denied::NoToken)
    }

    /// Checks what somebody wants over HTTP: on a topic, or on everything.
    ///
    /// # Errors
    /// The answer: 403; 401 for who has shown nothing.
    pub fn check(&self, identity: &Identity, action: Action, topic: Option<&str>) -> Result<(), ApiError> {
        let checked = identity.permissions.check(action, topic);
        checked.map_err(|denied| {
            let denied = if identity.is_authenticated { denied } else { Denied::NoToken };
            self.metrics.count_denied(&denied);
            denied.into()
        })
    }

    /// Decides whether an HTTP request may do this: on a topic, or on everything.
    ///
    /// # Errors
    /// The answer: 401 without valid credentials, 403 if they do not permit it.
    pub async fn api(
        &self,
        arrival: &Arrival,
        headers: &http::HeaderMap,
        action: Action,
        topic: Option<&str>,
    ) -> Result<(), ApiError> {
        let identity = self.identify(arrival, headers).await?;
        self.check(&identity, action, topic)
    }
}

/// How it is counted that somebody came in.
#[must_use]
pub fn outcome_of(identity: &Identity) -> &'static str {
    if identity.is_authenticated { "accepted" } else { "anonymous" }
}

/// Topics that only the server itself publishes to.
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

impl State {
    fn new(settings: &AuthSettings, metrics: &Arc<AuthMetrics>) -> Result<Self, String> {
        check_roles(&settings.roles)?;
        let has_keys = !settings.jwt_keys.is_empty() || settings.jwks_file.is_some();
        let callback = settings.callback.as_ref();
        let anonymous = settings.roles.iter().find(|role| role.name == "anonymous");
        let anonymous = anonymous.map(|role| {
            let mut permissions = Permissions::default();
            permissions.add(role, None);
            Arc::new(Identity::nobody(permissions))
        });
        let api_token = settings.api_token.as_ref();
        if api_token.is_some_and(|Secret(token)| token.is_empty() || token.len() > TOKEN_BYTES_MAX) {
            return Err(format!("api_token must have 1 to {TOKEN_BYTES_MAX} bytes"));
        }
        Ok(Self {
            verifier: has_keys.then(|| Verifier::new(settings)).transpose()?,
            callback: callback.map(|settings| Callback::new(settings, metrics.clone())).transpose()?,
            api_token: api_token.map(|Secret(token)| Fingerprint::of(&[Some(token.as_bytes())])),
            known: Identities::default(),
            anonymous,
            settings: settings.clone(),
        })
    }

    /// What it was made from.
    #[must_use]
    pub fn settings(&self) -> &AuthSettings {
        &self.settings
    }

    /// See [`Auth::checks_tokens`].
    #[must_use]
    pub fn checks_tokens(&self) -> bool {
        self.settings.is_on() || self.api_token.is_some()
    }

    /// How long deciding may take, if the program has to be asked.
    #[must_use]
    pub fn callback_timeout(&self) -> std::time::Duration {
        self.callback.as_ref().map(Callback::timeout).unwrap_or_default()
    }

    /// In constant time, whatever the lengths: what is compared are digests.
    fn is_api_token(&self, token: &str) -> bool {
        let given = Fingerprint::of(&[Some(token.as_bytes())]);
        self.api_token.is_some_and(|own| own.bytes().ct_eq(given.bytes()).into())
    }

    /// Whether a request needs no token because of where it comes from.
    fn is_exempt(&self, arrival: &Arrival, headers: &http::HeaderMap) -> bool {
        let is_local = || credentials::is_local(arrival.peer, arrival.local, headers) && !arrival.forwarded;
        self.settings.api_on_loopback && is_local() || arrival.private && self.api_token.is_none()
    }
}

fn check_roles(roles: &[Role]) -> Result<(), String> {
    for (index, role) in roles.iter().enumerate() {
        let name = &role.name;
        if roles[..index].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("the role '{name}' is given twice"));
        }
        let lists = [
            ("subscribe", &role.subscribe),
            ("publish", &role.publish),
            ("history", &role.history),
            ("admin", &role.admin),
        ];
        for (kind, pattern) in lists.iter().flat_map(|(kind, list)| list.iter().map(move |pattern| (kind, pattern))) {
            check_role_pattern(pattern).map_err(|what| format!("role {name}: {kind} has '{pattern}': {what}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
