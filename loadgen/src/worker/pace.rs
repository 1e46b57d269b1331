//! When connections are made, and from which local address. Sans-IO.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// Connections of one worker that are to be made, in order, not faster than asked for.
#[derive(Debug)]
pub struct Pace {
    waiting: VecDeque<u32>,
    /// Begun and neither opened nor failed.
    under_way: usize,
    under_way_max: usize,
    /// Between two of this worker; 0 for no limit.
    every_ns: f64,
    begin_ns: u64,
    begun: u64,
}

impl Pace {
    /// The share of one of `members` workers in `rate_per_s` (0: no limit) and in `concurrency`.
    pub fn new(rate_per_s: f64, concurrency: u32, members: u32) -> Self {
        let every_ns = if rate_per_s > 0.0 { 1e9 * f64::from(members) / rate_per_s } else { 0.0 };
        let under_way_max = (concurrency / members.max(1)).max(1) as usize;
        Self { waiting: VecDeque::new(), under_way: 0, under_way_max, every_ns, begin_ns: 0, begun: 0 }
    }

    /// These are to be connected from `begin_ns` on.
    pub fn begin(&mut self, seats: impl IntoIterator<Item = u32>, begin_ns: u64) {
        if self.is_idle() {
            (self.begin_ns, self.begun) = (begin_ns, 0);
        }
        self.waiting.extend(seats);
    }

    /// Another attempt, after the others.
    pub fn again(&mut self, seat: u32) {
        self.waiting.push_back(seat);
    }

    /// The next that may be connected now.
    pub fn next(&mut self, now_ns: u64) -> Option<u32> {
        if self.due_ns() > now_ns {
            return None;
        }
        let seat = self.waiting.pop_front()?;
        self.begun += 1;
        self.under_way += 1;
        Some(seat)
    }

    /// When the next may be connected; `u64::MAX` if that is not a question of time.
    pub fn due_ns(&self) -> u64 {
        if self.waiting.is_empty() || self.under_way >= self.under_way_max {
            return u64::MAX;
        }
        self.begin_ns + (self.begun as f64 * self.every_ns) as u64
    }

    /// One of those begun has been opened, or has failed.
    pub fn settled(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Nothing waits and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    /// Forgets those that wait.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }
}

/// Local addresses to connect from.
#[derive(Debug)]
pub struct Sources {
    given: Vec<IpAddr>,
    next: usize,
    /// The last byte of the 127.0.0.x in use; 0 as long as the system may choose.
    loopback: u8,
    may_change: bool,
}

impl Sources {
    /// `given` in turn, beginning with another one in each of the workers. If there are none, what the system chooses,
    /// and for a target on IPv4 loopback one 127.0.0.x after the other as ports run out.
    pub fn new(given: &[IpAddr], target: IpAddr, member: u32) -> Self {
        let may_change = given.is_empty() && matches!(target, IpAddr::V4(address) if address.is_loopback());
        Self { given: given.to_vec(), next: member as usize, loopback: 0, may_change }
    }

    /// For the next connection.
    pub fn choose(&mut self) -> Option<IpAddr> {
        if self.given.is_empty() {
            return (self.loopback > 0).then_some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, self.loopback)));
        }
        self.next += 1;
        self.given.get((self.next - 1) % self.given.len()).copied()
    }

    /// A connection could not be made for this reason; returns whether another address is worth a try.
    pub fn failed(&mut self, error: &io::Error) -> bool {
        // EAGAIN of connect says the same.
        let kinds = [io::ErrorKind::AddrNotAvailable, io::ErrorKind::AddrInUse, io::ErrorKind::WouldBlock];
        let out_of_ports = kinds.contains(&error.kind());
        if !out_of_ports || !self.may_change || self.loopback == 254 {
            return false;
        }
        // 127.0.0.1 is what the system chose.
        self.loopback = self.loopback.max(1) + 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn connections_come_at_their_rate_and_not_too_many_at_once(
            rate in 1_u32..5_000,
            members in 1_u32..4,
            concurrency in 1_u32..50,
            settle_every in 1_usize..5,
        ) {
            let mut pace = Pace::new(f64::from(rate), concurrency, members);
            pace.begin(0..200, 1_000);
            let (mut now_ns, mut under_way, mut seats) = (1_000, 0, Vec::new());
            for turn in 0.. {
                while let Some(seat) = pace.next(now_ns) {
                    seats.push(seat);
                    under_way += 1;
                    prop_assert!(under_way <= (concurrency / members).max(1));
                    let due = (now_ns - 1_000) as f64 * f64::from(rate) / f64::from(members) / 1e9;
                    prop_assert!(seats.len() as f64 <= due + 1.001);
                }
                if under_way > 0 && turn % settle_every == 0 {
                    pace.settled();
                    under_way -= 1;
                }
                if pace.is_idle() {
                    break;
                }
                now_ns = if pace.due_ns() == u64::MAX { now_ns } else { pace.due_ns().max(now_ns) };
            }
            prop_assert_eq!(seats, (0..200).collect::<Vec<_>>());
        }
    }

    #[test]
    fn given_addresses_are_used_in_turn_and_kept() {
        let given: Vec<IpAddr> = ["127.0.0.2", "127.0.0.3"].map(|text| text.parse().unwrap()).into();
        let mut sources = Sources::new(&given, "127.0.0.1".parse().unwrap(), 1);
        assert_eq!(
            [sources.choose(), sources.choose(), sources.choose()],
            [Some(given[1]), Some(given[0]), Some(given[1])]
        );
        assert!(!sources.failed(&io::ErrorKind::AddrNotAvailable.into()));
    }

    #[test]
    fn loopback_goes_on_to_the_next_address_when_ports_run_out_and_only_then() {
        let mut sources = Sources::new(&[], "127.0.0.1".parse().unwrap(), 0);
        assert_eq!(sources.choose(), None);
        assert!(!sources.failed(&io::ErrorKind::ConnectionRefused.into()));
        assert!(sources.failed(&io::ErrorKind::AddrNotAvailable.into()));
        assert_eq!(sources.choose(), Some("127.0.0.2".parse().unwrap()));
        assert!((3..=254).all(|_| sources.failed(&io::ErrorKind::AddrNotAvailable.into())));
        assert!(!sources.failed(&io::ErrorKind::AddrNotAvailable.into()));
        let mut other = Sources::new(&[], "192.0.2.1".parse().unwrap(), 0);
        assert!(!other.failed(&io::ErrorKind::AddrNotAvailable.into()));
    }
}
