//! `loadgen ceiling`: what this machine can do at all.

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use crate::ceiling;
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::record::Ceiling;
use crate::record::figures::{Unit, grouped};
use crate::scenario::flags::ScenarioArgs;
use crate::terminal::{self, Progress, Stop};

/// The arguments of `loadgen ceiling`.
#[derive(Debug, Clone, Default, Args)]
pub struct CeilingArgs {
    /// For which subscribers, payload and load.
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// Print it in JSON
    #[arg(long, help_heading = "Result")]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, help_heading = "Result")]
    pub quiet: bool,
}

/// Measures and prints it.
///
/// # Errors
/// [`Failure::Usage`] for a wrong scenario, [`Failure::Failed`] if it cannot be measured.
pub fn run(args: &CeilingArgs) -> Result<(), Failure> {
    let scenario = args.scenario.resolve_without_url()?;
    let mut progress = Progress::new(args.quiet, Stop::on_signals()?);
    progress.note("measuring the ceiling of this machine");
    let measured = ceiling::measure(&scenario, &mut progress);
    progress.clear();
    let ceiling = measured?;
    terminal::print(&if args.json { json(&ceiling)? } else { text(&ceiling) })
}

fn json(ceiling: &Ceiling) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(ceiling);
    text.map(|text| text + "\n").map_err(|error| Failure::failed(format!("the ceiling cannot be written: {error}")))
}

fn text(ceiling: &Ceiling) -> String {
    let time = |latencies: &Latencies, quantile| Unit::Nanoseconds.format(latencies.quantile_ns(quantile) as f64);
    let rows = [
        ("at the load: p50 from publication to receipt", time(&ceiling.latency, 0.5)),
        ("at the load: p99 from publication to receipt", time(&ceiling.latency, 0.99)),
        ("at the load: p50 until the last subscriber has it", time(&ceiling.completion, 0.5)),
        ("at the load: p99 until the last subscriber has it", time(&ceiling.completion, 0.99)),
        ("at the load: CPU time by delivery", Unit::Nanoseconds.format(ceiling.cpu_per_delivery_ns)),
        ("as fast as it goes, one send() a message", Unit::PerSecond.format(ceiling.sends_per_s)),
        ("as fast as it goes, one send() a batch", Unit::PerSecond.format(ceiling.coalesced_per_s)),
    ];
    let mut table = Table::new();
    table.load_style(presets::NOTHING).force_no_tty();
    for (what, value) in rows {
        table.add_row([what, &value]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "A bare loop of send() to {} sockets, {}-byte payloads, no server:\n{table}\n",
        grouped(ceiling.sockets as f64),
        grouped(ceiling.payload_bytes as f64)
    )
}
