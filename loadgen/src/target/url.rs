//! Where a server is: its URL taken apart, its host's address looked up.
//!
//! Owner: [`Target`](super::Target). A URL is written by a person, so every refusal says what to write instead.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use crate::failure::Failure;

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether it is spoken encrypted.
    pub secure: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port; 80 or 443 if the URL has none.
    pub port: u16,
    /// Host and port as the header `Host` has them: without the port if it is the scheme's own.
    pub authority: String,
    /// Path and query, if there is more than `/`.
    pub path: Option<String>,
}

/// The two schemes a setting may have: plain and encrypted.
pub(super) struct Schemes {
    plain: &'static str,
    secure: &'static str,
}

/// `ws` and `wss`.
pub(super) const WEBSOCKET: Schemes = Schemes { plain: "ws", secure: "wss" };
/// `http` and `https`.
pub(super) const HTTP: Schemes = Schemes { plain: "http", secure: "https" };

impl Url {
    /// Takes the URL in `setting` apart.
    ///
    /// # Errors
    /// [`Failure::Usage`], naming the setting and what is allowed.
    pub fn parse(setting: &str, text: &str, schemes: &Schemes) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::usage(format!("{setting} is '{text}': {why}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong(no_scheme(text, schemes)))?;
        let secure = match scheme.to_ascii_lowercase() {
            s if s == schemes.plain => false,
            s if s == schemes.secure => true,
            s => return Err(wrong(other_scheme(&s, schemes))),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains('#') {
            return Err(wrong("a fragment (#…) is not sent to servers".into()));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("path and query must be percent-encoded: no blanks, only ASCII".into()));
        }
        if authority.contains('@') {
            return Err(wrong("user and password do not belong here; use target.headers with 'Authorization'".into()));
        }
        let (host, port) = host_and_port(authority).map_err(wrong)?;
        let default_port = if secure { 443 } else { 80 };
        let port = port.unwrap_or(default_port);
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        Ok(Self {
            secure,
            authority: if port == default_port { bracketed } else { format!("{bracketed}:{port}") },
            host: host.to_owned(),
            port,
            path: match path {
                "" | "/" => None,
                query if query.starts_with('?') => Some(format!("/{query}")),
                path => Some(path.to_owned()),
            },
        })
    }

    /// Looks up the host's address. A name with several gives one of the family of `bind`, else IPv4 before IPv6, as
    /// most servers under test listen on it.
    ///
    /// # Errors
    /// [`Failure::Failed`] if there is none; [`Failure::Usage`] if none is of the family of `bind`.
    pub fn resolve(&self, setting: &str, bind: &[IpAddr]) -> Result<SocketAddr, Failure> {
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| {
                Failure::failed(format!("the host '{}' of {setting} cannot be looked up: {error}", self.host))
            })?
            .collect();
        let wanted = |address: &&SocketAddr| bind.iter().all(|ip| ip.is_ipv4() == address.is_ipv4());
        let mut usable = found.iter().filter(wanted);
        if let Some(v4) = usable.clone().find(|address| address.is_ipv4()).or_else(|| usable.next()) {
            return Ok(*v4);
        }
        Err(match found.first() {
            Some(address) => Failure::usage(format!(
                "connect.bind has addresses of another family than the host '{}' of {setting}, which is {}",
                self.host,
                address.ip()
            )),
            None => Failure::failed(format!("the host '{}' of {setting} has no address", self.host)),
        })
    }
}

fn no_scheme(text: &str, schemes: &Schemes) -> String {
    if text.is_empty() {
        return format!("write where the server is, for example '{}://127.0.0.1:8080'", schemes.plain);
    }
    format!("the scheme is missing; write '{}://{text}'", schemes.plain)
}

fn other_scheme(scheme: &str, schemes: &Schemes) -> String {
    let instead = match (scheme, schemes.plain) {
        ("http", "ws") => "WebSocket servers are spoken to by 'ws://'; write that instead of 'http://'",
        ("https", "ws") => "encrypted WebSocket servers are spoken to by 'wss://'; write that instead of 'https://'",
        ("ws", "http") => "HTTP servers are spoken to by 'http://'; write that instead of 'ws://'",
        ("wss", "http") => "encrypted HTTP servers are spoken to by 'https://'; write that instead of 'wss://'",
        _ => return format!("there are only the schemes '{}' and '{}'", schemes.plain, schemes.secure),
    };
    instead.into()
}

/// Takes `HOST`, `HOST:PORT`, `[IPV6]` and `[IPV6]:PORT` apart.
fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or("the bracket '[' is not closed")?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("'{host}' is no IPv6 address"));
            }
            match behind.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if behind.is_empty() => (host, None),
                None => return Err(format!("'{behind}' follows the IPv6 address; only ':PORT' may")),
            }
        }
        None => match authority.split_once(':') {
            Some((_, rest)) if rest.contains(':') => return Err("an IPv6 address is written in brackets: [::1]".into()),
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
        return Err(
            "the host has letters that no host's name has (names with others are written in their 'xn--' form)".into(),
        );
    }
    match port.map(str::parse::<u16>) {
        None => Ok((host, None)),
        Some(Ok(port)) if port > 0 => Ok((host, Some(port))),
        Some(_) => Err("the port must be a number from 1 to 65535".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ws(text: &str) -> Result<Url, Failure> {
        Url::parse("target.url", text, &WEBSOCKET)
    }

    #[test]
    fn each_part_is_found_and_left_out_ports_are_the_schemes() {
        for (text, secure, host, port, authority, path) in [
            ("ws://127.0.0.1:8080", false, "127.0.0.1", 8080, "127.0.0.1:8080", None),
            ("WS://example.com/", false, "example.com", 80, "example.com", None),
            ("wss://example.com/a?b=c", true, "example.com", 443, "example.com", Some("/a?b=c")),
            ("wss://example.com:80?x", true, "example.com", 80, "example.com:80", Some("/?x")),
            ("ws://[::1]:9/topics/{topic}", false, "::1", 9, "[::1]:9", Some("/topics/{topic}")),
            ("ws://[::1]", false, "::1", 80, "[::1]", None),
        ] {
            let path = path.map(str::to_owned);
            let expected = Url { secure, host: host.into(), port, authority: authority.into(), path };
            assert_eq!(ws(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_what_to_write_instead() {
        for (text, part) in [
            ("", "for example 'ws://127.0.0.1:8080'"),
            ("127.0.0.1:8080", "write 'ws://127.0.0.1:8080'"),
            ("http://x", "write that instead of 'http://'"),
            ("https://x", "'wss://'"),
            ("ftp://x", "only the schemes 'ws' and 'wss'"),
            ("ws://", "host is missing"),
            ("ws://:80", "host is missing"),
            ("ws://x:0", "from 1 to 65535"),
            ("ws://x:65536", "from 1 to 65535"),
            ("ws://x:", "from 1 to 65535"),
            ("ws://::1", "in brackets"),
            ("ws://[::1", "not closed"),
            ("ws://[x]", "no IPv6"),
            ("ws://[::1]x", "follows the IPv6"),
            ("ws://a:b@x", "Authorization"),
            ("ws://x/#a", "fragment"),
            ("ws://x/a b", "percent-encoded"),
            ("ws://x y/", "letters"),
        ] {
            let Err(Failure::Usage(sentence)) = ws(text) else { panic!("{text} was taken") };
            assert!(sentence.contains(part) && sentence.starts_with("target.url is '"), "{sentence}");
        }
    }

    #[test]
    fn an_address_of_the_family_of_bind_is_chosen() {
        let url = ws("ws://127.0.0.1:7").expect("right");
        assert_eq!(url.resolve("target.url", &[]), Ok("127.0.0.1:7".parse().expect("an address")));
        let v6 = ["::1".parse().expect("an address")];
        assert!(matches!(url.resolve("target.url", &v6), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_host_that_is_not_there_is_a_failure_that_names_it() {
        let url = ws("ws://no-such-host.invalid").expect("right");
        let Err(Failure::Failed(sentence)) = url.resolve("target.url", &[]) else { panic!("it was found") };
        assert!(sentence.contains("'no-such-host.invalid' of target.url"), "{sentence}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(ws|wss|http)?(://)?[\\[\\]:@/?#a-z0-9. é]{0,20}") {
            let _ = ws(&text);
        }
    }
}
