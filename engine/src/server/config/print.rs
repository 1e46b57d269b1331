//! The table in words: the configuration with where it comes from, the file of all defaults, the tables of the operations
//! guide.

use std::fmt::Write as _;

use super::table::{SECTIONS, Section, Setting, settings};
use super::value::{Kind, Value, quoted};
use super::{Config, RoleRule, TopicRule};

/// Words of a comment line, at most.
const LINE_CHARS: usize = 110;

impl Config {
    /// The effective configuration as a file, each value with where it comes from. Secrets are not shown.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for section in &SECTIONS {
            let _ = writeln!(text, "[{}]", section.name);
            for setting in of(section) {
                let line = format!("{} = {}", setting.row.key, setting.row.shown(self));
                let _ = writeln!(text, "{line:<48} # {}", self.source(setting.row.key));
            }
            match section.name {
                "topics" => self.topic_rules.iter().for_each(|rule| describe_topic(&mut text, rule)),
                "auth" => self.roles.iter().for_each(|role| describe_role(&mut text, role)),
                _ => {}
            }
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

fn of(section: &Section) -> impl Iterator<Item = &'static Setting> {
    settings().iter().filter(move |setting| setting.section.name == section.name)
}

fn describe_topic(text: &mut String, rule: &TopicRule) {
    let _ = writeln!(text, "\n[topics.{}]", quoted(rule.pattern.as_str()));
    for (row, value, source) in &rule.settings {
        let line = format!("{} = {}", rule_name(row.key), value.to_toml());
        let _ = writeln!(text, "{line:<48} # {source}");
    }
}

fn describe_role(text: &mut String, role: &RoleRule) {
    let _ = writeln!(text, "\n[role.{}]", quoted(&role.name));
    for (action, patterns, source) in &role.lists {
        let line = format!("{action} = {}", Value::List(patterns.clone()).to_toml());
        let _ = writeln!(text, "{line:<48} # {source}");
    }
}

/// What a rule of its own calls what a row says for all topics.
pub fn rule_name(key: &'static str) -> &'static str {
    key.strip_prefix("topic_").unwrap_or(key)
}

const HEAD: &str = "\
# The configuration of fanfare: all settings, each with its meaning and its default. A line that begins with '#' and no
# blank is a setting that has its default: take the '#' away to change it. Flags (--some-name) and variables of the
# environment (FANFARE_SOME_NAME) win over this file.
#
#   fanfare --config FILE --check-config      tells what would be used, and where each value comes from
#   systemctl reload fanfare                  (SIGHUP) reads this file again; what says 'restart' needs that
";

const TOPICS_EXAMPLE: &str = "
# Topics of a name or pattern can differ; the most specific pattern decides. Example:
#
#   [topics.\"prices.>\"]
#   policy = \"conflate\"
#   history_messages = 1
#
# The keys are history_messages, history_bytes, history_age_s, policy, pending_messages, pending_bytes, pending_age_ms.
";

const ROLES_EXAMPLE: &str = "
# What clients may do: patterns of topics, by role. The role 'default' is everybody who is authenticated, 'anonymous'
# everybody who is not; tokens name others. {sub} is the client's own name. Example:
#
#   [role.default]
#   subscribe = [\"news.>\", \"users.{sub}.>\"]
#   publish = [\"users.{sub}.>\"]
";

/// A file with all settings, their meaning and their defaults, in which nothing is changed.
#[must_use]
pub fn default_file() -> String {
    let default = Config::default();
    let mut text = HEAD.to_owned();
    for section in &SECTIONS {
        let _ = writeln!(text, "\n[{}]", section.name);
        text += &comment(section.about);
        for Setting { row, .. } in of(section) {
            let mut meaning = row.meaning();
            if let Kind::Number { .. } | Kind::Choice(_) = row.kind {
                meaning += &format!(" ({})", row.kind.range());
            }
            if !row.is_live {
                meaning += " (restart)";
            }
            let _ = write!(text, "\n{}#{} = {}\n", comment(&meaning), row.key, row.get(&default).to_toml());
        }
        match section.name {
            "topics" => text += TOPICS_EXAMPLE,
            "auth" => text += ROLES_EXAMPLE,
            _ => {}
        }
    }
    text
}

/// Comment lines.
fn comment(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > LINE_CHARS {
            lines += &line;
            lines.push('\n');
            line = "#".into();
        }
        line.push(' ');
        line += word;
    }
    lines + &line + "\n"
}

/// The table of a section in Markdown, for docs/OPERATIONS.md.
#[must_use]
pub fn markdown(section: &str) -> String {
    let default = Config::default();
    let mut text = String::from("| Setting | Default | Allowed | Change | Meaning |\n|---|---|---|---|---|\n");
    for Setting { row, .. } in settings().iter().filter(|setting| setting.section.name == section) {
        let default = row.get(&default).shown().map_or_else(|| "–".into(), |value| format!("`{value}`"));
        let change = if row.is_live { "reload" } else { "restart" };
        let meaning = row.meaning().replace('|', "\\|").replace('<', "&lt;");
        let meaning = code(&meaning);
        let _ = writeln!(text, "| `{}` | {default} | {} | {change} | {meaning} |", row.key, row.kind.range());
    }
    text
}

/// Words in single quotes become code.
fn code(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\'') {
        match after.split_once('\'') {
            // The apostrophe of a genitive.
            Some((word, next)) if !word.contains(' ') && !before.ends_with(char::is_alphanumeric) => {
                out += &format!("{before}`{word}`");
                rest = next;
            }
            _ => {
                out += &format!("{before}'");
                rest = after;
            }
        }
    }
    out + rest
}
