//! Reads a scenario from TOML. Whatever is wrong with it becomes one sentence: file, line, key, value seen, what is allowed.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::failure::Failure;
use crate::scenario::nearest::nearest;
use crate::scenario::{Scenario, keys};

/// A longer file is no scenario.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Scenario {
    /// Reads a file. What it does not say has its default; flags and [`Scenario::check`] come later.
    ///
    /// # Errors
    /// A [`Failure::Usage`] that names file, line, key and value.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let name = path.display();
        let unreadable =
            |error: std::io::Error| Failure::usage(format!("the scenario file {name} cannot be read: {error}"));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(Failure::usage(format!(
                "the scenario file {name} is longer than 1 MiB: it cannot be a scenario"
            )));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::usage(format!("the scenario file {name} is no text: byte {at} is not UTF-8"))
        })?;
        Self::parse(&text, &name.to_string())
    }

    /// Reads the text of a file; `name` is what errors call it.
    ///
    /// # Errors
    /// As [`Scenario::read`].
    pub fn parse(text: &str, name: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(|error| Failure::usage(sentence(text, name, &error)))
    }
}

/// The sentence for an error in a text.
fn sentence(text: &str, name: &str, error: &toml::de::Error) -> String {
    let span = error.span().unwrap_or(0..0);
    let line = 1 + text.get(..span.start).unwrap_or(text).matches('\n').count();
    let place = match DeTable::parse(text) {
        Ok(document) => locate(document.get_ref(), "", &span),
        Err(_) => {
            let seen = text.lines().nth(line - 1).unwrap_or_default();
            return format!("{name}, line {line}: '{}' is not TOML: {}", short(seen.trim()), one_line(error.message()));
        }
    };
    match place {
        Some(Place { path, .. }) if error.message().starts_with("unknown field") => {
            format!("{name}, line {line}: {}", unknown_key(&path, &expected(error.message())))
        }
        Some(Place { path, value }) => {
            let seen = short(text.get(value).unwrap_or_default());
            format!("{name}, line {line}: {path} = {seen}: {}", allowed(error.message()))
        }
        None => format!("{name}, line {line}: {}", allowed(error.message())),
    }
}

/// Where in the document an error is.
struct Place {
    path: String,
    value: Range<usize>,
}

/// The deepest key whose name or value the span begins in.
fn locate(table: &DeTable<'_>, prefix: &str, span: &Range<usize>) -> Option<Place> {
    table.iter().find_map(|(key, value)| {
        let path = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
        let is_here = key.span().contains(&span.start) || value.span().contains(&span.start);
        let here = || is_here.then(|| Place { path: path.clone(), value: value.span() });
        locate_value(value.get_ref(), &path, span).or_else(here)
    })
}

fn locate_value(value: &DeValue<'_>, path: &str, span: &Range<usize>) -> Option<Place> {
    match value {
        DeValue::Table(inner) => locate(inner, path, span),
        DeValue::Array(items) => items.iter().find_map(|item| {
            let is_here = item.span().contains(&span.start);
            let here = || is_here.then(|| Place { path: path.to_owned(), value: item.span() });
            locate_value(item.get_ref(), path, span).or_else(here)
        }),
        _ => None,
    }
}

/// Says that there is no such key, and which one was probably meant.
pub(super) fn unknown_key(path: &str, expected: &[&str]) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let place = if section.is_empty() { "among the first keys".into() } else { format!("in [{section}]") };
    let elsewhere = || keys::paths().find(|known| known.rsplit('.').next() == Some(name));
    let hint = match nearest(name, expected.iter().copied()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => match elsewhere() {
            Some(known) => format!("did you mean '{known}'?"),
            None => format!("allowed are {}", expected.join(", ")),
        },
    };
    format!("there is no key '{name}' {place}: {hint}")
}

/// The words in backticks after `expected`.
pub(super) fn expected(message: &str) -> Vec<&str> {
    let list = message.split_once("expected").map_or("", |(_, list)| list);
    list.split('`').skip(1).step_by(2).collect()
}

/// What is allowed, from the words of the deserializer.
pub(super) fn allowed(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown variant") {
        let seen = rest.split('`').nth(1).unwrap_or_default();
        let words = expected(message);
        let hint =
            nearest(seen, words.iter().copied()).map_or(String::new(), |near| format!(" (did you mean '{near}'?)"));
        return format!("must be one of {}{hint}", words.join(", "));
    }
    if let Some(field) = message.strip_prefix("missing field") {
        return format!("the key '{}' is missing in it", field.trim().trim_matches('`'));
    }
    let is_mistyped = message.starts_with("invalid type") || message.starts_with("invalid value");
    match message.rsplit_once("expected ").filter(|_| is_mistyped) {
        Some((_, wanted)) => format!("must be {}", in_words(wanted)),
        None => one_line(message),
    }
}

/// Rust's names of types, for people who do not know them.
fn in_words(wanted: &str) -> String {
    let whole = |max: u64| format!("a whole number from 0 to {max}");
    match wanted.trim() {
        "u64" | "usize" => "a whole number, 0 or more".into(),
        "u32" => whole(u32::MAX.into()),
        "f64" => "a number".into(),
        "a boolean" => "true or false".into(),
        "a string" | "path string" => "text in quotes".into(),
        "a sequence" => "a list in [ ]".into(),
        "a map" => "a table of keys and values".into(),
        table if table.starts_with("struct") => "a table of keys and values".into(),
        other => other.to_owned(),
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// At most 60 characters of the first line.
fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(text: &str) -> String {
        let failure = Scenario::parse(text, "s.toml").expect_err(text);
        assert_eq!(failure.exit_code(), 2);
        failure.to_string()
    }

    #[test]
    fn an_empty_file_is_the_default_and_a_written_scenario_is_read_back() {
        assert_eq!(Scenario::parse("", "empty"), Ok(Scenario::default()));
        let written = toml::to_string(&Scenario::default()).unwrap();
        assert_eq!(Scenario::parse(&written, "written"), Ok(Scenario::default()));
    }

    #[test]
    fn every_mistake_names_file_line_key_value_and_what_is_allowed() {
        let cases: [(&str, &[&str]); 14] = [
            ("[connections]\n\nsubscriber = 5", &["line 3", "'subscriber'", "[connections]", "mean 'subscribers'?"]),
            ("subscribers = 5", &["line 1", "'subscribers'", "mean 'connections.subscribers'?"]),
            ("colour = 5", &["line 1", "'colour'", "allowed are name, seed"]),
            ("[tls]\nca = 'x'", &["line 1", "'tls'"]),
            ("\nduration = 10", &["line 2", "duration = 10:", "no unit", "'10s'"]),
            ("duration = \"ten\"", &["duration = \"ten\"", "begin with a number"]),
            ("duration = true", &["duration = true", "a number, or a string with its unit"]),
            ("[connections]\nsubscribers = \"many\"", &["connections.subscribers = \"many\"", "a whole number"]),
            ("[connections]\nsubscribers = -5", &["connections.subscribers = -5", "a whole number"]),
            ("[load]\nkind = \"possion\"", &["load.kind = \"possion\"", "closed", "mean 'poisson'?"]),
            ("[load]\nsteps = [{ rate_per_s = 5.0 }]", &["load.steps = { rate", "'duration' is missing"]),
            (
                "[load]\nsteps = [{ rate_per_s = 5, duration = '1s' },\n { rate_per_s = 'x', duration = '1s' }]",
                &["line 3", "load.steps.rate_per_s = 'x'", "a number"],
            ),
            ("[target]\nurl = 5", &["target.url = 5", "text in quotes"]),
            (
                "[target.template]\npublish_http = { path = '/', methd = 'PUT' }",
                &["line 2", "'methd'", "mean 'method'?"],
            ),
        ];
        for (text, parts) in cases {
            let error = error(text);
            for part in parts.iter().chain(&["s.toml"]) {
                assert!(error.contains(part), "{text:?} gives {error:?}, which does not say {part:?}");
            }
            assert!(!error.contains('\n'), "{error:?} is more than one line");
        }
    }

    #[test]
    fn what_is_not_toml_is_shown_with_its_line() {
        for (text, part) in [("seed = 1\nname = = 3", "line 2"), ("[load", "line 1"), ("a = 1\na = 2", "line 2")] {
            let error = error(text);
            assert!(error.contains(part) && error.starts_with("s.toml"), "{error}");
        }
    }

    #[test]
    fn files_that_are_missing_endless_or_no_text_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = Scenario::read(&folder.path().join("none.toml")).unwrap_err();
        assert!(missing.to_string().contains("none.toml"), "{missing}");
        let endless = Scenario::read("/dev/zero".as_ref()).unwrap_err();
        assert!(endless.to_string().contains("1 MiB"), "{endless}");
        let garbage = folder.path().join("garbage.toml");
        std::fs::write(&garbage, b"seed = 1\n\xff\xfe").unwrap();
        assert!(Scenario::read(&garbage).unwrap_err().to_string().contains("byte 9"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z_]{1,8}|\\[[a-z.]{1,12}\\]|[=\\[\\]{}\",' \n0-9éµ.]){0,24}") {
            if let Err(failure) = Scenario::parse(&text, "s.toml") {
                prop_assert!(failure.to_string().starts_with("s.toml, line "));
            }
        }
    }
}
