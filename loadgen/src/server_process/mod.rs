//! A server that is started for a measurement: on cores of its own, watched, and ended with its children.
//!
//! * [`address`]: where it listens, read off what it prints. `spawn`: the process.

pub mod address;
mod spawn;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How long a server may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long it may take to end after SIGTERM before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// How often it is looked whether it listens, or has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How much of what it prints is kept for an error message.
const TAIL_LINES: usize = 12;
const TAIL_LINE_BYTES: usize = 500;
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// How a server is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerCommand {
    /// A shell command. `{port}` in it stands for a free port.
    pub command: String,
    /// Where it listens, `{port}` likewise; else it is read off what the server prints.
    pub url: Option<String>,
    /// Cores it and its children may run on; all if empty.
    pub cores: Vec<usize>,
}

/// A running server; dropping it ends it and all its children.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    url: String,
    command: String,
    printed: Printed,
    readers: Vec<JoinHandle<()>>,
}

/// What it has printed: the first address, and the last lines.
#[derive(Debug, Clone, Default)]
struct Printed(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    url: Option<String>,
    last: VecDeque<String>,
}

impl ServerProcess {
    /// Starts the server and waits until it says where it listens (or answers at the URL that was given).
    ///
    /// # Errors
    /// A [`Failure::Failed`] with the command and the last lines it printed, if it ends at once or nothing is heard of it.
    pub fn start(how: &ServerCommand) -> Result<Self, Failure> {
        let port = if how.command.contains("{port}") { Some(free_port(&how.command)?) } else { None };
        let filled =
            |text: &str| port.map_or_else(|| text.to_owned(), |port| text.replace("{port}", &port.to_string()));
        let command = filled(&how.command);
        let mut child = spawn::in_shell(&command, &how.cores)
            .map_err(|error| Failure::failed(format!("'{command}' cannot be started: {error}")))?;
        let printed = Printed::default();
        let readers = [printed.read_from(child.stdout.take()), printed.read_from(child.stderr.take())];
        let readers = readers.into_iter().flatten().collect();
        let mut server = Self { child, url: String::new(), command, printed, readers };
        let given = how.url.as_deref().map(filled).or_else(|| port.map(|port| format!("ws://127.0.0.1:{port}")));
        server.url = server.wait_until_it_listens(given)?;
        Ok(server)
    }

    /// Where it listens, as `ws://HOST:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The shell's process; the server is it or a descendant of it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command it was started with.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// A [`Failure::Failed`] that says how it ended and what it printed last.
    pub fn check(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(Some(status)) => Err(self.ended(status)),
            _ => Ok(()),
        }
    }

    fn wait_until_it_listens(&mut self, given: Option<String>) -> Result<String, Failure> {
        let begin = Instant::now();
        loop {
            let found = match &given {
                Some(url) => answers(url).then(|| url.clone()),
                None => self.printed.lines().url.clone(),
            };
            if let Some(url) = found {
                return Ok(url);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended(status));
            }
            if begin.elapsed() > START_TIMEOUT {
                let what =
                    given.map_or("did not print where it listens".into(), |url| format!("does not listen at {url}"));
                let tail = self.printed.tail();
                return Err(Failure::failed(format!("'{}' {what} within {START_TIMEOUT:?}{tail}", self.command)));
            }
            thread::park_timeout(LOOK_EVERY);
        }
    }

    fn ended(&mut self, status: ExitStatus) -> Failure {
        // What it printed last is on its way through the pipes; a child that lives on may keep them open.
        let begin = Instant::now();
        while self.readers.iter().any(|reader| !reader.is_finished()) && begin.elapsed() < Duration::from_millis(500) {
            thread::park_timeout(LOOK_EVERY);
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("with exit code {code}"),
            (_, Some(signal)) => format!("by signal {signal}"),
            _ => "somehow".into(),
        };
        Failure::failed(format!("'{}' ended {how}{}", self.command, self.printed.tail()))
    }
}

impl Printed {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all that is printed, so that the server never blocks on its output.
    fn read_from(&self, output: Option<impl Read + Send + 'static>) -> Option<JoinHandle<()>> {
        let printed = self.clone();
        output.map(|output| {
            thread::spawn(move || {
                let (mut output, mut line) = (BufReader::new(output), Vec::new());
                // A line without end is taken in pieces.
                while output.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    printed.add(String::from_utf8_lossy(&line).trim_end_matches('\n'));
                    line.clear();
                }
            })
        })
    }

    fn add(&self, line: &str) {
        let mut lines = self.lines();
        if lines.url.is_none() {
            lines.url = address::in_line(line);
        }
        if lines.last.len() == TAIL_LINES {
            lines.last.pop_front();
        }
        lines.last.push_back(line.chars().take(TAIL_LINE_BYTES).collect());
    }

    fn tail(&self) -> String {
        let lines = self.lines();
        if lines.last.is_empty() {
            return "; it printed nothing".into();
        }
        lines.last.iter().fold("; it printed:".into(), |tail, line| format!("{tail}\n  {line}"))
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        spawn::signal_group(&self.child, libc::SIGTERM);
        let begin = Instant::now();
        while begin.elapsed() < END_TIMEOUT {
            if let Ok(Some(_)) = self.child.try_wait() {
                break;
            }
            // Its output is read on meanwhile, by the threads that listen to it, so it cannot block on that.
            thread::park_timeout(LOOK_EVERY);
        }
        // Also whatever the shell has left behind.
        spawn::signal_group(&self.child, libc::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A port that nobody listened on a moment ago.
fn free_port(command: &str) -> Result<u16, Failure> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    free.map(|address| address.port())
        .map_err(|error| Failure::failed(format!("no free port for {{port}} in '{command}': {error}")))
}

/// Whether somebody accepts connections there.
fn answers(url: &str) -> bool {
    let authority = url.split("://").last().unwrap_or(url).split('/').next().unwrap_or("");
    let addresses = authority.to_socket_addrs().into_iter().flatten();
    addresses.into_iter().any(|address| TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(command: &str) -> Result<ServerProcess, Failure> {
        ServerProcess::start(&ServerCommand { command: command.into(), url: None, cores: Vec::new() })
    }

    #[test]
    fn a_server_is_found_by_what_it_prints() {
        let mut server = start("echo starting >&2; echo ws://127.0.0.1:4567/; exec tail -f /dev/null").unwrap();
        assert_eq!(server.url(), "ws://127.0.0.1:4567");
        server.check().unwrap();
    }

    #[test]
    fn it_is_ended_with_its_children() {
        let server = start("tail -f /dev/null & echo $!; echo http://127.0.0.1:4567; wait").unwrap();
        let child: i32 = server.printed.lines().last[0].parse().unwrap();
        drop(server);
        let begin = Instant::now();
        // A zombie that init has not reaped yet still has a directory in /proc, but no command line.
        while std::fs::read(format!("/proc/{child}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            assert!(begin.elapsed() < Duration::from_secs(10), "the child lives on");
            thread::yield_now();
        }
    }

    #[test]
    fn a_server_that_ends_at_once_is_told_with_its_last_words() {
        let failure = start("echo first; echo 'address in use' >&2; exit 3").unwrap_err().to_string();
        assert!(failure.contains("exit code 3") && failure.contains("address in use"), "{failure}");
        let failure = start("kill -9 $$").unwrap_err().to_string();
        assert!(failure.contains("signal 9") && failure.contains("printed nothing"), "{failure}");
    }

    #[test]
    fn a_free_port_is_filled_in() {
        let how = ServerCommand {
            command: "echo using {port}; exec tail -f /dev/null".into(),
            url: Some("http://127.0.0.1:{port}/".into()),
            cores: vec![0],
        };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(answers(&format!("ws://127.0.0.1:{port}/x")), "somebody listens there");
        assert!(!answers("ws://127.0.0.1:1"));
        assert_ne!(free_port(&how.command).unwrap(), port);
    }
}
