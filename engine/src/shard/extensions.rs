//! Compression, agreed on with a client in the handshake (RFC 7692): by a shard, or by the control thread for it.

use crate::config::Settings;
use crate::handler::Accept;
use crate::ws::deflate::{self, Agreed, MalformedOffer};
use crate::ws::handshake::Request;

/// Where extensions are offered and answered.
const EXTENSIONS: &str = "Sec-WebSocket-Extensions";

/// What can be agreed on of what a client offers (RFC 7692), if compression is on; else the header is not looked at.
///
/// # Errors
/// The header is malformed.
pub fn agree_deflate(request: &Request<'_>, settings: &Settings) -> Result<Option<Agreed>, MalformedOffer> {
    if !settings.deflate {
        return Ok(None);
    }
    let mut all = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(EXTENSIONS));
    if all.any(|header| std::str::from_utf8(header.value).is_err()) {
        return Err(MalformedOffer);
    }
    deflate::negotiate(request.headers_named(EXTENSIONS))
}

/// Takes what was agreed on into the answer and the terms of the connection, unless the program does without, or answers the
/// offers by itself: two answers would contradict each other.
pub fn take_deflate<D>(accept: &mut Accept<D>, agreed: Option<Agreed>) {
    let answers_itself = accept.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(EXTENSIONS));
    if let Some(Agreed { window, answer }) = agreed.filter(|_| !accept.uncompressed && !answers_itself) {
        accept.terms.window = Some(window);
        accept.headers.push((EXTENSIONS.into(), answer));
    }
}
