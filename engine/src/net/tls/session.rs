//! One connection's TLS, without a socket: ciphertext goes in and plaintext comes out, and the other way round.
//!
//! A [`TlsSession`] owns no buffer but for what cannot wait elsewhere: an incomplete record (or a message of the handshake
//! that takes several of them), and ciphertext that the socket has not taken. Both are bounded, and their memory is given
//! back as soon as they are empty.

use std::fmt;
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus};
use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConfig};

use super::Digest;

/// The most plaintext that is encrypted before the socket has taken what was encrypted earlier, in bytes.
pub const AHEAD_MAX: usize = 64 << 10;
/// A fatal alert `internal_error` (RFC 8446 section 6.2) for whoever is turned away before anything is agreed.
pub const TURNED_AWAY: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 80];
/// A fatal alert `unexpected_message` for whoever speaks TLS where nobody else does.
pub const NOT_SPOKEN: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 10];

/// Content types of records (RFC 8446 section 5.1): the first byte of each.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// Type, version and length in front of each record.
const HEADER: usize = 5;
/// The most plaintext in a record (RFC 8446 section 5.1).
const RECORD_PLAIN_MAX: usize = 16 << 10;
/// What encryption adds to a record, at most: a nonce, a tag, the inner type, and the header.
const RECORD_OVERHEAD: usize = 64;
/// The most that is held of messages that are not complete: one of 64 KiB, the most rustls takes, in small records.
const HELD_MAX: usize = 128 << 10;
/// The same before the session is open, when anybody may hold it: what a handshake needs, which is a ClientHello in one record.
const HELD_BEFORE_MAX: usize = 20 << 10;
/// And where clients show certificates, whose chain may be long.
const HELD_CERTIFIED_MAX: usize = 64 << 10;

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The handshake needs more from the peer.
    Handshaking,
    /// Data may go both ways.
    Open,
    /// The peer has said that it sends no more (`close_notify`).
    PeerClosed,
}

/// Why a session has ended, and cannot go on.
#[derive(Debug, Clone, PartialEq)]
pub enum TlsFailure {
    /// The peer broke the protocol, nothing could be agreed, or it has sent a fatal alert.
    Protocol(Error),
    /// The peer sends one message without end.
    TooLong,
    /// It has failed before, or so much has been encrypted under one key that no more may be.
    Over,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::TooLong => f.write_str("a message of the handshake is too long"),
            Self::Over => f.write_str("the session is over"),
        }
    }
}

impl std::error::Error for TlsFailure {}

impl From<Error> for TlsFailure {
    fn from(error: Error) -> Self {
        Self::Protocol(error)
    }
}

/// The server's side of one TLS connection.
pub struct TlsSession {
    connection: UnbufferedServerConnection,
    /// By which authorities it verifies the client, see [`Tls::trust`](super::Tls).
    trust: Digest,
    /// What has come of messages that are not complete.
    held: Vec<u8>,
    /// How much of it is whole records, which rustls has seen and may have changed in place.
    held_seen: usize,
    /// How much it may be before the session is open.
    held_before_max: usize,
    /// Ciphertext that the socket has not taken, from `kept_at` on.
    kept: Vec<u8>,
    kept_at: usize,
    /// How many bytes of it the shard has counted among all that wait. The shard's alone.
    pub booked: usize,
    /// Whether anything has come.
    begun: bool,
    peer_closed: bool,
    failed: bool,
}

impl fmt::Debug for TlsSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, kept) = (self.held.len(), self.kept_bytes().len());
        write!(f, "TlsSession({:?}, {held} held, {kept} kept)", self.connection.protocol_version())
    }
}

impl TlsSession {
    /// A session that waits for a ClientHello.
    ///
    /// # Errors
    /// What rustls finds wrong with the configuration.
    pub fn new(config: &Arc<ServerConfig>) -> Result<Self, TlsFailure> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(Arc::clone(config))?,
            trust: Digest::default(),
            held: Vec::new(),
            held_seen: 0,
            held_before_max: HELD_BEFORE_MAX,
            kept: Vec::new(),
            kept_at: 0,
            booked: 0,
            begun: false,
            peer_closed: false,
            failed: false,
        })
    }

    /// Whether clients may show a certificate, which makes a handshake longer. By default they may not.
    pub fn expect_certificates(&mut self, expected: bool) {
        self.held_before_max = if expected { HELD_CERTIFIED_MAX } else { HELD_BEFORE_MAX };
    }

    /// Takes what has come, and changes it in place. What is readable of it is put behind `plain`, what is to be sent in answer
    /// behind `out`; the latter also if it fails, and then it is the alert that says so. What comes after the peer has closed
    /// is thrown away.
    ///
    /// # Errors
    /// See [`TlsFailure`]; there is nothing to do then but to send the alert and to close.
    pub fn receive(
        &mut self,
        mut ciphertext: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Progress, TlsFailure> {
        if self.failed {
            return Err(TlsFailure::Over);
        }
        self.begun |= !ciphertext.is_empty();
        while !ciphertext.is_empty() && !self.peer_closed {
            if self.held.is_empty() {
                self.take_directly(ciphertext, plain, out)?;
                break;
            }
            // Only as much as the incomplete record lacks: what follows it is not copied.
            let length = missing(&self.held[self.held_seen..]).min(ciphertext.len());
            let (next, rest) = ciphertext.split_at_mut(length);
            ciphertext = rest;
            self.held.extend_from_slice(next);
            self.take_held(plain, out)?;
        }
        Ok(self.progress())
    }

    fn take_directly(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), TlsFailure> {
        // Before rustls sees them: it moves things about.
        let whole = whole_records(bytes);
        let used = self.process(bytes, plain, out)?;
        if used < bytes.len() && !self.peer_closed {
            self.held = bytes[used..].to_vec();
            self.held_seen = whole.saturating_sub(used);
            self.check_held(out)?;
        }
        Ok(())
    }

    fn take_held(&mut self, plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), TlsFailure> {
        let whole = self.held_seen + whole_records(&self.held[self.held_seen..]);
        let mut held = std::mem::take(&mut self.held);
        let used = self.process(&mut held, plain, out)?;
        if used < held.len() && !self.peer_closed {
            held.drain(..used);
            (self.held, self.held_seen) = (held, whole.saturating_sub(used));
            return self.check_held(out);
        }
        self.held_seen = 0;
        Ok(())
    }

    fn check_held(&mut self, out: &mut Vec<u8>) -> Result<(), TlsFailure> {
        let most = if self.connection.is_handshaking() { self.held_before_max } else { HELD_MAX };
        if self.held.len() <= most {
            return Ok(());
        }
        self.fail(out);
        Err(TlsFailure::TooLong)
    }

    /// Has rustls look at bytes; tells how many of them are done with.
    fn process(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<usize, TlsFailure> {
        let mut at = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut bytes[at..]);
            let done = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plain.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    false
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, out);
                    false
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.peer_closed = true;
                    false
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => {
                    true
                }
                // Early data is never asked for: it could be somebody's who repeats what another has sent.
                Ok(_) => return Err(self.fail(out)),
                Err(error) => {
                    self.fail(out);
                    return Err(error.into());
                }
            };
            at += discard;
            if done {
                return Ok(at);
            }
        }
    }

    /// Nothing more comes of this session but what it has still to say.
    fn fail(&mut self, out: &mut Vec<u8>) -> TlsFailure {
        self.failed = true;
        self.drain(out);
        (self.held, self.held_seen) = (Vec::new(), 0);
        TlsFailure::Over
    }

    /// Takes what rustls has to say without having been asked: alerts. It looks at nothing else as long as there is any.
    fn drain(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.held);
            match state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                // What was read before comes first. It has been told already, or is not wanted any more.
                Ok(ConnectionState::ReadTraffic(mut traffic)) => while traffic.next_record().is_some() {},
                _ => return,
            }
        }
    }

    /// Encrypts data behind `out`, in records as large as they may be. Nothing may be encrypted before the session is open.
    ///
    /// # Errors
    /// The session has failed, is not open yet, or has used up its key (TLS 1.2 has no way to change it: after 2^24 records).
    pub fn encrypt(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsFailure> {
        if plain.is_empty() {
            return Ok(());
        }
        while !self.failed {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.held);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let records = plain.len().div_ceil(RECORD_PLAIN_MAX);
                    let start = out.len();
                    out.resize(start + plain.len() + records * RECORD_OVERHEAD, 0);
                    let mut encrypted = traffic.encrypt(plain, &mut out[start..]);
                    if let Err(EncryptError::InsufficientSize(size)) = &encrypted {
                        out.resize(start + size.required_size, 0);
                        encrypted = traffic.encrypt(plain, &mut out[start..]);
                    }
                    let length = *encrypted.as_ref().unwrap_or(&0);
                    out.truncate(start + length);
                    return encrypted.map(drop).map_err(|_| self.fail(out));
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                _ => break,
            }
        }
        Err(TlsFailure::Over)
    }

    /// Says that nothing more will come, behind `out`: once, and not after an alert. As long as nothing is agreed it is a fatal
    /// alert; between that and the end of the handshake nothing can be said.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.failed {
            return;
        }
        if self.connection.protocol_version().is_none() {
            out.extend_from_slice(&TURNED_AWAY);
            self.failed = true;
            return;
        }
        loop {
            let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut self.held);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    // Without room it is queued, and there is the whole queue to be taken.
                    let _ = traffic.queue_close_notify(&mut []);
                    return self.drain(out);
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, out),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.peer_closed = true,
                _ => return,
            }
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        if self.peer_closed {
            Progress::PeerClosed
        } else if self.connection.is_handshaking() {
            Progress::Handshaking
        } else {
            Progress::Open
        }
    }

    /// Whether data may be sent and will be understood.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.failed && !self.connection.is_handshaking()
    }

    /// Whether the peer has said that it sends no more.
    #[must_use]
    pub fn is_peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Whether this cannot be the beginning of TLS, if nothing has come before.
    #[must_use]
    pub fn is_not_tls(&self, first: &[u8]) -> bool {
        !self.begun && first.first().is_some_and(|kind| !(CHANGE_CIPHER_SPEC..=APPLICATION_DATA).contains(kind))
    }

    /// Whether the protocol that was agreed is TLS 1.3; `None` as long as none is.
    #[must_use]
    pub fn is_tls13(&self) -> Option<bool> {
        self.connection.protocol_version().map(|version| version == ProtocolVersion::TLSv1_3)
    }

    /// Whether it goes on where an earlier session has ended.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.connection.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The protocol that was agreed to be spoken inside (ALPN, RFC 7301).
    #[cfg(test)]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Notes by which authorities it verifies the client.
    #[must_use]
    pub fn trusting(mut self, trust: Digest) -> Self {
        self.trust = trust;
        self
    }

    /// By which authorities it verifies the client.
    #[must_use]
    pub fn trust(&self) -> Digest {
        self.trust
    }

    /// The client's certificate, in DER, if it has shown one. It has been verified.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.connection.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// Bytes of memory held of what has come and is not complete.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Ciphertext that waits for the socket.
    #[must_use]
    pub fn kept_bytes(&self) -> &[u8] {
        &self.kept[self.kept_at..]
    }

    /// Keeps ciphertext for the socket, behind what waits already.
    pub fn keep(&mut self, ciphertext: &[u8]) {
        if self.kept_at > 0 {
            self.kept.drain(..self.kept_at);
            self.kept_at = 0;
        }
        self.kept.extend_from_slice(ciphertext);
    }

    /// The socket has taken so much of what waits.
    pub fn sent(&mut self, bytes: usize) {
        self.kept_at += bytes;
        debug_assert!(self.kept_at <= self.kept.len());
        if self.kept_at >= self.kept.len() {
            (self.kept, self.kept_at) = (Vec::new(), 0);
        }
    }
}

/// Whether this is the beginning of a TLS handshake, and so nothing that HTTP begins with.
#[must_use]
pub fn is_client_hello(first: &[u8]) -> bool {
    first.first() == Some(&HANDSHAKE) && first.get(1).is_none_or(|major| *major == 3)
}

/// Puts what is to be sent behind `out`. Its size is told only when there is no room for it.
fn encode<D>(mut data: EncodeTlsData<'_, D>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut encoded = data.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(size)) = &encoded {
        out.resize(start + size.required_size, 0);
        encoded = data.encode(&mut out[start..]);
    }
    out.truncate(start + encoded.unwrap_or(0));
}

/// The length of the record that begins here, its header included; `None` if that is not there yet.
fn record(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(3..HEADER)?;
    Some(HEADER + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

/// How many of the bytes are whole records.
fn whole_records(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = record(&bytes[at..]).filter(|length| *length <= bytes.len() - at) {
        at += length;
    }
    at
}

/// How many bytes an incomplete record lacks, or at least its header.
fn missing(incomplete: &[u8]) -> usize {
    record(incomplete).unwrap_or(HEADER).saturating_sub(incomplete.len()).max(1)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
