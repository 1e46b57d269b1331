//! What takes long is finished by another thread, and that connection's messages wait in order meanwhile.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use fanfare::{Deferred, Message};
use tungstenite::Message as Frame;

use crate::kit::{Ctx, PATIENCE, Running, Script, What, settings};

/// Echoes, but defers at messages that begin with `slow`; the deferrals come out at the receiver.
fn slow() -> (Script, Receiver<Deferred>) {
    let (deferrals, receiver) = mpsc::channel();
    let deferrals = Mutex::new(deferrals);
    let script = Script::new()
        .on_message(move |ctx, message| {
            let Message::Text(text) = message else { panic!() };
            if text.starts_with("slow") {
                deferrals.lock().unwrap().send(ctx.defer()).unwrap();
            } else {
                let _ = ctx.send(message);
            }
        })
        .on_resume(|ctx, value| {
            let _ = ctx.send(value.downcast_ref::<String>().unwrap());
        });
    (script, receiver)
}

#[test]
fn messages_wait_in_order_while_others_go_on() {
    let (script, deferrals) = slow();
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    let mut other = engine.connect();
    for text in ["1", "slow", "2", "3"] {
        client.0.write(Frame::text(text)).unwrap();
    }
    client.0.flush().unwrap();
    let deferred = deferrals.recv_timeout(PATIENCE).unwrap();
    assert_eq!(deferred.connection(), id);
    client.send("4");
    other.send("echo");
    assert_eq!(other.text(), "echo");
    let messages = |n: usize| What::Message(n.to_string());
    assert!(!engine.log.of(id).contains(&messages(2)));
    deferred.complete("result".to_owned());
    assert_eq!(client.texts(5), ["1", "result", "2", "3", "4"]);
    let expected =
        [What::Open, messages(1), What::Message("slow".into()), What::Resume, messages(2), messages(3), messages(4)];
    assert_eq!(engine.log.of(id), expected);
}

#[test]
fn dropping_the_deferral_lets_the_messages_go_on_without_a_result() {
    let (script, deferrals) = slow();
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    client.send("slow");
    client.send("next");
    drop(deferrals.recv_timeout(PATIENCE).unwrap());
    assert_eq!(client.text(), "next");
    assert!(!engine.log.of(id).contains(&What::Resume));
}

#[test]
fn one_deferral_after_the_other() {
    let (script, deferrals) = slow();
    let engine = Running::start(script);
    let mut client = engine.connect();
    for text in ["slow 1", "slow 2", "between", "slow 3", "end"] {
        client.send(text);
    }
    for n in 1..=3 {
        let deferred = deferrals.recv_timeout(PATIENCE).unwrap();
        assert!(deferrals.try_recv().is_err(), "one at a time");
        deferred.complete(format!("result {n}"));
    }
    assert_eq!(client.texts(5), ["result 1", "result 2", "between", "result 3", "end"]);
}

#[test]
fn a_deferral_in_resume_goes_on_holding_the_messages() {
    let (script, deferrals) = slow();
    let (again, second) = mpsc::channel();
    let again = Mutex::new(again);
    let script = script.on_resume(move |ctx: &mut Ctx<'_>, value| {
        let text = value.downcast::<String>().unwrap();
        let _ = ctx.send(&*text);
        if *text == "first half" {
            again.lock().unwrap().send(ctx.defer()).unwrap();
        }
    });
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("slow");
    client.send("next");
    deferrals.recv_timeout(PATIENCE).unwrap().complete("first half".to_owned());
    let deferred = second.recv_timeout(PATIENCE).unwrap();
    assert_eq!(client.text(), "first half");
    deferred.complete("second half".to_owned());
    assert_eq!(client.texts(2), ["second half", "next"]);
}

#[test]
fn two_deferrals_of_one_call_are_both_waited_for() {
    let (deferrals, receiver) = mpsc::channel();
    let deferrals = Mutex::new(deferrals);
    let script = Script::new()
        .on_message(move |ctx, message| match message {
            Message::Text("two") => deferrals.lock().unwrap().send([ctx.defer(), ctx.defer()]).unwrap(),
            _ => {
                let _ = ctx.send(message);
            }
        })
        .on_resume(|ctx, value| {
            let _ = ctx.send(*value.downcast_ref::<&str>().unwrap());
        });
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    client.send("two");
    client.send("next");
    let [first, second] = receiver.recv_timeout(PATIENCE).unwrap();
    second.complete("second");
    assert_eq!(client.text(), "second");
    assert!(!engine.log.of(id).contains(&What::Message("next".into())), "the first is still open");
    first.complete("first");
    assert_eq!(client.texts(2), ["first", "next"]);
}

#[test]
fn a_deferral_in_open_holds_even_what_came_with_the_upgrade() {
    use std::io::Write;
    let (deferrals, receiver) = mpsc::channel();
    let deferrals = Mutex::new(deferrals);
    let script = Script::new().on_open(move |ctx, ()| deferrals.lock().unwrap().send(ctx.defer()).unwrap());
    let engine = Running::start(script);
    let mut stream = crate::kit::tcp(engine.addr());
    let mut bytes = crate::kit::upgrade_head("/").into_bytes();
    bytes.extend(crate::kit::masked_text("early"));
    stream.write_all(&bytes).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap().complete(());
    engine.log.wait_for(&What::Message("early".into()));
    let id = engine.log.opened(0);
    assert_eq!(engine.log.of(id), [What::Open, What::Resume, What::Message("early".into())]);
}

#[test]
fn a_deferral_of_a_connection_that_has_ended_is_nothing() {
    let (script, deferrals) = slow();
    let engine = Running::start(script);
    let (mut client, id) = engine.connect_known();
    client.send("slow");
    let deferred = deferrals.recv_timeout(PATIENCE).unwrap();
    assert_eq!(engine.handle().close(id, 1000, "").wait(), Some(true));
    client.closed();
    deferred.complete("too late".to_owned());
    let mut other = engine.connect();
    other.send("echo");
    assert_eq!(other.text(), "echo");
    assert_eq!(engine.log.count(|what| *what == What::Resume), 0);
}

#[test]
fn a_deferred_connection_still_gets_publications_and_timers() {
    let (deferrals, receiver) = mpsc::channel();
    let deferrals = Mutex::new(deferrals);
    let script = Script::new().on_message(move |ctx, _| {
        ctx.subscribe("t", fanfare::Subscribe::default()).unwrap();
        ctx.set_timer(Duration::from_millis(1), 9);
        deferrals.lock().unwrap().send(ctx.defer()).unwrap();
    });
    let engine = Running::start(script);
    let mut client = engine.connect();
    client.send("go");
    let _deferred = receiver.recv_timeout(PATIENCE).unwrap();
    engine.handle().publish("t", "live").unwrap();
    assert_eq!(client.text(), "live");
    engine.log.wait_for(&What::Timer(9));
}

#[test]
fn a_deferral_longer_than_the_idle_timeout_is_no_silence_of_the_peer() {
    let (script, deferrals) = slow();
    let limits = settings(|s| (s.idle_timeout, s.ping_interval) = (Duration::from_millis(300), Duration::ZERO));
    let engine = Running::start_with(script, |b| b.settings(limits));
    let (mut client, id) = engine.connect_known();
    client.send("slow");
    let deferred = deferrals.recv_timeout(PATIENCE).unwrap();
    // Time has to pass for this one: a little less than the first look at the paused connection, at 1.3 s.
    assert!(deferrals.recv_timeout(Duration::from_millis(1200)).is_err());
    deferred.complete("result".to_owned());
    assert_eq!(client.text(), "result");
    assert!(deferrals.recv_timeout(Duration::from_millis(150)).is_err());
    client.send("still here");
    assert_eq!(client.text(), "still here");
    assert!(!engine.log.of(id).iter().any(|what| matches!(what, What::Close(..))));
}
