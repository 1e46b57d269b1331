//! Every key of a scenario in words: one table, from which the commented file and the help of the flags are made.
//!
//! Defaults are not written here: they are read from `Scenario::default()`, so they cannot be wrong. That the table holds
//! exactly the keys of the structs is tested against the structs themselves.

use std::sync::LazyLock;

use crate::scenario::Scenario;

/// A table of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name with dots; empty for the keys before the first table.
    pub path: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its keys, in the order of the file.
    pub keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its name within the section.
    pub name: &'static str,
    /// What it means, with unit and the meaning of zero or of its absence.
    pub about: &'static str,
    /// A value in TOML for a key that is absent (or empty) by default.
    pub example: Option<&'static str>,
}

const fn key(name: &'static str, about: &'static str) -> Key {
    Key { name, about, example: None }
}

const fn absent(name: &'static str, example: &'static str, about: &'static str) -> Key {
    Key { name, about, example: Some(example) }
}

impl Section {
    /// The whole path of one of its keys.
    pub fn path_of(&self, key: &Key) -> String {
        if self.path.is_empty() { key.name.to_owned() } else { format!("{}.{}", self.path, key.name) }
    }
}

/// All of them, in the order of the file.
pub const SECTIONS: &[Section] = &[
    Section {
        path: "",
        about: "",
        keys: &[
            key("name", "Names the results folder: letters, digits, '-', '_', '.'"),
            key("seed", "Of everything random: payloads, Poisson arrivals, skews, masks"),
            key(
                "repetitions",
                "How often the whole run is made, each time on fresh connections; compare wants at least 4",
            ),
            key("warmup", "Load that is offered but not counted, before each measurement; 0 for none"),
            key("duration", "The measured time of one repetition, 100ms to 24h; with steps, their sum counts instead"),
            key(
                "drain_timeout",
                "How long after the last publication deliveries are waited for before they count as lost; 0 not at all",
            ),
        ],
    },
    Section {
        path: "target",
        about: "Who is spoken to, and how.",
        keys: &[
            key(
                "url",
                "ws://HOST:PORT or wss://HOST:PORT, needed; a path here takes the place of the preset's for subscribers",
            ),
            absent("preset", "\"fanfare\"", "The way of speaking, by name; absent for fanfare"),
            absent("subprotocols", "[\"v1.example\"]", "WebSocket subprotocols to offer, in order; absent for none"),
            absent(
                "headers",
                "{ Authorization = \"Bearer {token}\" }",
                "Headers of the upgrade request; values may hold {token} and {client}, the connection's number",
            ),
            absent("token", "\"secret\"", "What {token} stands for"),
            absent(
                "token_file",
                "\"tokens.txt\"",
                "A file of tokens, one a line; connection N uses line N, from the start again when they have run out",
            ),
            key("deflate", "Offer permessage-deflate, without context takeover"),
        ],
    },
    Section {
        path: "target.template",
        about: "Single parts that take the place of the preset's. Placeholders: {topic}, {client}, {token}, {message} (the \
                payload), {app_id}, {app_key}; each also as {…_json} (the inside of a JSON string) and {…_url} \
                (percent-encoded, as all are in paths).",
        keys: &[
            absent("subscribe_path", "\"/subscribe?topic={topic}\"", "Path and query of a subscriber's connection"),
            absent("publish_path", "\"/publish?topic={topic}\"", "Path and query of a publisher's connection"),
            absent("idle_path", "\"/idle\"", "Path and query of an idle connection"),
            absent(
                "open",
                "[{ send = '{\"connect\":\"{token}\"}' }, { expect = \"connected\" }]",
                "What every connection says and waits for after the upgrade, in order: send a text message, or expect one \
                 that contains this",
            ),
            absent(
                "subscribe",
                "[{ send = '{\"subscribe\":\"{topic}\"}' }, { expect = \"subscribed\" }]",
                "What a subscriber says and waits for after that",
            ),
            absent(
                "publisher",
                "[{ send = '{\"join\":\"{topic}\"}' }, { expect = \"joined\" }]",
                "What a publisher says and waits for after open; absent for nothing",
            ),
            absent("publish", "'{\"publish\":\"{message_json}\"}'", "The message that publishes"),
            absent(
                "publish_http",
                "{ method = \"POST\", server = \"http://127.0.0.1:8000\", path = \"/publish/{topic}\", headers = { X-Key = \
                 \"{token}\" }, body = \"{message}\" }",
                "The HTTP request that publishes, where publishers use HTTP; only path is needed: the method is POST, the \
                 server that of the url, and the body {message} if they are absent",
            ),
            absent(
                "answers",
                "[{ to = \"ping\", send = \"pong\" }]",
                "Messages that want an answer during the whole connection, as heartbeats do: one that begins with this is \
                 answered with that, or only passed over if that is empty",
            ),
            absent(
                "heartbeat",
                "{ every = \"25s\", send = \"ping\" }",
                "What every connection says from time to time, unasked; absent for nothing",
            ),
            absent("lines", "true", "Whether a WebSocket message holds several lines, each a message of its own"),
        ],
    },
    Section {
        path: "target.tls",
        about: "For wss:// only.",
        keys: &[
            absent("ca", "\"ca.pem\"", "Certificates to trust, PEM; absent for those of the system"),
            absent(
                "server_name",
                "\"example.org\"",
                "The name the certificate must bear, and that is sent as SNI; absent for the host of the url",
            ),
            key("insecure", "Accept any certificate; the result says so"),
            absent("certificate", "\"client.pem\"", "A client certificate with its chain, PEM"),
            absent("key", "\"client.key\"", "The client certificate's key, PEM"),
            key("resumption", "Resume sessions with the server's tickets; false: every handshake is a whole one"),
        ],
    },
    Section {
        path: "target.app",
        about: "The server's application, for presets that name one (pusher, centrifugo).",
        keys: &[
            absent("id", "\"app\"", "Its id: what {app_id} stands for"),
            absent("key", "\"app-key\"", "Its key, which clients show: what {app_key} stands for"),
            absent("secret", "\"app-secret\"", "What publications over HTTP are signed with"),
        ],
    },
    Section {
        path: "connections",
        about: "Who is connected: as counts (50), or as shares of the total (\"5%\").",
        keys: &[
            key(
                "total",
                "What shares count from; subscribers are then what publishers and the other roles leave. 0: all roles are counts",
            ),
            key("subscribers", "Those whose deliveries are measured"),
            key("publishers", "Those who publish; 0 to connect and receive only"),
            key("publish_via", "How they publish: web-socket, or http with one request at a time on each connection"),
            key("idle", "Connected, subscribed to nothing"),
            key("slow", "Subscribed, reading slow_bytes_per_s"),
            key("stalled", "Subscribed, never reading"),
            key("churning", "Subscribed, leaving after churn_lifetime and coming back at once"),
            key("slow_bytes_per_s", "What a slow reader reads a second, in bytes"),
            key("churn_lifetime", "How long a churner stays"),
        ],
    },
    Section {
        path: "connect",
        about: "How connections come to be.",
        keys: &[
            key("rate_per_s", "Connects offered a second; 0 for as fast as the concurrency allows"),
            key("concurrency", "Handshakes under way at once, in all"),
            key("timeout", "From connect to the last expected message of the opening conversation"),
            key(
                "failures_max",
                "Connections that may fail before the run is given up, as a count or a share; 0 for none",
            ),
            absent(
                "bind",
                "[\"127.0.0.2\", \"127.0.0.3\"]",
                "Local addresses, used in turn: Linux allows about 28,000 connections an address; absent: it chooses",
            ),
        ],
    },
    Section {
        path: "topics",
        about: "What is published to and subscribed.",
        keys: &[
            key("count", "How many topics"),
            key("name", "Their names; {n} is the topic's number, from 0, and is needed if there are several"),
            key("subscribers", "How subscribers are spread over topics: uniform or zipf"),
            key("publications", "How publications are spread over topics: uniform or zipf"),
            key("zipf_exponent", "The exponent of zipf: topic n gets a share proportional to 1/(n+1)^exponent"),
        ],
    },
    Section {
        path: "load",
        about: "When publications are made.",
        keys: &[
            key(
                "kind",
                "constant (evenly spaced), poisson (independent arrivals), steps, ramp (linear over the duration), burst \
                 (many at one moment), closed (as fast as the server delivers)",
            ),
            key("rate_per_s", "Publications a second, over all publishers (constant, poisson; where ramp begins)"),
            key("to_rate_per_s", "Publications a second where ramp ends; 0 with the other kinds"),
            absent(
                "steps",
                "[{ rate_per_s = 100.0, duration = \"5s\" }, { rate_per_s = 200.0, duration = \"5s\" }]",
                "The rates of steps, one after the other; absent with the other kinds",
            ),
            key("burst_size", "Publications of one burst; 0 with the other kinds"),
            key("burst_every", "From one burst to the next; 0 with the other kinds"),
            key("in_flight", "For closed: publications that not every subscriber has yet, at most"),
        ],
    },
    Section {
        path: "payload",
        about: "What a publication consists of: a marker and filler.",
        keys: &[
            key("bytes", "Bytes of the payload, its marker of 52 bytes included"),
            key("binary", "Publish binary messages; false for text"),
            key(
                "filler",
                "What stands behind the marker: random letters and digits, or json, of which deflate makes about a quarter \
                 (only where a publication is nothing but its payload)",
            ),
        ],
    },
    Section {
        path: "storm",
        about: "A reconnect storm: at one moment all subscribers drop their connections and come back.",
        keys: &[absent("at", "\"3s\"", "When, after the beginning of the measured time; absent for no storm")],
    },
    Section {
        path: "client",
        about: "The load generator itself.",
        keys: &[
            key("threads", "Worker threads of a process"),
            key("processes", "Processes; 0 for as many as the open-file limit asks for"),
            absent("pin", "[1]", "Cores the workers are pinned to, in turn; absent: not pinned"),
            key("cpu_share_max", "Above this share of a core, in any worker, the run is void; 1 for no bound"),
            key("lag_max", "Above this event-loop lag (p99) the run is void"),
            key("late_after", "A publication sent this much after its intended time counts as late"),
            key("message_bytes_max", "A longer message ends its connection; in bytes"),
        ],
    },
    Section {
        path: "server",
        about: "What is known about the server's process.",
        keys: &[
            absent(
                "pid",
                "1234",
                "Its process on this machine: CPU time and memory of it and of all its children are then measured",
            ),
            key("revision", "What to call it in results, revision included, such as 'fanfare a1b2c3d'"),
            absent(
                "cores",
                "[0]",
                "The cores it is pinned to; the servers of 'ab' and the ceiling are started there; absent: all",
            ),
        ],
    },
];

static DEFAULTS: LazyLock<toml::Value> = LazyLock::new(|| {
    toml::Value::try_from(Scenario::default()).expect("a scenario of defaults consists of what TOML can hold")
});

/// The default of a key, as it is written in the file; none if the key is absent by default.
pub fn default_of(path: &str) -> Option<toml::Value> {
    path.split('.').try_fold(&*DEFAULTS, |value, part| value.get(part)).cloned()
}

/// The section and the key of a path.
pub fn find(path: &str) -> Option<(&'static Section, &'static Key)> {
    let all = SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key)));
    all.into_iter().find(|(section, key)| section.path_of(key) == path)
}

/// All paths, in the order of the file.
pub fn paths() -> impl Iterator<Item = String> {
    SECTIONS.iter().flat_map(|section| section.keys.iter().map(|key| section.path_of(key)))
}

/// What the help of a flag says: the meaning of the key it stands for, and its default.
///
/// # Panics
/// If there is no such key: a mistake in this program that the test of the help finds.
pub fn help(path: &str) -> String {
    let (_, key) = find(path).unwrap_or_else(|| panic!("no key {path}"));
    let text = match default_of(path).filter(|_| key.example.is_none()) {
        Some(toml::Value::String(text)) if text.is_empty() => key.about.to_owned(),
        Some(toml::Value::String(text)) => format!("{} [default: {text}]", key.about),
        Some(toml::Value::Boolean(false)) | None => key.about.to_owned(),
        Some(value) => format!("{} [default: {value}]", key.about),
    };
    // Clap takes {n} for the end of a line; with a style that changes nothing in between it does not.
    text.replace("{n}", "{\u{1b}[0mn}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::shape;

    #[test]
    fn the_table_holds_exactly_the_keys_of_the_structs() {
        let written: BTreeSet<String> = paths().collect();
        let known: BTreeSet<String> = shape::keys_of::<Scenario>().into_iter().collect();
        let sections: BTreeSet<String> = SECTIONS.iter().map(|section| section.path.to_owned()).collect();
        let examples: Vec<String> = SECTIONS
            .iter()
            .flat_map(|section| section.keys.iter().map(move |key| (section.path_of(key), key.example)))
            .filter_map(|(path, example)| example.map(|example| format!("{path} = {example}\n")))
            .collect();
        for path in &known {
            let in_example = examples.iter().any(|line| shape::has_path(&toml::from_str(line).unwrap(), path));
            assert!(written.contains(path) || sections.contains(path) || in_example, "{path} is not described");
        }
        for path in &written {
            assert!(known.contains(path), "{path} is described, but is no key");
        }
        assert_eq!(written.len(), paths().count(), "a key is described twice");
    }

    #[test]
    fn keys_without_an_example_have_a_default_and_those_with_one_have_none() {
        for (section, key) in SECTIONS.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key))) {
            let path = section.path_of(key);
            let is_absent = match default_of(&path) {
                None => true,
                Some(toml::Value::Array(items)) => items.is_empty(),
                Some(toml::Value::Table(table)) => table.is_empty(),
                Some(_) => false,
            };
            assert_eq!(is_absent, key.example.is_some(), "{path}");
        }
    }

    #[test]
    fn the_help_of_a_key_ends_with_its_default() {
        assert!(help("duration").ends_with("[default: 10s]"), "{}", help("duration"));
        assert!(help("load.rate_per_s").ends_with("[default: 100.0]"), "{}", help("load.rate_per_s"));
        assert!(!help("target.token").contains("default"), "{}", help("target.token"));
    }
}
