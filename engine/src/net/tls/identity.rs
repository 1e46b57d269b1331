//! One certificate of the server with its chain and key: read from PEM, and checked before anybody is shown it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Version;

use super::error::{Found, Problem, TlsError};
use super::name::{common_name, rfc4514};

/// The longest file that is read, in bytes: chains have some kilobytes, lists of all authorities some hundred.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// How long before its end a certificate is warned about: that is what automatic renewal leaves at least. 14 days.
pub const WARN_S: i64 = 14 * 86_400;

/// Where certificates or keys come from.
#[derive(Clone)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Memory; what it is called in messages.
    Memory(&'static str, Arc<[u8]>),
    /// A file as it was.
    Read(Arc<Result<Contents, TlsError>>),
}

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the bytes: they may be a key.
        f.write_str(&self.name())
    }
}

/// What an input holds.
#[derive(Clone)]
pub struct Contents {
    pub name: String,
    pub bytes: Vec<u8>,
    /// Whether it is a file that every user of the machine can read.
    pub is_open: bool,
}

impl Input {
    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Memory(name, _) => (*name).to_owned(),
            Self::Read(read) => {
                read.as_ref().as_ref().map_or_else(TlsError::input, |contents| &contents.name).to_owned()
            }
        }
    }

    /// Reads it as it is now.
    ///
    /// # Errors
    /// It cannot be read, or is far too long.
    pub fn read(&self) -> Result<Contents, TlsError> {
        let name = self.name();
        let path = match self {
            Self::File(path) => path,
            Self::Memory(_, bytes) => return Ok(Contents { name, bytes: bytes.to_vec(), is_open: false }),
            Self::Read(read) => return read.as_ref().clone(),
        };
        let unreadable = |error: &io::Error| {
            let is_denied = error.kind() == io::ErrorKind::PermissionDenied;
            TlsError::new(&name, Problem::Unreadable { error: error.to_string(), is_denied })
        };
        let metadata = path.metadata().map_err(|error| unreadable(&error))?;
        if !metadata.is_file() {
            // A pipe, for one, would be waited for.
            return Err(unreadable(&io::Error::other("it is no regular file")));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(&error))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(TlsError::new(&name, Problem::TooLong));
        }
        Ok(Contents { name, bytes, is_open: metadata.permissions().mode() & 0o004 != 0 })
    }
}

/// What a certificate of the server says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateInfo {
    input: String,
    names: Vec<String>,
    subject: String,
    issuer: String,
    key: String,
    chain: usize,
    not_before: i64,
    not_after: i64,
    fingerprint: String,
}

impl CertificateInfo {
    /// One that is for these names, and says nothing else.
    #[cfg(test)]
    pub(super) fn named(names: &[String]) -> Self {
        Self { names: names.to_vec(), not_after: i64::MAX, ..Self::default() }
    }

    /// Where it was read from.
    #[must_use]
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The DNS names and addresses it is for, in lower case; `*.` stands for one label. The common name if it has no others.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The first of its names; its subject if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        self.names.first().unwrap_or(&self.subject)
    }

    /// Who issued it (RFC 4514).
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The kind of its key: `ECDSA P-256`, `RSA 2048`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How many certificates are shown: its own, and those of its issuers.
    #[must_use]
    pub fn chain_len(&self) -> usize {
        self.chain
    }

    /// From when on it holds, in seconds since 1970.
    #[must_use]
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Until when it holds, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The same as people read it: `2026-01-31 08:00 UTC`.
    #[must_use]
    pub fn since(&self) -> String {
        date(self.not_before)
    }

    /// Until when, likewise.
    #[must_use]
    pub fn until(&self) -> String {
        date(self.not_after)
    }

    /// Its SHA-256, as browsers and `openssl x509 -fingerprint` show it.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What is wrong with its time, as the end of a sentence; `None` if it holds.
    #[must_use]
    pub fn lapse(&self, now: i64) -> Option<String> {
        if now > self.not_after {
            Some(format!("has expired on {}", date(self.not_after)))
        } else if now < self.not_before {
            Some(format!("does not hold before {}", date(self.not_before)))
        } else {
            None
        }
    }

    /// What there is to say about its time, as a sentence: it does not hold, or only for some more days.
    #[must_use]
    pub fn warning(&self, now: i64) -> Option<String> {
        let left = self.not_after.saturating_sub(now);
        let what = match self.lapse(now) {
            Some(lapse) => format!("{lapse}: clients refuse it"),
            None if left < WARN_S => format!("expires on {}, in {}", date(self.not_after), span(left)),
            None => return None,
        };
        Some(format!("The certificate of {} in {} {what}; renew it.", self.name(), self.input))
    }
}

/// A time as people read it.
fn date(unix: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    let time = OffsetDateTime::from_unix_timestamp(unix).ok();
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "a time beyond all calendars".into())
}

fn span(seconds: i64) -> String {
    let (count, unit) =
        if seconds >= 2 * 86_400 { (seconds / 86_400, "days") } else { ((seconds / 3600).max(1), "hours") };
    format!("{count} {}", if count == 1 { unit.trim_end_matches('s') } else { unit })
}

/// A certificate with its chain and key.
#[derive(Debug, Clone)]
pub struct Identity {
    pub key: Arc<CertifiedKey>,
    pub info: CertificateInfo,
}

impl Identity {
    /// Reads and checks a chain and its key.
    ///
    /// # Errors
    /// What is wrong.
    pub fn new(chain: &Contents, key: &Contents) -> Result<Self, TlsError> {
        let certificates = certificates(chain)?;
        let signing = private_key(key)?;
        let info = inspect(&chain.name, &certificates)?;
        let certified = CertifiedKey::new(certificates, signing);
        if let Err(error) = certified.keys_match() {
            return Err(mismatch(&certified, chain, key, &error));
        }
        check_order(&chain.name, &certified.cert)?;
        Ok(Self { key: Arc::new(certified), info })
    }
}

/// All certificates of a PEM.
///
/// # Errors
/// It is damaged, or has none.
pub fn certificates(pem: &Contents) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let damaged = |error: rustls_pki_types::pem::Error| TlsError::new(&pem.name, Problem::Damaged(error.to_string()));
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem.bytes).collect::<Result<_, _>>().map_err(damaged)?;
    if found.is_empty() {
        return Err(TlsError::new(&pem.name, Problem::NoCertificate(instead(&pem.bytes, "PRIVATE KEY-----"))));
    }
    Ok(found)
}

fn instead(bytes: &[u8], other: &str) -> Found {
    if contains(bytes, other) {
        Found::Other
    } else if bytes.first() == Some(&0x30) && !contains(bytes, "-----BEGIN") {
        // The SEQUENCE that both begin with.
        Found::Binary
    } else {
        Found::Nothing
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn private_key(pem: &Contents) -> Result<Arc<dyn rustls::sign::SigningKey>, TlsError> {
    let refuse = |problem| TlsError::new(&pem.name, problem);
    // PKCS#8, and what came before it.
    if contains(&pem.bytes, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(&pem.bytes, "Proc-Type: 4,ENCRYPTED") {
        return Err(refuse(Problem::EncryptedKey));
    }
    let keys: Vec<_> = PrivateKeyDer::pem_slice_iter(&pem.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| refuse(Problem::Damaged(error.to_string())))?;
    match &keys[..] {
        [] => Err(refuse(Problem::NoKey(instead(&pem.bytes, "-----BEGIN CERTIFICATE-----")))),
        [key] => any_supported_type(key).map_err(|_| refuse(Problem::BadKey)),
        several => Err(refuse(Problem::SeveralKeys(several.len()))),
    }
}

fn parse<'a>(input: &str, position: usize, der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    let bad = |reason: &str| {
        let reason = reason.to_owned();
        TlsError::new(input, Problem::BadCertificate { position, reason })
    };
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(bad("there is something behind its end")),
        Err(error) => Err(bad(&error.to_string())),
    }
}

/// What the first certificate says, if it and its issuers' can be trusted at all.
fn inspect(input: &str, chain: &[CertificateDer<'_>]) -> Result<CertificateInfo, TlsError> {
    for (index, der) in chain.iter().enumerate() {
        let certificate = parse(input, index + 1, der)?;
        // Who trusts a root does so for its key, whatever it is signed with.
        let is_root = certificate.subject() == certificate.issuer();
        if let Some(algorithm) = weak_signature(&certificate).filter(|_| !is_root) {
            return Err(TlsError::new(input, Problem::WeakSignature { position: index + 1, algorithm }));
        }
    }
    let own = parse(input, 1, &chain[0])?;
    if own.version() != X509Version::V3 {
        let reason = format!("it is of version {}; only version 3 can name whom it is for", own.version().0 + 1);
        return Err(TlsError::new(input, Problem::BadCertificate { position: 1, reason }));
    }
    let digest = digest(&SHA256, &chain[0]);
    Ok(CertificateInfo {
        input: input.to_owned(),
        names: names(input, &own)?,
        subject: rfc4514(own.subject()),
        issuer: rfc4514(own.issuer()),
        key: public_key(input, &own)?,
        chain: chain.len(),
        not_before: own.validity().not_before.timestamp(),
        not_after: own.validity().not_after.timestamp(),
        fingerprint: digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":"),
    })
}

fn weak_signature(certificate: &X509Certificate<'_>) -> Option<&'static str> {
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.2" | "1.2.840.113549.1.1.4" => Some("MD5"),
        "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" | "1.3.14.3.2.29" => Some("SHA-1"),
        _ => None,
    }
}

/// The kind of a key, if it can be used.
fn public_key(input: &str, certificate: &X509Certificate<'_>) -> Result<String, TlsError> {
    let info = certificate.public_key();
    let curve = || {
        let parameters = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        parameters.map_or_else(String::new, |oid| oid.to_id_string())
    };
    let refuse = |seen: String| Err(TlsError::new(input, Problem::BadPublicKey(seen)));
    match (info.algorithm.algorithm.to_id_string().as_str(), info.parsed()) {
        ("1.2.840.113549.1.1.1", Ok(PublicKey::RSA(key))) => match key.key_size() {
            bits @ 2048..=4096 => Ok(format!("RSA {bits}")),
            bits => refuse(format!("RSA with {bits} bits")),
        },
        ("1.2.840.10045.2.1", _) => match curve().as_str() {
            "1.2.840.10045.3.1.7" => Ok("ECDSA P-256".into()),
            "1.3.132.0.34" => Ok("ECDSA P-384".into()),
            "1.3.132.0.35" => refuse("ECDSA P-521".into()),
            "1.3.132.0.10" => refuse("ECDSA secp256k1".into()),
            other => refuse(format!("ECDSA on the curve {other}")),
        },
        ("1.3.101.112", _) => Ok("Ed25519".into()),
        ("1.3.101.113", _) => refuse("Ed448".into()),
        ("1.2.840.113549.1.1.10", _) => refuse("RSA-PSS only".into()),
        ("1.2.840.10040.4.1", _) => refuse("DSA".into()),
        (other, _) => refuse(format!("the kind {other}")),
    }
}

/// Whom a certificate is for (RFC 9525: the common name is no name, but there are private authorities that know nothing else).
fn names(input: &str, certificate: &X509Certificate<'_>) -> Result<Vec<String>, TlsError> {
    let bad = |reason: String| TlsError::new(input, Problem::BadCertificate { position: 1, reason });
    let alternatives = certificate.subject_alternative_name().map_err(|error| bad(error.to_string()))?;
    let mut names = Vec::new();
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
            _ => {}
        }
    }
    if names.is_empty() && alternatives.is_none() {
        names.extend(common_name(certificate.subject()).map(|name| name.to_ascii_lowercase()));
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        _ => None,
    }
}

/// Why key and certificate do not go together: perhaps the right certificate only is not the first.
fn mismatch(certified: &CertifiedKey, chain: &Contents, key: &Contents, error: &rustls::Error) -> TlsError {
    if !matches!(error, rustls::Error::InconsistentKeys(_)) {
        let reason = error.to_string();
        return TlsError::new(&chain.name, Problem::BadCertificate { position: 1, reason });
    }
    let own = certified.cert.iter().position(|certificate| {
        CertifiedKey::new(vec![certificate.clone()], Arc::clone(&certified.key)).keys_match().is_ok()
    });
    match own {
        Some(index) => TlsError::new(&chain.name, Problem::OwnNotFirst(index + 1)),
        None => TlsError::new(&key.name, Problem::NotItsKey(chain.name.clone())),
    }
}

/// Each further certificate must be of the issuer of one before it: chains that branch (cross-signing) are fine.
fn check_order(input: &str, chain: &[CertificateDer<'_>]) -> Result<(), TlsError> {
    let mut issuers = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        let certificate = parse(input, index + 1, der)?;
        let subject = certificate.subject().as_raw().to_vec();
        if index > 0 && !issuers.contains(&subject) {
            let subject = rfc4514(certificate.subject());
            return Err(TlsError::new(input, Problem::OutOfOrder { position: index + 1, subject }));
        }
        issuers.push(certificate.issuer().as_raw().to_vec());
    }
    Ok(())
}
