//! What no single setting can tell: contradictions, and settings that would do nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::Config;
use super::mistake::{Mistake, Source};
use super::rules;
use super::table::known;
use crate::server::tls::Certificates;
use crate::{ClientAddress, ClientAuth, Security};

/// Tokens that are easily guessed are shorter.
const TOKEN_BYTES_GOOD: usize = 16;

struct Checker<'a> {
    config: &'a Config,
    broken: &'a BTreeSet<&'static str>,
    mistakes: Vec<Mistake>,
}

/// All contradictions, but of settings that are wrong in themselves.
pub fn contradictions(config: &Config, broken: &BTreeSet<&'static str>) -> Vec<Mistake> {
    let mut checker = Checker { config, broken, mistakes: Vec::new() };
    checker.reach();
    checker.network();
    checker.tls();
    checker.times();
    checker.sizes();
    checker.addresses();
    checker.authentication();
    checker.mistakes.extend(rules::ambiguous(config));
    if checker.mistakes.is_empty()
        && broken.is_empty()
        && let Err(text) = config.settings.check()
    {
        checker.mistakes.push(Mistake::new(Source::Default, text));
    }
    checker.mistakes
}

/// What must not be reachable as it is. Of a running server, where addresses stay as they are until it is restarted; it may
/// have been given others than those of the configuration.
pub fn reach(config: &Config, addresses: &[SocketAddr]) -> Vec<Mistake> {
    let mut checker = Checker { config, broken: &BTreeSet::new(), mistakes: Vec::new() };
    checker.reach();
    if checker.mistakes.is_empty()
        && let Err(text) = exposure(config, addresses)
    {
        checker.mistakes.push(Mistake::new(Source::Default, text));
    }
    checker.mistakes
}

impl Checker<'_> {
    /// A contradiction between settings, told at the first that somebody has said, if `is_wrong`.
    fn refuse(&mut self, is_wrong: bool, keys: &[&'static str], text: &str) {
        if !is_wrong || keys.iter().any(|key| self.broken.contains(key)) {
            return;
        }
        let said = keys.iter().find(|key| self.config.source(key) != Source::Default);
        let first = said.unwrap_or(&keys[0]);
        let source = self.config.source(first);
        let words: Vec<_> = keys.iter().map(|key| self.words(key, *key == *first)).collect();
        self.mistakes.push(Mistake::new(source, format!("{}: {text}", words.join(", "))));
    }

    /// `idle_timeout_s is 5 (default)`; where it comes from only if the sentence does not begin with that.
    fn words(&self, key: &'static str, is_first: bool) -> String {
        let shown = known(key).row.shown(self.config);
        let source = self.config.source(key);
        if is_first { format!("{key} is {shown}") } else { format!("{key} is {shown} ({source})") }
    }

    /// Who can reach it, and what they could do.
    fn reach(&mut self) {
        let config = self.config;
        let broken = self.broken;
        let mut settings =
            ["listen", "open", "jwt_keys", "jwks_file", "auth_url", "tls_client_ca", "tls_client_auth"].iter();
        let is_known = !settings.any(|key| broken.contains(key));
        if let Err(text) = exposure(config, &config.addresses())
            && is_known
        {
            self.mistakes.push(Mistake::new(config.source("listen"), text));
        }
        let is_reachable = config.api_listen.is_some_and(|api| !is_loopback(&api.addr));
        self.refuse(
            is_reachable && config.auth.api_token.is_none() && !config.open,
            &["api_listen", "api_token", "api_token_file"],
            "anyone who can reach it could do everything: set api_token_file, or say 'open' if that is wanted",
        );
    }

    fn network(&mut self) {
        let config = self.config;
        let twice = |addresses: &[SocketAddr]| {
            let fixed = addresses.iter().filter(|address| address.port() != 0);
            fixed.clone().find(|address| fixed.clone().filter(|other| other == address).count() > 1).copied()
        };
        if let Some(address) = twice(&config.addresses()) {
            self.refuse(true, &["listen"], &format!("{address} is given twice"));
        }
        let api = config.api_listen.map(|api| api.addr);
        let is_shared = api.is_some_and(|api| api.port() != 0 && config.addresses().contains(&api));
        self.refuse(is_shared, &["api_listen", "listen"], "they cannot share an address");
        if let Some(files) = &config.files {
            let problem = match files.metadata() {
                Ok(metadata) if metadata.is_dir() => None,
                Ok(_) => Some("it must be a directory".to_owned()),
                Err(error) => Some(format!("it must be a directory that can be read: {error}")),
            };
            if let Some(problem) = problem {
                let seen = files.display().to_string();
                self.mistakes.push(Mistake::value(config.source("static"), known("static"), &seen, &problem));
            }
        }
    }

    /// What of TLS is incomplete, or would do nothing.
    fn tls(&mut self) {
        let tls = &self.config.tls;
        let counts = format!("{} certificates and {} keys", tls.certs.len(), tls.keys.len());
        self.refuse(
            tls.certs.len() != tls.keys.len(),
            &["tls_cert", "tls_key"],
            &format!("these are {counts}: each certificate needs its key, in the same order"),
        );
        let has_files = !tls.certs.is_empty();
        self.refuse(
            tls.dev && has_files,
            &["tls_dev", "tls_cert"],
            "only one of them can be shown: drop tls_dev, or tls_cert and tls_key",
        );
        let has_authority = tls.client_ca.is_some();
        self.refuse(
            has_authority && !tls.is_on(),
            &["tls_client_ca", "tls_cert"],
            "TLS is not spoken, so no client shows a certificate: set tls_cert and tls_key",
        );
        self.refuse(
            has_authority && tls.client_auth == Some(ClientAuth::None),
            &["tls_client_auth", "tls_client_ca"],
            "no client is asked for a certificate of this authority: set tls_client_auth to optional or required, or drop \
             tls_client_ca",
        );
        self.refuse(
            !has_authority && matches!(tls.client_auth, Some(ClientAuth::Optional | ClientAuth::Required)),
            &["tls_client_auth", "tls_client_ca"],
            "it must be said which authority certificates of clients have to come from: set tls_client_ca",
        );
        let needs = |said: Option<Security>| said == Some(Security::Tls) && !tls.is_on();
        let without = "there is no certificate to show: set tls_cert and tls_key, or tls_dev to try it out";
        self.refuse(self.config.listen.iter().any(|listen| needs(listen.said())), &["listen", "tls_cert"], without);
        let api = self.config.api_listen.and_then(|api| api.said());
        self.refuse(needs(api), &["api_listen", "tls_cert"], without);
    }

    fn times(&mut self) {
        let settings = &self.config.settings;
        let (ping, pong, idle) = (settings.ping_interval, settings.pong_timeout, settings.idle_timeout);
        let is_zero = |time: Duration| time.is_zero();
        self.refuse(
            !is_zero(ping) && !is_zero(idle) && idle <= ping,
            &["idle_timeout_s", "ping_interval_s"],
            "idle_timeout_s must be more than ping_interval_s, or 0",
        );
        self.refuse(
            !is_zero(pong) && is_zero(ping),
            &["pong_timeout_s", "ping_interval_s"],
            "without pings there is nothing to answer: set ping_interval_s, or pong_timeout_s to 0",
        );
        self.refuse(
            !is_zero(pong) && !is_zero(ping) && idle > ping && ping.saturating_add(pong) >= idle,
            &["pong_timeout_s", "ping_interval_s", "idle_timeout_s"],
            "pong_timeout_s has no effect, as the connection is closed before: ping_interval_s and pong_timeout_s together \
             must be less than idle_timeout_s",
        );
        let interval = self.config.sys_interval;
        let is_hasty = !is_zero(interval) && interval < Duration::from_millis(100);
        self.refuse(is_hasty, &["sys_interval_ms"], "it must be 0, or at least 100");
    }

    fn sizes(&mut self) {
        let settings = &self.config.settings;
        let beyond = |total: usize, one: usize| total > 0 && one > total;
        self.refuse(
            beyond(settings.connections_max, settings.connections_per_ip_max),
            &["connections_per_ip_max", "connections_max"],
            "one address cannot have more connections than there may be: make it at most connections_max, or 0",
        );
        self.refuse(
            beyond(settings.inbound_total_bytes, settings.message_bytes),
            &["inbound_total_bytes", "message_bytes"],
            "the longest message must fit into inbound_total_bytes",
        );
        self.refuse(
            beyond(settings.pending_total_bytes, settings.pending_bytes),
            &["pending_total_bytes", "pending_bytes"],
            "what may wait for one connection must fit into pending_total_bytes",
        );
        self.refuse(
            beyond(settings.history_total_bytes, self.config.topic_default.history_bytes),
            &["history_total_bytes", "history_bytes"],
            "the history of one topic must fit into history_total_bytes",
        );
        self.refuse(
            settings.messages_burst > 0 && settings.messages_per_s == 0,
            &["messages_burst", "messages_per_s"],
            "without a rate a burst has no meaning: set messages_per_s, or messages_burst to 0",
        );
        let (rate, burst) = (settings.received_bytes_per_s, settings.received_bytes_burst);
        self.refuse(
            burst > 0 && rate == 0,
            &["received_bytes_burst", "received_bytes_per_s"],
            "without a rate a burst has no meaning: set received_bytes_per_s, or received_bytes_burst to 0",
        );
        self.refuse(
            rate > 0 && burst > 0 && burst < settings.message_bytes as u64,
            &["received_bytes_burst", "message_bytes"],
            "the longest message must fit into received_bytes_burst: lower message_bytes, or raise it",
        );
    }

    fn addresses(&mut self) {
        let settings = &self.config.settings;
        let is_peer = settings.client_address == ClientAddress::Peer;
        self.refuse(
            !is_peer && settings.trusted_proxies.is_empty(),
            &["client_address", "trusted_proxies"],
            "nobody would be believed: name the proxies in trusted_proxies",
        );
        self.refuse(
            is_peer && !settings.trusted_proxies.is_empty(),
            &["trusted_proxies", "client_address"],
            "nobody is asked: say in client_address where the proxies put the address",
        );
    }

    /// What is set in the belief that clients are authenticated, when they are not.
    fn authentication(&mut self) {
        let config = self.config;
        if config.auth.takes_tokens()
            || ["jwt_keys", "jwks_file", "auth_url"].iter().any(|key| self.broken.contains(key))
        {
            return;
        }
        let without = "it has no effect, as clients are not authenticated: set jwt_keys, jwks_file or auth_url";
        self.refuse(config.auth.jwt_issuer.is_some(), &["jwt_issuer"], without);
        self.refuse(!config.auth.jwt_audience.is_empty(), &["jwt_audience"], without);
        self.refuse(config.auth.cookie.is_some(), &["token_cookie"], without);
        if let Some(role) = config.roles.first().filter(|_| !config.auth.is_on()) {
            let source = role.lists.first().map_or(Source::Default, |(_, _, source)| source.clone());
            self.mistakes.push(Mistake::new(source, format!("the role '{}' is given: {without}", role.name)));
        }
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// See [`Config::check_exposure`].
pub fn exposure(config: &Config, addresses: &[SocketAddr]) -> Result<(), String> {
    match addresses.iter().find(|address| !is_loopback(address)) {
        Some(address) if !config.open && !config.auth.is_on() => Err(format!(
            "listen is '{address}': without authentication only loopback addresses (127.0.0.0/8, [::1]) are allowed, as \
             anyone who can reach another one may publish. Set jwt_keys, jwks_file, auth_url or tls_client_ca; or, if it is \
             wanted so, open (--open)"
        )),
        _ => Ok(()),
    }
}

/// See [`Config::warnings`].
pub fn warnings(config: &Config, addresses: &[SocketAddr]) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_exposed = addresses.iter().any(|address| !is_loopback(address));
    if !config.auth.is_on() {
        let text = "There is no authentication: anyone who can reach these addresses may subscribe and publish";
        let close = if is_exposed || config.auth.api_token.is_some() { "." } else { ", and close connections." };
        warnings.push(format!("{text}{close}"));
    }
    match &config.auth.api_token {
        None if is_exposed => {
            let text = "The HTTP API needs a token from other machines, and there is none: set api_token_file.";
            warnings.push(text.into());
        }
        Some(token) if token.0.len() < TOKEN_BYTES_GOOD => {
            let text = format!(
                "The API token is shorter than {TOKEN_BYTES_GOOD} bytes: `openssl rand -hex 32` makes a good one."
            );
            warnings.push(text);
        }
        _ => {}
    }
    if matches!(config.source("api_token"), Source::Flag(_)) {
        warnings.push("The API token is a flag, which every user of this machine can see: use api_token_file.".into());
    }
    let is_any_page = config.settings.origins == crate::Origins::Any;
    for (is_used, what) in [(config.auth.cookie.is_some(), "cookie"), (config.auth.client_certificates, "certificate")]
    {
        if is_any_page && is_used {
            warnings.push(format!(
                "Pages of all origins may connect, with the {what} of their visitors: say in 'origin' whose may."
            ));
        }
    }
    warnings.extend(config.certificates.iter().flat_map(Certificates::warnings));
    warnings
}
