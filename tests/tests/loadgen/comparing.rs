//! Runs compared, servers loaded in turns, and the largest load searched: the whole way, with exit codes.

use fanfare_tests::Server;
use fanfare_tests::loadgen::Loadgen;
use fanfare_tests::program::{binary, run_to_end};
use serde_json::Value;

/// `loadgen ab` of two bare loops that send in these ways, with a load that goes as fast as they can.
fn ab(a: &str, b: &str, more: &[&str]) -> (Option<i32>, Value, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let bare = |sending: &str| format!("'{}' bare --sending {sending}", binary("loadgen").display());
    let (a, b) = (bare(a), bare(b));
    let args = ["ab", "--a", &a, "--b", &b, "--out", out.to_str().expect("UTF-8"), "--quiet", "--json"];
    let load = ["--subscribers", "20", "--in-flight", "32", "--pairs", "8", "--slice", "100ms", "--warmup", "100ms"];
    // Here it does not matter how busy machine and load generator are: what is compared differs by a factor.
    let bounds = ["--others-max", "100", "--cpu-share-max", "1", "--lag-max", "10s", "--figure", "deliveries"];
    let (status, stdout, stderr) = run_to_end("loadgen", &[args.as_slice(), &load, &bounds, more].concat());
    for file in ["a/report.json", "b/report.json", "comparison.json", "comparison.html", "a/report.html"] {
        assert!(out.join(file).is_file(), "{file} is missing: {stderr}");
    }
    (status.code(), serde_json::from_str(&stdout).unwrap_or_default(), stderr)
}

fn verdict(comparison: &Value) -> &str {
    comparison["figures"][0]["verdict"].as_str().unwrap_or("none")
}

#[test]
fn a_faster_server_is_found_better_in_turns() {
    let (code, comparison, stderr) = ab("each-message", "each-read", &[]);
    assert_eq!((code, verdict(&comparison)), (Some(0), "better"), "{stderr}");
}

#[test]
fn a_slower_server_ends_with_99() {
    let (code, comparison, stderr) = ab("each-read", "each-message", &["--fail-if", "deliveries<-10%"]);
    assert_eq!((code, verdict(&comparison)), (Some(99), "worse"), "{stderr}");
    assert!(stderr.contains("deliveries<-10%"), "{stderr}");
}

#[test]
fn a_server_that_does_not_start_is_told_with_its_last_words() {
    let (status, _, stderr) =
        run_to_end("loadgen", &["ab", "--a", "echo no luck; exit 7", "--b", "true", "--out", "/dev/null/x"]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let out = folder.path().join("result");
    let args = ["ab", "--a", "echo no luck; exit 7", "--b", "true", "--out", out.to_str().expect("UTF-8"), "--quiet"];
    let (status, _, stderr) = run_to_end("loadgen", &args);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("A: ") && stderr.contains("exit code 7") && stderr.contains("no luck"), "{stderr}");
}

#[test]
fn the_largest_load_that_keeps_an_objective_is_found() {
    let server = Server::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let search = |name: &str, slo: &str, to: &str| {
        let out = folder.path().join(name);
        let (url, out) = (server.ws_url(""), out.to_str().expect("UTF-8").to_owned());
        let args = ["search", "--url", &url, "--out", &out, "--slo", slo, "--vary", "connections", "--from", "4"];
        let short = [
            "--to",
            to,
            "--rate",
            "50",
            "--duration",
            "200ms",
            "--warmup",
            "0s",
            "--lag-max",
            "10s",
            "--quiet",
            "--json",
        ];
        let (status, stdout, stderr) = run_to_end("loadgen", &[args.as_slice(), &short].concat());
        (status.code(), serde_json::from_str::<Value>(&stdout).unwrap_or_default(), stderr)
    };
    let (code, found, stderr) = search("kept", "p99<100s", "10");
    assert_eq!((code, found["largest_kept"].as_f64()), (Some(0), Some(10.0)), "{stderr}");
    assert_eq!(found["probes"].as_array().map(Vec::len), Some(4), "4, 8, 10, and 10 again: {found}");
    let (code, found, stderr) = search("missed", "p99<1ns", "10");
    assert_eq!((code, found["smallest_missed"].as_f64()), (Some(1), Some(4.0)), "{stderr}");
    assert!(stderr.contains("Not even 4 subscribers"), "{stderr}");
    assert!(folder.path().join("kept/index.html").is_file());
}

#[test]
fn results_of_runs_are_compared_and_what_is_not_comparable_is_refused() {
    let server = Server::start();
    let run = |subscribers: &str| {
        let load = ["--subscribers", subscribers, "--rate", "100", "--repetitions", "2"];
        let short = ["--duration", "200ms", "--warmup", "0s", "--lag-max", "10s", "--quiet"];
        let loadgen = Loadgen::run(&server.ws_url(""), &[load.as_slice(), &short].concat());
        assert!(loadgen.status.success(), "{}", loadgen.stderr);
        loadgen
    };
    let (a, b, other) = (run("5"), run("5"), run("6"));
    let path = |loadgen: &Loadgen| loadgen.folder().to_str().expect("UTF-8").to_owned();
    let (status, stdout, stderr) = run_to_end("loadgen", &["compare", &path(&a), &path(&b), "--fail-if", "p50>+1000%"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stdout.contains("not enough repetitions"), "two a side prove nothing: {stdout}");
    let (status, _, stderr) = run_to_end("loadgen", &["compare", &path(&a), &path(&other)]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("connections.subscribers"), "{stderr}");
    let (status, _, stderr) = run_to_end("loadgen", &["compare", &path(&a), &path(&other), "--anyway"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let (status, stdout, stderr) =
        run_to_end("loadgen", &["report", a.folder().parent().and_then(|path| path.to_str()).expect("UTF-8")]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(stdout.contains("index.html"), "{stdout}");
}
