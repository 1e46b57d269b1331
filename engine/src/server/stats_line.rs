//! `--stats`: how the server is, in one line of the terminal that is written anew every second; where standard error is no
//! terminal, a line each.
//!
//! The log goes to the same terminal. So that both stay readable, log lines are written through [`LogWriter`], which takes
//! the line away before and puts it back behind.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::sys::{Report, Sampler};
use crate::EngineHandle;

/// How often it is written.
const EVERY: Duration = Duration::from_secs(1);
/// Back to the beginning of the line, and away with it.
const CLEAR: &str = "\r\x1b[2K";

/// What stands in the last line of the terminal.
static LINE: Mutex<String> = Mutex::new(String::new());

/// Shows the line until the engine ends. A thread of its own: a terminal that takes nothing holds up nobody else.
///
/// # Errors
/// The thread cannot be started.
pub fn start(engine: EngineHandle) -> io::Result<()> {
    let is_terminal = io::stderr().is_terminal();
    thread::Builder::new().name("fanfare-stats".into()).spawn(move || {
        let mut sampler = Sampler::new(engine.clone());
        loop {
            thread::sleep(EVERY);
            let line = describe(&sampler.look(0).report);
            let shown = if is_terminal { show(&line) } else { writeln!(io::stderr(), "stats: {line}") };
            // Nobody reads it any more.
            if shown.is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn show(line: &str) -> io::Result<()> {
    let mut present = LINE.lock();
    line.clone_into(&mut present);
    let mut out = io::stderr().lock();
    write!(out, "{CLEAR}{line}")?;
    out.flush()
}

/// Standard error, as the log writes to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = LINE.lock();
        let mut out = io::stderr().lock();
        if line.is_empty() {
            out.write_all(bytes)?;
        } else {
            // In one piece, so that it does not flicker.
            let mut all = CLEAR.as_bytes().to_vec();
            all.extend_from_slice(bytes);
            all.extend_from_slice(line.as_bytes());
            out.write_all(&all)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// The line.
fn describe(report: &Report) -> String {
    let p99 = report.delivery_ms.map_or("–".into(), |times| format!("{} ms", times.p99));
    let busy = report.shards.iter().map(|shard| shard.busy).fold(0.0, f64::max);
    let dropped: f64 = report.dropped_per_s.values().sum();
    let refused: f64 = report.refused_per_s.values().sum();
    let mut line = format!(
        "{} connections · {}/s delivered · {}/s published · p99 {p99} · {}% busy · {} behind · {}/s dropped",
        short(report.connections as f64),
        short(report.deliveries_per_s),
        short(report.publications_per_s),
        (busy * 100.0).round(),
        short(report.backlogged as f64),
        short(dropped),
    );
    if refused > 0.0 {
        line += &format!(" · {}/s refused", short(refused));
    }
    line
}

/// A number as short as it can be read at a glance.
fn short(number: f64) -> String {
    let (scaled, unit) = match number {
        n if n >= 999_500_000.0 => (n / 1e9, "G"),
        n if n >= 999_500.0 => (n / 1e6, "M"),
        n if n >= 9_999.5 => (n / 1e3, "k"),
        // The sum of nothing is -0.
        n => return format!("{}", n.round() + 0.0),
    };
    let digits = if scaled >= 99.95 { 0 } else { usize::from(scaled < 9.995) + 1 };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.4, "0"),
            (999.6, "1000"),
            (9_999.0, "9999"),
            (10_000.0, "10.0k"),
            (123_456.0, "123k"),
            (999_499.0, "999k"),
            (1_234_567.0, "1.23M"),
            (12_345_678.0, "12.3M"),
            (2.5e9, "2.50G"),
        ] {
            assert_eq!(short(number), text, "{number}");
        }
    }
}
