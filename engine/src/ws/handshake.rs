//! The HTTP/1.1 head that opens a WebSocket, server side (RFC 6455, 4.2).
//!
//! [`parse_head`] reads it, [`wants_upgrade`] tells whether it is for WebSocket at all, [`check_upgrade`] checks all
//! that the RFC demands, [`Origins`] says whether a browser page may connect, [`choose_protocol`] picks the
//! subprotocol, and [`put_accept`] or [`put_response`] write the answer.

mod origin;
mod request;
mod response;

use std::fmt;

use tungstenite::handshake::derive_accept_key;

pub use origin::Origins;
pub use request::{HEADERS_MAX, HeadError, Request, parse_head};
pub use response::{is_header_name, is_header_value, put_accept, put_response};

/// The only version of the protocol there is (RFC 6455, 4.1).
const VERSION: &str = "13";

/// A `Sec-WebSocket-Key` that was checked: base64 of 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpgradeKey<'a>(&'a str);

impl<'a> UpgradeKey<'a> {
    /// The key as the client sent it.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// The value of `Sec-WebSocket-Accept` that answers it (RFC 6455, 4.2.2).
    pub fn accept(&self) -> String {
        derive_accept_key(self.0.as_bytes())
    }

    /// 16 bytes are 22 digits of base64 and two of padding. What the digits say is never used.
    fn parse(value: &'a str) -> Option<Self> {
        let digits = value.strip_suffix("==")?;
        let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        (digits.len() == 22 && digits.bytes().all(is_digit)).then_some(Self(value))
    }
}

/// Why a request is no valid WebSocket upgrade (RFC 6455, 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeError {
    /// The method is not GET.
    Method,
    /// The request is older than HTTP/1.1.
    HttpVersion,
    /// No `Host` header, or several.
    Host,
    /// No `websocket` in `Upgrade`.
    NoUpgrade,
    /// No `upgrade` in `Connection`.
    Connection,
    /// `Sec-WebSocket-Version` is missing, repeated or not 13.
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated or not base64 of 16 bytes.
    Key,
    /// A body is announced. Its bytes would be frames to this side and a body to a proxy: request smuggling.
    Body,
}

impl UpgradeError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Host | Self::Connection | Self::Key | Self::Body => 400,
            Self::Method => 405,
            Self::NoUpgrade | Self::Version => 426,
            Self::HttpVersion => 505,
        }
    }

    /// The name of this error for logs: snake_case. Metrics count by the coarser cause, see `close`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::HttpVersion => "http_version",
            Self::Host => "host",
            Self::NoUpgrade => "no_upgrade",
            Self::Connection => "connection",
            Self::Version => "websocket_version",
            Self::Key => "websocket_key",
            Self::Body => "body",
        }
    }

    /// Headers that the answer must carry: what the client should have sent instead.
    pub fn extra_headers(&self) -> Vec<(String, String)> {
        let headers: &[(&str, &str)] = match self {
            Self::Method => &[("Allow", "GET")],
            // A 426 names the protocol to upgrade to (RFC 9110, 15.5.22).
            Self::NoUpgrade | Self::Version => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", VERSION)],
            Self::HttpVersion | Self::Host | Self::Connection | Self::Key | Self::Body => &[],
        };
        headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "a WebSocket upgrade needs the method GET",
            Self::HttpVersion => "a WebSocket upgrade needs HTTP/1.1",
            Self::Host => "exactly one Host header is needed",
            Self::NoUpgrade => "the header \"Upgrade: websocket\" is missing",
            Self::Connection => "the header \"Connection: Upgrade\" is missing",
            Self::Version => "the header \"Sec-WebSocket-Version: 13\" is needed exactly once",
            Self::Key => "exactly one Sec-WebSocket-Key with the base64 of 16 bytes is needed",
            Self::Body => "a WebSocket upgrade must not announce a body",
        })
    }
}

impl std::error::Error for UpgradeError {}

/// Whether the request asks for WebSocket; if not, it is a matter of the HTTP service.
pub fn wants_upgrade(request: &Request<'_>) -> bool {
    request.has_token("upgrade", "websocket")
}

/// Checks all that RFC 6455, 4.2.1 demands of an upgrade. Origin and subprotocol are the caller's to judge.
///
/// # Errors
///
/// The first rule that is broken, in the order of [`UpgradeError`].
pub fn check_upgrade<'a>(request: &Request<'a>) -> Result<UpgradeKey<'a>, UpgradeError> {
    if request.method != "GET" {
        return Err(UpgradeError::Method);
    }
    if request.minor_version < 1 {
        return Err(UpgradeError::HttpVersion);
    }
    if request.count("host") != 1 {
        return Err(UpgradeError::Host);
    }
    if !wants_upgrade(request) {
        return Err(UpgradeError::NoUpgrade);
    }
    if !request.has_token("connection", "upgrade") {
        return Err(UpgradeError::Connection);
    }
    if request.only("sec-websocket-version") != Some(VERSION) {
        return Err(UpgradeError::Version);
    }
    let key = request.only("sec-websocket-key").and_then(UpgradeKey::parse).ok_or(UpgradeError::Key)?;
    if request.announces_body() {
        return Err(UpgradeError::Body);
    }
    Ok(key)
}

/// The first subprotocol offered that is supported: the client's order is its preference (RFC 6455, 4.1). `None` if
/// there is none; then the answer names none, and it is the client's choice to leave.
pub fn choose_protocol<'o, 'p>(offered: impl Iterator<Item = &'o str>, supported: &[&'p str]) -> Option<&'p str> {
    let mut offered = offered;
    offered.find_map(|offer| supported.iter().find(|&&protocol| protocol == offer).copied())
}
