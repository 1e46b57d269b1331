//! The application of the binary: what `fanfare` is on top of the engine, built on nothing but the crate's public API.
//!
//! | Module | Its promise |
//! |---|---|
//! | [`config`] | flags, environment and file, checked: every refusal names the setting, the value seen and what is allowed |
//! | [`app`] | the [`Handler`](crate::Handler): which path leads to which protocol |
//! | [`auth`] | who a client is, and what it may do |
//! | [`events`] | the event log on standard error |
//! | `member` | the one behind an open connection: a token in a message, its end, a new one |
//! | [`raw`] | `/topics/{topic}`: a WebSocket is a topic; payloads are not touched |
//! | [`native`] | `/ws`: the JSON protocol; any number of topics on one connection |
//! | [`http`] | the HTTP API, the page to try it, static files |
//! | [`orders`] | what the API does for connections: subscribes, unsubscribes, sends |
//! | [`sys`] | the topics `$sys.…`: how the server is, every second; [`stats_line`] shows it in the terminal |
//! | [`tls`] | certificates and keys: as configured, read, and told about |
//! | [`json`] | how a publication is written as JSON, for all of them |
//! | [`query`] | query parameters, strictly |
//! | [`service_manager`] | sockets from systemd, and what it is told |
//! | [`health`] | `--health`: whether a running server is alive |
//!
//! `docs/PROTOCOL.md` is the reference of all that clients see.

pub mod app;
pub mod auth;
pub mod config;
pub mod events;
pub mod health;
pub mod http;
pub mod json;
mod member;
pub mod native;
pub mod orders;
pub mod query;
pub mod raw;
pub mod service_manager;
pub mod stats_line;
pub mod sys;
pub mod tls;

use std::sync::Arc;

use serde_json::Value;

pub use app::App;
pub use auth::{Auth, AuthSettings};
pub use config::{Config, Refused, Task};

use self::config::reload::Reloads;
use self::config::renewal;
use crate::{Context, Engine, EngineBuilder, NameError, Pattern, Security, TopicRules};

/// The longest key of a publication, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// The longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// The most that one answer lists: publications of a history, topics, connections.
pub const PAGE_MAX: usize = 1000;

/// How many an answer lists if nothing is asked for.
pub const PAGE_DEFAULT: usize = 100;

/// The engine as the binary runs it, ready to be started: the same for `main` and for tests within a process.
///
/// # Errors
/// A key that cannot be read, as a sentence.
pub fn builder(config: &Config) -> Result<EngineBuilder<App>, String> {
    prepare(config).map(|(builder, _)| builder)
}

/// The same, and how its configuration is read again.
///
/// # Errors
/// As [`builder`].
pub fn prepare(config: &Config) -> Result<(EngineBuilder<App>, Arc<Reloads>), String> {
    let auth = Arc::new(Auth::new(&config.auth)?);
    let reloads = Arc::new(Reloads::new(config.clone(), Arc::clone(&auth)));
    let sys_interval = config.sys_interval;
    // What is shown of the configuration is a configuration file again, without its secrets.
    let shown = if config.events { toml::from_str(&config.describe()).unwrap_or_default() } else { Value::Null };
    let site = http::Site { files: config.files.clone(), reloads: Some(Arc::clone(&reloads)), auth: Arc::clone(&auth) };
    let looked_at = Arc::clone(&auth);
    let builder = Engine::builder(App::new(auth))
        .encoding(native::NativeEncoding)
        .settings(config.settings.clone())
        .topics(topic_rules(config))
        .shards(config.shards())
        .pin(config.pin)
        .http(move |engine| {
            engine.event("server.config", || shown);
            site.auth.add_metrics(&engine);
            sys::start(&engine, sys_interval);
            if let Some(reloads) = &site.reloads {
                renewal::start(&engine, Arc::clone(reloads));
            }
            http::router(engine, site)
        });
    let builder = if config.events { builder.events(events::sink(move || looked_at.checks_tokens())) } else { builder };
    let builder = config.certificates.iter().fold(builder, |builder, own| builder.tls(own.tls.clone()));
    let builder = config.api_listen.iter().fold(builder, |builder, api| match config.security(api) {
        Security::Plain => builder.http_listen(api.addr),
        Security::Tls => builder.http_listen_tls(api.addr),
    });
    let builder = config.listen.iter().fold(builder, |builder, listen| match config.security(listen) {
        Security::Plain => builder.listen(listen.addr),
        Security::Tls => builder.listen_tls(listen.addr),
    });
    Ok((builder, reloads))
}

/// The settings of topics, at the start and at every reload.
pub(crate) fn topic_rules(config: &Config) -> TopicRules {
    config.topics.clone()
}

/// Sends away who wants to publish, or to subscribe to something else, as another process has taken over: here nothing is
/// published any more, and a topic that is new here would have another epoch than there. It need not wait for its turn to be
/// closed, and finds that process where it found this one.
pub(crate) fn go_elsewhere<D>(ctx: &mut Context<'_, D>) {
    ctx.close(1012, "{\"retry_after_ms\":0}");
}

/// Checks what may be subscribed to, and tells whether it is a pattern with a wildcard.
pub(crate) fn check_name(name: &str) -> Result<bool, NameError> {
    let (literals, tokens, _) = Pattern::new(name)?.specificity();
    Ok(literals < tokens)
}

/// Checks the name of a single topic.
pub(crate) fn check_topic(name: &str) -> Result<(), NameError> {
    if check_name(name)? { Err(NameError::Wildcard) } else { Ok(()) }
}
