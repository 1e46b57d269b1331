//! Names of topics, and patterns over them as in NATS: tokens parted by `.`; `*` stands for one token, a last `>` for one
//! token or more. As in MQTT, a wildcard in the first place does not stand for a token that begins with `$`: whoever asks for
//! everything does not mean the engine's own topics.

use std::fmt;

/// The longest topic name or pattern, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The most tokens (parts between dots) of a name or pattern. Bounds the depth of matching.
pub const NAME_TOKENS_MAX: usize = 16;

/// Why a name or pattern is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It has more than [`NAME_BYTES_MAX`] bytes.
    TooLong(usize),
    /// It has more than [`NAME_TOKENS_MAX`] tokens.
    TooManyTokens(usize),
    /// It has a control character.
    ControlCharacter,
    /// A wildcard stands in the name of a topic, where only a pattern may have one.
    Wildcard,
    /// `>` stands before the end of a pattern.
    TailNotLast,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a topic name may not be empty"),
            Self::TooLong(bytes) => write!(f, "a topic name has at most {NAME_BYTES_MAX} bytes, this one has {bytes}"),
            Self::TooManyTokens(tokens) => {
                write!(f, "a topic name has at most {NAME_TOKENS_MAX} parts between dots, this one has {tokens}")
            }
            Self::ControlCharacter => f.write_str("a topic name may not contain control characters"),
            Self::Wildcard => f.write_str("'*' and '>' are wildcards: they can be subscribed to, not published to"),
            Self::TailNotLast => f.write_str("'>' may only be the last part of a pattern"),
        }
    }
}

impl std::error::Error for NameError {}

fn check_text(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    let tokens = name.split('.').count();
    if tokens > NAME_TOKENS_MAX {
        return Err(NameError::TooManyTokens(tokens));
    }
    Ok(())
}

/// Checks the name of a topic.
///
/// # Errors
/// What is wrong with it.
pub fn check_topic(name: &str) -> Result<(), NameError> {
    check_text(name)?;
    if is_pattern(name) { Err(NameError::Wildcard) } else { Ok(()) }
}

/// Whether one of the tokens is a wildcard.
#[must_use]
pub fn is_pattern(name: &str) -> bool {
    name.split('.').any(|token| token == "*" || token == ">")
}

/// Whether a topic's name begins with `$`: patterns match it only if they name its first token.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name.starts_with('$')
}

/// A checked pattern over topic names. A pattern without a wildcard matches exactly its own name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, NameError> {
        check_text(pattern)?;
        let mut tokens = pattern.split('.').peekable();
        while let Some(token) = tokens.next() {
            if token == ">" && tokens.peek().is_some() {
                return Err(NameError::TailNotLast);
            }
        }
        Ok(Self(pattern.into()))
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern matches this topic. Linear in the length of the name.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        if is_reserved(name) && (self.0.starts_with("*.") || matches!(&*self.0, "*" | ">")) {
            return false;
        }
        let mut name = name.split('.');
        for token in self.0.split('.') {
            match (token, name.next()) {
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (literal, Some(part)) if literal == part => {}
                _ => return false,
            }
        }
        name.next().is_none()
    }

    /// How much of a name the pattern fixes: of two that match, the one with the larger value is the more specific.
    #[must_use]
    pub fn specificity(&self) -> (usize, usize, bool) {
        let literals = self.0.split('.').filter(|token| *token != "*" && *token != ">").count();
        (literals, self.0.split('.').count(), !self.0.ends_with('>'))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_nats() {
        let table = [
            ("prices.*", "prices.eur", true),
            ("prices.*", "prices", false),
            ("prices.*", "prices.eur.usd", false),
            ("prices.>", "prices.eur.usd", true),
            ("prices.>", "prices.eur", true),
            ("prices.>", "prices", false),
            ("*.eur", "prices.eur", true),
            ("*.*", "prices.eur", true),
            (">", "anything.at.all", true),
            ("*", "one", true),
            ("*", "one.two", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("plain", "plain", true),
            ("plain", "plainer", false),
            ("a*", "a*", true),
            ("a*", "ab", false),
            (">", "$sys.stats", false),
            ("*", "$sys", false),
            ("*.stats", "$sys.stats", false),
            ("*.>", "$sys.stats", false),
            ("*a.stats", "$sys.stats", false),
            ("$sys.>", "$sys.stats", true),
            ("$sys.*", "$sys.stats", true),
            ("$sys.stats", "$sys.stats", true),
            ("$*", "$sys", false),
            ("a.*", "a.$b", true),
            ("a.>", "a.$b", true),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(Pattern::new(pattern).unwrap().matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn bad_names_are_refused_with_their_reason() {
        assert_eq!(check_topic(""), Err(NameError::Empty));
        assert_eq!(check_topic(&"x".repeat(255)), Ok(()));
        assert_eq!(check_topic(&"x".repeat(256)), Err(NameError::TooLong(256)));
        assert_eq!(check_topic("a\nb"), Err(NameError::ControlCharacter));
        assert_eq!(check_topic("a.*"), Err(NameError::Wildcard));
        assert_eq!(check_topic("a.>"), Err(NameError::Wildcard));
        assert_eq!(check_topic("big room! žluť"), Ok(()));
        assert_eq!(check_topic(&["a"; 17].join(".")), Err(NameError::TooManyTokens(17)));
        assert_eq!(Pattern::new(">.a"), Err(NameError::TailNotLast));
    }

    #[test]
    fn the_more_literal_pattern_is_the_more_specific() {
        let rank = |pattern: &str| Pattern::new(pattern).unwrap().specificity();
        assert!(rank("a.b") > rank("a.*"));
        assert!(rank("a.*") > rank("a.>"));
        assert!(rank("a.*.c") > rank("a.>"));
        assert!(rank("a.>") > rank(">"));
    }
}
