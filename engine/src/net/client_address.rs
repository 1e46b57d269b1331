//! The address of a client behind proxies, from `X-Forwarded-For` or `Forwarded` (RFC 7239).
//!
//! Whatever a client sends itself stands left in these lists, and each proxy adds on the right whom it has seen. So they are
//! read from the right, and only as long as the one who speaks is a trusted proxy: the first address that is none is the
//! client's, and what stands left of it is never looked at. Whatever cannot be read on the way there (garbage, `unknown`, an
//! obfuscated name) leaves the address of the peer.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::{ClientAddress, Settings};

/// Headers by which proxies, tunnels and content networks say that they have forwarded a request, and which nothing else sends.
pub const FORWARDING: [&str; 16] = [
    "forwarded",
    "x-forwarded-for",
    "x-real-ip",
    "via",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-original-forwarded-for",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "cdn-loop",
];

/// More proxies than this in a row are taken for garbage.
const PROXIES_MAX: usize = 64;
/// The longest element of `Forwarded` that is read, in bytes.
const ELEMENT_BYTES_MAX: usize = 512;

/// Whether what this peer says about addresses is believed.
fn is_trusted(settings: &Settings, peer: IpAddr) -> bool {
    is_among(&settings.trusted_proxies, peer)
}

/// Whether it is a proxy who will tell whose connection it is: until then the client is not known.
#[must_use]
pub fn is_told_later(settings: &Settings, peer: IpAddr) -> bool {
    settings.client_address != ClientAddress::Peer && is_trusted(settings, peer)
}

/// The header of each request that tells whose it is, if this peer is a proxy that is believed.
#[must_use]
pub fn header_name(settings: &Settings, peer: IpAddr) -> Option<&'static str> {
    let name = match settings.client_address {
        ClientAddress::XForwardedFor => "x-forwarded-for",
        ClientAddress::Forwarded => "forwarded",
        ClientAddress::Peer | ClientAddress::ProxyProtocol => return None,
    };
    is_trusted(settings, peer).then_some(name)
}

/// The client of a request, from what a trusted proxy says: the values of the header named by [`header_name`], in the order
/// in which they came. The port is 0 if the proxy does not tell it.
#[must_use]
pub fn client<'v>(
    settings: &Settings,
    peer: SocketAddr,
    values: impl DoubleEndedIterator<Item = &'v [u8]>,
) -> SocketAddr {
    let trusted = &settings.trusted_proxies;
    match settings.client_address {
        ClientAddress::XForwardedFor => first_untrusted(trusted, peer, values.rev().flat_map(hops)),
        ClientAddress::Forwarded => first_untrusted(trusted, peer, values.rev().flat_map(Elements)),
        ClientAddress::Peer | ClientAddress::ProxyProtocol => peer,
    }
}

fn is_among(nets: &[IpNet], ip: IpAddr) -> bool {
    let canonical = ip.to_canonical();
    nets.iter().any(|net| net.contains(&canonical) || net.contains(&ip))
}

/// Walks from the proxy next to us away from it. `None` is somebody of whom the address is not told.
fn first_untrusted(trusted: &[IpNet], peer: SocketAddr, hops: impl Iterator<Item = Option<SocketAddr>>) -> SocketAddr {
    let mut nearest = peer;
    for (n, hop) in hops.enumerate() {
        let Some(hop) = hop.filter(|_| n < PROXIES_MAX) else { return peer };
        nearest = hop;
        if !is_among(trusted, hop.ip()) {
            break;
        }
    }
    nearest
}

/// The addresses of one `X-Forwarded-For`, from the right.
fn hops(value: &[u8]) -> impl Iterator<Item = Option<SocketAddr>> {
    // Empty elements of a list do not count (RFC 9110, 5.6.1).
    value.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()).map(node)
}

/// The addresses of one `Forwarded`, from the right: what is left of it.
///
/// A comma within a quoted string does not part elements. So the shortest end that is a whole element is taken. It cannot
/// begin within a quoted string of the element that the proxy has added: it would hold an odd number of quotes. A quote that
/// a client leaves open further left therefore changes nothing.
struct Elements<'v>(&'v [u8]);

impl Iterator for Elements<'_> {
    type Item = Option<SocketAddr>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.0.trim_ascii().is_empty() {
                return None;
            }
            let commas = self.0.iter().enumerate().rev().take(ELEMENT_BYTES_MAX).filter(|(_, byte)| **byte == b',');
            let starts = commas.map(|(at, _)| at + 1).chain((self.0.len() <= ELEMENT_BYTES_MAX).then_some(0));
            let found = starts.into_iter().find_map(|start| Some((start, element(self.0[start..].trim_ascii())?)));
            let Some((start, hop)) = found else {
                self.0 = &[];
                return Some(None);
            };
            let is_empty = self.0[start..].trim_ascii().is_empty();
            self.0 = &self.0[..start.saturating_sub(1)];
            if !is_empty {
                return Some(hop);
            }
        }
    }
}

/// One element of `Forwarded` (RFC 7239, 4): `None` if it is none, `Some(None)` if it does not tell an address.
fn element(mut text: &[u8]) -> Option<Option<SocketAddr>> {
    let mut hop = None;
    while !text.is_empty() {
        let equals = text.iter().position(|byte| !is_token_byte(*byte));
        let Some(equals) = equals.filter(|at| *at > 0 && text[*at] == b'=') else {
            // Pairs may be empty.
            text = text.strip_prefix(b";")?.trim_ascii_start();
            continue;
        };
        let (name, rest) = (&text[..equals], &text[equals + 1..]);
        let (value, rest) = value(rest)?;
        if name.eq_ignore_ascii_case(b"for") {
            // Not twice (RFC 7239, 4).
            if hop.is_some() {
                return None;
            }
            hop = Some(node(&value));
        }
        text = rest.trim_ascii_start();
        if !text.is_empty() {
            text = text.strip_prefix(b";")?.trim_ascii_start();
        }
    }
    Some(hop.flatten())
}

/// A value and what follows it: a quoted string without its quotes and escapes, or else everything up to the next delimiter,
/// as many proxies do not quote what they should.
fn value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| b";, \t\"".contains(byte)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_vec(), &text[end..]));
    };
    let mut value = Vec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            _ => value.push(*byte),
        }
    }
    None
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An address with or without a port, an IPv6 one with or without brackets; an obfuscated port counts as none (RFC 7239, 6).
fn node(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let (ip, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            (IpAddr::V6(ip.parse().ok()?), if port.is_empty() { "0" } else { port.strip_prefix(':')? })
        }
        None => match text.parse() {
            Ok(ip) => (ip, "0"),
            Err(_) => {
                let (ip, port) = text.split_once(':')?;
                (IpAddr::V4(ip.parse().ok()?), port)
            }
        },
    };
    let port = if port.starts_with('_') { 0 } else { port.parse().ok()? };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests;
