//! One repetition: connect, drive, look at the server, judge, record.

use std::time::Duration;

use time::OffsetDateTime;

use super::judge::{Judgement, judge};
use super::look::{Looker, ServerLook};
use crate::failure::Failure;
use crate::fleet::{Drive, Driven, Fleet, Watch};
use crate::machine::ServerProbe;
use crate::measure::{Connecting, Measurement};
use crate::record::recorder::Recorder;
use crate::record::{Repetition, ServerUsage, folder};
use crate::scenario::Scenario;
use crate::terminal::Progress;

/// More intervals of measured time than this would make results of many megabytes that nobody looks at one by one.
const INTERVALS_MAX: u32 = 600;

/// What makes connections and drives loads over them: a [`Fleet`], or what tests put in its place.
pub trait Runs {
    /// As [`Fleet::connect`].
    ///
    /// # Errors
    /// As there.
    fn connect(&mut self, watch: &mut dyn Watch) -> Result<Connecting, Failure>;

    /// As [`Fleet::drive`].
    ///
    /// # Errors
    /// As there.
    fn drive(&mut self, drive: &Drive, watch: &mut dyn Watch) -> Result<Driven, Failure>;
}

impl Runs for Fleet {
    fn connect(&mut self, watch: &mut dyn Watch) -> Result<Connecting, Failure> {
        Fleet::connect(self, watch)
    }

    fn drive(&mut self, drive: &Drive, watch: &mut dyn Watch) -> Result<Driven, Failure> {
        Fleet::drive(self, drive, watch)
    }
}

/// Makes one repetition on fresh connections and records it, whole or as far as it came.
///
/// # Errors
/// [`Failure::Failed`] if it could not be made, or the server's process ended; [`Failure::Interrupted`] if somebody ended
/// it. What there was is recorded all the same.
pub fn repetition(
    scenario: &Scenario,
    runs: &mut impl Runs,
    recorder: &mut Recorder,
    server: Option<&mut ServerProbe>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let begun = folder::timestamp(OffsetDateTime::now_utc());
    progress.begin_connecting(scenario.connections.all(), &scenario.target.url);
    let connected = runs.connect(progress)?;
    let begun = Repetition { begun, connecting: connected, ..empty() };
    let _ = recorder.begin_repetition(begun.clone());
    if progress.is_stopped() {
        return Err(interrupted());
    }

    let drive = drive_of(scenario);
    progress.begin_drive(drive.warmup, drive.duration);
    let server = server.map(|probe| ServerLook::new(probe, drive.warmup, drive.duration));
    let mut looker = Looker { progress, recorder, server };
    let driven = runs.drive(&drive, &mut looker)?;
    let server = looker.server.take().map(ServerLook::end).transpose();

    let stopped = driven.stopped;
    let (repetition, outcome) = made(scenario, begun, driven, server, recorder);
    let _ = recorder.end_repetition(repetition);
    outcome?;
    if stopped { Err(interrupted()) } else { Ok(()) }
}

/// The load of a scenario as a fleet drives it.
pub fn drive_of(scenario: &Scenario) -> Drive {
    let duration = scenario.measured_time();
    // Usually a second; a short run has ten all the same, and a long one not more than six hundred.
    let usual = (duration / 10).clamp(Duration::from_millis(100), Duration::from_secs(1)).min(duration);
    let interval = usual.max(duration / INTERVALS_MAX);
    Drive {
        load: scenario.load.clone(),
        warmup: scenario.warmup.0,
        duration,
        drain_timeout: scenario.drain_timeout.0,
        storm_at: scenario.storm.at.map(|at| at.0),
        interval,
    }
}

/// The repetition as it is recorded, and whether the server's process lived through it.
fn made(
    scenario: &Scenario,
    begun: Repetition,
    driven: Driven,
    server: Result<Option<ServerUsage>, Failure>,
    recorder: &Recorder,
) -> (Repetition, Result<(), Failure>) {
    let Driven { measurement, intervals, stopped } = driven;
    let (server, outcome) = match server {
        Ok(server) => (server.map(|usage| with_cost(usage, &measurement)), Ok(())),
        Err(failure) => (None, Err(failure)),
    };
    let mut repetition = Repetition { complete: !stopped, measurement, intervals, server, ..begun };
    let Judgement { mut void, warnings } = judge(scenario, &recorder.report().environment, &repetition);
    if let Err(failure) = &outcome {
        void.push(format!("{}.", capitalised(&failure.to_string())));
    }
    (repetition.void, repetition.warnings) = (void, warnings);
    (repetition, outcome)
}

/// Adds the CPU time by delivery: the share of a core that the server used, by the rate of deliveries. Both are rates, so
/// it does not matter that its process is looked at a little before or after the measured time's ends.
fn with_cost(usage: ServerUsage, measurement: &Measurement) -> ServerUsage {
    let all: u64 = measurement.tally.roles.values().map(|role| role.received).sum();
    let subscribers = measurement.tally.subscribers().received;
    if usage.wall_ns == 0 || measurement.window_ns == 0 || measurement.received == 0 || subscribers == 0 {
        return usage;
    }
    // Only subscribers are counted within the measured time; the others received in proportion to the whole drive.
    let received = measurement.received as f64 * (all as f64 / subscribers as f64);
    let deliveries_per_ns = received / measurement.window_ns as f64;
    let cpu_per_delivery_ns = usage.cpu_ns as f64 / usage.wall_ns as f64 / deliveries_per_ns;
    ServerUsage { cpu_per_delivery_ns, ..usage }
}

fn empty() -> Repetition {
    Repetition {
        begun: String::new(),
        complete: false,
        void: Vec::new(),
        warnings: Vec::new(),
        connecting: Connecting::default(),
        measurement: Measurement::default(),
        intervals: Vec::new(),
        server: None,
    }
}

fn interrupted() -> Failure {
    Failure::Interrupted("interrupted: what was measured until then is kept".into())
}

fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
