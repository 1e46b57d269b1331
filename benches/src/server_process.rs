//! A contestant as a process of its own, on a core of its own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use core_affinity::CoreId;

use crate::contestants::Totals;
use crate::{Result, sys};

const START_TIMEOUT: Duration = Duration::from_secs(10);
const TOTALS_TIMEOUT: Duration = Duration::from_secs(1);

/// Which core the server gets and which one the client; `None` leaves a side where the system puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The server's core.
    pub server_cpu: Option<usize>,
    /// The client's core.
    pub client_cpu: Option<usize>,
}

/// A running server; dropping it kills it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    totals: Receiver<Totals>,
}

impl ServerProcess {
    /// Starts `program`, waits until it says where it listens, and leaves the calling thread on the client's core.
    ///
    /// The server inherits the core this thread is on while it starts it, so it needs no help of its own.
    pub fn start(program: &Path, arguments: &[OsString], placement: Placement, show_log: bool) -> Result<Self> {
        if let Some(cpu) = placement.server_cpu {
            pin_this_thread(cpu)?;
        }
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(if show_log { Stdio::inherit() } else { Stdio::null() });
        sys::die_with_parent(&mut command);
        let spawned = command.spawn();
        if let Some(cpu) = placement.client_cpu {
            pin_this_thread(cpu)?;
        }
        let mut child = spawned.map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let ((say_address, address), (say_totals, totals)) = (mpsc::channel(), mpsc::channel());
        std::thread::Builder::new()
            .name("server-stdout".into())
            .spawn(move || read_lines(stdout, &say_address, &say_totals))?;
        match address.recv_timeout(START_TIMEOUT) {
            Ok(address) => Ok(Self { child, address, totals }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("{} did not say where it listens (--server-log shows why)", program.display()).into())
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it printed after its publisher left, if it is one that does.
    pub fn totals(&self) -> Option<Totals> {
        self.totals.recv_timeout(TOTALS_TIMEOUT).ok()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binds the calling thread, and what it starts from now on, to one core.
pub fn pin_this_thread(cpu: usize) -> Result<()> {
    if core_affinity::set_for_current(CoreId { id: cpu }) {
        Ok(())
    } else {
        Err(format!("cannot run on CPU {cpu}; choose others with --server-cpu and --client-cpu").into())
    }
}

/// Reads all the server says, so that it never blocks on its stdout, and passes on the two things of interest.
fn read_lines(stdout: ChildStdout, address: &Sender<SocketAddr>, totals: &Sender<Totals>) {
    let mut said_address = false;
    for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
        if !said_address && let Some(found) = find_loopback_address(&line) {
            said_address = address.send(found).is_ok();
        }
        if let Some(found) = Totals::parse(&line) {
            let _ = totals.send(found);
        }
    }
}

/// The first `127.0.0.1:PORT` in a line.
fn find_loopback_address(line: &str) -> Option<SocketAddr> {
    const HOST: &str = "127.0.0.1:";
    line.match_indices(HOST).find_map(|(at, _)| {
        let port = &line[at + HOST.len()..];
        let digits = port.bytes().take_while(u8::is_ascii_digit).count();
        line[at..at + HOST.len() + digits].parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_any_sentence() {
        let expected = Some(SocketAddr::from(([127, 0, 0, 1], 4567)));
        for line in [
            "listening 127.0.0.1:4567",
            "Fanfare listens on http://127.0.0.1:4567/ (loopback only)",
            "\u{1b}[32mINFO\u{1b}[0m not 127.0.0.1: but 127.0.0.1:4567.",
        ] {
            assert_eq!(find_loopback_address(line), expected, "{line}");
        }
        for line in ["", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999", "10.0.0.1:4567"] {
            assert_eq!(find_loopback_address(line), None, "{line}");
        }
    }
}
