//! The target: what can be said of a URL, of headers and of TLS without asking anybody.

use std::time::Duration;

use super::{DAY, span_within, wrong};
use crate::failure::Failure;
use crate::scenario::{TargetSettings, Template, TlsSettings};

/// Headers the upgrade itself is made of.
const OWN_HEADERS: [&str; 7] = [
    "connection",
    "upgrade",
    "host",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
];

pub(super) fn check(target: &TargetSettings) -> Result<(), Failure> {
    check_url(&target.url)?;
    for protocol in &target.subprotocols {
        if !is_token(protocol) {
            return wrong("target.subprotocols", protocol.escape_debug(), "names without spaces and separators");
        }
    }
    check_headers(target)?;
    if target.token.as_ref().is_some_and(|token| token.chars().any(char::is_control)) {
        return wrong("target.token", "(hidden)", "text without control characters");
    }
    if target.token.is_some() && target.token_file.is_some() {
        return wrong("target.token_file", "given beside target.token", "one of the two");
    }
    check_template(&target.template)?;
    check_tls(&target.url, &target.tls)
}

/// `ws://` or `wss://`, a host, at most a port, at most a path and a query.
fn check_url(url: &str) -> Result<(), Failure> {
    const FORM: &str = "ws://HOST:PORT or wss://HOST:PORT, with a path if wanted";
    if url.is_empty() {
        return Err(Failure::usage(format!("target.url (--url) is missing: write {FORM}")));
    }
    let Some((_, rest)) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "ws" | "wss")) else {
        return wrong("target.url", url.escape_debug(), FORM);
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let is_plain = url.chars().all(|c| c.is_ascii_graphic()) && !url.contains('#') && !authority.contains('@');
    if !is_plain || !is_host_and_port(authority) {
        return wrong("target.url", url.escape_debug(), FORM);
    }
    Ok(())
}

fn is_host_and_port(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => {
            let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
            (if is_address { host } else { "" }, rest)
        }
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    let is_port = match port.strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|port| port > 0),
        None => port.is_empty(),
    };
    !host.is_empty() && is_port
}

fn check_headers(target: &TargetSettings) -> Result<(), Failure> {
    for (name, value) in &target.headers {
        let seen = format!("{}: {}", name.escape_debug(), value.escape_debug());
        if !is_token(name) {
            return wrong("target.headers", seen, "names without spaces and separators");
        }
        if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let own = "any header but those of the upgrade itself: subprotocols and deflate have settings of their own";
            return wrong("target.headers", seen, own);
        }
        if value.chars().any(char::is_control) {
            return wrong("target.headers", seen, "values without control characters");
        }
    }
    Ok(())
}

fn check_template(template: &Template) -> Result<(), Failure> {
    let paths = [
        ("subscribe_path", &template.subscribe_path),
        ("publish_path", &template.publish_path),
        ("idle_path", &template.idle_path),
    ];
    for (name, path) in paths {
        let is_right = |path: &String| path.starts_with('/') && path.chars().all(|c| !c.is_control() && c != ' ');
        if let Some(path) = path.as_ref().filter(|path| !is_right(path)) {
            return wrong(
                &format!("target.template.{name}"),
                path.escape_debug(),
                "what begins with '/', without spaces",
            );
        }
    }
    let answers = template.answers.as_deref().unwrap_or_default();
    if answers.iter().any(|answer| answer.to.is_empty()) {
        return wrong("target.template.answers", "to = ''", "a beginning of one character or more: '' is all messages");
    }
    match &template.heartbeat {
        Some(heartbeat) => span_within("target.template.heartbeat", heartbeat.every, Duration::from_millis(10)..=DAY),
        None => Ok(()),
    }
}

fn check_tls(url: &str, tls: &TlsSettings) -> Result<(), Failure> {
    let given = [
        ("ca", tls.ca.is_some()),
        ("server_name", tls.server_name.is_some()),
        ("insecure", tls.insecure),
        ("certificate", tls.certificate.is_some()),
        ("key", tls.key.is_some()),
        ("resumption", tls.resumption),
    ];
    if let Some((name, _)) = given.iter().find(|(_, is_given)| *is_given && !url.starts_with("wss://")) {
        return wrong(
            &format!("target.tls.{name}"),
            "given",
            format_args!("that only with wss://, and the url is {url}"),
        );
    }
    match (&tls.certificate, &tls.key) {
        (Some(path), None) => {
            wrong("target.tls.certificate", path.display(), "a certificate together with target.tls.key (--tls-key)")
        }
        (None, Some(path)) => {
            wrong("target.tls.key", path.display(), "a key together with target.tls.certificate (--tls-certificate)")
        }
        _ => Ok(()),
    }
}

/// A token of RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(is_token_char)
}
