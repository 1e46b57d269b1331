//! CPU time as the scheduler counts it: nanoseconds, from the `schedstat` of each thread.
//!
//! `/proc/PID/stat` has ticks of 10 ms, so `schedstat` it is. For a thread that sleeps its figure is exact; for one that
//! runs at this moment it may be late by one scheduler tick. So the server is read while it has nothing to do.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

/// What the scheduler gave, and what it made wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Nanoseconds on a CPU.
    pub used_ns: u64,
    /// Nanoseconds ready to run, while the CPU was somebody else's: over a few percent, a figure by the wall clock is
    /// that of a disturbed machine.
    pub waited_ns: u64,
}

impl CpuTime {
    /// Of the calling thread, late by at most one scheduler tick.
    pub fn of_this_thread() -> io::Result<Self> {
        Self::read("/proc/thread-self/schedstat".as_ref())
    }

    /// Time on a CPU.
    pub fn used(self) -> Duration {
        Duration::from_nanos(self.used_ns)
    }

    /// Time waiting for a CPU.
    pub fn waited(self) -> Duration {
        Duration::from_nanos(self.waited_ns)
    }

    fn read(file: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(file)?;
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, format!("schedstat: {text:?}"));
        Self::parse(&text).ok_or_else(unknown)
    }

    /// Three figures: nanoseconds on a CPU, nanoseconds waiting for one, and time slices.
    fn parse(schedstat: &str) -> Option<Self> {
        let mut fields = schedstat.split_ascii_whitespace();
        let (used, waited, _slices) = (fields.next()?, fields.next()?, fields.next()?);
        let none_left = fields.next().is_none();
        none_left.then_some(Self { used_ns: used.parse().ok()?, waited_ns: waited.parse().ok()? })
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            used_ns: self.used_ns.saturating_sub(earlier.used_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}

impl Add for CpuTime {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { used_ns: self.used_ns + other.used_ns, waited_ns: self.waited_ns + other.waited_ns }
    }
}

/// The times of each thread of a process since that thread's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessTimes {
    by_thread: BTreeMap<u32, CpuTime>,
}

impl ProcessTimes {
    /// Reads all threads of the process `pid`.
    pub fn of(pid: u32) -> io::Result<Self> {
        let mut by_thread = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match CpuTime::read(&entry.path().join("schedstat")) {
                Ok(time) => by_thread.insert(thread, time),
                // The thread ended between the listing and the reading.
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
        }
        Ok(Self { by_thread })
    }

    /// The sum over all threads between `earlier` and this reading. A thread that ended in between is not in it.
    pub fn since(&self, earlier: &Self) -> CpuTime {
        let spent = |(thread, &now): (&u32, &CpuTime)| now - earlier.by_thread.get(thread).copied().unwrap_or_default();
        self.by_thread.iter().map(spent).fold(CpuTime::default(), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn schedstat_gives_time_used_and_time_waited() {
        let parsed = |used_ns, waited_ns| Some(CpuTime { used_ns, waited_ns });
        assert_eq!(CpuTime::parse("12803886 10642592 44\n"), parsed(12_803_886, 10_642_592));
        assert_eq!(CpuTime::parse("0 0 0\n"), parsed(0, 0));
    }

    #[test]
    fn schedstat_of_another_shape_is_refused() {
        for text in ["", "\n", "12", "1 2", "1 2 3 4", "a 2 3", "1 b 3", "-1 2 3"] {
            assert_eq!(CpuTime::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn usage_counts_threads_that_stayed_and_threads_that_came() {
        let time = |used_ns, waited_ns| CpuTime { used_ns, waited_ns };
        let reading = |threads: &[(u32, CpuTime)]| ProcessTimes { by_thread: threads.iter().copied().collect() };
        let earlier = reading(&[(1, time(100, 5)), (2, time(50, 9))]);
        let later = reading(&[(1, time(130, 6)), (3, time(7, 2))]);
        assert_eq!(later.since(&earlier), time(37, 3));
    }

    #[test]
    fn a_busy_thread_shows_in_its_process_and_in_itself() {
        let process = ProcessTimes::of(std::process::id()).unwrap();
        let thread = CpuTime::of_this_thread().unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        std::thread::sleep(Duration::from_millis(1));
        let (process_now, thread_now) = (ProcessTimes::of(std::process::id()), CpuTime::of_this_thread());
        assert!((thread_now.unwrap() - thread).used_ns > 1_000_000);
        assert!(process_now.unwrap().since(&process).used_ns > 1_000_000);
    }
}
