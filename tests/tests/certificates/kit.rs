//! What the tests share: an authority that issues certificates, files with them, and clients over TLS that are not ours.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fanfare_tests::{DEADLINE, Server, eventually};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tungstenite::WebSocket;

/// A connection over TLS.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Both versions there are.
pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// Whoever issues certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key in PEM.
#[derive(Clone)]
pub struct Issued {
    pub chain: String,
    pub key: String,
}

impl Issued {
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).expect("a certificate")
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For a year from now.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_for(names, 365)
    }

    /// For so many days; a negative number has expired. The first name is the common name, too.
    pub fn issue_for(&self, names: &[&str], days: i64) -> Issued {
        let mut params =
            CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let day = Duration::from_secs(86_400);
        let now = SystemTime::now();
        params.not_before = (now - day * 400).into();
        params.not_after = match u32::try_from(days) {
            Ok(days) => now + day * days,
            Err(_) => now - day * days.unsigned_abs() as u32,
        }
        .into();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { chain: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Files, each written in one step.
pub struct Files(tempfile::TempDir);

impl Files {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file that only its owner can read.
    pub fn write(&self, name: &str, text: &str) -> String {
        let new = self.path("new");
        fs::write(&new, text).expect("written");
        self.mode("new", 0o600);
        fs::rename(new, self.path(name)).expect("renamed");
        self.name(name)
    }

    pub fn mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("changed");
    }

    /// Writes `NAME.pem` and `NAME.key`, and gives the flags that name them.
    pub fn pair(&self, name: &str, issued: &Issued) -> [String; 4] {
        let chain = self.write(&format!("{name}.pem"), &issued.chain);
        let key = self.write(&format!("{name}.key"), &issued.key);
        ["--tls-cert".into(), chain, "--tls-key".into(), key]
    }
}

/// Starts a server that listens in the clear, which is where it is asked about itself, and with TLS.
pub fn server(flags: &[impl AsRef<str>]) -> Server {
    let mut all = vec!["--shards", "2", "--listen", "ws://127.0.0.1:0", "--listen", "wss://127.0.0.1:0"];
    all.extend(flags.iter().map(AsRef::as_ref));
    Server::with_exactly(&all)
}

/// Where it speaks TLS.
pub fn tls_addr(server: &Server) -> SocketAddr {
    server.addrs()[1]
}

/// A client that trusts this authority, and may have a certificate of its own.
pub fn client(trusted: &Authority, own: Option<&Issued>) -> Arc<ClientConfig> {
    client_of(&VERSIONS, &trusted.pem, own)
}

pub fn client_of(
    versions: &[&'static SupportedProtocolVersion],
    trusted: &str,
    own: Option<&Issued>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    let builder = builder.with_root_certificates(roots);
    Arc::new(match own {
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![own.der()], key).expect("they go together")
        }
        None => builder.with_no_client_auth(),
    })
}

/// A connection whose handshake is done, as far as the client can tell.
pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Stream> {
    let socket = TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    socket.set_write_timeout(Some(DEADLINE))?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut stream =
        StreamOwned::new(ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// What is shown to who asks for a name.
pub fn shown(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> CertificateDer<'static> {
    let stream = connect(addr, config, name).expect("a handshake");
    stream.conn.peer_certificates().expect("a certificate")[0].clone()
}

/// Waits until newcomers are shown a certificate.
#[track_caller]
pub fn eventually_shown(addr: SocketAddr, config: &Arc<ClientConfig>, name: &str, expected: &Issued) {
    eventually("the new certificate is shown", || shown(addr, config, name) == expected.der());
}

/// One request over TLS: status and body.
pub fn request(
    addr: SocketAddr,
    config: &Arc<ClientConfig>,
    target: &str,
    headers: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = connect(addr, config, "localhost")?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {answer:?}")))?;
    Ok((status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
}

/// A WebSocket over TLS, or the status of the refusal.
pub fn websocket(addr: SocketAddr, config: &Arc<ClientConfig>, path: &str) -> Result<WebSocket<Stream>, u16> {
    let stream = connect(addr, config, "localhost").expect("a handshake");
    match tungstenite::client(format!("ws://localhost{path}"), stream) {
        Ok((socket, _)) => Ok(socket),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("the upgrade failed: {error}"),
    }
}

/// The next text.
#[track_caller]
pub fn next_text(socket: &mut WebSocket<Stream>) -> String {
    loop {
        match socket.read().expect("a message comes") {
            tungstenite::Message::Text(text) => return text.to_string(),
            tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// How often certificates were replaced, or not.
pub fn reloads(server: &Server, outcome: &str) -> u64 {
    server.metrics().count("fanfare_tls_reloads_total", &[("outcome", outcome)])
}
