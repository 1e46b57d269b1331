//! Worker processes: orders as lines of JSON on their stdin, reports as lines of JSON on their stdout.
//!
//! The first line is [`Start`], each other one an order with the worker it is for (none: all of the process). The end of
//! stdin ends the process. Lines on stdout that do not begin a report are no reports and passed over.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::fleet::message::{Order, Report, Start};
use crate::fleet::muster;

/// How long a process may take to end after its stdin has.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// Reports of a process under way to its stdout.
const REPORTS_MAX: usize = 1 << 12;

/// An order on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Envelope {
    to: Option<u32>,
    order: Order,
}

/// The way to a worker process. When it is dropped, the process ends.
#[derive(Debug)]
pub struct ProcessLink {
    name: String,
    child: Child,
    input: Option<BufWriter<std::process::ChildStdin>>,
    reader: Option<JoinHandle<()>>,
}

impl ProcessLink {
    /// Starts a process and its workers.
    ///
    /// # Errors
    /// A program that cannot be started.
    pub fn start(
        program: &(PathBuf, Vec<String>),
        number: u32,
        start: &Start,
        reports: Sender<(u32, Report)>,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(&program.0);
        command.args(&program.1).stdin(Stdio::piped()).stdout(Stdio::piped());
        let failed = |error| Failure::failed(format!("worker process {number} cannot be started: {error}"));
        let mut child = command.spawn().map_err(failed)?;
        let name = format!("worker process {number} (pid {})", child.id());
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::failed(format!("{name} has no pipes")));
        };
        let (its_name, member) = (name.clone(), start.first_member);
        let read = move || {
            let ended = forward_reports(BufReader::new(output), &reports);
            // After its workers are closed nobody listens for this.
            let _ = reports.send((member, Report::Failed(format!("{its_name} {ended}"))));
        };
        let reader = std::thread::Builder::new().name(name.clone()).spawn(read);
        let reader = reader.map_err(|error| Failure::failed(format!("no thread for {name}: {error}")))?;
        let mut link = Self { name, child, input: Some(BufWriter::new(input)), reader: Some(reader) };
        link.write(start)?;
        Ok(link)
    }

    /// Tells an order to one of its workers, or to all.
    ///
    /// # Errors
    /// The process has ended.
    pub fn tell(&mut self, to: Option<u32>, order: &Order) -> Result<(), Failure> {
        self.write(&Envelope { to, order: order.clone() })
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let Some(input) = &mut self.input else {
            return Ok(());
        };
        let written = write_line(input, line);
        written.map_err(|error| Failure::failed(format!("{} takes no orders: {error}", self.name)))
    }
}

impl Drop for ProcessLink {
    fn drop(&mut self) {
        self.input = None;
        let deadline = Instant::now() + END_TIMEOUT;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // The reader may wait for room in a channel that nobody reads; it ends with the channel.
        drop(self.reader.take());
    }
}

/// Passes on what workers report until there is no more; says why.
fn forward_reports(mut output: impl BufRead, reports: &Sender<(u32, Report)>) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        match output.read_line(&mut line) {
            Ok(0) => return "has ended".into(),
            Ok(_) if !line.starts_with('[') => {}
            Ok(_) => match serde_json::from_str(&line) {
                Ok(report) => {
                    if reports.send(report).is_err() {
                        return "is not needed any more".into();
                    }
                }
                Err(error) => return format!("reports nonsense: {error}"),
            },
            Err(error) => return format!("cannot be read from: {error}"),
        }
    }
}

fn write_line(output: &mut impl Write, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")?;
    output.flush()
}

/// What a worker process does: takes orders from stdin and reports on stdout, until stdin ends.
///
/// # Errors
/// Orders that cannot be read, or workers that cannot be started; the conductor is told as well.
pub fn serve_orders() -> Result<(), Failure> {
    serve(std::io::stdin().lock(), std::io::stdout())
}

/// As [`serve_orders`], over anything.
pub(super) fn serve(mut input: impl BufRead, output: impl Write + Send + 'static) -> Result<(), Failure> {
    let mut line = String::new();
    let unreadable = |error: &dyn std::fmt::Display| Failure::failed(format!("orders cannot be read: {error}"));
    input.read_line(&mut line).map_err(|error| unreadable(&error))?;
    let start: Start = serde_json::from_str(&line).map_err(|error| unreadable(&error))?;
    let (reports, inbox) = bounded::<(u32, Report)>(REPORTS_MAX);
    let mut output = BufWriter::new(output);
    let write = move || {
        // When nobody reads any more, stdin ends as well.
        while let Ok(report) = inbox.recv() {
            if write_line(&mut output, &report).is_err() {
                return;
            }
        }
    };
    let writer = std::thread::spawn(write);
    let served = obey(&start, &mut input, &reports);
    if let Err(failure) = &served {
        let _ = reports.send((start.first_member, Report::Failed(failure.to_string())));
    }
    drop(reports);
    let _ = writer.join();
    served
}

/// Starts the workers and passes orders on.
fn obey(start: &Start, input: &mut impl BufRead, reports: &Sender<(u32, Report)>) -> Result<(), Failure> {
    let unreadable = |error: &dyn std::fmt::Display| Failure::failed(format!("orders cannot be read: {error}"));
    let workers = muster::start_own(start, reports)?;
    let mut line = String::new();
    loop {
        line.clear();
        if input.read_line(&mut line).map_err(|error| unreadable(&error))? == 0 {
            return Ok(());
        }
        let envelope: Envelope = serde_json::from_str(&line).map_err(|error| unreadable(&error))?;
        workers.iter().for_each(|worker| worker.tell(envelope.to, &envelope.order));
    }
}
