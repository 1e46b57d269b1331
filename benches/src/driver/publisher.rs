//! The publishing connection of the driver.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::driver::{Stamp, connect};
use crate::{Result, wire};

/// One publisher; what is pushed together is written together.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
    /// A whole masked frame with an empty stamp.
    template: Vec<u8>,
    /// Where the stamp stands in it.
    stamp_at: usize,
    /// Frames not yet written, from `written` on.
    out: Vec<u8>,
    written: usize,
}

impl Publisher {
    /// Connects to `path` and gets ready for payloads of `payload_len` bytes, at least [`Stamp::LEN`].
    pub fn connect(
        address: SocketAddr,
        path: &str,
        payload_len: usize,
        registry: &Registry,
        token: Token,
    ) -> Result<Self> {
        if payload_len < Stamp::LEN {
            return Err(format!("a payload has at least {} bytes", Stamp::LEN).into());
        }
        let upgraded = connect::connect_many(address, path, 1)?.pop().ok_or("no publisher")?;
        let mut stream = TcpStream::from_std(upgraded.stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let mut template = Vec::new();
        wire::push_client_frame(wire::BINARY, &filler(payload_len), &mut template);
        let stamp_at = template.len() - payload_len;
        Ok(Self { stream, template, stamp_at, out: Vec::new(), written: 0 })
    }

    /// Adds a publication to what [`Self::flush`] writes.
    pub fn push(&mut self, stamp: Stamp) {
        let mut stamp = stamp.to_bytes();
        wire::mask(&mut stamp, wire::MASKING_KEY);
        let at = self.out.len() + self.stamp_at;
        self.out.extend_from_slice(&self.template);
        self.out[at..at + Stamp::LEN].copy_from_slice(&stamp);
    }

    /// Writes what the socket takes. To be called again when the socket is writable.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Bytes the server has not taken yet.
    pub fn unwritten_bytes(&self) -> usize {
        self.out.len() - self.written
    }

    /// Reads and forgets what the server says to its publisher, but answers it if it may have asked for a sign of life.
    pub fn discard_input(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let mut heard = false;
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed the publisher"));
                }
                Ok(_) => heard = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if heard && self.unwritten_bytes() == 0 {
            wire::push_client_frame(wire::PONG, &[], &mut self.out);
            self.flush()?;
        }
        Ok(())
    }
}

fn filler(len: usize) -> Vec<u8> {
    (0..len).map(|at| b' ' + (at % 95) as u8).collect()
}
