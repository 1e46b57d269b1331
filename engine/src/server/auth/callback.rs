//! Asking a program over HTTP who a client is. Runs on the control thread; bounded in time, in number, in the length of the
//! answer, and not at all while the program does not answer.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::sync::Semaphore;

use super::Denied;
use super::breaker::{Attempt, Breaker};
use super::cache::Identities;
use super::claims::Claims;
use super::credentials::Credentials;
use super::identity::{Identity, now_s};
use super::metrics::AuthMetrics;
use super::settings::{CallbackSettings, Role};

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How many may wait for a place to ask, beside those who ask: each holds a token in memory.
const WAITING_MAX: usize = 16_384;

/// The program.
pub struct Callback {
    uri: Uri,
    settings: CallbackSettings,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// How many may ask at once.
    places: Semaphore,
    /// How many may ask or wait for that.
    queue: Semaphore,
    breaker: Breaker,
    known: Identities,
    metrics: Arc<AuthMetrics>,
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Callback({})", self.uri)
    }
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    Late,
    Unreachable(String),
    Status(StatusCode),
    Answer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("it took too long"),
            Self::Unreachable(error) => write!(f, "it cannot be reached: {error}"),
            Self::Status(status) => write!(f, "it answered {status}: it must answer 200, 401 or 403"),
            Self::Answer(error) => write!(f, "its answer cannot be used: {error}"),
        }
    }
}

impl Failure {
    /// Whether the program is in trouble, and not just this one question, or the client that it is about: a client must not
    /// be able to have nobody else let in by showing what the program chokes on.
    fn is_the_programs(&self) -> bool {
        match self {
            Self::Late | Self::Unreachable(_) => true,
            Self::Status(status) => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            Self::Answer(_) => false,
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Late => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "bad_status",
            Self::Answer(_) => "bad_answer",
        }
    }
}

/// What the program has said.
enum Said {
    Known(Box<Claims>),
    Unknown,
    Forbidden,
}

impl Callback {
    /// Checks the address, and reads the system's certificates if it begins with `https`.
    ///
    /// # Errors
    /// A sentence that names the setting.
    pub fn new(settings: &CallbackSettings, metrics: Arc<AuthMetrics>) -> Result<Self, String> {
        let url = &settings.url;
        let wrong = |what: &str| format!("auth_url is '{url}': {what}");
        let uri: Uri = url.parse().map_err(|_| wrong("it must be an address that begins with http:// or https://"))?;
        let scheme = uri.scheme_str().unwrap_or("");
        let authority = uri.authority().ok_or_else(|| wrong("it must begin with http:// or https:// and a host"))?;
        if !["http", "https"].contains(&scheme) {
            return Err(wrong("it must begin with http:// or https://"));
        }
        if authority.as_str().contains('@') {
            return Err("auth_url has a user or password in it: they are not sent; let the program know this server \
                        by a part of the path"
                .into());
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(settings.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(scheme == "https").map_err(|error| wrong(&error))?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(settings.concurrent_max)
            .build(connector);
        Ok(Self {
            uri,
            settings: settings.clone(),
            client,
            places: Semaphore::new(settings.concurrent_max.clamp(1, Semaphore::MAX_PERMITS)),
            queue: Semaphore::new(settings.concurrent_max.saturating_add(WAITING_MAX).min(Semaphore::MAX_PERMITS)),
            breaker: Breaker::new(settings.failures_max, settings.pause),
            known: Identities::default(),
            metrics,
        })
    }

    /// How long an answer may take.
    #[must_use]
    pub fn timeout(&self) -> std::time::Duration {
        self.settings.timeout
    }

    /// Whether the program is left alone as it does not answer.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.breaker.is_open()
    }

    /// Who it was when the program was asked about these credentials a while ago.
    #[must_use]
    pub fn known(&self, credentials: &Credentials) -> Option<Arc<Identity>> {
        let known = self.known.get(&credentials.fingerprint(), now_s());
        self.metrics.count_cache("callback", known.is_some());
        known
    }

    /// Asks.
    ///
    /// # Errors
    /// What the program says against it, or that it cannot be asked.
    pub async fn ask(&self, credentials: &Credentials, roles: &[Role]) -> Result<Arc<Identity>, Denied> {
        let start = Instant::now();
        let Ok(_turn) = self.queue.try_acquire() else {
            self.metrics.count_callback("busy");
            return Err(Denied::Unavailable);
        };
        // Having to wait for others says nothing about the program, so it is no failure of it.
        let Ok(Ok(_place)) = tokio::time::timeout(self.settings.timeout, self.places.acquire()).await else {
            self.metrics.count_callback("busy");
            return Err(Denied::Unavailable);
        };
        let Some(attempt) = self.breaker.attempt(Instant::now()) else {
            self.metrics.count_callback("paused");
            return Err(Denied::Unavailable);
        };
        let left = self.settings.timeout.saturating_sub(start.elapsed());
        let said = tokio::time::timeout(left, self.request(credentials)).await;
        self.metrics.observe_callback(start.elapsed());
        match said.unwrap_or(Err(Failure::Late)) {
            Ok(said) => {
                self.tell_answered(attempt);
                self.conclude(said, credentials, roles)
            }
            Err(failure) => {
                self.metrics.count_callback(failure.label());
                tracing::warn!(program = %self.uri, %failure, "the program that decides who clients are has failed");
                if !failure.is_the_programs() {
                    self.tell_answered(attempt);
                } else if attempt.failed(Instant::now()) {
                    let pause_ms = self.settings.pause.as_millis() as u64;
                    tracing::error!(program = %self.uri, pause_ms, "it is not asked for a while: auth_failures_max");
                }
                Err(Denied::Unavailable)
            }
        }
    }

    fn tell_answered(&self, attempt: Attempt<'_>) {
        if attempt.succeeded() {
            tracing::info!(program = %self.uri, "the program that decides who clients are answers again");
        }
    }

    fn conclude(&self, said: Said, credentials: &Credentials, roles: &[Role]) -> Result<Arc<Identity>, Denied> {
        let claims = match said {
            Said::Known(claims) => claims,
            Said::Unknown => {
                self.metrics.count_callback("rejected");
                return Err(Denied::Rejected);
            }
            Said::Forbidden => {
                self.metrics.count_callback("forbidden");
                return Err(Denied::RejectedForGood);
            }
        };
        self.metrics.count_callback("accepted");
        let now = now_s();
        let keep_s = claims.cache_s.unwrap_or(self.settings.cache.as_secs());
        let identity = Arc::new(Identity::new(*claims, roles, 0));
        identity.check_time(now)?;
        if keep_s > 0 {
            let until = now.saturating_add(keep_s).min(identity.ends_at.unwrap_or(u64::MAX));
            self.known.put(credentials.fingerprint(), &identity, until);
        }
        Ok(identity)
    }

    async fn request(&self, credentials: &Credentials) -> Result<Said, Failure> {
        let headers: serde_json::Map<_, _> =
            credentials.headers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let body = json!({
            "path": credentials.path,
            "query": credentials.query,
            "client": credentials.client.map(|address| address.to_canonical().to_string()),
            "headers": headers,
            "token": credentials.token,
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| Failure::Unreachable(error.to_string()))?;
        let response = self.client.request(request).await.map_err(|error| Failure::Unreachable(causes(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED => return Ok(Said::Unknown),
            StatusCode::FORBIDDEN => return Ok(Said::Forbidden),
            other => return Err(Failure::Status(other)),
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failure::Answer(format!("it has more than {ANSWER_BYTES_MAX} bytes")),
            false => Failure::Unreachable(error.to_string()),
        })?;
        let body = body.to_bytes();
        let claims = Claims::parse(&body).map_err(|denied| Failure::Answer(denied.message()))?;
        Ok(Said::Known(Box::new(claims)))
    }
}

fn tls(is_needed: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    if !is_needed {
        return Ok(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth());
    }
    let no_roots = |error| format!("the certificates of this machine's authorities cannot be read: {error}");
    Ok(config.with_native_roots().map_err(no_roots)?.with_no_client_auth())
}

/// An error with what it comes from: the outer one alone says next to nothing.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text += &format!(": {inner}");
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_more_wait_to_ask_than_there_is_memory_for() {
        // It takes connections and never answers.
        let program = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = CallbackSettings {
            url: format!("http://{}/", program.local_addr().unwrap()),
            timeout: Duration::from_secs(3600),
            cache: Duration::ZERO,
            concurrent_max: 2,
            failures_max: 0,
            pause: Duration::ZERO,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let callback = Arc::new(Callback::new(&settings, Arc::default()).unwrap());
            for _ in 0..WAITING_MAX + 2 {
                let callback = callback.clone();
                tokio::spawn(async move { callback.ask(&Credentials::default(), &[]).await.map(drop) });
            }
            while callback.queue.available_permits() > 0 {
                tokio::task::yield_now().await;
            }
            let credentials = Credentials::default();
            let one_more = tokio::time::timeout(Duration::ZERO, callback.ask(&credentials, &[])).await;
            assert!(matches!(one_more, Ok(Err(Denied::Unavailable))), "it does not even wait");
        });
    }
}
