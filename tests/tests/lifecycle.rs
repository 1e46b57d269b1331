//! From the arguments to the last exit: what a wrong start says, and how a running server ends.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;

use fanfare_tests::program::run_to_end;
use fanfare_tests::raw::{frame, op, upgrade_request};
use fanfare_tests::{Client, Http, Raw, Server, eventually};

#[test]
fn sigterm_closes_every_client_with_1012_and_exits_with_0() {
    let mut server = Server::start();
    let mut raw: Vec<_> = (0..20).map(|n| Client::connect(&server, &format!("/topics/t{n}"))).collect();
    let mut native = Client::connect(&server, "/ws");
    server.signal(libc::SIGTERM);
    for client in raw.iter_mut().chain([&mut native]) {
        let (code, reason) = client.read_close();
        assert_eq!(code, 1012);
        assert!(!reason.is_empty());
    }
    drop((raw, native));
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn sigint_ends_like_sigterm() {
    let mut server = Server::start();
    let mut client = Client::connect(&server, "/topics/t");
    server.signal(libc::SIGINT);
    assert_eq!(client.read_close().0, 1012);
    drop(client);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn what_was_published_before_the_end_is_still_delivered() {
    let mut server = Server::start();
    let mut listener = Client::connect(&server, "/topics/last?mode=subscribe");
    let mut http = server.http();
    for n in 0..500 {
        http.publish("last", n.to_string().as_bytes());
    }
    server.signal(libc::SIGTERM);
    for n in 0..500 {
        assert_eq!(listener.read_text(), n.to_string());
    }
    assert_eq!(listener.read_close().0, 1012);
    drop(listener);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

/// A client that ignores the Close frame holds the shutdown up for `close_timeout`, 5 s.
fn server_held_up() -> (Server, Raw, Http) {
    let server = Server::with(&["--shutdown-timeout-s", "300"]);
    let stubborn = Raw::open(server.addr(), "/topics/t");
    let mut http = server.http();
    assert_eq!(http.get("/readyz").status, 200);
    (server, stubborn, http)
}

#[test]
fn a_server_that_is_ending_is_not_ready_but_alive() {
    let (mut server, mut stubborn, mut http) = server_held_up();
    server.signal(libc::SIGTERM);
    eventually("it is not ready", || http.get("/readyz").status == 503);
    assert_eq!(http.get("/healthz").status, 200);
    assert_eq!(stubborn.read_close().0, 1012);
    assert!(server.is_running(), "it waits for the answer to its Close frame");
    stubborn.send(frame(op::CLOSE, &1012_u16.to_be_bytes()));
    stubborn.read_to_end();
    drop(http);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let (mut server, mut stubborn, http) = server_held_up();
    server.signal(libc::SIGTERM);
    assert_eq!(stubborn.read_close().0, 1012);
    assert!(server.is_running());
    server.signal(libc::SIGTERM);
    let status = server.wait();
    assert!(status.code().is_some_and(|code| code != 0) || status.signal() == Some(libc::SIGTERM), "{status:?}");
    drop(http);
}

#[test]
fn connections_in_the_queue_of_a_stopping_server_are_served_not_reset() {
    let mut server = Server::start();
    // Stopped by the kernel, the server accepts nothing: all these wait in the queue of a listener.
    server.signal(libc::SIGSTOP);
    let mut queued: Vec<_> = (0..200).map(|_| Raw::connect(server.addr())).collect();
    for (n, raw) in queued.iter_mut().enumerate() {
        let path = format!("/topics/queued{n}");
        raw.send(if n % 2 == 0 { upgrade_request(&path) } else { "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".into() });
    }
    server.signal(libc::SIGTERM);
    server.signal(libc::SIGCONT);
    for (n, raw) in queued.iter_mut().enumerate() {
        let answer = raw.try_read_head();
        let status = answer.unwrap_or_else(|| panic!("the queued connection {n} was reset")).status;
        if n % 2 == 1 {
            assert!([200, 503].contains(&status), "{status}");
        } else if status == 101 {
            assert_eq!(raw.read_close().0, 1012);
        } else {
            assert_eq!(status, 503);
        }
    }
    drop(queued);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn a_dead_reader_does_not_hold_up_the_end() {
    let mut server = Server::with(&["--shutdown-timeout-s", "2"]);
    let _stalled = Raw::open_narrow(server.addr(), "/topics/stalled?mode=subscribe");
    let mut http = server.http();
    for _ in 0..50 {
        http.publish("stalled", &[b'x'; 10_000]);
    }
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn wrong_arguments_exit_with_2_and_a_sentence() {
    let cases: [(&[&str], &[&str]); 8] = [
        (&["--shards", "257"], &["shards", "257", "256"]),
        (&["--shards", "many"], &["shards", "many"]),
        (&["--listen", "nowhere"], &["listen", "nowhere"]),
        (&["--listen", "127.0.0.1:99999"], &["listen", "99999"]),
        (&["--topic", "a:policy=hope"], &["policy", "hope", "drop-oldest"]),
        (&["--topic", "a:pending_messages=0"], &["pending_messages", "0", "from 1"]),
        (&["--topic", "a:histroy=1"], &["histroy", "history"]),
        (&["--unheard-of"], &["--unheard-of"]),
    ];
    for (args, words) in cases {
        let (status, _, stderr) = run_to_end("fanfare", args);
        assert_eq!(status.code(), Some(2), "{args:?}: {stderr}");
        for word in words {
            assert!(stderr.contains(word), "{args:?} does not name '{word}': {stderr}");
        }
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_directory_that_is_missing_exits_with_2_and_names_it() {
    let (status, _, stderr) = run_to_end("fanfare", &["--listen", "127.0.0.1:0", "--static", "no/such/directory"]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("no/such/directory"), "{stderr}");
}

#[test]
fn an_address_in_use_exits_with_1_and_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = taken.local_addr().expect("it has an address").to_string();
    let (status, _, stderr) = run_to_end("fanfare", &["--listen", &addr]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&addr), "{stderr}");
}

#[test]
fn an_address_another_fanfare_serves_is_in_use_too() {
    let server = Server::start();
    let (status, _, stderr) = run_to_end("fanfare", &["--listen", &server.addr().to_string()]);
    assert_eq!(status.code(), Some(1), "two servers must not share a port unnoticed: {stderr}");
}

#[test]
fn help_and_version_exit_with_0() {
    for flag in ["--help", "--version"] {
        let (status, stdout, _) = run_to_end("fanfare", &[flag]);
        assert_eq!(status.code(), Some(0));
        assert!(stdout.contains("fanfare"), "{stdout}");
    }
}

#[test]
fn several_addresses_of_both_families_are_served() {
    if TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let server = Server::with_exactly(&["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--shards", "2"]);
    eventually("both addresses are printed", || server.addrs().len() == 2);
    let mut clients: Vec<_> = server
        .addrs()
        .into_iter()
        .map(|addr| Client::connect_with(addr, "/topics/both", &[]).expect("the upgrade is served"))
        .collect();
    clients[0].send_text("over both families");
    for client in &mut clients {
        assert_eq!(client.read_text(), "over both families");
    }
}
