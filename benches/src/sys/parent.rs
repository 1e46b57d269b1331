//! Servers that do not outlive the bench that started them.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has what `command` starts killed when the calling thread ends, however it ends.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call that takes no pointers, and neither allocates
    // nor locks.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}
