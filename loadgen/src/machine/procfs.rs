//! The texts of `/proc`, understood. Everything here takes a text; only [`processes`] and the readers below it read files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// What the scheduler gave a thread, and what it made it wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// Nanoseconds on a CPU.
    pub used_ns: u64,
    /// Nanoseconds ready to run while the CPU was somebody else's.
    pub waited_ns: u64,
}

impl CpuTime {
    /// `/proc/PID/task/TID/schedstat`: nanoseconds on a CPU, nanoseconds waiting for one, time slices.
    pub fn parse(schedstat: &str) -> Option<Self> {
        let fields: Result<Vec<u64>, _> = schedstat.split_ascii_whitespace().map(str::parse).collect();
        let [used_ns, waited_ns, _slices] = fields.ok()?[..] else {
            return None;
        };
        Some(Self { used_ns, waited_ns })
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            used_ns: self.used_ns.saturating_sub(earlier.used_ns),
            waited_ns: self.waited_ns.saturating_sub(earlier.waited_ns),
        }
    }
}

/// What matters of `/proc/PID/stat` (or of a thread's).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stat {
    /// The parent process.
    pub parent: u32,
    /// Ticks in user mode, ended threads included.
    pub user_ticks: u64,
    /// Ticks in the kernel, ended threads included.
    pub system_ticks: u64,
    /// Ticks of children that have ended and were waited for.
    pub children_ticks: u64,
    /// Threads.
    pub threads: u64,
    /// When it was started, in ticks since boot: tells a process from a later one with the same number.
    pub started: u64,
    /// The core it ran on last.
    pub core: usize,
    /// Whether it has ended and only waits to be noticed.
    pub is_dead: bool,
}

impl Stat {
    /// The name in parentheses may hold anything, parentheses and line ends included; after the last one come the figures.
    pub fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // Fields as they are numbered in proc(5); the first one after the name is number 3.
        let field = |number: usize| fields.get(number - 3).copied();
        let ticks = |number: usize| field(number)?.parse::<u64>().ok();
        // Children's times are signed in proc(5), but never negative.
        Some(Self {
            is_dead: matches!(field(3)?, "Z" | "X" | "x"),
            parent: field(4)?.parse().ok()?,
            user_ticks: ticks(14)?,
            system_ticks: ticks(15)?,
            children_ticks: ticks(16)? + ticks(17)?,
            threads: ticks(20)?,
            started: ticks(22)?,
            core: field(39)?.parse().ok()?,
        })
    }
}

/// Ticks of one core, from `/proc/stat`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CoreTicks {
    /// Running programs: user, nice and system.
    pub programs: u64,
    /// Interrupts, soft ones included.
    pub interrupts: u64,
    /// Taken by the hypervisor for somebody else.
    pub steal: u64,
}

/// The cores' lines of `/proc/stat`, by number.
pub fn cores(stat: &str) -> BTreeMap<usize, CoreTicks> {
    let core = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let number = words.next()?.strip_prefix("cpu")?.parse().ok()?;
        let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let [user, nice, system, _idle, _waiting, irq, soft, steal, ..] = ticks[..] else {
            return None;
        };
        Some((number, CoreTicks { programs: user + nice + system, interrupts: irq + soft, steal }))
    };
    stat.lines().filter_map(core).collect()
}

/// Pages the kernel holds for TCP: `mem` of `/proc/net/sockstat`.
pub fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.by_ref().find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

/// `/proc/PID/cmdline`: the words of a command line, each ended by a NUL.
pub fn command(cmdline: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(cmdline);
    let words = text.strip_suffix('\0').unwrap_or(&text);
    if words.is_empty() { Vec::new() } else { words.split('\0').map(str::to_owned).collect() }
}

/// A process and all its descendants, given everybody's parent; the process itself comes first.
pub fn tree(root: u32, parents: &BTreeMap<u32, u32>) -> Vec<u32> {
    let mut found = vec![root];
    let mut looked_at = 0;
    while looked_at < found.len() {
        let parent = found[looked_at];
        looked_at += 1;
        let children = parents.iter().filter(|(_, of)| **of == parent).map(|(child, _)| *child);
        let fresh: Vec<u32> = children.filter(|child| !found.contains(child)).collect();
        found.extend(fresh);
    }
    found
}

/// Everybody's parent, now.
pub fn processes() -> io::Result<BTreeMap<u32, u32>> {
    let mut parents = BTreeMap::new();
    for pid in numbers(Path::new("/proc"))? {
        if let Some(stat) = stat(pid)? {
            parents.insert(pid, stat.parent);
        }
    }
    Ok(parents)
}

/// Of a process; none if there is none.
pub fn stat(pid: u32) -> io::Result<Option<Stat>> {
    read_stat(&format!("/proc/{pid}/stat"))
}

/// Of a thread; none if there is none.
pub fn thread_stat(pid: u32, thread: u32) -> io::Result<Option<Stat>> {
    read_stat(&format!("/proc/{pid}/task/{thread}/stat"))
}

fn read_stat(file: &str) -> io::Result<Option<Stat>> {
    let Some(text) = read(file)? else {
        return Ok(None);
    };
    let stat = Stat::parse(&String::from_utf8_lossy(&text));
    stat.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{file} has an unknown form")))
}

/// Pages in memory that a process has written to, from `/proc/PID/statm`; none if it is gone. Pages of files (the program
/// itself, above all) are not in it: the kernel takes them away and brings them back as it likes.
pub fn anonymous_pages(pid: u32) -> io::Result<Option<u64>> {
    let file = format!("/proc/{pid}/statm");
    let Some(text) = read(&file)? else {
        return Ok(None);
    };
    let pages = parse_anonymous_pages(&String::from_utf8_lossy(&text));
    pages.map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{file} has an unknown form")))
}

fn parse_anonymous_pages(statm: &str) -> Option<u64> {
    let mut fields = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (fields.next()?.ok()?, fields.next()?.ok()?);
    Some(resident.saturating_sub(shared))
}

/// The times of all threads of a process that are there now; none if the process is gone.
pub fn threads(pid: u32) -> io::Result<Option<BTreeMap<u32, CpuTime>>> {
    let folder = format!("/proc/{pid}/task");
    let threads = match numbers(Path::new(&folder)) {
        Err(error) if is_gone(&error) => return Ok(None),
        threads => threads?,
    };
    let mut times = BTreeMap::new();
    for thread in threads {
        let file = format!("{folder}/{thread}/schedstat");
        // A thread may end between the listing and the reading.
        if let Some(text) = read(&file)? {
            let unknown = || io::Error::new(io::ErrorKind::InvalidData, format!("{file} has an unknown form"));
            times.insert(thread, CpuTime::parse(&String::from_utf8_lossy(&text)).ok_or_else(unknown)?);
        }
    }
    Ok(Some(times))
}

/// The words of a process's command line; none if it is gone.
pub fn command_of(pid: u32) -> Option<Vec<String>> {
    fs::read(format!("/proc/{pid}/cmdline")).ok().map(|bytes| command(&bytes))
}

/// A file that may be gone.
fn read(file: &str) -> io::Result<Option<Vec<u8>>> {
    match fs::read(file) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The file is not there, or its process ended while it was read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "4711 (node) S 1 4711 16808 0 -1 4194304 100 0 0 0 250 50 7 3 20 0 11 0 1281538 3133440 382 \
                        18446744073709551615 1 1 1 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 1 1 1 1 1 1 1 0";

    #[test]
    fn a_stat_is_understood_whatever_the_process_is_called() {
        let expected = Stat {
            parent: 1,
            user_ticks: 250,
            system_ticks: 50,
            children_ticks: 10,
            threads: 11,
            started: 1_281_538,
            core: 1,
            is_dead: false,
        };
        for name in ["(node)", "(a b)", "(a) S 9 9 (b)", "(a\n)", "())"] {
            assert_eq!(Stat::parse(&STAT.replace("(node)", name)), Some(expected), "{name}");
        }
        assert!(Stat::parse(&STAT.replace(") S", ") Z")).is_some_and(|stat| stat.is_dead));
        assert_eq!(Stat::parse("4711 (node) S 1 4711"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn a_schedstat_of_another_shape_is_refused() {
        assert_eq!(
            CpuTime::parse("12803886 10642592 44\n"),
            Some(CpuTime { used_ns: 12_803_886, waited_ns: 10_642_592 })
        );
        for text in ["", "12", "1 2", "1 2 3 4", "a 2 3", "1 b 3", "-1 2 3", "1 2 c"] {
            assert_eq!(CpuTime::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn cores_are_told_from_their_sum_and_from_other_lines() {
        let text =
            "cpu  10 20 30 40 5 6 7 8 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu11 10 0 5 1 1 1 1 0 9 9\nintr 5 6\ncpux 1 2";
        let expected = [
            (0, CoreTicks { programs: 6, interrupts: 13, steal: 8 }),
            (11, CoreTicks { programs: 15, interrupts: 2, steal: 0 }),
        ];
        assert_eq!(cores(text), expected.into());
        assert_eq!(cores("cpu0 1 2 3"), BTreeMap::new());
    }

    #[test]
    fn tcp_memory_is_that_of_tcp() {
        let text = "sockets: used 13\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 167\nUDP: inuse 0 mem 5\n";
        assert_eq!(tcp_pages(text), Some(167));
        assert_eq!(tcp_pages("UDP: inuse 0 mem 5"), None);
    }

    #[test]
    fn a_command_line_keeps_its_empty_words() {
        assert_eq!(command(b"node\0a b\0\0c\0"), ["node", "a b", "", "c"]);
        assert_eq!(command(b""), [] as [&str; 0]);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_no_strangers_and_ends_even_in_a_circle() {
        let parents = [(2, 1), (3, 2), (4, 2), (5, 3), (9, 1), (7, 8), (8, 7)].into();
        assert_eq!(tree(2, &parents), [2, 3, 4, 5]);
        assert_eq!(tree(7, &parents), [7, 8]);
        assert_eq!(tree(6, &parents), [6]);
    }

    #[test]
    fn this_process_is_found_with_its_parent_and_its_threads() {
        let own = std::process::id();
        let parent = std::os::unix::process::parent_id();
        assert_eq!(processes().unwrap().get(&own), Some(&parent));
        assert!(tree(parent, &processes().unwrap()).contains(&own));
        assert!(threads(own).unwrap().is_some_and(|threads| threads.contains_key(&own)));
        assert_eq!(stat(u32::MAX).unwrap(), None);
        assert_eq!(threads(u32::MAX).unwrap(), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "[a-z0-9 ():\n-]{0,80}") {
            let _ = (Stat::parse(&text), CpuTime::parse(&text), cores(&text), tcp_pages(&text), command(text.as_bytes()));
        }
    }
}
