//! The program: what it can be asked to do, and where that is done.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadgen::command::{ab, bare, ceiling, compare, report, run, scenario, search, worker};
use loadgen::failure::Failure;

/// Drives a WebSocket server with very many connections, measures fan-out latency without coordinated omission, and says
/// when it was itself the bottleneck.
///
/// Exit codes: 0 done, 1 failed, 2 asked wrongly, 99 a condition of --fail-if is met, 130 ended by a signal.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version = loadgen::machine::environment::VERSION, max_term_width = 120)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the repetitions of a scenario, and write and show what they gave
    Run(Box<run::RunArgs>),
    /// Start two servers, load them in turns in short slices, and tell whether B differs from A
    Ab(Box<ab::AbArgs>),
    /// Tell whether the result B is better or worse than the result A, or whether there is no difference to be seen
    Compare(Box<compare::CompareArgs>),
    /// Write the HTML page of a stored result, or an index over a folder of many
    Report {
        /// The result's folder, or one with many of them below it
        dir: PathBuf,
    },
    /// Find the largest load that keeps an objective
    Search(Box<search::SearchArgs>),
    /// Measure what this machine can do at all: a bare loop of send(), no server
    Ceiling(Box<ceiling::CeilingArgs>),
    /// Print a complete, commented scenario file
    Scenario,
    /// Serve as the bare loop of send() that the ceiling is, as a side of 'ab' or for runs by hand
    Bare(bare::BareArgs),
    /// Follow the orders of another loadgen, on standard input
    #[command(hide = true)]
    Worker,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Ab(args) => ab::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Report { dir } => report::run(&dir),
        Command::Search(args) => search::run(&args),
        Command::Ceiling(args) => ceiling::run(&args),
        Command::Scenario => scenario::run(),
        Command::Bare(args) => bare::run(&args),
        Command::Worker => worker::run(),
    };
    done.map_or_else(told, |()| ExitCode::SUCCESS)
}

/// One sentence on standard error.
fn told(failure: Failure) -> ExitCode {
    eprintln!("loadgen: {failure}");
    ExitCode::from(failure.exit_code())
}
