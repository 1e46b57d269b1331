//! What a worker costs: CPU time of its thread, memory of its process.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// CPU time of a thread, as the scheduler counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Nanoseconds on a CPU.
    pub used_ns: u64,
    /// Nanoseconds ready to run while the CPU was somebody else's.
    pub waited_ns: u64,
}

impl CpuTime {
    /// What was used since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            used_ns: self.used_ns.saturating_sub(earlier.used_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }

    /// Three figures: nanoseconds on a CPU, nanoseconds waiting for one, and time slices.
    fn parse(schedstat: &str) -> Option<Self> {
        let mut fields = schedstat.split_ascii_whitespace().map(str::parse);
        let (Some(Ok(used_ns)), Some(Ok(waited_ns)), Some(Ok(_)), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return None;
        };
        Some(Self { used_ns, waited_ns })
    }
}

/// Reads the CPU time of the thread that made it; where the kernel does not tell, all figures are 0.
#[derive(Debug)]
pub struct OwnCpu {
    schedstat: Option<File>,
}

impl OwnCpu {
    /// For the calling thread.
    pub fn of_this_thread() -> Self {
        Self { schedstat: File::open("/proc/thread-self/schedstat").ok() }
    }

    /// So far, late by at most a tick of the scheduler.
    pub fn read(&self) -> CpuTime {
        let mut text = [0; 96];
        let read = self.schedstat.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        std::str::from_utf8(&text[..read]).ok().and_then(CpuTime::parse).unwrap_or_default()
    }
}

/// The greatest resident memory of this process so far, in bytes; 0 where the kernel does not tell.
pub fn peak_rss_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_of_another_shape_is_refused() {
        assert_eq!(CpuTime::parse("12 34 5\n"), Some(CpuTime { used_ns: 12, waited_ns: 34 }));
        for text in ["", "\n", "12", "1 2", "1 2 3 4", "a 2 3", "1 b 3", "-1 2 3"] {
            assert_eq!(CpuTime::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn this_thread_uses_time_and_this_process_memory() {
        let cpu = OwnCpu::of_this_thread();
        let (first, deadline) = (cpu.read(), std::time::Instant::now() + std::time::Duration::from_secs(20));
        while cpu.read().since(first).used_ns == 0 {
            assert!(std::time::Instant::now() < deadline, "no CPU time in 20 s of work");
        }
        assert!(peak_rss_bytes() > 1 << 20);
    }
}
