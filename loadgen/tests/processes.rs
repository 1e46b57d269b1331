//! Fleets whose workers are processes of the built binary.

use std::process::Command;
use std::time::Duration;

use fanfare::{Context, Decision, Engine, Handler, Message, Subscribe, Upgrade};
use loadgen::fleet::{Drive, Fleet, Watch};
use loadgen::measure::RoleTally;
use loadgen::scenario::{ClientSettings, Connections, Load, LoadKind, Scenario, TargetSettings, Topics};

/// Topics by path; who publishes does not receive.
struct Topical;

struct Peer {
    topic: String,
    subscribes: bool,
}

impl Handler for Topical {
    type Data = Peer;

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<Peer> {
        let subscribes = request.query_value("mode").as_deref() == Some("subscribe");
        Decision::accept(Peer { topic: request.path().to_owned(), subscribes })
    }

    fn open(&self, ctx: &mut Context<'_, Peer>) {
        let topic = ctx.data().topic.clone();
        if ctx.data().subscribes {
            let _ = ctx.subscribe(&topic, Subscribe::default());
        }
    }

    fn message(&self, ctx: &mut Context<'_, Peer>, message: Message<'_>) {
        let topic = ctx.data().topic.clone();
        let _ = ctx.publish(&topic, message);
    }
}

struct Nobody;

impl Watch for Nobody {}

/// An engine, and two publishers and twelve subscribers of two topics that are connected to it.
fn connected(processes: u32, threads: u32) -> (Engine, Fleet) {
    let engine = Engine::builder(Topical).listen(([127, 0, 0, 1], 0).into()).shards(1).start().expect("a port");
    let scenario = Scenario {
        target: TargetSettings { url: format!("ws://{}", engine.local_addrs()[0]), ..TargetSettings::default() },
        connections: Connections { publishers: 2, subscribers: 12, ..Connections::default() },
        topics: Topics { count: 2, ..Topics::default() },
        client: ClientSettings { processes, threads, ..ClientSettings::default() },
        ..Scenario::default()
    };
    let program = (env!("CARGO_BIN_EXE_loadgen").into(), vec!["worker".to_owned()]);
    let mut fleet = Fleet::start_with(&scenario, &program).expect("it starts");
    assert_eq!((fleet.processes(), fleet.members()), (processes, processes * threads));
    assert_eq!(fleet.connect(&mut Nobody).expect("it connects").connected, 14);
    (engine, fleet)
}

fn a_drive(load: Load) -> Drive {
    let ms = Duration::from_millis;
    let (warmup, duration, drain_timeout) = (ms(100), ms(400), Duration::from_secs(20));
    Drive { load, warmup, duration, drain_timeout, storm_at: None, interval: ms(100) }
}

fn constant() -> Drive {
    a_drive(Load { rate_per_s: 200.0, ..Load::default() })
}

/// Drives once: everything arrives whole. Returns the worker processes.
fn drive(fleet: &mut Fleet, drive: &Drive) -> Vec<u32> {
    let driven = fleet.drive(drive, &mut Nobody).expect("it drives");
    let (measured, tally) = (&driven.measurement, &driven.measurement.tally);
    let expected = tally.published * 6;
    assert_eq!(tally.subscribers(), RoleTally { expected, received: expected, ..RoleTally::default() });
    assert_eq!((tally.incomplete, tally.unsent, tally.refused, tally.corrupted, tally.foreign), (0, 0, 0, 0, 0));
    assert!(measured.published > 0 && tally.closed.is_empty(), "{:?}", tally.closed);
    assert_eq!(measured.corrected.len(), measured.published * 6);
    assert_eq!(measured.completion.len(), measured.published);
    assert_eq!(driven.intervals.len(), 5);
    let mut pids: Vec<u32> = measured.workers.iter().map(|worker| worker.pid).collect();
    assert_eq!(pids.len() as u32, fleet.members());
    pids.dedup();
    pids
}

/// Sends a signal, as the program `kill` does.
fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().expect("there is a kill");
    assert!(sent.success());
}

#[test]
fn several_processes_measure_what_one_does_in_any_loop() {
    for (processes, threads) in [(2, 1), (3, 2)] {
        let (_engine, mut fleet) = connected(processes, threads);
        for _ in 0..2 {
            assert_eq!(drive(&mut fleet, &constant()).len() as u32, processes);
        }
        drive(&mut fleet, &a_drive(Load { kind: LoadKind::Closed, in_flight: 3, ..Load::default() }));
        fleet.close();
    }
}

#[test]
fn a_process_that_dies_is_a_failure_that_names_it() {
    let (_engine, mut fleet) = connected(2, 1);
    let pids = drive(&mut fleet, &constant());
    signal("KILL", pids[1]);
    let failure = fleet.drive(&constant(), &mut Nobody).expect_err("one is dead");
    assert!(failure.to_string().contains(&format!("(pid {})", pids[1])), "{failure}");
}

#[test]
fn signals_pass_by_worker_processes_because_the_conductor_ends_them() {
    let (_engine, mut fleet) = connected(2, 1);
    for pid in drive(&mut fleet, &constant()) {
        signal("INT", pid);
        signal("TERM", pid);
    }
    drive(&mut fleet, &constant());
}
