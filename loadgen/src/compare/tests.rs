//! The way from stored results to verdicts, sentences and exit codes, over reports made up from seeds.

use std::path::PathBuf;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use crate::compare::comparison::weight;
use crate::compare::fail_if::{Condition, Met};
use crate::compare::outcome::{Remark, Weight};
use crate::compare::set::{column, values};
use crate::compare::{Comparison, Options, Set, Settings, Source, Verdict, comparable, compare, family, table};
use crate::measure::Latencies;
use crate::record::Report;
use crate::record::figures::{FIGURES, find};
use crate::record::sample::Sample;
use crate::units::Size;

/// A made-up result: 20,000 latencies a repetition, of which p99 moves by 3 % from one repetition to the next.
fn sample(seed: u64, repetitions: u32, factor: f64) -> Report {
    let sample = Sample { seed, repetitions, factor, seconds: 2, subscribers: 100, rate: 50, ..Sample::default() };
    let mut report = sample.report();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    for repetition in &mut report.repetitions {
        // Of 20,000 such latencies p99 is known to 1.3 %; with a drift of 2.7 % that makes 3 %.
        let drift: f64 = LogNormal::new(0.0, 0.027).unwrap().sample(&mut rng);
        let latency = LogNormal::new((1e6 * factor * drift).ln(), 0.5).unwrap();
        let (mut corrected, mut service) = (Latencies::default(), Latencies::default());
        for _ in 0..20_000 {
            let ns: f64 = latency.sample(&mut rng);
            corrected.record(ns as u64 + 10_000);
            service.record(ns as u64);
        }
        (repetition.measurement.corrected, repetition.measurement.service) = (corrected, service);
    }
    report
}

fn side(name: &'static str, reports: Vec<Report>) -> Set {
    let sources = reports.into_iter().enumerate();
    let sources = sources.map(|(n, report)| Source { path: PathBuf::from(format!("{name}{n}")), report }).collect();
    Set::new(name, sources).expect("results that are not the same")
}

fn both(a: Report, b: Report) -> (Set, Set) {
    (side("A", vec![a]), side("B", vec![b]))
}

fn quick() -> Options {
    Options { settings: Settings { resamples: 300, deals: 300, ..Settings::default() }, ..Options::default() }
}

fn compared(a: Report, b: Report) -> Comparison {
    let (a, b) = both(a, b);
    compare(&a, &b, &quick())
}

/// A tail that is slower by 5 %, with the figures that are made from the same deliveries.
fn slow_the_tail(report: &mut Report) {
    let slowed = |latencies: &Latencies| {
        let from = latencies.quantile_ns(0.95);
        let mut slowed = Latencies::default();
        for value in latencies.histogram().iter_recorded() {
            let ns = value.value_iterated_to();
            slowed.record_n(if ns > from { ns + ns / 20 } else { ns }, value.count_at_value());
        }
        slowed
    };
    for repetition in &mut report.repetitions {
        repetition.measurement.corrected = slowed(&repetition.measurement.corrected);
        repetition.measurement.service = slowed(&repetition.measurement.service);
    }
}

#[test]
fn memory_of_a_server_that_has_served_before_is_told() {
    let (a, mut b) = (sample(1, 5, 1.0), sample(2, 5, 1.0));
    let told = |comparison: &Comparison| comparison.notes.iter().any(|note| note.contains("has served before"));
    assert!(!told(&compared(a.clone(), b.clone())));
    for server in b.repetitions.iter_mut().filter_map(|repetition| repetition.server.as_mut()) {
        server.rss_before_bytes += (server.rss_bytes - server.rss_before_bytes) * 9 / 10;
    }
    let comparison = compared(a, b);
    assert!(comparison.row("server-rss").unwrap().verdict().is_difference());
    assert!(told(&comparison), "{:?}", comparison.notes);
}

#[test]
fn what_is_said_of_the_distribution_never_contradicts_the_table() {
    for n in 0..12_u64 {
        let mut slower = sample(500 + n, 5, [1.0, 1.04, 1.08][n as usize % 3]);
        if n % 2 == 0 {
            slow_the_tail(&mut slower);
        }
        let comparison = compared(sample(900 + n, 5, 1.0), slower);
        let shape = comparison.shape.as_ref().expect("there are latencies");
        for (key, percentile) in [("p50", 50.0), ("p90", 90.0), ("p99", 99.0)] {
            let row = comparison.row(key).expect("a figure of both sides");
            let point = shape.points.iter().find(|point| point.percentile == percentile).expect("a quantile");
            let may_differ = row.outcome.remark == Some(Remark::AloneOnly);
            assert!(point.differs == row.verdict().is_difference() || may_differ, "{n}: {key}: {row:?} {point:?}");
            assert!(!may_differ || !point.differs || point.ratio.excludes(1.0), "{n}: {point:?}");
        }
    }
}

#[test]
fn alike_results_are_called_different_in_at_most_5_percent() {
    let alarms = (0..80).filter(|n| {
        let repetitions = [4, 5, 6, 8][n % 4];
        let seed = 10_000 + 2 * *n as u64;
        let comparison = compared(sample(seed, repetitions, 1.0), sample(seed + 1, repetitions, 1.0));
        assert!(comparison.rows.len() > 15, "figures of results are compared");
        comparison.rows.iter().any(|row| row.verdict().is_difference())
    });
    let alarms = alarms.count();
    assert!(alarms <= 4, "{alarms} of 80");
}

#[test]
fn a_tail_5_percent_slower_is_found_in_results_of_10_repetitions() {
    let found = (0..25).filter(|n| {
        let (a, mut b) = (sample(20_000 + 2 * n, 10, 1.0), sample(20_001 + 2 * n, 10, 1.0));
        slow_the_tail(&mut b);
        compared(a, b).row("p99").is_some_and(|row| row.verdict() == Verdict::Worse)
    });
    let found = found.count();
    assert!(found >= 20, "{found} of 25");
}

#[test]
fn a_slower_server_is_worse_and_the_other_way_round_better() {
    let verdicts = |comparison: &Comparison, keys: [&str; 3]| keys.map(|key| comparison.row(key).unwrap().verdict());
    let latencies = ["p50", "p99", "completion-p99"];
    let worse = compared(sample(1, 5, 1.0), sample(2, 5, 1.3));
    assert_eq!(verdicts(&worse, latencies), [Verdict::Worse; 3]);
    assert!(worse.headline().starts_with("B is worse in p50"), "{}", worse.headline());
    assert!(worse.shape_sentence().contains("slower"), "{}", worse.shape_sentence());
    let better = compared(sample(1, 5, 1.3), sample(2, 5, 1.0));
    assert_eq!(verdicts(&better, latencies), [Verdict::Better; 3]);
    assert!(better.headline().ends_with("worse in nothing."), "{}", better.headline());
    let deliveries = better.row("deliveries").unwrap();
    assert_eq!((deliveries.verdict(), deliveries.outcome.remark), (Verdict::NoDifference, None));
}

#[test]
fn rows_never_contradict_themselves() {
    for n in 0..40 {
        let comparison =
            compared(sample(3 * n, 4 + n as u32 % 4, 1.0), sample(3 * n + 1, 5, 1.0 + 0.02 * (n % 5) as f64));
        for row in &comparison.rows {
            let Some(ratio) = row.outcome.ratio else { continue };
            let verdict = row.verdict();
            if verdict.is_difference() {
                assert!(ratio.excludes(1.0) && row.outcome.chance.unwrap() <= 0.05, "{:?}", row.outcome);
                assert_eq!(
                    ratio.value > 1.0,
                    (verdict == Verdict::Worse) == (row.figure.key != "deliveries" && row.figure.key != "connects"),
                    "{}",
                    row.figure.key
                );
            }
            if !ratio.excludes(1.0) {
                assert_eq!((verdict, row.outcome.remark), (Verdict::NoDifference, None));
            }
        }
    }
}

#[test]
fn three_repetitions_are_not_enough_and_say_so() {
    let comparison = compared(sample(1, 3, 1.0), sample(2, 10, 2.0));
    assert!(comparison.rows.iter().all(|row| row.verdict() == Verdict::NotEnough && row.outcome.chance.is_none()));
    assert!(comparison.headline().contains("not enough repetitions"));
    assert!(comparison.notes[0].starts_with("A has 3 and B has 10 usable repetitions"), "{:?}", comparison.notes);
    let text = table::text(&comparison, &[], false);
    assert!(text.contains("not enough repetitions") && !text.contains("no difference"), "{text}");
}

#[test]
fn repetitions_of_several_results_are_taken_together() {
    let a = side("A", vec![sample(1, 2, 1.0), sample(2, 3, 1.0)]);
    let b = side("B", vec![sample(3, 4, 1.5), sample(4, 1, 1.5)]);
    let comparison = compare(&a, &b, &quick());
    assert_eq!(comparison.repetitions, (5, 5));
    assert_eq!(comparison.row("p99").unwrap().verdict(), Verdict::Worse);
    let twice = [sample(1, 5, 1.0), sample(1, 5, 1.0)].map(|report| Source { path: "same".into(), report });
    let refused = Set::new("A", twice.to_vec()).unwrap_err();
    assert!(refused.to_string().contains("count twice") && refused.exit_code() == 2, "{refused}");
}

#[test]
fn results_of_one_side_that_differ_among_themselves_are_told() {
    let a = side("A", vec![sample(1, 5, 1.0), sample(2, 5, 1.3)]);
    let b = side("B", vec![sample(3, 10, 1.15)]);
    let notes = compare(&a, &b, &quick()).notes;
    assert!(notes.iter().any(|note| note.starts_with("The results of A differ among themselves: p")), "{notes:?}");
}

#[test]
fn void_and_cut_repetitions_are_left_out_and_told() {
    let (mut a, mut b) = (sample(1, 6, 1.0), sample(2, 6, 1.0));
    a.repetitions[2].void.push("The load generator was the bottleneck.".into());
    b.repetitions[5].complete = false;
    let (a, b) = both(a, b);
    let comparison = compare(&a, &b, &quick());
    assert_eq!(comparison.repetitions, (5, 5));
    let told = |part: &str| comparison.notes.iter().any(|note| note.contains(part));
    assert!(told("1 void (The load generator was the bottleneck)") && told("1 not complete"), "{:?}", comparison.notes);
    let mut void = sample(3, 4, 1.0);
    void.repetitions.iter_mut().for_each(|repetition| repetition.void.push("Lag.".into()));
    let (void, fine) = both(void, sample(4, 4, 1.0));
    let refused = comparable::check(&void, &fine, true).unwrap_err().to_string();
    assert!(refused.contains("A has no repetition that may be used") && refused.contains("4 void (Lag)"), "{refused}");
}

#[test]
fn what_must_not_be_compared_is_refused_with_both_values() {
    type Change<'a> = &'a dyn Fn(&mut Report);
    let refused = |change: Change<'_>| {
        let (one, mut other) = (sample(1, 4, 1.0), sample(2, 4, 1.0));
        change(&mut other);
        let (a, b) = both(one, other);
        let refused = comparable::check(&a, &b, false);
        assert!(comparable::check(&a, &b, true).is_ok());
        refused.err().map(|failure| (failure.exit_code(), failure.to_string()))
    };
    let mattering: [(Change<'_>, &str); 8] = [
        (&|r| r.scenario.payload.bytes = Size(4096), "payload.bytes is 128 in A and 4KiB in B"),
        (&|r| r.scenario.connections.subscribers = 7, "connections.subscribers is 100 in A and 7 in B"),
        (&|r| r.scenario.target.url = "wss://x".into(), "the scheme of target.url is ws in A and wss in B"),
        (&|r| r.environment.cpu = "Other".into(), "the CPU is Example CPU at 2.60 GHz in A and Other in B"),
        (&|r| r.environment.kernel.clear(), "the kernel is Linux 6.12.0 in A and unknown in B"),
        (&|r| r.environment.memory_bytes /= 2, "the memory is 16 GiB in A and 8 GiB in B"),
        (&|r| r.environment.cores = 64, "the number of cores is 2 in A and 64 in B"),
        (&|r| (r.complete, r.ended_early) = (false, Some("interrupted".into())), "B (B0) is not complete: interrupted"),
    ];
    for (change, sentence) in mattering {
        let (code, told) = refused(change).expect(sentence);
        assert!(code == 2 && told.contains(sentence) && told.contains("--anyway"), "{told}");
    }
    let fine: [Change<'_>; 8] = [
        &|r| r.scenario.name = "other".into(),
        &|r| r.scenario.seed = 99,
        &|r| r.scenario.repetitions = 99,
        &|r| r.scenario.target.preset = Some("ws".into()),
        &|r| r.scenario.target.url = "ws://elsewhere:1".into(),
        &|r| r.scenario.server.revision = "other".into(),
        &|r| r.environment.memory_bytes += 4096,
        &|r| r.environment.host = "other".into(),
    ];
    for change in fine {
        assert_eq!(refused(change), None);
    }
}

#[test]
fn losses_are_told_even_where_they_prove_nothing() {
    let (mut a, mut b) = (sample(1, 5, 1.0), sample(2, 5, 1.0));
    for report in [&mut a, &mut b] {
        for repetition in &mut report.repetitions {
            repetition.measurement.tally.roles.get_mut("subscriber").unwrap().lost = 0;
        }
    }
    b.repetitions[3].measurement.tally.roles.get_mut("subscriber").unwrap().lost = 3;
    let comparison = compared(a.clone(), b.clone());
    assert_eq!(comparison.row("lost").unwrap().verdict(), Verdict::NoDifference);
    let told = "lost: 3 in B, in 1 of its 5 repetitions, none in A";
    assert!(comparison.notes.iter().any(|note| note.starts_with(told)), "{:?}", comparison.notes);
    for repetition in &mut b.repetitions {
        repetition.measurement.tally.roles.get_mut("subscriber").unwrap().lost = 30;
    }
    let comparison = compared(a, b);
    assert_eq!(comparison.row("lost").unwrap().verdict(), Verdict::Worse);
    assert!(table::text(&comparison, &[], false).contains("150 in all"));
}

#[test]
fn a_connection_phase_shared_by_repetitions_counts_once() {
    let mut report = sample(1, 5, 1.0);
    let first = report.repetitions[0].connecting.clone();
    report.repetitions[1].connecting = first.clone();
    report.repetitions[3].connecting = first;
    let handshakes = values(&report, find("handshake-p99").unwrap());
    assert_eq!(handshakes.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true, false, true]);
    assert!(values(&report, find("p99").unwrap()).iter().all(Option::is_some));
}

#[test]
fn the_figures_named_here_are_figures() {
    let main = FIGURES.iter().filter(|figure| weight(figure) == Weight::Main).count();
    let headlines = FIGURES.iter().filter(|figure| weight(figure) == Weight::Headline).count();
    assert_eq!((main, headlines), (1, 4));
    let of_loadgen: Vec<&str> =
        FIGURES.iter().filter(|figure| !crate::compare::comparison::is_of_server(figure)).map(|f| f.key).collect();
    assert_eq!(of_loadgen, ["schedule-error-p99", "late", "own-cpu", "own-cpu-share", "own-lag-p99"]);
}

fn judged(condition: &str, a: Report, b: Report) -> (Met, String) {
    let condition: Condition = condition.parse().unwrap();
    let (a, b) = both(a, b);
    let outcome =
        family::compare(&[column(condition.figure(), Weight::Main, &a, &b)], &quick().settings).swap_remove(0);
    let judged = condition.judge(Some(&outcome), &quick().settings);
    (judged.met, judged.sentence)
}

#[test]
fn conditions_are_met_with_confidence_only() {
    let cases = [
        ("p99>+5%", 5, 1.3, Met::Yes),
        ("p99>+5%", 5, 1.0, Met::No),
        ("p99>+30%", 5, 1.3, Met::No),
        ("p99>+5%", 3, 2.0, Met::Unknown),
        ("p99<-5%", 5, 0.7, Met::Yes),
        ("p99>100us", 5, 1.0, Met::Yes),
        ("p99>1s", 5, 1.0, Met::No),
        ("p99>100us", 3, 1.0, Met::Unknown),
        ("deliveries<1k/s", 5, 1.0, Met::No),
        ("own-cpu-share>10%", 5, 1.0, Met::Yes),
        ("corrupted>0", 1, 1.0, Met::No),
        ("late>2", 1, 1.0, Met::Yes),
    ];
    for (condition, repetitions, factor, met) in cases {
        let (judged, sentence) = judged(condition, sample(1, 5, 1.0), sample(2, repetitions, factor));
        assert_eq!(judged, met, "{condition}: {sentence}");
    }
}

#[test]
fn a_condition_on_alike_results_is_hardly_ever_met_by_chance() {
    let met = (0..60).filter(|n| {
        let (met, _) = judged("p99>+0%", sample(30_000 + 2 * n, 5, 1.0), sample(30_001 + 2 * n, 5, 1.0));
        met == Met::Yes
    });
    let met = met.count();
    assert!(met <= 4, "{met} of 60, where 2.5 % are to be expected");
}

#[test]
fn wrong_conditions_are_refused_with_what_is_allowed() {
    let cases = [
        ("p98>+5%", "there is no figure 'p98'; there are p50, p90, p99"),
        ("p99", "is no condition"),
        ("p99>=5ms", "is no condition"),
        (">5%", "is no condition"),
        ("p99>5%", "'+5%' or '-5%'"),
        ("p99>+5ms", "given in percent"),
        ("p99>5", "has no unit"),
        ("deliveries<many", "'many' is no number"),
        ("own-cpu-share>0.9", "given in percent"),
        ("p99<-100%", "nothing falls by 100%"),
        ("lost>NaN", "is no number"),
    ];
    for (condition, reason) in cases {
        let refused = condition.parse::<Condition>().map(|_| ()).unwrap_err();
        assert!(refused.contains(reason), "{condition}: {refused}");
    }
}

#[test]
fn colours_are_only_there_when_asked_for_and_the_same_seed_says_the_same() {
    let (a, b) = both(sample(1, 5, 1.0), sample(2, 5, 1.3));
    let comparison = compare(&a, &b, &quick());
    assert!(!table::text(&comparison, &[], false).contains('\u{1b}'));
    assert!(table::text(&comparison, &[], true).contains('\u{1b}'));
    let again = table::text(&compare(&a, &b, &quick()), &[], false);
    assert_eq!(table::text(&comparison, &[], false), again);
}

#[test]
fn a_difference_that_counts_alone_but_not_among_many_is_told_as_such() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
    let remarked = (0..60).find_map(|_| {
        let comparison = compared(sample(rng.random(), 5, 1.0), sample(rng.random(), 5, 1.035));
        let row = comparison.rows.iter().find(|row| row.outcome.remark == Some(Remark::AloneOnly))?.clone();
        Some((comparison, row))
    });
    let (comparison, row) = remarked.expect("one of 60 comparisons of a small difference is on the border");
    assert_eq!(row.verdict(), Verdict::NoDifference);
    let told = comparison.notes.iter().find(|note| note.contains("looked at alone")).expect("a note");
    assert!(told.contains(row.figure.title), "{told}");
    assert!(table::words(&row).verdict.contains("see notes"));
}
