//! How much user memory an idle, subscribed connection costs the engine, in the clear, over TLS, or with permessage-deflate
//! agreed on. Fails above a limit.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use fanfare_benches::Result;
use fanfare_benches::contestants::Contestant;
use fanfare_benches::held_connections::{Held, Speaking};
use fanfare_benches::idle_connections::{IdleConnections, Reading};
use fanfare_benches::memory::SOURCE;

/// What an idle connection may cost, in bytes: in the clear, over TLS, and how much more with permessage-deflate.
const MAX_PLAIN: f64 = 600.0;
const MAX_TLS: f64 = 12.0 * 1024.0;
const MAX_DEFLATE: f64 = 64.0;

/// Opens idle, subscribed connections to the engine and reads what they have added to its memory.
#[derive(Parser)]
struct Cli {
    /// Connections to open. Server and client need a file descriptor each [default: 15000, or 5000 with --tls].
    #[arg(long)]
    connections: Option<usize>,
    /// Over TLS, with a certificate made for the purpose.
    #[arg(long, conflicts_with = "deflate")]
    tls: bool,
    /// With permessage-deflate agreed on, and without, each with an engine of its own: the difference is judged.
    #[arg(long)]
    deflate: bool,
    /// Bytes of user memory that an idle connection may cost; with --deflate, may cost more [default: 600, 12288 over TLS, 64 more
    /// with deflate].
    #[arg(long)]
    max: Option<f64>,
    /// The engine's binary [default: `fanfare` beside this program].
    #[arg(long)]
    engine: Option<PathBuf>,
    /// The load generator that holds connections for --tls and --deflate [default: `loadgen` beside this program].
    #[arg(long)]
    loadgen: Option<PathBuf>,
    /// One more argument for the engine; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    engine_arg: Vec<OsString>,
    /// Show what the engine writes to stderr.
    #[arg(long)]
    server_log: bool,
}

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("memory: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether a cost is within its limit; said.
fn judged(what: &str, bytes: f64, max: f64) -> bool {
    let kept = bytes <= max;
    println!("{}: {bytes:.1} B {what}, at most {max} B", if kept { "kept" } else { "BROKEN" });
    kept
}

fn show(label: &str, reading: Reading, per_connection: f64) {
    println!(
        "{label:<24} {:>8} KiB  {per_connection:>8.1} B per connection   (resident set: {} KiB)",
        reading.anonymous.bytes / 1024,
        reading.resident_bytes / 1024,
    );
}

impl Cli {
    /// Returns whether the limit is kept.
    fn run(self) -> Result<bool> {
        if self.connections == Some(0) {
            return Err("it takes at least one connection".into());
        }
        let engine = beside(&self.engine, "fanfare")?;
        let (program, mut arguments) = Contestant::Engine.command(&engine)?;
        arguments.extend(self.engine_arg.iter().cloned());
        match (self.tls, self.deflate) {
            (true, _) => self.over_tls(&program, arguments),
            (_, true) => self.with_deflate(&program, arguments),
            _ => self.in_the_clear(&program, &arguments),
        }
    }

    fn in_the_clear(&self, program: &Path, arguments: &[OsString]) -> Result<bool> {
        let connections = self.connections.unwrap_or(15_000);
        let measured = IdleConnections::measure(program, arguments, connections, self.server_log)?;
        println!("{} idle subscribed connections, one shard; user memory: {SOURCE}", measured.connections);
        let readings = [
            ("before", measured.before),
            ("subscribed and idle", measured.idle),
            ("after one delivery", measured.after_a_delivery),
        ];
        for (label, reading) in readings {
            show(label, reading, measured.bytes_per_connection(reading));
        }
        let idle = measured.bytes_per_connection(measured.idle);
        Ok(judged("for an idle connection", idle, self.max.unwrap_or(MAX_PLAIN)))
    }

    /// What connections cost that are held by loadgen; shown.
    fn held(&self, program: &Path, arguments: &[OsString], speaking: &Speaking, how: &str) -> Result<Held> {
        let usual = if speaking.certificate.is_some() { 5_000 } else { 15_000 };
        let (loadgen, connections) = (beside(&self.loadgen, "loadgen")?, self.connections.unwrap_or(usual));
        let held = Held::measure(program, arguments, &loadgen, connections, speaking, self.server_log)?;
        println!("{connections} idle subscribed connections {how}, one shard; user memory: {SOURCE}");
        let readings = [
            ("before", held.before),
            ("subscribed and idle", held.idle),
            ("after one delivery", held.after_a_delivery),
        ];
        for (label, reading) in readings {
            show(label, reading, held.bytes_per_connection(reading));
        }
        Ok(held)
    }

    fn over_tls(&self, program: &Path, mut arguments: Vec<OsString>) -> Result<bool> {
        let files = Certificate::make()?;
        arguments.extend(["--tls-cert".into(), files.chain().into(), "--tls-key".into(), files.key().into()]);
        let speaking = Speaking { certificate: Some(files.chain()), deflate: false };
        let held = self.held(program, &arguments, &speaking, "over TLS")?;
        let max = self.max.unwrap_or(MAX_TLS);
        let idle = judged("for an idle connection", held.bytes_per_connection(held.idle), max);
        Ok(judged("for one that is idle again", held.bytes_per_connection(held.after_a_delivery), max) && idle)
    }

    fn with_deflate(&self, program: &Path, mut arguments: Vec<OsString>) -> Result<bool> {
        arguments.push("--deflate".into());
        let plain = self.held(program, &arguments, &Speaking::default(), "that did not offer permessage-deflate")?;
        let speaking = Speaking { deflate: true, ..Speaking::default() };
        let deflated = self.held(program, &arguments, &speaking, "with permessage-deflate")?;
        let max = self.max.unwrap_or(MAX_DEFLATE);
        let more = |of: fn(&Held) -> Reading| {
            deflated.bytes_per_connection(of(&deflated)) - plain.bytes_per_connection(of(&plain))
        };
        let idle = judged("more for an idle connection", more(|held| held.idle), max);
        Ok(judged("more for one that is idle again", more(|held| held.after_a_delivery), max) && idle)
    }
}

/// The program that is named, or that of this name beside this one.
fn beside(named: &Option<PathBuf>, name: &str) -> Result<PathBuf> {
    match named {
        Some(path) => Ok(path.clone()),
        None => Ok(std::env::current_exe()?.with_file_name(name)),
    }
}

/// A certificate for 127.0.0.1 in files that go with it.
struct Certificate(PathBuf);

impl Certificate {
    fn make() -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        let files = Self(std::env::temp_dir().join(format!("fanfare-memory-tls-{}", std::process::id())));
        fs::create_dir_all(&files.0)?;
        fs::write(files.chain(), made.cert.pem())?;
        let mut private = fs::OpenOptions::new();
        let mut key = private.write(true).create_new(true).mode(0o600).open(files.key())?;
        key.write_all(made.signing_key.serialize_pem().as_bytes())?;
        Ok(files)
    }

    fn chain(&self) -> PathBuf {
        self.0.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
