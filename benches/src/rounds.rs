//! Interleaved rounds: every contestant once in each round, in an order that turns around each time, so that what the
//! machine does meanwhile hits all of them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::contestants::{Contestant, Totals};
use crate::cpu::{CpuTime, ProcessTimes};
use crate::driver::{Driver, Load, Phase};
use crate::server_process::{Placement, ServerProcess};
use crate::{Result, sys};

/// The topic of the benches.
const TOPIC: &str = "bench";

/// How long a server may take to finish what a phase has left it to do, before its CPU time is read.
const SETTLE_TIME: Duration = Duration::from_millis(20);

/// A client that is busier than this is what limits the figures.
pub const MAX_CLIENT_CPU_SHARE: f64 = 0.9;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Who takes part.
    pub contestants: Vec<Contestant>,
    /// Subscribers of the one topic.
    pub subscribers: usize,
    /// Bytes of each payload.
    pub payload_bytes: usize,
    /// How publications are offered.
    pub load: Load,
    /// Time of the measured phase of each round.
    pub duration: Duration,
    /// Time of the phase before it that counts for nothing.
    pub warm_up: Duration,
    /// Number of rounds.
    pub rounds: usize,
    /// The cores.
    pub placement: Placement,
    /// The engine's binary.
    pub engine: PathBuf,
    /// More arguments for it.
    pub engine_arguments: Vec<OsString>,
    /// Whether the servers' stderr is shown.
    pub show_log: bool,
}

/// A round is called disturbed when server or client waited for their core for more of its time than this.
pub const MAX_DISTURBANCE: f64 = 0.05;

/// One contestant in one round.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Who.
    pub contestant: Contestant,
    /// In which round, from 0.
    pub round: usize,
    /// What the driver saw.
    pub phase: Phase,
    /// CPU time of all threads of the server, from idle before to idle after the phase.
    pub server_cpu: CpuTime,
    /// What the server counted over warm-up and phase, and the deliveries of both: for frames in each `send`.
    pub totals: Option<(Totals, u64)>,
}

impl Outcome {
    /// Whether the client was too busy for throughput and latency to be the server's.
    pub fn is_void(&self) -> bool {
        self.client_cpu_share() > MAX_CLIENT_CPU_SHARE
    }

    /// Whether every publication reached every subscriber once and in order.
    pub fn is_complete(&self) -> bool {
        let received = &self.phase.received;
        !self.phase.stalled && received.gaps + received.repeated + received.alien + received.closed == 0
    }

    /// The part of its core that the client used.
    pub fn client_cpu_share(&self) -> f64 {
        self.phase.client_cpu.used().as_secs_f64() / self.phase.elapsed.as_secs_f64()
    }

    /// The part of the time in which server or client were ready to run but something else had their core.
    pub fn disturbance(&self) -> f64 {
        let waited = self.server_cpu.waited().max(self.phase.client_cpu.waited());
        waited.as_secs_f64() / self.phase.elapsed.as_secs_f64()
    }

    /// Deliveries in each second of the wall clock.
    pub fn deliveries_per_s(&self) -> f64 {
        self.phase.received.deliveries as f64 / self.phase.elapsed.as_secs_f64()
    }

    /// CPU time of the server for each delivery.
    pub fn server_ns_per_delivery(&self) -> f64 {
        self.server_cpu.used_ns as f64 / self.phase.received.deliveries as f64
    }
}

/// Runs all rounds; `progress` hears of each outcome as it comes.
pub fn run(plan: &Plan, mut progress: impl FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    sys::raise_open_files_limit()?;
    let mut outcomes = Vec::new();
    for round in 0..plan.rounds {
        let mut order = plan.contestants.clone();
        if round % 2 == 1 {
            order.reverse();
        }
        for contestant in order {
            let outcome = run_one(plan, contestant, round)
                .map_err(|error| format!("{} in round {round}: {error}", contestant.name()))?;
            progress(&outcome);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

/// A fresh server, a warm-up, the measured phase.
fn run_one(plan: &Plan, contestant: Contestant, round: usize) -> Result<Outcome> {
    let (program, mut arguments) = contestant.command(&plan.engine)?;
    if contestant == Contestant::Engine {
        arguments.extend(plan.engine_arguments.iter().cloned());
    }
    let server = ServerProcess::start(&program, &arguments, plan.placement, plan.show_log)?;
    let mut driver = Driver::connect(server.address(), TOPIC, plan.subscribers, plan.payload_bytes)?;
    let warm_up = driver.run(plan.load, plan.warm_up)?;
    std::thread::sleep(SETTLE_TIME);
    let before = ProcessTimes::of(server.id())?;
    let phase = driver.run(plan.load, plan.duration)?;
    std::thread::sleep(SETTLE_TIME);
    let server_cpu = ProcessTimes::of(server.id())?.since(&before);
    if phase.received.deliveries == 0 {
        return Err("not a single delivery".into());
    }
    drop(driver);
    let deliveries = warm_up.received.deliveries + phase.received.deliveries;
    let says_totals = contestant != Contestant::Engine;
    let totals = says_totals.then(|| server.totals()).flatten().map(|totals| (totals, deliveries));
    Ok(Outcome { contestant, round, phase, server_cpu, totals })
}
