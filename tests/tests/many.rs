//! Many connections at once, on both shards, in one topic.

use std::time::Instant;

use fanfare_tests::metrics::eventually_connections;
use fanfare_tests::raw::upgrade_request;
use fanfare_tests::{Raw, Server, eventually};

const CONNECTIONS: usize = 15_000;
/// Descriptors beside those of the connections, on either side.
const SPARE: u64 = 500;
/// Connections made at a time; well below the listeners' backlog.
const BATCH: usize = 500;

/// The most files this process, and the server it starts, may open; raised as far as allowed.
fn file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local of the right type for both calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit), 0);
    }
    limit.rlim_max
}

fn open_all(server: &Server) -> Vec<Raw> {
    let mut all = Vec::with_capacity(CONNECTIONS);
    while all.len() < CONNECTIONS {
        let mut batch: Vec<_> = (0..BATCH).map(|_| Raw::connect(server.addr())).collect();
        for raw in &mut batch {
            raw.send(upgrade_request("/topics/many?mode=subscribe"));
        }
        for raw in &mut batch {
            assert_eq!(raw.read_head().status, 101);
        }
        all.append(&mut batch);
    }
    all
}

#[test]
fn fifteen_thousand_on_two_shards_get_one_publication() {
    let limit = file_limit();
    if limit < CONNECTIONS as u64 + SPARE {
        println!("skipped: a process may open {limit} files here, {CONNECTIONS} connections need more");
        return;
    }
    let server = Server::start();
    let before = server.resident_bytes();
    let start = Instant::now();
    let mut all = open_all(&server);
    println!("{CONNECTIONS} connections in {:?}", start.elapsed());
    eventually_connections(server.addr(), CONNECTIONS as u64);
    println!("{} bytes of memory each", (server.resident_bytes().saturating_sub(before)) / CONNECTIONS as u64);

    let mut http = server.http();
    for round in 0..3 {
        let text = format!("round {round}");
        let start = Instant::now();
        assert_eq!(http.publish("many", text.as_bytes())["subscribers"], CONNECTIONS);
        for raw in &mut all {
            assert_eq!(raw.read_frame().text(), text);
        }
        println!("one publication to all in {:?}", start.elapsed());
    }
    let topic = http.topic("many").expect("the topic is there");
    assert_eq!(topic["deliveries"]["written"], 3 * CONNECTIONS, "{topic}");

    all.into_iter().for_each(Raw::reset);
    eventually("all have gone", || server.metrics().connections() == 0);
    assert_eq!(http.publish("many", b"nobody")["subscribers"], 0);
}
