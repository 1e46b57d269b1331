//! Programs of ours as processes: where they are, and what they print.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::wait_for;

/// What a process prints, line by line, collected by a thread of its own.
#[derive(Clone, Default)]
pub struct Output(Arc<Mutex<String>>);

impl Output {
    /// Begins to read.
    pub fn collect(source: impl Read + Send + 'static) -> Self {
        let output = Self::default();
        let lines = Arc::clone(&output.0);
        thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push_str(&String::from_utf8_lossy(&line));
                lines.push('\n');
            }
        });
        output
    }

    /// What has been printed so far.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs a program of ours to its end and returns what it printed.
///
/// # Panics
/// If it does not end by itself.
#[must_use]
pub fn run_to_end(program: &str, args: &[&str]) -> (ExitStatus, String, String) {
    run_command_to_end(Command::new(binary(program)), args)
}

/// The same with a command of the test's own.
///
/// # Panics
/// If it does not end by itself.
#[must_use]
pub fn run_command_to_end(command: Command, args: &[&str]) -> (ExitStatus, String, String) {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = spawn(command, args);
    let stdout = Output::collect(child.stdout.take().expect("stdout is a pipe"));
    let stderr = Output::collect(child.stderr.take().expect("stderr is a pipe"));
    let mut status = None;
    for _ in 0..12_000 {
        status = child.try_wait().expect("a child can be waited for");
        if status.is_some() {
            break;
        }
        thread::park_timeout(std::time::Duration::from_millis(10));
    }
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let status = status.unwrap_or_else(|| panic!("{program} {args:?} did not end by itself:\n{}", stdout.text()));
    // The collectors end with the pipes, that is with the process; a moment may pass until the last line is in.
    wait_for("all output has been read", || {
        (Arc::strong_count(&stdout.0) == 1 && Arc::strong_count(&stderr.0) == 1).then_some(())
    });
    (status, stdout.text(), stderr.text())
}

/// Starts a process whose output can be collected.
///
/// # Panics
/// If it cannot be started.
pub fn spawn(mut command: Command, args: &[&str]) -> Child {
    command
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"))
}

/// A program of ours: the one that `FANFARE_BIN` or `LOADGEN_BIN` names, else the newest one that cargo has built beside
/// these tests.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn binary(program: &str) -> PathBuf {
    let variable = format!("{}_BIN", program.to_uppercase());
    if let Some(named) = std::env::var_os(&variable) {
        return named.into();
    }
    let exe = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/handshake-0123456789abcdef
    let target = exe.ancestors().nth(3).unwrap_or(Path::new("target"));
    let built = ["release", "debug"].map(|profile| target.join(profile).join(program));
    let newest = built.iter().max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
    match newest {
        Some(path) if path.is_file() => path.clone(),
        _ => panic!(
            "there is no {program} in {}: build it with `cargo build --release -p {program}`, or name one with {variable}",
            target.display()
        ),
    }
}
