//! What idle connections cost a server whose clients cannot be held cheaply here, because they speak TLS or agree on
//! permessage-deflate: loadgen holds them, in a process of its own.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use crate::idle_connections::{Reading, settled};
use crate::server_process::{Placement, ServerProcess};
use crate::{Result, sys};

/// How long so many connections may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);
/// How long loadgen holds them: until it is ended.
const HELD_FOR: &str = "1h";
const TOPIC: &str = "bench";

/// How the clients speak.
#[derive(Clone, Debug, Default)]
pub struct Speaking {
    /// Whom they trust, if they speak TLS.
    pub certificate: Option<PathBuf>,
    /// Whether they offer permessage-deflate.
    pub deflate: bool,
}

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Connections opened.
    pub connections: usize,
    /// With none of them, but after others that came, got a publication, and went.
    pub before: Reading,
    /// With all of them subscribed and idle.
    pub idle: Reading,
    /// The same after a publication that all of them got.
    pub after_a_delivery: Reading,
}

impl Held {
    /// Starts `engine`, has `loadgen` open the connections, and reads the engine's memory.
    ///
    /// # Errors
    /// If one of the two does not start, or if not all connections are made as asked for.
    pub fn measure(
        engine: &Path,
        arguments: &[OsString],
        loadgen: &Path,
        connections: usize,
        speaking: &Speaking,
        show_log: bool,
    ) -> Result<Self> {
        sys::raise_open_files_limit()?;
        let anywhere = Placement { server_cpu: None, client_cpu: None };
        let server = ServerProcess::start(engine, arguments, anywhere, show_log)?;
        let scheme = if speaking.certificate.is_some() { "wss" } else { "ws" };
        let clients = Clients { loadgen, url: format!("{scheme}://{}", server.address()), speaking };
        // What grows with the first connections only, such as buffers that all share, is there before they are counted.
        clients.deliver("warm-up", 20)?;
        let before = settled(server.id())?;
        let held = clients.hold(connections)?;
        let idle = settled(server.id())?;
        // The held ones get it as well.
        clients.deliver(TOPIC, 1)?;
        let after_a_delivery = settled(server.id())?;
        let got = held.end()?;
        if got < connections as u64 {
            return Err(format!("only {got} of {connections} held connections got the publication").into());
        }
        Ok(Self { connections, before, idle, after_a_delivery })
    }

    /// Bytes of anonymous memory that each connection has added by `reading`.
    pub fn bytes_per_connection(&self, reading: Reading) -> f64 {
        (reading.anonymous.bytes as f64 - self.before.anonymous.bytes as f64) / self.connections as f64
    }
}

/// How loadgen is started.
struct Clients<'a> {
    loadgen: &'a Path,
    url: String,
    speaking: &'a Speaking,
}

/// loadgen, which holds connections; dropping it ends it.
struct Holding {
    child: Child,
    results: PathBuf,
}

impl Holding {
    /// Ends it in order: how many messages its connections got. They are not of its own run, so it counts them as corrupted.
    fn end(mut self) -> Result<u64> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        let mut said = String::new();
        self.child.stdout.take().ok_or("no stdout")?.read_to_string(&mut said)?;
        let summary: serde_json::Value = serde_json::from_str(&said)?;
        Ok(summary["figures"]["corrupted"]["median"].as_f64().unwrap_or_default() as u64)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.results);
    }
}

impl Clients<'_> {
    fn command(&self, topic: &str, subscribers: usize) -> Command {
        let mut command = Command::new(self.loadgen);
        command.args(["run", "--url", &self.url, "--topic-name", topic, "--warmup", "0s", "--payload-bytes", "4KiB"]);
        command.args(["--subscribers", &subscribers.to_string()]);
        if let Some(certificate) = &self.speaking.certificate {
            command.args([OsStr::new("--tls-ca"), certificate.as_os_str()]);
        }
        if self.speaking.deflate {
            command.arg("--deflate");
        }
        command.stdin(Stdio::null());
        sys::die_with_parent(&mut command);
        command
    }

    /// Opens connections and leaves them idle.
    fn hold(&self, connections: usize) -> Result<Holding> {
        let results = std::env::temp_dir().join(format!("fanfare-memory-{}", std::process::id()));
        let mut command = self.command(TOPIC, connections);
        command.args(["--publishers", "0", "--duration", HELD_FOR, "--json", "--out"]).arg(&results);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.loadgen.display()))?;
        let said = lines(child.stderr.take().ok_or("no stderr")?);
        let held = Holding { child, results };
        loop {
            let line = said.recv_timeout(CONNECT_TIMEOUT).map_err(|_| "loadgen did not make the connections")?;
            if line.starts_with("loadgen: measuring") {
                return Ok(held);
            }
            if !line.starts_with("loadgen: connecting") {
                return Err(line.into());
            }
        }
    }

    /// One publication to some subscribers of their own, who must get it, and to whoever else is subscribed.
    fn deliver(&self, topic: &str, subscribers: usize) -> Result<()> {
        let out = std::env::temp_dir().join(format!("fanfare-memory-{}-{topic}", std::process::id()));
        let mut command = self.command(topic, subscribers);
        command.args(["--rate", "1", "--duration", "1s", "--quiet", "--json", "--out"]).arg(&out);
        let output = command.stderr(Stdio::inherit()).output()?;
        let _ = std::fs::remove_dir_all(&out);
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let figure = |key: &str| summary["figures"][key]["median"].as_f64();
        if figure("lost") != Some(0.0) || figure("deliveries").is_none_or(|deliveries| deliveries == 0.0) {
            return Err("a publication did not arrive".into());
        }
        if self.speaking.deflate && figure("compressed") != Some(1.0) {
            return Err("permessage-deflate was not agreed on, or not used".into());
        }
        Ok(())
    }
}

/// All that is written, line by line, so that the writer never waits.
fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (say, said) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(std::io::Result::ok) {
            let _ = say.send(line);
        }
    });
    said
}
