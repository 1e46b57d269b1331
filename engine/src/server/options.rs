//! The command line. Safe without a single option; every refusal names the setting, the value seen and what is allowed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use crate::{Origins, Pattern, Settings, TopicRules, TopicSettings};

/// No machine holds more of anything.
const COUNT_MAX: u64 = 1 << 40;

const TEN_YEARS_S: u64 = 315_360_000;

/// One publication goes in, and every subscriber of its topic gets it over a WebSocket.
///
/// Without options it listens on this machine only; open the printed address in a browser to try it.
#[derive(Debug, Clone, Parser)]
#[command(name = "fanfare", version, max_term_width = 110, allow_negative_numbers = true)]
pub struct Options {
    /// Address to listen on, as IP:PORT (an IPv6 address in brackets); port 0 takes a free one. May be repeated.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", help_heading = "Network")]
    pub listen: Vec<SocketAddr>,

    /// Listen on other addresses than loopback although there is no authentication: anyone who can reach them may
    /// subscribe, publish, and close connections.
    #[arg(long, help_heading = "Network")]
    pub open: bool,

    /// Web pages that may connect, as SCHEME://HOST or SCHEME://HOST:PORT; '*.' before HOST stands for its subdomains,
    /// 'any' for all pages. May be repeated. Default: pages from the host that is connected to. Clients that are no
    /// browsers are not concerned.
    #[arg(long, value_name = "ORIGIN", value_parser = parse_origin, help_heading = "Network")]
    pub origin: Vec<String>,

    /// Serve the files of a directory too; its index.html takes the place of the built-in page.
    #[arg(long = "static", value_name = "DIR", value_parser = parse_directory, help_heading = "Network")]
    pub files: Option<PathBuf>,

    /// Threads that serve connections [default: one for each core].
    #[arg(long, value_name = "N", value_parser = number(1, 256), help_heading = "Threads")]
    pub shards: Option<u64>,

    /// Pin each of these threads to a core.
    #[arg(long, help_heading = "Threads")]
    pub pin: bool,

    /// Most connections at once.
    #[arg(
        long,
        value_name = "N",
        default_value_t = Settings::default().connections_max as u64,
        value_parser = number(1, COUNT_MAX),
        help_heading = "Limits",
    )]
    pub connections_max: u64,

    /// Longest message and longest HTTP body, in bytes.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = Settings::default().message_bytes as u64,
        value_parser = number(1, 1 << 30),
        help_heading = "Limits",
    )]
    pub message_bytes: u64,

    /// Most bytes that may wait for one connection, over all its topics; beyond, the policy of the topic decides.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = Settings::default().pending_bytes as u64,
        value_parser = number(1024, COUNT_MAX),
        help_heading = "Limits",
    )]
    pub pending_bytes: u64,

    /// Most topics that one connection may reach through patterns.
    #[arg(
        long,
        value_name = "N",
        default_value_t = Settings::default().pattern_topics_max as u64,
        value_parser = number(1, COUNT_MAX),
        help_heading = "Limits",
    )]
    pub pattern_topics_max: u64,

    /// Seconds in which the head of a connection's first request must be complete.
    #[arg(
        long,
        value_name = "S",
        default_value_t = Settings::default().handshake_timeout.as_secs(),
        value_parser = number(1, 3600),
        help_heading = "Limits",
    )]
    pub handshake_timeout_s: u64,

    /// Seconds of silence after which a connection is pinged; 0 never pings.
    #[arg(
        long,
        value_name = "S",
        default_value_t = Settings::default().ping_interval.as_secs(),
        value_parser = number(0, TEN_YEARS_S),
        help_heading = "Limits",
    )]
    pub ping_interval_s: u64,

    /// Seconds of silence after which a connection is closed; 0 never closes it.
    #[arg(
        long,
        value_name = "S",
        default_value_t = Settings::default().idle_timeout.as_secs(),
        value_parser = number(0, TEN_YEARS_S),
        help_heading = "Limits",
    )]
    pub idle_timeout_s: u64,

    /// Seconds that connections have to take leave when the server is told to end (SIGTERM, SIGINT).
    #[arg(
        long,
        value_name = "S",
        default_value_t = Settings::default().shutdown_timeout.as_secs(),
        value_parser = number(1, 3600),
        help_heading = "Limits",
    )]
    pub shutdown_timeout_s: u64,

    /// Seconds a topic is kept that has neither subscribers nor history.
    #[arg(
        long,
        value_name = "S",
        default_value_t = Settings::default().topic_idle.as_secs(),
        value_parser = number(1, TEN_YEARS_S),
        help_heading = "Limits",
    )]
    pub topic_idle_s: u64,

    /// Publications kept for each topic, for clients that come back; 0 keeps none.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = number(0, COUNT_MAX), help_heading = "Topics")]
    pub history_messages: u64,

    /// Bytes of publications kept for each topic.
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = TopicSettings::default().history_bytes as u64,
        value_parser = number(0, COUNT_MAX),
        help_heading = "Topics",
    )]
    pub history_bytes: u64,

    /// Seconds a publication is kept; 0 means without limit.
    #[arg(
        long,
        value_name = "S",
        default_value_t = TopicSettings::default().history_age.as_secs(),
        value_parser = number(0, TEN_YEARS_S),
        help_heading = "Topics",
    )]
    pub history_age_s: u64,

    /// Settings of one topic or of all that match a pattern, as 'PATTERN:SETTING=VALUE,SETTING=VALUE'. May be repeated;
    /// the most specific pattern decides. Settings: history_messages, history_bytes, history_age_s, policy (disconnect,
    /// drop-oldest, drop-newest, conflate), pending_messages, pending_bytes, pending_age_ms. Example:
    /// 'prices.>:policy=conflate,history_messages=1'
    #[arg(long, value_name = "RULE", help_heading = "Topics")]
    pub topic: Vec<TopicRule>,

    /// What is logged, to standard error: error, warn, info, debug, trace or off; or by part, as in
    /// 'info,fanfare::server=debug'.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = parse_log, help_heading = "Log")]
    pub log: String,

    /// Log one JSON object a line.
    #[arg(long, help_heading = "Log")]
    pub log_json: bool,
}

impl Options {
    /// Reads the arguments of the process; ends it (2) with a sentence if they cannot be used, or (0) with the help.
    #[must_use]
    pub fn from_arguments() -> Self {
        let options = Self::parse();
        if let Err(message) = options.check() {
            use clap::CommandFactory;
            Self::command().error(clap::error::ErrorKind::ValueValidation, message).exit();
        }
        options
    }

    /// Checks what no single option can tell.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        let exposed = self.listen.iter().find(|address| !address.ip().to_canonical().is_loopback());
        if let (Some(address), false) = (exposed, self.open) {
            return Err(format!(
                "--listen is '{address}': without authentication only loopback addresses (127.0.0.0/8, [::1]) are \
                 allowed, as anyone who can reach another one may publish. If that is wanted, say --open"
            ));
        }
        if self.ping_interval_s > 0 && self.idle_timeout_s > 0 && self.idle_timeout_s <= self.ping_interval_s {
            return Err(format!(
                "--idle-timeout-s is '{}': it must be more than --ping-interval-s ({}), or 0",
                self.idle_timeout_s, self.ping_interval_s
            ));
        }
        Ok(())
    }

    /// How many shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), size)
    }

    /// The engine's settings.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            connections_max: size(self.connections_max),
            message_bytes: size(self.message_bytes),
            pending_bytes: size(self.pending_bytes),
            pattern_topics_max: size(self.pattern_topics_max),
            handshake_timeout: Duration::from_secs(self.handshake_timeout_s),
            ping_interval: Duration::from_secs(self.ping_interval_s),
            idle_timeout: Duration::from_secs(self.idle_timeout_s),
            topic_idle: Duration::from_secs(self.topic_idle_s),
            shutdown_timeout: Duration::from_secs(self.shutdown_timeout_s),
            origins: self.origins(),
            ..Settings::default()
        }
    }

    /// Which web pages may connect.
    #[must_use]
    pub fn origins(&self) -> Origins {
        match self.origin.as_slice() {
            [] => Origins::SameHost,
            list if list.iter().any(|origin| origin == "any") => Origins::Any,
            list => Origins::List(list.to_vec()),
        }
    }

    /// The settings of topics.
    #[must_use]
    pub fn topic_rules(&self) -> TopicRules {
        let default = self.topic_default();
        let mut rules = TopicRules::new(default.clone());
        for rule in &self.topic {
            let mut settings = default.clone();
            for (name, value) in &rule.settings {
                settings.set(name, value).expect("a rule is checked when it is read");
            }
            rules.add(rule.pattern.as_str(), settings).expect("a rule is checked when it is read");
        }
        rules
    }

    fn topic_default(&self) -> TopicSettings {
        TopicSettings {
            history_messages: size(self.history_messages),
            history_bytes: size(self.history_bytes),
            history_age: Duration::from_secs(self.history_age_s),
            ..TopicSettings::default()
        }
    }
}

/// One `--topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRule {
    pattern: Pattern,
    settings: Vec<(String, String)>,
}

impl FromStr for TopicRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Names of topics may have colons, settings have none.
        let (pattern, settings) = text.rsplit_once(':').ok_or("a rule is PATTERN:SETTING=VALUE,SETTING=VALUE")?;
        let pattern = Pattern::new(pattern).map_err(|error| error.to_string())?;
        let mut seen = TopicSettings::default();
        let settings = settings.split(',').map(|setting| {
            let (name, value) =
                setting.split_once('=').ok_or_else(|| format!("'{setting}' is no SETTING=VALUE of a topic"))?;
            let (name, value) = (name.trim(), value.trim());
            seen.set(name, value)?;
            Ok((name.to_owned(), value.to_owned()))
        });
        Ok(Self { pattern, settings: settings.collect::<Result<_, String>>()? })
    }
}

/// A whole number within bounds, or a sentence that tells them.
fn number(least: u64, most: u64) -> impl Fn(&str) -> Result<u64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("it must be a whole number from {least} to {most}"))
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn parse_origin(text: &str) -> Result<String, String> {
    let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]*".contains(&byte);
        !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            && !host.is_empty()
            && host.bytes().all(is_host)
            && !host.trim_start_matches("*.").contains('*')
    });
    if is_origin || text == "any" || text == "null" {
        Ok(text.to_owned())
    } else {
        Err("it must be SCHEME://HOST[:PORT] without a path, 'null', or 'any'".into())
    }
}

fn parse_directory(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(path),
        Ok(_) => Err("it must be a directory".into()),
        Err(error) => Err(format!("it must be a directory that can be read: {error}")),
    }
}

fn parse_log(text: &str) -> Result<String, String> {
    let levels = "error, warn, info, debug, trace, off";
    // A bare word that is no level would be taken for the name of a part, and nothing be logged.
    let is_level = |part: &str| part.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let is_valid = text.split(',').all(|part| is_level(part.rsplit_once('=').map_or(part, |(_, level)| level)));
    let filter = tracing_subscriber::EnvFilter::try_new(text);
    if is_valid && filter.is_ok() {
        Ok(text.to_owned())
    } else {
        Err(format!("it must be one of {levels}, or a list of PART=LEVEL"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        let options = Options::try_parse_from([&["fanfare"], arguments].concat()).map_err(|error| error.to_string())?;
        options.check().map(|()| options)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn without_options_it_is_safe_and_keeps_a_history() {
        let options = options(&[]).unwrap();
        assert_eq!(options.listen, ["127.0.0.1:8080".parse().unwrap()]);
        assert_eq!(options.origins(), Origins::SameHost);
        assert_eq!(options.topic_rules().default_settings().history_messages, 100);
        assert_eq!(options.settings().message_bytes, 16 << 20);
        assert!(options.shards() >= 1);
    }

    #[test]
    fn other_addresses_than_loopback_need_a_word() {
        for address in ["0.0.0.0:80", "[::]:80", "192.168.1.1:80", "[::ffff:10.0.0.1]:80"] {
            assert!(options(&["--listen", address]).unwrap_err().contains("--open"), "{address}");
            assert!(options(&["--listen", address, "--open"]).is_ok(), "{address}");
        }
        for address in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(options(&["--listen", address]).is_ok(), "{address}");
        }
    }

    #[test]
    fn topics_get_their_settings_by_pattern() {
        let rules = options(&[
            "--history-messages=5",
            "--topic=prices.>:policy=conflate,history=1",
            "--topic=urn:x:policy=drop-oldest",
        ]);
        let rules = rules.unwrap().topic_rules();
        assert_eq!(rules.settings("prices.eur").history_messages, 1);
        assert_eq!(rules.settings("prices.eur").policy.label(), "conflate");
        assert_eq!(rules.settings("urn:x").policy.label(), "drop-oldest");
        assert_eq!(rules.settings("urn:x").history_messages, 5);
    }

    #[test]
    fn a_bad_value_is_named_with_what_is_allowed() {
        for (arguments, parts) in [
            (&["--shards=0"][..], &["--shards", "'0'", "from 1 to 256"][..]),
            (&["--ping-interval-s", "-1"], &["--ping-interval-s", "'-1'", "from 0 to"]),
            (&["--message-bytes=many"], &["--message-bytes", "'many'", "from 1 to 1073741824"]),
            (&["--listen=nonsense"], &["--listen", "'nonsense'"]),
            (&["--message-bytes=0"], &["--message-bytes", "'0'", "from 1 to"]),
            (&["--topic=a:histroy=1"], &["--topic", "'histroy'", "history_messages"]),
            (&["--topic=a:policy=hope"], &["'hope'", "drop-oldest"]),
            (&["--topic=a"], &["PATTERN:SETTING=VALUE"]),
            (&["--topic=>.a:policy=conflate"], &["'>' may only be the last"]),
            (&["--origin=example.com"], &["--origin", "'example.com'", "SCHEME://HOST"]),
            (&["--origin=https://a/b"], &["without a path"]),
            (&["--static=/nowhere"], &["--static", "'/nowhere'", "directory"]),
            (&["--log=loud"], &["--log", "'loud'", "debug"]),
            (&["--idle-timeout-s=5", "--ping-interval-s=5"], &["--idle-timeout-s", "'5'", "more than"]),
        ] {
            let message = options(arguments).unwrap_err();
            for part in parts {
                assert!(message.contains(part), "{arguments:?}: {part} is not in: {message}");
            }
        }
    }

    #[test]
    fn logs_can_be_chosen_by_part() {
        for log in ["off", "debug", "info,fanfare::server=debug"] {
            assert_eq!(options(&["--log", log]).unwrap().log, log);
        }
    }

    #[test]
    fn origins_are_a_list_or_all() {
        let origins = |arguments: &[&str]| options(arguments).unwrap().origins();
        assert_eq!(origins(&["--origin=any"]), Origins::Any);
        let list = ["https://a.example", "https://*.b.example:8443"];
        assert_eq!(
            origins(&["--origin", list[0], "--origin", list[1]]),
            Origins::List(list.map(String::from).to_vec())
        );
    }
}
