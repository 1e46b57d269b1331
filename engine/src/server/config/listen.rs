//! An address to listen on, and what is spoken there: `127.0.0.1:8080`, `wss://0.0.0.0:443`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::Security;

/// What may stand in front of an address. HTTP and WebSockets come over one port, so two words mean the same each.
const SCHEMES: [(&str, Security); 4] =
    [("ws://", Security::Plain), ("http://", Security::Plain), ("wss://", Security::Tls), ("https://", Security::Tls)];

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub addr: SocketAddr,
    /// The word in front of it, and what it says; without one it speaks TLS if there are certificates.
    scheme: Option<(&'static str, Security)>,
}

impl Listen {
    /// Whether TLS is spoken there, if that was said.
    #[must_use]
    pub fn said(&self) -> Option<Security> {
        self.scheme.map(|(_, security)| security)
    }
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self { addr, scheme: None }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let scheme = SCHEMES.into_iter().find(|(word, _)| text.starts_with(word));
        let addr = &text[scheme.map_or(0, |(word, _)| word.len())..];
        let form = "it must be IP:PORT, as 127.0.0.1:8080 or [::1]:8080 (names are not looked up), perhaps after ws://, wss://, \
                    http:// or https://";
        let addr = addr.parse().map_err(|_| form.to_owned())?;
        Ok(Self { addr, scheme })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.scheme.map_or("", |(word, _)| word), self.addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_written_as_it_was_read() {
        for (text, said) in [
            ("127.0.0.1:80", None),
            ("ws://127.0.0.1:80", Some(Security::Plain)),
            ("http://[::1]:0", Some(Security::Plain)),
            ("wss://0.0.0.0:443", Some(Security::Tls)),
            ("https://[::]:443", Some(Security::Tls)),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.to_string().as_str(), listen.said()), (text, said));
        }
        for text in
            ["", "wss://", "tcp://127.0.0.1:80", "wss://localhost:443", "wss://127.0.0.1:443/", "WSS://127.0.0.1:1"]
        {
            assert!(text.parse::<Listen>().unwrap_err().contains("IP:PORT"), "{text}");
        }
    }
}
