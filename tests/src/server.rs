//! A server process under test.
//!
//! Invariants: it listens on a port of its own, it ends with the test, and a test in which it printed a panic fails.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus};
use std::thread;

use crate::program::{Output, binary, spawn};
use crate::{Http, Metrics, wait_for};

/// A running `fanfare`, killed when dropped.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    stdout: Output,
    stderr: Output,
}

impl Server {
    /// A server with two shards and otherwise all defaults.
    #[must_use]
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// A server with two shards and these arguments.
    #[must_use]
    pub fn with(args: &[&str]) -> Self {
        let mut all = vec!["--listen", "127.0.0.1:0", "--shards", "2"];
        all.extend(args);
        Self::with_exactly(&all)
    }

    /// A server with exactly these arguments; the first address it prints is the one clients use, which speaks no TLS.
    ///
    /// # Panics
    /// If it ends, or prints no address within the deadline.
    #[must_use]
    pub fn with_exactly(args: &[&str]) -> Self {
        Self::of(spawn(Command::new(binary("fanfare")), args))
    }

    /// A server with two shards that may open so many files.
    #[must_use]
    pub fn with_files(files: u64) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(binary("fanfare"));
        Self::of(spawn(shell, &["--listen", "127.0.0.1:0", "--shards", "2"]))
    }

    /// A server that a command of the test's own starts.
    #[must_use]
    pub fn of_command(command: Command, args: &[&str]) -> Self {
        Self::of(spawn(command, args))
    }

    /// A server with two shards, these arguments, and these variables in its environment.
    #[must_use]
    pub fn with_variables(variables: &[(&str, &str)], args: &[&str]) -> Self {
        let mut program = Command::new(binary("fanfare"));
        program.envs(variables.iter().copied());
        let mut all = vec!["--listen", "127.0.0.1:0", "--shards", "2"];
        all.extend(args);
        Self::of(spawn(program, &all))
    }

    fn of(mut child: Child) -> Self {
        let stdout = Output::collect(child.stdout.take().expect("stdout is a pipe"));
        let stderr = Output::collect(child.stderr.take().expect("stderr is a pipe"));
        let addr = wait_for("the server prints its address", || {
            let ended = child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "the server ended at once ({ended:?}):\n{}", stderr.text());
            addresses(&stdout.text()).first().copied()
        });
        Self { child, addr, stdout, stderr }
    }

    /// The address it serves.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All addresses it has printed.
    #[must_use]
    pub fn addrs(&self) -> Vec<SocketAddr> {
        addresses(&self.stdout.text())
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The address of a WebSocket.
    #[must_use]
    pub fn ws_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.addr)
    }

    /// An HTTP connection.
    #[must_use]
    pub fn http(&self) -> Http {
        Http::connect(self.addr)
    }

    /// Its metrics now.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.addr)
    }

    /// Publishes a text over HTTP and returns the answer.
    ///
    /// # Panics
    /// If it is refused.
    pub fn publish(&self, topic: &str, payload: &str) -> serde_json::Value {
        self.http().publish(topic, payload.as_bytes())
    }

    /// Its resident memory in bytes.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server is running");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the kernel tells VmRSS");
        let kib: u64 =
            line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("VmRSS is a number");
        kib * 1024
    }

    /// Sends a signal, for example [`libc::SIGTERM`].
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill() takes two integers; the child has not been waited for, so its id is still its own.
        let sent = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(sent, 0, "the signal {signal} could not be sent");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the server ends", || self.child.try_wait().expect("a child can be waited for"))
    }

    /// Whether it has not ended.
    ///
    /// # Panics
    /// If the system cannot tell.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// What it has written to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let stderr = self.stderr.text();
        if thread::panicking() {
            eprintln!("--- the server's standard error ---\n{stderr}--- end ---");
        } else {
            assert!(!stderr.contains("panicked"), "the server panicked:\n{stderr}");
        }
    }
}

/// The socket addresses in `http://…` and `https://…` of a text, in order, each once.
fn addresses(text: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    // Only whole lines: the last one may still be on its way.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        for rest in line.replace("https://", "http://").split("http://").skip(1) {
            let end = rest.find(|c: char| c.is_whitespace() || c == '/').unwrap_or(rest.len());
            if let Ok(addr) = rest[..end].parse::<SocketAddr>()
                && !found.contains(&addr)
            {
                found.push(addr);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_are_read_from_whole_lines_only() {
        assert_eq!(addresses("listening on http://127.0.0.1:80"), []);
        let found = addresses("a http://127.0.0.1:80/ and ws://127.0.0.1:80/ws\nhttps://[::1]:8080\nhttp://host:1/\n");
        assert_eq!(found, ["127.0.0.1:80".parse().unwrap(), "[::1]:8080".parse().unwrap()]);
    }
}
