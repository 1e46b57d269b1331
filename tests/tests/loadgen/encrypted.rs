//! Over TLS and with permessage-deflate, against the engine: all arrives, and what was agreed on is counted.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use fanfare_tests::Server;
use fanfare_tests::loadgen::Loadgen;
use fanfare_tests::program::{binary, run_to_end};
use serde_json::Value;
use tempfile::TempDir;

use crate::number;

const SHORT: [&str; 7] = ["--warmup", "200ms", "--duration", "800ms", "--drain-timeout", "10s", "--quiet"];

/// A certificate for 127.0.0.1 in files.
struct Certificate(TempDir);

impl Certificate {
    fn make() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let files = Self(tempfile::tempdir().expect("a temporary folder"));
        fs::write(files.chain(), made.cert.pem()).expect("written");
        let mut private = fs::OpenOptions::new();
        let mut key = private.write(true).create_new(true).mode(0o600).open(files.key()).expect("a file");
        std::io::Write::write_all(&mut key, made.signing_key.serialize_pem().as_bytes()).expect("written");
        files
    }

    fn chain(&self) -> PathBuf {
        self.0.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.path().join("key.pem")
    }

    fn server(&self, more: &[&str]) -> Server {
        let (chain, key) = (self.chain(), self.key());
        let files = ["--tls-cert", text(&chain), "--tls-key", text(&key)];
        Server::with(&[files.as_slice(), more].concat())
    }

    /// What loadgen, which trusts it, measured of this server.
    #[track_caller]
    fn measured(&self, server: &Server, args: &[&str]) -> Value {
        let (url, chain) = (format!("wss://{}", server.addr()), self.chain());
        Loadgen::run(&url, &[SHORT.as_slice(), &["--tls-ca", text(&chain)], args].concat()).measurement()
    }
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[track_caller]
fn assert_whole(measurement: &Value) {
    let (tally, counts) = (&measurement["tally"], &measurement["tally"]["roles"]["subscriber"]);
    assert!(number(&counts["expected"]) > 0, "{tally}");
    assert_eq!(counts["expected"], counts["received"], "{tally}");
    assert_eq!(number(&tally["foreign"]) + number(&tally["corrupted"]) + number(&tally["refused"]), 0, "{tally}");
}

#[test]
fn every_way_of_speaking_arrives_whole_over_tls_publishing_by_https_too() {
    let certificate = Certificate::make();
    let server = certificate.server(&[]);
    for way in [
        ["--preset", "fanfare", "--publish-via", "web-socket"],
        ["--preset", "fanfare", "--publish-via", "http"],
        ["--preset", "fanfare-native", "--publish-via", "web-socket"],
        ["--preset", "fanfare-native", "--publish-via", "http"],
    ] {
        let load = ["--subscribers", "20", "--rate", "100"];
        assert_whole(&certificate.measured(&server, &[load.as_slice(), &way].concat()));
    }
    let untrusting = Loadgen::run(&format!("wss://{}", server.addr()), &["--quiet"]);
    assert!(!untrusting.status.success() && untrusting.stderr.contains("certificate"), "{}", untrusting.stderr);
}

#[test]
fn a_storm_over_tls_makes_whole_handshakes_unless_sessions_are_resumed() {
    let certificate = Certificate::make();
    let server = certificate.server(&[]);
    for resumes in [false, true] {
        let load = ["--subscribers", "50", "--rate", "100", "--reconnect-storm", "300ms"];
        let resumption = format!("--tls-resumption={resumes}");
        let measurement = certificate.measured(&server, &[load.as_slice(), &[&resumption]].concat());
        let storm = &measurement["storm"];
        assert_eq!((number(&storm["dropped"]), number(&storm["back"])), (50, 50), "{storm}");
        assert_eq!(number(&storm["resumed"]), if resumes { 50 } else { 0 }, "{storm}");
    }
}

#[test]
fn what_came_compressed_is_counted_as_it_came_and_inflated() {
    let certificate = Certificate::make();
    let json = ["--subscribers", "10", "--rate", "100", "--payload-bytes", "4KiB", "--filler", "json"];
    for preset in ["fanfare", "plain"] {
        let server = certificate.server(&["--deflate"]);
        let path = if preset == "plain" { "/topics/t" } else { "" };
        let (url, chain) = (format!("wss://{}{path}", server.addr()), certificate.chain());
        let more = ["--deflate", "--tls-ca", text(&chain), "--preset", preset, "--json"];
        let run = Loadgen::run(&url, &[SHORT.as_slice(), &json, &more].concat());
        let tally = &run.measurement()["tally"];
        let (messages, deflated) = (number(&tally["messages"]), number(&tally["deflated_messages"]));
        assert!(messages > 0 && messages == deflated, "{tally}");
        let (as_they_came, inflated) = (number(&tally["deflated_bytes"]), number(&tally["inflated_bytes"]));
        assert_eq!(inflated, deflated * 4096, "{tally}");
        assert!(as_they_came * 3 < inflated && number(&tally["wire_bytes"]) * 2 < inflated, "{tally}");
        let summary: Value = serde_json::from_str(&run.stdout).expect("a summary");
        let figure = |key: &str| summary["figures"][key]["median"].as_f64().expect("a figure");
        assert!(figure("compressed") == 1.0 && (3.0..5.0).contains(&figure("compression")), "{summary}");
        assert!(figure("wire-bytes") < 2000.0, "{summary}");
    }
}

#[test]
fn who_offers_deflate_and_gets_plain_messages_is_told() {
    for (args, said) in [
        ([].as_slice(), "permessage-deflate was offered, but agreed on with only 0 of 11 connections."),
        (&["--deflate", "--deflate-min-bytes=65536"], "permessage-deflate was agreed on, but of"),
    ] {
        let server = Server::with(args);
        let run = Loadgen::run(
            &server.ws_url(""),
            &[SHORT.as_slice(), &["--subscribers", "10", "--rate", "100", "--deflate"]].concat(),
        );
        assert!(run.stdout.contains(said), "{}", run.stdout);
        assert!(run.stdout.contains("all messages came uncompressed"), "{}", run.stdout);
    }
}

#[test]
fn in_turns_each_of_two_has_settings_of_its_own() {
    let certificate = Certificate::make();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (out, chain, key) = (folder.path().join("result"), certificate.chain(), certificate.key());
    let plain = format!("'{}' --listen 127.0.0.1:0 --deflate", binary("fanfare").display());
    let encrypted = format!("{plain} --tls-cert '{}' --tls-key '{}'", text(&chain), text(&key));
    let trust = format!("target.tls.ca={}", text(&chain));
    let two = ["ab", "--a", &plain, "--b", &encrypted, "--b-set", &trust, "--b-set", "target.deflate=true"];
    let load = ["--subscribers", "10", "--rate", "200", "--payload-bytes", "4KiB", "--filler", "json", "--quiet"];
    let short = ["--pairs", "2", "--slice", "100ms", "--warmup", "100ms", "--others-max", "100", "--out", text(&out)];
    let (status, _, stderr) = run_to_end("loadgen", &[two.as_slice(), &load, &short].concat());
    assert!(status.success(), "{stderr}");
    let compressed = |side: &str| {
        let report = fs::read_to_string(out.join(side).join("report.json")).expect("a report");
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let tally = &report["repetitions"][1]["measurement"]["tally"];
        (
            report["scenario"]["target"]["url"].to_string(),
            number(&tally["messages"]),
            number(&tally["deflated_messages"]),
        )
    };
    let ((a_url, a_messages, a_deflated), (b_url, b_messages, b_deflated)) = (compressed("a"), compressed("b"));
    assert!(a_url.starts_with("\"ws://") && b_url.starts_with("\"wss://"), "{a_url} {b_url}");
    assert!(a_messages > 0 && a_deflated == 0, "{a_messages} {a_deflated}");
    assert!(b_messages > 0 && b_deflated == b_messages, "{b_messages} {b_deflated}");
    let other = ["ab", "--a", "true", "--b", "true", "--b-set", "load.rate_per_s=7"];
    let (status, _, stderr) = run_to_end("loadgen", &other);
    assert!(status.code() == Some(2) && stderr.contains("only keys under target"), "{stderr}");
}
