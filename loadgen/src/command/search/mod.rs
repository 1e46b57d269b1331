//! `loadgen search`: the largest load that keeps an objective.

mod args;
mod outcome;

pub use args::{SearchArgs, Vary};

use std::fs;
use std::path::Path;

use time::OffsetDateTime;

use crate::command::report;
use crate::command::run::{begun, repetition, why};
use crate::failure::Failure;
use crate::fleet::{Fleet, Watch as _};
use crate::machine::ServerProbe;
use crate::record::recorder::Recorder;
use crate::record::{Repetition, folder};
use crate::scenario::Scenario;
use crate::search::strategy::{Next, Search};
use crate::target::Target;
use crate::terminal::{self, Progress, Stop};
use outcome::{Outcome, Probe};

/// The document of the search, in the folder of its result.
const DOCUMENT: &str = "search.json";

/// Searches, writes and shows what was found.
///
/// # Errors
/// [`Failure::Usage`] for a wrong scenario or condition; [`Failure::Failed`] if a run cannot be made for another reason than
/// the load, or not even the smallest load keeps the objective; [`Failure::Interrupted`] after Ctrl-C.
pub fn run(args: &SearchArgs) -> Result<(), Failure> {
    let mut scenario = args.scenario.resolve()?;
    scenario.repetitions = 1;
    let conditions = args.conditions()?;
    let bounds = args.bounds(&scenario)?;
    Target::of(&scenario)?;
    let mut progress = Progress::new(args.quiet, Stop::on_signals()?);
    let folder = folder::create(args.out.as_deref(), &format!("{}-search", scenario.name), OffsetDateTime::now_utc())?;

    let mut search = Search::new(bounds);
    let mut outcome = Outcome::new(args.vary, &conditions);
    let searched = search_with(&mut search, &mut outcome, &mut |load, number| {
        let scenario = args.vary.with(&scenario, load);
        progress.begin_part(&format!("run {number}: {load} {}", args.vary.unit()));
        let folder = folder.join(format!("{number:02}-{load}"));
        let made = one_run(&scenario, &folder, &mut progress)?;
        if progress.is_stopped() {
            return Err(Failure::Interrupted("interrupted: the runs made until then are kept".into()));
        }
        Ok(Probe::of(load, &made, &conditions))
    });
    progress.clear();
    outcome.write(&folder.join(DOCUMENT))?;
    if !outcome.probes.is_empty() {
        report::write_pages(&folder)?;
    }
    terminal::print(&if args.json { outcome.json()? } else { outcome.text(&folder) })?;
    searched?;
    outcome.verdict()
}

/// Tries what the strategy asks for until it has found something, or a run fails.
fn search_with(
    search: &mut Search,
    outcome: &mut Outcome,
    try_load: &mut dyn FnMut(f64, usize) -> Result<Probe, Failure>,
) -> Result<(), Failure> {
    loop {
        let (load, confirms) = match search.next() {
            Next::Try(load) => (load, false),
            Next::Confirm(load) => (load, true),
            Next::Done(found) => {
                outcome.found = Some(found);
                return Ok(());
            }
        };
        let probe = try_load(load, outcome.probes.len() + 1)?;
        search.tell(probe.is_kept);
        outcome.probes.push(Probe { confirms, ..probe });
    }
}

/// One whole run, with a result of its own. One that cannot connect under this load is a repetition that kept nothing.
fn one_run(scenario: &Scenario, folder: &Path, progress: &mut Progress) -> Result<Repetition, Failure> {
    let now = OffsetDateTime::now_utc();
    fs::create_dir_all(folder)
        .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", folder.display())))?;
    let mut server = scenario.server.pid.map(ServerProbe::of).transpose()?;
    let mut recorder = Recorder::begin(folder, begun(scenario, server.as_ref(), now), now)?;
    let mut fleet = Fleet::start(scenario)?;
    let made = repetition(scenario, &mut fleet, &mut recorder, server.as_mut(), progress);
    fleet.close();
    let (report, kept) = recorder.end(made.as_ref().err().map(why));
    kept?;
    match made {
        Ok(()) => report.repetitions.into_iter().next().ok_or_else(|| Failure::failed("the run left no repetition")),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::fail_if::Condition;
    use crate::record::figures::find;
    use crate::record::sample::Sample;
    use crate::search::strategy::{Bounds, Found};

    /// A server whose p99 grows with the load.
    fn played(load: f64) -> Repetition {
        let sample = Sample { repetitions: 1, seconds: 1, factor: load / 100.0, noise: 0.0, ..Sample::default() };
        sample.report().repetitions.remove(0)
    }

    #[test]
    fn the_load_at_which_the_objective_breaks_is_found_and_told() {
        let p99 = find("p99").unwrap();
        let bound_ns = p99.value(&played(700.0)).unwrap();
        let condition: Condition = format!("p99<{}ns", bound_ns as u64).parse().unwrap();
        let conditions = [condition];
        let mut search = Search::new(Bounds { from: 100.0, to: 10_000.0, precision: 1.05, whole: false });
        let mut outcome = Outcome::new(Vary::Rate, &conditions);
        search_with(&mut search, &mut outcome, &mut |load, _| Ok(Probe::of(load, &played(load), &conditions))).unwrap();
        let Some(Found::Largest { kept, missed: Some(missed) }) = outcome.found else { panic!("{:?}", outcome.found) };
        assert!(kept < 705.0 && missed > 655.0 && missed / kept <= 1.05, "{kept} {missed}");
        let text = outcome.text(Path::new("x"));
        assert!(text.contains(&format!("{kept} publications/s")), "{text}");
        assert!(outcome.verdict().is_ok());
        let json: serde_json::Value = serde_json::from_str(&outcome.json().unwrap()).unwrap();
        assert_eq!(json["largest_kept"].as_f64(), Some(kept));
        assert_eq!(json["probes"].as_array().map(Vec::len), Some(outcome.probes.len()));
    }

    #[test]
    fn void_runs_keep_nothing_and_are_called_void() {
        let conditions = ["p99<1h".parse::<Condition>().unwrap()];
        let mut void = played(100.0);
        void.void.push("The load generator was the bottleneck.".into());
        let probe = Probe::of(100.0, &void, &conditions);
        assert!(!probe.is_kept && probe.is_void);
        let mut outcome = Outcome::new(Vary::Rate, &conditions);
        let mut search = Search::new(Bounds { from: 100.0, to: 1000.0, precision: 1.05, whole: false });
        search_with(&mut search, &mut outcome, &mut |load, _| Ok(Probe::of(load, &void, &conditions))).unwrap();
        assert!(outcome.text(Path::new("x")).contains("void"));
        assert!(outcome.verdict().is_err(), "nothing was found");
    }
}
