//! What `loadgen run` is told.

use std::path::PathBuf;

use clap::Args;

use crate::scenario::flags::ScenarioArgs;

/// The arguments of `loadgen run`.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// What is to be done.
    #[command(flatten)]
    pub scenario: ScenarioArgs,
    /// The folder of the result [default: results/DATE-NAME]
    #[arg(long, value_name = "DIR", help_heading = "Result")]
    pub out: Option<PathBuf>,
    /// Measure beforehand what this machine can do at all (see 'loadgen ceiling'), and keep it with the result
    #[arg(long, help_heading = "Result")]
    pub ceiling: bool,
    /// Print a summary in JSON instead of the table: verdict and figures; the whole is in report.json
    #[arg(long, help_heading = "Result")]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, help_heading = "Result")]
    pub quiet: bool,
}
