//! TLS of a target, prepared once: whom to trust, which name to expect, how to prove who we are.
//!
//! Owner: [`Target`](super::Target). Sessions are not resumed unless asked for: each connection stands for another client,
//! and a reconnect storm of browsers that lost their tickets is the harder case.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WantsClientCert};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::tickets::Tickets;
use crate::failure::Failure;
use crate::scenario::TlsSettings;

/// What a connection needs to be encrypted.
#[derive(Clone)]
pub struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads certificates and keys. `host` is the name of the URL.
    ///
    /// # Errors
    /// [`Failure::Usage`] for settings that do not go together or hold no name; [`Failure::Failed`] for files that cannot be
    /// read or hold something else.
    pub(super) fn of(settings: &TlsSettings, host: &str) -> Result<Self, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::failed(format!("TLS cannot be set up: {error}")))?;
        let builder = if settings.insecure {
            if settings.ca.is_some() {
                return Err(Failure::usage("target.tls.ca and target.tls.insecure exclude each other"));
            }
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(roots(settings.ca.as_deref())?)
        };
        let mut config = with_own_certificate(builder, settings)?;
        config.resumption = match settings.resumption {
            true => Resumption::store(Arc::new(Tickets::default())),
            false => Resumption::disabled(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), name: server_name(settings, host)? })
    }
}

fn server_name(settings: &TlsSettings, host: &str) -> Result<ServerName<'static>, Failure> {
    let (setting, name) = match &settings.server_name {
        Some(name) => ("target.tls.server_name", name.as_str()),
        None => ("the host of target.url", host),
    };
    let wrong = |_| Failure::usage(format!("{setting} is '{name}': that is no name a certificate can have"));
    ServerName::try_from(name.to_owned()).map_err(wrong)
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        for certificate in certificates("target.tls.ca", path)? {
            roots.add(certificate).map_err(|error| unfit("target.tls.ca", path, &error))?;
        }
        return Ok(roots);
    }
    let found = rustls_native_certs::load_native_certs();
    let _ = roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(Failure::failed(format!(
            "the certificates this system trusts cannot be read ({why}); name a file of them in target.tls.ca"
        )));
    }
    Ok(roots)
}

fn with_own_certificate(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    settings: &TlsSettings,
) -> Result<ClientConfig, Failure> {
    match (&settings.certificate, &settings.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(certificate), Some(key)) => {
            let chain = certificates("target.tls.certificate", certificate)?;
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unfit("target.tls.key", key, &error))?;
            builder.with_client_auth_cert(chain, private).map_err(|error| {
                Failure::failed(format!(
                    "target.tls.certificate ({}) and target.tls.key ({}) do not go together: {error}",
                    certificate.display(),
                    key.display()
                ))
            })
        }
        (Some(_), None) => Err(Failure::usage("target.tls.certificate is set without target.tls.key")),
        (None, Some(_)) => Err(Failure::usage("target.tls.key is set without target.tls.certificate")),
    }
}

fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = read.map_err(|error| unfit(setting, path, &error))?;
    if found.is_empty() {
        return Err(Failure::failed(format!("{setting}: {} holds no certificate in PEM form", path.display())));
    }
    Ok(found)
}

fn unfit(setting: &str, path: &Path, error: &dyn fmt::Display) -> Failure {
    Failure::failed(format!("{setting}: {} cannot be used: {error}", path.display()))
}

/// Takes any certificate for good, but still wants its owner to hold the key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
