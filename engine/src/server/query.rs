//! Query parameters, strictly: what is misspelt or given twice is an error that says so, never silently without effect.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// The parameters of one request, decoded.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

/// What is wrong with a query: a sentence that names parameter, value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadQuery(pub String);

impl Query {
    /// Decodes a query (`+` and percent); only these parameters may be in it, each once.
    ///
    /// # Errors
    /// A parameter that is not allowed, stands there twice, or is not UTF-8.
    pub fn parse(query: Option<&str>, allowed: &[&str]) -> Result<Self, BadQuery> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).unwrap_or_else(|| name.to_owned());
            if !allowed.contains(&name.as_str()) {
                return Err(BadQuery(unknown(&name, allowed)));
            }
            if pairs.iter().any(|(earlier, _)| *earlier == name) {
                return Err(BadQuery(format!("the parameter '{name}' is given twice")));
            }
            let value = decode(value).ok_or_else(|| BadQuery(format!("the parameter '{name}' is not UTF-8")))?;
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of a parameter, if it was given.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that must be there.
    ///
    /// # Errors
    /// It is missing.
    pub fn required(&self, name: &str) -> Result<&str, BadQuery> {
        self.text(name).ok_or_else(|| BadQuery(format!("the parameter '{name}' is missing")))
    }

    /// A whole number within a range, if it was given.
    ///
    /// # Errors
    /// It is none, or is out of range.
    pub fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<Option<T>, BadQuery>
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().ok().filter(|number| range.contains(number)).map(Some).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            BadQuery(format!("{name} is '{}': it must be a whole number from {least} to {most}", cut(text)))
        })
    }

    /// One of a few values, if it was given.
    ///
    /// # Errors
    /// It is none of them.
    pub fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Result<Option<T>, BadQuery> {
        let Some(text) = self.text(name) else { return Ok(None) };
        choices.iter().find(|(choice, _)| *choice == text).map(|(_, value)| Some(*value)).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(choice, _)| *choice).collect();
            BadQuery(format!("{name} is '{}': it must be one of {}", cut(text), names.join(", ")))
        })
    }

    /// A value with a text form of its own, if it was given.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn value<T>(&self, name: &str) -> Result<Option<T>, BadQuery>
    where
        T: FromStr<Err: Display>,
    {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| BadQuery(format!("{name} is '{}': {error}", cut(text))))
    }
}

/// Percent-decodes a part of a path or query, where `+` is not special.
#[must_use]
pub fn percent_decode(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

fn decode(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " "))
}

fn unknown(name: &str, allowed: &[&str]) -> String {
    let name = cut(name);
    match allowed {
        [] => format!("'{name}' is no parameter here: there are none"),
        _ => format!("'{name}' is no parameter here: there are {}", allowed.join(", ")),
    }
}

/// As much of a text from outside as an error message repeats.
#[must_use]
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(query: &str) -> String {
        Query::parse(Some(query), &["mode", "limit"]).and_then(|query| query.number("limit", 1..=9)).unwrap_err().0
    }

    #[test]
    fn values_are_decoded() {
        let query = Query::parse(Some("mode=a+b%2Bc%C3%A9&limit=3"), &["mode", "limit"]).unwrap();
        assert_eq!(query.text("mode"), Some("a b+cé"));
        assert_eq!(query.number("limit", 1..=9), Ok(Some(3)));
        assert_eq!(Query::parse(None, &[]).unwrap().text("mode"), None);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        assert_eq!(error("limit=10"), "limit is '10': it must be a whole number from 1 to 9");
        assert_eq!(error("limit=-1"), "limit is '-1': it must be a whole number from 1 to 9");
        assert_eq!(error("lmit=1"), "'lmit' is no parameter here: there are mode, limit");
        assert_eq!(error("mode=a&mode=b"), "the parameter 'mode' is given twice");
        assert_eq!(error("mode=%ff"), "the parameter 'mode' is not UTF-8");
        let query = Query::parse(Some("mode=x"), &["mode"]).unwrap();
        let choice = query.choice("mode", &[("a", 1), ("b", 2)]);
        assert_eq!(choice, Err(BadQuery("mode is 'x': it must be one of a, b".into())));
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "\\PC{0,200}") {
            let _ = Query::parse(Some(&query), &["mode"]);
        }

        #[test]
        fn messages_repeat_only_the_beginning_of_a_text(text in "\\PC{0,200}") {
            prop_assert!(text.starts_with(cut(&text)) && cut(&text).len() <= 64);
        }
    }
}
