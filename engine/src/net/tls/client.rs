//! Certificates of clients (mTLS): what a certificate that has been verified says of who has it.

use std::fmt;
use std::sync::Arc;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

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

/// The common name of a subject, the most specific one if there are several: certificates have the general first.
pub(super) fn common_name(name: &X509Name<'_>) -> Option<String> {
    name.iter_common_name().last()?.as_str().ok().map(str::to_owned)
}

fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .filter(|part| !part.is_empty())
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    // RFC 4514, section 3, and two that are common.
    let short = match number.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        "2.5.4.5" => "serialNumber",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => "",
    };
    match (short, attribute.as_str()) {
        ("", _) | (_, Err(_)) => {
            let name = if short.is_empty() { number.as_str() } else { short };
            format!("{name}={}", encoded(attribute))
        }
        (short, Ok(text)) => format!("{short}={}", escaped(text)),
    }
}

/// A value that is no text: `#` and its DER (section 2.4).
fn encoded(attribute: &AttributeTypeAndValue<'_>) -> String {
    use x509_parser::asn1_rs::ToDer as _;
    let der = attribute.attr_value().to_der_vec().unwrap_or_default();
    std::iter::once("#".to_owned()).chain(der.iter().map(|byte| format!("{byte:02x}"))).collect()
}

/// A text as section 2.4 has it, so that no value can look like another part of the name.
fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut out = String::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        let is_special = match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => true,
            ' ' => at == 0 || at == last,
            '#' => at == 0,
            _ => false,
        };
        match character {
            // Control characters, too, as the text goes into logs.
            control if control.is_control() => {
                let mut bytes = [0; 4];
                control.encode_utf8(&mut bytes).bytes().for_each(|byte| out.push_str(&format!("\\{byte:02x}")));
            }
            character => {
                if is_special {
                    out.push('\\');
                }
                out.push(character);
            }
        }
    }
    out
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
