//! A reconnect storm: thousands drop at once and come back at once, through a narrow gate. Who stays misses nothing meanwhile,
//! who comes back recovers, nobody is turned away, and nothing is left of those who went.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fanfare_tests::swarm::publish_once;
use fanfare_tests::{Native, Server, Swarm, eventually};

const SWARMS: usize = 4;
const EACH: usize = 750;

#[test]
fn a_storm_of_reconnects_is_let_in_through_a_narrow_gate_and_loses_nothing() {
    let server = Server::with(&[
        "--history-messages",
        "100000",
        "--history-bytes",
        "100000000",
        "--handshakes-max",
        "8",
        "--accept-queue-timeout-s",
        "60",
    ]);
    let addr = server.addr();
    let mut stays = Native::connect(&server);
    stays.subscribe("t");
    let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publisher = {
        let (stop, published) = (stop.clone(), published.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let next = published.load(Ordering::Relaxed) + 1;
                let (status, body) = publish_once(addr, "t", &next.to_string()).expect("it is answered");
                assert_eq!(status, 200, "{body}");
                published.store(next, Ordering::Relaxed);
            }
        })
    };
    let swarms: Vec<_> = (0..SWARMS)
        .map(|_| {
            thread::spawn(move || {
                let mut swarm = Swarm::new(addr, EACH, &["t"]);
                for _ in 0..2 {
                    swarm.run_until("all are there", |swarm| swarm.subscribed() == EACH);
                    swarm.drop_all();
                }
                swarm.run_until("all are back", |swarm| swarm.subscribed() == EACH);
                swarm
            })
        })
        .collect();
    let mut swarms: Vec<Swarm> = swarms.into_iter().map(|swarm| swarm.join().expect("they come back")).collect();
    stop.store(true, Ordering::Relaxed);
    publisher.join().expect("publishing goes on");
    let last = published.load(Ordering::Relaxed);
    assert!(last > 0);
    for offset in 1..=last {
        assert_eq!(stays.read_message()["offset"], offset, "who stayed has everything in order");
    }
    for swarm in &mut swarms {
        swarm.run_until("they have everything", |swarm| swarm.newest() >= last);
        let findings = &swarm.findings;
        assert_eq!((findings.gaps, findings.duplicates, findings.not_recovered), (0, 0, 0), "{findings:?}");
        assert_eq!(findings.refused, Vec::<String>::new());
    }
    let upgrades = server.metrics().count("fanfare_upgrades_total", &[]);
    assert_eq!(upgrades, 1 + 3 * (SWARMS * EACH) as u64);
    drop(swarms);
    eventually("nothing is left of them", || server.metrics().connections() == 1);
}
