//! What `loadgen ab` is told.

use std::path::PathBuf;

use clap::Args;

use crate::ab::Entrant;
use crate::failure::Failure;
use crate::scenario::Scenario;
use crate::scenario::flags::{ScenarioArgs, set_key};
use crate::server_process::ServerCommand;
use crate::units::Span;

/// The arguments of `loadgen ab`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
Both servers run, each with its connections, and the load alternates between them in short slices (A B B A A B ...), so
that what the machine does meanwhile happens to both. Slices during which other programs were on the cores are taken
again. Then each slice of B is compared with the slice of A beside it.

EXAMPLES
  loadgen ab --a './fanfare-main --listen 127.0.0.1:0' --b './fanfare-branch --listen 127.0.0.1:0' \\
    --server-cores 0 --pin 1 --subscribers 1000 --rate 100 --fail-if 'server-cpu>+5%'
  loadgen ab --a 'loadgen bare' --b 'node server.mjs {port}' --b-preset node-ws

EXIT CODES
  0 compared, whatever the verdict; 99 a condition of --fail-if is met; 1 a server failed; 2 asked wrongly")]
pub struct AbArgs {
    /// The command that starts server A, for the shell. {port} stands for a free port; without it, where the server listens
    /// is read off what it prints
    #[arg(long, value_name = "COMMAND", help_heading = "The two")]
    pub a: String,
    /// The command that starts server B, which is judged
    #[arg(long, value_name = "COMMAND", help_heading = "The two")]
    pub b: String,
    /// Where A listens, as ws://HOST:PORT ({port} as above), if it does not print it
    #[arg(long, value_name = "URL", help_heading = "The two")]
    pub a_url: Option<String>,
    /// Where B listens
    #[arg(long, value_name = "URL", help_heading = "The two")]
    pub b_url: Option<String>,
    /// The way of speaking to A, if it is not that of the scenario
    #[arg(long, value_name = "PRESET", help_heading = "The two")]
    pub a_preset: Option<String>,
    /// The way of speaking to B
    #[arg(long, value_name = "PRESET", help_heading = "The two")]
    pub b_preset: Option<String>,
    /// What to call A in the results
    #[arg(long, value_name = "NAME", help_heading = "The two")]
    pub a_name: Option<String>,
    /// What to call B in the results
    #[arg(long, value_name = "NAME", help_heading = "The two")]
    pub b_name: Option<String>,

    /// A setting of the scenario for A only, as KEY=VALUE; may be given again. Only what is under target: both have the same load
    #[arg(long, value_name = "KEY=VALUE", value_parser = of_target, help_heading = "The two")]
    pub a_set: Vec<(String, String)>,
    /// A setting for B only, for example target.deflate=true
    #[arg(long, value_name = "KEY=VALUE", value_parser = of_target, help_heading = "The two")]
    pub b_set: Vec<(String, String)>,

    /// The load, and who is connected to each of the two.
    #[command(flatten)]
    pub scenario: ScenarioArgs,

    /// Pairs of slices, 6 at least for a verdict
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000), help_heading = "Slices")]
    pub pairs: u32,
    /// The length of a slice; 0.5 to 1 s are good
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = slice, help_heading = "Slices")]
    pub slice: Span,
    /// A slice is taken again if others used more than this share of one of the cores that server or load generator are pinned
    /// to (of any core, if they are not)
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = share, help_heading = "Slices")]
    pub others_max: f64,
    /// Where both cannot run at once: whole runs of the scenario alternate, each with a fresh server and fresh connections
    #[arg(long, help_heading = "Slices")]
    pub whole: bool,

    /// Compare only this figure, for example p99; may be given again. Fewer figures need less evidence
    #[arg(long, value_name = "FIGURE", help_heading = "Result")]
    pub figure: Vec<String>,
    /// Exit with 99 if this is met with confidence; may be given again: see 'loadgen compare --help'
    #[arg(long, value_name = "CONDITION", help_heading = "Result")]
    pub fail_if: Vec<String>,
    /// A difference of less than this many percent is not called better or worse, however certain it is
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = share, help_heading = "Result")]
    pub least: f64,
    /// The folder of the result, with one of each side in it [default: results/DATE-NAME-ab]
    #[arg(long, value_name = "DIR", help_heading = "Result")]
    pub out: Option<PathBuf>,
    /// Print the comparison as JSON instead of the table
    #[arg(long, help_heading = "Result")]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, help_heading = "Result")]
    pub quiet: bool,
}

fn of_target(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    match key.starts_with("target.") && key != "target.url" {
        true => Ok((key.into(), value.into())),
        false => Err("only keys under target, save its url, can differ between the two".into()),
    }
}

fn slice(text: &str) -> Result<Span, String> {
    let span: Span = text.parse()?;
    let milliseconds = span.0.as_millis();
    if (50..=60_000).contains(&milliseconds) { Ok(span) } else { Err("a slice takes 50ms to 60s".into()) }
}

fn share(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("'{text}' is no number"))?;
    if (0.0..=100.0).contains(&percent) { Ok(percent) } else { Err("it lies from 0 to 100 percent".into()) }
}

impl AbArgs {
    /// The two, for this load.
    ///
    /// # Errors
    /// If the load and a way of speaking do not fit.
    pub fn entrants(&self, scenario: &Scenario) -> Result<(Entrant, Entrant), Failure> {
        let entrant = |side: &str, command: &str, url: &Option<String>, name: &Option<String>, own: Scenario| {
            let mut scenario = own;
            scenario.server.revision = name.clone().unwrap_or_else(|| command.to_owned());
            let server =
                ServerCommand { command: command.into(), url: url.clone(), cores: scenario.server.cores.clone() };
            Entrant { name: side.into(), server, scenario }
        };
        let a = own(scenario, &self.a_preset, &self.a_set)?;
        let b = own(scenario, &self.b_preset, &self.b_set)?;
        Ok((entrant("A", &self.a, &self.a_url, &self.a_name, a), entrant("B", &self.b, &self.b_url, &self.b_name, b)))
    }
}

/// The scenario as it is for one of the two.
fn own(common: &Scenario, preset: &Option<String>, set: &[(String, String)]) -> Result<Scenario, Failure> {
    let mut scenario = common.clone();
    if preset.is_some() {
        scenario.target.preset.clone_from(preset);
    }
    for (key, value) in set {
        set_key(&mut scenario, key, value)?;
    }
    // What encryption would need is looked at when the server listens, and says with its address whether it is.
    scenario.target.url = "wss://127.0.0.1:1".into();
    scenario.check()?;
    scenario.target.url.clear();
    Ok(scenario)
}
