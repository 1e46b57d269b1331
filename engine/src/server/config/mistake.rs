//! What is wrong with a configuration, and where.

use std::fmt;

use super::table::Setting;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Nobody has said anything.
    Default,
    /// The file.
    File {
        /// Its path as it was given.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag, without its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => write!(f, "--{flag}"),
        }
    }
}

/// One mistake, as a sentence that begins with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    source: Source,
    text: String,
}

impl Mistake {
    /// A mistake of a place.
    pub(super) fn new(source: Source, text: impl Into<String>) -> Self {
        Self { source, text: text.into() }
    }

    /// A value that is not allowed. Flags and variables are their own names; a file has many.
    pub(super) fn value(source: Source, setting: &Setting, seen: &str, allowed: &str) -> Self {
        let seen = if setting.row.is_secret { "(secret)".to_owned() } else { short(seen) };
        let text = match source {
            Source::File { .. } | Source::Default => format!("{} is {seen}: {allowed}", setting.path()),
            Source::Variable(_) | Source::Flag(_) => format!("is '{seen}': {allowed}"),
        };
        Self { source, text }
    }

    /// Whether it is about certificates or keys that cannot be used.
    pub(super) fn is_of_tls(&self) -> bool {
        ["tls_cert: ", "tls_key: ", "tls_client_ca: "].iter().any(|key| self.text.starts_with(key))
    }

    /// Where it is.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Default => f.write_str(&self.text),
            source @ Source::File { .. } => write!(f, "{source}: {}", self.text),
            source if self.text.starts_with("is ") => write!(f, "{source} {}", self.text),
            source => write!(f, "{source}: {}", self.text),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Refused {
    /// The arguments ask for the help or the version instead: this is the text.
    Shown(String),
    /// All that is wrong.
    Mistakes(Vec<Mistake>),
}

impl Refused {
    /// The mistakes; none if only something is to be shown.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        match self {
            Self::Shown(_) => &[],
            Self::Mistakes(mistakes) => mistakes,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shown(text) => f.write_str(text),
            Self::Mistakes(mistakes) => {
                let (count, noun) = (mistakes.len(), if mistakes.len() == 1 { "mistake" } else { "mistakes" });
                write!(f, "the configuration has {count} {noun}")?;
                mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for Refused {}

/// At most 80 characters of the first line.
pub fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}
