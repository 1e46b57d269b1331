//! Names of topics, and patterns over them as in NATS: tokens parted by `.`; `*` stands for one token, a last `>` for one
//! token or more. As in MQTT, a wildcard in the first place does not stand for a token that begins with `$`: whoever asks for
//! everything does not mean the engine's own topics.

use std::fmt;

/// The longest topic name or pattern, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The most tokens (parts between dots) of a name or pattern. Bounds the depth of matching.
pub const NAME_TOKENS_MAX: usize = 16;

/// Which characters names of topics may have, beside that control characters are never allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TopicCharacters {
    /// Any.
    #[default]
    Any,
    /// Printable ASCII without the space.
    Ascii,
    /// ASCII letters and digits, and `. _ - : / @ $`; in patterns also `*` and `>`.
    Word,
}

impl TopicCharacters {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Any, Self::Ascii, Self::Word];

    /// The name in settings.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Ascii => "ascii",
            Self::Word => "word",
        }
    }

    /// Them in words.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Any => "everything but control characters",
            Self::Ascii => "printable ASCII without the space",
            Self::Word => "ASCII letters, digits and . _ - : / @ $, in patterns also * and >",
        }
    }
}

impl fmt::Display for TopicCharacters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl TopicCharacters {
    /// The first character that is not among them.
    fn first_other(self, name: &str) -> Option<char> {
        let pattern = is_pattern(name);
        let word = |c: char| c.is_ascii_alphanumeric() || "._-:/@$".contains(c) || (pattern && "*>".contains(c));
        match self {
            Self::Any => None,
            Self::Ascii => name.chars().find(|c| !c.is_ascii_graphic()),
            Self::Word => name.chars().find(|c| !word(*c)),
        }
    }
}

/// What names of topics and patterns must be, beyond what all must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameRules {
    /// The most bytes.
    pub bytes: usize,
    /// Which characters.
    pub characters: TopicCharacters,
}

impl Default for NameRules {
    fn default() -> Self {
        Self { bytes: NAME_BYTES_MAX, characters: TopicCharacters::Any }
    }
}

impl NameRules {
    /// Checks a name or pattern for these rules only.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(self, name: &str) -> Result<(), NameError> {
        if name.len() > self.bytes {
            return Err(NameError::TooLong { bytes: name.len(), limit: self.bytes });
        }
        match self.characters.first_other(name) {
            Some(found) => Err(NameError::Character { found, allowed: self.characters }),
            None => Ok(()),
        }
    }
}

/// Why a name or pattern is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It has more bytes than [`NAME_BYTES_MAX`], or than `topic_name_bytes`.
    TooLong {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// It has a character that `topic_characters` does not allow.
    Character {
        /// The first such character.
        found: char,
        /// What is allowed.
        allowed: TopicCharacters,
    },
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
            Self::TooLong { bytes, limit } => write!(f, "a topic name has at most {limit} bytes, this one has {bytes}"),
            Self::Character { found, allowed } => write!(
                f,
                "a topic name may not contain {found:?}: topic_characters is '{allowed}', which allows {}",
                allowed.description()
            ),
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
        return Err(NameError::TooLong { bytes: name.len(), limit: NAME_BYTES_MAX });
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
        assert_eq!(check_topic(&"x".repeat(256)), Err(NameError::TooLong { bytes: 256, limit: 255 }));
        assert_eq!(check_topic("a\nb"), Err(NameError::ControlCharacter));
        assert_eq!(check_topic("a.*"), Err(NameError::Wildcard));
        assert_eq!(check_topic("a.>"), Err(NameError::Wildcard));
        assert_eq!(check_topic("big room! žluť"), Ok(()));
        assert_eq!(check_topic(&["a"; 17].join(".")), Err(NameError::TooManyTokens(17)));
        assert_eq!(Pattern::new(">.a"), Err(NameError::TailNotLast));
    }

    #[test]
    fn stricter_rules_name_the_first_offence() {
        let check = |bytes, characters, name: &str| NameRules { bytes, characters }.check(name);
        assert_eq!(check(5, TopicCharacters::Any, "žluť"), Err(NameError::TooLong { bytes: 6, limit: 5 }));
        assert_eq!(check(6, TopicCharacters::Any, "žluť"), Ok(()));
        for (characters, good, bad) in [
            (TopicCharacters::Ascii, "a.b!~{}*x.$sys.>", [("a b", ' '), ("a.ž", 'ž'), ("a\u{7f}", '\u{7f}')]),
            (TopicCharacters::Word, "a.B-9_:/@$.*.>", [("a.b!", '!'), ("a*", '*'), ("a.*.b c", ' ')]),
        ] {
            assert_eq!(check(255, characters, good), Ok(()));
            for (name, found) in bad {
                let error = check(255, characters, name).unwrap_err();
                assert_eq!(error, NameError::Character { found, allowed: characters }, "{name}");
                let text = error.to_string();
                assert!(text.contains(characters.label()) && text.contains("topic_characters"), "{text}");
            }
        }
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
