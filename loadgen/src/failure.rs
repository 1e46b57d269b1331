//! Why a command did not do what it was asked: one clear sentence and an exit code.

use std::fmt;

/// The end of a command that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// What was asked for is wrong: an unknown key, a value out of range, two settings that exclude each other. Exit 2.
    /// The sentence names the setting (and file and line), the value seen and what is allowed.
    Usage(String),
    /// It was asked rightly, but could not be done: a server that does not answer, a disk that is full. Exit 1.
    Failed(String),
    /// It was done, and a condition named by `--fail-if` is met with confidence. Exit 99.
    Condition(String),
    /// A signal asked it to end, and it did so in order: what there was is written. Exit 130.
    Interrupted(String),
}

impl Failure {
    /// A [`Failure::Usage`].
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::Usage(sentence.into())
    }

    /// A [`Failure::Failed`].
    pub fn failed(sentence: impl Into<String>) -> Self {
        Self::Failed(sentence.into())
    }

    /// The same, said of somebody: `B: 'server --port 1' ended …`.
    #[must_use]
    pub fn with_prefix(self, of: &str) -> Self {
        let prefixed = |sentence: String| format!("{of}: {sentence}");
        match self {
            Self::Usage(sentence) => Self::Usage(prefixed(sentence)),
            Self::Failed(sentence) => Self::Failed(prefixed(sentence)),
            Self::Condition(sentence) => Self::Condition(prefixed(sentence)),
            Self::Interrupted(sentence) => Self::Interrupted(prefixed(sentence)),
        }
    }

    /// The code the process exits with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Condition(_) => 99,
            Self::Interrupted(_) => 130,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(sentence)
            | Self::Failed(sentence)
            | Self::Condition(sentence)
            | Self::Interrupted(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for Failure {}
