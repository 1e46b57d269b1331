//! The ceilings: a bare loop of `send()` over all sockets, for each message or for all messages of one read.
//!
//! No queues: a message that would block is dropped and counted. A frame that was begun is finished, by blocking on that
//! socket, because half a frame would end the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use mio::{Interest, Registry, Token};

use crate::Result;
use crate::contestants::Totals;
use crate::contestants::admission::{Admitted, Role};
use crate::contestants::serve::{FanOut, say};
use crate::wire::{self, FrameHeader};

const PUBLISHER: Token = Token(0);
const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// What goes into one `send()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// One message.
    EachMessage,
    /// All messages that one read of the publisher brought.
    EachRead,
}

/// The bare loop, with its one publisher.
#[derive(Debug)]
pub struct BareLoop {
    sending: Sending,
    publisher: Option<mio::net::TcpStream>,
    subscribers: Vec<TcpStream>,
    inbound: Inbound,
    /// The frames of the last read, as the subscribers get them.
    frames: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
    totals: Totals,
}

impl BareLoop {
    /// Without any connection yet.
    pub fn new(sending: Sending) -> Self {
        Self {
            sending,
            publisher: None,
            subscribers: Vec::new(),
            inbound: Inbound { buffer: vec![0; RECEIVE_BUFFER_BYTES].into(), filled: 0 },
            frames: Vec::new(),
            ends: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Reads until the publisher's socket is empty, broadcasting after each read.
    fn read_publisher(&mut self) {
        while let Some(mut publisher) = self.publisher.take() {
            let room = &mut self.inbound.buffer[self.inbound.filled..];
            let whole_read = room.len();
            match publisher.read(room) {
                Ok(read) if read > 0 => {
                    self.inbound.filled += read;
                    self.frames.clear();
                    self.ends.clear();
                    if !self.inbound.drain_into(&mut self.frames, &mut self.ends) {
                        return self.end();
                    }
                    self.broadcast();
                    self.publisher = Some(publisher);
                    // A short read has emptied the socket; what comes later is a new edge.
                    if read < whole_read {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.publisher = Some(publisher);
                    return;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => self.publisher = Some(publisher),
                _ => return self.end(),
            }
        }
    }

    fn broadcast(&mut self) {
        let (frames, totals) = (&self.frames, &mut self.totals);
        match self.sending {
            Sending::EachMessage => {
                let mut start = 0;
                for &end in &self.ends {
                    self.subscribers.retain_mut(|stream| send(stream, &frames[start..end], 1, totals));
                    start = end;
                }
            }
            Sending::EachRead if frames.is_empty() => {}
            Sending::EachRead => {
                let messages = self.ends.len() as u64;
                self.subscribers.retain_mut(|stream| send(stream, frames, messages, totals));
            }
        }
    }

    /// The publisher has left.
    fn end(&mut self) {
        self.inbound.filled = 0;
        say(&std::mem::take(&mut self.totals).to_line());
    }
}

impl FanOut for BareLoop {
    fn admit(&mut self, admitted: Admitted, registry: &Registry) -> Result<()> {
        match admitted.role {
            // Subscribers say nothing, so nobody listens; one that has left is seen by the next `send`.
            Role::Subscriber => self.subscribers.push(admitted.stream),
            Role::Publisher => {
                let mut publisher = mio::net::TcpStream::from_std(admitted.stream);
                registry.register(&mut publisher, PUBLISHER, Interest::READABLE)?;
                self.inbound.buffer[..admitted.early.len()].copy_from_slice(&admitted.early);
                self.inbound.filled = admitted.early.len();
                self.publisher = Some(publisher);
            }
        }
        Ok(())
    }

    fn ready(&mut self, _: Token) {
        self.read_publisher();
    }
}

/// One `send()`. Returns whether the connection lives.
#[inline]
fn send(stream: &mut TcpStream, frames: &[u8], messages: u64, totals: &mut Totals) -> bool {
    totals.sends += 1;
    match stream.write(frames) {
        Ok(sent) if sent == frames.len() => true,
        Ok(sent) => finish(stream, &frames[sent..]).is_ok(),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            totals.dropped += messages;
            true
        }
        Err(_) => false,
    }
}

#[cold]
fn finish(stream: &mut TcpStream, rest: &[u8]) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(FINISH_TIMEOUT))?;
    stream.write_all(rest)?;
    stream.set_nonblocking(true)
}

/// Bytes of the publisher that are not yet frames of the subscribers.
#[derive(Debug)]
struct Inbound {
    buffer: Box<[u8]>,
    filled: usize,
}

impl Inbound {
    /// Turns all whole data frames into unmasked ones; `false` at the end of the connection, or if a frame is too big.
    fn drain_into(&mut self, frames: &mut Vec<u8>, ends: &mut Vec<usize>) -> bool {
        let mut start = 0;
        while let Some(header) = FrameHeader::parse(&self.buffer[start..self.filled]) {
            if header.opcode == wire::CLOSE || header.frame_len() > self.buffer.len() as u64 {
                return false;
            }
            let (payload_at, end) = (start + header.header_len, start + header.frame_len() as usize);
            if end > self.filled {
                break;
            }
            let payload = &mut self.buffer[payload_at..end];
            wire::mask(payload, header.masking_key.unwrap_or_default());
            if header.opcode == wire::BINARY {
                wire::push_header(wire::BINARY, payload.len(), None, frames);
                frames.extend_from_slice(payload);
                ends.push(frames.len());
            }
            start = end;
        }
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_unmasked_wherever_the_reads_have_cut_them() {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for len in [0, 1, 128, 125, 126, 1000] {
            let payload: Vec<u8> = (0..len).map(|at| at as u8).collect();
            wire::push_client_frame(wire::BINARY, &payload, &mut bytes);
            wire::push_client_frame(wire::PING, b"left out", &mut bytes);
            wire::push_header(wire::BINARY, payload.len(), None, &mut expected);
            expected.extend(payload);
        }
        for piece in [1, 7, 100, bytes.len()] {
            let mut inbound = Inbound { buffer: vec![0; 4096].into(), filled: 0 };
            let (mut frames, mut ends) = (Vec::new(), Vec::new());
            for chunk in bytes.chunks(piece) {
                inbound.buffer[inbound.filled..][..chunk.len()].copy_from_slice(chunk);
                inbound.filled += chunk.len();
                assert!(inbound.drain_into(&mut frames, &mut ends));
            }
            assert_eq!((frames, ends.len()), (expected.clone(), 6), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_close_or_an_oversized_frame_ends_it() {
        for (opcode, len) in [(wire::CLOSE, 2), (wire::BINARY, 5000)] {
            let mut inbound = Inbound { buffer: vec![0; 4096].into(), filled: 0 };
            let mut bytes = Vec::new();
            wire::push_header(opcode, len, Some(wire::MASKING_KEY), &mut bytes);
            inbound.buffer[..bytes.len()].copy_from_slice(&bytes);
            inbound.filled = bytes.len();
            assert!(!inbound.drain_into(&mut Vec::new(), &mut Vec::new()));
        }
    }
}
