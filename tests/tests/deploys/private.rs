//! Addresses for HTTP only.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use fanfare::{Arrival, Engine};
use fanfare_tests::raw::upgrade_request;
use fanfare_tests::{Http, Raw, eventually};

use crate::kit::{Member, Rooms, any_port, builder, ms, settings};

#[test]
fn it_serves_the_same_routes_says_so_to_them_and_refuses_websockets() {
    let routes = |_| {
        let told =
            |Extension(arrival): Extension<Arrival>| async move { format!("{} {}", arrival.private, arrival.local) };
        Router::new().route("/told", get(told))
    };
    let engine = Engine::builder(Rooms).shards(1).listen(any_port()).http_listen(any_port()).http(routes);
    let engine = engine.start().expect("it starts");
    let (addr, http) = (engine.local_addrs()[0], engine.http_addrs()[0]);
    assert_eq!(Http::connect(addr).get("/told").text(), format!("false {addr}"));
    let mut private = Http::connect(http);
    assert_eq!(private.get("/told").text(), format!("true {http}"));
    assert_eq!(private.get("/told").status, 200, "the connection is kept");
    let mut upgrade = Raw::connect(http);
    upgrade.send(upgrade_request("/t"));
    let answer = upgrade.read_head();
    assert_eq!(answer.status, 403);
    assert!(String::from_utf8_lossy(&upgrade.read_rest()).contains("http_only"));
    drop(private);
    engine.shutdown();
}

#[test]
fn an_engine_may_be_reached_over_http_only() {
    let routes = |engine: fanfare::EngineHandle| {
        Router::new().route("/metrics", get(move || async move { Arc::new(engine).metrics() }))
    };
    let engine = Engine::builder(Rooms).shards(1).http_listen(any_port()).http(routes).start().expect("it starts");
    assert_eq!(engine.local_addrs(), []);
    assert!(Http::connect(engine.http_addrs()[0]).get("/metrics").text().contains("fanfare_ready 1"));
    engine.shutdown();
}

#[test]
fn who_fills_the_places_of_the_public_address_does_not_keep_anybody_from_the_other_one() {
    let few = settings(|s| {
        s.http_connections_max = 2;
        s.connections_max = 4;
    });
    let engine = builder("it", any_port(), few).http_listen(any_port()).start().expect("it starts");
    let (addr, http) = (engine.local_addrs()[0], engine.http_addrs()[0]);
    let mut public: Vec<_> = (0..2).map(|_| Http::connect(addr)).collect();
    assert!(public.iter_mut().all(|http| http.get("/name").status == 200));
    assert_eq!(Http::connect(addr).get("/name").status, 503);
    let mut private: Vec<_> = (0..2).map(|_| Http::connect(http)).collect();
    assert!(private.iter_mut().all(|http| http.get("/name").status == 200));
    // Its own places are as many; one more waits until one of them is free.
    let mut third = Raw::connect(http);
    third.send("GET /name HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(!third.is_answered_within(ms(200)));
    private.pop();
    assert_eq!(third.read_head().status, 200);
    drop((public, private, third));
    engine.shutdown();
}

#[test]
fn it_is_served_until_the_end_also_when_nobody_else_is_let_in() {
    let slow = settings(|s| s.shutdown_spread = Duration::from_secs(600));
    let engine = builder("it", any_port(), slow).http_listen(any_port()).start().expect("it starts");
    let (addr, http) = (engine.local_addrs()[0], engine.http_addrs()[0]);
    let _member = Member::join(addr, "t");
    engine.handle().begin_shutdown();
    eventually("nobody is let in", || std::net::TcpStream::connect(addr).is_err());
    assert_eq!(Http::connect(http).get("/ready").text(), "false");
    drop(engine);
    // A test beside this one may get the same port: that is somebody else, and does not stay.
    eventually("it is closed", || std::net::TcpStream::connect(http).is_err());
}
