//! Certificates of clients (mTLS): by which authority they are verified, and what one that has been says of who has it.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::error::{Problem, TlsError};
use super::identity::{Contents, certificates};
use super::name::{common_name, rfc4514};
use super::session::TlsSession;
use super::{Digest, Tls};

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not.
    #[default]
    None,
    /// They are; who has none gets in without. One that cannot be verified ends the handshake.
    Optional,
    /// They are; who has none does not get in.
    Required,
}

impl ClientAuth {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Optional, Self::Required];

    /// Its name in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// Verifies that the certificates of clients come from one of these authorities.
///
/// # Errors
/// There is none, or one that cannot be used.
pub(super) fn verifier(
    authorities: &Contents,
    auth: ClientAuth,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(authorities)?.into_iter().enumerate() {
        roots.add(certificate).map_err(|error| {
            let (position, reason) = (index + 1, error.to_string());
            TlsError::new(&authorities.name, Problem::BadCertificate { position, reason })
        })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map(|verifier| verifier as Arc<dyn ClientCertVerifier>).map_err(TlsError::internal)
}

/// The certificate that a client has shown in the TLS handshake. It has been verified: it comes from the authority that was
/// configured, holds at the time, and the client has its key.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    der: Arc<[u8]>,
    subject: String,
    common_name: Option<String>,
    dns_names: Vec<String>,
    email_addresses: Vec<String>,
    uris: Vec<String>,
    serial: String,
    not_after: i64,
    has_common_name: bool,
    trust: Digest,
}

impl ClientCertificate {
    /// Reads a certificate in DER; `None` if it is none. Does not verify it.
    #[must_use]
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        // A name that is there twice, or cannot be read, must not make it look like somebody else's.
        let alternatives = certificate.subject_alternative_name().ok()?;
        let mut this = Self {
            der: der.into(),
            subject: rfc4514(certificate.subject()),
            common_name: common_name(certificate.subject()),
            dns_names: Vec::new(),
            email_addresses: Vec::new(),
            uris: Vec::new(),
            serial: hex(certificate.raw_serial()),
            not_after: certificate.validity().not_after.timestamp(),
            has_common_name: certificate.subject().iter_common_name().next().is_some(),
            trust: Digest::default(),
        };
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => this.dns_names.push((*name).to_owned()),
                GeneralName::RFC822Name(address) => this.email_addresses.push((*address).to_owned()),
                GeneralName::URI(uri) => this.uris.push((*uri).to_owned()),
                _ => {}
            }
        }
        rest.is_empty().then_some(this)
    }

    /// What the client of a session has shown.
    pub(crate) fn of(session: &TlsSession) -> Option<Self> {
        Self::from_der(session.peer_certificate()?).map(|own| own.verified_by(session.trust()))
    }

    /// Notes by which authorities it was verified.
    pub(super) fn verified_by(self, trust: Digest) -> Self {
        Self { trust, ..self }
    }

    /// Whether it still says who somebody is, at this time in seconds since 1970: sessions go on after a certificate has
    /// expired, and after others are verified by other authorities.
    pub(crate) fn holds(&self, tls: Option<&Tls>, now: i64) -> bool {
        now <= self.not_after && tls.is_some_and(|tls| tls.trust() == self.trust)
    }

    /// Whether its subject has a common name, even one that cannot be read: then
    /// [`common_name`](Self::common_name) is none.
    #[must_use]
    pub fn has_common_name(&self) -> bool {
        self.has_common_name
    }

    /// Its subject as text, the most specific part first (RFC 4514): `CN=alice,O=Example\, Inc.`. Empty if it has none.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The common name (CN) of the subject, the most specific one if there are several.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// The DNS names it is for (subjectAltName, RFC 5280 section 4.2.1.6).
    #[must_use]
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// Likewise, mail addresses.
    #[must_use]
    pub fn email_addresses(&self) -> &[String] {
        &self.email_addresses
    }

    /// Likewise, URIs, as SPIFFE has them.
    #[must_use]
    pub fn uris(&self) -> &[String] {
        &self.uris
    }

    /// Its serial number, unique with its authority: hexadecimal, in lower case, without leading zero bytes.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Until when it holds, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// All of it, in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("subject", &self.subject)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

fn hex(bytes: &[u8]) -> String {
    let significant = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
    bytes[significant..].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber};

    use super::*;

    fn certificate(params: CertificateParams) -> ClientCertificate {
        let key = KeyPair::generate().unwrap();
        ClientCertificate::from_der(params.self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.subject_alt_names.push(SanType::Rfc822Name("alice@a.example".try_into().unwrap()));
        params.subject_alt_names.push(SanType::URI("spiffe://a.example/alice".try_into().unwrap()));
        params.serial_number = Some(SerialNumber::from_slice(&[0x01, 0xAB]));
        let alice = certificate(params);
        assert_eq!(alice.subject(), "CN=alice,O=Example\\, Inc.");
        assert_eq!(alice.common_name(), Some("alice"));
        assert_eq!(alice.dns_names(), ["a.example"]);
        assert_eq!(alice.email_addresses(), ["alice@a.example"]);
        assert_eq!(alice.uris(), ["spiffe://a.example/alice"]);
        assert_eq!(alice.serial(), "01ab");
    }

    #[test]
    fn names_cannot_look_like_other_names() {
        for (text, expected) in [
            // '=' needs no escape: a part ends at ',' or '+', and the first '=' ends its type.
            ("alice,O=root", "CN=alice\\,O=root"),
            (" # ", "CN=\\ #\\ "),
            ("#1", "CN=\\#1"),
            ("a\nb\u{0}", "CN=a\\0ab\\00"),
            ("a+b;c<d>e\"f\\g", "CN=a\\+b\\;c\\<d\\>e\\\"f\\\\g"),
            ("Zoë", "CN=Zoë"),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, text);
            assert_eq!(certificate(params).subject(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_owner() {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::new(vec!["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let der = made.der();
        assert!(ClientCertificate::from_der(der).is_some());
        assert_eq!(ClientCertificate::from_der(&[]), None);
        assert_eq!(ClientCertificate::from_der(&der[..der.len() - 1]), None);
        let mut longer = der.to_vec();
        longer.push(0);
        assert_eq!(ClientCertificate::from_der(&longer), None);
    }
}
