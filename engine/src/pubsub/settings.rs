//! What a topic may cost: history, delivery policy and bounds, by topic name or pattern.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::name::{NameError, Pattern};

/// What happens to a publication for a subscriber whose queue of this topic is at its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeliveryPolicy {
    /// The subscriber is disconnected (1013); it may come back and recover from its position.
    #[default]
    Disconnect,
    /// The oldest publications that wait are dropped until the new one fits.
    DropOldest,
    /// The new publication is dropped.
    DropNewest,
    /// Of each key only the newest publication waits (publications without a key count as one key); at the bound the
    /// oldest are dropped.
    Conflate,
}

impl DeliveryPolicy {
    /// The name in settings and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DropOldest => "drop-oldest",
            Self::DropNewest => "drop-newest",
            Self::Conflate => "conflate",
        }
    }
}

impl fmt::Display for DeliveryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl FromStr for DeliveryPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Disconnect, Self::DropOldest, Self::DropNewest, Self::Conflate]
            .into_iter()
            .find(|policy| policy.label() == text)
            .ok_or_else(|| format!("policy '{text}' is none of disconnect, drop-oldest, drop-newest, conflate"))
    }
}

/// The settings of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// Publications kept for recovery. Default 0: none.
    pub history_messages: usize,
    /// Bytes (frames) kept for recovery. Default 1 MiB; 0 keeps none.
    pub history_bytes: usize,
    /// How long a publication is kept. Default 300 s; 0 means without limit.
    pub history_age: Duration,
    /// What happens at a bound of a subscriber's queue. Default [`DeliveryPolicy::Disconnect`].
    pub policy: DeliveryPolicy,
    /// Publications of this topic that may wait for one subscriber. Default 16,384; at least 1.
    pub pending_messages: usize,
    /// Bytes of this topic that may wait for one subscriber. Default 1 MiB; one publication may always wait.
    pub pending_bytes: usize,
    /// How long a publication may wait for one subscriber. Default 0: without limit.
    pub pending_age: Duration,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            history_messages: 0,
            history_bytes: 1 << 20,
            history_age: Duration::from_secs(300),
            policy: DeliveryPolicy::Disconnect,
            pending_messages: 16_384,
            pending_bytes: 1 << 20,
            pending_age: Duration::ZERO,
        }
    }
}

impl TopicSettings {
    /// Changes one setting by its name, as `--topic` and the configuration file write it: `history` or
    /// `history_messages`, `history_bytes`, `history_age_s`, `policy`, `pending_messages`, `pending_bytes`, `pending_age_ms`.
    ///
    /// # Errors
    /// A sentence that names the setting, the value seen and what is allowed.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let number = |least: u64| {
            value
                .parse::<u64>()
                .ok()
                .filter(|number| *number >= least)
                .ok_or_else(|| format!("{name} is '{value}': it must be a whole number of at least {least}"))
        };
        match name {
            "history" | "history_messages" => self.history_messages = number(0)? as usize,
            "history_bytes" => self.history_bytes = number(0)? as usize,
            "history_age_s" => self.history_age = Duration::from_secs(number(0)?),
            "policy" => self.policy = value.parse()?,
            "pending_messages" => self.pending_messages = number(1)? as usize,
            "pending_bytes" => self.pending_bytes = number(1)? as usize,
            "pending_age_ms" => self.pending_age = Duration::from_millis(number(0)?),
            _ => {
                return Err(format!(
                    "'{name}' is no setting of a topic: there are history_messages, history_bytes, history_age_s, policy, \
                     pending_messages, pending_bytes, pending_age_ms"
                ));
            }
        }
        Ok(())
    }
}

/// Which settings a topic gets: those of the most specific pattern that matches it, else the default.
#[derive(Debug, Clone, Default)]
pub struct TopicRules {
    default: Arc<TopicSettings>,
    rules: Vec<(Pattern, Arc<TopicSettings>)>,
}

impl TopicRules {
    /// Rules that give every topic these settings.
    #[must_use]
    pub fn new(default: TopicSettings) -> Self {
        Self { default: Arc::new(default), rules: Vec::new() }
    }

    /// Gives the topics of a name or pattern settings of their own.
    ///
    /// # Errors
    /// A pattern that is none.
    pub fn add(&mut self, pattern: &str, settings: TopicSettings) -> Result<(), NameError> {
        self.rules.push((Pattern::new(pattern)?, Arc::new(settings)));
        // Most specific first, so that the first match decides; the order of equals is kept.
        self.rules.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.specificity()));
        Ok(())
    }

    /// The settings of the topics that no pattern matches.
    #[must_use]
    pub fn default_settings(&self) -> &TopicSettings {
        &self.default
    }

    /// The settings of a topic.
    #[must_use]
    pub fn settings(&self, topic: &str) -> &TopicSettings {
        self.shared_settings(topic)
    }

    /// The settings of a topic, as all topics that have the same share them.
    pub(crate) fn shared_settings(&self, topic: &str) -> &Arc<TopicSettings> {
        self.rules.iter().find(|(pattern, _)| pattern.matches(topic)).map_or(&self.default, |(_, settings)| settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_decides_whatever_the_order_given() {
        let with = |messages| TopicSettings { history_messages: messages, ..TopicSettings::default() };
        let mut rules = TopicRules::new(with(1));
        rules.add("prices.>", with(2)).unwrap();
        rules.add("prices.eur", with(4)).unwrap();
        rules.add("prices.*", with(3)).unwrap();
        for (topic, messages) in [("lobby", 1), ("prices.a.b", 2), ("prices.usd", 3), ("prices.eur", 4)] {
            assert_eq!(rules.settings(topic).history_messages, messages, "{topic}");
        }
    }

    #[test]
    fn a_bad_setting_is_named_with_its_value_and_range() {
        let mut settings = TopicSettings::default();
        assert!(settings.set("pending_messages", "0").unwrap_err().contains("at least 1"));
        assert!(settings.set("policy", "hope").unwrap_err().contains("'hope'"));
        assert!(settings.set("histroy", "1").unwrap_err().contains("'histroy'"));
        settings.set("policy", "conflate").unwrap();
        assert_eq!(settings.policy, DeliveryPolicy::Conflate);
    }
}
