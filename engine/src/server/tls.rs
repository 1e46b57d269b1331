//! Certificates and keys as they are configured: read, kept, and told about.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::auth::now_s;
use super::config::Config;
use crate::{CertificateInfo, ClientAuth, DevelopmentCertificate, Security, Tls, TlsBuilder, TlsError, TlsVersion};

/// How long before its end the development certificate is made anew, in seconds.
const DEV_RENEWED_S: i64 = 86_400;

/// What is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Files with chains of certificates.
    pub certs: Vec<PathBuf>,
    /// Files with their keys.
    pub keys: Vec<PathBuf>,
    /// A file with the authorities that certificates of clients come from.
    pub client_ca: Option<PathBuf>,
    /// Whether clients need a certificate. Default: required if there is an authority.
    pub client_auth: Option<ClientAuth>,
    /// The oldest version. Default 1.2.
    pub min_version: TlsVersion,
    /// How often the files are looked at. Default 10 s; 0 is never.
    pub watch: Duration,
    /// Whether a certificate is made for the first try.
    pub dev: bool,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            certs: Vec::new(),
            keys: Vec::new(),
            client_ca: None,
            client_auth: None,
            min_version: TlsVersion::default(),
            watch: Duration::from_secs(10),
            dev: false,
        }
    }
}

impl TlsSettings {
    /// Whether there is anything to show.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certs.is_empty() || self.dev
    }

    /// What is spoken at an address that does not say it.
    #[must_use]
    pub fn security(&self) -> Security {
        if self.is_on() { Security::Tls } else { Security::Plain }
    }

    /// Whether clients are asked for certificates.
    #[must_use]
    pub fn asks_clients(&self) -> bool {
        self.is_on() && self.client_ca.is_some() && self.client_auth != Some(ClientAuth::None)
    }

    /// Whether the same is shown in a handshake, as long as the files are the same.
    #[must_use]
    pub fn shows_as(&self, other: &Self) -> bool {
        let shown = |settings: &Self| Self { watch: Duration::ZERO, ..settings.clone() };
        shown(self) == shown(other)
    }

    fn builder(&self, development: Option<&DevelopmentCertificate>) -> TlsBuilder {
        let builder = Tls::builder().min_version(self.min_version);
        let pairs = self.certs.iter().zip(&self.keys);
        let builder = pairs.fold(builder, |builder, (chain, key)| builder.certificate_files(chain, key));
        let builder = development.into_iter().fold(builder, TlsBuilder::development);
        let builder = self.client_ca.iter().fold(builder, TlsBuilder::client_authorities_file);
        self.client_auth.into_iter().fold(builder, TlsBuilder::client_auth)
    }

    /// The setting that a file is of.
    fn key_of(&self, file: &str) -> &'static str {
        let is_it = |path: &PathBuf| path.display().to_string() == file;
        if self.certs.iter().any(is_it) {
            "tls_cert"
        } else if self.keys.iter().any(is_it) {
            "tls_key"
        } else {
            "tls_client_ca"
        }
    }

    /// What is wrong, with the setting in front.
    #[must_use]
    pub fn sentence(&self, error: &TlsError) -> (&'static str, String) {
        let key = self.key_of(error.input());
        (key, format!("{key}: {error}"))
    }
}

/// What the files held at one time, not checked yet.
#[derive(Debug)]
pub struct Reading {
    builder: TlsBuilder,
    development: Option<Arc<DevelopmentCertificate>>,
}

impl Reading {
    /// The SHA-256 of it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.builder.digest()
    }

    /// Checks it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(self) -> Result<Certificates, TlsError> {
        Ok(Certificates { tls: self.builder.build()?, development: self.development })
    }
}

/// What was read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// What clients are shown.
    pub tls: Tls,
    development: Option<Arc<DevelopmentCertificate>>,
}

impl Certificates {
    /// Reads and checks all files; none if TLS is not spoken. A development certificate is not made anew where there is one.
    ///
    /// # Errors
    /// What is wrong.
    pub fn load(settings: &TlsSettings, present: Option<&Self>) -> Result<Option<Self>, TlsError> {
        Self::read(settings, present)?.map(Reading::check).transpose()
    }

    /// Reads all files, likewise. Blocks for as long as that takes.
    ///
    /// # Errors
    /// There is no randomness for a development certificate. A file that cannot be read is a mistake of the check.
    pub fn read(settings: &TlsSettings, present: Option<&Self>) -> Result<Option<Reading>, TlsError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let kept = present.filter(|present| !present.is_development_over()).and_then(|own| own.development.clone());
        let development = match (settings.dev, kept) {
            (false, _) => None,
            (true, Some(kept)) => Some(kept),
            (true, None) => Some(Arc::new(DevelopmentCertificate::generate()?)),
        };
        Ok(Some(Reading { builder: settings.builder(development.as_deref()).read(), development }))
    }

    /// Whether there is a development certificate that is about to expire.
    #[must_use]
    pub fn is_development_over(&self) -> bool {
        let ends = |certificate: &CertificateInfo| certificate.not_after() - unix_now() < DEV_RENEWED_S;
        self.development.is_some() && self.tls.certificates().iter().any(ends)
    }

    /// What should be seen to, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        match (&self.development, self.tls.certificates()) {
            (Some(_), [made, ..]) => vec![format!(
                "The certificate is one for development, made by this process: clients do not trust it, and nobody should. \
                 SHA-256 fingerprint: {}",
                made.fingerprint()
            )],
            _ => self.tls.warnings(unix_now()),
        }
    }

    /// All of them in a few words, for a report.
    #[must_use]
    pub fn summary(&self) -> String {
        let one = |certificate: &CertificateInfo| format!("{} until {}", certificate.name(), certificate.until());
        self.tls.certificates().iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// All of them as lines of comment.
    fn describe(&self) -> String {
        let mut text = String::new();
        for certificate in self.tls.certificates() {
            let left = (certificate.not_after() - unix_now()).div_euclid(86_400);
            text += &format!(
                "# {}: {}; {}, {} in its chain, issued by '{}'; {} to {} ({left} days left)\n",
                certificate.input(),
                if certificate.names().is_empty() { "no name".into() } else { certificate.names().join(", ") },
                certificate.key(),
                certificate.chain_len(),
                certificate.issuer(),
                certificate.since(),
                certificate.until(),
            );
        }
        text
    }
}

impl Config {
    /// What certificates there are, as lines of comment; nothing without TLS.
    #[must_use]
    pub fn describe_certificates(&self) -> String {
        let head = |text: String| format!("\n# Certificates, in the order of tls_cert:\n{text}");
        let certificates = self.certificates.as_ref().filter(|_| !self.tls.dev);
        certificates.map(Certificates::describe).map_or_else(String::new, head)
    }
}

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> i64 {
    i64::try_from(now_s()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_authority_for_certificates_of_clients_is_authentication() {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: String| {
            fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name).display().to_string()
        };
        let (cert, key) = (write("cert", key.cert.pem()), write("key", key.signing_key.serialize_pem()));
        let config = |more: &[&str]| {
            Config::from_flags([&["--listen=0.0.0.0:80", "--tls-cert", &cert, "--tls-key", &key], more].concat())
        };
        let mistake = |more: &[&str]| config(more).unwrap_err().to_string();
        assert!(mistake(&[]).contains("tls_client_ca"));
        let good = config(&["--tls-client-ca", &cert]).unwrap();
        assert!(good.auth.is_on() && !good.auth.takes_tokens());
        assert_eq!(good.security(&good.listen[0]), Security::Tls);
        // Nothing checks the claims of tokens then.
        assert!(mistake(&["--tls-client-ca", &cert, "--jwt-issuer=me"]).contains("not authenticated"));
    }
}
