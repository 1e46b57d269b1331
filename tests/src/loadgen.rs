//! One `loadgen`, from its arguments to its report.

use std::path::PathBuf;
use std::process::ExitStatus;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::run_to_end;

/// A `loadgen` that has ended.
pub struct Loadgen {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    folder: TempDir,
}

impl Loadgen {
    /// Runs `loadgen run` with these arguments (the URL of the target is the first) and a results folder of its own.
    #[must_use]
    pub fn run(url: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("result");
        let mut all = vec!["run", "--url", url, "--out", out.to_str().expect("a path in UTF-8")];
        all.extend(args);
        let (status, stdout, stderr) = run_to_end("loadgen", &all);
        Self { status, stdout, stderr, folder }
    }

    /// The results folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("result")
    }

    /// `report.json`.
    ///
    /// # Panics
    /// If it did not succeed, or left no report.
    #[must_use]
    #[track_caller]
    pub fn report(&self) -> Value {
        assert!(self.status.success(), "{:?}\n{}\n{}", self.status, self.stdout, self.stderr);
        let file = self.folder().join("report.json");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).expect("report.json is JSON")
    }

    /// What the only repetition measured.
    ///
    /// # Panics
    /// As [`Self::report`].
    #[must_use]
    #[track_caller]
    pub fn measurement(&self) -> Value {
        self.report()["repetitions"][0]["measurement"].clone()
    }
}
