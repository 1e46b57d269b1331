//! The table of all settings: one row each, from which flags, environment variables, keys of the file, their help, the
//! messages of refusals and the tables in docs/OPERATIONS.md are made.
//!
//! Defaults are not written here: they are read from `Config::default()`, so they cannot be wrong. A row leads to its place in
//! the configuration by two functions, one that reads it and one that writes a value that has been checked.

mod auth;
mod checks;
mod limits;
mod network;
mod tls;

use std::sync::LazyLock;

use super::Config;
use super::value::{Kind, Value};

/// One setting.
#[derive(Debug)]
pub struct Row {
    /// Its name in the file; flag and environment variable are made from it.
    pub key: &'static str,
    /// What is allowed.
    pub kind: Kind,
    /// What it means, in whole sentences.
    pub about: &'static str,
    /// What 0 means, if it means something else than a very small number.
    pub zero: &'static str,
    /// What the empty text or list means.
    pub empty: &'static str,
    /// Whether a reload changes it; else a restart does.
    pub is_live: bool,
    /// Whether its value is never shown.
    pub is_secret: bool,
    get: fn(&Config) -> Value,
    set: fn(&mut Config, &Value),
}

/// Where a row leads to.
struct Place {
    kind: Kind,
    get: fn(&Config) -> Value,
    set: fn(&mut Config, &Value),
}

const fn row(key: &'static str, place: Place, about: &'static str) -> Row {
    let Place { kind, get, set } = place;
    Row { key, kind, about, zero: "", empty: "", is_live: true, is_secret: false, get, set }
}

impl Row {
    const fn zero(mut self, meaning: &'static str) -> Self {
        self.zero = meaning;
        self
    }

    const fn empty(mut self, meaning: &'static str) -> Self {
        self.empty = meaning;
        self
    }

    const fn restart(mut self) -> Self {
        self.is_live = false;
        self
    }

    const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    /// The value in a configuration.
    #[must_use]
    pub fn get(&self, config: &Config) -> Value {
        (self.get)(config)
    }

    /// Writes a value of this row's kind.
    pub fn set(&self, config: &mut Config, value: &Value) {
        (self.set)(config, value);
    }

    /// The value in a configuration as the file has it, if it may be shown.
    #[must_use]
    pub fn shown(&self, config: &Config) -> String {
        let value = self.get(config);
        if self.is_secret && value != Value::Text(String::new()) { "\"(secret)\"".into() } else { value.to_toml() }
    }

    /// All of its meaning in words.
    #[must_use]
    pub fn meaning(&self) -> String {
        let mut text = self.about.to_owned();
        for (word, meaning) in [("0", self.zero), ("Empty", self.empty)] {
            if !meaning.is_empty() {
                text += &format!(" {word}: {meaning}.");
            }
        }
        text
    }
}

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its rows.
    pub rows: &'static [Row],
}

/// All of them, in the order of the file.
pub static SECTIONS: [Section; 9] = [
    Section { name: "network", about: "Where it listens, who may connect, whom it believes.", rows: network::NETWORK },
    Section { name: "tls", about: "Certificates, and those of clients.", rows: tls::TLS },
    Section { name: "threads", about: "The threads that serve connections.", rows: network::THREADS },
    Section {
        name: "limits",
        about: "What clients may use. Bytes and counts; times with their unit.",
        rows: limits::LIMITS,
    },
    Section {
        name: "compression",
        about: "Whether and how messages are compressed. What waits, and what is counted as sent, is counted compressed.",
        rows: limits::COMPRESSION,
    },
    Section {
        name: "topics",
        about: "What each topic keeps and how it is delivered. Topics of a name or pattern can differ: [topics.\"PATTERN\"].",
        rows: limits::TOPICS,
    },
    Section { name: "auth", about: "Who clients are. What they may do: [role.NAME].", rows: auth::AUTH },
    Section { name: "shutdown", about: "How it ends (SIGTERM, SIGINT).", rows: network::SHUTDOWN },
    Section { name: "log", about: "What it tells.", rows: network::LOG },
];

/// A row and its names.
#[derive(Debug)]
pub struct Setting {
    /// The table of the file it is in.
    pub section: &'static Section,
    /// The row.
    pub row: &'static Row,
    /// The name of its flag, without the dashes.
    pub flag: String,
    /// Its environment variable.
    pub variable: String,
}

impl Setting {
    /// Section and key.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section.name, self.row.key)
    }
}

static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    let rows = SECTIONS.iter().flat_map(|section| section.rows.iter().map(move |row| (section, row)));
    let setting = |(section, row): (&'static Section, &'static Row)| Setting {
        section,
        row,
        flag: row.key.replace('_', "-"),
        variable: variable(row.key),
    };
    rows.map(setting).collect()
});

/// The environment variable of a key.
#[must_use]
pub fn variable(key: &str) -> String {
    format!("FANFARE_{}", key.to_uppercase())
}

/// All settings, in the order of the file.
#[must_use]
pub fn settings() -> &'static [Setting] {
    &SETTINGS
}

/// The setting of a key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    settings().iter().find(|setting| setting.row.key == key)
}

/// The setting of a key that is known to be there.
///
/// # Panics
/// If it is not: a mistake in this program, which the tests find.
#[must_use]
pub fn known(key: &str) -> &'static Setting {
    find(key).unwrap_or_else(|| panic!("there is no setting {key}"))
}

/// The names of what a topic's own rule can set, and the rows that say the same for all topics.
pub const RULE_KEYS: [(&str, &str); 8] = [
    ("history_messages", "history_messages"),
    // As it was called first.
    ("history", "history_messages"),
    ("history_bytes", "history_bytes"),
    ("history_age_s", "history_age_s"),
    ("policy", "policy"),
    ("pending_messages", "topic_pending_messages"),
    ("pending_bytes", "topic_pending_bytes"),
    ("pending_age_ms", "topic_pending_age_ms"),
];

/// The row for what a topic's own rule calls so.
#[must_use]
pub fn rule_row(name: &str) -> Option<&'static Row> {
    RULE_KEYS.iter().find(|(known, _)| *known == name).map(|(_, key)| known(key).row)
}

// ---- how rows lead to their places -----------------------------------------

/// Counts and sizes are 32 bits in the engine where it counts slots by them.
const COUNT_MAX: u64 = u32::MAX as u64;
/// No machine holds more bytes.
const BYTES_MAX: u64 = 1 << 40;
const TEN_YEARS_S: u64 = 315_360_000;

macro_rules! whole {
    ($unit:literal, $least:expr, $most:expr, $($field:ident).+) => {
        super::Place {
            kind: super::Kind::Number { unit: $unit, least: $least, most: $most },
            get: |config| super::Value::Number(config.$($field).+ as u64),
            set: |config, value| {
                if let super::Value::Number(number) = value {
                    config.$($field).+ = (*number).try_into().unwrap_or(config.$($field).+);
                }
            },
        }
    };
}

macro_rules! span {
    ($unit:literal, $read:ident, $make:ident, $least:expr, $most:expr, $($field:ident).+) => {
        super::Place {
            kind: super::Kind::Number { unit: $unit, least: $least, most: $most },
            get: |config| super::Value::Number(u64::try_from(config.$($field).+.$read()).unwrap_or(u64::MAX)),
            set: |config, value| {
                if let super::Value::Number(number) = value {
                    config.$($field).+ = std::time::Duration::$make(*number);
                }
            },
        }
    };
}

macro_rules! seconds {
    ($least:expr, $most:expr, $($field:ident).+) => { span!("S", as_secs, from_secs, $least, $most, $($field).+) };
}

macro_rules! millis {
    ($least:expr, $most:expr, $($field:ident).+) => { span!("MS", as_millis, from_millis, $least, $most, $($field).+) };
}

macro_rules! switch {
    ($($field:ident).+) => {
        super::Place {
            kind: super::Kind::Switch,
            get: |config| super::Value::Switch(config.$($field).+),
            set: |config, value| {
                if let super::Value::Switch(on) = value {
                    config.$($field).+ = *on;
                }
            },
        }
    };
}

/// One of the words of a type with `ALL` and `label`.
macro_rules! choice {
    ($all:expr, $words:expr, $($field:ident).+) => {
        super::Place {
            kind: super::Kind::Choice($words),
            get: |config| super::Value::Text(config.$($field).+.label().to_owned()),
            set: |config, value| {
                if let super::Value::Text(text) = value
                    && let Some(chosen) = $all.into_iter().find(|word| word.label() == text)
                {
                    config.$($field).+ = chosen;
                }
            },
        }
    };
}

/// Text that may be absent; `$read` and `$make` translate between it and what the configuration holds.
macro_rules! text {
    ($form:literal, $check:expr, $read:expr, $make:expr, $($field:ident).+) => {
        super::Place {
            kind: super::Kind::Text { form: $form, check: $check },
            get: |config| super::Value::Text(config.$($field).+.as_ref().map_or_else(String::new, $read)),
            set: |config, value| {
                if let super::Value::Text(text) = value {
                    config.$($field).+ = Some(text.as_str()).filter(|text| !text.is_empty()).and_then($make);
                }
            },
        }
    };
}

/// Texts; `$read` and `$make` translate one.
macro_rules! list {
    ($form:literal, $check:expr, $read:expr, $make:expr, $($field:ident).+) => {
        super::Place {
            kind: super::Kind::List { form: $form, check: $check },
            get: |config| super::Value::List(config.$($field).+.iter().map($read).collect()),
            set: |config, value| {
                if let super::Value::List(items) = value {
                    config.$($field).+ = items.iter().map(String::as_str).filter_map($make).collect();
                }
            },
        }
    };
}

use {choice, list, millis, seconds, span, switch, text, whole};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{ClientAddress, DeliveryPolicy, RatePolicy, Settings, TlsVersion, TopicCharacters};

    #[test]
    fn keys_are_unique_and_said_in_whole_sentences() {
        let keys: BTreeSet<_> = settings().iter().map(|setting| setting.row.key).collect();
        assert_eq!(keys.len(), settings().len());
        for Setting { row, .. } in settings() {
            assert!(row.about.ends_with('.') || row.about.ends_with(')'), "{}", row.key);
            assert!(row.key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'));
            for meaning in [row.zero, row.empty] {
                assert!(!meaning.ends_with('.'), "{}", row.key);
            }
        }
    }

    #[test]
    fn each_row_reads_and_writes_one_place_of_its_own_over_its_whole_range() {
        for Setting { row, .. } in settings() {
            let values = match row.kind {
                Kind::Number { least, most, .. } => vec![Value::Number(least), Value::Number(most)],
                Kind::Switch => vec![Value::Switch(false), Value::Switch(true)],
                Kind::Choice(words) => words.iter().map(|word| Value::Text((*word).into())).collect(),
                Kind::Word { .. } => vec![Value::Text(example(row).into())],
                Kind::Text { .. } => vec![Value::Text(String::new()), Value::Text(example(row).into())],
                Kind::List { .. } => vec![Value::List(Vec::new()), Value::List(vec![example(row).into()])],
            };
            for value in values {
                let mut config = Config::default();
                row.set(&mut config, &value);
                assert_eq!(row.get(&config), value, "{}", row.key);
                for other in settings().iter().filter(|other| other.row.key != row.key) {
                    let (now, before) = (other.row.get(&config), other.row.get(&Config::default()));
                    assert_eq!(now, before, "{} changes {}", row.key, other.row.key);
                }
            }
        }
    }

    fn example(row: &Row) -> &'static str {
        match row.key {
            "listen" | "api_listen" => "127.0.0.1:80",
            "trusted_proxies" => "10.0.0.0/8",
            "origin" => "https://a.example",
            "jwt_keys" => "RS256:one=/keys/one.pem",
            "auth_url" => "http://127.0.0.1/auth",
            "log" => "debug",
            "tls_client_auth" => "required",
            _ => "word",
        }
    }

    #[test]
    fn defaults_are_allowed() {
        for Setting { row, .. } in settings() {
            let value = row.get(&Config::default());
            let read = match (&row.kind, &value) {
                (Kind::List { .. }, Value::List(items)) => row.kind.list(items.clone()),
                (_, Value::Text(text)) if text.is_empty() => Ok(value.clone()),
                (_, Value::Text(text)) => row.kind.read_text(text),
                _ => row.kind.read_text(&value.to_toml()),
            };
            assert_eq!(read, Ok(value), "{}", row.key);
        }
    }

    #[test]
    fn words_are_those_of_the_engine() {
        let words = |key| match known(key).row.kind {
            Kind::Choice(words) => words.to_vec(),
            _ => panic!("{key} is no choice"),
        };
        assert_eq!(words("rate_policy"), RatePolicy::ALL.map(RatePolicy::label));
        assert_eq!(words("client_address"), ClientAddress::ALL.map(ClientAddress::label));
        assert_eq!(words("tls_min_version"), TlsVersion::ALL.map(TlsVersion::label));
        assert_eq!(words("topic_characters"), TopicCharacters::ALL.map(TopicCharacters::label));
        for word in words("policy") {
            assert_eq!(word.parse::<DeliveryPolicy>().unwrap().label(), word);
        }
    }

    /// The engine's name of a setting: without the unit of a time, as those are durations there.
    fn engine_name(key: &str) -> &str {
        match key {
            "origin" => "origins",
            _ if key.ends_with("_per_s") => key,
            _ => key.trim_end_matches("_ms").trim_end_matches("_s"),
        }
    }

    #[test]
    fn every_setting_of_the_engine_is_in_the_table_and_a_restart_is_asked_for_what_the_engine_keeps() {
        let text = format!("{:#?}", Settings::default());
        // Only what stands directly in the struct.
        let fields = text.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
        let fields: Vec<_> = fields.filter_map(|line| line.trim().split_once(": ").map(|(name, _)| name)).collect();
        assert!(fields.len() > 40, "{fields:?}");
        // Only programs that embed the engine have a tick.
        for field in fields.into_iter().filter(|field| *field != "tick_interval") {
            let mut rows = settings().iter().filter(|setting| {
                engine_name(setting.row.key) == field
                    && ["network", "limits", "compression", "shutdown"].contains(&setting.section.name)
            });
            let setting = rows.next().unwrap_or_else(|| panic!("{field} is in no section"));
            assert_eq!(setting.row.is_live, !Settings::FIXED.contains(&field), "{field}");
        }
    }
}
