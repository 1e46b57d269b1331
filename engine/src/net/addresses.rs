//! How many connections each client address has, over all shards and the control plane: what `connections_per_ip_max`
//! bounds.
//!
//! Counted also while there is no limit, so that one set later meets true figures. An address is there only while it has a
//! connection, so that the table is bounded by `connections_max`. Who has entered must leave with the same address, once.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Parts with a lock of their own: shards seldom meet.
const PARTS: usize = 64;
/// A part with less room than this is not made smaller.
const ROOM_MIN: usize = 64;

type Part = HashMap<u128, u32, RandomState>;

/// Connections by client address.
#[derive(Debug)]
pub struct Addresses {
    parts: Vec<Mutex<Part>>,
    /// Seeded at random, so that nobody can choose addresses that collide.
    hasher: RandomState,
    prefix_bits: u8,
}

impl Addresses {
    /// Nobody; of IPv6 addresses so many leading bits count.
    #[must_use]
    pub fn new(prefix_bits: u8) -> Self {
        let hasher = RandomState::new();
        let parts = (0..PARTS).map(|_| Mutex::new(Part::with_hasher(hasher.clone()))).collect();
        Self { parts, hasher, prefix_bits: prefix_bits.clamp(1, 128) }
    }

    /// Counts another connection of an address, unless it has `max` already; 0 is without limit.
    #[must_use]
    pub fn enter(&self, ip: IpAddr, max: usize) -> bool {
        let (key, part) = self.find(ip);
        let mut part = part.lock();
        let count = part.entry(key).or_insert(0);
        if max > 0 && *count as usize >= max {
            return false;
        }
        *count += 1;
        true
    }

    /// A counted connection has ended.
    pub fn leave(&self, ip: IpAddr) {
        let (key, part) = self.find(ip);
        let mut part = part.lock();
        let Some(count) = part.get_mut(&key) else {
            debug_assert!(false, "{ip} leaves without having entered");
            return;
        };
        *count -= 1;
        if *count == 0 {
            part.remove(&key);
            // After a storm of many addresses their room is given back.
            if part.capacity() > ROOM_MIN && part.len() < part.capacity() / 8 {
                let room = (2 * part.len()).max(ROOM_MIN / 2);
                part.shrink_to(room);
            }
        }
    }

    /// Whether two addresses are counted as one.
    #[must_use]
    pub fn is_same(&self, one: IpAddr, other: IpAddr) -> bool {
        self.key(one) == self.key(other)
    }

    /// How many addresses have a connection.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().len()).sum()
    }

    fn find(&self, ip: IpAddr) -> (u128, &Mutex<Part>) {
        let key = self.key(ip);
        let part = self.hasher.hash_one(key) >> 32;
        (key, &self.parts[part as usize % PARTS])
    }

    /// IPv4 as the IPv6 address it maps to, whole; of IPv6 only the prefix.
    fn key(&self, ip: IpAddr) -> u128 {
        match ip.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => prefix(ip, self.prefix_bits),
        }
    }
}

fn prefix(ip: Ipv6Addr, bits: u8) -> u128 {
    ip.to_bits() & (u128::MAX << (128 - u32::from(bits)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_more_than_the_limit_is_refused_until_one_leaves() {
        let addresses = Addresses::new(64);
        assert!(addresses.enter(ip("10.0.0.1"), 2) && addresses.enter(ip("10.0.0.1"), 2));
        assert!(!addresses.enter(ip("10.0.0.1"), 2));
        assert!(addresses.enter(ip("10.0.0.2"), 2), "another address is not concerned");
        assert!(addresses.enter(ip("10.0.0.1"), 0), "without limit");
        addresses.leave(ip("10.0.0.1"));
        assert!(!addresses.enter(ip("10.0.0.1"), 2), "it was counted beyond the limit, too");
        addresses.leave(ip("10.0.0.1"));
        assert!(addresses.enter(ip("10.0.0.1"), 2));
        assert_eq!(addresses.len(), 2);
    }

    #[test]
    fn an_address_refused_at_once_leaves_nothing_behind() {
        let addresses = Addresses::new(64);
        assert!(addresses.enter(ip("10.0.0.1"), 1));
        assert!(!addresses.enter(ip("::ffff:10.0.0.1"), 1), "the same address, written as IPv6");
        addresses.leave(ip("::ffff:10.0.0.1"));
        assert_eq!(addresses.len(), 0);
    }

    #[test]
    fn ipv6_counts_by_prefix() {
        let addresses = Addresses::new(56);
        assert!(addresses.is_same(ip("2001:db8:1:aa00::1"), ip("2001:db8:1:aaff:9::2")));
        assert!(!addresses.is_same(ip("2001:db8:1:aa00::1"), ip("2001:db8:1:ab00::1")));
        assert!(!Addresses::new(128).is_same(ip("2001:db8::1"), ip("2001:db8::2")));
        assert!(Addresses::new(1).is_same(ip("2001:db8::1"), ip("7000::")));
        // A short prefix of zeros does not swallow IPv4.
        assert!(!Addresses::new(1).is_same(ip("::1"), ip("10.0.0.1")));
        assert!(!Addresses::new(64).is_same(ip("10.0.0.1"), ip("10.0.0.2")));
    }

    #[test]
    fn room_is_given_back_after_a_storm() {
        let addresses = Addresses::new(128);
        let all = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..100_000 {
            assert!(addresses.enter(all(n), 1));
        }
        for n in 0..100_000 {
            addresses.leave(all(n));
        }
        let room: usize = addresses.parts.iter().map(|part| part.lock().capacity()).sum();
        assert!(room <= 2 * PARTS * ROOM_MIN, "{room}");
        assert_eq!(addresses.len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_counts_as_a_plain_map_does(
            steps in prop::collection::vec((0_u8..6, any::<bool>()), 0..200),
            max in 0_usize..4,
        ) {
            let (addresses, mut model) = (Addresses::new(64), BTreeMap::<u8, usize>::new());
            for (host, enters) in steps {
                let ip = IpAddr::from([10, 0, 0, host]);
                let count = model.entry(host).or_default();
                if enters {
                    let fits = max == 0 || *count < max;
                    prop_assert_eq!(addresses.enter(ip, max), fits);
                    *count += usize::from(fits);
                } else if *count > 0 {
                    addresses.leave(ip);
                    *count -= 1;
                }
            }
            prop_assert_eq!(addresses.len(), model.values().filter(|count| **count > 0).count());
        }
    }
}
