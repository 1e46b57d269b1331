//! The upgrade (RFC 6455, 4): the request's last line, the answer collected and checked.
//!
//! Owner: a client, until it is upgraded.

use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::target::Offer;

use super::inflate::{self, Agreed, short};

/// The longest head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most headers of an answer.
const HEADERS_MAX: usize = 64;

/// An upgrade under way.
#[derive(Debug)]
pub(super) struct Handshake {
    key: String,
    /// What has come of an answer that is not whole.
    head: Vec<u8>,
}

/// An answer that accepts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The deflate that was agreed on, if any.
    pub deflate: Option<Agreed>,
}

/// Why there is no WebSocket: a cause in few words.
type Cause = String;

impl Handshake {
    /// With a key of its own.
    pub fn new() -> Self {
        Self { key: generate_key(), head: Vec::new() }
    }

    /// Appends the whole request.
    pub fn put_request(&self, request: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(request);
        out.extend_from_slice(b"Sec-WebSocket-Key: ");
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Takes what has come. `Some` with what the answer says and how many bytes of `input` belong to it: those behind are
    /// frames. `None`: more is to be read.
    ///
    /// # Errors
    /// The cause why this will be no WebSocket: `HTTP 403`, `bad accept key`, `no HTTP`, …
    pub fn receive(&mut self, input: &[u8], offer: &Offer) -> Result<Option<(Accepted, usize)>, Cause> {
        let before = self.head.len();
        let room = (HEAD_BYTES_MAX + 1).saturating_sub(before);
        self.head.extend_from_slice(&input[..room.min(input.len())]);
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut answer = httparse::Response::new(&mut headers);
        let parsed = answer.parse(&self.head).map_err(|error| match error {
            httparse::Error::TooManyHeaders => "answer too long",
            _ => "no HTTP",
        })?;
        match parsed {
            httparse::Status::Partial if self.head.len() > HEAD_BYTES_MAX => Err("answer too long".into()),
            httparse::Status::Partial => Ok(None),
            httparse::Status::Complete(len) if len > HEAD_BYTES_MAX => Err("answer too long".into()),
            // What was there before was not whole, so the head ends within this input.
            httparse::Status::Complete(len) => Ok(Some((self.check(&answer, offer)?, len - before))),
        }
    }

    fn check(&self, answer: &httparse::Response<'_, '_>, offer: &Offer) -> Result<Accepted, Cause> {
        let status = answer.code.unwrap_or_default();
        if status != 101 {
            return Err(format!("HTTP {status}"));
        }
        if answer.version != Some(1) {
            return Err("no HTTP/1.1".into());
        }
        let headers = Headers(answer.headers);
        if !headers.tokens("upgrade").any(|token| token.eq_ignore_ascii_case("websocket")) {
            return Err("no header Upgrade: websocket".into());
        }
        if !headers.tokens("connection").any(|token| token.eq_ignore_ascii_case("upgrade")) {
            return Err("no header Connection: Upgrade".into());
        }
        let mut accept = headers.named("sec-websocket-accept");
        if accept.next() != Some(derive_accept_key(self.key.as_bytes()).as_str()) || accept.next().is_some() {
            return Err("bad accept key".into());
        }
        let mut protocols = headers.named("sec-websocket-protocol");
        if let Some(protocol) = protocols.next() {
            if !offer.subprotocols.iter().any(|offered| offered == protocol) {
                return Err(format!("unasked subprotocol {}", short(protocol)));
            }
            if protocols.next().is_some() {
                return Err("several subprotocols".into());
            }
        }
        Ok(Accepted { deflate: extensions(&headers, offer)? })
    }
}

fn extensions(headers: &Headers<'_>, offer: &Offer) -> Result<Option<Agreed>, Cause> {
    let mut agreed = None;
    for extension in headers.tokens("sec-websocket-extensions") {
        let name = extension.split(';').next().unwrap_or_default().trim();
        if !offer.deflate {
            return Err(format!("unasked extension {}", short(name)));
        }
        let deflate = inflate::agree(extension).map_err(|refused| refused.0)?;
        if agreed.replace(deflate).is_some() {
            return Err("extension given twice".into());
        }
    }
    Ok(agreed)
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    /// The values of the headers of this name; what is no text counts as empty.
    fn named(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let same = move |header: &&httparse::Header<'a>| header.name.eq_ignore_ascii_case(name);
        self.0.iter().filter(same).map(|header| std::str::from_utf8(header.value).unwrap_or_default().trim())
    }

    /// Their members: what stands between commas.
    fn tokens(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.named(name).flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer_to(handshake: &Handshake, more: &str) -> Vec<u8> {
        let accept = derive_accept_key(handshake.key.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        )
        .into_bytes()
    }

    fn offer(deflate: bool) -> Offer {
        Offer { deflate, subprotocols: vec!["a".into(), "b".into()] }
    }

    fn outcome(answer: impl Fn(&Handshake) -> Vec<u8>, deflate: bool) -> Result<Option<(Accepted, usize)>, Cause> {
        let mut handshake = Handshake::new();
        let answer = answer(&handshake);
        handshake.receive(&answer, &offer(deflate))
    }

    #[test]
    fn the_request_ends_with_a_key_of_its_own() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        Handshake::new().put_request(b"GET / HTTP/1.1\r\n", &mut one);
        Handshake::new().put_request(b"GET / HTTP/1.1\r\n", &mut other);
        assert_ne!(one, other);
        assert!(one.starts_with(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: ") && one.ends_with(b"==\r\n\r\n"));
    }

    #[test]
    fn a_refused_upgrade_is_named_by_what_is_wrong() {
        let whole = |text: &'static str| move |_: &Handshake| text.as_bytes().to_vec();
        let cut = |from: &'static str, to: &'static str| {
            move |handshake: &Handshake| {
                let text = String::from_utf8(answer_to(handshake, "")).expect("text");
                text.replace(from, to).into_bytes()
            }
        };
        let with = |more: &'static str| move |handshake: &Handshake| answer_to(handshake, more);
        let cause = |outcome: Result<Option<(Accepted, usize)>, Cause>| outcome.expect_err("it is refused");
        assert_eq!(cause(outcome(whole("HTTP/1.1 403 Forbidden\r\n\r\n"), false)), "HTTP 403");
        assert_eq!(cause(outcome(whole("HTTP/1.1 200\r\n\r\n"), false)), "HTTP 200");
        assert_eq!(cause(outcome(whole("SSH-2.0-OpenSSH_9\r\n"), false)), "no HTTP");
        assert_eq!(cause(outcome(whole("\0\0"), false)), "no HTTP");
        assert_eq!(cause(outcome(cut("HTTP/1.1", "HTTP/1.0"), false)), "no HTTP/1.1");
        assert_eq!(cause(outcome(cut("WebSocket\r\n", "h2c\r\n"), false)), "no header Upgrade: websocket");
        assert_eq!(cause(outcome(cut("upgrade\r\n", "close\r\n"), false)), "no header Connection: Upgrade");
        assert_eq!(cause(outcome(cut("Accept: ", "Accept: x"), false)), "bad accept key");
        assert_eq!(cause(outcome(cut("Accept:", "Accepted:"), false)), "bad accept key");
        assert_eq!(cause(outcome(with("Sec-WebSocket-Protocol: c\r\n"), false)), "unasked subprotocol c");
        assert_eq!(cause(outcome(with("Sec-WebSocket-Protocol: a, b\r\n"), false)), "unasked subprotocol a, b");
        let deflate = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
        assert_eq!(cause(outcome(with(deflate), false)), "unasked extension permessage-deflate");
        let other = "Sec-WebSocket-Extensions: permessage-deflate, mux\r\n";
        assert_eq!(cause(outcome(with(other), true)), "unasked extension mux");
        let twice = "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate\r\n";
        assert_eq!(cause(outcome(with(twice), true)), "extension given twice");
    }

    #[test]
    fn an_answer_without_end_is_given_up_at_the_limit() {
        let mut handshake = Handshake::new();
        assert_eq!(handshake.receive(b"HTTP/1.1 101 a\r\nX: ", &offer(false)), Ok(None));
        let mut taken = 0;
        let cause = loop {
            match handshake.receive(&[b'x'; 1000], &offer(false)) {
                Ok(None) => taken += 1000,
                other => break other.expect_err("it has no end"),
            }
            assert!(taken <= HEAD_BYTES_MAX);
        };
        assert_eq!(cause, "answer too long");
        let many = |_: &Handshake| [&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n".repeat(65), b"\r\n"].concat();
        assert_eq!(outcome(many, false).expect_err("too many"), "answer too long");
    }

    proptest! {
        #[test]
        fn however_an_answer_is_cut_what_follows_it_is_left_for_the_frames(
            cuts in prop::collection::vec(1..120_usize, 1..20),
            deflate: bool,
        ) {
            let mut handshake = Handshake::new();
            let more = if deflate {
                "Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
            } else {
                ""
            };
            let answer = answer_to(&handshake, more);
            let stream = [&answer[..], b"\x81\x05Hello"].concat();
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            let (accepted, used) = loop {
                let to = (at + cuts.next().copied().unwrap_or(1)).min(stream.len());
                match handshake.receive(&stream[at..to], &offer(true)) {
                    Ok(None) => at = to,
                    other => {
                        let (accepted, used) = other.expect("it is right").expect("whole");
                        break (accepted, at + used);
                    }
                }
            };
            prop_assert_eq!(used, answer.len());
            prop_assert_eq!(accepted.deflate, deflate.then_some(Agreed { no_context: true }));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), whole: bool) {
            let mut handshake = Handshake::new();
            let mut stream = if whole { answer_to(&handshake, "") } else { b"HTTP/1.1 101 ".to_vec() };
            stream.splice(stream.len() / 2.., bytes);
            for byte in stream.chunks(7) {
                if !matches!(handshake.receive(byte, &offer(true)), Ok(None)) {
                    break;
                }
            }
        }
    }
}
