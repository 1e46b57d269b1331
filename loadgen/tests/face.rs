//! The program as somebody calls it: what it says and how it exits when it is asked wrongly.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn loadgen(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen")).args(words).current_dir(folder).output().expect("the program is built")
}

/// Asserts that a call exits with 2, says all these parts on standard error, and leaves nothing behind.
fn refused(files: &[(&str, &str)], words: &[&str], parts: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let output = loadgen(folder.path(), words);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "{words:?}: {told}");
    assert!(parts.iter().all(|part| told.contains(part)), "{words:?}: {told}");
    assert!(!folder.path().join("results").exists(), "{words:?} leaves a folder of results");
    told
}

#[test]
fn a_wrong_scenario_is_one_sentence_and_exit_2_and_leaves_no_result() {
    let one_line = |files: &[(&str, &str)], words: &[&str], parts: &[&str]| {
        let told = refused(files, words, parts);
        assert!(told.starts_with("loadgen: ") && told.trim_end().lines().count() == 1, "{told}");
    };
    let file = [("s.toml", "[connections]\nsubscriber = 5\n")];
    one_line(&file, &["run", "s.toml"], &["s.toml, line 2", "did you mean 'subscribers'?"]);
    one_line(&[], &["run", "none.toml"], &["none.toml", "cannot be read"]);
    one_line(&[], &["run"], &["target.url (--url) is missing"]);
    one_line(&[], &["run", "--url=ws://127.0.0.1:1", "--rate=0"], &["load.rate_per_s (--rate) = 0"]);
    let bound = ["run", "--url=ws://127.0.0.1:1", "--topics=8", "--publishers=4"];
    one_line(&[], &bound, &["connections.publishers is 4", "at least 8 publishers"]);
    one_line(&[], &["run", "--url=http://127.0.0.1:1"], &["target.url (--url)", "ws://HOST:PORT"]);
    one_line(&[], &["run", "--url=ws://127.0.0.1:1", "--set", "colour=5"], &["--set colour=5", "no key 'colour'"]);
}

#[test]
fn a_wrong_flag_is_exit_2_too() {
    refused(&[], &["run", "--steps", "100"], &["--steps", "RATE:DURATION"]);
    refused(&[], &["run", "--sub", "5"], &["--sub"]);
    refused(&[], &["dance"], &["dance"]);
}

#[test]
fn the_printed_scenario_is_read_by_run() {
    let folder = tempfile::tempdir().unwrap();
    let printed = loadgen(folder.path(), &["scenario"]);
    assert!(printed.status.success());
    std::fs::write(folder.path().join("printed.toml"), printed.stdout).unwrap();
    let output = loadgen(folder.path(), &["run", "printed.toml"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("target.url (--url) is missing"), "{told}");
}

#[test]
fn whoever_reads_only_the_beginning_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_loadgen")).arg("scenario").stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_report_whose_reader_has_gone_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let url = "--url=ws://127.0.0.1:1";
    assert_eq!(loadgen(folder.path(), &["run", url, "-q", "--out=one"]).status.code(), Some(1));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command.args(["report", "one"]).current_dir(folder.path()).stdout(writer).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_ceiling_that_cannot_be_measured_leaves_a_result_that_says_why() {
    let folder = tempfile::tempdir().unwrap();
    // The scenario's addresses are the ceiling's too.
    let words = ["run", "--url=ws://127.0.0.1:1", "-q", "--ceiling", "--out=one", "--bind=192.0.2.1"];
    assert_eq!(loadgen(folder.path(), &words).status.code(), Some(1));
    let report = std::fs::read_to_string(folder.path().join("one/report.json")).unwrap();
    assert!(!report.contains("\"ended_early\":null") && report.contains("192.0.2.1 is no address"), "{report}");
    assert!(folder.path().join("one/report.html").exists());
}
