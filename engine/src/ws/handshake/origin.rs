//! Which web pages may connect (RFC 6455, 10.2). A browser lets any page open a WebSocket to any host and sends the
//! user's cookies along; the `Origin` header, which a page cannot forge, is the only protection.

use super::Request;

/// The origins that may connect. A request without an `Origin` comes from no browser and is always allowed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Origins {
    /// Only pages from the host and port that the request itself is for; over TLS, from `https` only. The default.
    #[default]
    SameHost,
    /// Every page.
    Any,
    /// Pages from these origins, each `scheme://host[:port]`, where `*.` before the host stands for all its subdomains
    /// (but not the host itself), or `null` for pages without an origin.
    List(Vec<String>),
}

impl Origins {
    /// Whether this request, which came through TLS or not, may connect. Without regard to case; a port left out is the
    /// scheme's own.
    pub fn allows(&self, request: &Request<'_>, is_tls: bool) -> bool {
        match (self, request.count("origin")) {
            (_, 0) | (Self::Any, _) => true,
            (Self::SameHost, _) => request.only("origin").is_some_and(|origin| is_same_host(origin, request, is_tls)),
            (Self::List(list), _) => {
                request.only("origin").is_some_and(|origin| list.iter().any(|entry| matches_entry(origin, entry)))
            }
        }
    }
}

impl Origins {
    /// Whether a page of this origin may use the HTTP service at this `Host`: the same rules.
    pub fn allows_page(&self, origin: &str, host: Option<&str>, is_tls: bool) -> bool {
        let headers = [
            httparse::Header { name: "origin", value: origin.as_bytes() },
            httparse::Header { name: "host", value: host.unwrap_or("").as_bytes() },
        ];
        self.allows(&Request { method: "POST", target: "/", minor_version: 1, headers: &headers }, is_tls)
    }
}

/// Through TLS the page, too, must have come so: one in the clear could be anybody's on the way. Else the scheme of the `Host`
/// header is unknown (a proxy may have ended TLS), and its port defaults like the origin's.
fn is_same_host(origin: &str, request: &Request<'_>, is_tls: bool) -> bool {
    let (Some(origin), Some(host)) = (Origin::parse(origin), request.only("host")) else {
        return false;
    };
    if is_tls && !origin.scheme.eq_ignore_ascii_case("https") {
        return false;
    }
    let host = Origin::of_authority(origin.scheme, host);
    host.is_some_and(|host| origin.host.eq_ignore_ascii_case(host.host) && origin.port == host.port)
}

fn matches_entry(origin: &str, entry: &str) -> bool {
    let (Some(origin), Some(entry)) = (Origin::parse(origin), Origin::parse(entry)) else {
        return origin.eq_ignore_ascii_case("null") && entry.eq_ignore_ascii_case("null");
    };
    let is_host = match entry.host.strip_prefix('*') {
        Some(domain) => is_subdomain(origin.host, domain),
        None => origin.host.eq_ignore_ascii_case(entry.host),
    };
    is_host && origin.scheme.eq_ignore_ascii_case(entry.scheme) && origin.port == entry.port
}

/// Whether `host` is something, then `.domain`.
fn is_subdomain(host: &str, domain: &str) -> bool {
    let (host, domain) = (host.as_bytes(), domain.as_bytes());
    domain.starts_with(b".")
        && host.len() > domain.len()
        && host[host.len() - domain.len()..].eq_ignore_ascii_case(domain)
}

/// An origin taken apart (RFC 6454, 4).
#[derive(Debug, Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// The port given, or the scheme's own.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(origin: &'a str) -> Option<Self> {
        let (scheme, authority) = origin.split_once("://")?;
        Self::of_authority(scheme, authority)
    }

    /// Refuses whatever is no host and port: a path or a user name would make the end of the text look like a host.
    fn of_authority(scheme: &'a str, authority: &'a str) -> Option<Self> {
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]*".contains(&byte);
        let (host, port) = match authority.rsplit_once(':') {
            // Not the colons within an IPv6 address.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, default_port(scheme)),
        };
        let is_valid = !host.is_empty() && host.bytes().all(is_host_byte);
        is_valid.then_some(Self { scheme, host, port })
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    let has = |names: [&str; 2]| names.iter().any(|name| scheme.eq_ignore_ascii_case(name));
    if has(["http", "ws"]) {
        Some(80)
    } else if has(["https", "wss"]) {
        Some(443)
    } else {
        None
    }
}
