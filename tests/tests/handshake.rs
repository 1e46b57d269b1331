//! Upgrades that are wrong, slow, broken or many: a clear status, a counter, and no effect on others.

use std::time::{Duration, Instant};

use fanfare_tests::raw::{KEY, frame, op, upgrade_request, upgrade_request_with};
use fanfare_tests::{Client, DEADLINE, Metrics, Raw, Rng, Server, eventually, topic};

/// A bad request, the status it deserves, and the counter it moves.
struct Case {
    name: &'static str,
    request: String,
    status: u16,
    cause: &'static str,
}

fn case(name: &'static str, request: String, status: u16, cause: &'static str) -> Case {
    Case { name, request, status, cause }
}

/// The valid request with one line replaced.
fn replaced(line: &str, by: &str) -> String {
    let valid = upgrade_request("/topics/t");
    assert!(valid.contains(line), "'{line}' is a line of the request");
    valid.replace(line, by)
}

fn with_line(line: &str) -> String {
    upgrade_request_with("/topics/t", line)
}

fn upgrade_cases() -> Vec<Case> {
    let key_line = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let cause = "bad_upgrade";
    vec![
        case("short key", replaced(KEY, "c2hvcnQ="), 400, cause),
        case("key of other letters", replaced(KEY, "!!!!!!!!!!!!!!!!!!!!!!=="), 400, cause),
        case("no key", replaced(&key_line, ""), 400, cause),
        case("two keys", with_line(&key_line), 400, cause),
        case("version 12", replaced("Version: 13", "Version: 12"), 426, cause),
        case("no version", replaced("Sec-WebSocket-Version: 13\r\n", ""), 426, cause),
        case("two versions", with_line("Sec-WebSocket-Version: 8\r\n"), 426, cause),
        case("method POST", replaced("GET ", "POST "), 405, cause),
        case("HTTP/1.0", replaced("HTTP/1.1", "HTTP/1.0"), 505, cause),
        case("no Host", replaced("Host: fanfare.test\r\n", ""), 400, cause),
        case("two Hosts", with_line("Host: other.test\r\n"), 400, cause),
        case("no Connection: Upgrade", replaced("Connection: Upgrade", "Connection: keep-alive"), 400, cause),
        case("a Content-Length", with_line("Content-Length: 5\r\n"), 400, cause),
        case("a Transfer-Encoding", with_line("Transfer-Encoding: chunked\r\n"), 400, cause),
        case("both body headers", with_line("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, cause),
    ]
}

fn head_cases() -> Vec<Case> {
    let cause = "malformed_head";
    vec![
        case("a folded header", with_line("X-Folded: one\r\n two\r\n"), 400, cause),
        case("a space before the colon", with_line("X-Spaced : one\r\n"), 400, cause),
        case("no colon", with_line("nonsense\r\n"), 400, cause),
        case("a NUL in a value", with_line("X-Nul: a\0b\r\n"), 400, cause),
        case("no target", replaced("GET /topics/t HTTP/1.1", "GET HTTP/1.1"), 400, cause),
        case("HTTP/3.7", replaced("HTTP/1.1", "HTTP/3.7"), 400, cause),
        case("binary garbage", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n".into(), 400, cause),
        case("too many headers", with_line(&"X-Many: 1\r\n".repeat(300)), 431, "head_too_large"),
        case("too large a header", with_line(&format!("X-Large: {}\r\n", "x".repeat(17_000))), 431, "head_too_large"),
    ]
}

/// Echoes through a topic, before and after whatever the test does to the server.
struct Bystander {
    client: Client,
    echoed: u32,
}

impl Bystander {
    fn new(server: &Server) -> Self {
        Self { client: Client::connect(server, &format!("/topics/{}", topic("bystander"))), echoed: 0 }
    }

    #[track_caller]
    fn echoes(&mut self) {
        self.echoed += 1;
        let text = format!("still here {}", self.echoed);
        self.client.send_text(&text);
        assert_eq!(self.client.read_text(), text);
    }
}

fn assert_refused(server: &Server, case: &Case) {
    let before = server.metrics().refusals(case.cause);
    let mut raw = Raw::connect(server.addr());
    raw.send(&case.request);
    let answer = raw.read_head();
    assert_eq!(answer.status, case.status, "{}: {answer:?}", case.name);
    if case.status == 426 {
        assert_eq!(answer.header("sec-websocket-version"), Some("13"), "{}: {answer:?}", case.name);
    }
    raw.read_to_end();
    eventually(&format!("{}: the counter '{}' moves", case.name, case.cause), || {
        server.metrics().refusals(case.cause) == before + 1
    });
}

#[test]
fn every_broken_upgrade_gets_its_status_and_moves_its_counter() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server);
    for case in upgrade_cases() {
        assert_refused(&server, &case);
        bystander.echoes();
    }
}

#[test]
fn every_malformed_head_gets_its_status_and_moves_its_counter() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server);
    for case in head_cases() {
        assert_refused(&server, &case);
        bystander.echoes();
    }
}

#[test]
fn a_head_without_end_is_refused_and_not_kept() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server);
    let before = server.metrics().refusals("head_too_large");
    for _ in 0..20 {
        let mut raw = Raw::connect(server.addr());
        let flood = format!("GET / HTTP/1.1\r\nX-Flood: {}", "x".repeat(1 << 20));
        // The server may end the connection while this is still on its way, so the status may be lost to a reset.
        let _ = raw.try_send(flood);
        if let Some(answer) = raw.try_read_head() {
            assert_eq!(answer.status, 431);
        }
        raw.read_to_end();
        bystander.echoes();
    }
    eventually("all are counted", || server.metrics().refusals("head_too_large") == before + 20);
}

#[test]
fn a_cross_origin_page_is_refused_and_the_own_origin_is_not() {
    let server = Server::start();
    let addr = server.addr();
    let before = server.metrics().refusals("origin_not_allowed");
    for origin in ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:1"] {
        let refused = Client::connect_with(addr, "/topics/t", &[("Origin", origin)]);
        assert_eq!(refused.err(), Some(403), "{origin}");
    }
    let own = format!("http://{addr}");
    assert!(Client::connect_with(addr, "/topics/t", &[("Origin", &own)]).is_ok());
    assert_eq!(server.metrics().refusals("origin_not_allowed"), before + 4);
}

#[test]
fn a_subprotocol_nobody_supports_is_not_agreed_to() {
    let server = Server::start();
    let mut raw = Raw::connect(server.addr());
    raw.send(upgrade_request_with("/topics/t", "Sec-WebSocket-Protocol: unheard-of, chat-of-nobody\r\n"));
    let answer = raw.read_head();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
    assert_eq!(answer.header("sec-websocket-extensions"), None);
}

#[test]
fn an_offered_compression_is_not_agreed_to() {
    let server = Server::start();
    let mut raw = Raw::connect(server.addr());
    raw.send(upgrade_request_with("/topics/t", "Sec-WebSocket-Extensions: permessage-deflate\r\n"));
    let answer = raw.read_head();
    assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
}

#[test]
fn frames_that_come_with_the_upgrade_are_served() {
    let server = Server::start();
    let mut raw = Raw::connect(server.addr());
    let mut bytes = upgrade_request(&format!("/topics/{}", topic("eager"))).into_bytes();
    bytes.extend(frame(op::TEXT, b"first"));
    bytes.extend(frame(op::BINARY, b"second"));
    raw.send(bytes);
    assert_eq!(raw.read_head().status, 101);
    let (first, second) = (raw.read_frame(), raw.read_frame());
    assert_eq!((first.opcode, first.text().as_str()), (op::TEXT, "first"));
    assert_eq!((second.opcode, second.text().as_str()), (op::BINARY, "second"));
}

#[test]
fn a_second_request_behind_an_upgrade_is_no_request_but_a_broken_frame() {
    let server = Server::start();
    let mut raw = Raw::connect(server.addr());
    raw.send(upgrade_request("/topics/t").repeat(2));
    assert_eq!(raw.read_head().status, 101);
    assert_eq!(raw.read_close().0, 1002);
    raw.read_to_end();
}

#[test]
fn an_upgrade_cut_into_single_bytes_is_served() {
    let server = Server::start();
    let mut raw = Raw::connect(server.addr());
    let name = topic("cut");
    for byte in upgrade_request(&format!("/topics/{name}")).bytes() {
        raw.send([byte]);
    }
    assert_eq!(raw.read_head().status, 101);
    for byte in frame(op::TEXT, b"cut too") {
        raw.send([byte]);
    }
    assert_eq!(raw.read_frame().text(), "cut too");
}

#[test]
fn a_head_cut_short_by_the_end_of_the_connection_is_counted() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server);
    let request = upgrade_request("/topics/t");
    let before = server.metrics().refusals("gone");
    let cuts = [1, 3, 17, 40, request.len() - 2];
    for cut in cuts {
        let mut raw = Raw::connect(server.addr());
        raw.send(&request[..cut]);
        raw.finish();
        if let Some(answer) = raw.try_read_head() {
            assert_eq!(answer.status, 400, "cut at {cut}");
        }
        raw.read_to_end();
        bystander.echoes();
    }
    eventually("all are counted", || server.metrics().refusals("gone") == before + cuts.len() as u64);
}

#[test]
fn a_head_that_dribbles_in_is_ended_after_the_handshake_timeout() {
    let server = Server::with(&["--handshake-timeout-s", "1"]);
    let mut bystander = Bystander::new(&server);
    let before = server.metrics().refusals("handshake_timeout");
    let start = Instant::now();
    let mut slow: Vec<_> = (0..10).map(|_| Raw::connect(server.addr())).collect();
    let endless = upgrade_request_with("/topics/t", &"X-More: y\r\n".repeat(1000));
    // One byte at a time on each; whoever is answered has been ended.
    for byte in endless.bytes() {
        slow.retain_mut(|raw| {
            let answered = !raw.try_send([byte]) || raw.is_answered_within(Duration::from_millis(2));
            if answered && let Some(answer) = raw.try_read_head() {
                assert_eq!(answer.status, 408);
            }
            !answered
        });
        if slow.is_empty() {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{} slow heads are still waited for", slow.len());
        bystander.echoes();
    }
    assert!(slow.is_empty(), "{} slow heads outlived their request", slow.len());
    assert!(start.elapsed() >= Duration::from_millis(900), "the time allowed was given");
    eventually("all are counted", || server.metrics().refusals("handshake_timeout") == before + 10);
}

#[test]
fn thousands_that_connect_and_say_nothing_do_not_keep_others_out() {
    let server = Server::with(&["--handshake-timeout-s", "2"]);
    let mut bystander = Bystander::new(&server);
    let before = server.metrics().refusals("handshake_timeout");
    let mut silent = Vec::new();
    for count in 1..=2000 {
        silent.push(Raw::connect(server.addr()));
        if count % 100 == 0 {
            bystander.echoes();
            Bystander::new(&server).echoes();
        }
    }
    eventually("all silent ones are ended and counted", || {
        bystander.echoes();
        server.metrics().refusals("handshake_timeout") == before + 2000
    });
    for mut raw in silent {
        raw.read_to_end();
    }
}

#[test]
fn a_tls_hello_on_the_plain_port_is_refused() {
    let server = Server::start();
    let mut bystander = Bystander::new(&server);
    let before = server.metrics().all_refusals();
    let mut hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    hello.extend(Rng::seeded(1).bytes(512));
    let mut raw = Raw::connect(server.addr());
    raw.send(hello);
    if let Some(answer) = raw.try_read_head() {
        assert_eq!(answer.status, 400);
    }
    raw.read_to_end();
    eventually("it is counted", || server.metrics().all_refusals() == before + 1);
    bystander.echoes();
}

#[test]
fn random_bytes_never_hurt_anybody_else() {
    let mut rng = Rng::from_env();
    let server = Server::start();
    let mut bystander = Bystander::new(&server);
    for round in 0..200 {
        let mut raw = Raw::connect(server.addr());
        let bytes = match round % 3 {
            0 => rng_garbage(&mut rng),
            1 => rng_broken_request(&mut rng),
            _ => [upgrade_request("/topics/t").into_bytes(), rng_garbage(&mut rng)].concat(),
        };
        let _ = raw.try_send(bytes);
        if rng.below(2) == 0 {
            raw.finish();
            raw.read_to_end();
        } else {
            raw.reset();
        }
        if round % 10 == 0 {
            bystander.echoes();
        }
    }
    bystander.echoes();
    eventually("only the bystander is left", || Metrics::scrape(server.addr()).connections() == 1);
}

fn rng_garbage(rng: &mut Rng) -> Vec<u8> {
    let len = 1 + rng.below(2000);
    rng.bytes(len)
}

/// A valid request with a few bytes changed.
fn rng_broken_request(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = upgrade_request("/topics/t").into_bytes();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len());
        bytes[at] = rng.bits() as u8;
    }
    bytes
}
