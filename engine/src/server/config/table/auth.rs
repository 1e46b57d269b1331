//! The rows of the section `auth`.

use super::checks::{any, cookie, is_jwt_key, jwt_key, jwt_key_text, path, path_text, url};
use super::{Row, list, millis, row, seconds, span, switch, text, whole};

pub const AUTH: &[Row] = &[
    row(
        "jwt_keys",
        list!("ALG[:KID]=FILE", is_jwt_key, jwt_key_text, jwt_key, auth.jwt_keys),
        "Keys that sign tokens: the algorithm (HS256, RS256, ES256, EdDSA), perhaps the key's name in tokens ('kid'), and \
         a file: the secret as it is (HS256), or a public key in PEM.",
    )
    .empty("none"),
    row(
        "jwks_file",
        text!("FILE", any, |path| path_text(path), path, auth.jwks_file),
        "A JWKS file (RFC 7517) with more keys.",
    )
    .empty("none"),
    row(
        "jwt_issuer",
        text!("TEXT", any, String::clone, |text: &str| Some(text.to_owned()), auth.jwt_issuer),
        "The issuer ('iss') that tokens must have.",
    )
    .empty("any"),
    row(
        "jwt_audience",
        list!("TEXT", any, String::clone, |text: &str| Some(text.to_owned()), auth.jwt_audience),
        "The audiences ('aud') of which tokens must have one.",
    )
    .empty("any"),
    row("jwt_leeway_s", seconds!(0, 3600, auth.jwt_leeway), "By how much the clock of who makes tokens may differ."),
    row(
        "token_cookie",
        text!("NAME", cookie, String::clone, |text: &str| Some(text.to_owned()), auth.cookie),
        "The cookie in which a token may come.",
    )
    .empty("none"),
    row(
        "token_in_query",
        switch!(auth.query_token),
        "Whether a token may come as ?token=, where the logs of proxies may keep it.",
    ),
    row(
        "auth_timeout_s",
        seconds!(0, 3600, auth.timeout),
        "How long a client may take to send its token as the first message.",
    )
    .zero("it must come with the upgrade"),
    row(
        "auth_url",
        super::Place {
            kind: super::Kind::Text { form: "URL", check: url },
            get: |config| super::Value::Text(config.callback.url.clone()),
            set: |config, value| {
                if let super::Value::Text(text) = value {
                    config.callback.url.clone_from(text);
                }
            },
        },
        "A program of yours that is asked over HTTP who a client is and what it may do.",
    )
    .empty("none"),
    row(
        "auth_url_timeout_ms",
        millis!(1, 60_000, callback.timeout),
        "How long it may take to answer; then the client is answered 503.",
    ),
    row(
        "auth_cache_s",
        seconds!(0, 86_400, callback.cache),
        "How long its answer holds for the same credentials, if it does not say so itself.",
    )
    .zero("it is asked each time"),
    row(
        "auth_concurrent_max",
        whole!("N", 1, 65_536, callback.concurrent_max),
        "Requests to it at once; more wait, within 'auth_url_timeout_ms'.",
    ),
    row(
        "auth_failures_max",
        whole!("N", 1, super::COUNT_MAX, callback.failures_max),
        "After so many failures in a row it is left alone for 'auth_pause_s'.",
    ),
    row("auth_pause_s", seconds!(1, 3600, callback.pause), "For how long it is left alone then; clients are answered 503."),
];
