//! Conditions that end a comparison with exit code 99: `p99>+5%`, `deliveries<-3%`, `lost>0`, `completion-p99>20ms`.
//!
//! A relative condition (with a sign and a percentage) is met when the whole 95 % interval of the ratio lies beyond it; an
//! absolute one when the whole 95 % interval of B's median does. So a condition is met with confidence, not by chance, and a
//! difference right at the bound is rarely enough. Counts are facts, not estimates: a condition on one of them (`lost>0`) is
//! met as soon as any repetition of B meets it, however few there are.

use std::str::FromStr;

use serde::Serialize;

use crate::compare::bootstrap::median_of;
use crate::compare::outcome::{Finding, Outcome, REPETITIONS_MIN, Settings};
use crate::compare::shape::percent;
use crate::record::Repetition;
use crate::record::figures::{FIGURES, Figure, Unit, find};
use crate::units::{Size, Span};

/// What a figure is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    /// B by A, less 1.
    Change(f64),
    /// B's own value.
    Value(f64),
}

/// One condition.
#[derive(Debug, Clone)]
pub struct Condition {
    text: String,
    figure: &'static Figure,
    above: bool,
    bound: Bound,
}

/// Whether a condition is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Met {
    /// With confidence.
    Yes,
    /// Not, or not with confidence.
    No,
    /// There is no telling: not enough repetitions, or the figure was not measured.
    Unknown,
}

/// A condition and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judged {
    /// As it was written.
    pub condition: String,
    /// Whether it is met.
    pub met: Met,
    /// Why.
    pub sentence: String,
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no condition: write for example p99>+5%, deliveries<-3%, lost>0, p99>20ms");
        let place = text.find(['<', '>']).ok_or_else(wrong)?;
        let (key, rest) = text.split_at(place);
        let (key, value) = (key.trim(), rest[1..].trim());
        if key.is_empty() || value.is_empty() || value.starts_with('=') {
            return Err(wrong());
        }
        let figure = figure(key)?;
        let bound = bound(figure, value).map_err(|reason| format!("'{text}': {reason}"))?;
        Ok(Self { text: text.trim().to_owned(), figure, above: rest.starts_with('>'), bound })
    }
}

/// The figure of this name, or a sentence that names all there are.
pub fn figure(key: &str) -> Result<&'static Figure, String> {
    find(key).ok_or_else(|| {
        let keys: Vec<&str> = FIGURES.iter().map(|figure| figure.key).collect();
        format!("there is no figure '{key}'; there are {}", keys.join(", "))
    })
}

fn bound(figure: &Figure, value: &str) -> Result<Bound, String> {
    let number = |text: &str| {
        let number = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| format!("'{text}' is no number"))
    };
    if value.starts_with(['+', '-']) {
        let Some(share) = value.strip_suffix('%') else {
            return Err(format!("a change is given in percent: '{value}%'"));
        };
        let change = number(share)? / 100.0;
        return if change > -1.0 { Ok(Bound::Change(change)) } else { Err("nothing falls by 100% or more".into()) };
    }
    let value = match figure.unit {
        Unit::Share => number(value.strip_suffix('%').ok_or("a share is given in percent, for example 90%")?)? / 100.0,
        _ if value.ends_with('%') => return Err(format!("a change has a sign: '+{value}' or '-{value}'")),
        Unit::Nanoseconds => value.parse::<Span>()?.0.as_nanos() as f64,
        Unit::Bytes => value.parse::<Size>()?.0 as f64,
        Unit::PerSecond => rate(value.trim_end_matches("/s"), number)?,
        Unit::Count | Unit::Ratio => number(value)?,
    };
    Ok(Bound::Value(value))
}

/// A number, or thousands or millions of it: `12k`, `1.2M`.
fn rate(text: &str, number: impl Fn(&str) -> Result<f64, String>) -> Result<f64, String> {
    let (digits, factor) = match text.char_indices().next_back() {
        Some((last, 'k')) => (&text[..last], 1e3),
        Some((last, 'M')) => (&text[..last], 1e6),
        _ => (text, 1.0),
    };
    Ok(number(digits)? * factor)
}

impl Condition {
    /// The figure it is about.
    pub fn figure(&self) -> &'static Figure {
        self.figure
    }

    /// Whether it is about a change from A to B; else it is about B alone.
    pub fn is_change(&self) -> bool {
        matches!(self.bound, Bound::Change(_))
    }

    /// What comes of it, given the comparison of its figure; none if the figure was not measured where it had to be.
    pub fn judge(&self, outcome: Option<&Outcome>, settings: &Settings) -> Judged {
        let (met, sentence) = match outcome {
            None => (
                Met::Unknown,
                format!(
                    "{} was not measured{}",
                    self.figure.title,
                    if self.is_change() { " on both sides" } else { " in B" }
                ),
            ),
            Some(outcome) => match self.bound {
                Bound::Change(change) => self.of_change(outcome, change),
                Bound::Value(value) => self.of_value(outcome, value, settings),
            },
        };
        Judged { condition: self.text.clone(), met, sentence }
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether one repetition, looked at by itself, meets it; none if the figure was not measured, or it is about a change.
    pub fn is_met_by(&self, repetition: &Repetition) -> Option<bool> {
        match self.bound {
            Bound::Change(_) => None,
            Bound::Value(bound) => {
                let value = self.figure.value(repetition)?;
                Some(if self.above { value > bound } else { value < bound })
            }
        }
    }

    fn is_beyond(&self, low: f64, high: f64, bound: f64) -> Met {
        let is_beyond = if self.above { low > bound } else { high < bound };
        if is_beyond { Met::Yes } else { Met::No }
    }

    fn of_change(&self, outcome: &Outcome, change: f64) -> (Met, String) {
        let title = self.figure.title;
        if outcome.finding == Finding::NotEnough {
            return (Met::Unknown, format!("{title}: {}", not_enough(outcome.a.len(), outcome.b.len())));
        }
        match outcome.ratio {
            None if outcome.a == outcome.b => (Met::No, format!("{title} is the same in A and B")),
            None => (Met::Unknown, format!("{title} has no ratio, as there are zeros among its values")),
            Some(ratio) => (
                self.is_beyond(ratio.low - 1.0, ratio.high - 1.0, change),
                format!("{title} changed by {} ({} to {})", signed(ratio.value), signed(ratio.low), signed(ratio.high)),
            ),
        }
    }

    fn of_value(&self, outcome: &Outcome, value: f64, settings: &Settings) -> (Met, String) {
        let title = self.figure.title;
        if self.figure.unit == Unit::Count {
            let meets = |count: &&f64| if self.above { **count > value } else { **count < value };
            let meeting = outcome.b.iter().filter(meets).count();
            let met = if meeting > 0 { Met::Yes } else { Met::No };
            let side = if self.above { "above" } else { "below" };
            let (shown, all) = (self.figure.format(value), outcome.b.len());
            return (met, format!("{title} is {side} {shown} in {meeting} of B's {all} repetitions"));
        }
        if outcome.b.len() < REPETITIONS_MIN {
            return (Met::Unknown, format!("{title}: {}", not_enough(REPETITIONS_MIN, outcome.b.len())));
        }
        let median = median_of(&outcome.b, settings.seed, settings.resamples);
        let shown = |value: f64| self.figure.format(value);
        let sentence =
            format!("{title} of B is {} ({} to {})", shown(median.value), shown(median.low), shown(median.high));
        (self.is_beyond(median.low, median.high, value), sentence)
    }
}

fn not_enough(a: usize, b: usize) -> String {
    format!("there are {} repetitions, which is not enough ({REPETITIONS_MIN} of each side)", a.min(b))
}

/// A ratio as a change: `+5.2%`.
pub(crate) fn signed(ratio: f64) -> String {
    let change = percent(ratio - 1.0);
    if ratio >= 1.0 { format!("+{change}") } else { change }
}
