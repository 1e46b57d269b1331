//! What this machine can do at all: the same connections and the same load, on a bare loop of `send()`.
//!
//! The bare loop ([`crate::bare`]) is a process of its own on the server's cores, measured by the same fleet as any
//! server, so every figure of a run has its counterpart here, and the share of the ceiling survives a change of machine.

use std::time::Duration;

use crate::failure::Failure;
use crate::fleet::{Drive, Driven, Fleet, Watch};
use crate::machine::ServerProbe;
use crate::record::Ceiling;
use crate::scenario::{Connections, Load, LoadKind, PublishVia, Scenario, Storm, TargetSettings, Topics};
use crate::server_process::{ServerCommand, ServerProcess};
use crate::units::Amount;

/// How long each of the two saturating loads is measured.
const SATURATED: Duration = Duration::from_secs(2);

/// Publications under way when the loops are to go as fast as they can.
const IN_FLIGHT: u32 = 64;

/// Measures the ceiling for the subscribers, payload and load of `scenario`, on its server's cores.
///
/// # Errors
/// If the bare loop cannot be started or connected to; [`Failure::Interrupted`] if [`Watch::is_stopped`] ends it.
pub fn measure(scenario: &Scenario, watch: &mut dyn Watch) -> Result<Ceiling, Failure> {
    let server_cores = &scenario.server.cores;
    let bare = bare_scenario(scenario);
    let saturating = Drive {
        load: Load { kind: LoadKind::Closed, in_flight: IN_FLIGHT, ..Load::default() },
        warmup: Duration::from_millis(500),
        duration: SATURATED,
        drain_timeout: bare.drain_timeout.0,
        storm_at: None,
        interval: Duration::from_secs(1),
    };
    let paced =
        Drive { load: bare.load.clone(), warmup: bare.warmup.0, duration: bare.measured_time(), ..saturating.clone() };
    let mut each_message = Loop::start(&bare, "each-message", server_cores, watch)?;
    let (at_load, cpu_per_delivery_ns) = each_message.drive(&paced, watch)?;
    let (sends, _) = each_message.drive(&saturating, watch)?;
    each_message.end();
    let mut each_read = Loop::start(&bare, "each-read", server_cores, watch)?;
    let (coalesced, _) = each_read.drive(&saturating, watch)?;
    each_read.end();
    Ok(Ceiling {
        sockets: bare.connections.subscribers,
        payload_bytes: bare.payload.bytes.0,
        completion: at_load.measurement.completion.clone(),
        latency: at_load.measurement.corrected.clone(),
        cpu_per_delivery_ns,
        sends_per_s: deliveries_per_s(&sends),
        coalesced_per_s: deliveries_per_s(&coalesced),
    })
}

/// The scenario without all that a bare loop does not know: one topic, subscribers and one publisher.
fn bare_scenario(scenario: &Scenario) -> Scenario {
    let nobody = Amount::Count(0);
    Scenario {
        target: TargetSettings::default(),
        connections: Connections {
            total: 0,
            subscribers: scenario.connections.subscribers(),
            publishers: 1,
            publish_via: PublishVia::WebSocket,
            idle: nobody,
            slow: nobody,
            stalled: nobody,
            churning: nobody,
            ..scenario.connections.clone()
        },
        topics: Topics::default(),
        storm: Storm::default(),
        ..scenario.clone()
    }
}

fn deliveries_per_s(driven: &Driven) -> f64 {
    let window_s = driven.measurement.window_ns as f64 / 1e9;
    if window_s > 0.0 { driven.measurement.received as f64 / window_s } else { 0.0 }
}

/// A bare loop and the connections to it.
struct Loop {
    server: ServerProcess,
    probe: ServerProbe,
    fleet: Fleet,
}

impl Loop {
    fn start(scenario: &Scenario, sending: &str, cores: &[usize], watch: &mut dyn Watch) -> Result<Self, Failure> {
        let server = ServerProcess::start(&bare_command(sending, cores)?)?;
        let probe = ServerProbe::of(server.pid())?;
        let mut scenario = scenario.clone();
        scenario.target.url = server.url().to_owned();
        let mut fleet = Fleet::start(&scenario)?;
        fleet.connect(watch)?;
        if watch.is_stopped() {
            return Err(interrupted());
        }
        Ok(Self { server, probe, fleet })
    }

    /// What a load gave, and the loop's CPU time by delivery in nanoseconds.
    fn drive(&mut self, drive: &Drive, watch: &mut dyn Watch) -> Result<(Driven, f64), Failure> {
        self.probe.begin()?;
        let driven = self.fleet.drive(drive, watch)?;
        if driven.stopped || watch.is_stopped() {
            return Err(interrupted());
        }
        let usage = self.probe.end()?;
        self.server.check()?;
        let deliveries = driven.measurement.tally.subscribers().received;
        let cpu_per_delivery_ns = if deliveries > 0 { usage.cpu_ns as f64 / deliveries as f64 } else { 0.0 };
        Ok((driven, cpu_per_delivery_ns))
    }

    fn end(self) {
        self.fleet.close();
    }
}

/// Half a ceiling is none.
fn interrupted() -> Failure {
    Failure::Interrupted("interrupted: the ceiling was not measured".into())
}

/// How this very program serves as the bare loop.
///
/// # Errors
/// If the path of this program is not known.
pub fn bare_command(sending: &str, cores: &[usize]) -> Result<ServerCommand, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("the path of this program is not known: {error}")))?;
    let quoted = program.to_string_lossy().replace('\'', r"'\''");
    let command = format!("exec '{quoted}' bare --listen 127.0.0.1:0 --sending {sending}");
    Ok(ServerCommand { command, url: None, cores: cores.to_vec() })
}
