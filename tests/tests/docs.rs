//! The documents: what they link to is there, the commands they show exist, and what they describe is all of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_tests::loadgen::Loadgen;
use fanfare_tests::program::run_to_end;
use fanfare_tests::{Server, repository};
use serde_json::Value;

/// All Markdown files that belong to the project.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(repository(), &mut found);
    found.sort();
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() && !["target", "node_modules", ".git"].contains(&name.as_str()) {
            collect(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The targets of `[text](target)` outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    let targets = prose.match_indices("](").filter_map(|(at, _)| {
        let rest = &prose[at + 2..];
        rest.find(')').map(|end| rest[..end].trim().to_owned())
    });
    targets.collect()
}

/// The lines of the code blocks that are marked as shell, without prompts, comments and continuations.
fn shell_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for block in text.split("```").skip(1).step_by(2) {
        let (mark, body) = block.split_once('\n').unwrap_or((block, ""));
        if ["sh", "bash", "shell", "console"].contains(&mark.trim()) {
            let joined = body.replace("\\\n", " ");
            let commands = joined.lines().map(|line| line.trim().trim_start_matches("$ "));
            lines.extend(commands.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
        }
    }
    lines
}

/// The GitHub name of a heading: lower case, blanks to dashes, without punctuation.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let name = |line: &str| {
        let kept = line.trim_start_matches('#').trim().to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
    };
    headings.map(name).collect()
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("readable");
        let folder = document.parent().expect("a file has a folder");
        for link in links(&text).into_iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { document.clone() } else { folder.join(path) };
            let is_there = match fs::read_to_string(&target) {
                Ok(text) if target.extension().is_some_and(|extension| extension == "md") => {
                    anchor.is_empty() || anchors(&text).iter().any(|known| known == anchor)
                }
                _ => target.exists(),
            };
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_programs_and_examples_that_the_documents_show_exist() {
    let mut missing = Vec::new();
    for document in documents() {
        for line in shell_lines(&fs::read_to_string(&document).expect("readable")) {
            let words: Vec<_> = line.split_whitespace().collect();
            let scripts = words.iter().filter(|word| word.starts_with("./") && !word.contains("target/"));
            missing.extend(
                scripts.filter(|word| !repository().join(word).exists()).map(|word| format!("{line}: no {word}")),
            );
            for pair in words.windows(2).filter(|pair| pair[0] == "--example") {
                let file = repository().join("engine/examples").join(pair[1]);
                if !file.with_extension("rs").exists() && !file.join("main.rs").exists() {
                    missing.push(format!("{line}: no example {}", pair[1]));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_flags_that_the_documents_show_are_in_the_help() {
    let (_, help, _) = run_to_end("fanfare", &["--help"]);
    let mut unknown = Vec::new();
    for document in documents() {
        for line in shell_lines(&fs::read_to_string(&document).expect("readable")) {
            let Some(arguments) = server_arguments(&line) else { continue };
            for word in arguments.split_whitespace().filter(|word| word.starts_with("--")) {
                let flag = word.split('=').next().unwrap_or(word);
                if !help.contains(flag) {
                    unknown.push(format!("{}: {line}: no {flag}", document.display()));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn the_flags_of_loadgen_that_the_documents_show_are_in_the_help_of_the_command() {
    let mut unknown = Vec::new();
    for document in documents() {
        for line in shell_lines(&fs::read_to_string(&document).expect("readable")) {
            // What is in quotes is for others, and so is what stands behind a pipe.
            let outside = |text: &str, quote| text.split(quote).step_by(2).collect::<Vec<_>>().join(" ");
            let line = outside(&outside(&line, '\''), '"');
            let calls = line.split(['|', '#']).filter_map(|part| part.trim().split_once("loadgen "));
            for (path, call) in calls {
                let Some(call) = (if path.ends_with('/') { Some(call) } else { call.strip_prefix("-- ") }) else {
                    continue;
                };
                let command = call.split_whitespace().next().unwrap_or_default();
                let (_, help, _) = run_to_end("loadgen", &[command, "--help"]);
                let flags = call.split_whitespace().filter(|word| word.starts_with("--"));
                let missing =
                    flags.map(|word| word.split('=').next().unwrap_or(word)).filter(|flag| !help.contains(*flag));
                unknown.extend(missing.map(|flag| format!("{}: {line}: no {flag}", document.display())));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// What a shown command gives the server, if it starts the server.
fn server_arguments(line: &str) -> Option<&str> {
    let line = line.split(['|', '&', '>', '#']).next().unwrap_or(line);
    let first = line.split_whitespace().next()?;
    if first == "fanfare" || first.ends_with("/fanfare") {
        return line.split_once(' ').map(|(_, arguments)| arguments);
    }
    let is_server = line.starts_with("cargo run") && !line.contains("--example") && !line.contains("-p ");
    line.split_once(" -- ").map(|(_, arguments)| arguments).filter(|_| is_server)
}

#[test]
fn the_readme_names_the_test_command() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("there is a README.md");
    assert!(readme.contains("./tests/run"), "the README says how to test");
    assert!(shell_lines(&readme).iter().any(|line| line.starts_with("cargo run --release")), "and how to start");
}

/// A chapter of docs/BENCHMARKING.md, by its number.
fn chapter(number: u32) -> String {
    let text = fs::read_to_string(repository().join("docs/BENCHMARKING.md")).expect("there is a guide to loadgen");
    let begin = text.find(&format!("\n## {number}. ")).unwrap_or_else(|| panic!("there is a chapter {number}"));
    let chapter = &text[begin + 1..];
    chapter[..chapter.find("\n## ").unwrap_or(chapter.len())].to_owned()
}

/// Each of these words stands in the chapter as `word`, or begins a piece of code there.
#[track_caller]
fn assert_described(number: u32, words: impl IntoIterator<Item = String>) {
    let (chapter, words) = (chapter(number), words.into_iter().collect::<BTreeSet<_>>());
    assert!(!words.is_empty(), "there is something to describe in chapter {number}");
    let ends = ["`", " ", "[", "(", "="];
    let is_there = |word: &String| ends.iter().any(|end| chapter.contains(&format!("`{word}{end}")));
    let missing: Vec<_> = words.iter().filter(|word| !is_there(word)).collect();
    assert!(missing.is_empty(), "chapter {number} of docs/BENCHMARKING.md does not describe {missing:?}");
}

/// The names of all fields of a document. Of the fields `but`, what is in them is not looked at: it is described elsewhere, or its
/// names are data.
fn fields(value: &Value, but: &[&str], found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| fields(item, but, found)),
        Value::Object(members) => {
            for (name, inner) in members {
                found.insert(name.clone());
                if !but.contains(&name.as_str()) {
                    fields(inner, but, found);
                }
            }
        }
        _ => {}
    }
}

fn printed(args: &[&str]) -> String {
    let (_, stdout, stderr) = run_to_end("loadgen", args);
    stdout + &stderr
}

#[test]
fn every_command_of_loadgen_is_described() {
    let help = printed(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).expect("there are commands");
    let commands = commands.split("\n\n").next().expect("a first part").lines();
    let commands = commands.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    assert_described(2, commands.filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
}

#[test]
fn every_section_and_every_preset_of_a_scenario_is_described() {
    let scenario = printed(&["scenario"]);
    assert_described(3, scenario.lines().filter(|line| line.starts_with('[')).map(str::to_owned));
    let presets = scenario.split("# Presets:\n").nth(1).expect("there are presets");
    let presets = presets.lines().take_while(|line| line.starts_with('#'));
    let presets = presets.filter_map(|line| line.strip_prefix("#   ")).filter(|line| !line.starts_with(' '));
    assert_described(8, presets.filter_map(|line| line.split_whitespace().next()).map(str::to_owned));
}

#[test]
fn every_figure_is_described() {
    let said = printed(&["compare", "a", "b", "--figure", "none"]);
    let keys = said.split("there are ").nth(1).expect("all figures are named").trim().to_owned();
    assert_described(6, keys.split(", ").map(str::to_owned));
}

#[test]
fn every_field_that_loadgen_writes_is_described() {
    let server = Server::start();
    let pid = server.id().to_string();
    let load = ["--subscribers", "5", "--slow", "1", "--warmup", "100ms", "--duration", "500ms", "--quiet"];
    let more = ["--reconnect-storm", "200ms", "--ceiling", "--server-pid", &pid, "--json"];
    let made = Loadgen::run(&server.ws_url(""), &[load.as_slice(), &more].concat());

    let mut names = BTreeSet::new();
    fields(&made.report(), &["scenario", "sysctls", "notes", "failures", "closed"], &mut names);
    for name in ["until_back_ns", "coalesced_per_s", "rss_before_bytes", "lag_max_ns", "reordered", "server_command"] {
        assert!(names.contains(name), "{name} is in this report, so that it is looked for: {names:?}");
    }
    assert_described(14, names);

    let (mut names, summary) = (BTreeSet::new(), serde_json::from_str(&made.stdout).expect("the summary is JSON"));
    fields(&summary, &[], &mut names);
    let keys: Vec<String> = summary["figures"].as_object().expect("figures").keys().cloned().collect();
    assert_described(15, names.into_iter().filter(|name| !keys.contains(name)));

    let folder = made.folder();
    let folder = folder.to_str().expect("a path in UTF-8");
    let (mut names, text) = (BTreeSet::new(), printed(&["compare", folder, folder, "--json", "--fail-if", "lost>999"]));
    fields(&serde_json::from_str(&text).expect("the comparison is JSON"), &[], &mut names);
    assert!(names.contains("conditions") && names.contains("chance_alone"), "{names:?}");
    assert_described(16, names);
}
