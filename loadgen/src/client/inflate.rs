//! permessage-deflate, the client's side (RFC 7692): what is offered, what of the answer is taken, messages inflated.
//!
//! Owner: a client; the inflater is its worker's as long as no context is carried from one message to the next. What the
//! client sends is never compressed, which is always allowed.

use std::fmt;

use zlib_rs::{Inflate, InflateFlush, Status};

/// The value of `Sec-WebSocket-Extensions` in requests that offer it.
pub const DEFLATE_OFFER: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Whether the server begins each message anew.
    pub no_context: bool,
}

/// Why an extension in an answer is refused; a cause of a failed connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused(pub String);

/// Reads one extension of the answer (the text between two commas).
pub(super) fn agree(extension: &str) -> Result<Agreed, Refused> {
    let mut parts = extension.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    if !name.eq_ignore_ascii_case("permessage-deflate") {
        return Err(Refused(format!("unasked extension {}", short(name))));
    }
    let (mut server, mut client, mut bits) = (false, false, false);
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        let (seen, is_right) = match name.to_ascii_lowercase().as_str() {
            "server_no_context_takeover" => (&mut server, value.is_none()),
            "client_no_context_takeover" => (&mut client, value.is_none()),
            // Even if it was not offered (RFC 7692, 7.1.2.1). Any window fits in the one that is always kept.
            "server_max_window_bits" => (&mut bits, value.is_some_and(is_window_bits)),
            // client_max_window_bits is only for who offered it (7.1.2.2).
            _ => return Err(Refused(format!("unasked permessage-deflate parameter {}", short(name)))),
        };
        if *seen || !is_right {
            return Err(Refused(format!("bad permessage-deflate parameter {}", short(part))));
        }
        *seen = true;
    }
    Ok(Agreed { no_context: server })
}

/// 8 to 15, without leading zeros.
fn is_window_bits(value: &str) -> bool {
    matches!(value, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

/// What a cause quotes of a peer's words: a cause is a key of counts, so it must be short and printable.
pub(super) fn short(text: &str) -> String {
    let mut quoted: String = text.chars().take(40).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(40).is_some() {
        quoted.push('…');
    }
    quoted
}

/// Why a message could not be inflated; the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InflateError {
    /// It becomes longer than this.
    TooBig(usize),
    /// It is no deflate stream.
    Broken,
}

impl fmt::Display for InflateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooBig(max) => write!(f, "message of over {max} bytes exceeds client.message_bytes_max"),
            Self::Broken => f.write_str("protocol error: deflated message is broken"),
        }
    }
}

/// A zlib inflater, about 40 KiB.
pub(super) struct Inflater(Inflate);

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self(Inflate::new(false, 15))
    }
}

/// What the sender cut off each message (RFC 7692, 7.2.1).
const CUT_OFF: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The first piece of memory for what is inflated, in bytes.
const FIRST_BYTES: usize = 16 << 10;

impl Inflater {
    /// Inflates one message into the beginning of `out`, whose length is scratch memory and grows as needed; the result is
    /// the part of it that is the message. `no_context`: forget what came before.
    pub fn inflate<'o>(
        &mut self,
        payload: &[u8],
        no_context: bool,
        out: &'o mut Vec<u8>,
        message_bytes_max: usize,
    ) -> Result<&'o [u8], InflateError> {
        if no_context {
            self.0.reset(false);
        }
        let mut written = 0;
        for piece in [payload, &CUT_OFF] {
            self.piece(piece, out, &mut written, message_bytes_max)?;
        }
        Ok(&out[..written])
    }

    fn piece(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        written: &mut usize,
        max: usize,
    ) -> Result<(), InflateError> {
        loop {
            if *written == out.len() {
                // One byte more than allowed, so that a message that is exactly as long as allowed ends by itself.
                let len = (2 * out.len()).max(FIRST_BYTES).min(max.saturating_add(1));
                out.resize(len.max(out.len()), 0);
            }
            let room = out.len().min(max.saturating_add(1));
            let (in_before, out_before) = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(input, &mut out[*written..room], InflateFlush::SyncFlush);
            let status = status.map_err(|_| InflateError::Broken)?;
            let taken = (self.0.total_in() - in_before) as usize;
            let given = (self.0.total_out() - out_before) as usize;
            input = &input[taken..];
            *written += given;
            if *written > max {
                return Err(InflateError::TooBig(max));
            }
            match status {
                // A last block inside a message is allowed (RFC 7692, 7.2.3.4); another stream follows.
                Status::StreamEnd => self.0.reset(false),
                // No room left: whether there is more to come shows when there is.
                _ if *written == room => continue,
                _ if taken == 0 && given == 0 && !input.is_empty() => return Err(InflateError::Broken),
                _ => {}
            }
            if input.is_empty() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zlib_rs::{Deflate, DeflateFlush};

    use super::*;

    /// What a server sends for `payload`.
    fn deflated(deflate: &mut Deflate, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; payload.len() + payload.len() / 8 + 200];
        let before = deflate.total_out();
        deflate.compress(payload, &mut out, DeflateFlush::SyncFlush).expect("there is room");
        out.truncate((deflate.total_out() - before) as usize);
        out.strip_suffix(&CUT_OFF).expect("a sync flush ends so").to_vec()
    }

    #[test]
    fn only_what_the_offer_allows_is_agreed_on() {
        let agreed = |no_context| Ok(Agreed { no_context });
        assert_eq!(agree("permessage-deflate"), agreed(false));
        assert_eq!(agree("Permessage-Deflate ; server_no_context_takeover"), agreed(true));
        assert_eq!(
            agree("permessage-deflate; client_no_context_takeover; server_max_window_bits=\"9\""),
            agreed(false)
        );
        for (extension, cause) in [
            ("x-webkit-deflate-frame", "unasked extension x-webkit-deflate-frame"),
            ("", "unasked extension "),
            (
                "permessage-deflate; client_max_window_bits=15",
                "unasked permessage-deflate parameter client_max_window_bits",
            ),
            ("permessage-deflate; server_max_window_bits", "bad permessage-deflate parameter server_max_window_bits"),
            (
                "permessage-deflate; server_max_window_bits=16",
                "bad permessage-deflate parameter server_max_window_bits=16",
            ),
            (
                "permessage-deflate; server_max_window_bits=08",
                "bad permessage-deflate parameter server_max_window_bits=08",
            ),
            (
                "permessage-deflate; server_no_context_takeover=1",
                "bad permessage-deflate parameter server_no_context_takeover=1",
            ),
            ("permessage-deflate; a; a", "unasked permessage-deflate parameter a"),
            ("permessage-deflate;", "unasked permessage-deflate parameter "),
        ] {
            assert_eq!(agree(extension), Err(Refused(cause.into())));
        }
        let twice = "permessage-deflate; server_no_context_takeover; server_no_context_takeover";
        assert!(agree(twice).is_err());
    }

    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        let mut inflater = Inflater::default();
        let mut out = Vec::new();
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        // 7.2.3.2: the second message refers to the first.
        let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
        for message in [&hello[..], &again[..]] {
            assert_eq!(inflater.inflate(message, false, &mut out, 5), Ok(&b"Hello"[..]));
        }
        for message in [
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00][..], // 7.2.3.3: not compressed
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00][..],                   // 7.2.3.4: a last block
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00][..], // 7.2.3.5: two blocks
        ] {
            assert_eq!(inflater.inflate(message, true, &mut out, 5), Ok(&b"Hello"[..]));
        }
        assert_eq!(inflater.inflate(&[0], true, &mut out, 0), Ok(&b""[..]));
        assert_eq!(inflater.inflate(&again, true, &mut out, 5), Err(InflateError::Broken));
    }

    #[test]
    fn a_bomb_ends_at_the_limit_with_memory_of_about_the_limit() {
        let bomb = deflated(&mut Deflate::new(9, false, 15), &vec![0; 10_000_000]);
        assert!(bomb.len() < 20_000);
        let mut out = Vec::new();
        let max = 100_000;
        assert_eq!(Inflater::default().inflate(&bomb, true, &mut out, max), Err(InflateError::TooBig(max)));
        assert!(out.capacity() <= 2 * max, "{}", out.capacity());
    }

    proptest! {
        #[test]
        fn what_was_deflated_comes_back_with_and_without_context_up_to_the_limit_exactly(
            messages in prop::collection::vec(prop::collection::vec(0..4_u8, 0..60_000), 1..4),
            no_context: bool,
        ) {
            let mut deflate = Deflate::new(6, false, 15);
            let (mut inflater, mut out) = (Inflater::default(), Vec::new());
            for message in &messages {
                if no_context {
                    deflate.reset();
                }
                let payload = deflated(&mut deflate, message);
                let inflated = inflater.inflate(&payload, no_context, &mut out, message.len());
                prop_assert!(inflated == Ok(message.as_slice()));
                if !message.is_empty() {
                    let too_big = Err(InflateError::TooBig(message.len() - 1));
                    let mut scratch = Vec::new();
                    let refused = Inflater::default().inflate(&payload, true, &mut scratch, message.len() - 1);
                    prop_assert!(refused == too_big || (!no_context && refused == Err(InflateError::Broken)));
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_exceed_the_limit(bytes in prop::collection::vec(any::<u8>(), 0..200), max in 0..5000_usize) {
            let mut out = Vec::new();
            if let Ok(message) = Inflater::default().inflate(&bytes, true, &mut out, max) {
                prop_assert!(message.len() <= max);
            }
        }
    }
}
