//! The head of a request, parsed where it lies.

use std::fmt;

use httparse::{Header, Status};

/// Most headers that a request may have. Browsers behind proxies send about 30.
pub const HEADERS_MAX: usize = 64;

/// The head of an HTTP/1 request, borrowed from the bytes it came in.
///
/// Names of headers are compared without regard to case; values come without surrounding blanks. Values that are not
/// UTF-8 are skipped where text is asked for, but they count where presence or number matters.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, as sent: `GET`.
    pub method: &'a str,
    /// The request target: path and query.
    pub target: &'a str,
    /// 0 or 1, for HTTP/1.0 or HTTP/1.1.
    pub minor_version: u8,
    /// The headers in their order.
    pub headers: &'a [Header<'a>],
}

impl<'a> Request<'a> {
    /// The target up to the `?`, not decoded.
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The target after the first `?`, not decoded.
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers_named(name).next()
    }

    /// All values of a header, in order.
    pub fn headers_named(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.raw(name).filter_map(|value| core::str::from_utf8(value).ok()).map(|value| value.trim_matches(BLANKS))
    }

    /// All subprotocols offered, in the client's order (RFC 6455, 11.3.4: several headers are one list).
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> {
        self.headers_named("sec-websocket-protocol").flat_map(elements)
    }

    /// The value of a cookie, as sent. If several have this name, the first: the most specific one (RFC 6265, 5.4).
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        self.headers_named("cookie")
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.split_once('='))
            .find_map(|(key, value)| (key.trim_matches(BLANKS) == name).then(|| value.trim_matches(BLANKS)))
    }

    /// How many headers have this name.
    pub(super) fn count(&self, name: &str) -> usize {
        self.raw(name).count()
    }

    /// The value of a header that is there exactly once.
    pub(super) fn only(&self, name: &str) -> Option<&'a str> {
        self.header(name).filter(|_| self.count(name) == 1)
    }

    /// Whether a header that is a list contains `token`, without regard to case.
    pub(super) fn has_token(&self, name: &str, token: &str) -> bool {
        self.headers_named(name).flat_map(elements).any(|element| element.eq_ignore_ascii_case(token))
    }

    /// Whether bytes are said to follow the head.
    pub(super) fn announces_body(&self) -> bool {
        self.count("transfer-encoding") > 0 || self.raw("content-length").any(|value| value != b"0")
    }

    fn raw(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    }
}

/// The optional whitespace of HTTP (RFC 9110, 5.6.3).
const BLANKS: [char; 2] = [' ', '\t'];

/// The elements of a list header, without the empty ones (RFC 9110, 5.6.1).
fn elements(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|element| element.trim_matches(BLANKS)).filter(|element| !element.is_empty())
}

/// Why a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// It is not HTTP/1.
    Malformed(httparse::Error),
    /// It has more headers than the caller's slice, usually [`HEADERS_MAX`].
    TooManyHeaders,
}

impl HeadError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::TooManyHeaders => 431,
        }
    }

    /// The name of this error for logs: snake_case. Metrics count by the coarser cause, see `close`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_head",
            Self::TooManyHeaders => "too_many_headers",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "the request is malformed: {error}"),
            Self::TooManyHeaders => f.write_str("the request has too many headers"),
        }
    }
}

impl std::error::Error for HeadError {}

/// Parses the head of a request at the front of `bytes`, and tells its length in bytes; what follows is no part of it.
/// `None` if it is incomplete: the caller bounds how long it may become. `headers` is the room for the headers, e.g.
/// `[httparse::EMPTY_HEADER; HEADERS_MAX]`.
///
/// Folded header lines and blanks before a colon are refused, as RFC 9112, 5.1 and 5.2 want it of a server.
///
/// # Errors
///
/// [`HeadError`], as soon as the bytes cannot become a head any more.
pub fn parse_head<'h, 'b: 'h>(
    bytes: &'b [u8],
    headers: &'h mut [Header<'b>],
) -> Result<Option<(Request<'h>, usize)>, HeadError> {
    let mut parsed = httparse::Request::new(headers);
    let head_len = match parsed.parse(bytes) {
        Ok(Status::Complete(head_len)) => head_len,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
        Err(error) => return Err(HeadError::Malformed(error)),
    };
    let httparse::Request { method: Some(method), path: Some(target), version: Some(minor_version), headers } = parsed
    else {
        return Ok(None);
    };
    Ok(Some((Request { method, target, minor_version, headers }, head_len)))
}
