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
    if let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) {
        let changed = git(&["status", "--porcelain", "--untracked-files=no", "--", "..", ":!../results", ":!../docs"]);
        let mark = if changed.is_none_or(|changed| changed.is_empty()) { "" } else { "-changed" };
        println!("cargo::rustc-env=LOADGEN_REVISION={revision}{mark}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
