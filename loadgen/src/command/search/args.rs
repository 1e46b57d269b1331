//! What `loadgen search` is told.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::compare::fail_if::Condition;
use crate::failure::Failure;
use crate::scenario::flags::ScenarioArgs;
use crate::scenario::{LoadKind, Scenario};
use crate::search::strategy::Bounds;

/// The most that is ever tried, if nothing is said.
const TO_BY_FROM: f64 = 1000.0;

/// The most that can be tried at all, as the scenario allows no more.
const MOST: f64 = 10_000_000.0;

/// The arguments of `loadgen search`.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
The load is doubled until the objective is missed, then halved in between, and what is found is confirmed by another run.
A void run (the load generator was the bottleneck) counts as missed, and is said to be that.

EXAMPLE
  loadgen search --url ws://127.0.0.1:8080 --subscribers 1000 --vary rate --from 50 --slo 'p99<20ms' --slo 'lost<1'")]
pub struct SearchArgs {
    /// What is to hold, for example p99<50ms, completion-p99<0.1s, lost<1, server-cpu<5us; may be given again: all must hold
    #[arg(long, value_name = "CONDITION", required = true, help_heading = "Search")]
    pub slo: Vec<String>,
    /// What is varied: the publications a second, or the subscribers
    #[arg(long, value_enum, help_heading = "Search")]
    pub vary: Vary,
    /// Where it begins [default: what the scenario says]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub from: Option<f64>,
    /// Where it ends at the latest [default: 1,000 times as much]
    #[arg(long, value_name = "N", help_heading = "Search")]
    pub to: Option<f64>,
    /// How close the largest that holds and the smallest that does not must come, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = precision, help_heading = "Search")]
    pub precision: f64,

    /// Everything else of the load.
    #[command(flatten)]
    pub scenario: ScenarioArgs,

    /// The folder of the result, with one of each run in it [default: results/DATE-NAME-search]
    #[arg(long, value_name = "DIR", help_heading = "Result")]
    pub out: Option<PathBuf>,
    /// Print what was found in JSON instead of the table
    #[arg(long, help_heading = "Result")]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, help_heading = "Result")]
    pub quiet: bool,
}

/// What is varied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Vary {
    /// Publications a second (`load.rate_per_s`).
    Rate,
    /// Subscribers (`connections.subscribers`).
    Connections,
}

fn precision(text: &str) -> Result<f64, String> {
    let percent: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("'{text}' is no number"))?;
    if (0.1..=100.0).contains(&percent) { Ok(percent) } else { Err("it lies from 0.1 to 100 percent".into()) }
}

impl SearchArgs {
    /// The conditions.
    ///
    /// # Errors
    /// A [`Failure::Usage`] for one that is none, or is about a change.
    pub fn conditions(&self) -> Result<Vec<Condition>, Failure> {
        let usage = |reason: String| Failure::usage(format!("--slo: {reason}"));
        let conditions: Vec<Condition> =
            self.slo.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(usage)?;
        match conditions.iter().find(|condition| condition.is_change()) {
            Some(condition) => Err(usage(format!(
                "'{}' is about a change, and there is nothing to compare with: write a value, as in p99<50ms",
                condition.text()
            ))),
            None => Ok(conditions),
        }
    }

    /// Between which loads is searched.
    ///
    /// # Errors
    /// A [`Failure::Usage`] if they are the wrong way round, or the scenario has nothing to vary.
    pub fn bounds(&self, scenario: &Scenario) -> Result<Bounds, Failure> {
        let whole = self.vary == Vary::Connections;
        let has_rate = matches!(scenario.load.kind, LoadKind::Constant | LoadKind::Poisson);
        if !whole && !has_rate {
            return Err(Failure::usage("--vary rate: the load has no single rate; use a constant or a Poisson load"));
        }
        if whole && scenario.connections.total > 0 {
            return Err(Failure::usage(
                "--vary connections: it varies connections.subscribers, which connections.total would overrule",
            ));
        }
        let now = if whole { scenario.connections.subscribers as f64 } else { scenario.load.rate_per_s };
        let from = self.from.unwrap_or(now);
        let to = self.to.unwrap_or((from * TO_BY_FROM).min(MOST));
        let least = if whole { 1.0 } else { 0.001 };
        if !(from >= least && to >= from && to <= MOST) {
            return Err(Failure::usage(format!(
                "--from {from} --to {to}: --from is {least} or more, --to not less than it and {MOST} at most"
            )));
        }
        Ok(Bounds { from, to, precision: 1.0 + self.precision / 100.0, whole })
    }
}

impl Vary {
    /// The scenario with this load.
    pub fn with(self, scenario: &Scenario, load: f64) -> Scenario {
        let mut scenario = scenario.clone();
        match self {
            Self::Rate => scenario.load.rate_per_s = load,
            Self::Connections => scenario.connections.subscribers = load as u64,
        }
        scenario
    }

    /// What the load is counted in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Rate => "publications/s",
            Self::Connections => "subscribers",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SearchArgs,
    }

    fn args(line: &str) -> SearchArgs {
        Line::parse_from(std::iter::once("search").chain(line.split(' '))).args
    }

    #[test]
    fn the_bounds_begin_with_the_scenario_and_cannot_be_the_wrong_way_round() {
        let scenario = Scenario::default();
        let bounds = args("--slo p99<1ms --vary rate").bounds(&scenario).unwrap();
        assert_eq!((bounds.from, bounds.to, bounds.whole), (100.0, 100_000.0, false));
        let bounds = args("--slo p99<1ms --vary connections --from 10 --to 20").bounds(&scenario).unwrap();
        assert_eq!((bounds.from, bounds.to, bounds.whole), (10.0, 20.0, true));
        for wrong in ["--from 20 --to 10", "--from 0", "--from NaN", "--to NaN"] {
            let failure = args(&format!("--slo p99<1ms --vary rate {wrong}")).bounds(&scenario).unwrap_err();
            assert!(matches!(&failure, Failure::Usage(sentence) if sentence.contains("--from")), "{failure}");
        }
    }

    #[test]
    fn what_has_no_single_load_cannot_be_varied() {
        let mut scenario = Scenario::default();
        scenario.load.kind = LoadKind::Closed;
        assert!(args("--slo p99<1ms --vary rate").bounds(&scenario).is_err());
        scenario.connections.total = 10;
        assert!(args("--slo p99<1ms --vary connections").bounds(&scenario).is_err());
    }

    #[test]
    fn conditions_are_about_values() {
        assert_eq!(args("--slo p99<50ms --slo lost<1 --vary rate").conditions().unwrap().len(), 2);
        for wrong in ["p99<+5%", "p98<1ms", "fast"] {
            let failure = args(&format!("--slo {wrong} --vary rate")).conditions().unwrap_err();
            assert!(matches!(&failure, Failure::Usage(sentence) if sentence.starts_with("--slo")), "{failure}");
        }
    }
}
