//! The configuration changed while the server runs: everything is read and checked anew, and put in place only if all of it is
//! right.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::check;
use super::mistake::{Mistake, Refused, Source};
use super::print::rule_name;
use super::renewal::{self, Watched};
use super::rules::ACTIONS;
use super::table::settings;
use super::value::{Value, quoted};
use super::{Config, RoleRule, TopicRule};
use crate::EngineHandle;
use crate::server::tls::Certificates;
use crate::server::{self, auth::Auth};

/// Changes what is logged.
pub type SetLog = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// The configuration that is in force, and how to replace it.
pub struct Reloads {
    auth: Arc<Auth>,
    /// Held while one reload is under way: the next waits.
    pub(super) present: Mutex<Config>,
    set_log: Mutex<Option<SetLog>>,
    pub(super) counts: Arc<Counts>,
    /// The certificates that are in force.
    pub(super) shown: Arc<ArcSwapOption<Certificates>>,
    /// How often their files are looked at.
    pub(super) watch_s: AtomicU64,
    pub(super) watched: Mutex<Watched>,
}

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reloads")
    }
}

/// One setting that is another now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Section and key.
    pub setting: String,
    /// What it was, as the file has it; empty if there was nothing.
    pub from: String,
    /// What it is.
    pub to: String,
    /// Whether it is in force; else a restart is needed.
    pub is_live: bool,
}

/// What a reload has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order of the file.
    pub changes: Vec<Change>,
}

impl Report {
    /// The settings that need a restart.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.changes.iter().filter(|change| !change.is_live).map(|change| change.setting.as_str())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &str| if text.is_empty() { "nothing".to_owned() } else { text.to_owned() };
        write!(f, "{}: {} -> {}", self.setting, or_none(&self.from), or_none(&self.to))?;
        if self.is_live { Ok(()) } else { f.write_str(" (after a restart)") }
    }
}

impl Reloads {
    /// Begins with a configuration that is in force.
    #[must_use]
    pub fn new(config: Config, auth: Arc<Auth>) -> Self {
        let counts = Arc::new(Counts::default());
        counts.loaded();
        Self {
            auth,
            set_log: Mutex::new(None),
            counts,
            shown: Arc::new(ArcSwapOption::from(config.certificates.clone().map(Arc::new))),
            watch_s: AtomicU64::new(config.tls.watch.as_secs()),
            watched: Mutex::default(),
            present: Mutex::new(config),
        }
    }

    /// Who decides what clients may do.
    #[must_use]
    pub fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }

    /// Sets how the level of the log is changed. Without it that needs a restart.
    pub fn on_log(&self, set_log: SetLog) {
        *self.set_log.lock() = Some(set_log);
    }

    /// Adds its metrics to those of the engine.
    pub fn register(&self, engine: &EngineHandle) {
        let (counts, shown) = (self.counts.clone(), Arc::clone(&self.shown));
        engine.add_metrics(move || Box::new(Scrape(counts.clone(), shown.load_full())));
    }

    /// Reads the file and the environment again and puts what they say in place. Blocks for as long as that takes; not for
    /// a shard.
    ///
    /// # Errors
    /// All mistakes at once; everything stays as it is then. Logged, too.
    pub fn reload(&self, engine: &EngineHandle) -> Result<Report, Refused> {
        let mut present = self.present.lock();
        let result = present.read_again().and_then(|next| self.replace(&mut present, next, engine));
        match &result {
            Ok(report) => {
                self.counts.accepted.fetch_add(1, Ordering::Relaxed);
                self.counts.loaded();
                for change in &report.changes {
                    tracing::info!("{change}");
                }
                let restart = report.waiting().count();
                tracing::info!(changed = report.changes.len() - restart, restart, "the configuration was read again");
            }
            Err(refused) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                if refused.mistakes().iter().any(Mistake::is_of_tls) {
                    // Counted, and nothing more: which files, and what was in them when they were read, is not known here.
                    // So the next look says it again if it is about those that are in use.
                    self.counts.tls_refused.fetch_add(1, Ordering::Relaxed);
                }
                for mistake in refused.mistakes() {
                    tracing::error!("{mistake}");
                }
                tracing::error!("the configuration was not changed, as there are mistakes in the new one");
            }
        }
        result
    }

    /// Puts a checked configuration in the place of the present one, but for what only a restart changes.
    fn replace(&self, present: &mut Config, next: Config, engine: &EngineHandle) -> Result<Report, Refused> {
        let mut report = Report { changes: changes(present, &next) };
        let mut next = keep_fixed(present, next);
        let certificates =
            renewal::settle(present, &mut next, &mut report).map_err(|mistake| Refused::Mistakes(vec![mistake]))?;
        // It listens where it did, perhaps with less protection than that needs.
        let exposed = check::reach(&next, engine.local_addrs());
        if !exposed.is_empty() {
            return Err(Refused::Mistakes(exposed));
        }
        // First what can fail, last what cannot.
        let failed = |text| Refused::Mistakes(vec![Mistake::new(Source::Default, text)]);
        self.auth.reload(&next.auth).map_err(failed)?;
        if let Err(text) = self.apply(&next, &report, engine) {
            // Not reached by a configuration that has been checked; the keys are put back all the same.
            let _ = self.auth.reload(&present.auth);
            return Err(failed(text));
        }
        if !self.apply_log(&next) {
            next.log.clone_from(&present.log);
            report
                .changes
                .iter_mut()
                .filter(|change| change.setting == "log.log")
                .for_each(|change| change.is_live = false);
        }
        if let Some(certificates) = &certificates {
            self.show(certificates, engine);
        }
        self.watch_s.store(next.tls.watch.as_secs(), Ordering::Relaxed);
        *self.watched.lock() = Watched::default();
        *present = next;
        Ok(report)
    }

    /// Everything of the engine that a reload changes.
    fn apply(&self, next: &Config, report: &Report, engine: &EngineHandle) -> Result<(), String> {
        engine.reconfigure(next.settings.clone())?;
        // That visits all topics, so only if there is something to tell them.
        if report.changes.iter().any(|change| change.setting.starts_with("topics.")) {
            engine.set_topic_rules(server::topic_rules(next));
        }
        Ok(())
    }

    fn apply_log(&self, next: &Config) -> bool {
        match self.set_log.lock().as_ref().map(|set_log| set_log(&next.log)) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                tracing::error!("the log stays as it is: {error}");
                false
            }
            None => false,
        }
    }
}

/// The new configuration with the old values of what needs a restart, so that the next reload says again what does.
fn keep_fixed(present: &Config, mut next: Config) -> Config {
    for setting in settings().iter().filter(|setting| !setting.row.is_live) {
        setting.row.set(&mut next, &setting.row.get(present));
    }
    next
}

/// What differs.
fn changes(present: &Config, next: &Config) -> Vec<Change> {
    let differing = settings().iter().filter(|setting| setting.row.get(present) != setting.row.get(next));
    let mut changes: Vec<_> = differing
        .map(|setting| Change {
            setting: setting.path(),
            from: setting.row.shown(present),
            to: setting.row.shown(next),
            is_live: setting.row.is_live,
        })
        .collect();
    // The file of the token is the same, what is in it another.
    if present.auth.api_token != next.auth.api_token
        && !changes.iter().any(|change| change.setting.contains(".api_token"))
    {
        let secret = || "\"(secret)\"".to_owned();
        let setting = "network.api_token_file".to_owned();
        changes.push(Change { setting, from: secret(), to: secret(), is_live: true });
    }
    differences(&rule_lines(&present.topic_rules), &rule_lines(&next.topic_rules), &mut changes);
    differences(&role_lines(&present.roles), &role_lines(&next.roles), &mut changes);
    changes
}

type Lines = Vec<(String, String)>;

fn rule_lines(rules: &[TopicRule]) -> Lines {
    let line = |rule: &TopicRule| {
        let pattern = quoted(rule.pattern.as_str());
        let lines = rule
            .settings
            .iter()
            .map(|(row, value, _)| (format!("topics.{pattern}.{}", rule_name(row.key)), value.to_toml()));
        lines.collect::<Vec<_>>()
    };
    rules.iter().flat_map(line).collect()
}

fn role_lines(roles: &[RoleRule]) -> Lines {
    let line = |role: &RoleRule| {
        let lists = ACTIONS.iter().filter_map(|action| role.lists.iter().find(|(name, _, _)| name == action));
        let lines = lists.map(|(action, patterns, _)| {
            (format!("role.{}.{action}", role.name), Value::List(patterns.clone()).to_toml())
        });
        lines.collect::<Vec<_>>()
    };
    roles.iter().flat_map(line).collect()
}

fn differences(present: &Lines, next: &Lines, changes: &mut Vec<Change>) {
    let value = |lines: &Lines, name: &str| {
        lines.iter().find(|(known, _)| known == name).map_or_else(String::new, |(_, value)| value.clone())
    };
    let mut names: Vec<&String> = present.iter().chain(next).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (from, to) = (value(present, name), value(next, name));
        if from != to {
            changes.push(Change { setting: name.clone(), from, to, is_live: true });
        }
    }
}

/// What is counted of reloads.
#[derive(Debug, Default)]
pub(super) struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    loaded_unix_s: AtomicU64,
    pub(super) tls_accepted: AtomicU64,
    pub(super) tls_refused: AtomicU64,
}

impl Counts {
    fn loaded(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.loaded_unix_s.store(now, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Scrape(Arc<Counts>, Option<Arc<Certificates>>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Times the configuration was read again";
        let mut family = encoder.encode_descriptor("config_reloads", help, None, MetricType::Counter)?;
        for (outcome, count) in [("accepted", &self.0.accepted), ("refused", &self.0.refused)] {
            let labels = [("outcome", outcome)];
            let metric = family.encode_family(&labels)?;
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric)?;
        }
        let help = "When the configuration that is in force was read, in seconds since 1970";
        let loaded = ConstGauge::new(self.0.loaded_unix_s.load(Ordering::Relaxed) as i64);
        loaded.encode(encoder.encode_descriptor(
            "config_loaded_timestamp_seconds",
            help,
            None,
            loaded.metric_type(),
        )?)?;
        match &self.1 {
            Some(shown) => self.encode_tls(shown, encoder),
            None => Ok(()),
        }
    }
}

impl Scrape {
    fn encode_tls(&self, shown: &Certificates, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Times other certificates were put in place, or refused";
        let mut family = encoder.encode_descriptor("tls_reloads", help, None, MetricType::Counter)?;
        for (outcome, count) in [("accepted", &self.0.tls_accepted), ("refused", &self.0.tls_refused)] {
            let labels = [("outcome", outcome)];
            let metric = family.encode_family(&labels)?;
            ConstCounter::new(count.load(Ordering::Relaxed)).encode(metric)?;
        }
        // Of several for one name the first that ends.
        let mut ends: BTreeMap<&str, i64> = BTreeMap::new();
        for certificate in shown.tls.certificates() {
            let end = ends.entry(certificate.name()).or_insert(i64::MAX);
            *end = certificate.not_after().min(*end);
        }
        let help = "When a certificate expires, in seconds since 1970";
        let name = "tls_certificate_expiry_timestamp_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (certificate, end) in ends {
            let labels = [("certificate", certificate)];
            let metric = family.encode_family(&labels)?;
            ConstGauge::new(end).encode(metric)?;
        }
        Ok(())
    }
}
