//! Whatever a server does wrong is found, and counted exactly.

use std::time::Duration;

use fanfare_tests::faulty::{Faults, Faulty};
use fanfare_tests::loadgen::Loadgen;
use serde_json::Value;

use crate::{histogram, number};

const SUBSCRIBERS: u64 = 5;

/// What loadgen measured of a server with these faults.
fn measured(faults: Faults) -> Value {
    let server = Faulty::start(faults);
    let load = ["--subscribers", "5", "--rate", "300", "--warmup", "300ms", "--duration", "1s"];
    let more = ["--payload-bytes", "100", "--drain-timeout", "1s", "--quiet"];
    Loadgen::run(&server.url(), &[load.as_slice(), &more].concat()).measurement()
}

/// The counts of the subscribers, after the law that holds for all of them was checked.
struct Counts {
    published: u64,
    tally: Value,
}

impl Counts {
    #[track_caller]
    fn of(measurement: &Value) -> Self {
        let counts =
            Self { published: number(&measurement["tally"]["published"]), tally: measurement["tally"].clone() };
        assert!(counts.published >= 380, "1.3 s at 300 a second: {}", counts.published);
        assert_eq!(counts.subscribers("expected"), counts.published * SUBSCRIBERS);
        assert_eq!(counts.subscribers("expected"), counts.subscribers("received") + counts.subscribers("lost"));
        counts
    }

    #[track_caller]
    fn subscribers(&self, what: &str) -> u64 {
        number(&self.tally["roles"]["subscriber"][what])
    }

    /// How many of the counts that tell of a fault are not zero.
    fn found(&self) -> Vec<&'static str> {
        let roles = ["lost", "gaps", "duplicates", "reordered"].into_iter().filter(|what| self.subscribers(what) > 0);
        let messages = ["foreign", "corrupted"].into_iter().filter(|what| number(&self.tally[*what]) > 0);
        roles.chain(messages).collect()
    }
}

#[test]
fn a_server_without_fault_is_found_without_fault() {
    let measurement = measured(Faults::default());
    let counts = Counts::of(&measurement);
    assert_eq!(counts.found(), [""; 0], "{}", counts.tally);
    assert_eq!(counts.tally["closed"].as_object().expect("causes").len(), 0);
    assert_eq!(histogram(&measurement["corrected"]).len(), number(&measurement["published"]) * SUBSCRIBERS);
    assert_eq!(histogram(&measurement["completion"]).len(), number(&measurement["published"]));
}

#[test]
fn dropped_publications_are_gaps_and_losses() {
    let measurement = measured(Faults { drop_every: 10, ..Faults::default() });
    let counts = Counts::of(&measurement);
    assert_eq!(counts.subscribers("lost"), counts.published / 10 * SUBSCRIBERS);
    // Behind the last publication there is none that could show a gap.
    assert_eq!(counts.subscribers("gaps"), (counts.published - 1) / 10 * SUBSCRIBERS);
    assert_eq!(number(&counts.tally["incomplete"]), counts.published / 10);
    assert_eq!(counts.found(), ["lost", "gaps"]);
}

#[test]
fn doubled_publications_are_duplicates() {
    let counts = Counts::of(&measured(Faults { double_every: 7, ..Faults::default() }));
    assert_eq!(counts.subscribers("duplicates"), counts.published / 7 * SUBSCRIBERS);
    assert_eq!(counts.found(), ["duplicates"]);
}

#[test]
fn swapped_publications_are_reordered_and_not_lost() {
    let counts = Counts::of(&measured(Faults { swap_every: 9, ..Faults::default() }));
    assert_eq!(counts.subscribers("reordered"), (counts.published - 1) / 9 * SUBSCRIBERS);
    // The last one is held back for ever if it is one of those.
    let lost = if counts.published.is_multiple_of(9) { SUBSCRIBERS } else { 0 };
    assert_eq!(counts.subscribers("lost"), lost);
    assert_eq!(counts.subscribers("duplicates"), 0);
}

#[test]
fn changed_bytes_are_corruptions() {
    let counts = Counts::of(&measured(Faults { corrupt_every: 11, ..Faults::default() }));
    assert_eq!(number(&counts.tally["corrupted"]), counts.published / 11 * SUBSCRIBERS);
    assert_eq!(counts.subscribers("duplicates") + counts.subscribers("reordered"), 0);
}

#[test]
fn messages_of_others_are_foreign() {
    let counts = Counts::of(&measured(Faults { greets: true, ..Faults::default() }));
    assert_eq!(number(&counts.tally["foreign"]), SUBSCRIBERS);
    assert_eq!(counts.found(), ["foreign"]);
}

#[test]
fn a_delay_is_in_every_latency() {
    let measurement = measured(Faults { delay: Duration::from_millis(40), ..Faults::default() });
    let counts = Counts::of(&measurement);
    assert_eq!(counts.found(), [""; 0]);
    for which in ["corrected", "service", "completion"] {
        let (least, median) =
            (histogram(&measurement[which]).min(), histogram(&measurement[which]).value_at_quantile(0.5));
        assert!(least >= 39_900_000, "{which}: {least} ns, and nothing can be faster than 40 ms");
        assert!(median < 80_000_000, "{which}: {median} ns, and nothing but the delay is slow");
    }
}

#[test]
fn who_is_back_after_a_storm_and_receives_nothing_is_told() {
    let server = Faulty::start(Faults { serves_only: 8, ..Faults::default() });
    let load = ["--subscribers", "5", "--rate", "100", "--warmup", "100ms", "--duration", "800ms"];
    let storm = ["--reconnect-storm", "300ms", "--drain-timeout", "1s", "--quiet"];
    let loadgen = Loadgen::run(&server.url(), &[load.as_slice(), &storm].concat());
    let outcome = &loadgen.measurement()["storm"];
    assert_eq!((number(&outcome["back"]), number(&outcome["silent"])), (5, 2), "{outcome}");
    assert!(loadgen.stdout.contains("received nothing until the end"), "{}", loadgen.stdout);
}

#[test]
fn connections_that_the_server_closes_are_named_with_what_they_missed() {
    let counts = Counts::of(&measured(Faults { close_after: 100, ..Faults::default() }));
    assert_eq!(number(&counts.tally["closed"]["close 1011"]), SUBSCRIBERS, "{}", counts.tally);
    assert_eq!(counts.subscribers("lost"), (counts.published - 100) * SUBSCRIBERS);
}
