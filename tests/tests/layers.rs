//! The layer rules of docs/ARCHITECTURE.md, read off the sources: each layer names only what stands left of it. And two rules
//! of style: no file grows without end, and each says at its top what it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_tests::repository;

/// The sources of a package and its layers, bottom first; the modules of one layer may name each other.
struct Rule {
    folder: &'static str,
    layers: &'static [&'static [&'static str]],
    /// What may be named against the rule: by which module, the one path, and why.
    allowed: &'static [(&'static str, &'static str, &'static str)],
}

const ENGINE: Rule = Rule {
    folder: "engine/src",
    layers: &[
        &["id", "close", "events", "metrics"],
        &["ws"],
        &["pubsub"],
        &["net", "handler", "config"],
        &["shard"],
        &["engine"],
        &["server"],
        &["main"],
    ],
    allowed: &[
        ("handler", "engine::EngineHandle", "what a handler is given contains the way back into the engine"),
        ("shard", "engine::EngineHandle", "the shard is who gives it to the handler"),
    ],
};

const LOADGEN: Rule = Rule {
    folder: "loadgen/src",
    layers: &[
        &["units", "failure"],
        &["scenario"],
        &["measure"],
        &["verify"],
        &["server_process"],
        &["bare"],
        &["load"],
        &["target"],
        &["client"],
        &["worker"],
        &["fleet"],
        &["record"],
        &["machine"],
        &["page"],
        &["compare"],
        &["terminal"],
        &["ceiling"],
        &["search"],
        &["ab"],
        &["command"],
        &["main"],
    ],
    allowed: &[
        ("target", "client::DEFLATE_OFFER", "what is offered is what the client understands"),
        ("worker", "fleet::message", "the language of those who give the orders"),
        ("ab", "command::run::judge", "a slice is judged as a repetition is"),
    ],
};

/// Files that may have more than [`LINES_MAX`] lines, and why.
const LONG_FILES: [(&str, &str); 0] = [];

const LINES_MAX: usize = 600;

/// A Rust source: where it is, relative to the repository, and what is in it.
struct Source {
    path: String,
    text: String,
}

fn sources_in(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&repository().join(folder), &mut found);
    found.sort();
    let relative = |path: &Path| path.strip_prefix(repository()).unwrap_or(path).to_string_lossy().into_owned();
    found
        .iter()
        .map(|path| Source { path: relative(path), text: fs::read_to_string(path).expect("readable") })
        .collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path.is_dir() && !path.ends_with("target") && !path.ends_with("node_modules") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

impl Source {
    /// The module that this file belongs to: `shard` for `engine/src/shard/inbox.rs`.
    fn module(&self) -> &str {
        let inner = self.path.split_once("/src/").map_or(self.path.as_str(), |(_, inner)| inner);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// Whether all of it is compiled for tests only: tests may name whatever they need.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs") || self.path.contains("/tests/")
    }

    /// The source without comments and without what follows a `#[cfg(test)]` module at its end.
    fn code(&self) -> String {
        let code = self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(&self.text);
        code.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
    }

    /// What follows `crate::` in the code: the names, and the members of `crate::{…}`.
    fn named(&self) -> BTreeSet<String> {
        let code = self.code();
        let mut names = BTreeSet::new();
        for (at, _) in code.match_indices("crate::") {
            let rest = &code[at + "crate::".len()..];
            names.extend(rest.strip_prefix('{').map_or_else(|| vec![identifier(rest)], top_level_names));
        }
        names
    }
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first name of each member of a `use` list, of which the opening brace has been taken.
fn top_level_names(list: &str) -> Vec<String> {
    let (mut names, mut depth, mut is_start) = (Vec::new(), 0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_start = true,
            _ if is_start && !c.is_whitespace() => {
                names.push(identifier(&list[at..]));
                is_start = false;
            }
            _ => {}
        }
    }
    names
}

impl Rule {
    fn layer_of(&self, module: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.contains(&module))
    }

    /// Whether all that a source names of a module is on the list.
    fn is_allowed(&self, source: &Source, named: &str) -> bool {
        let code = source.code();
        let prefix = format!("crate::{named}::");
        let mut paths = code.match_indices(&prefix).map(|(at, _)| &code[at + "crate::".len()..]).peekable();
        let is_listed = |path: &str| {
            self.allowed.iter().any(|(who, what, _)| {
                *who == source.module()
                    && path.strip_prefix(what).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            })
        };
        paths.peek().is_some() && paths.all(is_listed)
    }

    /// What a source names against the rule.
    fn violations(&self, source: &Source) -> Vec<String> {
        let module = source.module();
        let Some(own) = self.layer_of(module) else {
            return vec![format!("{}: the module '{module}' belongs to no layer", source.path)];
        };
        let wrong = source.named().into_iter().filter(|name| {
            let is_reexport = name.starts_with(char::is_uppercase);
            let is_above = self.layer_of(name).is_some_and(|layer| layer > own);
            // The server is built on the public API alone, like any program that embeds the engine.
            let is_inner = module == "server" && name != "server" && !is_reexport;
            (is_above || is_inner) && !self.is_allowed(source, name)
        });
        wrong.map(|name| format!("{}: names crate::{name}", source.path)).collect()
    }
}

#[test]
fn each_layer_names_only_what_stands_left_of_it() {
    for rule in [ENGINE, LOADGEN] {
        let sources = sources_in(rule.folder);
        assert!(sources.len() > 5, "the sources are where they are looked for");
        let checked = sources.iter().filter(|source| source.module() != "lib" && !source.is_test());
        let wrong: Vec<_> = checked.flat_map(|source| rule.violations(source)).collect();
        assert!(wrong.is_empty(), "against the layers of docs/ARCHITECTURE.md:\n{}", wrong.join("\n"));
    }
}

#[test]
fn protocols_topics_and_reckoning_know_no_sockets_threads_or_clocks() {
    let banned =
        ["std::net::Tcp", "std::thread", "Instant::now", "SystemTime", "mio::", "socket2::", "libc::", "tokio::"];
    let folders =
        ["engine/src/ws", "engine/src/pubsub", "loadgen/src/load", "loadgen/src/verify", "loadgen/src/measure"];
    let mut wrong = Vec::new();
    for source in folders.iter().flat_map(|folder| sources_in(folder)) {
        let code = if source.is_test() { String::new() } else { source.code() };
        wrong.extend(banned.iter().filter(|word| code.contains(**word)).map(|word| format!("{}: {word}", source.path)));
    }
    assert!(wrong.is_empty(), "bytes and time are arguments there:\n{}", wrong.join("\n"));
}

fn all_sources() -> Vec<Source> {
    ["engine", "loadgen", "benches", "tests"].iter().flat_map(|folder| sources_in(folder)).collect()
}

#[test]
fn no_file_is_long_without_a_reason() {
    let is_known = |path: &str| LONG_FILES.iter().any(|(known, _)| *known == path);
    let long = all_sources().into_iter().map(|source| (source.text.lines().count(), source.path));
    let long: Vec<_> = long.filter(|(lines, path)| *lines > LINES_MAX && !is_known(path)).collect();
    assert!(long.is_empty(), "split these, or say in LONG_FILES why not: {long:?}");
}

#[test]
fn every_file_says_at_its_top_what_it_is() {
    let silent: Vec<_> =
        all_sources().into_iter().filter(|source| !source.text.starts_with("//!")).map(|source| source.path).collect();
    assert!(silent.is_empty(), "these do not begin with '//!': {silent:?}");
}

#[test]
fn the_reading_of_imports_is_right() {
    let source = |text: &str| Source { path: "engine/src/pubsub/x.rs".into(), text: text.into() };
    let text = "use crate::{ws::{Message, frame}, id,\n  net::Listener};\n// crate::shard\nlet x = crate::config::y();\n\
                \n#[cfg(test)]\nmod tests { use crate::server::z; }";
    assert_eq!(source(text).named().into_iter().collect::<Vec<_>>(), ["config", "id", "net", "ws"]);
    let wrong = ENGINE.violations(&source(text));
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    let server =
        Source { path: "engine/src/server/app.rs".into(), text: "use crate::{Engine, server::x, shard};".into() };
    assert_eq!(ENGINE.violations(&server), ["engine/src/server/app.rs: names crate::shard"]);
}
