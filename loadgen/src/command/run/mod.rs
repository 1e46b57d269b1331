//! `loadgen run`: makes the repetitions of a scenario, and writes, shows and judges what they gave.

mod args;
mod conduct;
mod judge;
mod look;

pub use args::RunArgs;
pub use conduct::{Runs, drive_of, repetition};
pub use judge::{Judgement, judge};

use std::path::Path;

use time::OffsetDateTime;

use crate::ceiling;
use crate::failure::Failure;
use crate::fleet::Fleet;
use crate::machine::{ServerProbe, environment};
use crate::page;
use crate::record::recorder::Recorder;
use crate::record::{FORMAT, Report, VERSION, folder};
use crate::scenario::Scenario;
use crate::terminal::{self, Progress, Stop, summary, table};

/// Runs it. Ctrl-C (or SIGTERM) ends it in order: what there is is written and shown, and the exit code is 130; a second
/// signal ends it at once.
///
/// # Errors
/// [`Failure::Usage`] for a wrong scenario; [`Failure::Failed`] if a repetition could not be made or the result not be
/// kept (what there is is written all the same); [`Failure::Interrupted`] after a signal. A void run is no failure: every
/// output says so.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let scenario = args.scenario.resolve()?;
    // Whatever is known to be wrong is told before there is a folder for a result.
    Fleet::check(&scenario)?;
    let mut server = scenario.server.pid.map(ServerProbe::of).transpose()?;
    let mut progress = Progress::new(args.quiet, Stop::on_signals()?);

    let now = OffsetDateTime::now_utc();
    let folder = folder::create(args.out.as_deref(), &scenario.name, now)?;
    let mut recorder = Recorder::begin(&folder, begun(&scenario, server.as_ref(), now), now)?;

    let ceiling = if args.ceiling { measure_ceiling(&scenario, &mut recorder, &mut progress) } else { Ok(()) };
    let made = ceiling.and_then(|()| repetitions(&scenario, &mut recorder, server.as_mut(), &mut progress));
    progress.clear();
    let (report, kept) = recorder.end(made.as_ref().err().map(why));
    let page = page::write_report(&folder, &report).map(drop);
    let shown = show(args, &report, &folder);
    made.and(kept).and(page).and(shown)
}

/// Measures what the machine can do, and keeps it with the result.
fn measure_ceiling(scenario: &Scenario, recorder: &mut Recorder, progress: &mut Progress) -> Result<(), Failure> {
    progress.note("measuring the ceiling of this machine");
    recorder.ceiling(ceiling::measure(scenario, progress)?);
    Ok(())
}

/// A report as it is at the beginning.
pub(super) fn begun(scenario: &Scenario, server: Option<&ServerProbe>, now: OffsetDateTime) -> Report {
    Report {
        format: FORMAT.into(),
        version: VERSION,
        created: folder::timestamp(now),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        scenario: scenario.clone(),
        environment: environment::read(scenario, server),
        complete: false,
        ended_early: None,
        ceiling: None,
        repetitions: Vec::new(),
    }
}

/// All repetitions, each on fresh connections, until one cannot be made or somebody ends it.
fn repetitions(
    scenario: &Scenario,
    recorder: &mut Recorder,
    mut server: Option<&mut ServerProbe>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    for number in 1..=scenario.repetitions {
        if scenario.repetitions > 1 {
            progress.begin_part(&format!("repetition {number} of {}", scenario.repetitions));
        }
        let mut fleet = Fleet::start(scenario)?;
        let made = repetition(scenario, &mut fleet, recorder, server.as_deref_mut(), progress);
        fleet.close();
        made?;
    }
    Ok(())
}

/// What `ended_early` says.
pub(super) fn why(failure: &Failure) -> String {
    match failure {
        Failure::Interrupted(_) => "interrupted".into(),
        other => other.to_string(),
    }
}

/// The table or the summary on standard output.
fn show(args: &RunArgs, report: &Report, folder: &Path) -> Result<(), Failure> {
    terminal::print(&if args.json { summary::json(report, folder)? } else { table::text(report, folder) })
}
