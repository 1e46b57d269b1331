//! A small HTTP/1.1 client: one connection, kept alive, requests one by one or pipelined.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::DEADLINE;

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {} {}", self.status, self.text()))
    }

    /// Checks that this is an error as the API gives them: this status, JSON with `code` and `message`.
    ///
    /// # Panics
    /// If not.
    #[track_caller]
    pub fn assert_error(&self, status: u16) {
        assert_eq!(self.status, status, "{}", self.text());
        let error = self.json();
        assert!(error["code"].as_str().is_some_and(|code| !code.is_empty()), "{error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
}

/// A connection.
pub struct Http {
    reader: BufReader<TcpStream>,
}

impl Http {
    /// Connects.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline can be set");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self { reader: BufReader::new(stream) }
    }

    /// `GET`.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], b"")
    }

    /// `POST` with a body.
    #[track_caller]
    pub fn post(&mut self, target: &str, body: &[u8]) -> Response {
        self.request("POST", target, &[], body)
    }

    /// A request and its answer.
    #[track_caller]
    pub fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.send(&request_bytes(method, target, headers, body));
        if method == "HEAD" { self.read_head() } else { self.read_response() }
    }

    /// Publishes over `POST /api/publish` and returns the answer.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> Value {
        self.publish_as(topic, payload, "")
    }

    /// Publishes with more in the query, for example `&binary=1&key=k`.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn publish_as(&mut self, topic: &str, payload: &[u8], more: &str) -> Value {
        let answer = self.post(&format!("/api/publish?topic={}{more}", encode(topic)), payload);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// What `GET /api/topics/{topic}` says; `None` if there is no such topic.
    #[track_caller]
    pub fn topic(&mut self, topic: &str) -> Option<Value> {
        let answer = self.get(&format!("/api/topics/{}", encode(topic)));
        match answer.status {
            404 => None,
            _ => {
                assert_eq!(answer.status, 200, "{}", answer.text());
                Some(answer.json())
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If they cannot be sent.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("the request can be sent");
    }

    /// Reads a whole answer.
    ///
    /// # Panics
    /// If there is none within the deadline.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        let mut response = self.read_head();
        if response.status / 100 == 1 || response.status == 204 || response.status == 304 {
            return response;
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            self.read_chunks(&mut response.body);
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().expect("a content length is a number");
            response.body.resize(length, 0);
            self.reader.read_exact(&mut response.body).expect("the whole body arrives");
        } else {
            self.reader.read_to_end(&mut response.body).expect("the body ends with the connection");
        }
        response
    }

    /// Reads a status line and headers.
    ///
    /// # Panics
    /// If there are none within the deadline.
    #[track_caller]
    pub fn read_head(&mut self) -> Response {
        let status_line = self.read_line();
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let mut response = Response {
            status: status.unwrap_or_else(|| panic!("no status line: '{status_line}'")),
            ..Response::default()
        };
        loop {
            let line = self.read_line();
            if line.is_empty() {
                return response;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no header: '{line}'"));
            response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// Whether the server has ended the connection, after everything it sent was read.
    #[must_use]
    pub fn is_ended(&mut self) -> bool {
        !matches!(self.reader.fill_buf(), Ok(bytes) if !bytes.is_empty())
    }

    /// The socket and what was read from it beyond the last answer.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        let rest = self.reader.buffer().to_vec();
        (self.reader.into_inner(), rest)
    }

    #[track_caller]
    fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line arrives");
        assert!(line.ends_with("\r\n"), "the connection ended in the middle of a head: '{line}'");
        line.truncate(line.len() - 2);
        line
    }

    #[track_caller]
    fn read_chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let line = self.read_line();
            let length = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16).expect("a chunk length");
            let start = body.len();
            body.resize(start + length, 0);
            self.reader.read_exact(&mut body[start..]).expect("the whole chunk arrives");
            assert_eq!(self.read_line(), "");
            if length == 0 {
                return;
            }
        }
    }
}

/// The bytes of a request. The host is one that a server on this machine takes for this machine.
#[must_use]
pub fn request_bytes(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "POST" {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Percent-encodes all but letters, digits, `-`, `_`, `.` and `~`.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
