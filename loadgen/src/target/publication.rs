//! Publications: the payload's place in a message or HTTP request, everything else written beforehand.
//!
//! Owner: a publisher, one for each of its topics. `put` only copies (and signs, where the protocol wants it).

use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::signing::Signer;
use super::template::Carrier;

/// Publications to one topic.
#[derive(Debug, Clone)]
pub struct Publication(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Message(Carrier),
    Request(Arc<Request>),
}

/// An HTTP request that only lacks the payload.
#[derive(Debug)]
pub(super) struct Request {
    pub method: String,
    /// Path and query; with `signer`, up to and including the `?`.
    pub path: Carrier,
    /// From the blank before `HTTP/1.1` to the blank behind `Content-Length:`.
    pub head: Box<[u8]>,
    pub body: Carrier,
    pub signer: Option<Signer>,
}

impl Publication {
    pub(super) fn message(carrier: Carrier) -> Self {
        Self(Kind::Message(carrier))
    }

    pub(super) fn request(request: Request) -> Self {
        Self(Kind::Request(Arc::new(request)))
    }

    /// Appends the message (or the whole HTTP request) that carries `payload`.
    pub fn put(&self, payload: &[u8], out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Message(carrier) => carrier.put(payload, out),
            Kind::Request(request) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                request.put(payload, now.as_secs(), out);
            }
        }
    }
}

impl Request {
    /// Appends the request as of `unix_time_s`, which only its signature depends on.
    pub fn put(&self, payload: &[u8], unix_time_s: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        let path_at = out.len();
        self.path.put(payload, out);
        match &self.signer {
            None => {
                self.put_head(self.body.len(payload), out);
                self.body.put(payload, out);
            }
            Some(signer) => {
                let mut body = Vec::with_capacity(self.body.len(payload));
                self.body.put(payload, &mut body);
                let path = out[path_at..].strip_suffix(b"?").unwrap_or(&out[path_at..]).to_vec();
                signer.put_query(&self.method, &path, &body, unix_time_s, out);
                self.put_head(body.len(), out);
                out.extend_from_slice(&body);
            }
        }
    }

    fn put_head(&self, body_len: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        write!(out, "{body_len}\r\n\r\n").expect("a Vec takes every byte");
    }
}
