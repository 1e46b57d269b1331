//! Messages for one connection, and a program that does without: the engine in this process.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fanfare::{Accept, ConnectionId, Context, Decision, Engine, Handler, Message, Settings, Upgrade};
use fanfare_tests::Raw;
use fanfare_tests::raw::upgrade_request_with;
use fanfare_tests::wait_for;

use crate::kit::{Member, OFFER, noise, ticks};

/// Echoes; on `/secret` without compression, and on `/own` with an extension that the program says it has.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<ConnectionId>>>);

impl Handler for Echo {
    type Data = ();

    fn upgrade(&self, upgrade: &Upgrade<'_>) -> Decision<()> {
        let accept = Accept::new(()).subject("ada");
        match upgrade.path() {
            "/secret" => accept.uncompressed().into(),
            "/own" => accept.header("sec-WebSocket-Extensions", "x-own").into(),
            _ => accept.into(),
        }
    }

    fn open(&self, ctx: &mut Context<'_, ()>) {
        self.0.lock().expect("no test panics with it").push(ctx.id());
    }

    fn message(&self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

fn start() -> (Engine, SocketAddr, Echo) {
    let echo = Echo::default();
    let settings = Settings { deflate: true, ..Settings::default() };
    let engine = Engine::builder(echo.clone()).shards(1).settings(settings).listen(([127, 0, 0, 1], 0).into());
    let engine = engine.start().expect("it starts");
    let addr = engine.local_addrs()[0];
    (engine, addr, echo)
}

fn metric(engine: &Engine, name: &str) -> u64 {
    fanfare_tests::Metrics::parse(&engine.handle().metrics()).count(name, &[])
}

#[test]
fn answers_of_the_handler_are_compressed_by_the_same_rules() {
    let (engine, addr, _) = start();
    for window in [9, 12, 15] {
        let mut member = Member::compressed(addr, "/", window);
        for length in [10, 1023, 1024, 4096, 300_000, (1 << 20) + 1] {
            let text = ticks(length);
            member.send_text(&text);
            let seen = member.read();
            assert_eq!(seen.payload, text.as_bytes());
            let holds = length <= 1 << if window == 15 { 20 } else { window };
            assert_eq!(seen.compressed, length >= 1024 && holds, "{length} bytes, a window of {window}");
        }
        member.send(2, &noise(5000));
        let seen = member.read();
        assert_eq!((seen.compressed, seen.payload), (false, noise(5000)));
    }
    assert_eq!(metric(&engine, "fanfare_deflated_messages_total"), 3 + 2, "of each that was compressed, nothing else");
    engine.shutdown();
}

#[test]
fn what_another_thread_sends_is_compressed_too() {
    let (engine, addr, echo) = start();
    let mut member = Member::compressed(addr, "/", 15);
    let id = wait_for("it is open", || echo.0.lock().expect("no test panics with it").first().copied());
    let text = ticks(5000);
    engine.handle().send(id, text.as_str()).expect("there is room");
    let seen = member.read();
    assert_eq!((seen.compressed, seen.payload), (true, text.clone().into_bytes()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let reached = runtime.block_on(engine.handle().send_subject("ada", text.as_str()));
    assert!(reached.is_whole());
    let seen = member.read();
    assert_eq!((seen.compressed, seen.payload), (true, text.into_bytes()));
    engine.shutdown();
}

#[test]
fn a_program_may_do_without_for_a_connection() {
    let (engine, addr, _) = start();
    let mut raw = Raw::connect(addr);
    raw.send(upgrade_request_with("/secret", &format!("Sec-WebSocket-Extensions: {OFFER}\r\n")));
    let answer = raw.read_head();
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
    let text = ticks(5000);
    raw.send(fanfare_tests::raw::frame(1, text.as_bytes()));
    assert_eq!(raw.read_frame().text(), text);
    assert_eq!(metric(&engine, "fanfare_upgrades_deflated_total"), 0);
    assert_eq!(metric(&engine, "fanfare_deflated_messages_total"), 0);
    engine.shutdown();
}

#[test]
fn a_program_that_answers_with_extensions_of_its_own_agrees_on_no_other() {
    let (engine, addr, _) = start();
    for kept_alive in [false, true] {
        let mut raw = Raw::connect(addr);
        if kept_alive {
            // What comes behind a request is answered by another part of the server.
            raw.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let answer = raw.read_head();
            let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let _ = raw.read_bytes(length);
        }
        raw.send(upgrade_request_with("/own", &format!("Sec-WebSocket-Extensions: {OFFER}\r\n")));
        let answer = raw.read_head();
        let values: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "sec-websocket-extensions").collect();
        assert!(matches!(values[..], [(_, value)] if value == "x-own"), "{answer:?}");
        let text = ticks(5000);
        raw.send(fanfare_tests::raw::frame(1, text.as_bytes()));
        assert_eq!(raw.read_frame().text(), text, "plain");
        // And what comes compressed breaks the protocol.
        raw.send(crate::kit::deflated(1, b"compressed"));
        assert_eq!(raw.read_close().0, 1002);
    }
    assert_eq!(metric(&engine, "fanfare_upgrades_deflated_total"), 0);
    engine.shutdown();
}
