//! One engine takes the place of another: whoever connects, at any moment, is served.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net as unix;
use std::sync::{Arc, Condvar, Mutex};

use fanfare::{Context, Decision, Engine, Handler, Message, PublishError, Upgrade};
use fanfare_tests::raw::upgrade_request;
use fanfare_tests::{Http, Raw, eventually, wait_for};

use crate::kit::{Member, any_port, builder, ms, settings};
use crate::load::{Load, Outcome};

/// What serves first, on a free port.
fn first(name: &'static str) -> (Engine, SocketAddr) {
    let engine = builder(name, any_port(), settings(|_| {})).start().expect("it starts");
    let addr = engine.local_addrs()[0];
    (engine, addr)
}

/// What takes the place of who serves there.
fn next(name: &'static str, addr: SocketAddr) -> Engine {
    builder(name, addr, settings(|s| s.takeover = true)).start().expect("it takes over")
}

/// Whether all who connect now reach one engine, by the name it tells.
fn all_reach(addr: SocketAddr, name: &str) -> bool {
    (0..20).all(|_| Http::connect(addr).get("/name").text() == name)
}

#[test]
fn over_many_restarts_every_connect_under_load_is_answered() {
    const RESTARTS: usize = 6;
    const CONNECTS: u64 = 1_000;
    let (mut engine, addr) = first("0");
    let load = Load::start(addr, "/name", 8);
    for _ in 0..RESTARTS {
        let before = load.done();
        // The one in the middle of its end has more shards, or fewer, than the next one.
        let successor =
            builder("next", addr, settings(|s| s.takeover = true)).shards(3).start().expect("it takes over");
        engine.shutdown();
        engine = successor;
        eventually("the load goes on", || load.done() > before + CONNECTS);
    }
    let outcomes = load.stop();
    println!("{RESTARTS} restarts: {outcomes:?}");
    assert_only_answers(&outcomes);
    engine.shutdown();
}

fn assert_only_answers(outcomes: &BTreeMap<Outcome, u64>) {
    let bad: Vec<_> = outcomes.iter().filter(|(outcome, _)| !matches!(outcome, Outcome::Answered(_))).collect();
    assert!(bad.is_empty(), "{bad:?} of {outcomes:?}");
    let others = outcomes.keys().filter(|outcome| !matches!(outcome, Outcome::Answered(101 | 200 | 503))).count();
    assert_eq!(others, 0, "{outcomes:?}");
    // Only who was let in by the old one in its last moment, and asked for a WebSocket after it, is told to come again.
    let (late, all) = (outcomes.get(&Outcome::Answered(503)).copied().unwrap_or(0), outcomes.values().sum::<u64>());
    assert!(late * 100 < all, "{outcomes:?}");
}

/// Opens with its end, so that an engine that stands still before it can end, too.
#[derive(Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Drop for Gate {
    fn drop(&mut self) {
        *self.0.0.lock().expect("nobody panics here") = true;
        self.0.1.notify_all();
    }
}

/// Stands still in every upgrade until the gate opens, as a process that is stopped would.
struct Stuck(Arc<(Mutex<bool>, Condvar)>);

impl Handler for Stuck {
    type Data = ();

    fn upgrade(&self, _: &Upgrade<'_>) -> Decision<()> {
        let (free, news) = &*self.0;
        let mut free = free.lock().expect("nobody panics here");
        while !*free {
            free = news.wait(free).expect("nobody panics here");
        }
        Decision::accept(())
    }

    fn message(&self, _: &mut Context<'_, ()>, _: Message<'_>) {}
}

#[test]
fn who_waits_to_be_accepted_by_an_engine_that_stands_still_is_served_by_the_next_one() {
    let open = Arc::default();
    let stuck = Engine::builder(Stuck(Arc::clone(&open))).shards(2).listen(any_port()).start().expect("it starts");
    let gate = Gate(open);
    let addr = stuck.local_addrs()[0];
    // One for each shard keeps it busy; more may be needed, as the kernel spreads them as it likes.
    let mut busy: Vec<Raw> = Vec::new();
    let blocked = || {
        let mut probe = Raw::connect(addr);
        probe.send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n");
        let answered = probe.is_answered_within(ms(300));
        (!answered).then_some(probe)
    };
    while (0..8).any(|_| blocked().is_none()) {
        let mut raw = Raw::connect(addr);
        raw.send(upgrade_request("/busy"));
        busy.push(raw);
    }
    let mut waiting: Vec<Raw> = (0..50).map(|_| Raw::connect(addr)).collect();
    for (n, raw) in waiting.iter_mut().enumerate() {
        raw.send(if n % 2 == 0 { upgrade_request("/room") } else { "GET /name HTTP/1.1\r\nHost: x\r\n\r\n".into() });
    }
    let second = next("second", addr);
    for (n, raw) in waiting.iter_mut().enumerate() {
        let status = raw.try_read_head().expect("it is answered").status;
        assert_eq!(status, if n % 2 == 0 { 101 } else { 200 });
    }
    drop(waiting);
    drop((gate, busy));
    stuck.shutdown();
    assert!(all_reach(addr, "second"));
    second.shutdown();
}

#[test]
fn members_of_the_old_one_get_what_is_published_at_the_new_one_until_they_are_closed_and_come_back() {
    let slowly = settings(|s| s.shutdown_spread = ms(600_000));
    let old = builder("old", any_port(), slowly).start().expect("it starts");
    let addr = old.local_addrs()[0];
    let mut member = Member::join(addr, "t");
    let mut by_pattern = Member::join(addr, "*");
    old.handle().publish("t", "from the old one").expect("it serves");
    let new = next("new", addr);
    eventually("the old one is succeeded", || old.handle().is_succeeded());
    assert_eq!(old.handle().publish("t", "late").unwrap_err(), PublishError::ShuttingDown);
    let published = new.handle().publish("t", "from the new one").expect("it serves");
    assert_eq!(published.offset, 2, "the order goes on");
    new.handle().publish("made-later", "to a pattern").expect("it serves");
    for member in [&mut member, &mut by_pattern] {
        assert_eq!(member.text().as_deref(), Ok("from the old one"));
        assert_eq!(member.text().as_deref(), Ok("from the new one"));
    }
    assert_eq!(by_pattern.text().as_deref(), Ok("to a pattern"));
    drop(by_pattern);
    drop(old);
    assert!((0..3).any(|_| member.0.read().is_err()), "it ends with the old one");
    let mut member = Member::join(addr, "t");
    new.handle().publish("t", "from the new one").expect("it serves");
    assert_eq!(member.text().as_deref(), Ok("from the new one"));
    assert!(all_reach(addr, "new"));
    new.shutdown();
}

#[test]
fn kept_alive_http_connections_are_told_to_go_to_the_new_one() {
    let spread = settings(|s| s.shutdown_spread = ms(600_000));
    let old = builder("old", any_port(), spread).start().expect("it starts");
    let addr = old.local_addrs()[0];
    let _member = Member::join(addr, "t");
    let mut kept = Http::connect(addr);
    let answer = kept.get("/name");
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("old", None));
    // The old one ends by itself.
    let new = next("new", addr);
    eventually("it is told to go", || kept.get("/name").header("connection") == Some("close"));
    assert!(kept.is_ended());
    assert_eq!(Http::connect(addr).get("/name").text(), "new");
    drop((old, new));
}

#[test]
fn an_engine_that_fails_to_take_over_changes_nothing() {
    let (old, addr) = first("old");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let other = taken.local_addr().expect("it has an address");
    let failed = builder("new", addr, settings(|s| s.takeover = true)).listen(other).start();
    assert_eq!(failed.err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    assert!(all_reach(addr, "old"));
    let new = next("new", addr);
    old.shutdown();
    assert!(all_reach(addr, "new"));
    new.shutdown();
}

#[test]
fn if_the_new_one_ends_before_it_serves_the_old_one_goes_on_and_can_be_replaced_again() {
    let (old, addr) = first("old");
    let before = old.handle().publish("t", "before").expect("it is published");
    {
        // As a process that is killed when it has been given everything: it greets in version 1, and takes the first bytes.
        let name = unix::SocketAddr::from_abstract_name(format!("fanfare/topics/{addr}")).expect("it is short");
        let mut asking = wait_for("the old one offers its topics", || unix::UnixStream::connect_addr(&name).ok());
        asking.write_all(&[2, 0, 0, 0, 0, 1]).expect("it listens");
        asking.read_exact(&mut [0; 4]).expect("it answers");
        assert_eq!(old.handle().publish("t", "meanwhile"), Err(PublishError::ShuttingDown));
    }
    let after = wait_for("it publishes again", || old.handle().publish("t", "after").ok());
    assert_eq!((after.epoch, after.offset), (before.epoch, before.offset + 1));
    assert!(all_reach(addr, "old"));
    wait_for("the old one offers its listeners", || offered(addr).then_some(()));
    let newer = next("newer", addr);
    old.shutdown();
    assert!(all_reach(addr, "newer"));
    let last = newer.handle().publish("t", "last").expect("it is published");
    assert_eq!((last.epoch, last.offset), (before.epoch, before.offset + 2));
    newer.shutdown();
}

/// Whether somebody offers the listeners of an address.
fn offered(addr: SocketAddr) -> bool {
    let name = unix::SocketAddr::from_abstract_name(format!("fanfare/takeover/{addr}")).expect("it is short");
    unix::UnixStream::connect_addr(&name).is_ok()
}

#[test]
fn without_takeover_a_second_one_is_refused_and_with_it_the_first_one_need_not_exist() {
    let (old, addr) = first("old");
    let error = builder("new", addr, settings(|_| {})).start().err().expect("it is refused");
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    old.shutdown();
    let alone = next("alone", addr);
    assert!(all_reach(addr, "alone"));
    alone.shutdown();
}

#[test]
fn listeners_for_http_only_are_taken_over_too() {
    let start = |name, addr: SocketAddr, http, takeover| {
        let settings = settings(|s| s.takeover = takeover);
        builder(name, addr, settings).http_listen(http).start().expect("it starts")
    };
    let old = start("old", any_port(), any_port(), false);
    let (addr, http) = (old.local_addrs()[0], old.http_addrs()[0]);
    let load = Load::start(http, "/name", 4);
    eventually("the load runs", || load.done() > 200);
    let new = start("new", addr, http, true);
    old.shutdown();
    let before = load.done();
    eventually("the load goes on", || load.done() > before + 200);
    let outcomes = load.stop();
    let bad = outcomes.keys().filter(|outcome| !matches!(outcome, Outcome::Answered(200 | 403))).count();
    assert_eq!(bad, 0, "{outcomes:?}");
    assert!(all_reach(http, "new"));
    new.shutdown();
}

#[test]
fn who_asks_for_listeners_in_another_language_gets_none_and_keeps_nobody_out() {
    use std::io::{Read, Write};
    let (old, addr) = first("old");
    let name = unix::SocketAddr::from_abstract_name(format!("fanfare/takeover/{addr}")).expect("it is short");
    let mut strange = unix::UnixStream::connect_addr(&name).expect("it is offered");
    strange.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is read");
    let mut answer = Vec::new();
    let _ = strange.read_to_end(&mut answer);
    assert_eq!(answer, b"");
    let new = next("new", addr);
    old.shutdown();
    assert!(all_reach(addr, "new"));
    new.shutdown();
}
