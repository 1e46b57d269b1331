//! A TCP connection under full control, and WebSocket frames built and read by hand: for everything a proper client would
//! refuse to send. Headers of received frames are parsed by `tungstenite`, not by the code under test.

use std::io::{Cursor, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::OpCode;

use crate::DEADLINE;
use crate::http::Response;

/// The key of RFC 6455 section 1.3 and the accept value that belongs to it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// See [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Opcodes, RFC 6455 section 5.2.
pub mod op {
    #![allow(missing_docs)]
    pub const CONTINUATION: u8 = 0;
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;
}

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A valid upgrade request for this path.
#[must_use]
pub fn upgrade_request(path: &str) -> String {
    upgrade_request_with(path, "")
}

/// A valid upgrade request with more header lines, each ending in CRLF.
#[must_use]
pub fn upgrade_request_with(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: fanfare.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{more}\r\n"
    )
}

/// A masked frame: `first` is the first byte, FIN and RSV bits included.
#[must_use]
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64, true);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A masked final frame with this opcode.
#[must_use]
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(0x80 | opcode, payload)
}

/// A masked fragment (no FIN) with this opcode.
#[must_use]
pub fn fragment(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(opcode, payload)
}

/// A masked Close frame.
#[must_use]
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.as_bytes());
    frame(op::CLOSE, &payload)
}

/// A frame header that claims a payload of this length, in the shortest form.
#[must_use]
pub fn header(first: u8, length: u64, mask: bool) -> Vec<u8> {
    let mask_bit = if mask { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(mask_bit | length as u8),
        126..=65535 => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    if mask {
        bytes.extend(MASK);
    }
    bytes
}

/// A frame as the server sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The FIN bit.
    pub fin: bool,
    /// RSV1: the message is compressed. Only on a connection that [takes](Raw::take_compressed) that.
    pub rsv1: bool,
    /// The opcode.
    pub opcode: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Code and reason of a Close frame; 1005 for an empty one.
    ///
    /// # Panics
    /// If it is no Close frame, or one that RFC 6455 forbids.
    #[must_use]
    #[track_caller]
    pub fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, op::CLOSE, "{self:?}");
        match self.payload.as_slice() {
            [] => (1005, String::new()),
            [high, low, reason @ ..] => {
                let reason = String::from_utf8(reason.to_vec()).expect("a close reason is UTF-8");
                (u16::from_be_bytes([*high, *low]), reason)
            }
            [_] => panic!("a close payload of one byte"),
        }
    }

    /// The payload as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order: FIN.
    Finished,
    /// By a reset.
    Reset,
}

/// A connection.
pub struct Raw {
    stream: TcpStream,
    /// Received and not yet taken; what comes before `taken` is gone.
    buffer: Vec<u8>,
    taken: usize,
    /// permessage-deflate was agreed on.
    compressed: bool,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr).expect("the server accepts"), Vec::new())
    }

    /// Connects with a small receive buffer, so that the server soon notices that nobody reads.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    #[track_caller]
    pub fn connect_narrow(addr: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket can be made");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF can be set");
        socket.connect(&addr.into()).expect("the server accepts");
        Self::of(socket.into(), Vec::new())
    }

    /// Goes on with a connection of which `received` was already read.
    ///
    /// # Panics
    /// If the socket takes no deadline.
    #[must_use]
    pub fn of(stream: TcpStream, received: Vec<u8>) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline can be set");
        Self { stream, buffer: received, taken: 0, compressed: false }
    }

    /// Connects and becomes a WebSocket on this path.
    #[must_use]
    #[track_caller]
    pub fn open(addr: SocketAddr, path: &str) -> Self {
        let mut raw = Self::connect(addr);
        raw.upgrade(path);
        raw
    }

    /// As [`open`](Self::open), with a small receive buffer.
    #[must_use]
    #[track_caller]
    pub fn open_narrow(addr: SocketAddr, path: &str) -> Self {
        let mut raw = Self::connect_narrow(addr);
        raw.upgrade(path);
        raw
    }

    /// Sends a valid upgrade request and checks the answer.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn upgrade(&mut self, path: &str) {
        self.send(upgrade_request(path));
        let answer = self.read_head();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT), "{answer:?}");
    }

    /// permessage-deflate was agreed on: frames may have RSV1 from now on.
    pub fn take_compressed(&mut self) {
        self.compressed = true;
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// If they cannot be sent.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the bytes can be sent");
    }

    /// Sends bytes if the server still takes them; whether it did.
    #[must_use]
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends as much as the server takes until it has taken nothing for `patience`; how much that was.
    ///
    /// # Panics
    /// If the socket takes no deadline.
    pub fn send_until_blocked(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("a deadline can be set");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(0) | Err(_) => break,
                Ok(count) => sent += count,
            }
        }
        self.stream.set_write_timeout(Some(DEADLINE)).expect("a deadline can be set");
        sent
    }

    /// Reads the head of an HTTP answer.
    ///
    /// # Panics
    /// If there is none within the deadline.
    #[track_caller]
    pub fn read_head(&mut self) -> Response {
        self.try_read_head().expect("the connection ended before a whole HTTP head")
    }

    /// Reads the head of an HTTP answer; `None` if the connection ends before.
    ///
    /// # Panics
    /// If neither happens within the deadline.
    #[track_caller]
    pub fn try_read_head(&mut self) -> Option<Response> {
        let end = loop {
            if let Some(end) = self.unread().windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            self.fill().ok()?;
        };
        let head = String::from_utf8_lossy(&self.unread()[..end]).into_owned();
        self.taken += end + 4;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let mut response =
            Response { status: status.unwrap_or_else(|| panic!("no status line: {head}")), ..Response::default() };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(response)
    }

    /// Reads the next frame of any kind.
    ///
    /// # Panics
    /// If there is none within the deadline.
    #[track_caller]
    pub fn read_frame(&mut self) -> Frame {
        self.try_read_frame().unwrap_or_else(|end| panic!("the connection ended ({end:?}) where a frame was expected"))
    }

    /// Reads the next frame of any kind, or how the connection ended instead.
    ///
    /// # Panics
    /// If neither happens within the deadline, or the server breaks the framing rules.
    #[track_caller]
    pub fn try_read_frame(&mut self) -> Result<Frame, End> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(frame);
            }
            self.fill()?;
        }
    }

    /// Reads frames up to the Close frame and returns its code and reason.
    ///
    /// # Panics
    /// If the connection ends without one.
    #[track_caller]
    pub fn read_close(&mut self) -> (u16, String) {
        loop {
            let frame = self.read_frame();
            if frame.opcode == op::CLOSE {
                return frame.close();
            }
        }
    }

    /// Reads, and drops, everything up to the end of the connection.
    ///
    /// # Panics
    /// If it does not end within the deadline.
    #[track_caller]
    pub fn read_to_end(&mut self) -> End {
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < DEADLINE, "the server does not end the connection");
            self.taken = self.buffer.len();
            if let Err(end) = self.fill() {
                return end;
            }
        }
    }

    /// Reads everything up to the end of the connection.
    ///
    /// # Panics
    /// If it does not end within the deadline.
    #[track_caller]
    pub fn read_rest(&mut self) -> Vec<u8> {
        while self.fill().is_ok() {}
        self.unread().to_vec()
    }

    /// Reads exactly so many bytes.
    ///
    /// # Panics
    /// If the connection ends before, or they do not come within the deadline.
    #[track_caller]
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        while self.unread().len() < count {
            self.fill().unwrap_or_else(|end| panic!("the connection ended ({end:?}) before {count} bytes"));
        }
        let bytes = self.unread()[..count].to_vec();
        self.taken += count;
        bytes
    }

    /// Reads for at most `patience` and tells whether anything is there to be taken, the end of the connection included.
    ///
    /// # Panics
    /// If the socket takes no deadline.
    pub fn is_answered_within(&mut self, patience: Duration) -> bool {
        if !self.unread().is_empty() {
            return true;
        }
        self.stream.set_read_timeout(Some(patience)).expect("a deadline can be set");
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.buffer.extend_from_slice(&chunk[..count]);
                true
            }
            Err(error) => !is_timeout(&error),
        }
    }

    /// Ends the sending direction only: a half-open connection.
    ///
    /// # Panics
    /// If that fails.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection can be shut down");
    }

    /// Ends the connection by a reset (RST).
    ///
    /// # Panics
    /// If the socket refuses that.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    }

    /// The socket itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Received and not yet taken.
    fn unread(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    /// The next whole frame in the buffer.
    #[track_caller]
    fn take_frame(&mut self) -> Option<Frame> {
        let mut cursor = Cursor::new(self.unread());
        let (header, length) = FrameHeader::parse(&mut cursor).expect("the server sends frames")?;
        let start = cursor.position() as usize;
        let length = usize::try_from(length).expect("the server sends no giant frames");
        let payload = self.unread().get(start..start + length)?.to_vec();
        assert!(header.mask.is_none(), "a server must not mask");
        assert!((self.compressed || !header.rsv1) && !header.rsv2 && !header.rsv3, "no extension was negotiated");
        self.taken += start + length;
        let opcode = opcode_number(header.opcode);
        Some(Frame { fin: header.is_final, rsv1: header.rsv1, opcode, payload })
    }

    /// Waits for more bytes, or the end of the connection.
    #[track_caller]
    fn fill(&mut self) -> Result<(), End> {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.stream.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        let mut chunk = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(End::Finished),
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => panic!("nothing arrived within {DEADLINE:?}"),
                Err(_) => return Err(End::Reset),
            }
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn opcode_number(opcode: OpCode) -> u8 {
    opcode.into()
}
