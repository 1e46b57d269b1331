//! What the server's process uses: CPU time and memory of it and of all its descendants.
//!
//! CPU time is that of the scheduler, thread by thread, in nanoseconds. What ended in between (threads, children) is missed
//! there, but not by the coarser clock ticks of the processes, so those bound it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use std::{fs, io};

use super::procfs::{self, CpuTime, Stat};
use super::sysconf;
use crate::failure::Failure;
use crate::record::ServerUsage;

/// Watches one server's process and its descendants.
#[derive(Debug)]
pub struct ServerProbe {
    pid: u32,
    started: u64,
    command: Vec<String>,
    rss_before_bytes: u64,
    begun: Option<(Instant, Reading)>,
}

/// The processes at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Reading {
    processes: BTreeMap<u32, Process>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Process {
    stat: Stat,
    threads: BTreeMap<u32, CpuTime>,
    /// Pages that it has written to.
    memory_pages: u64,
}

impl ServerProbe {
    /// Begins to watch the process `pid`; what memory it has now is what it has before the first connection.
    ///
    /// # Errors
    /// A [`Failure::Usage`] if there is no such process, a [`Failure::Failed`] if it cannot be looked at.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let nobody =
            || Failure::usage(format!("server.pid (--server-pid) = {pid}: there is no process of that number"));
        let stat = procfs::stat(pid).map_err(|error| unreadable(pid, &error))?;
        let stat = stat.filter(|stat| !stat.is_dead).ok_or_else(nobody)?;
        let mut probe = Self {
            pid,
            started: stat.started,
            command: procfs::command_of(pid).unwrap_or_default(),
            rss_before_bytes: 0,
            begun: None,
        };
        probe.rss_before_bytes = probe.read()?.rss_bytes();
        Ok(probe)
    }

    /// Its command line, word by word.
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// The measured time begins.
    ///
    /// # Errors
    /// A [`Failure::Failed`] if the process has ended or cannot be looked at.
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.begun = Some((Instant::now(), self.read()?));
        Ok(())
    }

    /// Whether [`Self::begin`] was called, and [`Self::end`] not yet.
    pub fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// The measured time ends: what was used since it began (or nothing but memory, if it never did). The caller knows
    /// the deliveries: `cpu_per_delivery_ns` is 0.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn end(&mut self) -> Result<ServerUsage, Failure> {
        let now = self.read()?;
        let (begun, earlier) = self.begun.take().unwrap_or_else(|| (Instant::now(), now.clone()));
        let wall_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        Ok(ServerUsage {
            wall_ns,
            rss_before_bytes: self.rss_before_bytes,
            kernel_tcp_bytes: procfs::tcp_pages(&sockstat).unwrap_or(0) * sysconf::page_bytes(),
            ..now.since(&earlier, sysconf::tick_ns())
        })
    }

    fn read(&self) -> Result<Reading, Failure> {
        let gone = || Failure::failed(format!("the server's process {} ended during the run", self.pid));
        let processes = procfs::processes().map_err(|error| unreadable(self.pid, &error))?;
        let mut reading = Reading::default();
        for pid in procfs::tree(self.pid, &processes) {
            if let Some(process) = Process::read(pid).map_err(|error| unreadable(pid, &error))? {
                reading.processes.insert(pid, process);
            }
        }
        let root = reading.processes.get(&self.pid).filter(|root| root.stat.started == self.started);
        root.filter(|root| !root.stat.is_dead).ok_or_else(gone)?;
        Ok(reading)
    }
}

fn unreadable(pid: u32, error: &io::Error) -> Failure {
    Failure::failed(format!("the server's process {pid} (server.pid, --server-pid) cannot be looked at: {error}"))
}

impl Process {
    /// None if it is gone.
    fn read(pid: u32) -> io::Result<Option<Self>> {
        let (threads, stat, pages) = (procfs::threads(pid)?, procfs::stat(pid)?, procfs::anonymous_pages(pid)?);
        let (Some(threads), Some(stat), Some(memory_pages)) = (threads, stat, pages) else {
            return Ok(None);
        };
        Ok(Some(Self { stat, threads, memory_pages }))
    }
}

impl Reading {
    fn rss_bytes(&self) -> u64 {
        self.processes.values().map(|process| process.memory_pages).sum::<u64>() * sysconf::page_bytes()
    }

    /// What was used since `earlier`; clock and kernel are the caller's.
    fn since(&self, earlier: &Self, tick_ns: u64) -> ServerUsage {
        let mut usage = ServerUsage { rss_bytes: self.rss_bytes(), ..ServerUsage::default() };
        let mut by_scheduler = CpuTime::default();
        let mut children_ticks = 0;
        for (pid, process) in &self.processes {
            let before = earlier.processes.get(pid).filter(|before| before.stat.started == process.stat.started);
            let before = before.cloned().unwrap_or_default();
            for (thread, time) in &process.threads {
                let used = time.since(before.threads.get(thread).copied().unwrap_or_default());
                by_scheduler.used_ns += used.used_ns;
                by_scheduler.waited_ns += used.waited_ns;
            }
            let ticks = |of: fn(&Stat) -> u64| of(&process.stat).saturating_sub(of(&before.stat));
            usage.user_ns += ticks(|stat| stat.user_ticks) * tick_ns;
            usage.system_ns += ticks(|stat| stat.system_ticks) * tick_ns;
            children_ticks += ticks(|stat| stat.children_ticks);
            usage.threads += process.threads.len() as u64;
        }
        // What ended children had used before `earlier` is no news.
        let children_ns = children_ticks.saturating_sub(self.ticks_of_the_ended(earlier)) * tick_ns;
        let by_ticks = usage.user_ns + usage.system_ns + children_ns;
        // User and system are rounded for themselves, at both ends.
        let rounding_ns = 4 * tick_ns * self.processes.len() as u64;
        let is_bounded = by_ticks <= by_scheduler.used_ns + rounding_ns;
        usage.cpu_ns = if is_bounded { by_scheduler.used_ns } else { by_ticks };
        usage.waited_ns = by_scheduler.waited_ns;
        usage
    }

    /// What processes that were there `earlier` and are gone had used until then.
    fn ticks_of_the_ended(&self, earlier: &Self) -> u64 {
        let here: BTreeSet<_> = self.processes.iter().map(|(pid, process)| (*pid, process.stat.started)).collect();
        let ended = earlier.processes.iter().filter(|(pid, process)| !here.contains(&(**pid, process.stat.started)));
        ended.map(|(_, p)| p.stat.user_ticks + p.stat.system_ticks + p.stat.children_ticks).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;

    const TICK: u64 = 10_000_000;

    fn process(threads: &[(u32, u64, u64)], user_ticks: u64, system_ticks: u64, children_ticks: u64) -> Process {
        let threads = threads.iter().map(|&(thread, used_ns, waited_ns)| (thread, CpuTime { used_ns, waited_ns }));
        let stat = Stat { user_ticks, system_ticks, children_ticks, started: 5, ..Stat::default() };
        Process { stat, threads: threads.collect(), memory_pages: 10 }
    }

    fn reading(processes: &[(u32, Process)]) -> Reading {
        Reading { processes: processes.iter().cloned().collect() }
    }

    #[test]
    fn threads_that_stayed_came_and_children_are_all_counted() {
        let before = reading(&[(1, process(&[(1, 100, 5), (2, 50, 9)], 0, 0, 0))]);
        let after = reading(&[
            (1, process(&[(1, 130, 6), (2, 50, 9), (3, 7, 2)], 0, 0, 0)),
            (4, process(&[(4, 1000, 0)], 0, 0, 0)),
        ]);
        let usage = after.since(&before, TICK);
        assert_eq!((usage.cpu_ns, usage.waited_ns, usage.threads), (1037, 3, 4));
        assert_eq!(usage.rss_bytes, 20 * sysconf::page_bytes());
    }

    #[test]
    fn a_thread_that_ended_is_found_in_the_ticks() {
        let before = reading(&[(1, process(&[(1, 0, 0), (2, 1_000_000_000, 0)], 100, 0, 0))]);
        let after = reading(&[(1, process(&[(1, 5_000_000, 0)], 140, 20, 0))]);
        let usage = after.since(&before, TICK);
        assert_eq!((usage.cpu_ns, usage.user_ns, usage.system_ns), (600_000_000, 400_000_000, 200_000_000));
    }

    #[test]
    fn ticks_within_their_rounding_leave_the_finer_figure() {
        let before = reading(&[(1, process(&[(1, 0, 0)], 0, 0, 0))]);
        let after = reading(&[(1, process(&[(1, 25_000_000, 0)], 3, 2, 0))]);
        assert_eq!(after.since(&before, TICK).cpu_ns, 25_000_000);
    }

    #[test]
    fn a_child_that_ended_counts_with_what_it_used_since() {
        let before = reading(&[(1, process(&[(1, 0, 0)], 0, 0, 0)), (2, process(&[(2, 900_000_000, 0)], 90, 0, 0))]);
        let after = reading(&[(1, process(&[(1, 0, 0)], 0, 0, 150))]);
        assert_eq!(after.since(&before, TICK).cpu_ns, 600_000_000);
    }

    #[test]
    fn a_number_that_was_given_again_is_another_process() {
        let before = reading(&[(1, process(&[(1, 900, 0)], 90, 0, 0))]);
        let mut fresh = process(&[(1, 950, 0)], 0, 0, 0);
        fresh.stat.started = 6;
        assert_eq!(reading(&[(1, fresh)]).since(&before, TICK).cpu_ns, 950);
    }

    #[test]
    fn a_process_with_a_busy_child_is_seen_until_it_ends() {
        let mut shell = Command::new("sh")
            .args(["-c", "(while :; do :; done) & echo ready; read line; kill $!; exit 0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        io::Read::read_exact(shell.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let mut probe = ServerProbe::of(shell.id()).unwrap();
        assert_eq!(probe.command().first().map(String::as_str), Some("sh"));
        probe.begin().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let usage = loop {
            let now = probe.read().unwrap();
            let used = now.since(&probe.begun.as_ref().unwrap().1, sysconf::tick_ns()).cpu_ns;
            assert!(Instant::now() < deadline, "the child was not seen to use any CPU time: {used} ns");
            if used > 20_000_000 {
                break probe.end().unwrap();
            }
            std::thread::yield_now();
        };
        assert!(
            usage.cpu_ns > 20_000_000 && usage.wall_ns > 0 && usage.rss_bytes > 0 && usage.threads == 2,
            "{usage:?}"
        );
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let gone = probe.begin().unwrap_err();
        assert_eq!((gone.exit_code(), gone.to_string().contains("ended during the run")), (1, true), "{gone}");
    }

    #[test]
    fn a_process_that_does_not_exist_is_refused_by_its_setting() {
        let failure = ServerProbe::of(u32::MAX).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        assert!(
            failure.to_string().contains("--server-pid") && failure.to_string().contains("4294967295"),
            "{failure}"
        );
    }
}
