//! Settings that are no single value: rules for topics by name or pattern, and what roles may do.

use super::Config;
use super::merge::Found;
use super::mistake::{Mistake, Source, short};
use super::nearest::nearest;
use super::table::{RULE_KEYS, Row, rule_row};
use super::value::Value;
use crate::server::auth::Role;
use crate::{Pattern, TopicRules, TopicSettings};

/// What a role may be allowed.
pub const ACTIONS: [&str; 4] = ["subscribe", "publish", "history", "admin"];

/// What topics of a name or pattern have of their own.
#[derive(Debug, Clone)]
pub struct TopicRule {
    /// The topics.
    pub pattern: Pattern,
    /// The rows of the section `topics`, with their values here.
    pub settings: Vec<(&'static Row, Value, Source)>,
}

/// What a role is allowed.
#[derive(Debug, Clone)]
pub struct RoleRule {
    /// Its name.
    pub name: String,
    /// Patterns by action.
    pub lists: Vec<(&'static str, Vec<String>, Source)>,
}

impl RoleRule {
    fn list(&self, action: &str) -> Vec<String> {
        self.lists
            .iter()
            .find(|(name, _, _)| *name == action)
            .map_or_else(Vec::new, |(_, patterns, _)| patterns.clone())
    }
}

/// Checks a pattern of topics.
///
/// # Errors
/// What is wrong with it.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| format!("'{}': {error}", short(text)))
}

/// Checks the name of a role.
///
/// # Errors
/// What it must be.
pub fn role_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
        Ok(())
    } else {
        Err("the name of a role has 1 to 64 letters, digits and characters of '-_.'".into())
    }
}

/// Checks the patterns of a role, in which `{sub}` stands for a client's own name.
///
/// # Errors
/// What is wrong with one of them.
pub fn role_patterns(patterns: &[String]) -> Result<(), String> {
    for text in patterns {
        pattern(&text.replace("{sub}", "sub")).map_err(|_| pattern(text).err().unwrap_or_default())?;
        let is_unknown = |token: &&str| token.starts_with('{') && token.ends_with('}') && *token != "{sub}";
        if let Some(token) = text.split('.').find(is_unknown) {
            return Err(format!("'{}': {token} stands for nothing, there is only {{sub}}", short(text)));
        }
    }
    Ok(())
}

/// Reads the rules that flags and variables have: `kind` is `topic` or `role`.
pub fn read_texts(kind: &str, texts: &[&str], source: &Source, found: &mut Found) {
    let mut seen = Vec::new();
    for text in texts {
        let read = if kind == "topic" { read_topic(text, source, found) } else { read_role(text, source, found) };
        match read {
            Ok(name) if seen.contains(&name) => {
                found.mistakes.push(Mistake::new(source.clone(), format!("'{name}' is given twice: once is enough")));
            }
            Ok(name) => seen.push(name),
            Err(text) => found.mistakes.push(Mistake::new(source.clone(), text)),
        }
    }
}

/// `PATTERN:SETTING=VALUE,SETTING=VALUE`; gives the pattern.
fn read_topic(text: &str, source: &Source, found: &mut Found) -> Result<String, String> {
    // Names of topics may have colons, settings have none.
    let form = || format!("'{}': a rule is PATTERN:SETTING=VALUE,SETTING=VALUE", short(text));
    let (topics, settings) = text.rsplit_once(':').ok_or_else(form)?;
    let topics = pattern(topics)?;
    let mut rows: Vec<&str> = Vec::new();
    for setting in settings.split(',') {
        let none = || format!("'{}': '{setting}' is no SETTING=VALUE of a topic", short(text));
        let (name, value) = setting.split_once('=').ok_or_else(none)?;
        let (name, value) = (name.trim(), value.trim());
        let known = RULE_KEYS.iter().map(|(known, _)| *known);
        let row = rule_row(name).ok_or_else(|| {
            let hint = nearest(name, known.clone()).map_or(String::new(), |near| format!("did you mean '{near}'? "));
            let all = known.clone().filter(|name| *name != "history").collect::<Vec<_>>().join(", ");
            format!("'{}': '{name}' is no setting of a topic: {hint}There are {all}", short(text))
        })?;
        if rows.contains(&row.key) {
            return Err(format!("'{}': {name} is given twice", short(text)));
        }
        rows.push(row.key);
        let read = row.kind.read_text(value);
        let value = read.map_err(|allowed| format!("'{}': {name} is '{value}': {allowed}", short(text)))?;
        found.add_topic(&topics, row, value, source.clone());
    }
    Ok(topics.as_str().to_owned())
}

/// `NAME:subscribe=PATTERN|PATTERN,publish=…`; gives the name.
fn read_role(text: &str, source: &Source, found: &mut Found) -> Result<String, String> {
    let form = || {
        format!(
            "'{}': a role is NAME:ACTION=PATTERN|PATTERN,ACTION=… with the actions {}",
            short(text),
            ACTIONS.join(", ")
        )
    };
    let (name, lists) = text.split_once(':').ok_or_else(form)?;
    role_name(name).map_err(|text| format!("'{name}': {text}"))?;
    let mut seen = Vec::new();
    for list in lists.split(',') {
        let (action, patterns) = list.split_once('=').ok_or_else(form)?;
        let action = ACTIONS.into_iter().find(|known| *known == action.trim()).ok_or_else(|| {
            let hint = nearest(action, ACTIONS).map_or(String::new(), |near| format!(" (did you mean '{near}'?)"));
            format!("{}{hint}", form())
        })?;
        if seen.contains(&action) {
            return Err(format!("'{}': {action} is given twice", short(text)));
        }
        seen.push(action);
        let patterns: Vec<String> = patterns
            .split('|')
            .map(|pattern| pattern.trim().to_owned())
            .filter(|pattern| !pattern.is_empty())
            .collect();
        role_patterns(&patterns).map_err(|text| format!("role {name}, {action}: {text}"))?;
        found.add_role(name, action, patterns, source.clone());
    }
    Ok(name.to_owned())
}

/// Makes what the engine and the authentication take from the rules.
pub fn finish(config: &mut Config) {
    let mut topics = TopicRules::new(config.topic_default.clone());
    for rule in &config.topic_rules {
        // A pattern that has been checked.
        let _ = topics.add(rule.pattern.as_str(), settings_of(config, rule));
    }
    config.topics = topics;
    let role = |rule: &RoleRule| Role {
        name: rule.name.clone(),
        subscribe: rule.list("subscribe"),
        publish: rule.list("publish"),
        history: rule.list("history"),
        admin: rule.list("admin"),
    };
    config.auth.roles = config.roles.iter().map(role).collect();
}

/// The settings of the topics of a rule: the default, but for what it says.
pub fn settings_of(config: &Config, rule: &TopicRule) -> TopicSettings {
    let mut scratch = Config { topic_default: config.topic_default.clone(), ..Config::default() };
    for (row, value, _) in &rule.settings {
        row.set(&mut scratch, value);
    }
    scratch.topic_default
}

/// Two patterns of which neither is more specific, though some topic is of both: which of them decides, nothing says.
pub fn ambiguous(config: &Config) -> Vec<Mistake> {
    let rules = &config.topic_rules;
    let mut mistakes = Vec::new();
    for (at, one) in rules.iter().enumerate() {
        for other in &rules[at + 1..] {
            let Some(both) = overlap(one.pattern.as_str(), other.pattern.as_str()) else { continue };
            let is_equal = one.pattern.specificity() == other.pattern.specificity();
            let is_settled = rules.iter().any(|rule| rule.pattern.as_str() == both)
                || settings_of(config, one) == settings_of(config, other);
            if is_equal && !is_settled {
                let source = other.settings.first().map_or(Source::Default, |(_, _, source)| source.clone());
                let text = format!(
                    "the topics of '{both}' are of both '{}' and '{}', and neither is more specific: give '{both}' a rule of \
                     its own",
                    one.pattern, other.pattern
                );
                mistakes.push(Mistake::new(source, text));
            }
        }
    }
    mistakes
}

/// The pattern of the topics that are of both patterns, if there are any.
fn overlap(one: &str, other: &str) -> Option<String> {
    // Topics that begin with '$' are of no pattern that begins with a wildcard.
    if one.starts_with('$') != other.starts_with('$') {
        return None;
    }
    let (mut one, mut other) = (one.split('.').peekable(), other.split('.').peekable());
    let mut both = Vec::new();
    loop {
        let token = match (one.next(), other.next()) {
            (None, None) => return Some(both.join(".")),
            (None, _) | (_, None) => return None,
            (Some(">"), Some(token)) => return Some([both, vec![token], other.collect()].concat().join(".")),
            (Some(token), Some(">")) => return Some([both, vec![token], one.collect()].concat().join(".")),
            (Some("*"), Some(token)) | (Some(token), Some("*")) => token,
            (Some(token), Some(same)) if token == same => token,
            _ => return None,
        };
        both.push(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_of_two_patterns_are_a_pattern_again() {
        for (one, other, both) in [
            ("a.*", "*.b", Some("a.b")),
            ("a.>", "*.b.*", Some("a.b.*")),
            (">", "a.>", Some("a.>")),
            ("a.*", "b.*", None),
            ("a.*", "a", None),
            ("a", "a", Some("a")),
            ("*", "a.>", None),
            ("*.stats", "$sys.*", None),
            ("$sys.>", "$sys.*", Some("$sys.*")),
        ] {
            assert_eq!(overlap(one, other).as_deref(), both, "{one} {other}");
            assert_eq!(overlap(other, one).as_deref(), both, "{other} {one}");
        }
    }
}
