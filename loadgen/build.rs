//! Tells the program the revision it is built from, where there is a repository and git; without them it just has none.

use std::path::Path;
use std::process::Command;

fn main() {
    for sources in ["build.rs", "src", "../engine/src"] {
        println!("cargo::rerun-if-changed={sources}");
    }
    // This file grows with every commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let revision = revision().map_or(String::new(), |revision| format!(" ({revision})"));
    println!("cargo::rustc-env=LOADGEN_VERSION={version}{revision}");
}

/// `a1b2c3d4e5f6`, or `a1b2c3d4e5f6-changed` if the sources are not those of the revision.
fn revision() -> Option<String> {
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "..", ":!../results", ":!../docs"]);
    let mark = if changed.is_none_or(|changed| changed.is_empty()) { "" } else { "-changed" };
    Some(format!("{revision}{mark}"))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
