//! One publisher, many subscribers: the engine against the naive program, the bare `send()` loop and the coalescing loop.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use fanfare_benches::contestants::Contestant;
use fanfare_benches::driver::Load;
use fanfare_benches::report::Report;
use fanfare_benches::rounds::{self, Outcome, Plan};
use fanfare_benches::server_process::Placement;
use fanfare_benches::{Error, Result};

/// Compares servers at broadcasting from one publisher to many subscribers, in interleaved rounds.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    serve: Option<Serve>,
    #[command(flatten)]
    bench: Bench,
}

#[derive(Args)]
struct Bench {
    /// Subscribers of the one topic.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Bytes of each payload, at least 16.
    #[arg(long, default_value_t = 128)]
    payload: usize,
    /// Open loop: publications per second, at intended times [default: 100, unless --in-flight].
    #[arg(long, conflicts_with = "in_flight")]
    rate: Option<f64>,
    /// Closed loop: publications that not all subscribers have received yet.
    #[arg(long)]
    in_flight: Option<u64>,
    /// Measured seconds of each contestant in each round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds before them that do not count.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Rounds; the order of the contestants turns around in each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "engine,naive,send-loop,coalescing-loop")]
    contestants: Vec<Contestant>,
    /// The server's core.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// The client's core.
    #[arg(long, default_value_t = 1)]
    client_cpu: usize,
    /// Let the system place server and client.
    #[arg(long)]
    no_pinning: bool,
    /// The engine's binary [default: `fanfare` beside this program].
    #[arg(long)]
    engine: Option<PathBuf>,
    /// One more argument for the engine; may be repeated.
    #[arg(long, allow_hyphen_values = true)]
    engine_arg: Vec<OsString>,
    /// Show what the servers write to stderr.
    #[arg(long)]
    server_log: bool,
    /// Also write the figures of every round to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail if the engine's CPU per delivery is more than this many times the send loop's.
    #[arg(long)]
    max_cpu_ratio: Option<f64>,
    /// Fail if the engine makes fewer deliveries in a second.
    #[arg(long)]
    min_deliveries_per_s: Option<f64>,
}

#[derive(Subcommand)]
enum Serve {
    /// Be the naive server.
    #[command(name = "serve-naive", hide = true)]
    Naive(Listen),
    /// Be the bare loop that sends each message.
    #[command(name = "serve-send-loop", hide = true)]
    SendLoop(Listen),
    /// Be the bare loop that sends what came together.
    #[command(name = "serve-coalescing-loop", hide = true)]
    CoalescingLoop(Listen),
}

#[derive(Args)]
struct Listen {
    #[arg(long)]
    listen: SocketAddr,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.serve {
        Some(Serve::Naive(on)) => Contestant::Naive.serve(on.listen),
        Some(Serve::SendLoop(on)) => Contestant::SendLoop.serve(on.listen),
        Some(Serve::CoalescingLoop(on)) => Contestant::CoalescingLoop.serve(on.listen),
        None => cli.bench.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Bench {
    fn run(self) -> Result<()> {
        let plan = self.plan()?;
        let outcomes = rounds::run(&plan, say_outcome)?;
        let report = Report::new(&plan, &outcomes);
        print!("{}", report.table());
        if let Some(file) = &self.json {
            std::fs::write(file, format!("{:#}\n", report.to_json()))?;
        }
        self.judge(&report)
    }

    fn plan(&self) -> Result<Plan> {
        if self.subscribers == 0 || self.rounds == 0 || self.in_flight == Some(0) || self.rate.is_some_and(|r| r <= 0.0)
        {
            return Err("subscribers, rounds, rate and publications in flight are at least one".into());
        }
        let engine = match &self.engine {
            Some(engine) => engine.clone(),
            None => std::env::current_exe()?.with_file_name("fanfare"),
        };
        if self.contestants.contains(&Contestant::Engine) && !engine.exists() {
            return Err(
                format!("no {}: build it first, with `cargo build --release -p fanfare`", engine.display()).into()
            );
        }
        Ok(Plan {
            contestants: self.contestants.clone(),
            subscribers: self.subscribers,
            payload_bytes: self.payload,
            load: self.in_flight.map_or_else(|| Load::Rate(self.rate.unwrap_or(100.0)), Load::InFlight),
            duration: Duration::try_from_secs_f64(self.seconds)?,
            warm_up: Duration::try_from_secs_f64(self.warm_up)?,
            rounds: self.rounds,
            placement: match self.no_pinning {
                true => Placement { server_cpu: None, client_cpu: None },
                false => Placement { server_cpu: Some(self.server_cpu), client_cpu: Some(self.client_cpu) },
            },
            engine,
            engine_arguments: self.engine_arg.clone(),
            show_log: self.server_log,
        })
    }

    /// Fails for what was lost, and for the limits that were given.
    fn judge(&self, report: &Report<'_>) -> Result<()> {
        let engine = |key| {
            let missing = || Error::from(format!("no {key} of the engine: it and the send loop must take part"));
            report.figure(Contestant::Engine, key).map(|spread| spread.median).ok_or_else(missing)
        };
        if report.incomplete().any(|outcome| outcome.contestant == Contestant::Engine) {
            return Err("the engine did not deliver everything once and in order".into());
        }
        if let Some(max) = self.max_cpu_ratio {
            let ratio = engine("server_ns_per_delivery_to_send_loop")?;
            if ratio > max {
                return Err(format!("CPU per delivery is {ratio:.3} × the send loop's, over {max}").into());
            }
        }
        if let Some(min) = self.min_deliveries_per_s {
            let deliveries = engine("deliveries_per_s")?;
            if deliveries < min {
                return Err(format!("{deliveries:.0} deliveries/s, under {min:.0}").into());
            }
        }
        Ok(())
    }
}

fn say_outcome(outcome: &Outcome) {
    eprintln!(
        "round {} {:<16} {:>12.0} deliveries/s {:>8.1} ns/delivery  client {:.0} %{}{}",
        outcome.round,
        outcome.contestant.name(),
        outcome.deliveries_per_s(),
        outcome.server_ns_per_delivery(),
        100.0 * outcome.client_cpu_share(),
        if outcome.is_void() { "  VOID" } else { "" },
        if outcome.is_complete() { "" } else { "  INCOMPLETE" },
    );
}
