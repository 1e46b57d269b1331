//! What a token, or the program that was asked, says about somebody: read strictly, so that nothing misspelt silently
//! permits nothing, or too much.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Denied;
use super::permissions::PATTERNS_MAX;
use super::settings::Rules;
use crate::server::query::cut;
use crate::{ConnectionLimits, Pattern, RatePolicy};

/// The longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 255;
/// The longest `info`, in bytes of JSON.
pub const INFO_BYTES_MAX: usize = 4096;
/// The most roles of one somebody.
pub const ROLES_MAX: usize = 32;
/// A time after which nothing is asked: the year 9999.
const TIME_MAX: f64 = 253_402_300_799.0;

/// What is said about somebody.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    /// Who it is.
    pub subject: Option<String>,
    /// The names of roles.
    pub roles: Vec<String>,
    /// From when on it does not hold any more, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// From when on it holds.
    pub not_before: Option<u64>,
    /// When it was said.
    pub issued_at: Option<u64>,
    /// Who says it.
    pub issuer: Option<String>,
    /// To whom it is said.
    pub audience: Vec<String>,
    /// What it permits by itself.
    pub rules: Rules,
    /// Whatever the program wants others to know of this somebody.
    pub info: Option<Box<RawValue>>,
    /// Limits of the connection that differ from the settings.
    pub limits: ConnectionLimits,
    /// How long an answer of the program that was asked may be kept, in seconds.
    pub cache_s: Option<u64>,
}

#[derive(Deserialize)]
struct Wire {
    sub: Option<String>,
    role: Option<OneOrMany>,
    exp: Option<f64>,
    expires_at: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
    permissions: Option<WireRules>,
    info: Option<Box<RawValue>>,
    limits: Option<WireLimits>,
    cache_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WireRules {
    subscribe: Vec<String>,
    publish: Vec<String>,
    history: Vec<String>,
    admin: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WireLimits {
    message_bytes: Option<usize>,
    messages_per_s: Option<u32>,
    messages_burst: Option<u32>,
    received_bytes_per_s: Option<u64>,
    received_bytes_burst: Option<u64>,
    rate_policy: Option<String>,
    subscriptions_max: Option<usize>,
    pending_bytes: Option<usize>,
    lifetime_s: Option<u64>,
}

impl Claims {
    /// Reads them.
    ///
    /// # Errors
    /// Which claim is not what it must be.
    pub fn parse(json: &[u8]) -> Result<Self, Denied> {
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|error| Denied::Claims(format!("the claims cannot be read: {}", cut(&error.to_string()))))?;
        let claims = Self {
            subject: wire.sub.map(check_subject).transpose()?,
            roles: wire.role.map(OneOrMany::into_vec).unwrap_or_default(),
            expires_at: time("exp", wire.exp.or(wire.expires_at))?,
            not_before: time("nbf", wire.nbf)?,
            issued_at: time("iat", wire.iat)?,
            issuer: wire.iss,
            audience: wire.aud.map(OneOrMany::into_vec).unwrap_or_default(),
            rules: wire.permissions.map(rules).transpose()?.unwrap_or_default(),
            info: wire.info,
            limits: wire.limits.map(limits).transpose()?.unwrap_or_default(),
            cache_s: wire.cache_s,
        };
        if claims.roles.len() > ROLES_MAX {
            return Err(Denied::Claims(format!("'role' has {} names: it may have {ROLES_MAX}", claims.roles.len())));
        }
        if let Some(length) = claims.info.as_ref().map(|info| info.get().len()).filter(|len| *len > INFO_BYTES_MAX) {
            return Err(Denied::Claims(format!("'info' has {length} bytes: it may have {INFO_BYTES_MAX}")));
        }
        Ok(claims)
    }
}

fn check_subject(subject: String) -> Result<String, Denied> {
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.chars().any(char::is_control) {
        let what = format!("'sub' must have 1 to {SUBJECT_BYTES_MAX} bytes and no control characters");
        return Err(Denied::Claims(what));
    }
    Ok(subject)
}

/// Seconds since 1970; RFC 7519 allows fractions.
fn time(name: &str, value: Option<f64>) -> Result<Option<u64>, Denied> {
    let Some(seconds) = value else { return Ok(None) };
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(Denied::Claims(format!("'{name}' must be seconds since 1970")));
    }
    Ok(Some(seconds.min(TIME_MAX) as u64))
}

fn rules(wire: WireRules) -> Result<Rules, Denied> {
    Ok(Rules {
        subscribe: patterns("subscribe", &wire.subscribe)?,
        publish: patterns("publish", &wire.publish)?,
        history: patterns("history", &wire.history)?,
        admin: patterns("admin", &wire.admin)?,
    })
}

fn patterns(kind: &str, texts: &[String]) -> Result<Vec<Pattern>, Denied> {
    if texts.len() > PATTERNS_MAX {
        return Err(Denied::Claims(format!(
            "'permissions.{kind}' has {} patterns: it may have {PATTERNS_MAX}",
            texts.len()
        )));
    }
    let read = |text: &String| {
        Pattern::new(text).map_err(|error| Denied::Claims(format!("'permissions.{kind}' has '{}': {error}", cut(text))))
    };
    texts.iter().map(read).collect()
}

fn limits(wire: WireLimits) -> Result<ConnectionLimits, Denied> {
    let policy = |name: String| {
        RatePolicy::ALL.into_iter().find(|policy| policy.label() == name).ok_or_else(|| {
            let names = RatePolicy::ALL.map(RatePolicy::label).join(", ");
            Denied::Claims(format!("'limits.rate_policy' is '{}': it must be one of {names}", cut(&name)))
        })
    };
    Ok(ConnectionLimits {
        message_bytes: wire.message_bytes,
        messages_per_s: wire.messages_per_s,
        messages_burst: wire.messages_burst,
        received_bytes_per_s: wire.received_bytes_per_s,
        received_bytes_burst: wire.received_bytes_burst,
        rate_policy: wire.rate_policy.map(policy).transpose()?,
        subscriptions_max: wire.subscriptions_max,
        pending_bytes: wire.pending_bytes,
        lifetime: wire.lifetime_s.map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(json: &str) -> String {
        Claims::parse(json.as_bytes()).unwrap_err().message()
    }

    #[test]
    fn all_claims_are_read_and_others_are_ignored() {
        let claims = Claims::parse(
            br#"{"sub":"ada","role":["a","b"],"exp":1800000000.9,"nbf":5,"iat":6,"iss":"me","aud":"you","jti":"x",
                 "permissions":{"subscribe":["a.>"],"publish":["b"]},"info":{"name": "Ada"},"cache_s":3,
                 "limits":{"message_bytes":10,"rate_policy":"drop","lifetime_s":7}}"#,
        )
        .unwrap();
        assert_eq!(claims.subject.as_deref(), Some("ada"));
        assert_eq!((claims.roles, claims.audience), (vec!["a".into(), "b".into()], vec!["you".into()]));
        assert_eq!((claims.expires_at, claims.not_before, claims.issued_at), (Some(1_800_000_000), Some(5), Some(6)));
        assert_eq!(claims.rules.subscribe[0].as_str(), "a.>");
        assert_eq!((claims.rules.publish.len(), claims.rules.admin.len()), (1, 0));
        assert_eq!(claims.info.unwrap().get(), r#"{"name": "Ada"}"#);
        assert_eq!(claims.limits.rate_policy, Some(RatePolicy::Drop));
        assert_eq!((claims.limits.lifetime, claims.cache_s), (Some(Duration::from_secs(7)), Some(3)));
        assert_eq!(Claims::parse(br#"{"expires_at":12}"#).unwrap().expires_at, Some(12));
        assert_eq!(Claims::parse(br#"{"exp":1e300}"#).unwrap().expires_at, Some(TIME_MAX as u64));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, part) in [
            ("[]", "cannot be read"),
            ("null", "cannot be read"),
            (r#"{"sub":7}"#, "cannot be read"),
            (r#"{"sub":"a","sub":"b"}"#, "duplicate"),
            (r#"{"sub":""}"#, "'sub' must have 1 to 255"),
            (r#"{"sub":"a\u0000"}"#, "control characters"),
            (r#"{"exp":-1}"#, "'exp' must be seconds"),
            (r#"{"exp":"soon"}"#, "cannot be read"),
            (r#"{"permissions":{"subscibe":["a"]}}"#, "subscibe"),
            (r#"{"permissions":{"subscribe":[">.a"]}}"#, "'permissions.subscribe' has '>.a'"),
            (r#"{"permissions":{"subscribe":[""]}}"#, "empty"),
            (r#"{"limits":{"messages_per_s":-1}}"#, "cannot be read"),
            (r#"{"limits":{"mesages_per_s":1}}"#, "mesages_per_s"),
            (r#"{"limits":{"rate_policy":"shout"}}"#, "one of slow-down, drop, close"),
        ] {
            assert!(error(json).contains(part), "{json}: {}", error(json));
        }
        let long = |name: &str, value: String| error(&format!(r#"{{"{name}":{value}}}"#));
        assert!(long("sub", format!("\"{}\"", "x".repeat(256))).contains("'sub'"));
        assert!(long("info", format!("\"{}\"", "x".repeat(4096))).contains("4098 bytes"));
        assert!(long("role", format!("[{}\"r\"]", "\"r\",".repeat(32))).contains("33 names"));
        let many = format!(r#"{{"subscribe":[{}"a"]}}"#, "\"a\",".repeat(1000));
        assert!(long("permissions", many).contains("1001 patterns"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_makes_it_panic(json in "\\PC{0,200}", number in any::<f64>()) {
            let _ = Claims::parse(json.as_bytes());
            let _ = Claims::parse(format!(r#"{{"exp":{number},"nbf":{number}}}"#).as_bytes());
        }
    }
}
