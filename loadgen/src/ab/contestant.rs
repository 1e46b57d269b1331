//! One of the two: its server, the connections to it, and one measured piece of load at a time.

use time::OffsetDateTime;

use crate::command::run::judge;
use crate::failure::Failure;
use crate::fleet::{Drive, Fleet, Watch};
use crate::machine::ServerProbe;
use crate::measure::Connecting;
use crate::record::{Environment, Repetition, ServerUsage, folder};
use crate::scenario::Scenario;
use crate::server_process::{ServerCommand, ServerProcess};

/// How one of the two is started.
#[derive(Debug, Clone)]
pub struct Entrant {
    /// What it is called: `A`, `B` or what the user says.
    pub name: String,
    /// Its server.
    pub server: ServerCommand,
    /// The load, and the way of speaking to it; `target.url` is filled in when it listens.
    pub scenario: Scenario,
}

/// One of the two, running and connected.
#[derive(Debug)]
pub struct Contestant {
    name: String,
    scenario: Scenario,
    server: ServerProcess,
    probe: ServerProbe,
    fleet: Fleet,
    connecting: Option<Connecting>,
}

impl Contestant {
    /// Starts the server and connects to it.
    ///
    /// # Errors
    /// If it does not start, or cannot be connected to; the sentence says which of the two it is.
    pub fn start(entrant: &Entrant, watch: &mut dyn Watch) -> Result<Self, Failure> {
        let named = |failure: Failure| failure.with_prefix(&entrant.name);
        let server = ServerProcess::start(&entrant.server).map_err(named)?;
        let mut scenario = entrant.scenario.clone();
        scenario.target.url = server.url().to_owned();
        let probe = ServerProbe::of(server.pid()).map_err(named)?;
        let mut fleet = Fleet::start(&scenario).map_err(named)?;
        let connecting = fleet.connect(watch).map_err(named)?;
        Ok(Self { name: entrant.name.clone(), scenario, server, probe, fleet, connecting: Some(connecting) })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's process; it and its descendants are the server.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The scenario with the address of its server.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Its server, as it is watched.
    pub fn probe(&self) -> &ServerProbe {
        &self.probe
    }

    /// A piece of load, and whether it was ended before its time. The connection phase is in the first.
    ///
    /// # Errors
    /// If the server ended or the connections cannot be driven.
    pub fn drive(
        &mut self,
        drive: &Drive,
        environment: &Environment,
        watch: &mut dyn Watch,
    ) -> Result<(Repetition, bool), Failure> {
        let begun = folder::timestamp(OffsetDateTime::now_utc());
        self.server.check().map_err(|failure| failure.with_prefix(&self.name))?;
        self.probe.begin()?;
        let driven = self.fleet.drive(drive, watch).map_err(|failure| failure.with_prefix(&self.name))?;
        let usage = self.probe.end()?;
        self.server.check().map_err(|failure| failure.with_prefix(&self.name))?;
        let mut repetition = Repetition {
            begun,
            complete: !driven.stopped,
            void: Vec::new(),
            warnings: Vec::new(),
            connecting: self.connecting.take().unwrap_or_default(),
            server: Some(with_cost(usage, driven.measurement.tally.roles.values().map(|role| role.received).sum())),
            measurement: driven.measurement,
            intervals: driven.intervals,
        };
        let judgement = judge(&self.scenario, environment, &repetition);
        (repetition.void, repetition.warnings) = (judgement.void, judgement.warnings);
        Ok((repetition, driven.stopped))
    }

    /// Ends the connections in order, and the server.
    pub fn end(self) {
        self.fleet.close();
    }
}

/// What a delivery cost. The server was looked at before the first publication and after the last delivery, so all that it
/// did and all that it delivered lie between: warm-up and drain as well.
fn with_cost(usage: ServerUsage, deliveries: u64) -> ServerUsage {
    let cpu_per_delivery_ns = if deliveries == 0 { 0.0 } else { usage.cpu_ns as f64 / deliveries as f64 };
    ServerUsage { cpu_per_delivery_ns, ..usage }
}
