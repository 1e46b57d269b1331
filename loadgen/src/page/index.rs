//! The page over a folder of many results: all of them in a table, and the history of the main figures by scenario.

use maud::{Markup, html};

use super::layout::{document, facts, mark, when};
use super::plot::history::{self, Run};
use crate::record::figures::{self, Figure, Spread};
use crate::record::words::{self, Verdict};
use crate::record::{Report, VERSION};

/// The figures of the table.
const COLUMNS: &[&str] = &["p50", "p99", "completion-p99", "deliveries", "lost", "server-cpu"];

/// The figures whose history is drawn.
const HISTORY: &[&str] = &["p50", "p99", "completion-p99", "deliveries", "server-cpu", "server-rss"];

/// What the index keeps of a result: its histograms are not needed any more.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its page, relative to the index.
    pub link: String,
    /// The scenario's name.
    pub name: String,
    /// RFC 3339.
    pub created: String,
    /// The server's revision.
    pub revision: String,
    /// The host.
    pub host: String,
    /// Repetitions, and how many of them are void.
    pub repetitions: (usize, usize),
    /// Whether its figures may be used.
    pub verdict: Verdict,
    /// The figures it has, by key.
    spreads: Vec<(&'static str, Spread)>,
}

impl Entry {
    /// What is kept of a report whose page is at `link`.
    pub fn new(report: &Report, link: String) -> Self {
        let usable = report.usable();
        let all = figures::FIGURES.iter();
        Self {
            link,
            name: report.scenario.name.clone(),
            created: report.created.clone(),
            revision: report.environment.server_revision.clone(),
            host: report.environment.host.clone(),
            repetitions: (
                report.repetitions.len(),
                report.repetitions.iter().filter(|repetition| !repetition.void.is_empty()).count(),
            ),
            verdict: words::of(report).verdict,
            spreads: all.filter_map(|figure| Some((figure.key, figure.spread(usable.iter().copied())?))).collect(),
        }
    }

    fn spread(&self, figure: &Figure) -> Option<Spread> {
        self.spreads.iter().find(|(key, _)| *key == figure.key).map(|(_, spread)| *spread)
    }
}

/// The page. `unreadable` are sentences about results that could not be read.
pub fn index_page(title: &str, mut entries: Vec<Entry>, unreadable: &[String]) -> String {
    entries.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.link.cmp(&b.link)));
    // Runs of another machine are another history.
    let mut histories: Vec<(&str, &str)> =
        entries.iter().map(|entry| (entry.name.as_str(), entry.host.as_str())).collect();
    histories.sort_unstable();
    histories.dedup();
    let mut names: Vec<&str> = histories.iter().map(|(name, _)| *name).collect();
    names.dedup();
    let results = match entries.len() {
        1 => "1 result".to_owned(),
        many => format!("{many} results"),
    };
    let scenarios = match names.len() {
        1 => "1 scenario".to_owned(),
        many => format!("{many} scenarios"),
    };
    let body = html! {
        header {
            p.eyebrow { "loadgen · results" }
            h1 { (title) }
            (facts(&[results, scenarios]))
        }
        @if !unreadable.is_empty() {
            section.verdict.incomplete {
                p.headline { "Some results could not be read." }
                ul { @for sentence in unreadable { li { (sentence) } } }
            }
        }
        section { h2 { "All results" } p.note { "Medians over the valid repetitions; the latest first." } (table(&entries)) }
        @for (name, host) in histories {
            @let runs: Vec<&Entry> = entries.iter().filter(|entry| entry.name == name && entry.host == host).collect();
            @if runs.len() > 1 { (history(name, host, &runs)) }
        }
        footer { "report format " (VERSION) }
    };
    document(title, &body)
}

fn table(entries: &[Entry]) -> Markup {
    let columns: Vec<&Figure> = COLUMNS.iter().filter_map(|key| figures::find(key)).collect();
    html! {
        div.scroll { table.dense {
            thead { tr {
                th { "begun" } th.left { "scenario" } th.left { "revision" } th { "repetitions" }
                @for figure in &columns { th { (figure.title) } }
            } }
            tbody { @for entry in entries.iter().rev() { tr {
                @let (class, word) = mark(entry.verdict);
                td { (when(&entry.created).trim_end_matches(" UTC")) }
                td.left {
                    a href=(entry.link) { (entry.name) }
                    @if entry.verdict != Verdict::Valid { " " span.tag.(class) { (word) } }
                }
                td.left { (entry.revision) }
                td { (entry.repetitions.0) @if entry.repetitions.1 > 0 { " (" (entry.repetitions.1) " void)" } }
                @for figure in &columns {
                    @match entry.spread(figure) {
                        Some(spread) => td { (figure.format(spread.median)) },
                        None => td.none { "–" },
                    }
                }
            } } }
        } }
    }
}

fn history(name: &str, host: &str, entries: &[&Entry]) -> Markup {
    let plots = HISTORY.iter().filter_map(|key| figures::find(key)).filter_map(|figure| {
        let runs: Vec<Run> = entries.iter().filter_map(|entry| run(entry, figure)).collect();
        (runs.len() > 1).then_some((figure, runs))
    });
    html! {
        section {
            h2 { "History of " (name) @if !host.is_empty() { " on " (host) } }
            p.note {
                "Median of each run with the range of its repetitions; a hollow point is void. Machines drift: small steps "
                "between runs of different days mean little, loadgen ab tells."
            }
            div.small {
                @for (figure, runs) in plots {
                    div { h3 { (figure.title) } (history::plot(figure.title, figure.unit, &runs)) }
                }
            }
        }
    }
}

fn run(entry: &Entry, figure: &Figure) -> Option<Run> {
    Some(Run {
        label: label(entry),
        title: format!("{} {}", when(&entry.created), entry.revision).trim_end().to_owned(),
        link: entry.link.clone(),
        spread: entry.spread(figure)?,
        // With some valid repetitions, the figures are those.
        void: entry.repetitions.0 == entry.repetitions.1,
    })
}

/// The last word of the revision, short; without one, day and month.
fn label(entry: &Entry) -> String {
    match entry.revision.split_whitespace().last() {
        Some(revision) => revision.chars().take(8).collect(),
        None => entry.created.get(5..10).unwrap_or_default().to_owned(),
    }
}
