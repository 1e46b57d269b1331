//! What is published: payload, place in its topic's order, and its bytes on the wire, made once per encoding, and compressed
//! once per encoding.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::encoding::{EncodingId, Encodings};
use super::form::{Form, Frames, is_within};
use crate::id::ConnectionId;
use crate::ws::{Message, Opcode, frame};

/// One life of a topic: offsets of different epochs cannot be compared. Shown in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl FromStr for Epoch {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// A place in a topic's order: everything up to and including `offset` has been seen. Shown as `EPOCH:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The topic's life.
    pub epoch: Epoch,
    /// The last publication seen; 0 before the first.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// The text is not `EPOCH:OFFSET`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPosition;

impl fmt::Display for BadPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a position is EPOCH:OFFSET, as given in an earlier answer, for example 5f3a91c2:42")
    }
}

impl std::error::Error for BadPosition {}

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, offset) = text.split_once(':').ok_or(BadPosition)?;
        Ok(Self { epoch: epoch.parse().map_err(|_| BadPosition)?, offset: offset.parse().map_err(|_| BadPosition)? })
    }
}

/// A moment on the engine's clocks, given from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Monotonic, in nanoseconds since the engine started.
    pub nanos: u64,
    /// Wall clock, in milliseconds since 1970.
    pub unix_ms: u64,
}

/// What a publisher gets back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The topic's life.
    pub epoch: Epoch,
    /// The place the publication was given; the first of an epoch is 1.
    pub offset: u64,
    /// How many subscribers the topic had when the publication was sequenced.
    pub subscribers: u32,
}

/// A message with its place in a topic's order. Shared by history, inboxes and queues; never copied.
pub struct Publication {
    topic: Arc<str>,
    epoch: Epoch,
    offset: u64,
    /// When it was sequenced.
    time: Now,
    opcode: Opcode,
    header: u8,
    /// The raw frame: header, then payload.
    frame: Bytes,
    key: Option<Box<str>>,
    except: Option<ConnectionId>,
    /// The frames of the other encodings, each built by whoever needs it first.
    encoded: Box<[OnceLock<Bytes>]>,
    /// Whether it is long enough to be compressed. Said once, so that which frame a subscriber gets never changes, though
    /// settings may while it waits in some queue.
    deflatable: bool,
    /// The frames that were compressed, made likewise.
    deflated: OnceLock<Box<Deflated>>,
    /// Shards that have not finished their fan-out.
    shards_left: AtomicU32,
}

impl Publication {
    /// A message on its way to the sequencer. The payload is copied once, behind the header of its raw frame. It is
    /// compressed for those who want that if it has so many bytes.
    pub(crate) fn new(topic: Arc<str>, message: Message<'_>, encodings: &Encodings, deflate_min_bytes: usize) -> Self {
        let payload = message.payload();
        let header = frame::header_len(payload.len());
        let mut bytes = Vec::with_capacity(header + payload.len());
        frame::put_data(&mut bytes, message.opcode(), payload);
        Self {
            topic,
            epoch: Epoch(0),
            offset: 0,
            time: Now::default(),
            opcode: message.opcode(),
            header: header as u8,
            frame: bytes.into(),
            key: None,
            except: None,
            encoded: (1..encodings.len()).map(|_| OnceLock::new()).collect(),
            deflatable: payload.len() >= deflate_min_bytes,
            deflated: OnceLock::new(),
            shards_left: AtomicU32::new(0),
        }
    }

    /// Names what it is the newest state of.
    pub(crate) fn with_key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(Into::into);
        self
    }

    /// Leaves one connection out.
    pub(crate) fn without(mut self, connection: Option<ConnectionId>) -> Self {
        self.except = connection;
        self
    }

    /// Gives it its place. Called once, under the topic's lock, before it is shared.
    pub(crate) fn sequence(&mut self, epoch: Epoch, offset: u64, time: Now, shards: u32) {
        self.epoch = epoch;
        self.offset = offset;
        self.time = time;
        *self.shards_left.get_mut() = shards;
    }

    /// Gives it the place it was given elsewhere; on how many shards it is to be fanned out is said when it is followed.
    pub(crate) fn placed(mut self, position: Position, time: Now) -> Self {
        (self.epoch, self.offset, self.time) = (position.epoch, position.offset, time);
        self
    }

    /// Before it is shared: on how many shards it is to be fanned out.
    pub(crate) fn spread(&mut self, shards: u32) {
        *self.shards_left.get_mut() = shards;
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The life of the topic it belongs to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its place in the topic's order; the first of an epoch is 1.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// When it was sequenced, in milliseconds since 1970.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        self.time.unix_ms
    }

    /// When it was sequenced, in nanoseconds since the engine started.
    pub(crate) fn nanos(&self) -> u64 {
        self.time.nanos
    }

    /// Text or binary, as it was published.
    #[must_use]
    pub fn opcode(&self) -> Opcode {
        self.opcode
    }

    /// The payload, as it was published.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.frame[usize::from(self.header)..]
    }

    /// What it is the newest state of, if the publisher said so.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The connection that shall not get it.
    pub(crate) fn except(&self) -> Option<ConnectionId> {
        self.except
    }

    /// What the publication costs in inboxes and histories: raw frame and key, in bytes.
    pub(crate) fn weight(&self) -> usize {
        self.frame.len() + self.key.as_ref().map_or(0, |key| key.len())
    }

    /// What somebody keeps in memory who keeps it to send this form, which has been built: where that is compressed, the raw
    /// frame stays with it. The same from then on.
    pub(crate) fn held(&self, form: Form) -> usize {
        self.encoded(form).len().max(self.weight())
    }

    /// The frame of a form; built at its first use. It is the same from then on, whatever `frames` says.
    pub(crate) fn encode(&self, form: Form, frames: &mut Frames<'_>) -> &Bytes {
        let id = form.encoding;
        let plain = match self.encoded.get(id.index().wrapping_sub(1)) {
            None => &self.frame,
            Some(slot) => slot.get_or_init(|| frames.encodings.frame(id, self)),
        };
        if !self.is_deflated(form, plain) {
            return plain;
        }
        let mut place = &self.deflated;
        loop {
            let deflated = place.get_or_init(|| Box::new(Deflated::of(id, plain, frames)));
            if deflated.encoding == id {
                return &deflated.frame;
            }
            place = &deflated.next;
        }
    }

    /// The frame of a form that has been built; the raw frame otherwise.
    pub(crate) fn encoded(&self, form: Form) -> &Bytes {
        let id = form.encoding;
        let plain = self.encoded.get(id.index().wrapping_sub(1)).and_then(OnceLock::get).unwrap_or(&self.frame);
        if !self.is_deflated(form, plain) {
            return plain;
        }
        let all = std::iter::successors(self.deflated.get(), |deflated| deflated.next.get());
        let mut own = all.filter(|deflated| deflated.encoding == id);
        own.next().map_or(plain, |deflated| &deflated.frame)
    }

    /// Whether a subscriber gets the compressed frame (which may be the plain one, if that is smaller).
    fn is_deflated(&self, form: Form, plain: &[u8]) -> bool {
        form.window.is_some_and(|window| self.deflatable && is_within(window, frame::split(plain).1.len()))
    }

    /// A shard has reached all its subscribers; true for the last one.
    pub(crate) fn shard_done(&self) -> bool {
        self.shards_left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// A publication's frame in one encoding, compressed, or the plain one if that is smaller; and behind it those of others,
/// in the order they were wanted.
struct Deflated {
    encoding: EncodingId,
    frame: Bytes,
    next: OnceLock<Box<Self>>,
}

impl Deflated {
    fn of(encoding: EncodingId, plain: &Bytes, frames: &mut Frames<'_>) -> Self {
        let (opcode, payload) = frame::split(plain);
        let deflated = frames.deflater.frame(opcode, payload, frames.metrics);
        Self { encoding, frame: deflated.map_or_else(|| plain.clone(), Bytes::from), next: OnceLock::new() }
    }
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{} ({} bytes)", self.topic, self.epoch, self.offset, self.payload().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_its_text() {
        let position = Position { epoch: Epoch(0xfeed_beef), offset: 42 };
        assert_eq!(position.to_string(), "feedbeef:42");
        assert_eq!("feedbeef:42".parse(), Ok(position));
        for bad in ["", "1", ":", "x:1", "1:x", "1:-1", "1:2:3"] {
            assert_eq!(bad.parse::<Position>(), Err(BadPosition), "{bad}");
        }
    }

    #[test]
    fn the_payload_is_kept_once_behind_its_header() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let publication = Publication::new("t".into(), Message::Binary(&payload), &Encodings::default(), 0);
            assert_eq!(publication.payload(), payload);
            assert_eq!(publication.encoded(Form::default()).len(), publication.weight());
        }
    }
}
