//! `fanfare --health`: asks the server that runs with the same configuration whether it is alive. For containers, which have
//! no other program to ask with.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::{AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::Config;
use crate::Security;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Nobody is there, or nobody who answers: asking in another way would take as long again.
const SILENCE: [io::ErrorKind; 3] =
    [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut, io::ErrorKind::WouldBlock];

/// Asks `/healthz` at `api_listen`, or else at the first address of `listen`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check(config: &Config) -> Result<(), String> {
    let Some(listen) = config.api_listen.or(config.listen.first().copied()) else {
        return Err("--health: there is neither 'api_listen' nor 'listen' to ask".into());
    };
    if listen.addr.port() == 0 {
        return Err(format!("--health: the port of {} is chosen when the server starts; give it one", listen.addr));
    }
    let addr = reachable(listen.addr);
    let security = config.security(&listen);
    let asked = attempt(addr, security, config.auth.client_certificates);
    // TLS begins and ends with a restart, so the server that runs may speak what the configuration said before. A server that
    // does not ask for certificates of clients yet, or still does, is alive either way.
    let is_other = match (&asked, security) {
        (Ok(status), Security::Plain) => status == "400",
        (Ok(_), Security::Tls) => false,
        (Err(error), _) => !SILENCE.contains(&error.kind()),
    };
    let other = if security == Security::Tls { Security::Plain } else { Security::Tls };
    if is_other && attempt(addr, other, true).is_ok_and(|status| status == "200") {
        return Ok(());
    }
    let status = asked.map_err(|error| format!("--health: {addr} does not answer: {error}"))?;
    if status == "200" { Ok(()) } else { Err(format!("--health: {addr} answers {status:?} instead of 200")) }
}

/// The status that is answered.
fn attempt(addr: SocketAddr, security: Security, wants_certificate: bool) -> io::Result<String> {
    let answer = match security {
        Security::Plain => connect(addr).and_then(|mut stream| ask(&mut stream, addr)),
        Security::Tls => ask_over_tls(addr, wants_certificate),
    }?;
    Ok(answer.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// An address that stands for all of this machine's is asked on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The same over TLS. A server that demands a certificate of its clients, which there is none of here, is alive if it says so.
fn ask_over_tls(addr: SocketAddr, wants_certificate: bool) -> io::Result<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Unverified(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), addr.ip().into()).map_err(io::Error::other)?;
    let mut stream = connect(addr)?;
    let answer = ask(&mut rustls::Stream::new(&mut client, &mut stream), addr);
    let cause = answer.as_ref().err().and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>());
    let refusals = [AlertDescription::CertificateRequired, AlertDescription::HandshakeFailure];
    match cause {
        Some(rustls::Error::AlertReceived(alert)) if wants_certificate && refusals.contains(alert) => {
            Ok("HTTP/1.1 200".into())
        }
        _ => answer,
    }
}

/// Takes whatever certificate is shown: it is this very machine that is asked, by an address that no certificate is for, and
/// nothing is told to it. Signatures are checked all the same, so that a key that is not the certificate's is noticed.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
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
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// The first bytes of the answer.
fn ask(stream: &mut (impl Read + Write), addr: SocketAddr) -> io::Result<String> {
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 32];
    let mut length = 0;
    while length < head.len() {
        match stream.read(&mut head[length..])? {
            0 => break,
            read => length += read,
        }
    }
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&head[..length]).into_owned())
}
