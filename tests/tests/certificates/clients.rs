//! Certificates of clients: who gets in, as whom, and what that permits.

use std::io::{Read as _, Write as _};

use fanfare_tests::{Server, eventually};
use serde_json::Value;

use crate::kit::*;

/// What somebody may do who shows a certificate, and nothing for others.
const ROLE: &str = "--role=default:subscribe=news.>|users.{sub}.>,publish=news.>|users.{sub}.>";

struct Setup {
    files: Files,
    servers: Authority,
    clients: Authority,
    flags: Vec<String>,
}

impl Setup {
    fn new() -> Self {
        let (files, servers, clients) = (Files::new(), Authority::new("servers"), Authority::new("clients"));
        let mut flags = files.pair("own", &servers.issue(&["localhost"])).to_vec();
        flags.extend(["--tls-client-ca".to_owned(), files.write("clients.pem", &clients.pem), ROLE.to_owned()]);
        Self { files, servers, clients, flags }
    }

    fn server(&self, more: &[&str]) -> Server {
        server(&[self.flags.clone(), more.iter().map(ToString::to_string).collect()].concat())
    }
}

fn subjects(server: &Server) -> Vec<Value> {
    let listed = server.http().get("/api/connections").json();
    listed["connections"].as_array().expect("a list").iter().map(|connection| connection["subject"].clone()).collect()
}

#[test]
fn who_shows_a_certificate_is_who_it_says_and_may_do_what_the_role_permits() {
    let setup = Setup::new();
    for auth in ["required", "optional"] {
        let server = setup.server(&["--tls-client-auth", auth]);
        let addr = tls_addr(&server);
        let alice = client(&setup.servers, Some(&setup.clients.issue(&["alice"])));
        let mut socket = websocket(addr, &alice, "/topics/users.alice.inbox").expect("it is let in");
        eventually("it is listed", || subjects(&server) == ["alice"]);
        server.publish("users.alice.inbox", "for alice");
        assert_eq!(next_text(&mut socket), "for alice");
        assert_eq!(websocket(addr, &alice, "/topics/users.bob.inbox").err(), Some(403));
        // What is over HTTP goes by the same, as it is not from this machine: a proxy says so.
        let proxied = "Forwarded: for=192.0.2.1\r\n";
        assert_eq!(request(addr, &alice, "/api/topics/news.today/history", proxied).expect("an answer").0, 403);
        let metrics = server.metrics();
        assert!(metrics.count("fanfare_auth_decisions_total", &[("outcome", "accepted")]) >= 1);
    }
}

#[test]
fn without_a_certificate_only_optional_lets_in_and_as_nobody() {
    let setup = Setup::new();
    let nobody = client(&setup.servers, None);
    let required = setup.server(&[]);
    for versions in [&VERSIONS[..1], &VERSIONS[1..]] {
        let nobody = client_of(versions, &setup.servers.pem, None);
        assert!(request(tls_addr(&required), &nobody, "/healthz", "").is_err());
        let stranger = Authority::new("clients").issue(&["alice"]);
        let stranger = client_of(versions, &setup.servers.pem, Some(&stranger));
        assert!(request(tls_addr(&required), &stranger, "/healthz", "").is_err(), "another authority of the same name");
        let late = setup.clients.issue_for(&["alice"], -1);
        let late = client_of(versions, &setup.servers.pem, Some(&late));
        assert!(request(tls_addr(&required), &late, "/healthz", "").is_err(), "an expired certificate");
    }
    assert!(required.metrics().refusals("tls_handshake") >= 6);

    let optional = setup.server(&["--tls-client-auth=optional", "--auth-timeout-s=0"]);
    let addr = tls_addr(&optional);
    assert_eq!(request(addr, &nobody, "/healthz", "").expect("an answer").0, 200);
    assert_eq!(websocket(addr, &nobody, "/topics/news.today").err(), Some(401));
    let open = setup.server(&["--tls-client-auth=optional", "--role=anonymous:subscribe=news.>,publish=news.>"]);
    assert!(websocket(tls_addr(&open), &nobody, "/topics/news.today").is_ok());
    assert_eq!(websocket(tls_addr(&open), &nobody, "/topics/users.alice.inbox").err(), Some(401));
}

#[test]
fn a_token_says_more_than_a_certificate() {
    let setup = Setup::new();
    let server = setup.server(&["--api-token=0123456789abcdef"]);
    let alice = client(&setup.servers, Some(&setup.clients.issue(&["alice"])));
    let proxied = "Forwarded: for=192.0.2.1\r\n";
    let info = |headers: &str| request(tls_addr(&server), &alice, "/api/info", headers).expect("an answer").0;
    assert_eq!(info(proxied), 403, "it is known who it is, and that is not enough");
    assert_eq!(info(&format!("{proxied}Authorization: Bearer 0123456789abcdef\r\n")), 200);
    assert_eq!(info(&format!("{proxied}Authorization: Bearer nonsense\r\n")), 401, "nor is a token that does not hold");
}

#[test]
fn another_authority_holds_for_all_who_come_from_then_on() {
    let setup = Setup::new();
    let server = setup.server(&["--tls-watch-s=0"]);
    let addr = tls_addr(&server);
    let alice = client(&setup.servers, Some(&setup.clients.issue(&["alice"])));
    let mut socket = websocket(addr, &alice, "/topics/news.today").expect("it is let in");
    // One connection, kept; behind a proxy, as nothing is asked on this machine itself.
    let mut kept = connect(addr, &alice, "localhost").expect("a handshake");
    let mut status = || {
        let head = "GET /api/info HTTP/1.1\r\nHost: localhost\r\nForwarded: for=192.0.2.1\r\n\r\n";
        kept.write_all(head.as_bytes()).and_then(|()| kept.flush()).expect("sent");
        let mut answer = Vec::new();
        // A head, and a body in braces.
        while !answer.ends_with(b"}") {
            let mut byte = [0];
            kept.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        String::from_utf8_lossy(&answer).split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(status().as_deref(), Some("403"), "it is known who it is");
    // Another certificate for the server changes nothing of that.
    setup.files.pair("own", &setup.servers.issue(&["localhost"]));
    assert_eq!(server.http().post("/api/reload", b"").status, 200);
    assert_eq!(status().as_deref(), Some("403"));
    let others = Authority::new("others");
    setup.files.write("clients.pem", &others.pem);
    let answer = server.http().post("/api/reload", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(status().as_deref(), Some("401"), "what it has shown does not count any more");
    // The same client, with whatever it has kept of its last session.
    assert!(request(addr, &alice, "/healthz", "").is_err());
    let bob = client(&setup.servers, Some(&others.issue(&["bob"])));
    assert_eq!(request(addr, &bob, "/healthz", "").expect("an answer").0, 200);
    server.publish("news.today", "still there");
    assert_eq!(next_text(&mut socket), "still there");
}

#[test]
fn certificates_of_clients_are_enough_to_be_reached_from_elsewhere() {
    let setup = Setup::new();
    for auth in ["required", "optional"] {
        let mut flags: Vec<&str> = setup.flags.iter().map(String::as_str).collect();
        flags.extend(["--listen=0.0.0.0:0", "--tls-client-auth", auth, "--check-config"]);
        let (status, _, stderr) = fanfare_tests::program::run_to_end("fanfare", &flags);
        assert_eq!(status.code(), Some(0), "{stderr}");
    }
    // On an address that speaks no TLS nobody can show one, so there everybody is nobody.
    let server = setup.server(&["--auth-timeout-s=0"]);
    let plain = fanfare_tests::Client::connect_with(server.addr(), "/topics/news.today", &[]);
    assert_eq!(plain.err(), Some(401));
}
