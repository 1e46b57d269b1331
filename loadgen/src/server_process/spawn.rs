//! Starting a process so that it ends with us and stays on its cores. All `unsafe` of starting is here.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// Starts a shell command in a process group of its own.
pub fn in_shell(command: &str, cores: &[usize]) -> io::Result<Child> {
    let set = core_set(cores)?;
    let parent = std::process::id();
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // SAFETY: between fork and exec only system calls are made, which are safe there; `set` is a plain value.
    unsafe {
        shell.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            if libc::getppid() as u32 != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if let Some(set) = &set
                && libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) != 0
            {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    shell.spawn()
}

fn core_set(cores: &[usize]) -> io::Result<Option<libc::cpu_set_t>> {
    if cores.is_empty() {
        return Ok(None);
    }
    if let Some(core) = cores.iter().find(|core| **core >= libc::CPU_SETSIZE as usize) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no core {core}")));
    }
    // SAFETY: a set of bits, for which all zeros is the empty set; every core was checked to lie in it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for core in cores {
            libc::CPU_SET(*core, &mut set);
        }
        Ok(Some(set))
    }
}

/// Sends a signal to the process and all others of its group.
pub fn signal_group(child: &Child, signal: i32) {
    // SAFETY: takes two integers. The child is not waited for before its group has got its last signal, so the number is
    // still its own or, if it was reaped by `try_wait`, that of a group which only its children can keep alive.
    unsafe {
        libc::kill(-(child.id() as i32), signal);
    }
}
