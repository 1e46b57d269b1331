//! What an idle, subscribed connection costs a server in user memory.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::driver::{Driver, Load};
use crate::memory::{self, AnonymousMemory};
use crate::server_process::{Placement, ServerProcess};
use crate::{Result, sys};

/// Two readings so far apart must agree before one counts.
const SETTLE_STEP: Duration = Duration::from_millis(250);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

const PAYLOAD_BYTES: usize = 128;

/// A reading of a process.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Anonymous memory: the figure that is judged.
    pub anonymous: AnonymousMemory,
    /// The resident set, binary included.
    pub resident_bytes: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct IdleConnections {
    /// Connections opened.
    pub connections: usize,
    /// With none of them, but after a first connection that came and went.
    pub before: Reading,
    /// With all of them subscribed and idle.
    pub idle: Reading,
    /// The same after one publication, which each of them has received: so all of them were subscribed.
    pub after_a_delivery: Reading,
}

impl IdleConnections {
    /// Starts `program`, opens the connections and reads its memory.
    pub fn measure(program: &Path, arguments: &[OsString], connections: usize, show_log: bool) -> Result<Self> {
        sys::raise_open_files_limit()?;
        let anywhere = Placement { server_cpu: None, client_cpu: None };
        let server = ServerProcess::start(program, arguments, anywhere, show_log)?;
        let mut first = Driver::connect(server.address(), "warm-up", 1, PAYLOAD_BYTES)?;
        publish_once(&mut first, 1)?;
        drop(first);
        let before = settled(server.id())?;
        let mut driver = Driver::connect(server.address(), "bench", connections, PAYLOAD_BYTES)?;
        let idle = settled(server.id())?;
        publish_once(&mut driver, connections)?;
        let after_a_delivery = settled(server.id())?;
        Ok(Self { connections, before, idle, after_a_delivery })
    }

    /// Bytes of anonymous memory that each connection has added by `reading`.
    pub fn bytes_per_connection(&self, reading: Reading) -> f64 {
        self.grown(reading.anonymous.bytes, self.before.anonymous.bytes)
    }

    /// Bytes of resident memory that each connection has added by `reading`.
    pub fn resident_bytes_per_connection(&self, reading: Reading) -> f64 {
        self.grown(reading.resident_bytes, self.before.resident_bytes)
    }

    fn grown(&self, now: u64, before: u64) -> f64 {
        (now as f64 - before as f64) / self.connections as f64
    }
}

fn publish_once(driver: &mut Driver, subscribers: usize) -> Result<()> {
    let phase = driver.run(Load::Rate(1.0), Duration::from_secs(1))?;
    if phase.received.deliveries == subscribers as u64 && phase.publications == 1 {
        Ok(())
    } else {
        Err(format!("only {} of {subscribers} were subscribed", phase.received.deliveries).into())
    }
}

/// Reads the process when its memory has come to rest.
pub(crate) fn settled(pid: u32) -> Result<Reading> {
    let start = Instant::now();
    let mut last = AnonymousMemory::of_process(pid)?;
    while start.elapsed() < SETTLE_TIMEOUT {
        std::thread::sleep(SETTLE_STEP);
        let anonymous = AnonymousMemory::of_process(pid)?;
        if anonymous == last {
            return Ok(Reading { anonymous, resident_bytes: memory::resident_bytes(pid)? });
        }
        last = anonymous;
    }
    Err("the server's memory does not come to rest".into())
}
