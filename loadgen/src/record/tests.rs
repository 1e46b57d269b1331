//! Properties of what is kept: nothing is lost on the way to the file and back, and what is no result is refused in words.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use time::macros::datetime;

use super::sample::Sample;
use super::*;
use crate::failure::Failure;
use crate::measure::Measurement;
use crate::record::folder::REPORT_FILE;
use crate::record::recorder::{LOG_FILE, Recorder};
use crate::record::words::Verdict;

const NOW: time::OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

fn small() -> Sample {
    Sample { repetitions: 2, seconds: 4, subscribers: 50, rate: 20, ..Sample::default() }
}

fn read_text(folder: &Path, text: &[u8]) -> Result<Report, Failure> {
    fs::write(folder.join(REPORT_FILE), text).unwrap();
    read::read(folder)
}

#[test]
fn a_report_is_the_same_after_writing_and_reading() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = small().report();
    report.repetitions[0].measurement.storm = Some(small().storm());
    report.repetitions[1].void.push("A reason.".into());
    let text = serde_json::to_vec(&report).unwrap();
    assert!(read_text(folder.path(), &text).unwrap() == report);
    assert!(read::read(&folder.path().join(REPORT_FILE)).unwrap() == report);
}

#[test]
fn the_recorder_keeps_the_whole_report() {
    let folder = tempfile::tempdir().unwrap();
    let report = small().report();
    let head = Report { repetitions: Vec::new(), ..report.clone() };
    let mut recorder = Recorder::begin(folder.path(), head, NOW).unwrap();
    for repetition in &report.repetitions {
        let begun = Repetition { intervals: Vec::new(), measurement: Default::default(), ..repetition.clone() };
        recorder.begin_repetition(begun).unwrap();
        repetition.intervals.iter().for_each(|interval| recorder.interval(interval).unwrap());
        recorder.end_repetition(repetition.clone()).unwrap();
    }
    let (kept, outcome) = recorder.end(None);
    assert_eq!(outcome, Ok(()));
    assert!(kept == report);
    assert!(read::read(folder.path()).unwrap() == report);
    for name in ["corrected", "service", "completion"] {
        for prefix in ["", "repetition-1.", "repetition-2."] {
            assert!(folder.path().join(format!("{prefix}{name}.hgrm")).is_file(), "{prefix}{name}.hgrm");
        }
    }
    assert!(!folder.path().join("report.json.part").exists());
}

#[test]
fn a_killed_run_keeps_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let report = small().report();
    let head = Report { repetitions: Vec::new(), ..report.clone() };
    let mut recorder = Recorder::begin(folder.path(), head, NOW).unwrap();
    assert!(!read::read(folder.path()).unwrap().complete);
    let [first, second] = report.repetitions.as_slice() else { panic!("two repetitions") };
    recorder.begin_repetition(first.clone()).unwrap();
    recorder.end_repetition(first.clone()).unwrap();
    recorder.begin_repetition(second.clone()).unwrap();
    recorder.write_at_every_interval();
    second.intervals[..3].iter().for_each(|interval| recorder.interval(interval).unwrap());
    drop(recorder);

    let read = read::read(folder.path()).unwrap();
    assert!(!read.complete && read.ended_early.is_none());
    assert!(read.repetitions[0] == *first);
    assert!(!read.repetitions[1].complete);
    assert!(read.repetitions[1].intervals == second.intervals[..3]);
    assert_eq!(words::of(&read).verdict, Verdict::Incomplete);
    let log = fs::read(folder.path().join(LOG_FILE)).unwrap();
    let log = hdrhistogram::serialization::interval_log::IntervalLogIterator::new(&log);
    let intervals = log.filter(|entry| {
        matches!(entry.as_ref().unwrap(), hdrhistogram::serialization::interval_log::LogEntry::Interval(_))
    });
    assert_eq!(intervals.count(), 3);
}

#[test]
fn the_intervals_of_a_killed_repetition_become_its_figures() {
    let folder = tempfile::tempdir().unwrap();
    let report = small().report();
    let first = &report.repetitions[0];
    let head = Report { repetitions: Vec::new(), ..report.clone() };
    let mut recorder = Recorder::begin(folder.path(), head, NOW).unwrap();
    recorder.begin_repetition(Repetition { measurement: Measurement::default(), ..first.clone() }).unwrap();
    recorder.write_at_every_interval();
    let written = &first.intervals[..4];
    written.iter().for_each(|interval| recorder.interval(interval).unwrap());
    drop(recorder);

    let measured = &read::read(folder.path()).unwrap().repetitions[0].measurement;
    let counted: Vec<_> = written.iter().filter(|interval| interval.begin_ns >= 0).collect();
    assert!(!counted.is_empty() && counted.len() < written.len(), "some are of the warm-up");
    assert_eq!(measured.received, counted.iter().map(|interval| interval.received).sum::<u64>());
    assert_eq!(measured.window_ns, counted.iter().map(|interval| interval.length_ns).sum::<u64>());
    assert_eq!(measured.corrected.len(), counted.iter().map(|interval| interval.corrected.len()).sum::<u64>());
}

#[test]
fn intervals_are_written_before_the_repetition_ends_but_not_each() {
    let folder = tempfile::tempdir().unwrap();
    let report = small().report();
    let mut recorder = Recorder::begin(folder.path(), report.clone(), NOW).unwrap();
    recorder.begin_repetition(report.repetitions[0].clone()).unwrap();
    let intervals = |folder: &Path| read::read(folder).unwrap().repetitions.last().unwrap().intervals.len();
    recorder.interval(&report.repetitions[0].intervals[0]).unwrap();
    assert_eq!(intervals(folder.path()), 0);
    recorder.write_at_every_interval();
    recorder.interval(&report.repetitions[0].intervals[1]).unwrap();
    assert_eq!(intervals(folder.path()), 2);
}

#[test]
fn the_first_write_error_is_kept_and_told_and_the_report_stays() {
    let folder = tempfile::tempdir().unwrap();
    let report = small().report();
    let mut recorder =
        Recorder::begin(folder.path(), Report { repetitions: Vec::new(), ..report.clone() }, NOW).unwrap();
    // A folder of that name is in the way of the file, as a full disk would be.
    fs::create_dir(folder.path().join("repetition-1.service.hgrm")).unwrap();
    let failure = recorder.end_repetition(report.repetitions[0].clone()).unwrap_err();
    assert_eq!(failure.exit_code(), 1);
    assert!(failure.to_string().contains("repetition-1.service.hgrm cannot be written"), "{failure}");
    let later = recorder.end_repetition(report.repetitions[1].clone()).unwrap_err();
    assert_eq!(later, failure);
    let (kept, outcome) = recorder.end(None);
    assert_eq!(outcome, Err(failure));
    assert!(kept.repetitions == report.repetitions);
    assert!(read::read(folder.path()).unwrap().repetitions == report.repetitions);
}

#[test]
fn a_full_disk_is_told_with_the_file_and_the_systems_reason() {
    let folder = tempfile::tempdir().unwrap();
    // /dev/full takes nothing, like a disk without room. What is removed afterwards is the link.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("report.json.part")).unwrap();
    let failure = Recorder::begin(folder.path(), small().report(), NOW).unwrap_err();
    let words = failure.to_string();
    assert!(words.contains("report.json cannot be written: No space left on device"), "{words}");
    assert_eq!(failure.exit_code(), 1);
}

#[test]
fn a_run_that_ended_early_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let report = small().report();
    let mut recorder =
        Recorder::begin(folder.path(), Report { repetitions: Vec::new(), ..report.clone() }, NOW).unwrap();
    recorder.begin_repetition(report.repetitions[0].clone()).unwrap();
    recorder.interval(&report.repetitions[0].intervals[0]).unwrap();
    let (kept, outcome) = recorder.end(Some("interrupted".into()));
    assert_eq!(outcome, Ok(()));
    let read = read::read(folder.path()).unwrap();
    assert!(read == kept);
    assert_eq!((read.complete, read.ended_early.as_deref()), (false, Some("interrupted")));
    assert_eq!(read.repetitions[0].intervals.len(), 1);
}

#[test]
fn a_file_cut_anywhere_is_refused_and_says_where() {
    let text = serde_json::to_vec(&Sample { seconds: 1, repetitions: 1, subscribers: 3, ..small() }.report()).unwrap();
    assert_eq!(read::parse(&[]).unwrap_err(), "is empty");
    for cut in 1..text.len() {
        let reason = read::parse(&text[..cut]).unwrap_err();
        assert_eq!(reason, format!("is cut off: it ends at byte {cut}, in the middle of its JSON"));
    }
    let folder = tempfile::tempdir().unwrap();
    let failure = read_text(folder.path(), &text[..text.len() / 2]).unwrap_err();
    assert_eq!(failure.exit_code(), 1);
    assert!(failure.to_string().contains("report.json is cut off"), "{failure}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_in_words(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let refused = read::parse(&bytes).unwrap_err();
        prop_assert!(!refused.is_empty() && !refused.contains('\n'));
    }
}

#[test]
fn what_is_no_result_of_this_version_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("", "is empty"),
        ("hello", "is no JSON: expected value at byte 1"),
        ("{\"format\": \"x\"\n, version}", "is no JSON: key must be a string at byte 18"),
        ("[]", "does not hold what a result holds"),
        ("{}", "it has no format"),
        (r#"{"format":"other","version":1}"#, "its format is 'other', not 'fanfare-loadgen-report'"),
        (r#"{"format":"fanfare-loadgen-report"}"#, "does not say of which version"),
        (
            r#"{"format":"fanfare-loadgen-report","version":2}"#,
            "is of version 2 of its format; this loadgen reads version 1",
        ),
        (r#"{"format":"fanfare-loadgen-report","version":1}"#, "missing field `created`"),
    ];
    for (text, says) in cases {
        let failure = read_text(folder.path(), text.as_bytes()).unwrap_err();
        assert_eq!(failure.exit_code(), 1, "{text}");
        assert!(failure.to_string().contains(says), "{text}: {failure}");
        assert!(failure.to_string().contains("report.json"), "{failure}");
    }
}

#[test]
fn a_result_that_is_not_there_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let empty = read::read(folder.path()).unwrap_err();
    assert!(empty.to_string().contains("there is no report.json in it"), "{empty}");
    let nothing = read::read(&folder.path().join("none")).unwrap_err();
    assert!(nothing.to_string().ends_with("none is not there"), "{nothing}");
    assert_eq!((empty.exit_code(), nothing.exit_code()), (2, 2));
}

#[test]
fn all_results_under_a_folder_are_found() {
    let root = tempfile::tempdir().unwrap();
    for name in ["b", "a/one", "a/two", "c/without"] {
        fs::create_dir_all(root.path().join(name)).unwrap();
        if !name.ends_with("without") {
            fs::write(root.path().join(name).join(REPORT_FILE), "{}").unwrap();
        }
    }
    let found = read::list(root.path()).unwrap();
    let names: Vec<_> = found.iter().map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a/one", "a/two", "b"]);
}

#[test]
fn words_say_what_arrived_and_why_it_is_void() {
    let mut report = small().report();
    let words = words::of(&report);
    assert_eq!(words.verdict, Verdict::Valid);
    assert_eq!(
        words.sentences[0],
        "50 subscribers got all 12,000 deliveries in 2 repetitions; none came twice, out of order or corrupted."
    );
    report.repetitions[0].measurement.tally.roles.get_mut("subscriber").unwrap().lost = 2;
    report.repetitions[0].measurement.tally.roles.get_mut("subscriber").unwrap().received -= 2;
    report.repetitions[1].void.push("The load generator used 95% of a core.".into());
    let words = words::of(&report);
    assert_eq!(words.verdict, Verdict::Void);
    assert_eq!(words.sentences[0], "50 subscribers got 5,998 of 6,000 deliveries; 2 were lost.");
    assert_eq!(words.reasons, ["Repetition 2: The load generator used 95% of a core."]);
    assert!(words.headline.starts_with("1 of 2 repetitions are void"), "{}", words.headline);
}

#[test]
fn what_is_said_of_several_repetitions_is_said_once_and_void_and_warnings_keep_apart() {
    let mut report = Sample { repetitions: 4, ..small() }.report();
    for (n, repetition) in report.repetitions.iter_mut().enumerate() {
        repetition.warnings = vec![format!("99% were sent within {}.9 {} only.", n + 1, ["µs", "ms"][n % 2])];
    }
    report.repetitions[1].void.push("Worker 1 used 95% of a core.".into());
    report.repetitions[2].void.push("Worker 2 used 95% of a core.".into());
    report.repetitions[3].void.push("Worker 1 used 91.2% of a core.".into());
    report.repetitions[3].complete = false;
    assert_eq!(
        words::of(&report).reasons,
        [
            "Repetition 1, similarly in 2, 3 and 4: 99% were sent within 1.9 µs only.",
            "Repetition 2, similarly in 4: Worker 1 used 95% of a core.",
            "Repetition 3: Worker 2 used 95% of a core.",
            "Repetition 4: It is not complete.",
        ]
    );
}

#[test]
fn a_closed_loop_makes_no_promise_that_nothing_was_hidden() {
    let mut report = small().report();
    report.scenario.load.kind = crate::scenario::LoadKind::Closed;
    report.scenario.load.in_flight = 8;
    let told = words::of(&report).sentences.join("\n");
    assert!(told.contains("The loop is closed, with at most 8 publications"), "{told}");
    assert!(!told.contains("hidden") && !told.contains("intended time; "), "{told}");
}

#[test]
fn the_slowest_of_all_is_told_beside_the_median_of_the_repetitions() {
    let report = small().report();
    let slowest = report.repetitions.iter().map(|repetition| repetition.measurement.corrected.max_ns()).max();
    let slowest = figures::Unit::Nanoseconds.format(slowest.unwrap() as f64);
    let told = words::of(&report).sentences.join("\n");
    assert!(told.contains(&format!("the slowest of all took {slowest}")), "{told}");
}

#[test]
fn a_wait_before_the_send_is_told() {
    let stalled = Sample { stall: true, ..small() }.report();
    let told = words::of(&stalled).sentences.iter().any(|sentence| sentence.contains("coordinated omission"));
    let calm = words::of(&small().report()).sentences.iter().any(|sentence| sentence.contains("coordinated omission"));
    assert_eq!((told, calm), (true, false));
}

#[test]
fn every_figure_of_a_whole_report_has_a_value_and_none_of_an_empty_one_is_a_guess() {
    let mut report = small().report();
    let tally = &mut report.repetitions[0].measurement.tally;
    (tally.deflated_messages, tally.deflated_bytes, tally.inflated_bytes) = (10, 100, 300);
    let empty = Repetition {
        begun: String::new(),
        complete: false,
        void: Vec::new(),
        warnings: Vec::new(),
        connecting: Default::default(),
        measurement: Default::default(),
        intervals: Vec::new(),
        server: None,
    };
    for figure in figures::FIGURES {
        assert!(figure.value(&report.repetitions[0]).is_some(), "{}", figure.key);
        assert_eq!(figure.value(&empty), None, "{}", figure.key);
    }
}
