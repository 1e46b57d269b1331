//! The frame of every page: head, style, script; nothing is loaded from anywhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::record::Report;
use crate::record::words::Verdict;

/// Inside the page, so it needs nothing beside it.
const STYLE: &str = include_str!("style.css");
const HOVER: &str = include_str!("hover.js");

/// A whole page.
pub fn document(title: &str, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="generator" content=(concat!("loadgen ", env!("CARGO_PKG_VERSION")));
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main { (body) }
                script { (PreEscaped(HOVER)) }
            }
        }
    };
    page.into_string()
}

/// Facts in one line, those that are empty left out.
pub fn facts(facts: &[String]) -> Markup {
    html! {
        p.facts { @for fact in facts.iter().filter(|fact| !fact.is_empty()) { span { (fact) } } }
    }
}

/// `2026-11-20 12:00 UTC` of an RFC 3339 time; anything else stays as it is.
pub fn when(timestamp: &str) -> String {
    match (timestamp.get(..10), timestamp.get(10..11), timestamp.get(11..16)) {
        (Some(date), Some("T"), Some(time)) => format!("{date} {time} UTC"),
        _ => timestamp.to_owned(),
    }
}

/// The class and the word of a verdict.
pub fn mark(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Valid => ("valid", "valid"),
        Verdict::Warned => ("warned", "warnings"),
        Verdict::Incomplete => ("incomplete", "incomplete"),
        Verdict::Void => ("void", "VOID"),
    }
}

/// Names and values; rows without value left out.
pub fn list(rows: &[(String, String)]) -> Markup {
    html! {
        dl {
            @for (name, value) in rows.iter().filter(|row| !row.1.is_empty()) {
                dt { (name) }
                dd { (value) }
            }
        }
    }
}

/// What all pages say about a report in one line below the title.
pub fn report_facts(report: &Report) -> Vec<String> {
    let environment = &report.environment;
    let repetitions = match report.repetitions.len() {
        1 => "1 repetition".into(),
        many => format!("{many} repetitions"),
    };
    vec![
        when(&report.created),
        environment.server_revision.clone(),
        repetitions,
        report.scenario.target.url.clone(),
        environment.host.clone(),
    ]
}

/// Panels of which one is seen, chosen by radio buttons: no script is needed. `group` is unique in the page.
pub fn tabs(group: &str, panels: &[(String, Markup)]) -> Markup {
    html! {
        div.tabs {
            @for (n, (name, panel)) in panels.iter().enumerate() {
                @let id = format!("{group}-{n}");
                input type="radio" name=(group) id=(id) checked[n == 0];
                label for=(id) { (name) }
                div { (panel) }
            }
        }
    }
}
