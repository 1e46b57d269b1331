//! `loadgen ab`: starts two servers, loads them in turns, and tells whether B differs from A.

mod args;
mod results;

pub use args::AbArgs;

use std::time::Duration;

use time::OffsetDateTime;

use crate::ab::slices::{self, Plan};
use crate::ab::{Contestant, Entrant, Pairs, whole};
use crate::command::compare::{asked, met, settings};
use crate::command::run::drive_of;
use crate::compare::Options;
use crate::failure::Failure;
use crate::fleet::{Drive, Watch as _};
use crate::record::folder;
use crate::scenario::{LoadKind, Scenario};
use crate::terminal::{self, Progress, Stop};
use results::Results;

/// A slice begins with this share of its length that is not measured: what the other side left behind passes.
const SETTLING: u32 = 10;

/// Starts both, takes the pairs, writes and shows what they gave.
///
/// # Errors
/// [`Failure::Usage`] for a wrong scenario or condition; [`Failure::Failed`] if a server cannot be started or ends;
/// [`Failure::Interrupted`] after Ctrl-C: the pairs there are are written and compared; [`Failure::Condition`] if a condition
/// is met.
pub fn run(args: &AbArgs) -> Result<(), Failure> {
    let scenario = args.scenario.resolve_without_url()?;
    let (conditions, figures) = asked(&args.fail_if, &args.figure)?;
    check(args, &scenario)?;
    let (a, b) = args.entrants(&scenario)?;
    let mut progress = Progress::new(args.quiet, Stop::on_signals()?);
    let now = OffsetDateTime::now_utc();
    let folder = folder::create(args.out.as_deref(), &format!("{}-ab", scenario.name), now)?;
    let mut results = Results::begin(&folder, [&a, &b], now)?;

    let taken = if args.whole {
        whole_runs(args, &a, &b, &mut results, &mut progress)
    } else {
        slices(args, &a, &b, &mut results, &mut progress)
    };
    let stopped = progress.is_stopped();
    progress.clear();
    let options = Options { figures, settings: settings(1, args.least / 100.0), paired: true };
    let shown = results.end(&taken, stopped, &conditions, &options)?;
    let taken = taken?;
    terminal::print(&if args.json { shown.json } else { shown.text(&taken, &folder) })?;
    if stopped {
        return Err(Failure::Interrupted("interrupted: the pairs there are were compared".into()));
    }
    met(&shown.judged)
}

/// What holds for turns only.
fn check(args: &AbArgs, scenario: &Scenario) -> Result<(), Failure> {
    let is_course = matches!(scenario.load.kind, LoadKind::Steps | LoadKind::Ramp);
    if !args.whole && is_course {
        return Err(Failure::usage(
            "load.kind: steps and ramps take a whole run; slices want a load that stays the same (or add --whole)",
        ));
    }
    if scenario.storm.at.is_some() && !args.whole {
        return Err(Failure::usage("storm.at (--reconnect-storm): a storm takes a whole run (add --whole)"));
    }
    Ok(())
}

fn slices(
    args: &AbArgs,
    a: &Entrant,
    b: &Entrant,
    results: &mut Results,
    progress: &mut Progress,
) -> Result<Pairs, Failure> {
    let mut contestants = Vec::new();
    for entrant in [a, b] {
        progress.begin_part(&entrant.name);
        progress.begin_connecting(entrant.scenario.connections.all(), &entrant.server.command);
        contestants.push(Contestant::start(entrant, progress)?);
        if progress.is_stopped() {
            return Ok(Pairs::default());
        }
    }
    let [a, b] = contestants.as_mut_slice() else { unreachable!("two were started") };
    results.started([a, b]);
    let plan = plan(args, a.scenario());
    progress.begin_part("");
    progress.note(&format!("{} pairs of slices of {}", args.pairs, args.slice));
    let taken = slices::take(a, b, &plan, &results.environment(), progress, &mut |progress, pairs| {
        results.add(pairs);
        results.show(progress, pairs, args.pairs);
    });
    for contestant in contestants {
        contestant.end();
    }
    taken
}

fn plan(args: &AbArgs, scenario: &Scenario) -> Plan {
    let slice = Drive {
        warmup: args.slice.0 / SETTLING,
        duration: args.slice.0,
        // One interval a slice: its histogram is all there is to keep.
        interval: args.slice.0,
        ..drive_of(scenario)
    };
    let warmup = Drive { duration: scenario.warmup.0.max(Duration::from_millis(100)), ..slice.clone() };
    let mut cores: Vec<usize> = scenario.server.cores.iter().chain(&scenario.client.pin).copied().collect();
    cores.sort_unstable();
    cores.dedup();
    if cores.is_empty() {
        cores = core_affinity::get_core_ids().into_iter().flatten().map(|core| core.id).collect();
    }
    Plan { pairs: args.pairs, slice, warmup, cores, others_max: args.others_max / 100.0 }
}

fn whole_runs(
    args: &AbArgs,
    a: &Entrant,
    b: &Entrant,
    results: &mut Results,
    progress: &mut Progress,
) -> Result<Pairs, Failure> {
    let drive = drive_of(&a.scenario);
    progress.note(&format!("{} pairs of whole runs", args.pairs));
    whole::take(a, b, args.pairs, &drive, &results.environment(), progress, &mut |progress, pairs| {
        results.add(pairs);
        results.show(progress, pairs, args.pairs);
    })
}
