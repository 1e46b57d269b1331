//! A publisher by HTTP/1.1: one kept-alive connection, one request at a time.
//!
//! [`Answers`] is sans-IO; [`HttpPublisher`] is the thin driver around it.

use std::io::ErrorKind;

use crate::client::{Wire, cause};

/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 64;
const READ_BYTES: usize = 16 << 10;

/// An answer, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Whether the server closes the connection after it.
    pub closes: bool,
}

/// Finds the ends of answers in what a server sends.
#[derive(Debug, Default)]
pub struct Answers {
    input: Vec<u8>,
    /// The answer whose body is coming.
    current: Option<(Answer, Body)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// So many bytes are missing.
    Length(u64),
    /// So many bytes of a chunk, its line end included, are missing.
    Chunk(u64),
    /// The next thing is the size of a chunk.
    ChunkSize,
    /// The next thing is a line of the trailer.
    Trailer,
    UntilEnd,
}

impl Answers {
    /// Takes what has come; returns an answer when it is whole. Nothing may come behind it: there was one request.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        self.input.extend_from_slice(bytes);
        loop {
            if self.current.is_none() && !self.take_head()? {
                return Ok(None);
            }
            let Some((answer, body)) = self.current else {
                continue;
            };
            match self.take_body(body)? {
                Some(Body::Length(0)) => {
                    self.current = None;
                    return if self.input.is_empty() { Ok(Some(answer)) } else { Err(error("more than one answer")) };
                }
                Some(body) => self.current = Some((answer, body)),
                None => return Ok(None),
            }
        }
    }

    /// The connection has ended: an answer that goes on until then is whole now.
    pub fn end(&mut self) -> Option<Answer> {
        self.current.take().filter(|(_, body)| *body == Body::UntilEnd).map(|(answer, _)| answer)
    }

    /// Whether there is a head now.
    fn take_head(&mut self) -> Result<bool, String> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&self.input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.input.len() < HEAD_MAX => return Ok(false),
            Ok(httparse::Status::Partial) => return Err(error("the head does not end")),
            Err(wrong) => return Err(error(&wrong.to_string())),
        };
        let status = response.code.unwrap_or(0);
        let head = head_of(&response)?;
        self.input.drain(..length);
        // Interim answers (RFC 9110, 15.2) are not the answer.
        if !(100..200).contains(&status) {
            let body = if matches!(status, 204 | 304) { Body::Length(0) } else { head.body };
            let closes = head.closes || body == Body::UntilEnd;
            self.current = Some((Answer { status, closes }, body));
        }
        Ok(true)
    }

    /// Goes on in a body: what is missing after what is here, if that is another thing than before.
    fn take_body(&mut self, body: Body) -> Result<Option<Body>, String> {
        let have = self.input.len() as u64;
        Ok(match body {
            Body::Length(missing) | Body::Chunk(missing) => {
                let taken = missing.min(have);
                self.input.drain(..taken as usize);
                match (body, missing - taken) {
                    (Body::Length(_), 0) => Some(Body::Length(0)),
                    (_, 0) => Some(Body::ChunkSize),
                    (Body::Length(_), left) => self.wait(Body::Length(left)),
                    (_, left) => self.wait(Body::Chunk(left)),
                }
            }
            Body::ChunkSize => match httparse::parse_chunk_size(&self.input) {
                Ok(httparse::Status::Complete((line, size))) => {
                    self.input.drain(..line);
                    Some(if size == 0 { Body::Trailer } else { Body::Chunk(size.saturating_add(2)) })
                }
                Ok(httparse::Status::Partial) if self.input.len() < HEAD_MAX => None,
                _ => return Err(error("a chunk without size")),
            },
            Body::Trailer => match self.input.windows(2).position(|pair| pair == b"\r\n") {
                Some(line) => {
                    self.input.drain(..line + 2);
                    Some(if line == 0 { Body::Length(0) } else { Body::Trailer })
                }
                None if self.input.len() < HEAD_MAX => None,
                None => return Err(error("the trailer does not end")),
            },
            Body::UntilEnd => {
                self.input.clear();
                None
            }
        })
    }

    fn wait(&mut self, body: Body) -> Option<Body> {
        if let Some((_, current)) = &mut self.current {
            *current = body;
        }
        None
    }
}

struct Head {
    body: Body,
    closes: bool,
}

fn head_of(response: &httparse::Response<'_, '_>) -> Result<Head, String> {
    let (mut body, mut closes) = (Body::UntilEnd, response.version == Some(0));
    let mut is_chunked = false;
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value).trim().to_ascii_lowercase();
        if header.name.eq_ignore_ascii_case("content-length") {
            body = Body::Length(value.parse().map_err(|_| error("a Content-Length that is no number"))?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            is_chunked = value.ends_with("chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = value.split(',').any(|word| word.trim() == "close")
                || closes && !value.split(',').any(|word| word.trim() == "keep-alive");
        }
    }
    Ok(Head { body: if is_chunked { Body::ChunkSize } else { body }, closes })
}

fn error(what: &str) -> String {
    format!("HTTP answer: {what}")
}

/// What a look at a publisher showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpLooked {
    /// Nothing, so far.
    Waiting,
    /// The request was answered with this status, after so many nanoseconds.
    Answered(u16, u64),
    /// The connection is over, for this cause; a request under way was not answered.
    Ended(String),
}

/// One publisher.
#[derive(Debug, Default)]
pub struct HttpPublisher {
    wire: Option<Wire>,
    /// Distinguishes its connections in the poll's tokens.
    pub generation: u32,
    is_connected: bool,
    /// Whether the server has answered on this connection.
    has_answered: bool,
    begun_ns: u64,
    /// Whether there is an alarm for what takes too long.
    pub is_watched: bool,
    /// Whether the connection phase knows how its first attempt ended.
    pub is_settled: bool,
    output: Vec<u8>,
    written: usize,
    asked_ns: Option<u64>,
    answers: Answers,
}

impl HttpPublisher {
    /// Has a connection that is being made.
    pub fn begin(&mut self, wire: Wire, now_ns: u64) {
        let Self { generation, is_watched, is_settled, .. } = *self;
        let begun = Self { wire: Some(wire), begun_ns: now_ns, ..Self::default() };
        *self = Self { generation, is_watched, is_settled, ..begun };
    }

    /// Since when it waits for the connection, or for an answer; `None` if it waits for nothing.
    pub fn waits_since_ns(&self) -> Option<u64> {
        let is_connecting = self.wire.is_some() && !self.is_connected;
        self.asked_ns.or(is_connecting.then_some(self.begun_ns))
    }

    /// Whether the connection is there.
    pub fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// Whether the server has answered on the connection that is there, or on the last one.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// Whether a connection is there or being made.
    pub fn has_wire(&self) -> bool {
        self.wire.is_some()
    }

    /// Whether a request can be sent now.
    pub fn is_free(&self) -> bool {
        self.is_connected && self.asked_ns.is_none()
    }

    /// Whether an answer is being waited for.
    pub fn is_asking(&self) -> bool {
        self.asked_ns.is_some()
    }

    /// Sends a request, which `put` writes.
    pub fn ask(&mut self, now_ns: u64, put: impl FnOnce(&mut Vec<u8>)) {
        self.output.clear();
        self.written = 0;
        put(&mut self.output);
        self.asked_ns = Some(now_ns);
        // An error shows at the next look.
        let _ = self.write();
    }

    /// Reads and writes what can be, at each edge.
    pub fn look(&mut self, now_ns: u64) -> HttpLooked {
        let written = self.write();
        match self.read(now_ns) {
            Ok(HttpLooked::Waiting) => match written {
                Ok(()) => HttpLooked::Waiting,
                Err(cause) => self.end(now_ns, cause),
            },
            Ok(looked) => looked,
            Err(cause) => self.end(now_ns, cause),
        }
    }

    /// Drops the connection.
    pub fn hang_up(&mut self) {
        (self.wire, self.is_connected, self.asked_ns) = (None, false, None);
        self.generation = self.generation.wrapping_add(1) & 0x3fff_ffff;
    }

    fn end(&mut self, now_ns: u64, cause: String) -> HttpLooked {
        let answer = self.answers.end().zip(self.asked_ns);
        self.hang_up();
        match answer {
            Some((answer, asked_ns)) => HttpLooked::Answered(answer.status, now_ns.saturating_sub(asked_ns)),
            None => HttpLooked::Ended(cause),
        }
    }

    fn write(&mut self) -> Result<(), String> {
        let Some(wire) = &mut self.wire else {
            return Ok(());
        };
        while self.written < self.output.len() {
            match wire.write(&self.output[self.written..]) {
                Ok(0) => return Err("end of stream".into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(cause(&error)),
            }
        }
        match wire.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(cause(&error)),
            _ => Ok(()),
        }
    }

    fn read(&mut self, now_ns: u64) -> Result<HttpLooked, String> {
        let mut buffer = [0; READ_BYTES];
        loop {
            let Some(wire) = &mut self.wire else {
                return Ok(HttpLooked::Waiting);
            };
            let read = match wire.read(&mut buffer) {
                Ok(0) => return Err("end of stream".into()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // The first edge of a connection that was not refused says that it is made.
                    self.is_connected |= wire.is_agreed();
                    return Ok(HttpLooked::Waiting);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(cause(&error)),
            };
            self.is_connected = true;
            let Some(answer) = self.answers.take(&buffer[..read])? else {
                continue;
            };
            let Some(asked_ns) = self.asked_ns.take() else {
                return Err(error("nothing was asked"));
            };
            self.has_answered = true;
            // Of a request that was answered before it was taken, the rest must not stand before the next.
            if answer.closes || self.written < self.output.len() || !self.is_empty() {
                self.hang_up();
            }
            return Ok(HttpLooked::Answered(answer.status, now_ns.saturating_sub(asked_ns)));
        }
    }

    /// Whether nothing follows an answer, not even the end of the stream, which no other edge would tell of.
    fn is_empty(&mut self) -> bool {
        let mut byte = [0];
        let read = self.wire.as_mut().map(|wire| wire.read(&mut byte));
        matches!(read, Some(Err(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives `input` in pieces and returns the answer with the number of bytes that were needed.
    fn give(input: &[u8], piece: usize) -> Result<Option<(Answer, usize)>, String> {
        let (mut answers, mut given) = (Answers::default(), 0);
        for bytes in input.chunks(piece) {
            given += bytes.len();
            if let Some(answer) = answers.take(bytes)? {
                return Ok(Some((answer, given)));
            }
        }
        Ok(answers.end().map(|answer| (answer, given)))
    }

    #[test]
    fn answers_end_where_http_says_however_they_are_cut() {
        let answers: [(&str, u16, bool); 7] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, false),
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 403, true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n",
                200,
                false,
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nTrailer: 1\r\n\r\n", 200, false),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 1\r\n\r\n1", 202, false),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, true),
        ];
        for (text, status, closes) in answers {
            for piece in 1..=text.len() {
                let expected = Ok(Some((Answer { status, closes }, text.len())));
                assert_eq!(give(text.as_bytes(), piece), expected, "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn nonsense_is_an_error_and_an_endless_head_is_not_kept() {
        for text in ["HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "SSH-2.0\r\n\r\n"] {
            assert!(give(text.as_bytes(), 7).is_err(), "{text:?}");
        }
        let extra = "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        assert!(give(extra.as_bytes(), extra.len()).is_err());
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; HEAD_MAX]].concat();
        assert!(give(&endless, 1_000).is_err());
    }

    proptest! {
        #[test]
        fn anything_can_be_taken(bytes in prop::collection::vec(any::<u8>(), 0..300), chunked: bool, piece in 1_usize..50) {
            let head = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 100" };
            let input = [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").into_bytes(), bytes].concat();
            let _ = give(&input, piece);
        }
    }
}
