//! The page of one result.

use maud::{Markup, html};

use super::layout::{document, facts, mark, report_facts, tabs};
use super::parts;
use super::plot::percentiles::{Curve, Height, plot};
use super::plot::{heat, lines};
use crate::measure::Measurement;
use crate::record::figures::{self, Figure, Spread};
use crate::record::words::{self, Words};
use crate::record::{Repetition, Report};

/// The figures that stand on top, one card each.
const CARDS: &[&str] = &[
    "p50",
    "p99",
    "p99.9",
    "max",
    "completion-p50",
    "completion-p99",
    "deliveries",
    "lost",
    "schedule-error-p99",
    "own-cpu-share",
    "server-cpu",
    "server-rss",
];

/// The whole page.
pub fn run_page(report: &Report) -> String {
    let words = words::of(report);
    let body = html! {
        header {
            p.eyebrow { "loadgen · result" }
            h1 { (report.scenario.name) }
            (facts(&report_facts(report)))
        }
        (verdict(&words))
        (cards(report))
        section {
            h2 { "In words" }
            ul.words { @for sentence in &words.sentences { li { (sentence) } } }
        }
        (percentiles(report))
        (course(report))
        (repetitions(report))
        (parts::deliveries(report))
        (parts::connections(report))
        (parts::both_sides(report))
        (parts::ceiling(report))
        (parts::circumstances(report))
        footer { "loadgen " (report.environment.loadgen) " · report format " (report.version) }
    };
    document(&format!("{} · {}", report.scenario.name, report.created), &body)
}

fn verdict(words: &Words) -> Markup {
    let (class, _) = mark(words.verdict);
    html! {
        section.verdict.(class) {
            p.headline { (words.headline) }
            @if !words.reasons.is_empty() { ul { @for reason in &words.reasons { li { (reason) } } } }
        }
    }
}

fn cards(report: &Report) -> Markup {
    let usable = report.usable();
    let shown = CARDS.iter().filter_map(|key| figures::find(key));
    let shown: Vec<(&Figure, Spread)> =
        shown.filter_map(|figure| Some((figure, figure.spread(usable.iter().copied())?))).collect();
    html! {
        div.cards {
            @for (figure, spread) in shown {
                div.card {
                    div.name { (figure.title) }
                    div.value { (figure.format(spread.median)) }
                    div.range { (range(figure, spread)) }
                }
            }
        }
    }
}

fn range(figure: &Figure, spread: Spread) -> String {
    if spread.count == 1 {
        return "one repetition".into();
    }
    let (min, max) = (figure.format(spread.min), figure.format(spread.max));
    if min == max { format!("in all {}", spread.count) } else { format!("{min} – {max}") }
}

fn percentiles(report: &Report) -> Markup {
    let usable = report.usable();
    let mut merged = Measurement::default();
    for repetition in &usable {
        merged.corrected.merge(&repetition.measurement.corrected);
        merged.service.merge(&repetition.measurement.service);
        merged.completion.merge(&repetition.measurement.completion);
    }
    let mut curves = Vec::new();
    if usable.len() > 1 {
        for repetition in parts::drawn(usable) {
            let latencies = &repetition.measurement.corrected;
            curves.push(Curve { name: String::new(), class: "a", latencies, thin: true });
        }
    }
    let named = [
        ("corrected: from the intended time", "a", &merged.corrected),
        ("service: from the actual send", "b", &merged.service),
        ("completion: until the last subscriber", "c", &merged.completion),
    ];
    curves.extend(named.map(|(name, class, latencies)| Curve { name: name.into(), class, latencies, thin: false }));
    let panel = |name: &str, height| (name.to_owned(), plot(&curves, height));
    html! {
        section {
            h2 { "Latency by percentile" }
            p.note {
                "Corrected counts from the moment a publication was due, so a server that stands still is seen by every "
                "publication that had to wait for it. Service counts from the actual send. Completion is the last "
                "subscriber's corrected latency, one value a publication."
            }
            (tabs("curves", &[panel("logarithmic", Height::Log), panel("linear", Height::Linear)]))
        }
    }
}

fn course(report: &Report) -> Markup {
    let drawn = parts::drawn(report.repetitions.iter().collect());
    let with_intervals = drawn.iter().enumerate().filter(|(_, repetition)| !repetition.intervals.is_empty());
    let panels: Vec<(String, Markup)> =
        with_intervals.map(|(n, repetition)| (name(n, repetition), one_course(repetition, drawn.len()))).collect();
    html! {
        @if !panels.is_empty() {
            section {
                h2 { "The course of it" }
                p.note {
                    "Corrected latency of the deliveries received in each interval."
                    @if panels.len() < report.repetitions.len() {
                        " The first " (panels.len()) " of " (report.repetitions.len()) " repetitions are drawn."
                    }
                }
                @if let [(_, panel)] = panels.as_slice() { (panel) } @else { (tabs("course", &panels)) }
            }
        }
    }
}

fn name(n: usize, repetition: &Repetition) -> String {
    let void = if repetition.void.is_empty() { "" } else { " (void)" };
    format!("repetition {}{void}", n + 1)
}

fn one_course(repetition: &Repetition, tables: usize) -> Markup {
    html! {
        (heat::plot(&repetition.intervals))
        div.small {
            @for line in lines::LINES {
                div { h3 { (line.title) } (lines::plot(line, &repetition.intervals)) }
            }
        }
        details {
            summary { "Each interval in figures" }
            (parts::intervals(&repetition.intervals, tables))
        }
    }
}

fn repetitions(report: &Report) -> Markup {
    let usable = report.usable();
    let several = report.repetitions.len() > 1;
    let shown: Vec<(&Figure, Option<Spread>)> = figures::FIGURES
        .iter()
        .filter(|figure| report.repetitions.iter().any(|repetition| figure.value(repetition).is_some()))
        .map(|figure| (figure, figure.spread(usable.iter().copied())))
        .collect();
    html! {
        section {
            h2 { "Figures" }
            p.note { "Latencies are corrected unless named otherwise. The median is that of the valid repetitions." }
            div.scroll { table {
                thead { tr {
                    th { "figure" }
                    @if several { th { "median" } }
                    @for (n, repetition) in report.repetitions.iter().enumerate() {
                        th { (parts::number(n, repetition)) }
                    }
                } }
                tbody { @for (figure, spread) in shown { tr {
                    td { (figure.title) }
                    @if several { td.median { @if let Some(spread) = spread { (figure.format(spread.median)) } } }
                    @for repetition in &report.repetitions {
                        @match figure.value(repetition) {
                            Some(value) => td { (figure.format(value)) },
                            None => td.none { "–" },
                        }
                    }
                } } }
            } }
        }
    }
}
