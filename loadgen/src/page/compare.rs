//! The page of a comparison: the verdict, each figure of both sides, and their curves on one plot.

use maud::{Markup, html};

use super::layout::{document, facts, report_facts};
use super::plot::percentiles::{Curve, Height, key, plot};
use super::{layout, parts};
use crate::measure::Latencies;
use crate::record::{Report, words};

/// One figure of both sides, as text: who compares fills it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareRow {
    /// The figure's title.
    pub figure: String,
    /// The first side's median.
    pub a: String,
    /// The second side's median.
    pub b: String,
    /// The second by the first.
    pub ratio: String,
    /// The confidence interval of the ratio.
    pub interval: String,
    /// What that means, in words.
    pub verdict: String,
    /// How it is marked: `better`, `worse`, `same` or `unknown`.
    pub class: &'static str,
}

/// What is said of a comparison besides its figures. Sentences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The whole in one sentence; made of the rows if it is empty.
    pub headline: String,
    /// Where in the distribution B differs.
    pub distribution: String,
    /// In what the results differ.
    pub differences: Vec<String>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// The page. `a` and `b` are the runs of either side, one or several; `title` names both.
pub fn compare_page(title: &str, a: &[Report], b: &[Report], rows: &[CompareRow], told: &Told) -> String {
    let (class, headline) = verdict(rows);
    let headline = if told.headline.is_empty() { headline } else { told.headline.clone() };
    let body = html! {
        header {
            p.eyebrow { "loadgen · comparison" }
            h1 { (title) }
            (side("A", "a", a))
            (side("B", "b", b))
        }
        section.verdict.(class) {
            p.headline { (headline) }
            @let void = void(a, b);
            @if !void.is_empty() { ul { @for reason in &void { li { (reason) } } } }
        }
        section {
            h2 { "Figures" }
            p.note { "Medians of the repetitions. B / A is the median of the ratios of all of B's to all of A's." }
            (table(rows))
        }
        (listed("What to know", &told.notes))
        (listed("In what the results differ", &told.differences))
        section {
            h2 { "Latency by percentile" }
            p.note {
                "From the intended time of a publication to its receipt, all repetitions merged. Thin lines are single "
                "repetitions: where those of A and B lie among each other, there is no difference to speak of."
            }
            @if !told.distribution.is_empty() { p { (told.distribution) } }
            (curves(a, b))
        }
        section {
            h2 { "Where they were made" }
            (environments(a, b))
        }
    };
    document(title, &body)
}

/// The sentence on top: what is worse comes first, then what is better, with the figures' names.
fn verdict(rows: &[CompareRow]) -> (&'static str, String) {
    let named = |class: &str| {
        let figures = rows.iter().filter(|row| row.class == class).map(|row| row.figure.as_str());
        figures.collect::<Vec<_>>().join(", ")
    };
    let (worse, better, unknown) = (named("worse"), named("better"), named("unknown"));
    match (worse.is_empty(), better.is_empty()) {
        (false, true) => ("worse", format!("B is worse in {worse}.")),
        (false, false) => ("worse", format!("B is worse in {worse}, and better in {better}.")),
        (true, false) => ("better", format!("B is better in {better}, and worse in nothing.")),
        (true, true) if rows.is_empty() => ("unknown", "There is nothing to compare.".into()),
        (true, true) if rows.iter().all(|row| row.class == "unknown") => {
            ("unknown", "There is no telling: not enough repetitions.".into())
        }
        (true, true) if !unknown.is_empty() => {
            ("same", format!("No difference is seen; there is no telling about {unknown}."))
        }
        (true, true) => ("same", "No difference is seen.".into()),
    }
}

/// A section of sentences; nothing if there are none.
fn listed(title: &str, sentences: &[String]) -> Markup {
    html! {
        @if !sentences.is_empty() {
            section { h2 { (title) } ul.words { @for sentence in sentences { li { (sentence) } } } }
        }
    }
}

fn void(a: &[Report], b: &[Report]) -> Vec<String> {
    let sides = [("A", a), ("B", b)];
    let of = |(name, reports): &(&str, &[Report])| {
        let words = reports.iter().map(words::of).filter(|words| words.verdict == words::Verdict::Void);
        words.map(|words| format!("{name}: {}", words.headline)).collect::<Vec<_>>()
    };
    sides.iter().flat_map(of).collect()
}

fn side(name: &str, class: &str, reports: &[Report]) -> Markup {
    html! {
        @for report in reports {
            @let mut about = vec![format!("{name}: {}", report.scenario.name)];
            @let () = about.extend(report_facts(report));
            div.side { (key(&format!("curve {class}"))) (facts(&about)) }
        }
    }
}

fn table(rows: &[CompareRow]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "figure" } th { "A" } th { "B" } th { "B / A" } th { "95% interval" } th.left { "verdict" }
            } }
            tbody { @for row in rows { tr {
                td { (row.figure) } td { (row.a) } td { (row.b) }
                td.median { (row.ratio) } td { (row.interval) }
                td.left { span.tag.(row.class) { (row.verdict) } }
            } } }
        } }
    }
}

fn curves(a: &[Report], b: &[Report]) -> Markup {
    let mut curves = Vec::new();
    let (merged_a, merged_b) = (merged(a), merged(b));
    for (class, reports) in [("a", a), ("b", b)] {
        for repetition in reports.iter().flat_map(|report| parts::drawn(report.usable())) {
            let latencies = &repetition.measurement.corrected;
            curves.push(Curve { name: String::new(), class, latencies, thin: true });
        }
    }
    curves.push(Curve { name: name("A", a), class: "a", latencies: &merged_a, thin: false });
    curves.push(Curve { name: name("B", b), class: "b", latencies: &merged_b, thin: false });
    let panel = |name: &str, height| (name.to_owned(), plot(&curves, height));
    layout::tabs("curves", &[panel("logarithmic", Height::Log), panel("linear", Height::Linear)])
}

fn name(side: &str, reports: &[Report]) -> String {
    match reports.first().map(|report| report.environment.server_revision.as_str()) {
        None | Some("") => side.to_owned(),
        Some(revision) => format!("{side}: {revision}"),
    }
}

fn merged(reports: &[Report]) -> Latencies {
    let mut merged = Latencies::default();
    for repetition in reports.iter().flat_map(Report::usable) {
        merged.merge(&repetition.measurement.corrected);
    }
    merged
}

/// What differs between the first report of either side, and in one line what does not.
fn environments(a: &[Report], b: &[Report]) -> Markup {
    let (Some(a), Some(b)) = (a.first(), b.first()) else { return Markup::default() };
    let mut rows: Vec<(String, String, String)> = Vec::new();
    for (name, value) in both(a) {
        rows.push((name, value, String::new()));
    }
    for (name, value) in both(b) {
        match rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.2 = value,
            None => rows.push((name, String::new(), value)),
        }
    }
    let (same, differing): (Vec<_>, Vec<_>) = rows.into_iter().partition(|(_, a, b)| a == b);
    html! {
        @if differing.is_empty() {
            p.note { "Both in the same environment." }
        } @else {
            div.scroll { table {
                thead { tr { th { "differs" } th.left { "A" } th.left { "B" } } }
                tbody { @for (name, a, b) in &differing {
                    tr { td { (name) } td.long { (a) } td.long { (b) } }
                } }
            } }
        }
        details {
            summary { "The same for both" }
            (layout::list(&same.into_iter().map(|(name, a, _)| (name, a)).collect::<Vec<_>>()))
        }
    }
}

/// Everything that a side's environment says, the command included.
fn both(report: &Report) -> Vec<(String, String)> {
    let mut rows = parts::environment_rows(&report.environment);
    rows.push(("command".into(), report.command.join(" ")));
    rows
}
