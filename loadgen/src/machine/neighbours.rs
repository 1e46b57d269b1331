//! Who else was on our cores: their busy time, less what our own processes used.
//!
//! Busy time comes in clock ticks (10 ms), so a share over half a second is known to about 2 %. A thread's time counts for
//! the core it was last seen on; one that moved, for both in halves. So the sum over all cores holds better than one core.

use std::collections::BTreeMap;
use std::time::Instant;
use std::{fs, io};

use super::procfs::{self, CoreTicks};
use super::sysconf;
use crate::failure::Failure;

/// Looks at some cores, from one moment to another.
#[derive(Debug)]
pub struct Neighbours {
    cores: Vec<usize>,
    own: Vec<u32>,
    begun: Instant,
    earlier: Reading,
}

/// What a core was used for that was not ours, as shares of the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CoreShare {
    /// The core.
    pub core: usize,
    /// By other programs, from 0. Interrupts are not in it: whose they are is not known.
    pub others: f64,
    /// By interrupts, soft ones (the network's) included, whoever caused them.
    pub interrupts: f64,
    /// By other machines of the same hypervisor.
    pub steal: f64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Reading {
    cores: BTreeMap<usize, CoreTicks>,
    /// By process and thread: nanoseconds used, and the core it ran on last.
    own: BTreeMap<(u32, u32), (u64, usize)>,
}

impl Neighbours {
    /// Begins to look at `cores`. Our own are the processes `own_pids` with all their descendants.
    ///
    /// # Errors
    /// A [`Failure::Failed`] if `/proc` cannot be read.
    pub fn begin(cores: &[usize], own_pids: &[u32]) -> Result<Self, Failure> {
        let (cores, own) = (cores.to_vec(), own_pids.to_vec());
        let earlier = Reading::take(&own).map_err(|error| unreadable(&error))?;
        Ok(Self { cores, own, begun: Instant::now(), earlier })
    }

    /// The shares since then, one entry for each core that exists, in the order they were asked for.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn end(&self) -> Result<Vec<CoreShare>, Failure> {
        let now = Reading::take(&self.own).map_err(|error| unreadable(&error))?;
        let wall_ns = self.begun.elapsed().as_nanos() as f64;
        Ok(now.since(&self.earlier, &self.cores, wall_ns, sysconf::tick_ns()))
    }
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::failed(format!("who else uses the cores cannot be read from /proc: {error}"))
}

impl Reading {
    fn take(own: &[u32]) -> io::Result<Self> {
        let parents = procfs::processes()?;
        let mut threads = BTreeMap::new();
        for pid in own.iter().flat_map(|pid| procfs::tree(*pid, &parents)) {
            for (thread, time) in procfs::threads(pid)?.unwrap_or_default() {
                if let Some(stat) = procfs::thread_stat(pid, thread)? {
                    threads.insert((pid, thread), (time.used_ns, stat.core));
                }
            }
        }
        Ok(Self { cores: procfs::cores(&fs::read_to_string("/proc/stat")?), own: threads })
    }

    fn since(&self, earlier: &Self, cores: &[usize], wall_ns: f64, tick_ns: u64) -> Vec<CoreShare> {
        let own = self.own_by_core(earlier);
        let share = |core: &usize| {
            let (now, before) = (self.cores.get(core)?, earlier.cores.get(core)?);
            let ticks = |of: fn(&CoreTicks) -> u64| (of(now).saturating_sub(of(before)) * tick_ns) as f64;
            let others_ns = ticks(|core| core.programs) - own.get(core).copied().unwrap_or(0.0);
            let share = |ns: f64| if wall_ns > 0.0 { (ns / wall_ns).clamp(0.0, 1.0) } else { 0.0 };
            Some(CoreShare {
                core: *core,
                others: share(others_ns),
                interrupts: share(ticks(|core| core.interrupts)),
                steal: share(ticks(|core| core.steal)),
            })
        };
        cores.iter().filter_map(share).collect()
    }

    /// What our own threads used on each core, in nanoseconds.
    fn own_by_core(&self, earlier: &Self) -> BTreeMap<usize, f64> {
        let mut by_core = BTreeMap::new();
        for (thread, (used_ns, core)) in &self.own {
            let (before_ns, before_core) = earlier.own.get(thread).copied().unwrap_or((0, *core));
            let half = used_ns.saturating_sub(before_ns) as f64 / 2.0;
            *by_core.entry(*core).or_default() += half;
            *by_core.entry(before_core).or_default() += half;
        }
        by_core
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TICK: u64 = 10_000_000;
    const SECOND: f64 = 1e9;

    /// Own threads are given with the nanoseconds used and the core.
    fn reading(stat: &str, own: &[(u32, u64, usize)]) -> Reading {
        let own = own.iter().map(|&(thread, used_ns, core)| ((1, thread), (used_ns, core)));
        Reading { cores: procfs::cores(stat), own: own.collect() }
    }

    #[test]
    fn what_is_ours_is_taken_off_the_core_it_ran_on() {
        let before = reading("cpu0 100 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 5", &[(1, 0, 0)]);
        let own = [(1, 500_000_000, 0), (2, 200_000_000, 1)];
        let after = reading("cpu0 150 0 20 0 0 3 7 0\ncpu1 10 10 10 0 0 0 0 15", &own);
        let shares = after.since(&before, &[1, 0, 7], SECOND, TICK);
        let expected = [
            CoreShare { core: 1, others: 0.1, interrupts: 0.0, steal: 0.1 },
            CoreShare { core: 0, others: 0.2, interrupts: 0.1, steal: 0.0 },
        ];
        assert_eq!(shares.len(), 2);
        for (share, expected) in shares.iter().zip(expected) {
            let is_near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            assert!(share.core == expected.core && is_near(share.others, expected.others), "{share:?}");
            assert!(
                is_near(share.interrupts, expected.interrupts) && is_near(share.steal, expected.steal),
                "{share:?}"
            );
        }
    }

    #[test]
    fn a_thread_that_moved_counts_for_both_cores() {
        let before = reading("cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0", &[(1, 0, 0)]);
        let after = reading("cpu0 50 0 0 0 0 0 0 0\ncpu1 50 0 0 0 0 0 0 0", &[(1, 1_000_000_000, 1)]);
        assert!(after.since(&before, &[0, 1], SECOND, TICK).iter().all(|share| share.others == 0.0));
    }

    proptest! {
        #[test]
        fn shares_lie_between_none_and_all(busy in 0_u64..1000, own in 0_u64..10_000_000_000, wall in 0.0..1e10) {
            let before = reading("cpu0 0 0 0 0 0 0 0 0", &[]);
            let after = reading(&format!("cpu0 {busy} 0 0 0 0 0 {busy} {busy}"), &[(1, own, 0)]);
            let share = after.since(&before, &[0], wall, TICK)[0];
            for share in [share.others, share.interrupts, share.steal] {
                prop_assert!((0.0..=1.0).contains(&share));
            }
        }
    }

    #[test]
    fn this_machine_s_cores_can_be_looked_at() {
        let neighbours = Neighbours::begin(&[0], &[std::process::id()]).unwrap();
        assert!(neighbours.earlier.own.keys().any(|(pid, _)| *pid == std::process::id()));
        let shares = neighbours.end().unwrap();
        assert_eq!(shares.iter().map(|share| share.core).collect::<Vec<_>>(), [0]);
    }
}
