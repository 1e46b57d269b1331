//! TLS: [`Tls`] is what a server shows its clients.
//!
//! [`identity`] reads and checks a certificate with its key, [`resolver`] chooses among several, [`client`] verifies the
//! certificates of clients and tells what is in them, [`dev`] makes a certificate for the first try, [`session`] is one
//! connection, [`error`] is all that can be wrong with files, [`name`] writes names as text.

pub mod client;
pub mod dev;
pub mod error;
pub mod identity;
pub mod name;
pub mod resolver;
pub mod session;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ring::digest::{Context, SHA256};
use rustls::ServerConfig;
use rustls::crypto::ring::Ticketer;
use rustls::server::NoServerSessionStorage;

pub use self::client::{ClientAuth, ClientCertificate};
pub use self::dev::DevelopmentCertificate;
use self::error::Problem;
pub use self::error::TlsError;
pub use self::identity::CertificateInfo;
use self::identity::{Contents, Identity, Input};
use self::resolver::Resolver;
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

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246), without renegotiation and with forward secrecy only.
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Tls12, Self::Tls13];

    /// Its name in the configuration.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// Certificates and keys, checked, and what else is said in a TLS handshake. Cheap to clone.
///
/// ```no_run
/// use fanfare::{ClientAuth, Tls, TlsVersion};
///
/// let tls = Tls::builder()
///     // Shown to clients that ask for one of its names, and to all for whose name there is no other.
///     .certificate_files("/etc/tls/example.com/fullchain.pem", "/etc/tls/example.com/privkey.pem")
///     .certificate_files("/etc/tls/example.org/fullchain.pem", "/etc/tls/example.org/privkey.pem")
///     // Clients may show a certificate of this authority; the handler sees it.
///     .client_authorities_file("/etc/tls/clients.pem")
///     .client_auth(ClientAuth::Optional)
///     .min_version(TlsVersion::Tls13)
///     .build()?;
/// for certificate in tls.certificates() {
///     println!("{} until {}", certificate.name(), certificate.until());
/// }
/// # Ok::<(), fanfare::TlsError>(())
/// ```
///
/// Connections that there are keep what they began with; [`EngineHandle::set_tls`](crate::EngineHandle::set_tls) puts another
/// in place for those that come.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    contents: Arc<Shown>,
}

/// What is known of it beside what is said in the handshake.
#[derive(Debug)]
struct Shown {
    certificates: Vec<CertificateInfo>,
    open_keys: Vec<String>,
    client_auth: ClientAuth,
    digest: Digest,
    trust: Digest,
}

/// The SHA-256 of all that something was read from.
pub type Digest = [u8; 32];

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.contents).finish()
    }
}

impl Tls {
    /// What it takes, step by step.
    #[must_use]
    pub fn builder() -> TlsBuilder {
        TlsBuilder::default()
    }

    /// A chain and its key in PEM, and the defaults of [`TlsBuilder`] for the rest.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::builder().certificate_pem(chain, key).build()
    }

    /// A certificate made now, for `localhost`, the loopback addresses and this machine's name, that no client trusts: for the
    /// first try. It holds for 14 days.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn development() -> Result<Self, TlsError> {
        Self::builder().development(&DevelopmentCertificate::generate()?).build()
    }

    /// What its certificates say, in the order they were given.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateInfo] {
        &self.contents.certificates
    }

    /// Whether clients are asked for a certificate.
    #[must_use]
    pub fn client_auth(&self) -> ClientAuth {
        self.contents.client_auth
    }

    /// What should be seen to, at this time in seconds since 1970, a sentence each: certificates that do not hold, or not for
    /// two weeks more; keys that every user of this machine can read.
    #[must_use]
    pub fn warnings(&self, now: i64) -> Vec<String> {
        let times = self.contents.certificates.iter().filter_map(|certificate| certificate.warning(now));
        let keys = self.contents.open_keys.iter();
        let keys =
            keys.map(|key| format!("Every user of this machine can read the private key {key}: chmod o-r {key}."));
        times.chain(keys).collect()
    }

    /// Whether it may take the place of another while that is in use: no name for which there is a certificate that holds must
    /// get one that does not. Certificates without names are compared with those at the same place.
    ///
    /// # Errors
    /// Which certificate it is. [`TlsError::is_passing`] then: the answer is another one when the times have come.
    pub fn may_replace(&self, present: &Self, now: i64) -> Result<(), TlsError> {
        let holds = |certificate: &CertificateInfo| certificate.lapse(now).is_none();
        if self.certificates().iter().all(holds) {
            return Ok(());
        }
        let worse = |name: &str, next: &CertificateInfo| {
            let lapse = next.lapse(now)?;
            Some(TlsError::new(next.input(), Problem::Worse { name: name.to_owned(), lapse }))
        };
        for name in present.certificates().iter().chain(self.certificates()).flat_map(CertificateInfo::names) {
            let (old, new) = (present.shown_for(name), self.shown_for(name));
            if old.into_iter().any(holds)
                && !new.iter().copied().any(holds)
                && let Some(error) = new.first().and_then(|next| worse(name, next))
            {
                return Err(error);
            }
        }
        // Those without names are told by their place.
        for (old, next) in present.certificates().iter().zip(self.certificates()) {
            if (old.names().is_empty() || next.names().is_empty())
                && holds(old)
                && let Some(error) = worse(old.name(), next)
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Those that clients are shown who ask for a name and can check all of them, as [`resolver`] has it; for a wildcard those
    /// who ask for one of its names that is nowhere else. None for names that get the first one.
    fn shown_for(&self, name: &str) -> Vec<&CertificateInfo> {
        let of = |wanted: &str| {
            let all = self.certificates().iter();
            all.filter(|certificate| certificate.names().iter().any(|own| own == wanted)).collect::<Vec<_>>()
        };
        let exact = of(name);
        match name.split_once('.') {
            Some((_, parent)) if exact.is_empty() => of(&format!("*.{parent}")),
            _ => exact,
        }
    }

    /// The SHA-256 of all it was read from, see [`TlsBuilder::digest`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.contents.digest
    }

    /// The SHA-256 of the authorities that certificates of clients are verified by: those verified by others do not count
    /// any more. The same for all that ask for none.
    pub(crate) fn trust(&self) -> Digest {
        self.contents.trust
    }

    /// The server's side of a connection that begins.
    pub(crate) fn begin(&self) -> Result<Box<TlsSession>, String> {
        let mut session = TlsSession::new(&self.config).map_err(|error| error.to_string())?;
        session.expect_certificates(self.client_auth() != ClientAuth::None);
        Ok(Box::new(session.trusting(self.trust())))
    }

    /// What a handshake is begun with.
    #[cfg(test)]
    pub(crate) fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }
}

/// What [`Tls`] is made from: at least one certificate with its key, in PEM (RSA, ECDSA, Ed25519; the key as PKCS#8, PKCS#1
/// or SEC1). Files are read when it is built.
#[derive(Debug, Clone, Default)]
pub struct TlsBuilder {
    pairs: Vec<(Input, Input)>,
    authorities: Option<Input>,
    client_auth: Option<ClientAuth>,
    min_version: TlsVersion,
}

impl TlsBuilder {
    /// Adds a certificate with the chain of its issuers, and its key. Which of several is shown is decided by the name that
    /// the client asks for (SNI); the first one if there is none, or none of that name. Of several for one name, such as an
    /// ECDSA and an RSA certificate, it is the first that the client can check.
    #[must_use]
    pub fn certificate_files(mut self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        let file = |path: &Path| Input::File(path.to_owned());
        self.pairs.push((file(chain.as_ref()), file(key.as_ref())));
        self
    }

    /// The same from memory.
    #[must_use]
    pub fn certificate_pem(mut self, chain: &[u8], key: &[u8]) -> Self {
        self.pairs.push((Input::Memory("the certificate", chain.into()), Input::Memory("the key", key.into())));
        self
    }

    /// Adds a certificate that has been made for the first try: the same one again, where [`Tls::development`] makes another.
    #[must_use]
    pub fn development(mut self, made: &DevelopmentCertificate) -> Self {
        let memory = |text: &str| Input::Memory("memory", text.as_bytes().into());
        self.pairs.push((memory(&made.certificate), memory(&made.key)));
        self
    }

    /// The authorities, in PEM, that certificates of clients must come from. Default: none.
    #[must_use]
    pub fn client_authorities_file(mut self, path: impl AsRef<Path>) -> Self {
        self.authorities = Some(Input::File(path.as_ref().to_owned()));
        self
    }

    /// The same from memory.
    #[must_use]
    pub fn client_authorities_pem(mut self, pem: &[u8]) -> Self {
        self.authorities = Some(Input::Memory("the authorities", pem.into()));
        self
    }

    /// Whether clients are asked for a certificate. Default: required if there are authorities, else not.
    #[must_use]
    pub fn client_auth(mut self, auth: ClientAuth) -> Self {
        self.client_auth = Some(auth);
        self
    }

    /// The oldest version that is spoken. Default 1.2.
    #[must_use]
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    fn inputs(&self) -> impl Iterator<Item = &Input> {
        self.pairs.iter().flat_map(|(chain, key)| [chain, key]).chain(&self.authorities)
    }

    /// The SHA-256 of all that it would be built from now: another one than that of a [`Tls`] means that a file has changed,
    /// or cannot be read.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let read: Vec<_> = self.inputs().map(Input::read).collect();
        digest(read.iter().map(|read| read.as_ref().map(|contents| contents.bytes.as_slice())))
    }

    /// The same with all files as they are now: what [`digest`](Self::digest) and [`build`](Self::build) say of it they say of
    /// the same bytes, whatever becomes of the files. One that cannot be read is a mistake of `build` still.
    #[must_use]
    pub fn read(mut self) -> Self {
        let inputs = self.pairs.iter_mut().flat_map(|(chain, key)| [chain, key]).chain(&mut self.authorities);
        inputs.for_each(|input| *input = Input::Read(Arc::new(input.read())));
        self
    }

    /// Reads and checks all of it.
    ///
    /// # Errors
    /// The first thing that is wrong: the file, what it is, and what to do.
    pub fn build(&self) -> Result<Tls, TlsError> {
        let auth = self.client_auth.unwrap_or_default();
        let auth = match (self.client_auth, &self.authorities) {
            (None, Some(_)) => ClientAuth::Required,
            (Some(ClientAuth::Optional | ClientAuth::Required), None) => {
                return Err(TlsError::new("TLS", Problem::NoAuthority));
            }
            _ => auth,
        };
        if self.pairs.is_empty() {
            return Err(TlsError::new("TLS", Problem::Nothing));
        }
        let read = self.inputs().map(Input::read).collect::<Result<Vec<_>, _>>()?;
        let (pairs, authorities) = read.split_at(self.pairs.len() * 2);
        let identities =
            pairs.chunks(2).map(|pair| Identity::new(&pair[0], &pair[1])).collect::<Result<Vec<_>, _>>()?;
        let asked = authorities.first().filter(|_| auth != ClientAuth::None);
        let contents = Shown {
            certificates: identities.iter().map(|identity| identity.info.clone()).collect(),
            open_keys: pairs.iter().skip(1).step_by(2).filter(|key| key.is_open).map(|key| key.name.clone()).collect(),
            client_auth: auth,
            digest: digest(read.iter().map(|contents| Ok(contents.bytes.as_slice()))),
            trust: digest(asked.iter().map(|contents| Ok(contents.bytes.as_slice()))),
        };
        let config = self.config(&identities, asked)?;
        Ok(Tls { config: Arc::new(config), contents: Arc::new(contents) })
    }

    fn config(&self, identities: &[Identity], authorities: Option<&Contents>) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = match self.min_version {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(TlsError::internal)?;
        let builder = match authorities {
            Some(authorities) => {
                let auth = self.client_auth.unwrap_or(ClientAuth::Required);
                builder.with_client_cert_verifier(client::verifier(authorities, auth, &provider)?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver::new(identities)));
        // A client that offers other protocols only is told so by an alert (RFC 7301).
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if authorities.is_some() {
            // Who resumes a session is not asked for a certificate again: one that has expired, or whose authority is not
            // believed any more, would get in as long as somebody goes on resuming. So everybody shows it each time.
            config.send_tls13_tickets = 0;
        } else {
            // Of this configuration alone: a ticket from before a change does not hold after it. Its keys change every six
            // hours, and never leave this process; resumption in another one is a full handshake.
            config.ticketer = Ticketer::new().map_err(TlsError::internal)?;
        }
        // 0 is the default, and stays: what comes before the handshake has ended could be sent again by anybody.
        config.max_early_data_size = 0;
        Ok(config)
    }
}

/// Of all inputs in order, each told from the next; what cannot be read is the reason why.
fn digest<'a>(inputs: impl Iterator<Item = Result<&'a [u8], &'a TlsError>>) -> Digest {
    let mut context = Context::new(&SHA256);
    for input in inputs {
        let (kind, bytes) = match input {
            Ok(bytes) => (0, bytes.to_vec()),
            Err(error) => (1, error.to_string().into_bytes()),
        };
        context.update(&[kind]);
        context.update(&(bytes.len() as u64).to_le_bytes());
        context.update(&bytes);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
