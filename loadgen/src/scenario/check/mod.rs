//! Whether a scenario can be done: every range, and what settings mean to each other. Done once, after the flags.
//!
//! Nothing outside is asked but which cores there are: addresses, certificates and tokens are looked at by the target.

mod load;
mod target;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::failure::Failure;
use crate::scenario::flags::flag_of;
use crate::scenario::{Connections, LoadKind, Scenario};
use crate::units::{Amount, Span};

/// The longest time a scenario may name.
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);
/// More connections than that have no addresses.
const CONNECTIONS_MAX: u64 = 10_000_000;

impl Scenario {
    /// Checks every range and what settings mean to each other.
    ///
    /// # Errors
    /// A [`Failure::Usage`] that names the setting (key and flag), the value seen and what is allowed.
    pub fn check(&self) -> Result<(), Failure> {
        let cores = core_affinity::get_core_ids().map(|cores| cores.iter().map(|core| core.id).collect::<Vec<_>>());
        self.check_on(cores.as_deref())
    }

    /// As [`Scenario::check`], on a machine with these cores; none if they are unknown.
    fn check_on(&self, cores: Option<&[usize]>) -> Result<(), Failure> {
        self.check_run()?;
        target::check(&self.target)?;
        self.check_connections()?;
        self.check_connect()?;
        self.check_topics()?;
        self.check_client(cores)?;
        load::check(self)?;
        self.check_storm()?;
        self.check_server(cores)
    }

    /// The measured time of a repetition: with steps, their sum.
    pub fn measured_time(&self) -> Duration {
        match self.load.kind {
            LoadKind::Steps => {
                let times = self.load.steps.iter().map(|step| step.duration.0);
                times.fold(Duration::ZERO, Duration::saturating_add)
            }
            _ => self.duration.0,
        }
    }

    fn check_run(&self) -> Result<(), Failure> {
        let is_name_char = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 100 || !self.name.chars().all(is_name_char) {
            return wrong("name", &self.name, "1 to 100 letters, digits, '-', '_' and '.'");
        }
        if self.seed > i64::MAX as u64 {
            return wrong("seed", self.seed, "0 to 9223372036854775807, the largest number of a TOML file");
        }
        within("repetitions", self.repetitions, 1..=10_000)?;
        span_within("warmup", self.warmup, Duration::ZERO..=DAY)?;
        span_within("duration", self.duration, Duration::from_millis(100)..=DAY)?;
        span_within("drain_timeout", self.drain_timeout, Duration::ZERO..=HOUR)
    }

    fn check_connections(&self) -> Result<(), Failure> {
        let connections = &self.connections;
        let roles = roles(connections);
        let counts = [("total", connections.total), ("subscribers", connections.subscribers)];
        for (name, count) in counts.into_iter().chain([("publishers", connections.publishers)]) {
            within(&format!("connections.{name}"), count, 0..=CONNECTIONS_MAX)?;
        }
        for (name, amount) in roles {
            let key = format!("connections.{name}");
            if connections.total == 0 && matches!(amount, Amount::Percent(percent) if percent > 0.0) {
                return wrong(&key, amount, "a count, or a share together with connections.total (--total)");
            }
            amount_within(&key, amount)?;
        }
        let others = connections.others();
        if connections.total > 0 && others > connections.total {
            return Err(Failure::usage(format!(
                "connections.total (--total) = {}: it is less than the {others} publishers and idle, slow, stalled and \
                 churning connections together",
                connections.total
            )));
        }
        if connections.all() == 0 {
            return wrong("connections.subscribers", 0, "1 or more, as there are no connections of other roles either");
        }
        within("connections.slow_bytes_per_s", connections.slow_bytes_per_s.0, 1..=1_u64 << 30)?;
        span_within("connections.churn_lifetime", connections.churn_lifetime, Duration::from_millis(10)..=DAY)
    }

    fn check_connect(&self) -> Result<(), Failure> {
        let connect = &self.connect;
        if connect.rate_per_s != 0.0 {
            let bounds = 0.001..=1_000_000.0;
            if !bounds.contains(&connect.rate_per_s) {
                return wrong("connect.rate_per_s", connect.rate_per_s, "0 (no limit), or 0.001 to 1000000 a second");
            }
        }
        within("connect.concurrency", connect.concurrency, 1..=100_000)?;
        span_within("connect.timeout", connect.timeout, Duration::from_millis(1)..=HOUR)?;
        amount_within("connect.failures_max", connect.failures_max)?;
        let not_local = connect.bind.iter().find(|address| address.is_unspecified() || address.is_multicast());
        not_local.map_or(Ok(()), |address| wrong("connect.bind", address, "addresses of this machine"))
    }

    fn check_topics(&self) -> Result<(), Failure> {
        let topics = &self.topics;
        within("topics.count", topics.count, 1..=10_000_000)?;
        let is_plain = topics.name.chars().all(|c| !c.is_control());
        if topics.name.is_empty() || topics.name.len() > 200 || !is_plain {
            return wrong("topics.name", topics.name.escape_debug(), "1 to 200 bytes without control characters");
        }
        if topics.count > 1 && !topics.name.contains("{n}") {
            let allowed = format!("a name with {{n}} in it, as topics.count is {}", topics.count);
            return wrong("topics.name", &topics.name, allowed);
        }
        within("topics.zipf_exponent", topics.zipf_exponent, 0.0..=10.0)
    }

    fn check_storm(&self) -> Result<(), Failure> {
        let Some(at) = self.storm.at else {
            return Ok(());
        };
        let measured = Span(self.measured_time());
        if at >= measured {
            return wrong("storm.at", at, format!("a time before the end of the measured time, {measured}"));
        }
        if self.connections.subscribers() == 0 {
            return wrong("storm.at", at, "a storm only where there are subscribers, and there are none");
        }
        Ok(())
    }

    fn check_client(&self, cores: Option<&[usize]>) -> Result<(), Failure> {
        let client = &self.client;
        within("client.threads", client.threads, 1..=1024)?;
        within("client.processes", client.processes, 0..=1024)?;
        known("client.pin", &client.pin, cores)?;
        within("client.cpu_share_max", client.cpu_share_max, 0.01..=1.0)?;
        span_within("client.lag_max", client.lag_max, Duration::from_micros(1)..=HOUR)?;
        span_within("client.late_after", client.late_after, Duration::ZERO..=HOUR)?;
        within("client.message_bytes_max", client.message_bytes_max.0, 1024..=1_u64 << 30)
    }

    fn check_server(&self, cores: Option<&[usize]>) -> Result<(), Failure> {
        known("server.cores", &self.server.cores, cores)?;
        let revision = &self.server.revision;
        if revision.len() > 200 || revision.chars().any(char::is_control) {
            return wrong("server.revision", revision.escape_debug(), "at most 200 bytes without control characters");
        }
        match self.server.pid {
            Some(0) => wrong("server.pid", 0, "the number of a process, 1 or more"),
            _ => Ok(()),
        }
    }
}

/// Cores are among those that are there, if it is known which are.
fn known(key: &str, wanted: &[usize], cores: Option<&[usize]>) -> Result<(), Failure> {
    match cores.and_then(|cores| wanted.iter().find(|core| !cores.contains(core)).zip(Some(cores))) {
        None => Ok(()),
        Some((core, cores)) => {
            let known: Vec<String> = cores.iter().map(usize::to_string).collect();
            wrong(key, core, format!("the cores this process may use: {}", known.join(", ")))
        }
    }
}

/// Roles that are counts or shares.
fn roles(connections: &Connections) -> [(&'static str, Amount); 4] {
    [
        ("idle", connections.idle),
        ("slow", connections.slow),
        ("stalled", connections.stalled),
        ("churning", connections.churning),
    ]
}

/// The failure for a value: key and flag, what was seen, what is allowed.
fn wrong<T>(key: &str, seen: impl Display, allowed: impl Display) -> Result<T, Failure> {
    const SEEN_MAX: usize = 120;
    let whole = seen.to_string();
    let seen = match whole.char_indices().nth(SEEN_MAX) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    };
    Err(Failure::usage(format!("{key} ({}) = {seen}: allowed is {allowed}", flag_of(key))))
}

/// Whether a number lies within bounds; what is not a number lies in none.
fn within<T: PartialOrd + Display>(key: &str, value: T, bounds: RangeInclusive<T>) -> Result<(), Failure> {
    if bounds.contains(&value) {
        return Ok(());
    }
    wrong(key, value, format_args!("{} to {}", bounds.start(), bounds.end()))
}

fn span_within(key: &str, value: Span, bounds: RangeInclusive<Duration>) -> Result<(), Failure> {
    if bounds.contains(&value.0) {
        return Ok(());
    }
    wrong(key, value, format_args!("{} to {}", Span(*bounds.start()), Span(*bounds.end())))
}

fn amount_within(key: &str, amount: Amount) -> Result<(), Failure> {
    let is_right = match amount {
        Amount::Count(count) => count <= CONNECTIONS_MAX,
        Amount::Percent(percent) => (0.0..=100.0).contains(&percent),
    };
    if is_right { Ok(()) } else { wrong(key, amount, format_args!("0 to {CONNECTIONS_MAX}, or 0% to 100%")) }
}
