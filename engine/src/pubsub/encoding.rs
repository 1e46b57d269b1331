//! Encodings: what the bytes of a publication look like to a subscriber. Each is built at most once per publication.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::publication::Publication;
use crate::ws::{Opcode, frame};

/// Turns a publication into the payload of the message its subscribers get.
///
/// Raw (the bare payload) is built in; every other client protocol brings its own.
pub trait Encoding: Send + Sync + 'static {
    /// The name in metrics.
    fn name(&self) -> &'static str;

    /// Appends the payload of the message to `out` and tells whether it is text or binary.
    ///
    /// What is appended for [`Opcode::Text`] must be UTF-8.
    fn encode(&self, publication: &Publication, out: &mut Vec<u8>) -> Opcode;
}

/// Names an encoding: [`EncodingId::RAW`], or the n-th one given to the builder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct EncodingId(u8);

impl EncodingId {
    /// The bare payload.
    pub const RAW: Self = Self(0);

    /// The n-th encoding given to `EngineBuilder::encoding`, counted from 0.
    ///
    /// # Panics
    /// With `n` above 254.
    #[must_use]
    pub const fn custom(n: u8) -> Self {
        assert!(n < u8::MAX, "at most 255 encodings");
        Self(n + 1)
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The encodings of an engine.
#[derive(Default)]
pub struct Encodings(Vec<Arc<dyn Encoding>>, AtomicU64);

impl Encodings {
    pub(crate) fn push(&mut self, encoding: Arc<dyn Encoding>) {
        assert!(self.0.len() < 255, "at most 255 encodings");
        self.0.push(encoding);
    }

    /// How many there are, raw included.
    pub(crate) fn len(&self) -> usize {
        self.0.len() + 1
    }

    /// How often one of them has panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    pub(crate) fn contains(&self, id: EncodingId) -> bool {
        id.index() < self.len()
    }

    /// The whole frame of a publication in one of the encodings that are not raw.
    pub(crate) fn frame(&self, id: EncodingId, publication: &Publication) -> Bytes {
        let mut payload = Vec::with_capacity(publication.payload().len() + 128);
        let encoding = &self.0[id.index() - 1];
        // An encoding is the program's code: if it fails, its subscribers get an empty message, and the shard goes on.
        let opcode =
            catch_unwind(AssertUnwindSafe(|| encoding.encode(publication, &mut payload))).unwrap_or_else(|_| {
                self.1.fetch_add(1, Ordering::Relaxed);
                payload.clear();
                Opcode::Binary
            });
        let mut bytes = Vec::with_capacity(frame::header_len(payload.len()) + payload.len());
        frame::put_data(&mut bytes, opcode, &payload);
        bytes.into()
    }
}

impl fmt::Debug for Encodings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entry(&"raw").entries(self.0.iter().map(|encoding| encoding.name())).finish()
    }
}
