//! Before the upgrade: who is let in, how many from where, how fast, and who a client behind a proxy is. Engines in this
//! process, real sockets, clients on addresses of their own within 127.0.0.0/8.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::extract::ConnectInfo;
use axum::routing::get;
use axum::{Extension, Json, Router};
use fanfare::{Arrival, ClientAddress, Context, Decision, Engine, Handler, Message, Refusal, Settings, Upgrade};
use fanfare_tests::http::{Response, request_bytes};
use fanfare_tests::raw::{End, close_frame, frame, op, upgrade_request, upgrade_request_with};
use fanfare_tests::{Metrics, Raw, eventually, wait_for};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Says to each client who it is, and then says everything twice.
#[derive(Default)]
struct Greeter {
    /// How many upgrades have been decided.
    upgrades: Arc<AtomicUsize>,
    /// How long each decision takes.
    effort: Duration,
}

impl Handler for Greeter {
    type Data = SocketAddr;

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<SocketAddr> {
        let began = Instant::now();
        while began.elapsed() < self.effort {
            std::hint::spin_loop();
        }
        self.upgrades.fetch_add(1, Ordering::SeqCst);
        let client = request.peer();
        match request.path() {
            "/refused" => Refusal::new(403).error("refused", "not this path").into(),
            "/later" => Decision::Later(Box::pin(async move { Decision::accept(client) })),
            "/later-refused" => {
                Decision::Later(Box::pin(async { Refusal::new(403).error("refused", "not this path").into() }))
            }
            _ => Decision::accept(client),
        }
    }

    fn open(&self, ctx: &mut Context<'_, SocketAddr>) {
        let client = ctx.data().to_string();
        let _ = ctx.send(client.as_str());
    }

    fn message(&self, ctx: &mut Context<'_, SocketAddr>, message: Message<'_>) {
        let _ = ctx.send(message);
    }
}

async fn whoami(Extension(arrival): Extension<Arrival>, ConnectInfo(client): ConnectInfo<SocketAddr>) -> Json<Value> {
    assert_eq!(arrival.client, client);
    Json(json!({ "client": client.to_string(), "peer": arrival.peer.to_string(), "forwarded": arrival.forwarded }))
}

struct Gate {
    engine: Engine,
}

impl Gate {
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(Greeter::default(), 2, change)
    }

    fn of(greeter: Greeter, shards: usize, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let engine = Engine::builder(greeter).listen(([127, 0, 0, 1], 0).into()).shards(shards).settings(settings);
        let engine = engine.http(|_| Router::new().route("/whoami", get(whoami))).start().expect("it starts");
        Self { engine }
    }

    /// Behind proxies on 127.0.0.1 and 127.0.0.9.
    fn behind_proxies(client_address: ClientAddress, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with(|settings| {
            settings.client_address = client_address;
            settings.trusted_proxies = ["127.0.0.1/32", "127.0.0.9/32"].map(|net| net.parse().unwrap()).to_vec();
            change(settings);
        })
    }

    fn addr(&self) -> SocketAddr {
        self.engine.local_addrs()[0]
    }

    /// A connection from 127.0.0.`host`.
    fn connect(&self, host: u8) -> Raw {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
        socket.bind(&own.into()).unwrap();
        socket.connect(&self.addr().into()).expect("the engine accepts");
        Raw::of(TcpStream::from(socket), Vec::new())
    }

    /// A connection from there that has asked for an upgrade, and the head of the answer.
    #[track_caller]
    fn ask(&self, host: u8, front: &[u8], more: &str) -> (Raw, Response) {
        self.ask_for("/", host, front, more)
    }

    #[track_caller]
    fn ask_for(&self, path: &str, host: u8, front: &[u8], more: &str) -> (Raw, Response) {
        let mut raw = self.connect(host);
        raw.send([front, upgrade_request_with(path, more).as_bytes()].concat());
        let answer = raw.read_head();
        (raw, answer)
    }

    /// A WebSocket from there, and whom the engine takes it for.
    #[track_caller]
    fn open(&self, host: u8, front: &[u8], more: &str) -> (Raw, String) {
        let (mut raw, answer) = self.ask(host, front, more);
        assert_eq!(answer.status, 101, "{answer:?}");
        let client = raw.read_frame().text();
        (raw, client)
    }

    /// Upgrades from there until one is not refused with 429.
    #[track_caller]
    fn open_soon(&self, host: u8) -> Raw {
        wait_for("a place for the address", || {
            let (raw, answer) = self.ask(host, b"", "");
            assert!([101, 429].contains(&answer.status), "{answer:?}");
            (answer.status == 101).then_some(raw)
        })
    }

    fn metrics(&self) -> Metrics {
        Metrics::parse(&self.engine.handle().metrics().replace("# EOF", ""))
    }

    #[track_caller]
    fn eventually_is(&self, name: &str, expected: u64) {
        eventually(&format!("{name} is {expected}"), || {
            self.metrics().count(&format!("fanfare_{name}"), &[]) == expected
        });
    }

    #[track_caller]
    fn reconfigure(&self, change: impl FnOnce(&mut Settings)) {
        let handle = self.engine.handle();
        let mut settings = (*handle.settings()).clone();
        change(&mut settings);
        assert_eq!(handle.reconfigure(settings), Ok(Vec::new()));
    }
}

/// The whole answer whose head was read: a JSON error of this code that says what is to be known.
#[track_caller]
fn assert_refused(raw: &mut Raw, answer: &Response, status: u16, code: &str, says: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let error: Value = serde_json::from_slice(&raw.read_rest()).expect("a JSON error");
    assert_eq!(error["code"], code);
    assert!(error["message"].as_str().unwrap().contains(says), "{error}");
}

fn is_ip(client: &str, ip: &str) -> bool {
    client.parse::<SocketAddr>().unwrap().ip() == ip.parse::<std::net::IpAddr>().unwrap()
}

/// Reads an answer of the HTTP service on a connection that stays.
#[track_caller]
fn read_json(raw: &mut Raw) -> Value {
    let answer = raw.read_head();
    assert_eq!(answer.status, 200, "{answer:?}");
    let length: usize = answer.header("content-length").unwrap().parse().unwrap();
    serde_json::from_slice(&raw.read_bytes(length)).unwrap()
}

#[test]
fn one_more_connection_from_an_address_is_refused_until_one_ends() {
    let gate = Gate::with(|settings| settings.connections_per_ip_max = 2);
    let (first, client) = gate.open(2, b"", "");
    assert!(is_ip(&client, "127.0.0.2"));
    let _second = gate.open(2, b"", "");
    let (mut third, answer) = gate.ask(2, b"", "");
    assert!(answer.header("retry-after").is_some());
    assert_refused(&mut third, &answer, 429, "too_many_from_address", "127.0.0.2, which is connections_per_ip_max");
    let _another = gate.open(3, b"", "");
    assert_eq!(gate.metrics().refusals("too_many_from_address"), 1);
    gate.eventually_is("client_addresses", 2);
    drop(first);
    let _again = gate.open_soon(2);
}

#[test]
fn http_connections_count_too() {
    let gate = Gate::with(|settings| settings.connections_per_ip_max = 1);
    let mut http = gate.connect(2);
    http.send(request_bytes("GET", "/whoami", &[], b""));
    let arrival = read_json(&mut http);
    assert!(is_ip(arrival["client"].as_str().unwrap(), "127.0.0.2"));
    let (mut second, answer) = gate.ask(2, b"", "");
    assert_refused(&mut second, &answer, 429, "too_many_from_address", "connections_per_ip_max");
    // The connection itself may become a WebSocket: it is one already.
    http.send(upgrade_request("/"));
    assert_eq!(http.read_head().status, 101);
    assert!(is_ip(&http.read_frame().text(), "127.0.0.2"));
    assert_eq!(gate.ask(2, b"", "").1.status, 429, "adopted by a shard it counts still");
    drop(http);
    let _again = gate.open_soon(2);
}

#[test]
fn however_a_connection_ends_it_is_counted_out_once() {
    let gate = Gate::with(|settings| settings.handshake_timeout = Duration::from_millis(300));
    type Way<'a> = (&'a str, Box<dyn Fn(u8) + 'a>);
    let ways: Vec<Way<'_>> = vec![
        ("gone at once", Box::new(|host| drop(gate.connect(host)))),
        ("half a head", Box::new(|host| gate.connect(host).send("GET / HT"))),
        ("a reset", Box::new(|host| gate.open(host, b"", "").0.reset())),
        ("the end of the socket", Box::new(|host| drop(gate.open(host, b"", "")))),
        (
            "a Close frame",
            Box::new(|host| {
                let (mut raw, _) = gate.open(host, b"", "");
                raw.send(close_frame(1000, ""));
                assert_eq!(raw.read_to_end(), End::Finished);
            }),
        ),
        (
            "a mistake in the protocol",
            Box::new(|host| {
                let (mut raw, _) = gate.open(host, b"", "");
                raw.send([0xff; 20]);
                raw.read_close();
            }),
        ),
        ("refused", Box::new(|host| assert_eq!(gate.ask_for("/refused", host, b"", "").1.status, 403))),
        ("decided later", Box::new(|host| assert_eq!(gate.ask_for("/later", host, b"", "").1.status, 101))),
        ("refused later", Box::new(|host| assert_eq!(gate.ask_for("/later-refused", host, b"", "").1.status, 403))),
        ("too late", Box::new(|host| assert_eq!(gate.connect(host).read_head().status, 408))),
        (
            "no HTTP",
            Box::new(|host| {
                let mut raw = gate.connect(host);
                raw.send("\x01\x02\x03\r\n\r\n");
                assert_eq!(raw.read_head().status, 400);
            }),
        ),
        (
            "HTTP",
            Box::new(|host| {
                let mut raw = gate.connect(host);
                raw.send(request_bytes("GET", "/whoami", &[], b""));
                read_json(&mut raw);
            }),
        ),
        (
            "HTTP, then a WebSocket",
            Box::new(|host| {
                let mut raw = gate.connect(host);
                raw.send(request_bytes("GET", "/whoami", &[], b""));
                read_json(&mut raw);
                raw.send(upgrade_request("/"));
                assert_eq!(raw.read_head().status, 101);
            }),
        ),
    ];
    // Twice, and two at a time: who is counted out twice takes the other's place in the count.
    for (n, (way, run)) in ways.iter().enumerate() {
        let host = 20 + n as u8;
        let (watcher, _) = gate.open(host, b"", "");
        for _ in 0..2 {
            run(host);
            println!("{way}");
            gate.eventually_is("tcp_connections", 1);
            gate.eventually_is("http_connections", 0);
            gate.eventually_is("client_addresses", 1);
        }
        gate.reconfigure(|settings| settings.connections_per_ip_max = 2);
        let one_more = gate.open(host, b"", "");
        assert_eq!(gate.ask(host, b"", "").1.status, 429, "{way}: the count was right");
        gate.reconfigure(|settings| settings.connections_per_ip_max = 0);
        drop((watcher, one_more));
        gate.eventually_is("client_addresses", 0);
        gate.eventually_is("handshakes", 0);
        gate.eventually_is("tcp_connections", 0);
    }
}

#[test]
fn clients_behind_a_proxy_are_told_apart_by_its_header_and_forged_ones_are_not_believed() {
    for (mode, saw, forged) in [
        (ClientAddress::XForwardedFor, "X-Forwarded-For: 9.9.9.9, ", "X-Forwarded-For: 203.0.113.1\r\n"),
        (ClientAddress::Forwarded, "Forwarded: for=9.9.9.9, for=", "Forwarded: for=203.0.113.1\r\n"),
    ] {
        let gate = Gate::behind_proxies(mode, |settings| settings.connections_per_ip_max = 1);
        let by = |ip: &str| format!("{saw}{ip}\r\n");
        let (one, client) = gate.open(1, b"", &by("198.51.100.1"));
        assert_eq!(client, "198.51.100.1:0");
        let _other = gate.open(1, b"", &by("198.51.100.2"));
        let (mut again, answer) = gate.ask(9, b"", &by("198.51.100.1"));
        assert_refused(&mut again, &answer, 429, "too_many_from_address", "198.51.100.1");
        // Who is no proxy is who he is, whatever he writes.
        let (_peer, client) = gate.open(2, b"", forged);
        assert!(is_ip(&client, "127.0.0.2"), "{client}");
        // Decided later, on the control thread: the same client, counted once.
        let (later, answer) = gate.ask_for("/later", 1, b"", &by("198.51.100.3"));
        assert_eq!(answer.status, 101);
        assert_eq!(gate.ask(1, b"", &by("198.51.100.3")).1.status, 429);
        drop((one, later));
        eventually("both have a place again", || {
            ["198.51.100.1", "198.51.100.3"].iter().all(|ip| gate.ask(1, b"", &by(ip)).1.status == 101)
        });
    }
}

#[test]
fn a_connection_on_which_a_proxy_sends_requests_of_many_counts_for_none_of_them_before_an_upgrade() {
    let gate = Gate::behind_proxies(ClientAddress::XForwardedFor, |settings| settings.connections_per_ip_max = 1);
    let mut pooled = gate.connect(1);
    for ip in ["198.51.100.1", "198.51.100.2", "198.51.100.1"] {
        pooled.send(request_bytes("GET", "/whoami", &[("X-Forwarded-For", ip)], b""));
        let arrival = read_json(&mut pooled);
        assert_eq!(arrival["client"], format!("{ip}:0"));
        assert!(is_ip(arrival["peer"].as_str().unwrap(), "127.0.0.1"));
        assert_eq!(arrival["forwarded"], true);
    }
    let header = "X-Forwarded-For: 198.51.100.1\r\n";
    let (one, _) = gate.open(1, b"", header);
    // Refused there, too, and the connection goes on.
    pooled.send(upgrade_request_with("/", header));
    let answer = pooled.read_head();
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.header("retry-after").is_some());
    pooled.read_bytes(answer.header("content-length").unwrap().parse().unwrap());
    assert_eq!(gate.metrics().refusals("too_many_from_address"), 1);
    // Refused by the handler it is nobody's again.
    pooled.send(upgrade_request_with("/refused", "X-Forwarded-For: 198.51.100.2\r\n"));
    let answer = pooled.read_head();
    assert_eq!(answer.status, 403, "{answer:?}");
    pooled.read_bytes(answer.header("content-length").unwrap().parse().unwrap());
    let _second = gate.open(1, b"", "X-Forwarded-For: 198.51.100.2\r\n");
    drop(one);
    gate.eventually_is("client_addresses", 1);
    pooled.send(upgrade_request_with("/", header));
    assert_eq!(pooled.read_head().status, 101);
    assert_eq!(pooled.read_frame().text(), "198.51.100.1:0");
    assert_eq!(gate.ask(1, b"", header).1.status, 429);
}

const PROXY_V1: &[u8] = b"PROXY TCP4 198.51.100.7 203.0.113.1 4711 80\r\n";

fn proxy_v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = (addresses.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, addresses].concat()
}

#[test]
fn the_proxy_protocol_tells_the_client_for_upgrades_and_requests() {
    let gate = Gate::behind_proxies(ClientAddress::ProxyProtocol, |settings| settings.connections_per_ip_max = 1);
    let (v1, client) = gate.open(1, PROXY_V1, "X-Forwarded-For: 1.1.1.1\r\n");
    assert_eq!(client, "198.51.100.7:4711");
    let (mut again, answer) = gate.ask(9, PROXY_V1, "");
    assert_refused(&mut again, &answer, 429, "too_many_from_address", "198.51.100.7");
    let v6: Vec<u8> = [[0x20, 1, 0x0d, 0xb8], [0; 4], [0; 4], [0, 0, 0, 9]].concat();
    let v6 = proxy_v2(1, 0x21, &[&v6[..], &[0; 16], &[1, 0, 0, 80]].concat());
    let (_v2, client) = gate.open(1, &v6, "");
    assert_eq!(client, "[2001:db8::9]:256");
    assert_eq!(gate.ask(1, &v6, "").1.status, 429, "counted by its prefix");
    // The proxy for itself, and for somebody of whom it does not know: its own address.
    let (own, client) = gate.open(1, &proxy_v2(0, 0, &[]), "");
    assert!(is_ip(&client, "127.0.0.1"));
    let (_unknown, client) = gate.open(9, b"PROXY UNKNOWN\r\n", "");
    assert!(is_ip(&client, "127.0.0.9"));
    drop((v1, own));
    eventually("a place for the address", || gate.ask(1, PROXY_V1, "").1.status == 101);
    for (front, client, forwarded) in
        [(PROXY_V1.to_vec(), "198.51.100.7", true), (proxy_v2(0, 0, &[]), "127.0.0.1", false)]
    {
        let arrival = wait_for("a place for the address", || {
            let mut http = gate.connect(1);
            http.send([&front[..], &request_bytes("GET", "/whoami", &[], b"")].concat());
            let answer = http.read_head();
            (answer.status == 200).then(|| {
                serde_json::from_slice::<Value>(
                    &http.read_bytes(answer.header("content-length").unwrap().parse().unwrap()),
                )
                .unwrap()
            })
        });
        assert!(is_ip(arrival["client"].as_str().unwrap(), client), "{arrival}");
        assert!(is_ip(arrival["peer"].as_str().unwrap(), "127.0.0.1"), "{arrival}");
        assert_eq!(arrival["forwarded"], forwarded, "somebody else's connection");
    }
}

#[test]
fn a_proxy_header_may_come_in_any_parts_and_must_come_in_time() {
    let gate = Gate::behind_proxies(ClientAddress::ProxyProtocol, |settings| {
        settings.handshake_timeout = Duration::from_millis(700);
    });
    for front in [PROXY_V1.to_vec(), proxy_v2(1, 0x11, &[198, 51, 100, 7, 203, 0, 113, 1, 0x12, 0x67, 0, 80])] {
        let mut raw = gate.connect(1);
        for byte in &front {
            raw.send([*byte]);
        }
        raw.send(upgrade_request("/"));
        assert_eq!(raw.read_head().status, 101);
        assert_eq!(raw.read_frame().text(), "198.51.100.7:4711");
        let mut raw = gate.connect(1);
        raw.send(&front[..front.len() - 1]);
        assert_eq!(raw.read_head().status, 408);
    }
    assert_eq!(gate.metrics().refusals("handshake_timeout"), 2);
}

#[test]
fn a_trusted_proxy_without_a_proxy_header_is_dropped_and_nobody_else_may_send_one() {
    let gate = Gate::behind_proxies(ClientAddress::ProxyProtocol, |_| {});
    for front in
        [&b""[..], b"PROXY TCP4 198.51.100.7\r\n", &proxy_v2(1, 0x12, &[0; 12]), &proxy_v2(1, 0x11, &[0; 5000])]
    {
        let mut raw = gate.connect(1);
        let _ = raw.try_send([front, upgrade_request("/").as_bytes()].concat());
        assert_eq!(raw.read_rest(), b"");
    }
    assert_eq!(gate.metrics().refusals("proxy_header"), 4);
    for front in [PROXY_V1.to_vec(), proxy_v2(0, 0, &[])] {
        let (_, answer) = gate.ask(2, &front, "");
        assert_eq!(answer.status, 400);
    }
    assert_eq!(gate.metrics().refusals("malformed_head"), 2);
    assert!(is_ip(&gate.open(2, b"", "").1, "127.0.0.2"), "other peers connect as ever");
    gate.eventually_is("handshakes", 0);
}

#[test]
fn connections_beyond_the_rate_come_in_later_all_of_them() {
    let gate = Gate::with(|settings| settings.accepts_per_s = 40);
    let began = Instant::now();
    let mut all: Vec<Raw> = (0..100).map(|_| gate.connect(2)).collect();
    for raw in &mut all {
        raw.send(upgrade_request("/"));
    }
    for raw in &mut all {
        assert_eq!(raw.read_head().status, 101);
    }
    // 40 at once, and 60 more at 40 a second.
    assert!(began.elapsed() >= Duration::from_millis(1450), "{:?}", began.elapsed());
    let delayed = gate.metrics().count("fanfare_accepts_delayed_total", &[]);
    assert!((40..=60).contains(&delayed), "{delayed}");
    gate.eventually_is("accepts_waiting", 0);
}

#[test]
fn a_rate_taken_away_lets_everybody_in_at_once() {
    let gate = Gate::with(|settings| {
        settings.accepts_per_s = 1;
        settings.accept_queue_timeout = Duration::from_secs(60);
    });
    let mut all: Vec<Raw> = (0..30).map(|_| gate.connect(2)).collect();
    gate.eventually_is("accepts_waiting", 29);
    let began = Instant::now();
    gate.reconfigure(|settings| settings.accepts_per_s = 0);
    for raw in &mut all {
        raw.upgrade("/");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn who_would_wait_for_longer_than_the_queue_allows_is_told_when_to_come_back() {
    let gate = Gate::with(|settings| {
        settings.accepts_per_s = 1;
        settings.accept_queue_timeout = Duration::from_secs(2);
    });
    let all: Vec<Raw> = (0..8).map(|_| gate.connect(2)).collect();
    eventually("those without hope are answered", || gate.metrics().refusals("accept_queue") >= 4);
    let mut told = 0;
    for mut raw in all {
        if raw.is_answered_within(Duration::from_millis(1)) {
            let answer = raw.read_head();
            let retry: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((3..=6).contains(&retry), "{retry}");
            assert_refused(&mut raw, &answer, 503, "accept_queue", "accept_queue_timeout");
            told += 1;
        }
    }
    assert!(told >= 4, "{told}");
}

/// Room for one handshake, which is taken by somebody who says nothing.
fn crowded(change: impl FnOnce(&mut Settings)) -> (Gate, Raw) {
    let gate = Gate::with(|settings| {
        settings.handshakes_max = 1;
        settings.handshake_timeout = Duration::from_secs(60);
        change(settings);
    });
    let silent = gate.connect(2);
    gate.eventually_is("handshakes", 1);
    (gate, silent)
}

#[test]
fn handshakes_beyond_the_bound_wait_in_order_and_the_queue_is_bounded() {
    let (gate, mut silent) = crowded(|settings| settings.accept_queue_max = 3);
    let mut waiting = Vec::new();
    for n in 1..=3 {
        let mut raw = gate.connect(2);
        raw.send(upgrade_request("/"));
        gate.eventually_is("accepts_waiting", n);
        waiting.push(raw);
    }
    let (mut one_more, answer) = gate.ask(2, b"", "");
    assert!(answer.header("retry-after").is_some());
    assert_refused(&mut one_more, &answer, 503, "accept_queue", "3 wait to be admitted, which is accept_queue_max");
    for raw in &mut waiting {
        assert!(!raw.is_answered_within(Duration::from_millis(20)), "nobody passes the silent one");
    }
    silent.upgrade("/");
    for raw in &mut waiting {
        assert_eq!(raw.read_head().status, 101);
    }
    gate.eventually_is("handshakes", 0);
    assert_eq!(gate.metrics().refusals("accept_queue"), 1);
}

#[test]
fn who_waits_for_too_long_is_answered_and_who_leaves_makes_room() {
    let (gate, silent) = crowded(|settings| settings.accept_queue_timeout = Duration::from_millis(300));
    let (mut raw, answer) = gate.ask(2, b"", "");
    assert!(answer.header("retry-after").is_some());
    assert_refused(&mut raw, &answer, 503, "accept_queue", "accept_queue_timeout");
    gate.eventually_is("accepts_waiting", 0);
    drop(silent);
    gate.eventually_is("handshakes", 0);
    let _next = gate.open(2, b"", "");
    gate.eventually_is("client_addresses", 1);
}

#[test]
fn more_room_for_handshakes_is_used_at_once() {
    let (gate, _silent) = crowded(|_| {});
    let mut waiting: Vec<Raw> = (0..5).map(|_| gate.connect(2)).collect();
    for raw in &mut waiting {
        raw.send(upgrade_request("/"));
    }
    gate.eventually_is("accepts_waiting", 5);
    gate.reconfigure(|settings| settings.handshakes_max = 10);
    for raw in &mut waiting {
        assert_eq!(raw.read_head().status, 101);
    }
}

#[test]
fn those_who_wait_when_the_engine_ends_are_served_first() {
    let (gate, _silent) = crowded(|_| {});
    let mut waiting: Vec<Raw> = (0..5).map(|_| gate.connect(2)).collect();
    for raw in &mut waiting {
        raw.send(upgrade_request("/"));
    }
    gate.eventually_is("accepts_waiting", 5);
    gate.engine.shutdown();
    for raw in &mut waiting {
        assert_eq!(raw.read_head().status, 101);
        assert_eq!(raw.read_close().0, 1001);
    }
}

#[test]
fn heads_are_bounded_in_headers_and_bytes_on_both_planes() {
    let gate = Gate::with(|settings| {
        settings.headers_max = 8;
        settings.head_bytes = 600;
    });
    let (fits, many) = ("X-A: b\r\n".repeat(3), "X-A: b\r\n".repeat(4));
    let long = format!("X-A: {}\r\n", "b".repeat(500));
    assert_eq!(gate.ask(2, b"", &fits).1.status, 101);
    for (more, says) in [(&many, "headers_max, which is 8"), (&long, "head_bytes, which is 600")] {
        let (mut raw, answer) = gate.ask(2, b"", more);
        assert_refused(&mut raw, &answer, 431, "head_too_large", says);
        let mut http = gate.connect(2);
        http.send(request_bytes("GET", "/whoami", &[], b""));
        read_json(&mut http);
        http.send(upgrade_request_with("/", more));
        let answer = http.read_head();
        assert_refused(&mut http, &answer, 431, "head_too_large", says);
    }
    assert_eq!(gate.metrics().refusals("head_too_large"), 4);
    let mut http = gate.connect(2);
    http.send(request_bytes("GET", "/whoami", &[], b""));
    read_json(&mut http);
    http.send("GET / NO-HTTP\r\n\r\n");
    assert_eq!(http.read_head().status, 400);
    eventually("it is counted", || gate.metrics().refusals("malformed_head") == 1);
}

#[test]
fn those_who_are_connected_are_served_before_those_who_want_to_be() {
    let upgrades = Arc::new(AtomicUsize::new(0));
    let greeter = Greeter { upgrades: upgrades.clone(), effort: Duration::from_millis(2) };
    let gate = Gate::of(greeter, 1, |_| {});
    let (mut established, _) = gate.open(2, b"", "");
    let mut storm: Vec<Raw> = (0..200).map(|_| gate.connect(3)).collect();
    gate.eventually_is("handshakes", 200);
    for raw in &mut storm {
        raw.send(upgrade_request("/"));
    }
    let before = upgrades.load(Ordering::SeqCst);
    established.send(frame(op::TEXT, b"hello"));
    assert_eq!(established.read_frame().text(), "hello");
    let meanwhile = upgrades.load(Ordering::SeqCst) - before;
    assert!(meanwhile < 60, "{meanwhile} of 200 were served first");
    for raw in &mut storm {
        assert_eq!(raw.read_head().status, 101);
    }
}
