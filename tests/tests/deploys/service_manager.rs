//! What systemd gives, and what it is told; this test takes its place.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};

use fanfare::server::service_manager::Pulse;
use fanfare::{Context, Decision, Engine, Handler, Message, Security, Upgrade};
use fanfare_tests::program::{binary, run_command_to_end, run_to_end};
use fanfare_tests::raw::upgrade_request;
use fanfare_tests::{DEADLINE, Http, Raw, Server, eventually};

use crate::kit::{Member, any_port};

/// The socket that a service manager hears its services on.
struct Manager {
    socket: UnixDatagram,
    folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket can be bound");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket takes a timeout");
        Self { socket, folder }
    }

    fn start(&self, variables: &[(&str, &str)], args: &[&str]) -> Server {
        let mut command = Command::new(binary("fanfare"));
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify")).envs(variables.iter().copied());
        Server::of_command(command, args)
    }

    /// Waits for a message with this line, and gives all its lines.
    fn hears(&self, line: &str) -> Vec<String> {
        loop {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("'{line}' was not said: {error}"));
            let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
            let lines: Vec<_> = said.lines().map(str::to_owned).collect();
            if lines.iter().any(|own| own == line) {
                return lines;
            }
        }
    }
}

#[test]
fn it_is_told_everything_from_the_start_to_the_end() {
    let manager = Manager::new();
    let args = ["--listen", "127.0.0.1:0", "--shards", "2", "--shutdown-timeout-s", "20"];
    let mut server = manager.start(&[("WATCHDOG_USEC", "200000")], &args);
    let said = manager.hears("READY=1");
    assert!(said.iter().any(|line| line.starts_with("STATUS=serving, 0 connections")), "{said:?}");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    server.signal(libc::SIGHUP);
    let said = manager.hears("RELOADING=1");
    assert!(said.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{said:?}");
    manager.hears("READY=1");
    server.signal(libc::SIGTERM);
    let said = manager.hears("STOPPING=1");
    assert!(said.contains(&"EXTEND_TIMEOUT_USEC=35000000".to_owned()), "{said:?}");
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

#[test]
fn a_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::new();
    let server = manager.start(&[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")], &["--listen", "127.0.0.1:0"]);
    manager.hears("READY=1");
    manager.socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).expect("a socket takes a timeout");
    let mut buffer = [0; 4096];
    assert!(manager.socket.recv(&mut buffer).is_err(), "it should have nothing to say for 10 s");
    drop(server);
}

/// A command with sockets as its descriptors from 3 on, the way systemd passes them.
fn with_sockets(sockets: &[&TcpListener], names: &str) -> Command {
    let mut shell = Command::new("sh");
    // The variable has to name the process that the shell becomes.
    shell.arg("-c").arg("export LISTEN_PID=$$; exec \"$0\" \"$@\"").arg(binary("fanfare"));
    shell.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_raw_fd()).collect();
    // SAFETY: between fork and exec only calls that are safe there; the descriptors stay open in the parent meanwhile.
    unsafe {
        shell.pre_exec(move || {
            // First out of the way of one another.
            for (n, descriptor) in descriptors.iter().enumerate() {
                if libc::dup2(*descriptor, 100 + n as i32) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            for n in 0..descriptors.len() as i32 {
                if libc::dup2(100 + n, 3 + n) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    shell
}

#[test]
fn it_serves_the_sockets_it_is_given_and_leaves_those_who_wait_in_them_to_the_next_one() {
    let main = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let http = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let (addr, http_addr) = (main.local_addr().expect("bound"), http.local_addr().expect("bound"));
    let start = || Server::of_command(with_sockets(&[&main, &http], "fanfare.socket:http"), &["--shards", "3"]);
    let mut first = start();
    assert_eq!(first.addr(), addr, "its own default address is not used");
    assert!(
        first.stdout().contains(&format!("HTTP only, without WebSockets: http://{http_addr}/")),
        "{}",
        first.stdout()
    );
    for _ in 0..12 {
        drop(Raw::open(addr, "/topics/t"));
    }
    assert_eq!(Http::connect(http_addr).get("/healthz").status, 200);
    // Who connects while there is nobody is served by the next one.
    first.signal(libc::SIGTERM);
    assert_eq!(first.wait().code(), Some(0), "{}", first.stderr());
    let mut waiting: Vec<Raw> = (0..50).map(|_| Raw::connect(addr)).collect();
    for raw in &mut waiting {
        raw.send(upgrade_request("/topics/t"));
    }
    let second = start();
    for raw in &mut waiting {
        assert_eq!(raw.try_read_head().expect("it is answered").status, 101);
    }
    drop((second, waiting));
}

#[test]
fn an_engine_that_is_given_a_listener_leaves_its_queue_to_the_next_one_only_if_it_is_inherited() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = socket.local_addr().expect("bound");
    let start = || {
        let own = socket.try_clone().expect("a socket can be cloned");
        Engine::builder(crate::kit::Rooms).shards(2).listener(own, true, Security::Plain).start().expect("it starts")
    };
    let first = start();
    drop(Member::join(addr, "t"));
    first.shutdown();
    let mut waiting = Raw::connect(addr);
    waiting.send(upgrade_request("/t"));
    let second = start();
    assert_eq!(waiting.try_read_head().expect("it is answered").status, 101);
    drop(waiting);
    second.shutdown();
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let refused = Engine::builder(crate::kit::Rooms)
        .listener(unbound.into(), false, Security::Plain)
        .start()
        .err()
        .expect("no listener");
    assert!(refused.to_string().contains("does not listen"), "{refused}");
}

#[test]
fn what_is_no_listener_or_exposes_too_much_is_refused() {
    let open = TcpListener::bind("0.0.0.0:0").expect("a port is free");
    let (status, _, stderr) = run_command_to_end(with_sockets(&[&open], "main"), &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("open"), "{stderr}");
    let (status, _, stderr) = run_command_to_end(with_sockets(&[&open], "http"), &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("api_token_file"), "{stderr}");
    let (status, _, stderr) = run_command_to_end(with_sockets(&[&open], "one:two"), &["--open"]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("LISTEN_FDNAMES"), "{stderr}");
}

#[test]
fn the_name_of_a_socket_says_whether_it_speaks_tls() {
    let sockets: Vec<_> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
    let sockets: Vec<_> = sockets.iter().collect();
    let server = Server::of_command(with_sockets(&sockets, "ws:wss:mine:http:https"), &["--tls-dev"]);
    for (socket, scheme) in sockets.iter().zip(["http", "https", "https", "http", "https"]) {
        let addr = socket.local_addr().expect("bound");
        assert!(server.stdout().contains(&format!(" {scheme}://{addr}/")), "{}", server.stdout());
        let flags = ["--health", "--api-listen", &format!("{scheme}://{addr}"), "--tls-dev"];
        let (status, _, stderr) = run_to_end("fanfare", &flags);
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
    let (status, _, stderr) = run_command_to_end(with_sockets(&sockets[..1], "wss"), &[]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("'wss'") && stderr.contains("tls_cert"), "{stderr}");
}

/// Blocks its shard for as long as the lock is held.
struct Blocking(Arc<(Mutex<bool>, Condvar)>);

impl Handler for Blocking {
    type Data = ();

    fn upgrade(&self, _: &Upgrade<'_>) -> Decision<()> {
        let (held, news) = &*self.0;
        let mut held = held.lock().expect("nobody panics here");
        while *held {
            held = news.wait(held).expect("nobody panics here");
        }
        Decision::accept(())
    }

    fn message(&self, _: &mut Context<'_, ()>, _: Message<'_>) {}
}

#[test]
fn a_shard_that_does_not_turn_has_no_pulse() {
    let lock = Arc::new((Mutex::new(true), Condvar::new()));
    let engine = Engine::builder(Blocking(lock.clone())).shards(1).listen(any_port()).start().expect("it starts");
    let mut pulse = Pulse::new(engine.handle().clone());
    eventually("an idle shard has one", || pulse.stuck().is_none());
    let mut blocking = Raw::connect(engine.local_addrs()[0]);
    blocking.send(upgrade_request("/t"));
    eventually("it is stuck", || pulse.stuck() == Some(0));
    *lock.0.lock().expect("nobody panics here") = false;
    lock.1.notify_all();
    eventually("it turns again", || pulse.stuck().is_none());
    drop(blocking);
    engine.shutdown();
}
