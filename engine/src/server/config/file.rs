//! The file: TOML, with a table for each section, `[topics."PATTERN"]` for topics that differ and `[role.NAME]` for roles.
//!
//! Whatever is wrong with it is told at once, each with its line.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::merge::{Entry, Found, Wrong};
use super::mistake::{Mistake, Source, short};
use super::nearest::nearest;
use super::rules::{self, ACTIONS};
use super::table::{RULE_KEYS, SECTIONS, Section, settings};
use super::value::quoted;

/// A longer file is no configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file.
pub fn read(path: &Path) -> Found {
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => parse(&text, &name),
        Err(text) => Found::of(Mistake::new(Source::Default, format!("the configuration file {name} {text}"))),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    // A pipe could be read only once, and a reload would find it empty.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("is no regular file: a reload could not read it again".into());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err("is longer than 1 MiB: it cannot be one".into());
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("is no text: byte {} is not UTF-8", error.utf8_error().valid_up_to()))
}

/// Whether a line that cannot be read may hold a secret, or a part of one that began further up: what is wrong with it is told
/// in logs and answers.
fn may_hold_secret(text: &str, line: usize) -> bool {
    let key = |line: &str| {
        let (name, _) = line.split_once('=')?;
        let name = name.rsplit('.').next().unwrap_or(name).trim().trim_matches(['"', '\'']).to_owned();
        settings().iter().find(|setting| setting.row.key == name)
    };
    let last = text.lines().take(line).filter_map(key).last();
    let own = text.lines().nth(line.saturating_sub(1)).unwrap_or_default().to_ascii_lowercase();
    last.is_some_and(|setting| setting.row.is_secret) || own.contains("token")
}

/// Reads the text of a file; `name` is what mistakes call it.
pub fn parse(text: &str, name: &str) -> Found {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader { text, name, found: Found::default() };
    for error in errors {
        let source = reader.source(error.span().unwrap_or(0..0));
        let line = source_line(&source);
        let seen = match may_hold_secret(text, line) {
            true => "(secret)".into(),
            false => short(text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim()),
        };
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        reader.found.mistakes.push(Mistake::new(source, format!("'{seen}' is not TOML: {message}")));
    }
    // With broken syntax the rest is guesswork: a key may have slipped into another table.
    if reader.found.mistakes.is_empty() {
        reader.document(document.get_ref());
    }
    reader.found.mistakes.sort_by_key(|mistake| source_line(mistake.source()));
    reader.found
}

fn source_line(source: &Source) -> usize {
    if let Source::File { line, .. } = source { *line } else { 0 }
}

struct Reader<'a> {
    text: &'a str,
    name: &'a str,
    found: Found,
}

impl Reader<'_> {
    fn source(&self, span: Range<usize>) -> Source {
        let line = 1 + self.text.get(..span.start).unwrap_or(self.text).matches('\n').count();
        Source::File { path: self.name.to_owned(), line }
    }

    fn wrong(&mut self, span: Range<usize>, text: String) {
        let source = self.source(span);
        self.found.mistakes.push(Mistake::new(source, text));
    }

    fn document(&mut self, document: &DeTable<'_>) {
        for (key, value) in document {
            let (name, span) = (key.get_ref().as_ref(), key.span());
            let section = SECTIONS.iter().find(|section| section.name == name);
            match (value.get_ref(), section) {
                (DeValue::Table(table), Some(section)) => self.section(section, table),
                (DeValue::Table(table), None) if name == "role" => self.roles(table),
                (_, Some(_)) => self.wrong(span, format!("{name} must be a table: [{name}]")),
                (_, None) => self.wrong(span, unknown_first(name)),
            }
        }
    }

    fn section(&mut self, section: &'static Section, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let setting = settings().iter().find(|known| known.section.name == section.name && known.row.key == name);
            match (value.get_ref(), setting) {
                (DeValue::Table(rule), _) if section.name == "topics" => self.topic(name, key.span(), rule),
                (value_seen, Some(setting)) => {
                    let source = self.source(key.span());
                    let read = setting.row.kind.read_toml(value_seen).map_err(|allowed| Wrong {
                        key: Some(setting.row.key),
                        mistake: Mistake::value(
                            source.clone(),
                            setting,
                            self.text.get(value.span()).unwrap_or(""),
                            &allowed,
                        ),
                    });
                    self.found.add(read.map(|value| Entry::new(setting, value, source)));
                }
                (_, None) => self.wrong(key.span(), unknown_in(section, name)),
            }
        }
    }

    /// `[topics."PATTERN"]`.
    fn topic(&mut self, pattern: &str, span: Range<usize>, table: &DeTable<'_>) {
        let path = format!("topics.{}", quoted(pattern));
        if let Some((inner, _)) = table.iter().find(|(_, value)| value.get_ref().is_table()) {
            let text = format!(
                "in [topics.{pattern}.{0}] the dot parts tables: put the pattern in quotes, [topics.\"{pattern}.{0}\"]",
                inner.get_ref()
            );
            return self.wrong(span, text);
        }
        let checked = match rules::pattern(pattern) {
            Ok(checked) => checked,
            Err(text) => return self.wrong(span, format!("[{path}]: {text}")),
        };
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let Some(row) = super::table::rule_row(name) else {
                let known = RULE_KEYS.iter().map(|(known, _)| *known);
                self.wrong(key.span(), format!("[{path}]: there is no key '{name}' in it: {}", hint(name, known)));
                continue;
            };
            match row.kind.read_toml(value.get_ref()) {
                Ok(value) => {
                    let source = self.source(key.span());
                    self.found.add_topic(&checked, row, value, source);
                }
                Err(allowed) => {
                    let seen = short(self.text.get(value.span()).unwrap_or(""));
                    self.wrong(key.span(), format!("{path}.{name} is {seen}: {allowed}"));
                }
            }
        }
    }

    /// `[role.NAME]`.
    fn roles(&mut self, table: &DeTable<'_>) {
        for (role, value) in table {
            let name = role.get_ref().as_ref();
            let Some(lists) = value.get_ref().as_table() else {
                self.wrong(role.span(), format!("role.{name} must be a table: [role.{name}]"));
                continue;
            };
            if let Err(text) = rules::role_name(name) {
                self.wrong(role.span(), format!("[role.{}]: {text}", quoted(name)));
                continue;
            }
            for (key, value) in lists {
                self.role_list(name, key.get_ref(), key.span(), value.get_ref());
            }
            if lists.is_empty() {
                self.wrong(
                    role.span(),
                    format!("[role.{name}] allows nothing: give it subscribe, publish, history or admin"),
                );
            }
        }
    }

    fn role_list(&mut self, role: &str, name: &str, span: Range<usize>, value: &DeValue<'_>) {
        let Some(action) = ACTIONS.into_iter().find(|action| *action == name) else {
            return self.wrong(span, format!("[role.{role}]: there is no key '{name}' in it: {}", hint(name, ACTIONS)));
        };
        let items = value.as_array().map(|items| items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)));
        let Some(patterns) = items.and_then(Iterator::collect::<Option<Vec<String>>>) else {
            return self.wrong(span, format!("role.{role}.{name} must be a list of patterns, as [\"prices.>\"]"));
        };
        let source = self.source(span);
        match rules::role_patterns(&patterns) {
            Ok(()) => self.found.add_role(role, action, patterns, source),
            Err(text) => self.found.mistakes.push(Mistake::new(source, format!("role.{role}.{name}: {text}"))),
        }
    }
}

fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(name, known.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}

/// For a key before the first table, or a table that is none.
fn unknown_first(name: &str) -> String {
    if let Some(setting) = settings().iter().find(|setting| setting.row.key == name) {
        return format!("the key '{name}' belongs into [{}]", setting.section.name);
    }
    let known: Vec<&str> = SECTIONS.iter().map(|section| section.name).chain(["role"]).collect();
    let keys = settings().iter().map(|setting| setting.row.key);
    match nearest(name, known.iter().copied()).or_else(|| nearest(name, keys)) {
        Some(near) if known.contains(&near) => format!("there is no table [{name}]: did you mean [{near}]?"),
        Some(near) => format!("there is no key '{name}': did you mean '{near}'?"),
        None => format!("there is no table [{name}]: there are {}", known.join(", ")),
    }
}

fn unknown_in(section: &Section, name: &str) -> String {
    let own = section.rows.iter().map(|row| row.key);
    let prefixed = own.clone().find(|key| key.strip_prefix("topic_") == Some(name));
    let elsewhere = settings().iter().find(|setting| setting.row.key == name);
    let everywhere = settings().iter().map(|setting| setting.row.key);
    let hint = match (prefixed.or_else(|| nearest(name, own.clone())), elsewhere) {
        (Some(near), _) => format!("did you mean '{near}'?"),
        (None, Some(setting)) => format!("it belongs into [{}]", setting.section.name),
        (None, None) => match nearest(name, everywhere).and_then(super::table::find) {
            Some(near) => format!("did you mean '{}' in [{}]?", near.row.key, near.section.name),
            None => format!("there are {}", own.collect::<Vec<_>>().join(", ")),
        },
    };
    format!("there is no key '{name}' in [{}]: {hint}", section.name)
}
