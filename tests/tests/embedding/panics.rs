//! A panic in any callback ends that connection and is counted; everybody else goes on.

use std::time::Duration;

use fanfare::Message;
use tungstenite::Message as Frame;

use crate::kit::{Client, Ctx, Running, Script, eventually, settings};

/// Only connections on `/boom` panic; the others echo.
fn boom(ctx: &mut Ctx<'_>) {
    assert!(ctx.data() != "/boom", "on purpose");
}

/// The connection on `/boom` is ended by what `provoke` does to it; the bystander is not.
#[track_caller]
fn contained(script: Script, code: Option<u16>, provoke: impl FnOnce(&mut Client)) {
    let engine = Running::start(script);
    let mut bystander = engine.connect();
    let (mut victim, _) = Client::connect(engine.addr(), "/boom");
    provoke(&mut victim);
    if let Some(code) = code {
        assert_eq!(victim.closed().0, code);
    }
    eventually(1.0, || engine.metric("fanfare_handler_panics_total"));
    eventually(1, || engine.handle().connection_count());
    bystander.send("echo");
    assert_eq!(bystander.text(), "echo");
}

fn echo() -> Script {
    Script::new().on_message(|ctx, message| {
        let _ = ctx.send(message);
    })
}

#[test]
fn in_upgrade() {
    let script = echo().on_upgrade(|request| {
        assert!(request.path() != "/boom", "on purpose");
        fanfare::Decision::accept(String::new())
    });
    let engine = Running::start(script);
    let mut bystander = engine.connect();
    match Client::try_connect(engine.addr(), "/boom", &[]) {
        Err(tungstenite::Error::Http(answer)) => assert_eq!(answer.status(), 500),
        _ => panic!("no 500"),
    }
    assert_eq!(engine.metric("fanfare_handler_panics_total"), 1.0);
    bystander.send("echo");
    assert_eq!(bystander.text(), "echo");
}

#[test]
fn in_open() {
    contained(echo().on_open(|ctx, ()| boom(ctx)), Some(1011), |_| {});
}

#[test]
fn in_message() {
    let script = Script::new().on_message(|ctx, message| {
        boom(ctx);
        let _ = ctx.send(message);
    });
    contained(script, Some(1011), |client| client.send("go"));
}

#[test]
fn in_ping() {
    contained(echo().on_ping(|ctx, ()| boom(ctx)), Some(1011), |client| {
        client.0.send(Frame::Ping("x".into())).unwrap();
    });
}

#[test]
fn in_pong() {
    contained(echo().on_pong(|ctx, ()| boom(ctx)), Some(1011), |client| {
        client.0.send(Frame::Pong("x".into())).unwrap();
    });
}

#[test]
fn in_sent() {
    let script = Script::new().on_sent(|ctx, _| boom(ctx)).on_message(|ctx, message| {
        let _ = ctx.send_tracked(message, 1);
    });
    contained(script, Some(1011), |client| client.send("go"));
}

#[test]
fn in_timer() {
    let script = echo().on_timer(|ctx, _| boom(ctx)).on_open(|ctx, ()| assert!(ctx.set_timer(Duration::ZERO, 1)));
    contained(script, Some(1011), |_| {});
}

#[test]
fn in_drain() {
    let script = echo().on_drain(|ctx, ()| boom(ctx)).on_open(|ctx, ()| {
        if ctx.data() == "/boom" {
            let _ = ctx.send(Message::Binary(&vec![0; 3 << 20]));
        }
    });
    contained(script, Some(1011), |client| assert_eq!(client.next().len(), 3 << 20));
}

#[test]
fn in_resume() {
    let script = echo().on_resume(|ctx, _| boom(ctx)).on_open(|ctx, ()| ctx.defer().complete(()));
    contained(script, Some(1011), |_| {});
}

#[test]
fn in_close() {
    contained(echo().on_close(|ctx, ()| boom(ctx)), Some(1000), |client| client.close(1000, ""));
}

#[test]
fn in_tick() {
    let engine = Running::start_with(echo().on_tick(|_| panic!("on purpose")), |b| {
        b.settings(settings(|s| s.tick_interval = Duration::from_millis(5)))
    });
    eventually(true, || engine.metric("fanfare_handler_panics_total") >= 2.0);
    let mut bystander = engine.connect();
    bystander.send("echo");
    assert_eq!(bystander.text(), "echo");
}

#[test]
fn what_was_done_before_the_panic_in_the_same_call_is_done() {
    let script = Script::new().on_message(|ctx, _| {
        ctx.subscribe("t", fanfare::Subscribe::default()).unwrap();
        ctx.publish("t", "published").unwrap();
        let _ = ctx.send("sent");
        panic!("on purpose");
    });
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("go");
    assert_eq!(client.texts(2), ["published", "sent"]);
    assert_eq!(client.closed().0, 1011);
}
