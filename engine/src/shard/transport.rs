//! What goes to a socket, in the clear or through TLS. Everything a shard writes goes through here, so that nothing else has to
//! know the difference.
//!
//! Through TLS, what is written is encrypted first, at most [`AHEAD_MAX`] bytes at a time, and offered to the socket in one
//! piece. Of that the socket may take a part: the rest is kept in the connection's [`TlsSession`], and nothing more is
//! encrypted before it is out. To the connection's queue it has been written; to everybody else the connection is behind.
//! As long as ciphertext is kept, a connection has a queue, though perhaps an empty one.

use std::io::{ErrorKind, IoSlice, Write};

use mio::net::TcpStream;

use super::connection::{Connection, State};
use super::core::Core;
use super::shared::Shared;
use crate::close::{CloseCause, RefusalCause};
use crate::net::tls::session::{AHEAD_MAX, TlsFailure};
use crate::net::tls::{Security, TlsSession};
use crate::pubsub::outbound::{Outbound, SLICES_MAX};

/// A shard's buffers for TLS; empty as long as nobody speaks it.
#[derive(Debug, Default)]
pub struct Sealing {
    /// Small pieces, gathered to fill records.
    plain: Vec<u8>,
    /// What they become.
    cipher: Vec<u8>,
}

/// What became of an attempt to write.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// How much of what was offered is written, as far as its queue is concerned: the socket has it, or the session.
    pub taken: usize,
    /// Whether the socket takes no more for now. Less than all was taken only then, or there is more than is taken at once.
    pub full: bool,
    /// Bytes the socket has taken.
    pub bytes: usize,
    /// Calls of the kernel.
    pub writes: u64,
}

/// Why nothing can be written any more.
pub type Broken = CloseCause;

/// Writes pieces to a socket, once.
fn write_plain(stream: &mut TcpStream, slices: &[IoSlice<'_>]) -> Result<Sent, Broken> {
    let offered: usize = slices.iter().map(|slice| slice.len()).sum();
    loop {
        let outcome = match slices {
            [one] => stream.write(one),
            all => stream.write_vectored(all),
        };
        return match outcome {
            Ok(bytes) => Ok(Sent { taken: bytes, full: bytes < offered, bytes, writes: 1 }),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(Sent { full: true, writes: 1, ..Sent::default() })
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => Err(CloseCause::PeerReset),
        };
    }
}

/// Writes the ciphertext that was kept.
fn write_kept(stream: &mut TcpStream, tls: &mut TlsSession) -> Result<Sent, Broken> {
    if tls.kept_bytes().is_empty() {
        return Ok(Sent::default());
    }
    let sent = write_plain(stream, &[IoSlice::new(tls.kept_bytes())])?;
    tls.sent(sent.bytes);
    Ok(Sent { taken: 0, ..sent })
}

/// Writes ciphertext, behind what is kept; what the socket does not take is kept.
fn write_cipher(stream: &mut TcpStream, tls: &mut TlsSession, cipher: &[u8]) -> Result<Sent, Broken> {
    if cipher.is_empty() {
        return Ok(Sent::default());
    }
    // Only a socket that has just refused something tells when it takes more.
    let earlier = write_kept(stream, tls)?;
    if earlier.full {
        tls.keep(cipher);
        return Ok(earlier);
    }
    let sent = write_plain(stream, &[IoSlice::new(cipher)])?;
    if sent.bytes < cipher.len() {
        tls.keep(&cipher[sent.bytes..]);
    }
    Ok(earlier.and(Sent { taken: 0, ..sent }))
}

/// Encrypts and writes, at most [`AHEAD_MAX`] bytes, once nothing is kept any more.
fn write_sealed(
    stream: &mut TcpStream,
    tls: &mut TlsSession,
    cipher: &mut Vec<u8>,
    plain: &[u8],
) -> Result<Sent, Broken> {
    let taken = plain.len().min(AHEAD_MAX);
    cipher.clear();
    let encrypted = tls.encrypt(&plain[..taken], cipher);
    // In the other case it is what the session says in farewell.
    let sent = write_cipher(stream, tls, cipher)?;
    encrypted.map_err(|_| CloseCause::Tls)?;
    Ok(Sent { taken, ..sent })
}

impl Sent {
    /// Two, one after the other.
    fn and(self, next: Self) -> Self {
        let (taken, bytes) = (self.taken + next.taken, self.bytes + next.bytes);
        Self { taken, full: next.full, bytes, writes: self.writes + next.writes }
    }
}

impl Sealing {
    /// Writes bytes until all are taken or the socket is full.
    pub fn send(&mut self, connection: &mut Connection, bytes: &[u8]) -> Result<Sent, Broken> {
        let Connection { stream, tls, .. } = connection;
        let Some(tls) = tls else { return write_plain(stream, &[IoSlice::new(bytes)]) };
        let mut sent = write_kept(stream, tls)?;
        while !sent.full && sent.taken < bytes.len() {
            sent = sent.and(write_sealed(stream, tls, &mut self.cipher, &bytes[sent.taken..])?);
        }
        Ok(sent)
    }

    /// Writes what is at the front of a queue, once; `None` if there is nothing to write.
    pub fn send_queued(
        &mut self,
        stream: &mut TcpStream,
        tls: Option<&mut TlsSession>,
        outbound: &Outbound,
    ) -> Result<Option<Sent>, Broken> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = outbound.slices(&mut slices);
        let Some(tls) = tls else {
            return if count == 0 { Ok(None) } else { write_plain(stream, &slices[..count]).map(Some) };
        };
        let sent = write_kept(stream, tls)?;
        if sent.full || count == 0 {
            return Ok((sent.writes > 0).then_some(sent));
        }
        let plain = if slices[0].len() >= AHEAD_MAX {
            &slices[0]
        } else {
            self.plain.clear();
            outbound.gather(&mut self.plain, AHEAD_MAX);
            &self.plain[..]
        };
        Ok(Some(sent.and(write_sealed(stream, tls, &mut self.cipher, plain)?)))
    }
}

/// What somebody's TLS begins with, if he speaks it.
///
/// # Errors
/// It cannot be begun; the text says why.
pub fn begin_tls(shared: &Shared, security: Security) -> Result<Option<Box<TlsSession>>, String> {
    if security == Security::Plain {
        return Ok(None);
    }
    let tls = shared.tls.load();
    tls.as_ref().ok_or("there is no certificate to be shown")?.begin().map(Some)
}

impl Core {
    /// Sends what the TLS session itself has to say: the handshake, alerts. False if the connection has ended with it.
    pub(super) fn send_cipher(&mut self, slot: u32, cipher: &[u8]) -> bool {
        let Self { connections, shared, shard, .. } = self;
        let connection = &mut connections[slot as usize];
        let Connection { stream, tls: Some(tls), .. } = connection else { return true };
        let outcome = write_cipher(stream, tls, cipher);
        let metrics = &shared.metrics[usize::from(*shard)];
        match outcome {
            Ok(sent) => {
                metrics.writes.add(sent.writes);
                metrics.bytes_out.add(sent.bytes as u64);
                connection.bytes_out += sent.bytes as u64;
                // Only if it has just refused something: what was kept before may be about to be written.
                if sent.full {
                    self.block_sealed(slot);
                }
                true
            }
            Err(cause) => {
                self.end(slot, cause);
                false
            }
        }
    }

    /// The socket takes nothing for now, and ciphertext is kept for it: there is a queue then, whatever is in it.
    pub(super) fn block_sealed(&mut self, slot: u32) {
        self.outbound(slot);
        if self.at(slot).blocked {
            return self.book_pending(slot);
        }
        self.block(slot);
    }

    /// Says behind everything that nothing more will come; false if that is not out yet, or the connection has ended with it.
    pub(super) fn say_goodbye(&mut self, slot: u32) -> bool {
        let Some(tls) = &mut self.at(slot).tls else { return true };
        let mut cipher = Vec::new();
        tls.close_notify(&mut cipher);
        self.send_cipher(slot, &cipher) && !self.at(slot).blocked
    }

    /// The peer has said that nothing more will come, and is told the same (RFC 5246 section 7.2.1), if that goes out at once.
    pub(super) fn answer_goodbye(&mut self, slot: u32) {
        let Connection { stream, tls: Some(tls), .. } = self.at(slot) else { return };
        if tls.is_peer_closed() && tls.kept_bytes().is_empty() {
            let mut cipher = Vec::new();
            tls.close_notify(&mut cipher);
            // It may have gone without waiting for it.
            let _ = stream.write(&cipher);
        }
    }

    /// TLS has failed: what it says of it is on its way already, or kept. Nothing else can be written any more.
    pub(super) fn fail_tls(&mut self, slot: u32, failure: &TlsFailure) {
        let why = failure.to_string();
        match self.at(slot).state {
            State::Open => {
                let cause = CloseCause::Tls;
                self.conclude(slot, cause, cause.code(), &why);
            }
            State::Head => {
                let peer = self.at(slot).peer;
                self.tell_refused(peer, RefusalCause::TlsHandshake, 0, &why);
                self.leave_gate(slot);
            }
            State::Closing | State::Flushing => {}
            State::Lingering | State::Ended => return,
        }
        self.discard(slot, false);
        self.shut_down(slot);
    }

    /// A TLS handshake has been completed.
    pub(super) fn note_handshake(&mut self, slot: u32) {
        if let Some(tls) = &self.connections[slot as usize].tls {
            self.metrics().tls_handshakes.note(tls.is_tls13().unwrap_or_default(), tls.is_resumed());
        }
    }
}
