//! Which certificate a client is shown: by the name it asks for (SNI, RFC 6066 section 3) and the signatures it can check.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::identity::Identity;

/// All certificates, by name. What is asked for and not there gets the first one.
#[derive(Debug)]
pub struct Resolver {
    all: Vec<Arc<CertifiedKey>>,
    /// Positions in `all`, in the order they were given.
    exact: HashMap<String, Vec<usize>>,
    /// Likewise; the name without its `*.`.
    wildcard: HashMap<String, Vec<usize>>,
    /// The first one, and those that are for its first name, too.
    default: Vec<usize>,
}

impl Resolver {
    /// Of these, at least one, the first of which is shown to who asks for no name or one that is not there.
    #[must_use]
    pub fn new(identities: &[Identity]) -> Self {
        let mut this = Self {
            all: identities.iter().map(|identity| Arc::clone(&identity.key)).collect(),
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            default: Vec::new(),
        };
        for (at, identity) in identities.iter().enumerate() {
            for name in identity.info.names() {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(parent) => (&mut this.wildcard, parent),
                    None => (&mut this.exact, name.as_str()),
                };
                let positions = map.entry(name.to_owned()).or_default();
                // A name may be in a certificate twice.
                if positions.last() != Some(&at) {
                    positions.push(at);
                }
            }
        }
        let first = identities.first().and_then(|identity| identity.info.names().first());
        let shares = |identity: &Identity| first.is_some_and(|name| identity.info.names().contains(name));
        let default = identities.iter().enumerate().filter(|(at, identity)| *at == 0 || shares(identity));
        this.default = default.map(|(at, _)| at).collect();
        this
    }

    /// Those for a name: by itself, and then as one label before a parent; never none.
    fn candidates(&self, name: Option<&str>) -> [&[usize]; 2] {
        let Some(name) = name else { return [&self.default, &[]] };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let exact = self.exact.get(&name).map(Vec::as_slice).unwrap_or_default();
        let wildcard = name.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        let wildcard = wildcard.map(Vec::as_slice).unwrap_or_default();
        if exact.is_empty() && wildcard.is_empty() { [&self.default, &[]] } else { [exact, wildcard] }
    }

    /// The first of them that the client can check, in the order they were given.
    pub(super) fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let candidates = || self.candidates(name).into_iter().flatten();
        let can_check = |at: &&usize| self.all[**at].key.choose_scheme(schemes).is_some();
        // If it can check none, the handshake ends with an alert that says so.
        let chosen = candidates().find(can_check).or(candidates().next())?;
        Some(Arc::clone(&self.all[*chosen]))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes())
    }
}
