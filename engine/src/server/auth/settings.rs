//! By what it is decided who a client is. Plain data; checked and read by [`Auth`](super::Auth).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::Pattern;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A key that signs tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtKey {
    /// `HS256`, `RS256`, `ES256` or `EdDSA`.
    pub algorithm: String,
    /// Its name in tokens (`kid`); a key without a name stands for tokens without one.
    pub kid: Option<String>,
    /// The file: for HS256 the secret as it is (a last line break is not part of it), at least 32 bytes and not readable by
    /// everybody; else a public key in PEM (`BEGIN PUBLIC KEY`).
    pub file: PathBuf,
}

/// Which topics a client may do what with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// May be subscribed to.
    pub subscribe: Vec<Pattern>,
    /// May be published to.
    pub publish: Vec<Pattern>,
    /// Whose history may be read.
    pub history: Vec<Pattern>,
    /// May be administered.
    pub admin: Vec<Pattern>,
}

/// What everybody with this role may do, beside what the token says. `{sub}` in a pattern stands for the subject, as one token:
/// `.`, `*`, `>`, `$`, `%`, braces and control characters in it are percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its name in the claim `role`; `default` is everybody who is authenticated, `anonymous` everybody who is not.
    pub name: String,
    /// What it may do. Patterns as text, as `{sub}` is filled in later.
    pub subscribe: Vec<String>,
    /// As above.
    pub publish: Vec<String>,
    /// As above.
    pub history: Vec<String>,
    /// As above.
    pub admin: Vec<String>,
}

/// Asking a program over HTTP who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackSettings {
    /// `http://…` or `https://…`.
    pub url: String,
    /// How long it may take to answer. Default 2 s.
    pub timeout: Duration,
    /// How long an answer holds for the same credentials, if it does not say otherwise. Default 60 s; 0 keeps none.
    pub cache: Duration,
    /// Requests to it at once. Default 64; more wait, and count their waiting as part of the time limit.
    pub concurrent_max: usize,
    /// So many failures in a row and it is not asked for a while. Default 5; 0: it is always asked.
    pub failures_max: u32,
    /// For how long. Default 10 s.
    pub pause: Duration,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// Keys that sign tokens.
    pub jwt_keys: Vec<JwtKey>,
    /// A JWKS file (RFC 7517) with more of them.
    pub jwks_file: Option<PathBuf>,
    /// The `iss` that tokens must have. Default: any.
    pub jwt_issuer: Option<String>,
    /// The `aud` of which tokens must have one. Default: any.
    pub jwt_audience: Vec<String>,
    /// By how much clocks may differ. Default 30 s.
    pub jwt_leeway: Duration,
    /// The cookie in which a token may come. Default: none.
    pub cookie: Option<String>,
    /// Whether a token may come as `?token=`, where proxies and logs may see it. Default true.
    pub query_token: bool,
    /// How long a client without a token may take to send it as its first message. Default 10 s; 0: it has to come with the
    /// upgrade.
    pub timeout: Duration,
    /// A program to ask.
    pub callback: Option<CallbackSettings>,
    /// What roles may do.
    pub roles: Vec<Role>,
    /// A token that may do everything over HTTP and WebSocket.
    pub api_token: Option<Secret>,
    /// Whether clients may show, or have to show, certificates that are verified: who does is authenticated by that.
    /// Default false.
    pub client_certificates: bool,
    /// Whether the HTTP API needs no token from this machine itself. Default true. A request with a forwarding header never
    /// counts as from this machine.
    pub api_on_loopback: bool,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            jwt_keys: Vec::new(),
            jwks_file: None,
            jwt_issuer: None,
            jwt_audience: Vec::new(),
            jwt_leeway: Duration::from_secs(30),
            cookie: None,
            query_token: true,
            timeout: Duration::from_secs(10),
            callback: None,
            roles: Vec::new(),
            api_token: None,
            client_certificates: false,
            api_on_loopback: true,
        }
    }
}

impl AuthSettings {
    /// Whether clients are authenticated at all: there are keys, a program to ask, or an authority for their certificates.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.takes_tokens() || self.client_certificates
    }

    /// Whether there is anything to check tokens of clients by: keys, or a program to ask.
    #[must_use]
    pub fn takes_tokens(&self) -> bool {
        !self.jwt_keys.is_empty() || self.jwks_file.is_some() || self.callback.is_some()
    }
}
