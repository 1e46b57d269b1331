//! What predecessor and successor say to each other: frames of a length (32 bits, little endian) and their content in
//! postcard's format. Both run as the same user on the same machine; still, nothing is believed that cannot be.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::pubsub::encoding::Encodings;
use crate::pubsub::{Epoch, Position, Publication};
use crate::shard::shared::Clock;
use crate::ws::{Message, Opcode};

/// Changes with every change of [`Frame`].
pub const VERSION: u32 = 1;

/// The longest frame: a publication may have up to 1 GiB.
const FRAME_BYTES_MAX: usize = (1 << 30) + (64 << 10);

/// One thing said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame<'a> {
    /// The successor: hand over.
    Hello {
        /// Its [`VERSION`].
        version: u32,
    },
    /// The predecessor: no.
    Refused {
        /// A sentence.
        why: &'a str,
    },
    /// The predecessor: this topic is yours; its history follows.
    Topic {
        /// Its name.
        name: &'a str,
        /// Its life.
        epoch: u64,
        /// Its newest offset.
        offset: u64,
    },
    /// A publication: of a history that is handed over, or, from the successor, one that has just been sequenced.
    Publication {
        /// Its topic.
        topic: &'a str,
        /// The topic's life.
        epoch: u64,
        /// Its place there.
        offset: u64,
        /// When it was sequenced, in milliseconds since 1970.
        unix_ms: u64,
        /// Text, or binary.
        text: bool,
        /// Its key.
        key: Option<&'a str>,
        /// Its payload.
        payload: &'a [u8],
    },
    /// The predecessor: that was all.
    End {
        /// How many topics.
        topics: u64,
        /// How many publications.
        publications: u64,
    },
    /// The successor: I have it all, and serve.
    Taken,
    /// The predecessor: go ahead, I give no more offsets, whatever becomes of you.
    Released,
}

impl<'a> Frame<'a> {
    /// A publication on its way.
    pub fn of(publication: &'a Publication) -> Self {
        Self::Publication {
            topic: publication.topic(),
            epoch: publication.epoch().0,
            offset: publication.offset(),
            unix_ms: publication.unix_ms(),
            text: publication.opcode() == Opcode::Text,
            key: publication.key(),
            payload: publication.payload(),
        }
    }

    /// The publication that this is, on this engine's clock; `None` if it is none, or its text is not UTF-8.
    /// It is compressed for those who want that if it has so many bytes.
    pub fn publication(&self, clock: &Clock, encodings: &Encodings, deflate_min_bytes: usize) -> Option<Publication> {
        let Self::Publication { topic, epoch, offset, unix_ms, text, key, payload } = *self else { return None };
        let message = if text { Message::Text(std::str::from_utf8(payload).ok()?) } else { Message::Binary(payload) };
        let position = Position { epoch: Epoch(epoch), offset };
        let publication = Publication::new(Arc::from(topic), message, encodings, deflate_min_bytes).with_key(key);
        Some(publication.placed(position, clock.at_unix_ms(unix_ms)))
    }
}

/// Says something.
pub fn say(to: &mut impl Write, frame: &Frame<'_>) -> io::Result<()> {
    let bytes = postcard::to_stdvec(frame).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(&bytes)
}

/// Hears what is said next; it lives in the buffer.
pub fn hear<'b>(from: &mut impl Read, buffer: &'b mut Vec<u8>) -> io::Result<Frame<'b>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes is too long")));
    }
    // Grows with what really comes, not with what is promised.
    buffer.clear();
    if from.take(length as u64).read_to_end(buffer)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    postcard::from_bytes(buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// What came was not what must come here.
pub fn unexpected(frame: &Frame<'_>) -> io::Error {
    let what = match frame {
        Frame::Refused { why } => return io::Error::other(format!("it refuses: {why}")),
        Frame::Publication { .. } => "a publication",
        Frame::Topic { .. } => "a topic",
        Frame::Hello { .. } => "a greeting",
        Frame::End { .. } => "the end",
        Frame::Taken => "'taken'",
        Frame::Released => "'released'",
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} came where it has no place"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_said_is_heard(
            topic in "\\PC{0,40}", key in proptest::option::of("\\PC{0,20}"), payload: Vec<u8>, numbers: [u64; 3], text: bool,
        ) {
            let frames = [
                Frame::Hello { version: VERSION },
                Frame::Topic { name: &topic, epoch: numbers[0], offset: numbers[1] },
                Frame::Publication {
                    topic: &topic, epoch: numbers[0], offset: numbers[1], unix_ms: numbers[2], text,
                    key: key.as_deref(), payload: &payload,
                },
                Frame::End { topics: numbers[0], publications: numbers[1] },
                Frame::Taken,
                Frame::Released,
                Frame::Refused { why: &topic },
            ];
            let mut bytes = Vec::new();
            for frame in &frames {
                say(&mut bytes, frame).unwrap();
            }
            let mut rest = &bytes[..];
            let mut buffer = Vec::new();
            for frame in &frames {
                prop_assert_eq!(&hear(&mut rest, &mut buffer).unwrap(), frame);
            }
            prop_assert!(hear(&mut rest, &mut buffer).is_err());
        }

        #[test]
        fn nonsense_is_an_error_and_costs_nothing(bytes: Vec<u8>) {
            let mut buffer = Vec::new();
            let mut rest = &bytes[..];
            while hear(&mut rest, &mut buffer).is_ok() {}
            prop_assert!(buffer.capacity() <= 2 * bytes.len().max(64));
        }
    }

    #[test]
    fn a_publication_keeps_its_place_its_time_and_its_key() {
        let (clock, encodings) = (Clock::default(), Encodings::default());
        let ago = clock.now().unix_ms - 60_000;
        let position = Position { epoch: Epoch(7), offset: 9 };
        let sent = Publication::new("t".into(), Message::Text("grüße"), &encodings, 0).with_key(Some("k"));
        let sent = sent.placed(position, clock.at_unix_ms(ago));
        let mut bytes = Vec::new();
        say(&mut bytes, &Frame::of(&sent)).unwrap();
        let mut buffer = Vec::new();
        let got = hear(&mut &bytes[..], &mut buffer).unwrap().publication(&clock, &encodings, 0).unwrap();
        assert_eq!((got.topic(), got.key(), got.payload()), ("t", Some("k"), "grüße".as_bytes()));
        assert_eq!((got.epoch(), got.offset(), got.unix_ms(), got.opcode()), (Epoch(7), 9, ago, Opcode::Text));
        let age = clock.nanos() - got.nanos();
        assert!((60_000_000_000..61_000_000_000).contains(&age), "{age}");
    }
}
