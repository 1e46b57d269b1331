//! The signed query of the Pusher protocol's HTTP API: MD5 of the body, HMAC-SHA256 of the request.
//!
//! Owner: a [`Publication`](super::Publication). Time is an argument.

use std::io::Write;

use md5::{Digest, Md5};
use ring::hmac;

/// Signs requests of one application.
#[derive(Debug, Clone)]
pub(super) struct Signer {
    app_key: String,
    secret: hmac::Key,
}

impl Signer {
    /// For the application with this key and secret.
    pub fn new(app_key: &str, secret: &str) -> Self {
        Self { app_key: app_key.to_owned(), secret: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    /// Appends the query of a request for `path` (without its query) with `body`, at `unix_time_s`. Servers refuse one
    /// that is older than ten minutes.
    pub fn put_query(&self, method: &str, path: &[u8], body: &[u8], unix_time_s: u64, out: &mut Vec<u8>) {
        let from = out.len();
        out.extend_from_slice(format!("auth_key={}&auth_timestamp={unix_time_s}", self.app_key).as_bytes());
        out.extend_from_slice(b"&auth_version=1.0&body_md5=");
        put_hex(&Md5::digest(body), out);

        let mut context = hmac::Context::with_key(&self.secret);
        for piece in [method.as_bytes(), b"\n", path, b"\n", &out[from..]] {
            context.update(piece);
        }
        out.extend_from_slice(b"&auth_signature=");
        put_hex(context.sign().as_ref(), out);
    }
}

fn put_hex(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        write!(out, "{byte:02x}").expect("a Vec takes every byte");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_pusher_documentation_is_signed_as_there() {
        // https://pusher.com/docs/channels/library_auth_reference/rest-api/#worked-authentication-example
        let signer = Signer::new("278d425bdf160c739803", "7ad3773142a6692b25b8");
        let body = br#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        let mut out = Vec::new();
        signer.put_query("POST", b"/apps/3/events", body, 1_353_088_179, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0\
             &body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }
}
