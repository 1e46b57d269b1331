//! `--json`: a result for machines, in one object. Figures as numbers, in their units; the whole report, histograms and all,
//! is in `report.json`, whose place the summary names.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;
use crate::record::figures::{FIGURES, Unit};
use crate::record::words::{self, Verdict};
use crate::record::{Report, folder};

/// What `format` of a summary says.
pub const FORMAT: &str = "fanfare-loadgen-summary";

/// The version of its schema.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct Summary<'a> {
    format: &'a str,
    version: u32,
    report: String,
    name: &'a str,
    created: &'a str,
    verdict: &'a str,
    complete: bool,
    ended_early: &'a Option<String>,
    reasons: Vec<String>,
    repetitions: usize,
    usable: usize,
    figures: BTreeMap<&'a str, Values<'a>>,
}

#[derive(Serialize)]
struct Values<'a> {
    unit: &'a str,
    median: f64,
    min: f64,
    max: f64,
    /// One by one, usable repetitions in order; null where it was not measured.
    values: Vec<Option<f64>>,
}

/// The summary as one line of JSON, and a line end.
///
/// # Errors
/// Never, as long as figures are numbers.
pub fn json(report: &Report, folder: &Path) -> Result<String, Failure> {
    let words = words::of(report);
    let usable = report.usable();
    let figures = FIGURES.iter().filter_map(|figure| {
        let spread = figure.spread(usable.iter().copied())?;
        let values = usable.iter().map(|repetition| figure.value(repetition)).collect();
        let unit = unit(figure.unit);
        Some((figure.key, Values { unit, median: spread.median, min: spread.min, max: spread.max, values }))
    });
    let summary = Summary {
        format: FORMAT,
        version: VERSION,
        report: folder.join(folder::REPORT_FILE).display().to_string(),
        name: &report.scenario.name,
        created: &report.created,
        verdict: verdict(words.verdict),
        complete: report.complete,
        ended_early: &report.ended_early,
        reasons: words.reasons,
        repetitions: report.repetitions.len(),
        usable: report.repetitions.iter().filter(|repetition| repetition.is_usable()).count(),
        figures: figures.collect(),
    };
    let text = serde_json::to_string(&summary);
    text.map(|text| text + "\n").map_err(|error| Failure::failed(format!("the summary cannot be written: {error}")))
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "valid",
        Verdict::Warned => "warned",
        Verdict::Incomplete => "incomplete",
        Verdict::Void => "void",
    }
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanoseconds => "ns",
        Unit::PerSecond => "per_s",
        Unit::Bytes => "bytes",
        Unit::Count => "count",
        Unit::Ratio => "ratio",
        Unit::Share => "share",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::figures;
    use crate::record::sample::Sample;

    #[test]
    fn a_machine_reads_the_same_figures_and_the_same_verdict() {
        let mut report = Sample { repetitions: 3, seconds: 2, subscribers: 20, ..Sample::default() }.report();
        report.repetitions[1].void = vec!["Too slow.".into()];
        let json: serde_json::Value = serde_json::from_str(&json(&report, Path::new("a/b")).unwrap()).unwrap();
        let p99 = figures::find("p99").unwrap();
        assert_eq!(json["figures"]["p99"]["median"].as_f64(), p99.spread(report.usable()).map(|spread| spread.median));
        assert_eq!(json["figures"]["p99"]["values"].as_array().map(Vec::len), Some(2));
        assert_eq!(json["figures"]["p99"]["unit"], "ns");
        assert_eq!(
            (&json["verdict"], &json["usable"], &json["report"]),
            (&"void".into(), &2.into(), &"a/b/report.json".into())
        );
        assert!(json["reasons"][0].as_str().is_some_and(|reason| reason.contains("Too slow.")));
    }
}
