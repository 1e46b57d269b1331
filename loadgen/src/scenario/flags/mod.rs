//! The flags of every command that makes runs: each value of the scenario file can be overridden by one.

mod groups;
mod set;
mod values;

use std::path::PathBuf;

use clap::Args;

pub use groups::{ClientFlags, ConnectionFlags, LoadFlags, RunFlags, TargetFlags};
pub(crate) use set::set as set_key;
pub use values::{Burst, Ramp, Steps};

use crate::failure::Failure;
use crate::scenario::{Load, LoadKind, Scenario, Skew};

/// A scenario as a command takes it: a file, and flags that override it.
#[derive(Debug, Clone, Default, Args)]
pub struct ScenarioArgs {
    /// The scenario; what neither it nor a flag says has its default. `loadgen scenario` prints a commented one
    #[arg(value_name = "SCENARIO.toml")]
    pub file: Option<PathBuf>,
    /// What overrides it.
    #[command(flatten)]
    pub flags: ScenarioFlags,
}

/// The flags that override a scenario.
#[derive(Debug, Clone, Default, Args)]
pub struct ScenarioFlags {
    #[doc(hidden)]
    #[command(flatten)]
    pub target: TargetFlags,
    #[doc(hidden)]
    #[command(flatten)]
    pub connections: ConnectionFlags,
    #[doc(hidden)]
    #[command(flatten)]
    pub load: LoadFlags,
    #[doc(hidden)]
    #[command(flatten)]
    pub run: RunFlags,
    #[doc(hidden)]
    #[command(flatten)]
    pub client: ClientFlags,
    /// Any other key of the file, such as connections.churn_lifetime=2s; an empty VALUE takes the key away, so that its
    /// default counts. Can be given several times
    #[arg(long, value_name = "KEY.PATH=VALUE", value_parser = values::setting, help_heading = "Any key")]
    pub set: Vec<(String, String)>,
}

impl ScenarioArgs {
    /// The file, overridden and checked.
    ///
    /// # Errors
    /// A [`Failure::Usage`] that names what is wrong.
    pub fn resolve(&self) -> Result<Scenario, Failure> {
        let scenario = self.overridden()?;
        scenario.check()?;
        Ok(scenario)
    }

    /// As [`Self::resolve`], for commands that start the server themselves and so know its address only later: what is
    /// said of the address does not count.
    ///
    /// # Errors
    /// As there.
    pub fn resolve_without_url(&self) -> Result<Scenario, Failure> {
        let mut scenario = self.overridden()?;
        // Encrypted or not shows when the servers listen; settings for TLS are for those that are.
        scenario.target.url = "wss://127.0.0.1:1".into();
        scenario.server.pid = None;
        scenario.check()?;
        scenario.target.url = String::new();
        Ok(scenario)
    }

    fn overridden(&self) -> Result<Scenario, Failure> {
        let mut scenario = match &self.file {
            Some(file) => Scenario::read(file)?,
            None => Scenario::default(),
        };
        self.flags.apply(&mut scenario)?;
        Ok(scenario)
    }
}

impl ScenarioFlags {
    /// Puts what was given into the scenario: first the named flags, then those of `--set`.
    ///
    /// # Errors
    /// A [`Failure::Usage`] for flags that have no meaning with the rest, and for what `--set` cannot set. Ranges are
    /// checked later, by [`Scenario::check`].
    pub fn apply(&self, scenario: &mut Scenario) -> Result<(), Failure> {
        self.target.apply(scenario);
        self.connections.apply(scenario)?;
        self.load.apply(scenario)?;
        self.run.apply(scenario);
        self.client.apply(scenario);
        self.set.iter().try_for_each(|(path, value)| set::set(scenario, path, value))
    }
}

/// Puts a value that was given in its place.
fn put<T: Clone>(place: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        place.clone_from(value);
    }
}

/// Puts a value that was given in the place of one that may be absent.
fn put_some<T: Clone>(place: &mut Option<T>, given: &Option<T>) {
    if given.is_some() {
        place.clone_from(given);
    }
}

/// Puts a list that was given in the place of another.
fn put_list<T: Clone>(place: &mut Vec<T>, given: &[T]) {
    if !given.is_empty() {
        *place = given.to_vec();
    }
}

impl RunFlags {
    fn apply(&self, scenario: &mut Scenario) {
        put(&mut scenario.name, &self.name);
        put(&mut scenario.seed, &self.seed);
        put(&mut scenario.repetitions, &self.repetitions);
        put(&mut scenario.warmup, &self.warmup);
        put(&mut scenario.duration, &self.duration);
        put(&mut scenario.drain_timeout, &self.drain_timeout);
        put_some(&mut scenario.storm.at, &self.reconnect_storm);
    }
}

impl TargetFlags {
    fn apply(&self, scenario: &mut Scenario) {
        let target = &mut scenario.target;
        put(&mut target.url, &self.url);
        put_some(&mut target.preset, &self.preset);
        put_list(&mut target.subprotocols, &self.subprotocol);
        for (name, value) in &self.header {
            target.headers.retain(|known, _| !known.eq_ignore_ascii_case(name));
            target.headers.insert(name.clone(), value.clone());
        }
        if self.token.is_some() || self.token_file.is_some() {
            (target.token, target.token_file) = (self.token.clone(), self.token_file.clone());
        }
        put(&mut target.deflate, &self.deflate);
        put_some(&mut target.tls.ca, &self.tls_ca);
        put_some(&mut target.tls.server_name, &self.tls_server_name);
        put(&mut target.tls.insecure, &self.tls_insecure);
        put_some(&mut target.tls.certificate, &self.tls_certificate);
        put_some(&mut target.tls.key, &self.tls_key);
        put(&mut target.tls.resumption, &self.tls_resumption);
    }
}

impl ConnectionFlags {
    fn apply(&self, scenario: &mut Scenario) -> Result<(), Failure> {
        let connections = &mut scenario.connections;
        put(&mut connections.total, &self.total);
        if self.subscribers.is_some() && connections.total > 0 {
            let total = connections.total;
            return Err(Failure::usage(format!(
                "--subscribers has no meaning where connections.total is {total}: subscribers are what the other roles \
                 leave of it; give --total, or --total 0 to count all roles"
            )));
        }
        put(&mut connections.subscribers, &self.subscribers);
        put(&mut connections.publishers, &self.publishers);
        put(&mut connections.publish_via, &self.publish_via);
        put(&mut connections.idle, &self.idle);
        put(&mut connections.slow, &self.slow);
        put(&mut connections.stalled, &self.stalled);
        put(&mut connections.churning, &self.churning);
        let connect = &mut scenario.connect;
        put(&mut connect.rate_per_s, &self.connect_rate);
        put(&mut connect.concurrency, &self.connect_concurrency);
        put(&mut connect.timeout, &self.connect_timeout);
        put(&mut connect.failures_max, &self.connect_failures_max);
        put_list(&mut connect.bind, &self.bind);
        Ok(())
    }
}

impl LoadFlags {
    fn apply(&self, scenario: &mut Scenario) -> Result<(), Failure> {
        self.apply_shape(&mut scenario.load);
        self.apply_rate(&mut scenario.load)?;
        put(&mut scenario.payload.bytes, &self.payload_bytes);
        put(&mut scenario.payload.binary, &self.binary);
        put(&mut scenario.payload.filler, &self.filler);
        let topics = &mut scenario.topics;
        put(&mut topics.count, &self.topics);
        put(&mut topics.name, &self.topic_name);
        if let Some(exponent) = self.zipf {
            (topics.subscribers, topics.publications, topics.zipf_exponent) = (Skew::Zipf, Skew::Zipf, exponent);
        }
        Ok(())
    }

    /// A flag for a shape takes the place of the whole shape of the file; only the rate stays.
    fn apply_shape(&self, load: &mut Load) {
        let plain = Load { rate_per_s: load.rate_per_s, ..Load::default() };
        if self.constant {
            *load = plain;
        } else if self.poisson {
            *load = Load { kind: LoadKind::Poisson, ..plain };
        } else if let Some(Steps(steps)) = &self.steps {
            *load = Load { kind: LoadKind::Steps, steps: steps.clone(), ..plain };
        } else if let Some(Ramp { from, to }) = self.ramp {
            *load = Load { kind: LoadKind::Ramp, rate_per_s: from, to_rate_per_s: to, ..plain };
        } else if let Some(Burst { size, every }) = self.burst {
            *load = Load { kind: LoadKind::Burst, burst_size: size, burst_every: every, ..plain };
        } else if let Some(in_flight) = self.in_flight {
            *load = Load { kind: LoadKind::Closed, in_flight, ..plain };
        }
    }

    fn apply_rate(&self, load: &mut Load) -> Result<(), Failure> {
        let has_rate = matches!(load.kind, LoadKind::Constant | LoadKind::Poisson | LoadKind::Ramp);
        match self.rate {
            Some(_) if !has_rate => Err(Failure::usage(
                "--rate has no meaning with the load.kind of the file: add --constant or --poisson, or give the file's \
                 own flag (--steps, --burst, --in-flight)",
            )),
            Some(rate) => {
                load.rate_per_s = rate;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl ClientFlags {
    fn apply(&self, scenario: &mut Scenario) {
        let client = &mut scenario.client;
        put(&mut client.threads, &self.threads);
        put(&mut client.processes, &self.processes);
        put_list(&mut client.pin, &self.pin);
        put(&mut client.cpu_share_max, &self.cpu_share_max);
        put(&mut client.lag_max, &self.lag_max);
        put(&mut client.late_after, &self.late_after);
        put(&mut client.message_bytes_max, &self.message_bytes_max);
        put_some(&mut scenario.server.pid, &self.server_pid);
        put(&mut scenario.server.revision, &self.server_revision);
        put_list(&mut scenario.server.cores, &self.server_cores);
    }
}

/// The flag for a key of the file, where there is one that has not the key's own name.
pub fn flag_of(path: &str) -> String {
    let name = match path {
        "storm.at" => "reconnect-storm",
        "target.subprotocols" => "subprotocol",
        "target.headers" => "header",
        "topics.count" => "topics",
        "topics.name" => "topic-name",
        "topics.zipf_exponent" => "zipf",
        "load.rate_per_s" => "rate",
        "load.to_rate_per_s" => "ramp",
        "load.burst_size" | "load.burst_every" => "burst",
        "load.steps" => "steps",
        "load.in_flight" => "in-flight",
        "payload.bytes" => "payload-bytes",
        "payload.binary" => "binary",
        "connect.rate_per_s" => "connect-rate",
        "connect.bind" => "bind",
        _ => return flag_by_rule(path),
    };
    format!("--{name}")
}

/// `target.tls.ca` is `--tls-ca`, `server.pid` is `--server-pid`, `client.pin` is `--pin`; the rest has `--set`.
fn flag_by_rule(path: &str) -> String {
    let dashed = |name: &str| name.replace('_', "-");
    match path.rsplit_once('.') {
        None => format!("--{}", dashed(path)),
        Some(("target.tls", name)) => format!("--tls-{}", dashed(name)),
        Some(("server", name)) => format!("--server-{}", dashed(name)),
        Some(("connect", name)) => format!("--connect-{}", dashed(name)),
        Some(("connections", "slow_bytes_per_s" | "churn_lifetime")) => format!("--set {path}"),
        Some(("target" | "connections" | "client", name)) => format!("--{}", dashed(name)),
        Some(_) => format!("--set {path}"),
    }
}

#[cfg(test)]
mod tests;
