//! `--set KEY.PATH=VALUE`: any key of the file, by its path.

use serde::Deserialize;
use toml::{Table, Value};

use crate::failure::Failure;
use crate::scenario::file::{allowed, expected, unknown_key};
use crate::scenario::{Scenario, keys};

/// Sets one key. The value is read as TOML, and as plain text where that does not fit; empty, it takes the key away.
pub(crate) fn set(scenario: &mut Scenario, path: &str, text: &str) -> Result<(), Failure> {
    let whole = Value::try_from(&*scenario);
    let whole = whole.map_err(|error| Failure::usage(format!("the scenario cannot be written as TOML: {error}")))?;
    let with = |value: Option<Value>| -> Result<Scenario, String> {
        let mut changed = whole.clone();
        insert(&mut changed, path, value).map_err(|key| format!("'{key}' is a single value, no table"))?;
        Scenario::deserialize(changed).map_err(|error| why(path, error.message()))
    };
    let as_toml = as_toml(text);
    let changed = match (&as_toml, text.is_empty()) {
        (_, true) if keys::find(path).is_some() => with(None),
        // There is no such key, or it is a table: the reader of files says so.
        (_, true) => with(Some(Value::Boolean(false))),
        (Some(value), _) => {
            with(Some(value.clone())).or_else(|why| with(Some(Value::String(text.into()))).map_err(|_| why))
        }
        (None, _) => with(Some(Value::String(text.into()))),
    };
    *scenario = changed.map_err(|why| Failure::usage(format!("--set {path}={text}: {why}")))?;
    Ok(())
}

/// The text as a TOML value, if it is one.
fn as_toml(text: &str) -> Option<Value> {
    let mut table: Table = toml::from_str(&format!("value = {text}")).ok()?;
    let value = table.remove("value");
    value.filter(|_| table.is_empty())
}

/// Puts a value at a path, or takes it away; fails with the key on the way that is no table.
fn insert<'a>(into: &mut Value, path: &'a str, value: Option<Value>) -> Result<(), &'a str> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let Some(table) = into.as_table_mut() else {
        return Err(first);
    };
    match (rest, value) {
        (Some(rest), value) => {
            let inner = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if inner.is_table() { insert(inner, rest, value) } else { Err(first) }
        }
        (None, Some(value)) => {
            table.insert(first.into(), value);
            Ok(())
        }
        (None, None) => {
            table.remove(first);
            Ok(())
        }
    }
}

/// The reader's complaint in our words.
fn why(path: &str, message: &str) -> String {
    if !message.starts_with("unknown field") {
        return allowed(message);
    }
    let field = message.split('`').nth(1).unwrap_or_default();
    let known = path.split('.').take_while(|part| *part != field);
    let unknown: Vec<&str> = known.chain([field]).collect();
    unknown_key(&unknown.join("."), &expected(message))
}
