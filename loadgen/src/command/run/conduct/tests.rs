//! Repetitions made by what plays a fleet: recorded whole, cut short, judged.

use std::path::Path;

use super::*;
use crate::command::run::begun;
use crate::measure::{Interval, RoleTally};
use crate::record::Report;
use crate::terminal::Stop;

/// Plays a fleet: one repetition of ten deliveries in two intervals, or a failure.
#[derive(Default)]
struct Played {
    connect: Option<Failure>,
    drive: Option<Failure>,
    stop_in: Option<(Where, Stop)>,
}

#[derive(PartialEq)]
enum Where {
    Connect,
    Drive,
}

impl Runs for Played {
    fn connect(&mut self, watch: &mut dyn Watch) -> Result<Connecting, Failure> {
        let connecting = Connecting { wanted: 5, connected: 5, ..Connecting::default() };
        watch.connecting(&connecting);
        self.stop_at(Where::Connect);
        self.connect.clone().map_or(Ok(connecting), Err)
    }

    fn drive(&mut self, drive: &Drive, watch: &mut dyn Watch) -> Result<Driven, Failure> {
        let length = drive.interval.as_nanos() as i64;
        let interval =
            |n: i64| Interval { begin_ns: n * length, length_ns: length as u64, received: 5, ..Interval::default() };
        let intervals = vec![interval(-1), interval(0)];
        watch.interval(&intervals[0]);
        self.stop_at(Where::Drive);
        watch.interval(&intervals[1]);
        let role = RoleTally { expected: 10, received: 10, ..RoleTally::default() };
        let mut measurement = Measurement { window_ns: 1_000_000_000, received: 10, ..Measurement::default() };
        measurement.tally.roles.insert("subscriber".into(), role);
        let driven = Driven { measurement, intervals, stopped: watch.is_stopped() };
        self.drive.clone().map_or(Ok(driven), Err)
    }
}

impl Played {
    fn stop_at(&self, place: Where) {
        if let Some((_, stop)) = self.stop_in.as_ref().filter(|(at, _)| *at == place) {
            stop.set();
        }
    }
}

fn scenario() -> Scenario {
    let mut scenario = Scenario::default();
    scenario.target.url = "ws://127.0.0.1:1".into();
    scenario
}

/// One repetition; gives its outcome and the report that stands in the folder afterwards.
fn played(mut fleet: Played, stop: Stop, server: Option<&mut ServerProbe>) -> (Result<(), Failure>, Report) {
    let folder = tempfile::tempdir().unwrap();
    let scenario = scenario();
    let now = OffsetDateTime::UNIX_EPOCH;
    let mut recorder = Recorder::begin(folder.path(), begun(&scenario, None, now), now).unwrap();
    let mut progress = Progress::new(true, stop);
    let outcome = repetition(&scenario, &mut fleet, &mut recorder, server, &mut progress);
    recorder.end(outcome.as_ref().err().map(ToString::to_string)).1.unwrap();
    (outcome, read(folder.path()))
}

fn read(folder: &Path) -> Report {
    crate::record::read::read(folder).unwrap()
}

#[test]
fn a_repetition_is_recorded_with_its_connections_its_course_and_the_server() {
    let mut probe = ServerProbe::of(std::process::id()).unwrap();
    let (outcome, report) = played(Played::default(), Stop::default(), Some(&mut probe));
    assert_eq!(outcome, Ok(()));
    assert!(report.complete && report.ended_early.is_none());
    let repetition = &report.repetitions[0];
    assert!(repetition.complete && repetition.void.is_empty());
    assert_eq!((repetition.connecting.connected, repetition.intervals.len()), (5, 2));
    assert!(repetition.server.as_ref().is_some_and(|server| server.threads > 0));
}

#[test]
fn a_wish_to_end_is_followed_while_connecting_and_while_driving_and_what_there_is_is_kept() {
    for (place, complete_parts) in [(Where::Connect, 0), (Where::Drive, 2)] {
        let stop = Stop::default();
        let fleet = Played { stop_in: Some((place, stop.clone())), ..Played::default() };
        let (outcome, report) = played(fleet, stop, None);
        assert_eq!(outcome.unwrap_err().exit_code(), 130);
        assert!(!report.complete && report.ended_early.is_some());
        assert_eq!((report.repetitions.len(), report.repetitions[0].complete), (1, false));
        assert_eq!(report.repetitions[0].intervals.len(), complete_parts);
    }
}

#[test]
fn a_failure_ends_the_run_and_leaves_what_there_was() {
    let refused = || Some(Failure::failed("refused"));
    let (outcome, report) = played(Played { connect: refused(), ..Played::default() }, Stop::default(), None);
    assert_eq!(outcome, Err(Failure::failed("refused")));
    assert_eq!((report.repetitions.len(), report.ended_early.as_deref()), (0, Some("refused")));
    let (outcome, report) = played(Played { drive: refused(), ..Played::default() }, Stop::default(), None);
    assert_eq!(outcome, Err(Failure::failed("refused")));
    assert_eq!((report.repetitions.len(), report.repetitions[0].intervals.len()), (1, 2));
}

#[test]
fn a_server_that_ended_makes_the_repetition_void_and_the_run_fail() {
    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let mut probe = ServerProbe::of(child.id()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let (outcome, report) = played(Played::default(), Stop::default(), Some(&mut probe));
    assert!(outcome.unwrap_err().to_string().contains("ended during the run"));
    assert!(report.repetitions[0].void[0].contains("The server's process"), "{:?}", report.repetitions[0].void);
    assert!(report.repetitions[0].server.is_none());
}

#[test]
fn cost_by_delivery_is_a_share_of_a_core_by_a_rate_and_counts_all_roles() {
    let mut measurement = Measurement { window_ns: 1_000_000_000, received: 1000, ..Measurement::default() };
    let role = |received| RoleTally { received, ..RoleTally::default() };
    measurement.tally.roles = [("subscriber".into(), role(2000)), ("slow".into(), role(2000))].into();
    // Half a core, looked at for two seconds, while 2,000 deliveries a second came.
    let usage = ServerUsage { cpu_ns: 1_000_000_000, wall_ns: 2_000_000_000, ..ServerUsage::default() };
    assert_eq!(with_cost(usage.clone(), &measurement).cpu_per_delivery_ns, 250_000.0);
    assert_eq!(with_cost(usage, &Measurement::default()).cpu_per_delivery_ns, 0.0);
}

#[test]
fn a_short_run_has_ten_intervals_a_usual_one_seconds_and_an_hour_six_hundred() {
    let mut scenario = scenario();
    let interval = |scenario: &Scenario| drive_of(scenario).interval;
    assert_eq!(interval(&scenario), Duration::from_secs(1));
    scenario.duration.0 = Duration::from_secs(2);
    assert_eq!(interval(&scenario), Duration::from_millis(200));
    scenario.duration.0 = Duration::from_millis(100);
    assert_eq!(interval(&scenario), Duration::from_millis(100));
    scenario.duration.0 = Duration::from_secs(3600);
    assert_eq!(interval(&scenario), Duration::from_secs(6));
}
