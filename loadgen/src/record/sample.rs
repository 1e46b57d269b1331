//! Reports made up from a seed, for tests and for looking at pages: log-normal latencies, a stall, several repetitions.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};
use time::macros::datetime;

use crate::measure::{Connecting, Interval, Latencies, Measurement, OwnWorker, RoleTally, StormOutcome, Tally};
use crate::record::{Ceiling, Environment, FORMAT, Repetition, Report, ServerUsage, VERSION, folder};
use crate::scenario::Scenario;
use crate::units::Span;

/// What a made-up report is to look like.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Of everything random.
    pub seed: u64,
    /// The scenario's name.
    pub name: String,
    /// How many repetitions.
    pub repetitions: u32,
    /// Seconds of each, two of warm-up come in front.
    pub seconds: u64,
    /// All latencies are multiplied by this.
    pub factor: f64,
    /// How much a repetition differs from another: the deviation of the logarithm.
    pub noise: f64,
    /// Subscribers.
    pub subscribers: u64,
    /// Publications a second.
    pub rate: u64,
    /// A stall of half a second in the middle.
    pub stall: bool,
    /// The server's revision.
    pub revision: String,
    /// Days after 2026-11-20.
    pub day: i64,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            seed: 1,
            name: "fan-out-1000".into(),
            repetitions: 5,
            seconds: 20,
            factor: 1.0,
            noise: 0.03,
            subscribers: 1000,
            rate: 100,
            stall: false,
            revision: "fanfare 0791570".into(),
            day: 0,
        }
    }
}

/// Samples drawn for an interval; each stands for as many deliveries as it takes.
const DRAWN: u64 = 500;

impl Sample {
    /// The report; the same settings give the same one.
    pub fn report(&self) -> Report {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let mut scenario = Scenario { name: self.name.clone(), repetitions: self.repetitions, ..Scenario::default() };
        scenario.target.url = "ws://127.0.0.1:4000".into();
        scenario.duration = Span(Duration::from_secs(self.seconds));
        scenario.connections.subscribers = self.subscribers;
        scenario.load.rate_per_s = self.rate as f64;
        scenario.server.revision.clone_from(&self.revision);
        let begun = datetime!(2026-11-20 12:00 UTC) + time::Duration::days(self.day);
        let repetitions = (0..self.repetitions).map(|n| {
            let begun = begun + time::Duration::seconds(i64::from(n) * 30);
            self.repetition(&mut rng, folder::timestamp(begun))
        });
        let repetitions: Vec<_> = repetitions.collect();
        Report {
            format: FORMAT.into(),
            version: VERSION,
            created: folder::timestamp(begun),
            command: ["loadgen", "run", "scenarios/fan-out.toml", "--repetitions", "5"].map(String::from).to_vec(),
            scenario,
            environment: environment(&self.revision),
            complete: true,
            ended_early: None,
            ceiling: Some(self.ceiling(&mut rng)),
            repetitions,
        }
    }

    /// One repetition.
    pub fn repetition(&self, rng: &mut Xoshiro256PlusPlus, begun: String) -> Repetition {
        let drift = lognormal(1.0, self.noise).sample(rng) * self.factor;
        let mut measurement = Measurement { window_ns: self.seconds * 1_000_000_000, ..Measurement::default() };
        let mut intervals = Vec::new();
        for second in -2..self.seconds as i64 {
            let stalled = self.stall && second == self.seconds as i64 / 2;
            let interval = self.interval(rng, second, drift, stalled, &mut measurement);
            intervals.push(interval);
        }
        for _ in 0..self.subscribers.min(2000) {
            measurement.subscriber_medians.record((lognormal(820_000.0 * drift, 0.04).sample(rng)) as u64);
        }
        measurement.tally = self.tally(&measurement);
        measurement.workers = vec![self.worker(rng)];
        let received = measurement.received;
        Repetition {
            begun,
            complete: true,
            void: Vec::new(),
            warnings: Vec::new(),
            connecting: self.connecting(rng),
            measurement,
            intervals,
            server: Some(self.server(received, drift)),
        }
    }

    fn interval(
        &self,
        rng: &mut Xoshiro256PlusPlus,
        second: i64,
        drift: f64,
        stalled: bool,
        into: &mut Measurement,
    ) -> Interval {
        let body = lognormal(820_000.0 * drift, 0.45);
        let tail = lognormal(4_200_000.0 * drift, 0.5);
        let deliveries = self.subscribers * self.rate;
        let mut corrected = Latencies::default();
        for n in 0..DRAWN {
            let service = if rng.random_bool(0.015) { tail.sample(rng) } else { body.sample(rng) };
            // Half of the second's publications were due while the server stood still.
            let waited = if stalled && n < DRAWN / 2 { 500e6 * (1.0 - n as f64 * 2.0 / DRAWN as f64) } else { 9_000.0 };
            corrected.record_n((service + waited) as u64, deliveries / DRAWN);
            if second >= 0 {
                into.service.record_n(service as u64, deliveries / DRAWN);
            }
        }
        if second >= 0 {
            into.corrected.merge(&corrected);
            into.published += self.rate;
            into.received += corrected.len();
            for n in 0..self.rate {
                let waited = if stalled && n < self.rate / 2 { 500e6 } else { 0.0 };
                into.completion.record((lognormal(2_900_000.0 * drift, 0.35).sample(rng) + waited) as u64);
                into.schedule_error.record(lognormal(11_000.0, 0.6).sample(rng) as u64);
            }
        }
        Interval {
            begin_ns: second * 1_000_000_000,
            length_ns: 1_000_000_000,
            published: self.rate,
            received: corrected.len() - rng.random_range(0..1 + deliveries / 200),
            wire_bytes: corrected.len() * 132,
            gaps: 0,
            connections: self.subscribers + 1,
            corrected,
            lag_max_ns: lognormal(350_000.0, 0.5).sample(rng) as u64,
            cpu_share_max: rounded((0.23 + 0.02 * rng.random::<f64>()) * drift.sqrt()),
        }
    }

    fn connecting(&self, rng: &mut Xoshiro256PlusPlus) -> Connecting {
        let mut connecting = Connecting {
            wanted: self.subscribers + 1,
            connected: self.subscribers + 1,
            failures: BTreeMap::new(),
            elapsed_ns: self.subscribers * 61_000,
            handshake: Latencies::default(),
            resumed: 0,
        };
        for _ in 0..self.subscribers {
            connecting.handshake.record(lognormal(4_000_000.0, 0.7).sample(rng) as u64);
        }
        connecting
    }

    fn tally(&self, measurement: &Measurement) -> Tally {
        let warmup = 2 * self.rate * self.subscribers;
        let expected = (measurement.published + 2 * self.rate) * self.subscribers;
        let received = (measurement.received + warmup).min(expected);
        let lost = expected - received;
        let subscriber = RoleTally { expected, received, lost, gaps: lost, ..RoleTally::default() };
        let slow = RoleTally { expected: 2200, received: 2038, lost: 162, gaps: 3, ..RoleTally::default() };
        Tally {
            published: measurement.published + 2 * self.rate,
            late: 3,
            foreign: self.subscribers,
            incomplete: lost,
            wire_bytes: received * 132,
            payload_bytes: received * 128,
            messages: received,
            roles: [("subscriber".to_owned(), subscriber), ("slow".to_owned(), slow)].into(),
            ..Tally::default()
        }
    }

    fn worker(&self, rng: &mut Xoshiro256PlusPlus) -> OwnWorker {
        let wall_ns = self.seconds * 1_000_000_000;
        let mut worker = OwnWorker {
            pid: 4711,
            connections: self.subscribers + 1,
            cpu_ns: wall_ns / 4,
            waited_ns: wall_ns / 300,
            wall_ns,
            lag: Latencies::default(),
            rss_bytes: 41 << 20,
        };
        for _ in 0..self.seconds * 200 {
            worker.lag.record(lognormal(42_000.0, 0.7).sample(rng) as u64);
        }
        worker
    }

    fn server(&self, received: u64, drift: f64) -> ServerUsage {
        let cpu_per_delivery_ns = rounded(1370.0 * drift.sqrt());
        let cpu_ns = (cpu_per_delivery_ns * received as f64) as u64;
        ServerUsage {
            cpu_ns,
            user_ns: cpu_ns / 6,
            system_ns: cpu_ns - cpu_ns / 6,
            waited_ns: cpu_ns / 90,
            wall_ns: self.seconds * 1_000_000_000,
            cpu_per_delivery_ns,
            rss_before_bytes: 9 << 20,
            rss_bytes: (9 << 20) + self.subscribers * 2600,
            kernel_tcp_bytes: self.subscribers * 8192,
            threads: 3,
        }
    }

    fn ceiling(&self, rng: &mut Xoshiro256PlusPlus) -> Ceiling {
        let mut ceiling = Ceiling {
            sockets: self.subscribers,
            payload_bytes: 128,
            cpu_per_delivery_ns: 1120.0,
            sends_per_s: 741_000.0,
            coalesced_per_s: 4_310_000.0,
            ..Ceiling::default()
        };
        for _ in 0..500 {
            ceiling.completion.record(lognormal(1_700_000.0, 0.1).sample(rng) as u64);
            ceiling.latency.record(lognormal(720_000.0, 0.5).sample(rng) as u64);
        }
        ceiling
    }

    /// What a storm in this report could have given.
    pub fn storm(&self) -> StormOutcome {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(self.seed);
        let handshake = self.connecting(&mut rng).handshake;
        let failures = [("refused".to_owned(), 17)].into();
        let until_back_ns = 412_000_000;
        StormOutcome {
            dropped: self.subscribers,
            back: self.subscribers,
            silent: 0,
            until_back_ns,
            handshake,
            resumed: 0,
            failures,
        }
    }
}

/// Four digits after the point: such numbers are the same after they were written and read as JSON.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn lognormal(median: f64, sigma: f64) -> LogNormal<f64> {
    LogNormal::new(median.ln(), sigma).expect("a deviation that is no less than zero")
}

fn environment(revision: &str) -> Environment {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Environment {
        host: "bench-1".into(),
        kernel: "Linux 6.12.0".into(),
        cpu: "Example CPU at 2.60 GHz".into(),
        cores: 2,
        memory_bytes: 16 << 30,
        files: (1 << 20, 1 << 20),
        load_average: [0.21, 0.35, 0.3],
        sysctls: pairs(&[("net.core.somaxconn", "4096"), ("net.ipv4.ip_local_port_range", "32768 60999")]),
        loadgen: "0.1.0 (0791570)".into(),
        server_revision: revision.into(),
        server_command: ["fanfare", "--listen", "127.0.0.1:4000"].map(String::from).to_vec(),
        notes: pairs(&[("governor", "performance"), ("hypervisor", "kvm")]),
    }
}
