//! The documents: what they link to is there, and the commands they show exist.

use std::fs;
use std::path::{Path, PathBuf};

use fanfare_tests::program::run_to_end;
use fanfare_tests::repository;

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
