//! Room for descriptors, made before it is needed: when the table of a process with several threads has to grow, the kernel
//! makes the thread that accepts wait until all other processors have passed a quiet point, which takes 10 to 25 ms. In a
//! storm of connects that came to pass at 256, 512, 1,024 … connections, and held up every delivery of that shard.

use std::fs::File;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Room is made for so many at most: 1 MiB of the kernel's memory. Who has more connections than that is stopped once more
/// each time their number doubles.
const ROOM_MAX: u64 = 1 << 17;
/// Descriptors beside those of connections.
const OTHERS: u64 = 1024;

/// Makes room for so many connections, as far as the process may have them. Without effect if that fails: then room is made
/// when it is needed.
pub fn make_room(connections: usize) {
    let wanted = (connections as u64).saturating_add(OTHERS).min(ROOM_MAX);
    let Ok((limit, _)) = rlimit::Resource::NOFILE.get() else { return };
    let Ok(any) = File::open("/dev/null") else { return };
    let highest = wanted.min(limit).saturating_sub(1) as libc::c_int;
    // SAFETY: it takes two integers, of which the first is a descriptor that `any` keeps open, and makes a new one of at least
    // the second. Nothing that others own is changed.
    let high = unsafe { libc::fcntl(any.as_raw_fd(), libc::F_DUPFD_CLOEXEC, highest) };
    if high >= 0 {
        // SAFETY: made above, and nobody else's.
        drop(unsafe { OwnedFd::from_raw_fd(high) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the table of this process.
    fn room() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        line.trim().parse().unwrap()
    }

    #[test]
    fn there_is_room_for_as_many_as_are_asked_for_and_allowed() {
        let limit = rlimit::Resource::NOFILE.get().unwrap().0;
        for connections in [1000, 3000, usize::MAX] {
            make_room(connections);
            assert!(room() >= (connections as u64).min(limit).min(ROOM_MAX), "{} for {connections}", room());
        }
    }
}
