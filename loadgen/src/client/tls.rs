//! A TLS connection over a non-blocking socket.
//!
//! Owner: a [`Wire`](super::wire::Wire). Invariant: a read returns `WouldBlock` only after the socket did, so an edge is
//! never lost.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::{AlertDescription, CertificateError, ClientConnection, Error, HandshakeKind, InvalidMessage};

use crate::target::Tls;

/// Plaintext encrypted at once, in bytes: a TLS record.
const RECORD_BYTES: usize = 16 << 10;

/// An encrypted connection.
#[derive(Debug)]
pub(super) struct TlsStream {
    pub socket: TcpStream,
    session: ClientConnection,
    /// Plaintext that is encrypted, but not wholly taken by the socket.
    pending: usize,
}

impl TlsStream {
    pub fn new(socket: TcpStream, tls: &Tls) -> io::Result<Self> {
        let session = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
        Ok(Self { socket, session, pending: 0 })
    }

    /// Reads plaintext. 0 is the end of the stream, with or without the peer's goodbye.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            let bytes = self.session.read_tls(&mut self.socket)?;
            let processed = self.session.process_new_packets();
            // Answers of the handshake; or the alert that says why it ends.
            let flushed = self.flush();
            processed.map_err(io::Error::other)?;
            match flushed {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ if bytes == 0 && self.session.is_handshaking() => return Ok(0),
                _ => {}
            }
        }
    }

    /// Encrypts and writes some of `bytes`; none before the handshake is done.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if self.session.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = self.session.writer().write(&bytes[..bytes.len().min(RECORD_BYTES)])?;
        self.pending += taken;
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Writes what is encrypted.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        self.pending = 0;
        Ok(())
    }

    /// Whether the handshake is done.
    pub fn is_agreed(&self) -> bool {
        !self.session.is_handshaking()
    }

    /// Whether the handshake went on with an earlier session.
    pub fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Plaintext bytes encrypted that the socket has not wholly taken.
    pub fn pending(&self) -> usize {
        self.pending
    }
}

/// An error of TLS in few words.
pub(super) fn cause(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => format!("certificate: {}", certificate(why)),
        Error::NoCertificatesPresented => "certificate: none".into(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "certificate: the server wants one of the client".into()
        }
        Error::AlertReceived(alert) => format!("TLS: alert {alert:?}"),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => "no TLS".into(),
        Error::PeerIncompatible(why) => format!("TLS: {why:?}"),
        other => format!("TLS: {other}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired".into(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not valid yet".into(),
        CertificateError::UnknownIssuer => "unknown issuer".into(),
        CertificateError::NotValidForName => "not valid for this name".into(),
        CertificateError::NotValidForNameContext { expected, .. } => {
            format!("not valid for name '{}'", expected.to_str())
        }
        CertificateError::Revoked => "revoked".into(),
        CertificateError::BadSignature => "bad signature".into(),
        CertificateError::BadEncoding => "bad encoding".into(),
        other => other.to_string(),
    }
}
