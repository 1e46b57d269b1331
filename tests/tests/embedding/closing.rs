//! Every way a connection can end: the handler is told once, with cause, code and reason, and of nothing afterwards.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use fanfare::{CloseCause, Message, SendOutcome, Subscribe};
use tungstenite::Message as Frame;

use crate::kit::{Client, Running, Script, What, eventually, settings, tcp, upgrade_head};

/// A connection does this, and this is what the handler is told last.
#[track_caller]
fn ends(script: Script, end: impl FnOnce(&Running, Client), expected: (CloseCause, u16, &str)) {
    let engine = Running::start_with(script, |b| {
        b.settings(settings(|s| {
            s.idle_timeout = Duration::from_millis(400);
            s.ping_interval = Duration::ZERO;
        }))
    });
    let (client, id) = engine.connect_known();
    end(&engine, client);
    let (cause, code, reason) = engine.log.closed();
    assert_eq!((cause, code, &*reason), expected);
    eventually(0, || engine.handle().connection_count());
    // Whatever still happens to the socket: no call comes any more.
    let handle = engine.handle().clone();
    let log = engine.log.clone();
    engine.engine.shutdown();
    let calls = log.of(id);
    let closes = calls.iter().filter(|what| matches!(what, What::Close(..))).count();
    assert_eq!(closes, 1, "{calls:?}");
    assert!(matches!(calls.last(), Some(What::Close(..))), "{calls:?}");
    assert_eq!(handle.connection_count(), 0);
}

#[test]
fn the_peer_closes_with_code_and_reason_and_gets_its_code_back() {
    let end = |_: &Running, mut client: Client| {
        client.close(4321, "enough");
        assert_eq!(client.closed(), (4321, "enough".into()));
    };
    ends(Script::new(), end, (CloseCause::PeerClose, 4321, "enough"));
}

#[test]
fn the_peer_closes_without_a_code() {
    let end = |_: &Running, mut client: Client| {
        client.0.close(None).unwrap();
        assert_eq!(client.closed().0, 1005);
    };
    ends(Script::new(), end, (CloseCause::PeerClose, 1005, ""));
}

#[test]
fn the_peer_goes_away_without_a_close_frame() {
    let cause = CloseCause::PeerGone;
    ends(Script::new(), |_, client| drop(client), (cause, 1006, cause.text()));
}

#[test]
fn the_peer_resets_the_connection() {
    let cause = CloseCause::PeerReset;
    ends(Script::new(), |_, client| client.reset(), (cause, 1006, cause.text()));
}

#[test]
fn the_handler_closes() {
    let script = Script::new().on_message(|ctx, _| {
        ctx.close(4000, "you asked for it");
        ctx.close(4001, "twice");
        assert_eq!(ctx.send("late"), SendOutcome::Closed);
    });
    let end = |_: &Running, mut client: Client| {
        client.send("close me");
        assert_eq!(client.closed(), (4000, "you asked for it".into()));
    };
    ends(script, end, (CloseCause::Application, 4000, "you asked for it"));
}

#[test]
fn a_code_that_may_not_be_sent_becomes_1000_and_a_long_reason_is_cut_at_a_character() {
    let script = Script::new().on_message(|ctx, _| ctx.close(1006, &"ž".repeat(100)));
    let reason = "ž".repeat(61);
    let end = |_: &Running, mut client: Client| {
        client.send("close me");
        assert_eq!(client.closed(), (1000, "ž".repeat(61)));
    };
    ends(script, end, (CloseCause::Application, 1000, &reason));
}

#[test]
fn the_handler_closes_already_in_open() {
    let script = Script::new().on_open(|ctx, ()| {
        let _ = ctx.send("no");
        ctx.close(4002, "");
    });
    let end = |_: &Running, mut client: Client| {
        assert_eq!(client.text(), "no");
        assert_eq!(client.closed().0, 4002);
    };
    ends(script, end, (CloseCause::Application, 4002, ""));
}

#[test]
fn another_thread_closes() {
    let end = |engine: &Running, mut client: Client| {
        let id = engine.log.opened(0);
        assert_eq!(engine.handle().close(id, 4003, "from outside").wait(), Some(true));
        assert_eq!(client.closed(), (4003, "from outside".into()));
        assert_eq!(engine.handle().close(id, 4004, "again").wait(), Some(false));
    };
    ends(Script::new(), end, (CloseCause::Administrative, 4003, "from outside"));
}

#[test]
fn the_handler_panics() {
    let script = Script::new().on_message(|_, _| panic!("on purpose"));
    let end = |_: &Running, mut client: Client| {
        client.send("boom");
        assert_eq!(client.closed().0, 1011);
    };
    ends(script, end, (CloseCause::HandlerPanic, 1011, "internal error"));
}

#[test]
fn the_engine_shuts_down() {
    let end = |engine: &Running, mut client: Client| {
        engine.handle().begin_shutdown();
        assert_eq!(client.closed().0, 1001);
    };
    let cause = CloseCause::Shutdown;
    ends(Script::new(), end, (cause, 1001, cause.text()));
}

#[test]
fn the_peer_breaks_the_protocol() {
    let end = |_: &Running, mut client: Client| {
        client.0.get_mut().write_all(&[0x83, 0x80, 0, 0, 0, 0]).unwrap();
        assert_eq!(client.closed().0, 1002);
    };
    let engine = Running::start(Script::new());
    let (client, _) = engine.connect_known();
    end(&engine, client);
    let (cause, code, reason) = engine.log.closed();
    assert_eq!((cause, code), (CloseCause::ProtocolError, 1002));
    ends(Script::new(), end, (cause, code, &reason));
}

#[test]
fn text_that_is_not_utf8_ends_the_connection() {
    let engine = Running::start(Script::new());
    let mut client = engine.connect();
    client.0.get_mut().write_all(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).unwrap();
    assert_eq!(client.closed().0, 1007);
    assert_eq!(engine.log.closed().0, CloseCause::InvalidPayload);
    assert_eq!(engine.log.count(|what| matches!(what, What::Message(_))), 0);
}

#[test]
fn a_silent_peer_is_given_up() {
    let end = |_: &Running, mut client: Client| assert_eq!(client.closed().0, 1001);
    let cause = CloseCause::IdleTimeout;
    ends(Script::new(), end, (cause, 1001, cause.text()));
}

#[test]
fn what_waits_is_written_before_the_close_frame() {
    let script = Script::new().on_message(|ctx, _| {
        for _ in 0..3 {
            let _ = ctx.send(Message::Binary(&vec![0; 1 << 20]));
        }
        ctx.close(1000, "after all that");
    });
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("go");
    for _ in 0..3 {
        assert_eq!(client.next().len(), 1 << 20);
    }
    assert_eq!(client.closed(), (1000, "after all that".into()));
}

#[test]
fn a_closing_connection_is_given_nothing_any_more() {
    let script = Script::new().on_message(|ctx, message| {
        if message == Message::Text("close") {
            ctx.subscribe("t", Subscribe::default()).unwrap();
            assert!(ctx.set_timer(Duration::from_millis(1), 1));
            ctx.close(1000, "");
            assert!(!ctx.set_timer(Duration::from_millis(1), 2));
            ctx.publish("t", "nobody gets this").unwrap();
        }
    });
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    // All in one write: the second message is there before the first is handled.
    client.0.write(Frame::text("close")).unwrap();
    client.0.write(Frame::text("after")).unwrap();
    client.0.flush().unwrap();
    assert_eq!(client.closed().0, 1000);
    eventually(true, || engine.handle().connection(id).wait().unwrap().is_none());
    let calls = engine.log.of(id);
    assert_eq!(calls.len(), 3, "{calls:?}");
    assert!(matches!(calls[2], What::Close(..)));
    assert_eq!(engine.handle().topic("t").unwrap().deliveries.expected, 0);
}

#[test]
fn what_close_does_to_its_own_connection_has_no_effect() {
    let script = Script::new().on_close(|ctx, ()| {
        assert_eq!(ctx.send("late"), SendOutcome::Closed);
        assert_eq!(ctx.ping(b""), SendOutcome::Closed);
        assert!(ctx.subscribe("t", Subscribe::default()).is_err());
        assert!(ctx.subscriptions().is_empty());
        assert!(!ctx.set_timer(Duration::ZERO, 1) && !ctx.cancel_timer(1));
        ctx.close(4000, "late");
        ctx.retry();
        drop(ctx.defer());
        ctx.publish("goodbye", ctx.id().to_string().as_str()).unwrap();
        let data = ctx.data().clone();
        assert_eq!(data, "/");
    });
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    client.close(1000, "");
    assert_eq!(client.closed().0, 1000);
    engine.log.closed();
    eventually(Some(1), || engine.handle().topic("goodbye").map(|topic| topic.offset));
    assert_eq!(engine.metric("fanfare_handler_panics_total"), 0.0);
    eventually(true, || engine.handle().connection(id).wait().unwrap().is_none());
}

#[test]
fn data_right_behind_the_upgrade_and_the_end_of_the_stream_are_both_seen() {
    let engine = Running::start(Script::new());
    let mut stream = tcp(engine.addr());
    let mut bytes = upgrade_head("/").into_bytes();
    bytes.extend(crate::kit::masked_text("hello"));
    stream.write_all(&bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(engine.log.closed().0, CloseCause::PeerGone);
    let id = engine.log.opened(0);
    assert_eq!(engine.log.of(id)[..2], [What::Open, What::Message("hello".into())]);
}
