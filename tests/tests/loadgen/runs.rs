//! Runs against the engine: everything expected is received, in every shape of load, role and way of speaking.

use fanfare_tests::Server;
use fanfare_tests::loadgen::Loadgen;
use serde_json::Value;

use crate::{histogram, number};

const SHORT: [&str; 7] = ["--warmup", "200ms", "--duration", "800ms", "--drain-timeout", "10s", "--quiet"];

/// What loadgen measured of a fresh engine.
#[track_caller]
fn measured(args: &[&str]) -> Value {
    let server = Server::start();
    Loadgen::run(&server.ws_url(""), &[SHORT.as_slice(), args].concat()).measurement()
}

/// All that `role` was to receive it has received, once and in order, and that is not nothing.
#[track_caller]
fn assert_whole(measurement: &Value, role: &str) {
    let counts = &measurement["tally"]["roles"][role];
    assert!(number(&counts["expected"]) > 0, "{}", measurement["tally"]);
    assert_eq!(counts["expected"], counts["received"], "{}", measurement["tally"]);
    for what in ["lost", "gaps", "duplicates", "reordered"] {
        assert_eq!(number(&counts[what]), 0, "{what}: {}", measurement["tally"]);
    }
    assert_eq!(number(&measurement["tally"]["foreign"]) + number(&measurement["tally"]["corrupted"]), 0);
}

#[test]
fn every_shape_of_load_arrives_whole() {
    for shape in [
        ["--rate", "200"].as_slice(),
        &["--rate", "200", "--poisson"],
        &["--steps", "100:400ms,300:400ms"],
        &["--ramp", "50..400"],
        &["--burst", "20/100ms"],
        &["--in-flight", "8"],
    ] {
        let measurement = measured(&[["--subscribers", "50"].as_slice(), shape].concat());
        assert_whole(&measurement, "subscriber");
        let published = number(&measurement["published"]);
        assert_eq!(histogram(&measurement["corrected"]).len(), published * 50, "{shape:?}");
        assert_eq!(histogram(&measurement["completion"]).len(), published, "{shape:?}");
        assert_eq!(histogram(&measurement["subscriber_medians"]).len(), 50, "{shape:?}");
    }
}

#[test]
fn a_constant_rate_publishes_just_as_many() {
    let measurement = measured(&["--subscribers", "3", "--rate", "250"]);
    assert_eq!(number(&measurement["published"]), 200, "0.8 s at 250 a second");
    assert_eq!(number(&measurement["tally"]["published"]), 250, "with 0.2 s of warm-up");
}

#[test]
fn every_way_of_speaking_arrives_whole() {
    for way in [
        ["--preset", "fanfare", "--publish-via", "web-socket"],
        ["--preset", "fanfare", "--publish-via", "http"],
        ["--preset", "fanfare-native", "--publish-via", "web-socket"],
        ["--preset", "fanfare-native", "--publish-via", "http"],
    ] {
        assert_whole(&measured(&[["--subscribers", "20", "--rate", "100"].as_slice(), &way].concat()), "subscriber");
    }
}

#[test]
fn many_topics_and_publishers_arrive_whole() {
    let crowd = ["--preset", "fanfare-native", "--topics", "40", "--publishers", "4", "--subscribers", "200"];
    for skew in [[].as_slice(), &["--zipf=1.1"]] {
        let measurement = measured(&[crowd.as_slice(), &["--rate", "400"], skew].concat());
        assert_whole(&measurement, "subscriber");
    }
}

#[test]
fn threads_and_processes_see_together_what_one_sees_alone() {
    let load = ["--subscribers", "60", "--rate", "200"];
    for together in [["--threads", "3"], ["--processes", "2"]] {
        let measurement = measured(&[load.as_slice(), &together].concat());
        assert_whole(&measurement, "subscriber");
        assert_eq!(histogram(&measurement["completion"]).len(), number(&measurement["published"]), "{together:?}");
        assert_eq!(measurement["workers"].as_array().map(Vec::len), together[1].parse().ok(), "{together:?}");
    }
    let closed = measured(&["--subscribers", "60", "--in-flight", "4", "--processes", "2"]);
    assert_whole(&closed, "subscriber");
}

#[test]
fn roles_are_kept_apart() {
    let roles = ["--idle", "10", "--slow", "5", "--stalled", "3", "--churning", "5"];
    let measurement = measured(&[["--subscribers", "30", "--rate", "200"].as_slice(), &roles].concat());
    assert_whole(&measurement, "subscriber");
    let tally = &measurement["tally"]["roles"];
    assert_eq!(number(&tally["stalled"]["received"]), 0);
    assert!(number(&tally["stalled"]["expected"]) > 0 && number(&tally["slow"]["expected"]) > 0, "{tally}");
    let churning = &tally["churning"];
    assert_eq!(number(&churning["expected"]), number(&churning["received"]) + number(&churning["lost"]), "{tally}");
}

#[test]
fn after_a_storm_everybody_is_back() {
    let storm = ["--subscribers", "100", "--rate", "100", "--reconnect-storm", "300ms"];
    let measurement = measured(&storm);
    let outcome = &measurement["storm"];
    assert_eq!((number(&outcome["dropped"]), number(&outcome["back"])), (100, 100), "{outcome}");
    assert_eq!(histogram(&outcome["handshake"]).len(), 100);
    let counts = &measurement["tally"]["roles"]["subscriber"];
    assert_eq!(number(&counts["expected"]), number(&counts["received"]) + number(&counts["lost"]), "{counts}");
    assert_eq!(number(&counts["lost"]), 0, "those who were away were not owed anything");
}

#[test]
fn the_servers_cpu_time_and_memory_are_measured() {
    let server = Server::start();
    let pid = server.id().to_string();
    let args = ["--subscribers", "50", "--rate", "200", "--server-pid", &pid];
    let report = Loadgen::run(&server.ws_url(""), &[SHORT.as_slice(), &args].concat()).report();
    let usage = &report["repetitions"][0]["server"];
    let per_delivery_ns = usage["cpu_per_delivery_ns"].as_f64().expect("a number");
    // From a bare system call to a tenth of a second: whatever the machine, less or more is a mistake of the unit.
    assert!((100.0..100_000_000.0).contains(&per_delivery_ns), "{usage}");
    assert!(number(&usage["rss_bytes"]) > 1_000_000, "{usage}");
}
