//! Every way in which somebody is not let in, and the one place where each becomes an HTTP status, an error code, a close
//! code and a label in metrics. What is said about it names neither tokens nor keys.

use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode};

use crate::Refusal;
use crate::server::http::error::ApiError;
use crate::server::query::cut;

/// Close code: no token came in time.
pub const CLOSE_TIMEOUT: u16 = 4001;
/// Close code: no token where one had to be, or an invalid one.
pub const CLOSE_INVALID: u16 = 4002;
/// Close code: the token has expired and no new one came.
pub const CLOSE_EXPIRED: u16 = 4003;

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// There is neither a token nor anything else to go by.
    NoToken,
    /// The token is longer than any may be.
    TooLong,
    /// It is no token that this server can read.
    Malformed,
    /// Its header demands what this server does not know (`crit`).
    Critical,
    /// It is signed by an algorithm other than that of the key it names: `none`, or a confusion of public key and secret.
    Algorithm,
    /// It names a key that this server does not have.
    UnknownKey,
    /// The signature is not that of the key.
    Signature,
    /// It has no `exp`.
    NoExpiry,
    /// It has expired.
    Expired,
    /// Its `nbf` is still to come.
    NotYet,
    /// Its `iat` is still to come.
    FromFuture,
    /// Its `iss` is not the one that is expected.
    Issuer,
    /// Its `aud` is none of those that are expected.
    Audience,
    /// A claim is not what it must be; which, and what it must be.
    Claims(String),
    /// A token of somebody else on a connection that is somebody's.
    OtherSubject,
    /// The program that was asked says that nobody is known by these credentials.
    Rejected,
    /// The program that was asked says that this somebody may not come in.
    RejectedForGood,
    /// The program that decides cannot be asked now.
    Unavailable,
    /// Who it is, is known; but this is not permitted: what, and on which topic.
    Forbidden(&'static str, Option<String>),
}

impl Denied {
    /// The labels of all of them.
    pub const LABELS: [&str; 19] = [
        "no_token",
        "too_long",
        "malformed",
        "critical",
        "algorithm",
        "unknown_key",
        "signature",
        "no_expiry",
        "expired",
        "not_yet",
        "from_future",
        "issuer",
        "audience",
        "claims",
        "other_subject",
        "rejected",
        "rejected_for_good",
        "unavailable",
        "forbidden",
    ];

    fn index(&self) -> usize {
        match self {
            Self::NoToken => 0,
            Self::TooLong => 1,
            Self::Malformed => 2,
            Self::Critical => 3,
            Self::Algorithm => 4,
            Self::UnknownKey => 5,
            Self::Signature => 6,
            Self::NoExpiry => 7,
            Self::Expired => 8,
            Self::NotYet => 9,
            Self::FromFuture => 10,
            Self::Issuer => 11,
            Self::Audience => 12,
            Self::Claims(_) => 13,
            Self::OtherSubject => 14,
            Self::Rejected => 15,
            Self::RejectedForGood => 16,
            Self::Unavailable => 17,
            Self::Forbidden(..) => 18,
        }
    }

    /// The label in metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Forbidden(..) | Self::RejectedForGood => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    /// The error's name, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "unauthenticated",
            Self::Forbidden(..) | Self::RejectedForGood => "forbidden",
            Self::Unavailable => "auth_unavailable",
            _ => "invalid_token",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Claims(what) => what.clone(),
            Self::Forbidden(what, Some(topic)) => format!("you may not {what} '{}'", cut(topic)),
            Self::Forbidden(what, None) => format!("you may not {what} this server"),
            _ => self.text().into(),
        }
    }

    fn text(&self) -> &'static str {
        match self {
            Self::NoToken => "a token is needed",
            Self::TooLong => "the token is longer than 16,384 bytes",
            Self::Malformed => "this is no token that the server can read",
            Self::Critical => "the token's header has 'crit', of which this server knows nothing",
            Self::Algorithm => "the token is signed by another algorithm than its key is for",
            Self::UnknownKey => "the server does not have the key that signed the token",
            Self::Signature => "the token's signature is wrong",
            Self::NoExpiry => "the token has no 'exp'",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet ('nbf')",
            Self::FromFuture => "the token was issued in the future ('iat')",
            Self::Issuer => "the token is not from the issuer that is expected ('iss')",
            Self::Audience => "the token is not meant for this server ('aud')",
            Self::Claims(_) => "a claim of the token is not what it must be",
            Self::OtherSubject => "the token is of another subject than the connection",
            Self::Rejected => "nobody is known by these credentials",
            Self::RejectedForGood => "you may not connect",
            Self::Unavailable => "who you are cannot be found out now: try again",
            Self::Forbidden(..) => "this is not permitted",
        }
    }

    /// The header `WWW-Authenticate` (RFC 6750, section 3): without an error if there was no token at all.
    fn challenge(&self) -> Option<String> {
        let error = match self {
            Self::NoToken => return Some("Bearer realm=\"fanfare\"".into()),
            Self::Unavailable => return None,
            Self::Forbidden(..) | Self::RejectedForGood => "insufficient_scope",
            _ => "invalid_token",
        };
        let description = self.text();
        Some(format!("Bearer realm=\"fanfare\", error=\"{error}\", error_description=\"{description}\""))
    }

    fn headers(&self) -> Vec<(HeaderName, String)> {
        let mut headers: Vec<_> = self.challenge().map(|value| (WWW_AUTHENTICATE, value)).into_iter().collect();
        if *self == Self::Unavailable {
            headers.push((RETRY_AFTER, "1".into()));
        }
        headers
    }

    /// As the answer to an upgrade.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let refusal = Refusal::new(self.status().as_u16()).error(self.code(), &self.message());
        self.headers().iter().fold(refusal, |refusal, (name, value)| refusal.header(name.as_str(), value))
    }

    /// As the close of a connection that has shown it: code and reason.
    #[must_use]
    pub fn close(&self) -> (u16, String) {
        let code = match self {
            Self::Forbidden(..) | Self::RejectedForGood => 1008,
            Self::Unavailable => 1013,
            _ => CLOSE_INVALID,
        };
        (code, format!("{}: {}", self.code(), cut(&self.message())))
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let error = Self::new(denied.status(), denied.code(), denied.message());
        denied.headers().into_iter().fold(error, |error, (name, value)| error.header(name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn all() -> Vec<Denied> {
        vec![
            Denied::NoToken,
            Denied::TooLong,
            Denied::Malformed,
            Denied::Critical,
            Denied::Algorithm,
            Denied::UnknownKey,
            Denied::Signature,
            Denied::NoExpiry,
            Denied::Expired,
            Denied::NotYet,
            Denied::FromFuture,
            Denied::Issuer,
            Denied::Audience,
            Denied::Claims("x".repeat(500)),
            Denied::OtherSubject,
            Denied::Rejected,
            Denied::RejectedForGood,
            Denied::Unavailable,
            Denied::Forbidden("publish to", Some("t".repeat(255))),
        ]
    }

    #[test]
    fn each_has_a_label_of_its_own_and_what_is_said_fits() {
        for (slot, denied) in all().iter().enumerate() {
            assert_eq!(denied.index(), slot, "{denied:?}");
            let (code, reason) = denied.close();
            assert!(reason.len() <= 123, "{reason}");
            assert!(code == 1008 || code == 1013 || code == CLOSE_INVALID);
            let headers = denied.headers();
            assert!(headers.iter().all(|(_, value)| value.is_ascii() && !value.contains(['\r', '\n'])));
        }
        let labels: BTreeSet<_> = Denied::LABELS.into_iter().collect();
        assert_eq!(labels.len(), all().len());
    }

    #[test]
    fn the_challenge_has_an_error_only_if_there_was_something_to_be_wrong() {
        assert_eq!(Denied::NoToken.challenge().unwrap(), "Bearer realm=\"fanfare\"");
        assert!(Denied::Expired.challenge().unwrap().contains("error=\"invalid_token\""));
        assert!(Denied::Forbidden("publish to", None).challenge().unwrap().contains("error=\"insufficient_scope\""));
        assert_eq!(Denied::Unavailable.challenge(), None);
    }
}
