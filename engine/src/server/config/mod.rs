//! The configuration: defaults < file < environment < flags, key by key, checked as a whole before anything begins.
//!
//! `table` has one row for each setting and is what all else is made from. `flags`, `environment` and `file` each read
//! what they find into entries and [`Mistake`]s, `merge` puts the entries of the strongest source in place, `check`
//! looks for what contradicts itself, [`mod@print`] shows the result. [`reload`] does all of it again while the server
//! runs.

mod check;
mod environment;
mod file;
mod flags;
pub mod listen;
mod merge;
mod mistake;
mod nearest;
pub mod print;
pub mod reload;
pub mod renewal;
mod rules;
mod secrets;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use self::flags::Task;
use self::listen::Listen;
pub use self::mistake::{Mistake, Refused, Source};
use self::rules::{RoleRule, TopicRule};
use super::auth::{AuthSettings, CallbackSettings, Secret};
use super::tls::{Certificates, TlsSettings};
use crate::{Security, Settings, TopicRules, TopicSettings};

/// Everything the server is told: where it listens, and within which bounds. Only made whole and checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses to listen on.
    pub listen: Vec<Listen>,
    /// Whether it may listen on other addresses than loopback without authentication.
    pub open: bool,
    /// A directory of static files.
    pub files: Option<PathBuf>,
    /// An address for HTTP only.
    pub api_listen: Option<Listen>,
    /// Certificates and keys, and what else concerns TLS.
    pub tls: TlsSettings,
    /// What was read from these files; none if TLS is not spoken, or nothing is to be served.
    pub certificates: Option<Certificates>,
    /// Pin each shard to a core.
    pub pin: bool,
    /// The engine's settings.
    pub settings: Settings,
    /// The settings of topics.
    pub topics: TopicRules,
    /// Who clients are, and what they may do.
    pub auth: AuthSettings,
    /// What is logged, as a directive of `tracing`.
    pub log: String,
    /// Log JSON.
    pub log_json: bool,
    /// Log when connections come and go.
    pub events: bool,
    /// Keep a line of figures on standard error.
    pub stats: bool,
    /// How often `$sys.` topics are published to; 0 is never.
    pub sys_interval: Duration,

    shards: usize,
    api_token: Option<Secret>,
    api_token_file: Option<PathBuf>,
    callback: CallbackSettings,
    topic_default: TopicSettings,
    topic_rules: Vec<TopicRule>,
    roles: Vec<RoleRule>,
    /// Where each setting that is no default came from, by its key.
    sources: BTreeMap<&'static str, Source>,
    arguments: Arguments,
}

impl Default for Config {
    /// Without a file, variables and flags. Beside the defaults of [`Settings`], topics keep 100 publications and clients
    /// are advised at a shutdown when to come back.
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080)).into()],
            open: false,
            files: None,
            api_listen: None,
            tls: TlsSettings::default(),
            certificates: None,
            pin: false,
            settings: Settings { shutdown_retry: Duration::from_secs(5), ..Settings::default() },
            topics: TopicRules::default(),
            auth: AuthSettings::default(),
            log: "info".into(),
            log_json: false,
            events: false,
            stats: false,
            sys_interval: Duration::from_secs(1),
            shards: 0,
            api_token: None,
            api_token_file: None,
            callback: CallbackSettings {
                url: String::new(),
                timeout: Duration::from_secs(2),
                cache: Duration::from_secs(60),
                concurrent_max: 64,
                failures_max: 5,
                pause: Duration::from_secs(10),
            },
            topic_default: TopicSettings { history_messages: 100, ..TopicSettings::default() },
            topic_rules: Vec::new(),
            roles: Vec::new(),
            sources: BTreeMap::new(),
            arguments: Arguments::default(),
        }
    }
}

/// The arguments of the process, which may hold a secret.
#[derive(Clone, Default)]
struct Arguments(Vec<OsString>);

impl fmt::Debug for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} arguments)", self.0.len())
    }
}

impl Config {
    /// Reads the arguments of this process (its own name first), its environment, and the file that they name.
    ///
    /// # Errors
    /// All mistakes at once, or what the arguments ask to be shown instead.
    pub fn load() -> Result<(Self, Task), Refused> {
        Self::read(std::env::args_os().collect(), std::env::vars_os())
    }

    /// Reads arguments (the program's name first), variables, and the file that they name.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn read(
        arguments: Vec<OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Task), Refused> {
        merge::read(arguments, variables.into_iter().collect(), None)
    }

    /// The configuration of these flags alone, without environment: for tests and programs that start a server.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn from_flags<S: Into<OsString>>(flags: impl IntoIterator<Item = S>) -> Result<Self, Refused> {
        let arguments = std::iter::once("fanfare".into()).chain(flags.into_iter().map(Into::into));
        Self::read(arguments.collect(), []).map(|(config, _)| config)
    }

    /// Reads everything anew: the same arguments, the environment and the file as they are now.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn read_again(&self) -> Result<Self, Refused> {
        let variables = std::env::vars_os().collect();
        merge::read(self.arguments.0.clone(), variables, self.certificates.as_ref()).map(|(config, _)| config)
    }

    /// The addresses of `listen`.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.iter().map(|listen| listen.addr).collect()
    }

    /// Whether TLS is spoken at one of its addresses.
    #[must_use]
    pub fn security(&self, listen: &Listen) -> Security {
        listen.said().unwrap_or_else(|| self.tls.security())
    }

    /// How many shards: one for each core if nothing is said.
    #[must_use]
    pub fn shards(&self) -> usize {
        match self.shards {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            shards => shards,
        }
    }

    /// What clients should know who can reach these addresses, a sentence each; none if there is nothing to say.
    #[must_use]
    pub fn warnings(&self, addresses: &[SocketAddr]) -> Vec<String> {
        check::warnings(self, addresses)
    }

    /// Whether it may be reached at these addresses: at others than loopback only with authentication, or if that is wanted
    /// explicitly. For sockets that were not opened by this configuration, such as those of a service manager.
    ///
    /// # Errors
    /// A sentence that says what to do.
    pub fn check_exposure(&self, addresses: &[SocketAddr]) -> Result<(), String> {
        check::exposure(self, addresses)
    }

    /// Where a setting came from.
    fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }
}
