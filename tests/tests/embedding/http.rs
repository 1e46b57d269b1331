//! A program's own HTTP routes on the port of the WebSockets, and upgrades on connections that have carried HTTP.

use std::io::{Read, Write};
use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use fanfare::{Accept, Decision, EngineHandle, Refusal, Subscribe};

use crate::kit::{
    Client, PATIENCE, Running, Script, What, eventually, http, masked_text, read_answer, settings, tcp, upgrade_head,
};

fn routes(engine: EngineHandle) -> Router {
    Router::new()
        .route("/hello", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { format!("hello {peer}") }))
        .route(
            "/publish",
            post(|State(engine): State<EngineHandle>, body: String| async move {
                engine.publish("t", &body).unwrap().subscribers.to_string()
            }),
        )
        .route(
            "/close-all",
            post(|State(engine): State<EngineHandle>| async move {
                let mut closed = 0;
                for connection in engine.connections(None, 100).await {
                    closed += usize::from(engine.close(connection.id, 4005, "all out").await == Some(true));
                }
                closed.to_string()
            }),
        )
        .route("/length", post(|body: axum::body::Bytes| async move { body.len().to_string() }))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("on purpose")
                }
            }),
        )
        .with_state(engine)
}

fn with_routes(script: Script) -> Running {
    Running::start_with(script, |b| b.shards(2).http(routes))
}

const GET_HELLO: &str = "GET /hello HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn routes_and_websockets_share_the_port() {
    let script = Script::new().on_open(|ctx, ()| {
        ctx.subscribe("t", Subscribe::default()).unwrap();
        let _ = ctx.send("subscribed");
    });
    let engine = with_routes(script);
    let mut client = engine.connect();
    assert_eq!(client.text(), "subscribed");
    let mut stream = tcp(engine.addr());
    let (head, body) = http(&mut stream, GET_HELLO);
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert_eq!(body, format!("hello {}", stream.local_addr().unwrap()));
    // The connection is kept.
    let publish = "POST /publish HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nnews";
    assert_eq!(http(&mut stream, publish).1, "1");
    assert_eq!(client.text(), "news");
    let (head, _) = http(&mut stream, "GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(head.starts_with("http/1.1 404 "), "{head}");
    let close = "POST /close-all HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(http(&mut stream, close).1, "1");
    assert_eq!(client.closed(), (4005, "all out".into()));
}

#[test]
fn a_route_that_panics_is_answered_for_with_500_and_the_others_go_on() {
    let engine = with_routes(Script::new());
    let mut stream = tcp(engine.addr());
    let (head, body) = http(&mut stream, "GET /panic HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(head.starts_with("http/1.1 500 "), "{head}");
    assert!(body.contains("handler_panic"), "{body}");
    assert_eq!(engine.metric("fanfare_http_handler_panics_total"), 1.0);
    assert!(http(&mut stream, GET_HELLO).0.starts_with("http/1.1 200 "));
}

#[test]
fn a_request_with_a_large_body_behind_its_head_is_whole() {
    let engine = with_routes(Script::new());
    let body = vec![b'x'; 1 << 20];
    for _ in 0..20 {
        let mut stream = tcp(engine.addr());
        let mut request =
            format!("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(&body);
        stream.write_all(&request).unwrap();
        assert_eq!(read_answer(&mut stream).1, (1 << 20).to_string());
    }
    let mut client = engine.connect();
    client.close(1000, "");
    assert_eq!(client.closed().0, 1000);
}

#[test]
fn without_routes_the_answer_is_that_this_speaks_websocket() {
    let engine = Running::start(Script::new());
    let (head, body) = http(&mut tcp(engine.addr()), GET_HELLO);
    assert!(head.starts_with("http/1.1 426 "), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(body.contains("upgrade_required"), "{body}");
}

#[test]
fn an_upgrade_on_a_connection_that_was_kept_alive_works_and_loses_nothing() {
    let script = Script::new()
        .on_upgrade(|request| {
            assert_eq!((request.path(), request.query_value("q").as_deref()), ("/socket", Some("1")));
            assert_eq!((request.cookie("c"), request.id()), (Some("v"), None));
            assert_ne!(request.peer(), request.local());
            let chosen = request.choose_protocol(&["v1"]);
            Accept::new("kept alive".to_owned()).protocol(chosen).header("X-Own", "yes").into()
        })
        .on_open(|ctx, ()| {
            let _ = ctx.send("open");
        })
        .on_message(|ctx, message| {
            let _ = ctx.send(message);
            let data = ctx.data().clone();
            let _ = ctx.send(&data);
        });
    let engine = with_routes(script);
    let mut stream = tcp(engine.addr());
    assert!(http(&mut stream, GET_HELLO).0.starts_with("http/1.1 200 "));
    let mut upgrade = upgrade_head("/socket?q=1");
    upgrade.insert_str(upgrade.len() - 2, "Cookie: c=v\r\nSec-WebSocket-Protocol: v1\r\n");
    let mut bytes = upgrade.into_bytes();
    bytes.extend(masked_text("pipelined"));
    stream.write_all(&bytes).unwrap();
    let (head, _) = read_answer(&mut stream);
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("sec-websocket-protocol: v1\r\n") && head.contains("x-own: yes\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let mut client = of_stream(stream);
    assert_eq!(client.texts(3), ["open", "pipelined", "kept alive"]);
    client.send("later");
    assert_eq!(client.texts(2), ["later", "kept alive"]);
    eventually(1, || engine.handle().connection_count());
    client.close(4006, "");
    assert_eq!(client.closed().0, 4006);
    assert_eq!(engine.log.closed().1, 4006);
}

/// The client's side of a WebSocket whose upgrade was written by hand.
fn of_stream(stream: std::net::TcpStream) -> Client {
    use tungstenite::protocol::Role;
    Client(tungstenite::WebSocket::from_raw_socket(stream, Role::Client, None))
}

#[test]
fn an_upgrade_on_a_kept_connection_is_refused_by_the_same_rules() {
    let script = Script::new().on_upgrade(|request| match request.path() {
        "/refused" => Refusal::new(429).header("Retry-After", "7").text("too many").into(),
        "/bad-header" => Accept::new(String::new()).header("X Own", "no").into(),
        "/panic" => panic!("on purpose"),
        _ => Decision::accept(String::new()),
    });
    let engine = with_routes(script);
    let mut stream = tcp(engine.addr());
    assert!(http(&mut stream, GET_HELLO).0.starts_with("http/1.1 200 "));
    let (head, body) = http(&mut stream, &upgrade_head("/refused"));
    assert!(head.starts_with("http/1.1 429 ") && head.contains("retry-after: 7"), "{head}");
    assert_eq!(body, "too many");
    assert!(http(&mut stream, &upgrade_head("/bad-header")).0.starts_with("http/1.1 500 "));
    let foreign = upgrade_head("/").replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n");
    assert!(http(&mut stream, &foreign).0.starts_with("http/1.1 403 "));
    let old = upgrade_head("/").replace("Version: 13", "Version: 8");
    let (head, _) = http(&mut stream, &old);
    assert!(head.starts_with("http/1.1 426 ") && head.contains("sec-websocket-version: 13"), "{head}");
    assert!(http(&mut stream, &upgrade_head("/panic")).0.starts_with("http/1.1 500 "));
    assert_eq!(engine.metric("fanfare_http_handler_panics_total"), 1.0);
    // After all that it is still good for an upgrade.
    assert!(http(&mut stream, &upgrade_head("/")).0.starts_with("http/1.1 101 "));
    engine.log.wait_for(&What::Open);
}

#[test]
fn a_deferral_in_open_holds_what_was_pipelined_behind_a_late_upgrade() {
    let (deferrals, receiver) = std::sync::mpsc::channel();
    let deferrals = std::sync::Mutex::new(deferrals);
    let engine =
        with_routes(Script::new().on_open(move |ctx, ()| deferrals.lock().unwrap().send(ctx.defer()).unwrap()));
    let mut stream = tcp(engine.addr());
    assert!(http(&mut stream, GET_HELLO).0.starts_with("http/1.1 200 "));
    let mut bytes = upgrade_head("/").into_bytes();
    bytes.extend(masked_text("early"));
    stream.write_all(&bytes).unwrap();
    receiver.recv_timeout(PATIENCE).unwrap().complete(());
    engine.log.wait_for(&What::Message("early".into()));
    let id = engine.log.opened(0);
    assert_eq!(engine.log.of(id), [What::Open, What::Resume, What::Message("early".into())]);
}

#[test]
fn connections_beyond_the_limit_are_turned_away_with_503() {
    let limits = settings(|s| s.connections_max = 2);
    let engine = Running::start_with(Script::new(), |b| b.shards(2).settings(limits));
    let (first, _) = engine.connect_known();
    let (_second, _) = engine.connect_known();
    let mut stream = tcp(engine.addr());
    stream.write_all(upgrade_head("/").as_bytes()).unwrap();
    let (head, body) = read_answer(&mut stream);
    assert!(head.starts_with("http/1.1 503 ") && head.contains("retry-after:"), "{head}");
    assert!(body.contains("capacity") && body.contains("connections_max"), "{body}");
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    drop(first);
    engine.log.closed();
    eventually(true, || Client::try_connect(engine.addr(), "/", &[]).is_ok());
}

#[test]
fn plain_http_does_not_use_up_the_connections_for_good() {
    let limits = settings(|s| (s.connections_max, s.http_connections_max) = (3, 2));
    let engine = Running::start_with(Script::new(), |b| b.settings(limits).http(routes));
    for _ in 0..20 {
        let mut stream = tcp(engine.addr());
        let (head, _) = http(&mut stream, "GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        // The last one may not have been counted out yet.
        assert!(head.starts_with("http/1.1 200 ") || head.starts_with("http/1.1 503 "), "{head}");
    }
    eventually(true, || Client::try_connect(engine.addr(), "/", &[]).is_ok());
}
