//! How much user memory an idle, subscribed connection costs the engine. Fails above a limit.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use fanfare_benches::Result;
use fanfare_benches::contestants::Contestant;
use fanfare_benches::idle_connections::{IdleConnections, Reading};
use fanfare_benches::memory::SOURCE;

/// Opens idle, subscribed connections to the engine and reads what they have added to its memory.
#[derive(Parser)]
struct Cli {
    /// Connections to open. Server and client need a file descriptor each.
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// Bytes of user memory that an idle connection may cost.
    #[arg(long, default_value_t = 600.0)]
    max: f64,
    /// The engine's binary [default: `fanfare` beside this program].
    #[arg(long)]
    engine: Option<PathBuf>,
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

impl Cli {
    /// Returns whether the limit is kept.
    fn run(self) -> Result<bool> {
        if self.connections == 0 {
            return Err("it takes at least one connection".into());
        }
        let engine = match self.engine {
            Some(engine) => engine,
            None => std::env::current_exe()?.with_file_name("fanfare"),
        };
        let (program, mut arguments) = Contestant::Engine.command(&engine)?;
        arguments.extend(self.engine_arg);
        let measured = IdleConnections::measure(&program, &arguments, self.connections, self.server_log)?;
        println!("{} idle subscribed connections, one shard; user memory: {SOURCE}", measured.connections);
        let show = |label: &str, reading: Reading| {
            println!(
                "{label:<24} {:>8} KiB  {:>8.1} B per connection   (resident set: {} KiB, {:.1} B)",
                reading.anonymous.bytes / 1024,
                measured.bytes_per_connection(reading),
                reading.resident_bytes / 1024,
                measured.resident_bytes_per_connection(reading),
            );
        };
        show("before", measured.before);
        show("subscribed and idle", measured.idle);
        show("after one delivery", measured.after_a_delivery);
        let idle = measured.bytes_per_connection(measured.idle);
        let kept = idle <= self.max;
        println!("{}: {idle:.1} B, at most {} B", if kept { "kept" } else { "BROKEN" }, self.max);
        Ok(kept)
    }
}
