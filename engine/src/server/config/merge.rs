//! What the sources have said, put together: file, then environment, then flags, each over what was before it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use super::mistake::{Mistake, Refused, Source};
use super::rules::{self, RoleRule, TopicRule};
use super::table::{Row, Setting};
use super::value::{Kind, Value};
use super::{Arguments, Config, Task, check, environment, file, flags, secrets};
use crate::Pattern;
use crate::server::auth::Auth;
use crate::server::tls::Certificates;

/// One value, and where it belongs.
#[derive(Debug)]
pub struct Entry {
    place: Place,
    value: Value,
    source: Source,
}

#[derive(Debug)]
enum Place {
    Setting(&'static Setting),
    Topic(Pattern, &'static Row),
    Role(String, &'static str),
}

/// A value that is not allowed, and of which setting.
#[derive(Debug)]
pub struct Wrong {
    /// The key of the setting.
    pub key: Option<&'static str>,
    /// What is wrong.
    pub mistake: Mistake,
}

/// What one source has said.
#[derive(Debug, Default)]
pub struct Found {
    /// Values.
    pub entries: Vec<Entry>,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
    /// Settings that have a wrong value: nothing can be said about how they go with others.
    pub broken: BTreeSet<&'static str>,
}

impl Entry {
    /// A value that has been checked.
    pub fn new(setting: &'static Setting, value: Value, source: Source) -> Self {
        Self { place: Place::Setting(setting), value, source }
    }

    /// A value from text. A single empty text is the empty list.
    pub fn of_texts(setting: &'static Setting, texts: &[&str], source: Source) -> Result<Self, Wrong> {
        let read = match (&setting.row.kind, texts) {
            (Kind::List { .. }, [""]) => Ok(Value::List(Vec::new())),
            (Kind::List { .. }, _) => setting.row.kind.list(texts.iter().map(|text| (*text).to_owned()).collect()),
            _ => setting.row.kind.read_text(texts.first().copied().unwrap_or_default()),
        };
        match read {
            Ok(value) => Ok(Self::new(setting, value, source)),
            Err(allowed) => {
                let mistake = Mistake::value(source, setting, &texts.join(", "), &allowed);
                Err(Wrong { key: Some(setting.row.key), mistake })
            }
        }
    }

    fn apply(self, config: &mut Config) {
        match self.place {
            Place::Setting(setting) => {
                setting.row.set(config, &self.value);
                config.sources.insert(setting.row.key, self.source);
            }
            Place::Topic(pattern, row) => {
                let known = config.topic_rules.iter().position(|rule| rule.pattern == pattern);
                let at = known.unwrap_or_else(|| {
                    config.topic_rules.push(TopicRule { pattern, settings: Vec::new() });
                    config.topic_rules.len() - 1
                });
                let settings = &mut config.topic_rules[at].settings;
                settings.retain(|(other, _, _)| other.key != row.key);
                settings.push((row, self.value, self.source));
            }
            Place::Role(name, action) => {
                let known = config.roles.iter().position(|role| role.name == name);
                let at = known.unwrap_or_else(|| {
                    config.roles.push(RoleRule { name, lists: Vec::new() });
                    config.roles.len() - 1
                });
                let lists = &mut config.roles[at].lists;
                lists.retain(|(other, _, _)| *other != action);
                if let Value::List(patterns) = self.value {
                    lists.push((action, patterns, self.source));
                }
            }
        }
    }
}

impl Found {
    /// Nothing but a mistake.
    pub fn of(mistake: Mistake) -> Self {
        Self { mistakes: vec![mistake], ..Self::default() }
    }

    /// Adds a value, or why there is none.
    pub fn add(&mut self, entry: Result<Entry, Wrong>) {
        match entry {
            Ok(entry) => self.entries.push(entry),
            Err(wrong) => {
                self.broken.extend(wrong.key);
                self.mistakes.push(wrong.mistake);
            }
        }
    }

    /// Adds a setting of the topics of a pattern.
    pub fn add_topic(&mut self, pattern: &Pattern, row: &'static Row, value: Value, source: Source) {
        self.entries.push(Entry { place: Place::Topic(pattern.clone(), row), value, source });
    }

    /// Adds what a role may do.
    pub fn add_role(&mut self, name: &str, action: &'static str, patterns: Vec<String>, source: Source) {
        self.entries.push(Entry { place: Place::Role(name.to_owned(), action), value: Value::List(patterns), source });
    }

    fn extend(&mut self, stronger: Self) {
        self.entries.extend(stronger.entries);
        self.mistakes.extend(stronger.mistakes);
        self.broken.extend(stronger.broken);
    }
}

/// Reads all sources and puts them together. `present` is what is shown to clients now, if anything.
///
/// # Errors
/// All mistakes at once, or what the arguments ask to be shown instead.
pub fn read(
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    present: Option<&Certificates>,
) -> Result<(Config, Task), Refused> {
    let flags = flags::read(&arguments)?;
    if flags.task == Task::PrintDefault && flags.found.mistakes.is_empty() {
        return Ok((Config::default(), flags.task));
    }
    let path = flags.file.as_deref().or_else(|| environment::file(&variables).map(Path::new));
    let mut found = path.map(file::read).unwrap_or_default();
    found.extend(environment::read(&variables));
    found.extend(flags.found);
    let config = Config { arguments: Arguments(arguments), ..Config::default() };
    let task = flags.task;
    finish(config, found, task, present).map(|config| (config, task))
}

fn finish(mut config: Config, found: Found, task: Task, present: Option<&Certificates>) -> Result<Config, Refused> {
    let Found { entries, mut mistakes, broken } = found;
    for entry in entries {
        entry.apply(&mut config);
    }
    rules::finish(&mut config);
    config.auth.callback = Some(config.callback.clone()).filter(|callback| !callback.url.is_empty());
    config.auth.client_certificates = config.tls.asks_clients();
    mistakes.extend(secrets::read(&mut config));
    mistakes.extend(check::contradictions(&config, &broken));
    // Last, as it reads files that some of these mistakes may be about.
    if mistakes.is_empty()
        && let Err(text) = Auth::new(&config.auth)
    {
        // It names the setting first.
        let source = text.split_once(':').map_or(Source::Default, |(key, _)| config.source(key));
        mistakes.push(Mistake::new(source, text));
    }
    // Who only asks whether the server is alive needs no keys, and may not be able to read them.
    if mistakes.is_empty() && matches!(task, Task::Serve | Task::Check) {
        match Certificates::load(&config.tls, present) {
            Ok(certificates) => config.certificates = certificates,
            Err(error) => mistakes.push(config.tls_mistake(&error)),
        }
    }
    if mistakes.is_empty() { Ok(config) } else { Err(Refused::Mistakes(mistakes)) }
}
