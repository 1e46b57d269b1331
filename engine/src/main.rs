//! The server: configuration, start, wait for signals, shutdown.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::{self, ExitCode};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use fanfare::server::config::print::default_file;
use fanfare::server::config::reload::{Reloads, SetLog};
use fanfare::server::service_manager::{self, Sockets};
use fanfare::server::stats_line::{self, LogWriter};
use fanfare::server::{self, Config, Refused, Task, health};
use fanfare::{Engine, EngineHandle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use tracing_subscriber::EnvFilter;

/// How often it is looked whether a shard has failed.
const FAILURE_CHECK: Duration = Duration::from_millis(500);

/// What a program ends with that cannot be used as it was called.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let (config, task) = match Config::load() {
        Ok(loaded) => loaded,
        Err(Refused::Shown(text)) => return show(&text),
        Err(refused) => {
            eprintln!("fanfare: {refused}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match task {
        Task::Check => {
            for warning in config.warnings(&config.addresses()) {
                eprintln!("{warning}");
            }
            show(&(config.describe() + &config.describe_certificates()))
        }
        Task::PrintDefault => show(&default_file()),
        Task::Health => match health::check(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("fanfare: {error}");
                ExitCode::FAILURE
            }
        },
        Task::Serve => match run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("fanfare: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Prints a text that was asked for. Nobody may be reading it, which is no reason to fail.
fn show(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ExitCode::SUCCESS
}

fn run(config: &Config) -> io::Result<()> {
    // Before the first thread, so that no signal finds its default still in place.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let set_log = start_log(config);
    raise_open_files_limit();
    let (builder, reloads) = server::prepare(config).map_err(io::Error::other)?;
    reloads.on_log(set_log);
    let engine = Sockets::inherited()?.give_to(builder, config).map_err(io::Error::other)?.start()?;
    if engine.local_addrs().is_empty() && engine.http_addrs().is_empty() {
        return Err(io::Error::other("there is nothing to listen on: 'listen' is empty, and no socket was passed on"));
    }
    announce(&engine, config);
    service_manager::started(engine.handle());
    end_by_itself(engine.handle().clone(), signals.handle());
    if config.stats {
        stats_line::start(engine.handle().clone())?;
    }
    let told = wait_for_end(&mut signals, &engine, reloads);
    if engine.handle().has_failed() {
        return Err(io::Error::other("a shard has failed"));
    }
    service_manager::stopping(engine.handle());
    // Whoever has started the process that took over may not know that this one ends by itself.
    let signals_left = if told { 1 } else { 2 };
    tracing::info!("shutting down; {} ends it now", if told { "a second signal" } else { "the second of two signals" });
    // To read the configuration again now would be too late.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::spawn(move || {
        signals.forever().nth(signals_left - 1);
        process::exit(1);
    });
    engine.shutdown();
    Ok(())
}

/// Returns when the server is to end: true if it was told to by a signal, false if it does by itself. Until then each SIGHUP
/// has the configuration read again.
fn wait_for_end(signals: &mut Signals, engine: &Engine, reloads: Arc<Reloads>) -> bool {
    // On a thread of its own: files on a slow disk must not keep a signal to end waiting. Of several signals that come
    // meanwhile one is enough. What comes of it is logged.
    let (again, wanted) = mpsc::sync_channel(1);
    let engine = engine.handle().clone();
    thread::spawn(move || {
        for () in wanted {
            service_manager::reloading();
            let _ = reloads.reload(&engine);
            service_manager::reloaded(&engine);
        }
    });
    for signal in signals.forever() {
        if signal != SIGHUP {
            return true;
        }
        let _ = again.try_send(());
    }
    false
}

/// Without one of its shards the server is of no use, and neither once another process has taken over: it ends as if it had
/// been told to; in the first case whoever watches it starts another one.
fn end_by_itself(engine: EngineHandle, signals: Handle) {
    thread::spawn(move || {
        while !engine.has_failed() && !engine.is_succeeded() {
            thread::sleep(FAILURE_CHECK);
        }
        // Not by a signal: it would be the second, should it have been told to end already.
        signals.close();
    });
}

/// Each connection is an open file; the usual soft limit of 1,024 is for programs that use `select`.
fn raise_open_files_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files stays as it is"),
    }
}

/// Begins to log; gives back how its level is changed.
fn start_log(config: &Config) -> SetLog {
    let is_terminal = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(LogWriter::default).with_ansi(is_terminal);
    let filter = EnvFilter::new(&config.log);
    if config.log_json {
        let log = log.json().with_env_filter(filter).with_filter_reloading();
        let handle = log.reload_handle();
        log.init();
        Box::new(move |level| handle.reload(EnvFilter::new(level)).map_err(|error| error.to_string()))
    } else {
        let log = log.with_env_filter(filter).with_filter_reloading();
        let handle = log.reload_handle();
        log.init();
        Box::new(move |level| handle.reload(EnvFilter::new(level)).map_err(|error| error.to_string()))
    }
}

/// Says where it can be reached, and by whom. Nobody may be reading that, which is no reason to end.
fn announce(engine: &Engine, config: &Config) {
    let mut text = String::new();
    for address in engine.local_addrs() {
        text += &describe(*address, engine.handle().is_tls(address));
    }
    for address in engine.http_addrs() {
        let s = if engine.handle().is_tls(address) { "s" } else { "" };
        text += &format!("HTTP only, without WebSockets: http{s}://{address}/\n");
    }
    for warning in config.warnings(engine.local_addrs()) {
        text += &warning;
        text.push('\n');
    }
    show(&text);
}

fn describe(address: SocketAddr, is_tls: bool) -> String {
    let s = if is_tls { "s" } else { "" };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "fanfare {version} is listening on http{s}://{address}/ (try it), ws{s}://{address}/topics/{{topic}}, \
         ws{s}://{address}/ws\n"
    )
}
