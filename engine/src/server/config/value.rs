//! Values of settings, and what is allowed as one: the same rules for flags, environment and file.

use toml::de::{DeInteger, DeValue};

use super::nearest::nearest;

/// The value of a setting, before it has found its place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Number(u64),
    /// On or off.
    Switch(bool),
    /// A text; empty for none.
    Text(String),
    /// Texts.
    List(Vec<String>),
}

/// Says what is wrong with a text, as what it must be.
pub type Check = fn(&str) -> Result<(), String>;

/// What is allowed as a value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number within bounds, both included.
    Number {
        /// What is counted, as shown in the help.
        unit: &'static str,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// True or false.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A text that is there.
    Word {
        /// What it stands for, as shown in the help.
        form: &'static str,
        /// What it must be.
        check: Check,
    },
    /// A text, which may be empty.
    Text {
        /// What it stands for, as shown in the help.
        form: &'static str,
        /// What else it must be if it is not empty.
        check: Check,
    },
    /// Any number of texts.
    List {
        /// What one stands for, as shown in the help.
        form: &'static str,
        /// What each must be.
        check: Check,
    },
}

impl Kind {
    /// Reads a value from text, as flags and the environment have it.
    ///
    /// # Errors
    /// What it must be.
    pub fn read_text(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Number { .. } => self.number(text.parse().ok()),
            Self::Switch => match text {
                "true" => Ok(Value::Switch(true)),
                "false" => Ok(Value::Switch(false)),
                _ => Err(self.allowed()),
            },
            Self::Choice(_) | Self::Word { .. } | Self::Text { .. } => self.text(text),
            Self::List { .. } => self.list(vec![text.to_owned()]),
        }
    }

    /// Reads a list.
    ///
    /// # Errors
    /// What one of its items must be.
    pub fn list(&self, items: Vec<String>) -> Result<Value, String> {
        if let Self::List { check, .. } = self {
            for item in &items {
                check(item)
                    .map_err(|allowed| if items.len() > 1 { format!("'{item}': {allowed}") } else { allowed })?;
            }
        }
        Ok(Value::List(items))
    }

    /// Reads a value from the file.
    ///
    /// # Errors
    /// What it must be.
    pub fn read_toml(&self, value: &DeValue<'_>) -> Result<Value, String> {
        match (self, value) {
            (Self::Number { .. }, DeValue::Integer(number)) => self.number(whole(number)),
            (Self::Switch, DeValue::Boolean(on)) => Ok(Value::Switch(*on)),
            (Self::Choice(_) | Self::Word { .. } | Self::Text { .. }, DeValue::String(text)) => self.text(text),
            (Self::List { .. }, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                self.list(texts.collect::<Option<_>>().ok_or_else(|| self.allowed())?)
            }
            _ => Err(self.allowed()),
        }
    }

    fn number(&self, number: Option<u64>) -> Result<Value, String> {
        match (self, number) {
            (Self::Number { least, most, .. }, Some(number)) if (*least..=*most).contains(&number) => {
                Ok(Value::Number(number))
            }
            _ => Err(self.allowed()),
        }
    }

    fn text(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Choice(words) if !words.contains(&text) => {
                let hint = nearest(text, words.iter().copied());
                let hint = hint.map_or(String::new(), |word| format!(" (did you mean '{word}'?)"));
                return Err(self.allowed() + &hint);
            }
            Self::Word { check, .. } => check(text)?,
            Self::Text { check, .. } if !text.is_empty() => check(text)?,
            _ => {}
        }
        Ok(Value::Text(text.to_owned()))
    }

    /// What is allowed, as the end of a sentence.
    #[must_use]
    pub fn allowed(&self) -> String {
        match self {
            Self::Number { least, most, .. } => format!("it must be a whole number from {least} to {most}"),
            Self::Switch => "it must be true or false".into(),
            Self::Choice(words) => format!("it must be one of {}", words.join(", ")),
            Self::Word { .. } | Self::Text { .. } => "it must be text in quotes".into(),
            Self::List { .. } => "it must be a list of texts, as [\"…\", \"…\"]".into(),
        }
    }

    /// The same for a table: a range, or words.
    #[must_use]
    pub fn range(&self) -> String {
        match self {
            Self::Number { least, most, .. } => format!("{least} to {most}"),
            Self::Switch => "true, false".into(),
            Self::Choice(words) => words.join(", "),
            Self::Word { form, .. } | Self::Text { form, .. } => (*form).to_owned(),
            Self::List { form, .. } => format!("list of {form}"),
        }
    }

    /// What stands for a value in the help.
    #[must_use]
    pub fn form(&self) -> &'static str {
        match self {
            Self::Number { unit, .. } => unit,
            Self::Switch => "true|false",
            Self::Choice(_) => "WORD",
            Self::Word { form, .. } | Self::Text { form, .. } | Self::List { form, .. } => form,
        }
    }
}

fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

impl Value {
    /// The value as the file has it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Switch(on) => on.to_string(),
            Self::Text(text) => quoted(text),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(|item| quoted(item)).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    /// The value for people: `None` if it is the empty text or list.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Self::List(items) => Some(items.join(", ")).filter(|_| !items.is_empty()),
            Self::Number(_) | Self::Switch(_) => Some(self.to_toml()),
        }
    }
}

/// A text as TOML has it.
#[must_use]
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(_: &str) -> Result<(), String> {
        Ok(())
    }

    const NUMBER: Kind = Kind::Number { unit: "N", least: 1, most: 9 };
    const LIST: Kind = Kind::List { form: "ADDR", check: any };
    const TEXT: Kind = Kind::Text { form: "TEXT", check: any };

    fn toml(kind: Kind, text: &str) -> Result<Value, String> {
        kind.read_toml(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn a_value_is_read_alike_from_text_and_from_toml() {
        for (kind, text, in_toml) in [
            (NUMBER, "7", "7"),
            (NUMBER, "7", "0x7"),
            (Kind::Switch, "true", "true"),
            (Kind::Choice(&["a", "b"]), "b", "\"b\""),
            (TEXT, "hello", "'hello'"),
            (LIST, "one", "['one']"),
        ] {
            assert_eq!(kind.read_text(text), toml(kind, in_toml), "{text}");
            assert!(kind.read_text(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_out_of_range_or_of_another_type_is_refused() {
        for text in ["0", "10", "-1", "7.0", "", "seven", "99999999999999999999999999"] {
            assert_eq!(NUMBER.read_text(text), Err("it must be a whole number from 1 to 9".into()), "{text}");
        }
        for text in ["0", "-7", "'7'", "7.0", "true", "[7]", "1979-05-27"] {
            assert!(toml(NUMBER, text).is_err(), "{text}");
        }
        assert!(Kind::Switch.read_text("yes").unwrap_err().contains("true or false"));
        assert!(toml(LIST, "'one'").unwrap_err().contains("list"));
        assert!(toml(LIST, "['one', 2]").is_err());
        assert!(Kind::Choice(&["peer", "forwarded"]).read_text("forwadred").unwrap_err().contains("mean 'forwarded'"));
    }

    #[test]
    fn values_are_written_so_that_they_are_read_back() {
        for value in [
            Value::Number(5),
            Value::Switch(false),
            Value::Text("a\"b\\c\n'd'".into()),
            Value::List(vec!["x".into(), "\"".into()]),
        ] {
            let kind = match value {
                Value::Number(_) => NUMBER,
                Value::Switch(_) => Kind::Switch,
                Value::Text(_) => TEXT,
                Value::List(_) => LIST,
            };
            assert_eq!(toml(kind, &value.to_toml()), Ok(value));
        }
    }
}
