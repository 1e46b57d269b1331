//! What was found out about credentials, for a while, so that those who come back in a storm cost next to nothing. Known by
//! a SHA-256 of the credentials, which are not kept themselves; bounded in bytes.

use std::fmt;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use ring::digest::{Context, SHA256};

use super::identity::Identity;

/// What is kept at most, in bytes.
const BYTES_MAX: u64 = 64 << 20;
/// About how many that will be.
const ITEMS: usize = 64 << 10;

/// What credentials are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these parts, each told from the next.
    #[must_use]
    pub fn of(parts: &[Option<&[u8]>]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            context.update(part.unwrap_or_default());
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[derive(Clone)]
struct Kept {
    identity: Arc<Identity>,
    /// Until when, in seconds since 1970.
    until: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Fingerprint, Kept> for Bytes {
    fn weight(&self, _: &Fingerprint, kept: &Kept) -> u64 {
        kept.identity.bytes() as u64
    }
}

/// Who was found by which credentials.
pub struct Identities(Cache<Fingerprint, Kept, Bytes>);

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}

impl Default for Identities {
    fn default() -> Self {
        Self(Cache::with_weighter(ITEMS, BYTES_MAX, Bytes))
    }
}

impl Identities {
    /// Who was found by these credentials, if that still holds.
    #[must_use]
    pub fn get(&self, credentials: &Fingerprint, now: u64) -> Option<Arc<Identity>> {
        let kept = self.0.get(credentials)?;
        if now < kept.until {
            return Some(kept.identity);
        }
        self.0.remove(credentials);
        None
    }

    /// Keeps it until then, in seconds since 1970.
    pub fn put(&self, credentials: Fingerprint, identity: &Arc<Identity>, until: u64) {
        self.0.insert(credentials, Kept { identity: identity.clone(), until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_ends_in_time_and_is_bounded() {
        let cache = Identities::default();
        let identity = Arc::new(Identity::default());
        let key = |n: u32| Fingerprint::of(&[Some(&n.to_le_bytes())]);
        cache.put(key(0), &identity, 100);
        assert!(cache.get(&key(0), 99).is_some());
        assert!(cache.get(&key(0), 100).is_none() && cache.get(&key(0), 99).is_none(), "it is forgotten then");
        for n in 0..300_000 {
            cache.put(key(n), &identity, u64::MAX);
        }
        assert!(cache.0.weight() <= BYTES_MAX, "{}", cache.0.weight());
        assert!(cache.0.len() > 10_000);
    }

    #[test]
    fn parts_are_told_apart() {
        let a: &[Option<&[u8]>] = &[Some(b"ab"), Some(b"c")];
        for other in [&[Some(&b"a"[..]), Some(b"bc")][..], &[Some(b"ab"), Some(b"c"), None], &[Some(b"abc"), None]] {
            assert_ne!(Fingerprint::of(a), Fingerprint::of(other));
        }
        assert_ne!(Fingerprint::of(&[None]), Fingerprint::of(&[Some(b"")]));
    }
}
