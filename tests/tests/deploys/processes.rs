//! The same with processes of the binary, as it is deployed.

use fanfare_tests::{Http, Raw, Server, eventually};

use crate::load::{Load, Outcome};

/// A server in the place of another one.
fn successor(addr: std::net::SocketAddr) -> Server {
    Server::with_exactly(&["--listen", &addr.to_string(), "--shards", "2", "--takeover"])
}

#[test]
fn over_restarts_of_the_process_every_connect_under_load_is_answered() {
    const RESTARTS: usize = 4;
    const CONNECTS: u64 = 1_000;
    let mut server = Server::with(&["--takeover"]);
    let addr = server.addr();
    let load = Load::start(addr, "/topics/load", 8);
    for _ in 0..RESTARTS {
        let before = load.done();
        let next = successor(addr);
        assert_eq!(next.addr(), addr);
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
        assert!(next.stderr().contains("has taken over the listeners"), "{}", next.stderr());
        server = next;
        eventually("the load goes on", || load.done() > before + CONNECTS);
    }
    let outcomes = load.stop();
    println!("{RESTARTS} restarts: {outcomes:?}");
    let bad = outcomes.keys().filter(|outcome| !matches!(outcome, Outcome::Answered(101 | 426 | 503))).count();
    assert_eq!(bad, 0, "{outcomes:?}");
    let late = outcomes.get(&Outcome::Answered(503)).copied().unwrap_or(0);
    assert!(late * 100 < outcomes.values().sum(), "{outcomes:?}");
}

#[test]
fn a_server_that_is_killed_after_it_was_replaced_takes_nobody_with_it() {
    let mut old = Server::with(&[]);
    let addr = old.addr();
    // It stands still: who connects now waits in its queues.
    let new = successor(addr);
    old.signal(libc::SIGSTOP);
    eventually("all its threads stand still", || threads_stand_still(old.id()));
    let mut waiting: Vec<Raw> = (0..100).map(|_| Raw::connect(addr)).collect();
    for raw in &mut waiting {
        raw.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for raw in &mut waiting {
        assert_eq!(raw.try_read_head().expect("it is answered").status, 200);
    }
    old.signal(libc::SIGKILL);
    old.wait();
    assert_eq!(Http::connect(addr).get("/readyz").status, 200);
    drop(new);
}

/// Whether all threads of a process are stopped.
fn threads_stand_still(process: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).expect("it is there");
    let states = threads.map(|thread| std::fs::read_to_string(thread.expect("readable").path().join("stat")));
    states
        .map(|state| state.expect("readable"))
        .all(|state| state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
}

#[test]
fn the_shutdown_is_as_it_is_configured() {
    let mut server = Server::with(&["--shutdown-grace-ms", "600000", "--shutdown-retry-ms", "5000"]);
    let mut http = server.http();
    let mut client = Raw::open(server.addr(), "/topics/t");
    server.signal(libc::SIGTERM);
    eventually("it is not ready", || http.get("/readyz").status == 503);
    assert_eq!(Http::connect(server.addr()).get("/healthz").status, 200, "it serves on");
    http.publish("t", b"still here");
    assert_eq!(client.read_frame().text(), "still here");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(1), "a second signal ends it at once");

    let mut server = Server::with(&["--shutdown-retry-ms", "5000"]);
    let mut client = Raw::open(server.addr(), "/topics/t");
    server.signal(libc::SIGTERM);
    let (code, reason) = client.read_close();
    let reason: serde_json::Value = serde_json::from_str(&reason).expect("the reason is JSON");
    assert_eq!(code, 1012);
    assert!(reason["retry_after_ms"].as_u64().is_some_and(|after| after < 5000), "{reason}");
    client.finish();
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}
