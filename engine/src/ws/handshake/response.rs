//! Answers, written: the 101 that opens a WebSocket, and any small plain one.

use tungstenite::http::StatusCode;

use super::UpgradeKey;

/// Whether this can be the name of a header: a token (RFC 9110, 5.6.2). A subprotocol has to be one, too.
pub fn is_header_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_token_byte)
}

/// Whether this can be the value of a header: no control characters but the tab (RFC 9110, 5.5), so above all no line
/// breaks.
pub fn is_header_value(value: &str) -> bool {
    value.bytes().all(is_value_byte)
}

/// Appends the answer that accepts an upgrade (RFC 6455, 4.2.2). Frames may follow at once.
///
/// `protocol` must be one the client offered. Names and values come from the program, and it checks them with
/// [`is_header_name`] and [`is_header_value`] when it gets them; should a bad one slip through, each forbidden byte
/// becomes a `-` in a name and a space in a value, so that nothing can inject a header.
pub fn put_accept(out: &mut Vec<u8>, key: &UpgradeKey<'_>, protocol: Option<&str>, headers: &[(String, String)]) {
    put_status_line(out, 101);
    put_header(out, "Upgrade", "websocket");
    put_header(out, "Connection", "Upgrade");
    put_header(out, "Sec-WebSocket-Accept", &key.accept());
    if let Some(protocol) = protocol {
        put_header(out, "Sec-WebSocket-Protocol", protocol);
    }
    put_headers(out, headers);
}

/// Appends a whole plain answer. An empty `content_type` is left out. `close` announces that the connection ends with
/// it. For bad names and values see [`put_accept`].
pub fn put_response(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[(String, String)],
    content_type: &str,
    body: &[u8],
    close: bool,
) {
    put_status_line(out, status);
    if close {
        put_header(out, "Connection", "close");
    }
    if !content_type.is_empty() {
        put_header(out, "Content-Type", content_type);
    }
    put_header(out, "Content-Length", &body.len().to_string());
    put_headers(out, headers);
    out.extend_from_slice(body);
}

fn put_status_line(out: &mut Vec<u8>, status: u16) {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {status} {reason}\r\n").as_bytes());
}

/// The caller's headers, and the empty line that ends a head.
fn put_headers(out: &mut Vec<u8>, headers: &[(String, String)]) {
    for (name, value) in headers {
        put_header(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

fn put_header(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend(name.bytes().map(|byte| if is_token_byte(byte) { byte } else { b'-' }));
    out.extend_from_slice(b": ");
    out.extend(value.bytes().map(|byte| if is_value_byte(byte) { byte } else { b' ' }));
    out.extend_from_slice(b"\r\n");
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
