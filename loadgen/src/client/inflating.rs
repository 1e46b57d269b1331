//! Compressed messages of a worker's connections, inflated.
//!
//! Owner: [`Shared`](super::Shared). A message without context whose bytes are those of one just inflated is not inflated
//! again: a server that compresses a broadcast once sends the same bytes to everybody, and so does one that compresses it for
//! each with the same settings. Equal bytes give equal messages, so nothing is taken on trust, and the load generator does not
//! become the limit long before the server.

use super::inflate::Inflater;

/// Messages that are kept: as many as publications are expected to come together.
const KEPT: usize = 64;

/// Longer ones are not kept, in bytes as they come and inflated.
const KEPT_BYTES_MAX: usize = 64 << 10;

/// What was agreed on with the server of a connection.
#[derive(Debug)]
pub(super) enum Deflate {
    None,
    /// Each message begins anew: one inflater serves all connections.
    Alone,
    /// Messages refer to earlier ones.
    Context(Box<Inflater>),
}

/// A message as it came, and what it is.
#[derive(Debug, Default)]
struct Kept {
    deflated: Vec<u8>,
    message: Vec<u8>,
}

/// The inflater of connections without context, and where all that is inflated goes.
#[derive(Debug, Default)]
pub(super) struct Inflating {
    inflater: Option<Box<Inflater>>,
    inflated: Vec<u8>,
    /// By a number made of the message; none before the first.
    kept: Vec<Kept>,
}

impl Inflating {
    /// The message that `payload` is, at most `max` bytes.
    ///
    /// # Errors
    /// The cause of the connection's end.
    pub fn inflate(&mut self, deflate: &mut Deflate, payload: &[u8], max: usize) -> Result<&[u8], String> {
        let Self { inflater, inflated, kept } = self;
        if let Deflate::Context(inflater) = deflate {
            return inflater.inflate(payload, false, inflated, max).map_err(|error| error.to_string());
        }
        if kept.is_empty() {
            kept.resize_with(KEPT, Kept::default);
        }
        let place = &mut kept[place_of(payload)];
        if place.deflated == payload && !payload.is_empty() && place.message.len() <= max {
            return Ok(&place.message);
        }
        let message = inflater.get_or_insert_default().inflate(payload, true, inflated, max);
        let message = message.map_err(|error| error.to_string())?;
        if payload.len().max(message.len()) <= KEPT_BYTES_MAX {
            place.deflated.clear();
            place.deflated.extend_from_slice(payload);
            place.message.clear();
            place.message.extend_from_slice(message);
        }
        Ok(message)
    }
}

/// Made of its first words: a marker stands at the beginning, behind the tables of the codes at most, so neighbours differ.
fn place_of(payload: &[u8]) -> usize {
    let words = payload.as_chunks::<8>().0.iter().take(32).map(|word| u64::from_le_bytes(*word));
    let mixed = words
        .fold(payload.len() as u64, |mixed, word| (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29));
    (mixed >> 32) as usize % KEPT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zlib_rs::{Deflate as Zlib, DeflateFlush};

    use super::*;

    fn deflated(payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0; payload.len() + 100];
        let mut zlib = Zlib::new(3, false, 15);
        zlib.compress(payload, &mut out, DeflateFlush::SyncFlush).expect("there is room");
        out.truncate(zlib.total_out() as usize - 4);
        out
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_inflating_gives_whatever_came_between(
            messages in prop::collection::vec(prop::collection::vec(0..4_u8, 0..300), 1..200),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..400),
        ) {
            let mut inflating = Inflating::default();
            for index in order {
                let message = index.get(&messages);
                let got = inflating.inflate(&mut Deflate::Alone, &deflated(message), 300);
                prop_assert_eq!(got, Ok(&message[..]));
            }
        }
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_the_second_time_as_well() {
        let (mut inflating, bomb) = (Inflating::default(), deflated(&[7; 5000]));
        for _ in 0..2 {
            let cause = inflating.inflate(&mut Deflate::Alone, &bomb, 4999).expect_err("it is too long");
            assert!(cause.contains("exceeds client.message_bytes_max"), "{cause}");
        }
        assert_eq!(inflating.inflate(&mut Deflate::Alone, &bomb, 5000).map(<[u8]>::len), Ok(5000));
        assert!(inflating.inflate(&mut Deflate::Alone, &bomb, 4999).is_err());
    }

    #[test]
    fn a_connection_with_context_inflates_each_message_itself() {
        let mut zlib = Zlib::new(3, false, 15);
        let mut next = || {
            let (mut out, before) = (vec![0; 400], zlib.total_out());
            zlib.compress(b"the same text again", &mut out, DeflateFlush::SyncFlush).expect("there is room");
            out.truncate((zlib.total_out() - before) as usize - 4);
            out
        };
        let (mut inflating, mut context) = (Inflating::default(), Deflate::Context(Box::default()));
        for _ in 0..5 {
            assert_eq!(inflating.inflate(&mut context, &next(), 100), Ok(&b"the same text again"[..]));
        }
    }
}
