//! TLS: [`Tls`] is what a server shows its clients, [`client`] what clients show of themselves, [`session`] one connection.

pub mod client;
pub mod session;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use self::client::ClientCertificate;
pub use self::session::TlsSession;

/// Whether a listener speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// It does not: `http://` and `ws://`.
    #[default]
    Plain,
    /// It does: `https://` and `wss://`.
    Tls,
}

/// Certificates and keys, checked, and what else is said in a TLS handshake. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

impl Tls {
    /// A chain and its key in PEM.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| e.to_string())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|e| e.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config) })
    }

    /// What a handshake is begun with.
    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}
