//! The rows of the sections `network`, `threads`, `shutdown` and `log`.

use super::checks::{address, any, is_network, log, network, origin, path, path_text, token};
use super::{Row, TEN_YEARS_S, choice, list, millis, row, seconds, span, switch, text, whole};
use crate::server::auth::Secret;
use crate::{ClientAddress, Origins};

pub const NETWORK: &[Row] = &[
    row(
        "listen",
        list!("ADDR", address, ToString::to_string, |text| text.parse().ok(), listen),
        "Addresses to listen on, as IP:PORT (an IPv6 address in brackets); port 0 takes a free one. ws:// or wss:// in front \
         says whether one speaks TLS; without that it does if there are certificates, see 'tls_cert'.",
    )
    .empty("only sockets that a service manager passes on")
    .restart(),
    row(
        "open",
        switch!(open),
        "Listen on other addresses than loopback although clients are not authenticated: anyone who can reach them may \
         subscribe and publish.",
    ),
    row(
        "origin",
        super::Place {
            kind: super::Kind::List { form: "ORIGIN", check: origin },
            get: |config| super::Value::List(origins_text(&config.settings.origins)),
            set: |config, value| {
                if let super::Value::List(items) = value {
                    config.settings.origins = origins(items);
                }
            },
        },
        "Web pages that may connect, as SCHEME://HOST or SCHEME://HOST:PORT; '*.' before HOST stands for its subdomains, \
         'any' for all pages. Clients that are no browsers are not concerned.",
    )
    .empty("pages from the host that is connected to"),
    row(
        "static",
        text!("DIR", any, |path| path_text(path), path, files),
        "A directory whose files are served too; its index.html takes the place of the built-in page.",
    )
    .empty("none")
    .restart(),
    row(
        "api_listen",
        text!("ADDR", address, ToString::to_string, |text| text.parse().ok(), api_listen),
        "An address of its own for HTTP only: API, metrics, pages. Needs no token unless 'api_token' is set. http:// or \
         https:// in front says whether it speaks TLS, as in 'listen'.",
    )
    .empty("none")
    .restart(),
    row(
        "api_token",
        text!("TOKEN", token, |secret: &Secret| secret.0.clone(), |text| Some(Secret(text.to_owned())), api_token),
        "A token that may do everything over HTTP and WebSocket. As a flag it can be seen by all users of the machine: \
         'api_token_file' is better.",
    )
    .empty("none")
    .secret(),
    row(
        "api_token_file",
        text!("FILE", any, |path| path_text(path), path, api_token_file),
        "A file that holds this token. Others may not be able to read it (chmod o-r).",
    )
    .empty("none"),
    row(
        "api_on_loopback",
        switch!(auth.api_on_loopback),
        "Whether the HTTP API needs no token from this machine itself. What a proxy has forwarded is not from this machine.",
    ),
    row(
        "takeover",
        switch!(settings.takeover),
        "Replace the process of the same user that listens on the same addresses, if there is one: its listeners and its \
         topics, with histories and positions, go over to this one, and it ends by itself.",
    )
    .restart(),
    row(
        "trusted_proxies",
        list!("CIDR", is_network, ToString::to_string, network, settings.trusted_proxies),
        "Proxies whose word on the address of a client is believed, see 'client_address'.",
    )
    .empty("none"),
    row(
        "client_address",
        choice!(
            ClientAddress::ALL,
            &["peer", "x-forwarded-for", "forwarded", "proxy-protocol"],
            settings.client_address
        ),
        "Where the address of a client is found if the peer is among 'trusted_proxies': the peer itself, the headers \
         X-Forwarded-For or Forwarded (the last address that is no trusted proxy), or the PROXY protocol (1 or 2).",
    ),
    row(
        "http_connections_max",
        whole!("N", 1, 1 << 20, settings.http_connections_max),
        "HTTP connections at once; one more is answered 503.",
    )
    .restart(),
    row(
        "unsent_bytes",
        whole!("BYTES", 0, 1 << 30, settings.unsent_bytes),
        "Bytes that may lie unsent in the kernel for one connection (TCP_NOTSENT_LOWAT).",
    )
    .zero("the kernel decides, and hides about 4 MB behind a stalled reader")
    .restart(),
    row(
        "user_timeout_s",
        seconds!(0, 2_000_000, settings.user_timeout),
        "How long sent data may stay unacknowledged, or a reader stall, before the kernel ends the connection \
         (TCP_USER_TIMEOUT).",
    )
    .zero("the kernel decides, about 15 minutes")
    .restart(),
];

pub const THREADS: &[Row] = &[
    row("shards", whole!("N", 0, 256, shards), "Threads that serve connections.")
        .zero("one for each core this process may use")
        .restart(),
    row("pin", switch!(pin), "Pin each of these threads to a core.").restart(),
];

pub const SHUTDOWN: &[Row] = &[
    row(
        "shutdown_grace_ms",
        millis!(0, 3_600_000, settings.shutdown_grace),
        "How long it goes on as before, only that /readyz is 503, so that load balancers look elsewhere.",
    )
    .zero("not at all"),
    row(
        "shutdown_spread_ms",
        millis!(0, 86_400_000, settings.shutdown_spread),
        "Over how long the closing of connections is spread.",
    )
    .zero("all at once"),
    row(
        "shutdown_retry_ms",
        millis!(0, 3_600_000, settings.shutdown_retry),
        "Each client is told to come back after a time of its own, at random up to this (close code 1012).",
    )
    .zero("no advice (close code 1001)"),
    row(
        "shutdown_timeout_s",
        seconds!(1, 3600, settings.shutdown_timeout),
        "How long connections have to take leave once all have been told.",
    ),
];

pub const LOG: &[Row] = &[
    row(
        "log",
        super::Place {
            kind: super::Kind::Word { form: "LEVEL", check: log },
            get: |config| super::Value::Text(config.log.clone()),
            set: |config, value| {
                if let super::Value::Text(text) = value {
                    config.log.clone_from(text);
                }
            },
        },
        "What is logged, to standard error: error, warn, info, debug, trace or off; or by part, as in \
         'info,fanfare::server=debug'.",
    ),
    row("log_json", switch!(log_json), "Log one JSON object a line.").restart(),
    row("events", switch!(events), "Log when connections come and go, and why.").restart(),
    row("stats", switch!(stats), "Keep a line with the present figures on standard error.").restart(),
    row(
        "sys_interval_ms",
        millis!(0, TEN_YEARS_S, sys_interval),
        "How often figures are published to the topics '$sys.stats', '$sys.topics' and '$sys.slow'; at least 100.",
    )
    .zero("never: there are no such topics")
    .restart(),
];

fn origins(items: &[String]) -> Origins {
    match items {
        [] => Origins::SameHost,
        items if items.iter().any(|origin| origin == "any") => Origins::Any,
        items => Origins::List(items.to_vec()),
    }
}

fn origins_text(origins: &Origins) -> Vec<String> {
    match origins {
        Origins::SameHost => Vec::new(),
        Origins::Any => vec!["any".into()],
        Origins::List(items) => items.clone(),
    }
}
