//! Properties of pages: they stand alone, text stays text, and they are whole.

use super::compare::{CompareRow, Told, compare_page};
use super::index::{Entry, index_page};
use super::run::run_page;
use crate::command::report::write_pages;
use crate::record::Report;
use crate::record::folder::REPORT_FILE;
use crate::record::sample::Sample;

const HOSTILE: &str = "<script>alert('x')</script>&\"><b>";

fn small() -> Sample {
    Sample { repetitions: 3, seconds: 4, subscribers: 50, rate: 20, ..Sample::default() }
}

/// A report that holds hostile text wherever text can stand.
fn hostile() -> Report {
    let mut report = small().report();
    let text = || HOSTILE.to_owned();
    report.scenario.name = text();
    report.scenario.target.url = text();
    report.command.push(text());
    report.ended_early = Some(text());
    report.environment.server_revision = text();
    report.environment.notes.insert(text(), text());
    report.repetitions[0].void.push(text());
    report.repetitions[0].warnings.push(text());
    report.repetitions[1].connecting.failures.insert(text(), 3);
    report.repetitions[1].measurement.storm = Some(small().storm());
    report.repetitions[1].measurement.tally.closed.insert(text(), 2);
    report.repetitions[1].measurement.tally.roles.insert(text(), Default::default());
    report
}

fn rows() -> Vec<CompareRow> {
    ["better", "worse", "same", "unknown"]
        .map(|class| CompareRow {
            figure: format!("p99 {class}"),
            a: "1.00 ms".into(),
            b: "1.10 ms".into(),
            ratio: "1.10".into(),
            interval: "1.05 – 1.15".into(),
            verdict: class.into(),
            class,
        })
        .to_vec()
}

/// All pages there are, of a usual report, a hostile one and one that holds nothing.
fn pages() -> Vec<String> {
    let empty = Report { repetitions: Vec::new(), ceiling: None, complete: false, ..small().report() };
    let reports = [small().report(), hostile(), empty];
    let mut pages: Vec<String> = reports.iter().map(run_page).collect();
    let entries = || reports.iter().chain(&reports).map(|report| Entry::new(report, "a/report.html".into())).collect();
    pages.push(index_page(HOSTILE, entries(), &[HOSTILE.into()]));
    pages.push(index_page("none", Vec::new(), &[]));
    pages.push(compare_page(
        HOSTILE,
        &reports[..1],
        &reports[1..2],
        &rows(),
        &Told { notes: vec![HOSTILE.to_owned()], headline: HOSTILE.to_owned(), ..Told::default() },
    ));
    pages.push(compare_page("empty", &reports[2..], &[], &[], &Told::default()));
    pages
}

/// Checks that every tag is closed by its own end, in order; gives the tags with their attributes.
fn tags(page: &str) -> Vec<&str> {
    const VOID: &[&str] = &["meta", "input", "br", "link", "img"];
    let (mut open, mut tags, mut rest) = (Vec::new(), Vec::new(), page);
    while let Some(from) = rest.find('<') {
        let to = from + rest[from..].find('>').expect("a tag that ends");
        let tag = &rest[from + 1..to];
        rest = &rest[to + 1..];
        let name = tag.split([' ', '\n']).next().unwrap_or_default();
        if let Some(ended) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(ended), "before {}", &rest[..rest.len().min(80)]);
        } else if name.starts_with('!') || VOID.contains(&name) {
            tags.push(tag);
        } else {
            open.push(name);
            tags.push(tag);
        }
        // What stands in style and script is no markup.
        if name == "style" || name == "script" {
            rest = &rest[rest.find(&format!("</{name}>")).expect("an end of style or script")..];
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    tags
}

#[test]
fn every_tag_is_closed() {
    for page in pages() {
        assert!(page.starts_with("<!DOCTYPE html>"));
        assert!(tags(&page).len() > 20);
    }
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    for page in pages() {
        assert!(
            !page.contains("http://")
                && !page.contains("https://")
                && !page.contains("url(")
                && !page.contains("@import")
        );
        for tag in tags(&page) {
            let name = tag.split(' ').next().unwrap_or_default();
            assert!(!["link", "img", "iframe", "object", "embed", "base"].contains(&name), "{tag}");
            assert!(!tag.contains(" src="), "{tag}");
            if let Some((_, address)) = tag.split_once(" href=\"") {
                assert!(address.starts_with("a/report.html\""), "{tag}");
            }
        }
    }
}

#[test]
fn text_from_results_stays_text() {
    let hostile = [run_page(&hostile()), pages().swap_remove(3), pages().swap_remove(5)];
    for page in hostile {
        assert!(page.contains("&lt;script&gt;"), "the text is shown");
        assert!(!page.contains("<script>alert") && !page.contains("<b>alert") && !page.contains("\"><b>"));
    }
}

#[test]
fn a_void_run_says_so_on_top_and_a_valid_one_does_not() {
    let mut report = small().report();
    assert!(!run_page(&report).contains("VOID"));
    for repetition in &mut report.repetitions {
        repetition.void.push("The load generator lagged by 25 ms.".into());
    }
    let page = run_page(&report);
    assert!(page.contains("Void: these figures must not be used."));
    assert!(page.contains("Repetition 1, similarly in 2 and 3: The load generator lagged by 25 ms."));
    assert!(index_page("x", vec![Entry::new(&report, "a".into())], &[]).contains("VOID"));
}

#[test]
fn a_comparison_begins_with_what_is_worse() {
    let a = [small().report()];
    let of = |classes: &[&str]| {
        let rows: Vec<_> = rows().into_iter().filter(|row| classes.contains(&row.class)).collect();
        compare_page("A and B", &a, &a, &rows, &Told::default())
    };
    assert!(of(&["worse", "better"]).contains("B is worse in p99 worse, and better in p99 better."));
    assert!(of(&["better", "same"]).contains("B is better in p99 better, and worse in nothing."));
    assert!(of(&["same"]).contains("No difference is seen."));
    assert!(of(&["unknown"]).contains("There is no telling: not enough repetitions."));
}

#[test]
fn a_page_of_many_long_repetitions_stays_small() {
    let page = run_page(&Sample { repetitions: 40, seconds: 60, ..small() }.report());
    assert!(page.len() < 4_000_000, "{} bytes", page.len());
    let page = run_page(&Sample { repetitions: 2, seconds: 3600, ..small() }.report());
    assert!(page.len() < 1_500_000, "{} bytes", page.len());
}

#[test]
fn a_page_that_cannot_be_written_does_not_stop_the_index() {
    let root = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        let folder = root.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(REPORT_FILE), serde_json::to_vec(&small().report()).unwrap()).unwrap();
    }
    // A link into nothing: neither there nor to be written.
    std::os::unix::fs::symlink("none/report.html", root.path().join("one/report.html")).unwrap();
    let written = write_pages(root.path()).unwrap();
    assert_eq!(written, [root.path().join("two/report.html"), root.path().join("index.html")]);
}

#[test]
fn a_folder_of_results_gets_an_index_and_the_pages_that_are_missing() {
    let root = tempfile::tempdir().unwrap();
    for (name, seed) in [("one", 1), ("two words#", 2)] {
        let folder = root.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let report = Sample { seed, ..small() }.report();
        std::fs::write(folder.join(REPORT_FILE), serde_json::to_vec(&report).unwrap()).unwrap();
    }
    let broken = root.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    std::fs::write(broken.join(REPORT_FILE), "{\"format\":").unwrap();

    let written = write_pages(root.path()).unwrap();
    let written: Vec<_> =
        written.iter().map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(written, ["one/report.html", "two words#/report.html", "index.html"]);
    let index = std::fs::read_to_string(root.path().join("index.html")).unwrap();
    assert!(index.contains("href=\"one/report.html\"") && index.contains("href=\"two%20words%23/report.html\""));
    assert!(index.contains("broken/report.json is cut off"));

    let again = write_pages(root.path()).unwrap();
    assert_eq!(again, [root.path().join("index.html")], "pages that are there are not written again");
    let one = write_pages(&root.path().join("one")).unwrap();
    assert_eq!(one, [root.path().join("one/report.html")], "a page that is asked for is written anew");
}

#[test]
fn a_folder_without_results_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let failure = write_pages(root.path()).unwrap_err();
    assert_eq!(failure.exit_code(), 2);
    assert!(failure.to_string().contains("holds no result"), "{failure}");
    std::fs::write(root.path().join(REPORT_FILE), "").unwrap();
    assert_eq!(write_pages(root.path()).unwrap_err().exit_code(), 1);
}
