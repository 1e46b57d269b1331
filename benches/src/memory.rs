//! The user memory of a process, as the kernel counts it.

use std::{fs, io};

/// Where a figure of [`AnonymousMemory`] comes from.
pub const SOURCE: &str = "Pss_Anon of smaps_rollup";

/// Anonymous memory: heap, stacks and what else the process has written to, but not the pages of its binary, which
/// come and go with the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonymousMemory {
    /// Bytes, in whole pages.
    pub bytes: u64,
}

impl AnonymousMemory {
    /// Reads it for the process `pid`, which must be ours.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let bytes = parse_kib(&text, "Pss_Anon:").map(|kib| kib * 1024);
        let missing = || io::Error::new(io::ErrorKind::InvalidData, "no Pss_Anon in smaps_rollup (Linux 5.4 has it)");
        Ok(Self { bytes: bytes.ok_or_else(missing)? })
    }
}

/// The resident set of the process `pid` in bytes: the above, and the touched pages of its files.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "no VmRSS in status");
    Ok(parse_kib(&text, "VmRSS:").ok_or_else(missing)? * 1024)
}

fn parse_kib(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLLUP: &str = "55f2-7ffe ---p 00000000 00:00 0    [rollup]\nRss:      1776 kB\nPss_Anon:      112 kB\n";

    #[test]
    fn a_labelled_line_gives_its_kib() {
        assert_eq!(parse_kib(ROLLUP, "Pss_Anon:"), Some(112));
        assert_eq!(parse_kib(ROLLUP, "Rss:"), Some(1776));
        assert_eq!(parse_kib(ROLLUP, "Pss_File:"), None);
        assert_eq!(parse_kib("Rss: x kB", "Rss:"), None);
    }

    #[test]
    fn memory_that_is_written_to_is_counted() {
        let before = AnonymousMemory::of_process(std::process::id()).unwrap();
        let block = vec![1_u8; 8 << 20];
        let after = AnonymousMemory::of_process(std::process::id()).unwrap();
        assert!(after.bytes >= before.bytes + (7 << 20), "{before:?} {after:?}");
        assert!(resident_bytes(std::process::id()).unwrap() >= after.bytes);
        drop(std::hint::black_box(block));
    }
}
