//! How engines begin and end.

use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use fanfare::{CloseCause, Engine, EngineError, Message, Subscribe};

use crate::kit::{Running, Script, What, eventually, settings, tcp};

#[test]
fn a_shutdown_ends_all_with_1001_and_tells_the_handler_of_each() {
    let engine = Running::start_with(Script::new(), |b| b.shards(2));
    let clients: Vec<_> = (0..10).map(|_| engine.connect()).collect();
    eventually(10, || engine.handle().connection_count());
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let closed = client.closed();
                while client.0.read().is_ok() {}
                closed
            })
        })
        .collect();
    let (log, handle, began) = (engine.log.clone(), engine.handle().clone(), Instant::now());
    engine.engine.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for reader in readers {
        assert_eq!(reader.join().unwrap(), (1001, CloseCause::Shutdown.text().into()));
    }
    let cause = CloseCause::Shutdown;
    assert_eq!(log.count(|what| *what == What::Close(cause, 1001, cause.text().into())), 10);
    assert_eq!(log.count(|what| matches!(what, What::Close(..))), 10);
    assert!(!handle.is_ready());
}

#[test]
fn a_shutdown_writes_what_waits_first() {
    let engine = Running::start(Script::new().on_message(|ctx, _| {
        let _ = ctx.send(Message::Binary(&vec![0; 3 << 20]));
    }));
    let mut client = engine.connect();
    client.send("go");
    engine.log.wait_for(&What::Message("go".into()));
    let ending = std::thread::spawn(move || engine.engine.shutdown());
    assert_eq!(client.next().len(), 3 << 20);
    assert_eq!(client.closed().0, 1001);
    while client.0.read().is_ok() {}
    ending.join().unwrap();
}

#[test]
fn a_shutdown_does_not_wait_longer_than_allowed_for_somebody_who_does_not_read() {
    let limits = settings(|s| s.shutdown_timeout = Duration::from_millis(300));
    let engine = Running::start_with(
        Script::new().on_message(|ctx, _| {
            let _ = ctx.send_tracked(Message::Binary(&vec![0; 4 << 20]), 1);
        }),
        |b| b.settings(limits),
    );
    let (mut client, id) = engine.connect_known();
    client.send("go");
    engine.log.wait_for(&What::Message("go".into()));
    let (log, began) = (engine.log.clone(), Instant::now());
    engine.engine.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let calls = log.of(id);
    assert_eq!(calls.iter().filter(|what| matches!(what, What::Close(..))).count(), 1, "{calls:?}");
    assert_eq!(calls[2], What::Sent(1, false), "{calls:?}");
}

#[test]
fn dropping_an_engine_ends_it_at_once_and_tells_the_handler() {
    let engine = Running::start_with(Script::new(), |b| b.shards(2));
    let (client, _) = engine.connect_known();
    let (log, addr, began) = (engine.log.clone(), engine.addr(), Instant::now());
    drop(engine);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(log.count(|what| matches!(what, What::Close(CloseCause::Shutdown, _, _))), 1);
    // What the threads owned is gone with them: the listeners, and all but this test's share of the log.
    assert_eq!(log.holders(), 1);
    drop(client);
    TcpListener::bind(addr).expect("the port is free");
}

#[test]
fn a_handle_outlives_its_engine_and_says_so() {
    let engine = Running::start(Script::new().on_open(|ctx, ()| {
        ctx.subscribe("t", Subscribe::default()).unwrap();
    }));
    let (_client, id) = engine.connect_known();
    let handle = engine.handle().clone();
    engine.engine.shutdown();
    assert_eq!(handle.send(id, "x"), Err(EngineError::ShuttingDown));
    assert_eq!(handle.close(id, 1000, "").wait(), None);
    assert!(handle.publish("t", "x").is_err());
    assert_eq!(handle.connection_count(), 0);
    handle.begin_shutdown();
}

#[test]
fn an_engine_whose_shutdown_was_only_begun_can_still_be_asked() {
    let engine = Running::start_with(Script::new(), |b| b.shards(2));
    let (mut client, id) = engine.connect_known();
    let handle = engine.handle().clone();
    handle.begin_shutdown();
    assert_eq!(client.closed().0, 1001);
    while client.0.read().is_ok() {}
    drop(client);
    // The shards end by themselves; whoever still asks gets an answer of some kind, whenever that is.
    eventually(true, || handle.send(id, "x") == Err(EngineError::ShuttingDown));
    assert_eq!(handle.close(id, 1000, "").wait(), None);
    let _ = handle.publish("t", "x");
}

#[test]
fn a_deferral_can_be_completed_after_the_engine_has_gone() {
    let (deferrals, receiver) = std::sync::mpsc::channel();
    let deferrals = std::sync::Mutex::new(deferrals);
    let script = Script::new().on_message(move |ctx, _| deferrals.lock().unwrap().send(ctx.defer()).unwrap());
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("go");
    let deferred = receiver.recv_timeout(crate::kit::PATIENCE).unwrap();
    drop(engine);
    deferred.complete("too late");
}

#[test]
fn the_number_of_shards_has_to_make_sense() {
    for shards in [0, 1025] {
        let error = Engine::builder(Script::new()).shards(shards).start().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&shards.to_string()), "{error}");
    }
}

#[test]
fn an_address_that_is_taken_is_named() {
    let first = Running::start(Script::new());
    let error = Engine::builder(Script::new()).listen(first.addr()).start().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&first.addr().to_string()), "{error}");
    assert!(error.to_string().contains("takeover"), "it says what to do: {error}");
}

#[test]
fn an_engine_can_be_pinned_and_can_do_without_an_address() {
    let engine = Engine::builder(Script::new()).shards(2).pin(true).start().unwrap();
    assert!(engine.local_addrs().is_empty());
    assert_eq!(engine.handle().publish("t", "x").unwrap().offset, 1);
    engine.shutdown();
}

#[test]
fn a_connection_that_says_nothing_does_not_hold_up_the_shutdown() {
    let engine = Running::start(Script::new());
    let mut silent = tcp(engine.addr());
    silent.write_all(b"").unwrap();
    let began = Instant::now();
    engine.engine.shutdown();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
