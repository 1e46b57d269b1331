//! Whether two results may be compared: the same load on the same machine, to the end.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use crate::compare::set::{Set, Source};
use crate::failure::Failure;
use crate::record::Environment;
use crate::record::figures::Unit;
use crate::scenario::Scenario;

/// Parts of a scenario that are what is compared, or do not touch the figures.
const FREE: [&str; 4] = ["name", "repetitions", "target", "server"];

/// Parts that may differ, but are told: they move single arrivals, or what is said of a run, not what is measured.
const TOLD: [&str; 5] =
    ["seed", "client.cpu_share_max", "client.lag_max", "client.late_after", "client.message_bytes_max"];

/// Memory this much apart is the same: kernels keep different amounts for themselves.
const MEMORY_APART: f64 = 0.02;

/// Something in which two results differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What, for example `payload.bytes` or `the kernel`.
    pub what: String,
    /// The one result's value.
    pub one: String,
    /// Where it is: the result's folder and side.
    pub one_in: String,
    /// The other's.
    pub other: String,
    /// Where that is.
    pub other_in: String,
    /// Whether figures must not be compared because of it.
    pub matters: bool,
}

impl Difference {
    /// As a part of a sentence.
    pub fn words(&self) -> String {
        format!("{} is {} in {} and {} in {}", self.what, self.one, self.one_in, self.other, self.other_in)
    }
}

/// What differs between the first result of A and all others of both sides, each thing once.
pub fn differences(a: &Set, b: &Set) -> Vec<Difference> {
    let place = |set: &Set, source: &Source| match set.sources.len() {
        1 => set.name.to_owned(),
        _ => format!("{} ({})", set.name, source.path.display()),
    };
    let all = [a, b].into_iter().flat_map(|set| set.sources.iter().map(move |source| (place(set, source), source)));
    let all: Vec<(String, &Source)> = all.collect();
    let Some(((first_in, first), others)) = all.split_first() else { return Vec::new() };
    let mut found: Vec<Difference> = Vec::new();
    for (other_in, other) in others {
        let both = between(&first.report.scenario, &other.report.scenario)
            .into_iter()
            .chain(between_machines(&first.report.environment, &other.report.environment));
        for (what, one, other, matters) in both {
            if found.iter().all(|known| known.what != what) {
                let (one_in, other_in) = (first_in.clone(), other_in.clone());
                found.push(Difference { what, one, one_in, other, other_in, matters });
            }
        }
    }
    found
}

/// Results that did not come to their end: a sentence each.
pub fn incomplete(a: &Set, b: &Set) -> Vec<String> {
    let sentence = |set: &Set, source: &Source| {
        let why = source.report.ended_early.as_deref().unwrap_or("it is what was there when the process ended");
        let place = format!("{} ({})", set.name, source.path.display());
        (!source.report.complete).then(|| format!("{place} is not complete: {why}"))
    };
    [a, b].into_iter().flat_map(|set| set.sources.iter().filter_map(move |source| sentence(set, source))).collect()
}

/// Refuses what must not be compared, naming every reason with both values; `anyway` lets all pass but a side without any
/// usable repetition.
pub fn check(a: &Set, b: &Set, anyway: bool) -> Result<(), Failure> {
    for set in [a, b] {
        if set.repetitions().is_empty() {
            let why = match set.left_out().join(" ") {
                why if why.is_empty() => "It has none at all.".into(),
                why => why,
            };
            return Err(Failure::usage(format!("{} has no repetition that may be used. {why}", set.name)));
        }
    }
    let mut reasons = incomplete(a, b);
    reasons.extend(differences(a, b).iter().filter(|difference| difference.matters).map(Difference::words));
    if anyway || reasons.is_empty() {
        return Ok(());
    }
    let reasons = reasons.join("; ");
    Err(Failure::usage(format!("A and B cannot be compared: {reasons} (--anyway compares them nevertheless)")))
}

type Found = (String, String, String, bool);

fn between(one: &Scenario, other: &Scenario) -> Vec<Found> {
    let (one_flat, other_flat) = (flat(one), flat(other));
    let keys: std::collections::BTreeSet<&String> = one_flat.keys().chain(other_flat.keys()).collect();
    let not_set = || "not set".to_owned();
    let differing = keys.into_iter().filter(|key| one_flat.get(*key) != other_flat.get(*key));
    let mut found: Vec<Found> = differing
        .filter(|key| !FREE.iter().any(|free| is_under(key, free)))
        .map(|key| {
            let value = |flat: &BTreeMap<String, String>| flat.get(key).cloned().unwrap_or_else(not_set);
            (key.clone(), value(&one_flat), value(&other_flat), !TOLD.contains(&key.as_str()))
        })
        .collect();
    let scheme = |scenario: &Scenario| scenario.target.url.split("://").next().unwrap_or_default().to_owned();
    if scheme(one) != scheme(other) {
        found.push(("the scheme of target.url".into(), scheme(one), scheme(other), true));
    }
    if one.target.deflate != other.target.deflate {
        let (one, other) = (one.target.deflate.to_string(), other.target.deflate.to_string());
        found.push(("target.deflate".into(), one, other, true));
    }
    found
}

fn is_under(key: &str, parent: &str) -> bool {
    key.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// All settings by their dotted names, as they are written.
fn flat(scenario: &Scenario) -> BTreeMap<String, String> {
    fn walk(name: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(parts) => {
                for (part, value) in parts {
                    let name = if name.is_empty() { part.clone() } else { format!("{name}.{part}") };
                    walk(&name, value, into);
                }
            }
            Value::Null => {}
            Value::String(text) => drop(into.insert(name.to_owned(), text.clone())),
            other => drop(into.insert(name.to_owned(), other.to_string())),
        }
    }
    let mut into = BTreeMap::new();
    walk("", &serde_json::to_value(scenario).unwrap_or_default(), &mut into);
    into
}

fn between_machines(one: &Environment, other: &Environment) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut tell = |what: &str, one: String, other: String, matters: bool| {
        let named = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
        if one != other {
            found.push((what.to_owned(), named(one), named(other), matters));
        }
    };
    tell("the CPU", one.cpu.clone(), other.cpu.clone(), true);
    tell("the number of cores", one.cores.to_string(), other.cores.to_string(), true);
    tell("the kernel", one.kernel.clone(), other.kernel.clone(), true);
    let (memory, other_memory) = (one.memory_bytes as f64, other.memory_bytes as f64);
    if (memory - other_memory).abs() > MEMORY_APART * memory.max(other_memory) {
        tell("the memory", Unit::Bytes.format(memory), Unit::Bytes.format(other_memory), true);
    }
    tell("the host", one.host.clone(), other.host.clone(), false);
    tell("the version of loadgen", one.loadgen.clone(), other.loadgen.clone(), false);
    for (kind, one, other) in [("sysctl ", &one.sysctls, &other.sysctls), ("", &one.notes, &other.notes)] {
        let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for name in names {
            let value = |map: &BTreeMap<String, String>| map.get(name).cloned().unwrap_or_default();
            tell(&format!("{kind}{name}"), value(one), value(other), false);
        }
    }
    found
}
