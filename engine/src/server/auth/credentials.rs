//! What a request brings to show who it is from, and where that may stand.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::cache::Fingerprint;
use crate::server::query::{BadQuery, percent_decode};
use crate::{FORWARDING_HEADERS as FORWARDING, Upgrade};

/// How a token looks among the subprotocols that a browser offers, as it cannot send headers.
const PROTOCOL_PREFIX: &str = "bearer.";

/// The subprotocol to offer beside a token.
pub const PROTOCOL: &str = "fanfare.v1";

/// Headers that the program is told of that is asked who a client is.
pub const TOLD_HEADERS: [&str; 10] = [
    "authorization",
    "cookie",
    "origin",
    "host",
    "user-agent",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// All of it, out of one request.
#[derive(Clone, Default)]
pub struct Credentials {
    /// A token.
    pub token: Option<String>,
    /// The path of the request.
    pub path: String,
    /// Its query, without the token.
    pub query: Option<String>,
    /// The address of the client.
    pub client: Option<IpAddr>,
    /// Of [`TOLD_HEADERS`] those that there are.
    pub headers: Vec<(&'static str, String)>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({})", self.path)
    }
}

impl Credentials {
    /// A token that came in a message.
    #[must_use]
    pub fn of_message(token: &str, path: String, client: IpAddr) -> Self {
        Self { token: Some(token.into()), path, client: Some(client), ..Self::default() }
    }

    /// The value of a header that is told of.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(told, _)| *told == name).map(|(_, value)| value.as_str())
    }

    /// Whether there is anything by which a program could know somebody.
    #[must_use]
    pub fn is_something(&self) -> bool {
        self.token.is_some() || self.header("authorization").is_some() || self.header("cookie").is_some()
    }

    /// What an answer is kept by: all by which somebody is known, what browsers say about the page that is asking, and where
    /// it comes from and wants to go, as the program may have decided by that: a token that it takes from one address only is
    /// not taken from another because it was taken before.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let header = |name| self.header(name).map(str::as_bytes);
        let token = self.token.as_deref().map(str::as_bytes);
        let path = Some(self.path.as_bytes());
        let client = self.client.map(|address| address.to_canonical().to_string());
        let client = client.as_deref().map(str::as_bytes);
        Fingerprint::of(&[
            token,
            header("authorization"),
            header("cookie"),
            header("origin"),
            header("host"),
            header("x-forwarded-proto"),
            client,
            path,
        ])
    }
}

/// The headers of a request, wherever it was read.
pub trait Headers {
    /// All values of a header of this name (in lower case), in order, as far as they are text.
    fn all(&self, name: &str) -> Vec<Cow<'_, str>>;

    /// The only value; none if there are several.
    fn only(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.all(name);
        if values.len() == 1 { values.pop() } else { None }
    }

    /// Those that the program is told of.
    fn told(&self) -> Vec<(&'static str, String)> {
        let join = |name: &'static str| {
            let values = self.all(name);
            let separator = if name == "cookie" { "; " } else { ", " };
            (!values.is_empty()).then(|| (name, values.join(separator)))
        };
        TOLD_HEADERS.into_iter().filter_map(join).collect()
    }

    /// The token of `Authorization: Bearer`.
    fn bearer(&self) -> Option<String> {
        self.all("authorization").iter().find_map(|value| {
            let (scheme, token) = value.trim().split_once(' ')?;
            (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| token.trim().to_owned())
        })
    }

    /// The value of a cookie.
    fn cookie_value(&self, name: &str) -> Option<String> {
        let cookies = self.all("cookie");
        let pairs = cookies.iter().flat_map(|header| header.split(';'));
        let mut values = pairs.filter_map(|pair| pair.trim().split_once('='));
        let value = values.find(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"').to_owned());
        value.filter(|value| !value.is_empty())
    }

    /// Whether somebody says that the request was forwarded.
    fn is_forwarded(&self) -> bool {
        FORWARDING.iter().any(|name| !self.all(name).is_empty())
    }

    /// Whether the host that was asked for is an address or `localhost`, not a name that anybody may have pointed to this
    /// machine (DNS rebinding).
    fn names_address(&self) -> bool {
        self.only("host").is_some_and(|host| is_address(&host))
    }
}

impl Headers for http::HeaderMap {
    fn all(&self, name: &str) -> Vec<Cow<'_, str>> {
        self.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect()
    }
}

impl Headers for Upgrade<'_> {
    fn all(&self, name: &str) -> Vec<Cow<'_, str>> {
        let values = self.headers().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.map(|(_, value)| String::from_utf8_lossy(value)).collect()
    }
}

fn is_address(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').map_or("", |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Whether a request comes from this machine itself, as far as can be seen: a proxy on it that does not say so is not.
#[must_use]
pub fn is_local(peer: SocketAddr, local: SocketAddr, headers: &impl Headers) -> bool {
    is_loopback(peer) && is_loopback(local) && !headers.is_forwarded() && headers.names_address()
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// The token of an upgrade: that of the header before that of the query, the cookie, the subprotocols.
#[must_use]
pub fn token_of(request: &Upgrade<'_>, in_query: Option<String>, cookie: Option<&str>) -> Option<String> {
    let of_protocol = || {
        let mut offered = request.protocols();
        offered.find_map(|offer| offer.strip_prefix(PROTOCOL_PREFIX)).map(str::to_owned)
    };
    request.bearer().or(in_query).or_else(|| request.cookie_value(cookie?)).or_else(of_protocol)
}

/// The subprotocol to answer with: ours if it is offered; beside a token, the first one that is none. Never the token.
#[must_use]
pub fn choose_protocol(request: &Upgrade<'_>) -> Option<String> {
    let is_token = |offer: &&str| offer.starts_with(PROTOCOL_PREFIX);
    if request.protocols().any(|offer| offer == PROTOCOL) {
        return Some(PROTOCOL.into());
    }
    let with_token = request.protocols().any(|offer| is_token(&offer));
    request.protocols().find(|offer| with_token && !is_token(offer)).map(Into::into)
}

/// Takes the parameter `token` out of a query: what it was, and what is left.
///
/// # Errors
/// It stands there twice, or is not UTF-8.
pub fn split_query(query: Option<&str>) -> Result<(Option<String>, Option<String>), BadQuery> {
    let Some(query) = query else { return Ok((None, None)) };
    let (mut token, mut rest) = (None, Vec::new());
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if percent_decode(name).as_deref() != Some("token") {
            rest.push(pair);
            continue;
        }
        let value = percent_decode(value).ok_or_else(|| BadQuery("the parameter 'token' is not UTF-8".into()))?;
        if token.replace(value).is_some() {
            return Err(BadQuery("the parameter 'token' is given twice".into()));
        }
    }
    Ok((token.filter(|token| !token.is_empty()), Some(rest.join("&"))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue};

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    #[test]
    fn the_token_is_taken_out_of_the_query() {
        let split = |query| split_query(Some(query)).unwrap();
        assert_eq!(split("token=a.b.c&mode=both"), (Some("a.b.c".into()), Some("mode=both".into())));
        assert_eq!(split("mode=both&%74oken=a%2eb"), (Some("a.b".into()), Some("mode=both".into())));
        assert_eq!(split("mode=both&tokens=a"), (None, Some("mode=both&tokens=a".into())));
        assert_eq!(split("token="), (None, Some(String::new())));
        assert_eq!(split_query(None), Ok((None, None)));
        assert!(split_query(Some("token=a&token=b")).unwrap_err().0.contains("twice"));
        assert!(!split_query(Some("token=%ff")).unwrap_err().0.contains("ff"));
    }

    #[test]
    fn bearer_and_cookies_are_read_as_they_are_written() {
        assert_eq!(headers(&[("authorization", "bearer  abc ")]).bearer().as_deref(), Some("abc"));
        assert_eq!(headers(&[("authorization", "Basic abc")]).bearer(), None);
        assert_eq!(headers(&[("authorization", "Bearer ")]).bearer(), None);
        let cookies = headers(&[("cookie", "a=1; session=\"x.y\""), ("cookie", "b=2")]);
        assert_eq!(cookies.cookie_value("session").as_deref(), Some("x.y"));
        assert_eq!(cookies.cookie_value("b").as_deref(), Some("2"));
        assert_eq!(cookies.cookie_value("sess"), None);
        assert_eq!(cookies.told(), [("cookie", "a=1; session=\"x.y\"; b=2".to_owned())]);
    }

    #[test]
    fn answers_are_kept_for_what_the_program_may_have_decided_by() {
        let own = Credentials {
            token: Some("t".into()),
            path: "/ws".into(),
            client: Some("192.0.2.1".parse().unwrap()),
            headers: vec![("host", "a.example".into()), ("user-agent", "x".into())],
            ..Credentials::default()
        };
        let mapped = Credentials { client: Some("::ffff:192.0.2.1".parse().unwrap()), ..own.clone() };
        assert_eq!(own.fingerprint(), mapped.fingerprint());
        for other in [
            Credentials { client: Some("192.0.2.2".parse().unwrap()), ..own.clone() },
            Credentials { client: None, ..own.clone() },
            Credentials { path: "/api".into(), ..own.clone() },
            Credentials { token: Some("u".into()), ..own.clone() },
            Credentials { headers: vec![("host", "b.example".into())], ..own.clone() },
            Credentials {
                headers: vec![("host", "a.example".into()), ("x-forwarded-proto", "https".into())],
                ..own.clone()
            },
        ] {
            assert_ne!(own.fingerprint(), other.fingerprint(), "{other:?}");
        }
        let browser =
            Credentials { headers: vec![("host", "a.example".into()), ("user-agent", "y".into())], ..own.clone() };
        assert_eq!(own.fingerprint(), browser.fingerprint());
    }

    #[test]
    fn only_addresses_and_localhost_are_this_machine() {
        for host in ["127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080", "localhost", "LocalHost:1", "10.0.0.1:80"] {
            assert!(headers(&[("host", host)]).names_address(), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:8080", "127.0.0.1.evil.example", "", "[evil]", "[::1", "::1:x"]
        {
            assert!(!headers(&[("host", host)]).names_address(), "{host}");
        }
        assert!(!headers(&[]).names_address());
        assert!(!headers(&[("host", "localhost"), ("host", "localhost")]).names_address());
    }

    #[test]
    fn what_was_forwarded_is_not_from_this_machine() {
        let (here, there): (SocketAddr, SocketAddr) = ("127.0.0.1:1".parse().unwrap(), "10.0.0.1:1".parse().unwrap());
        let plain = headers(&[("host", "localhost")]);
        assert!(is_local(here, here, &plain));
        assert!(is_local("[::ffff:127.0.0.1]:1".parse().unwrap(), "[::1]:2".parse().unwrap(), &plain));
        assert!(!is_local(there, here, &plain) && !is_local(here, there, &plain));
        for name in FORWARDING {
            assert!(!is_local(here, here, &headers(&[("host", "localhost"), (name, "")])), "{name}");
        }
    }
}
