//! The server: arguments, start, wait for a signal, shutdown.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fanfare::server::{self, Auth, AuthSettings, Options};
use fanfare::{Engine, EngineHandle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

/// How often it is looked whether a shard has failed.
const FAILURE_CHECK: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let options = Options::from_arguments();
    start_log(&options);
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    // Before the first thread, so that no signal finds its default still in place.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    raise_open_files_limit();
    let auth = Arc::new(Auth::new(&AuthSettings::default()).map_err(io::Error::other)?);
    let engine = server::builder(options, &auth).start()?;
    announce(&engine);
    end_on_failure(engine.handle().clone());
    signals.forever().next();
    if engine.handle().has_failed() {
        return Err(io::Error::other("a shard has failed"));
    }
    tracing::info!("shutting down; a second signal ends it now");
    thread::spawn(move || {
        signals.forever().next();
        process::exit(1);
    });
    engine.shutdown();
    Ok(())
}

/// Without one of its shards the server is of no use: it ends as if it had been told to, and whoever watches it starts
/// another one.
fn end_on_failure(engine: EngineHandle) {
    thread::spawn(move || {
        while !engine.has_failed() {
            thread::sleep(FAILURE_CHECK);
        }
        let _ = signal_hook::low_level::raise(SIGTERM);
    });
}

/// Each connection is an open file; the usual soft limit of 1,024 is for programs that use `select`.
fn raise_open_files_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

fn start_log(options: &Options) {
    let filter = EnvFilter::new(&options.log);
    let is_terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_terminal);
    if options.log_json { log.json().init() } else { log.init() }
}

/// Says where it can be reached. Nobody may be reading that, which is no reason to end.
fn announce(engine: &Engine) {
    let mut text = String::new();
    for address in engine.local_addrs() {
        text += &describe(*address);
    }
    text += "There is no authentication: anyone who can reach these addresses may publish, and close connections.\n";
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn describe(address: SocketAddr) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "fanfare {version} is listening on http://{address}/ (try it), ws://{address}/topics/{{topic}}, ws://{address}/ws\n"
    )
}
