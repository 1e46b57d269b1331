//! A certificate for the first try: made at the start, for this machine, trusted by nobody.

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use time::{Duration, OffsetDateTime};

use super::error::TlsError;

/// What it says of itself, wherever somebody looks at it.
pub const SUBJECT: &str = "Fanfare development certificate, not for production";

/// How long it holds: long enough to try something out, and too short to be used in earnest.
const VALIDITY: Duration = Duration::days(14);

/// A certificate and its key, made for the first try, see [`Tls::development`](super::Tls::development).
#[derive(Clone)]
pub struct DevelopmentCertificate {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for DevelopmentCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DevelopmentCertificate")
    }
}

impl DevelopmentCertificate {
    /// Makes one (ECDSA P-256) for `localhost`, the loopback addresses and this machine's name.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<Self, TlsError> {
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).map_err(TlsError::internal)?;
        // A machine may be called anything.
        let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        if host != "localhost"
            && (1..=253).contains(&host.len())
            && host.bytes().all(is_name)
            && let Ok(name) = host.try_into()
        {
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, SUBJECT);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::now_utc();
        // Clocks of two machines differ.
        params.not_before = now - Duration::HOUR;
        params.not_after = now + VALIDITY;
        let key = KeyPair::generate().map_err(TlsError::internal)?;
        let certificate = params.self_signed(&key).map_err(TlsError::internal)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
