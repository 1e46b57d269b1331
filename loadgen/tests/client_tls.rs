//! The client over TLS: right servers, and certificates wrong in each way.

mod harness;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use harness::{Driven, scenario, serve};
use loadgen::failure::Failure;
use loadgen::scenario::Scenario;
use loadgen::target::{Part, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;
use tungstenite::Message;

/// An issuer and a place for files.
struct Issuer {
    issuer: CertifiedIssuer<'static, KeyPair>,
    files: TempDir,
}

/// A certificate with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

impl Issuer {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("right");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "issuer of the tests");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("signed");
        let files = tempfile::tempdir().expect("a directory");
        std::fs::write(files.path().join("ca.pem"), issuer.pem()).expect("written");
        Self { issuer, files }
    }

    fn identity(&self, name: &str, years: (i32, i32)) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Identity { certificate: certificate.der().clone(), key, pem: certificate.pem() }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.files.path().join(name)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        roots
    }
}

const NOW: (i32, i32) = (2020, 2090);

fn server_config(identity: &Identity, clients: Option<RootCertStore>) -> ServerConfig {
    server_config_of(identity, clients, rustls::ALL_VERSIONS)
}

fn server_config_of(
    identity: &Identity,
    clients: Option<RootCertStore>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions).expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
    builder.with_single_cert(vec![identity.certificate.clone()], key).expect("they fit")
}

/// A server that greets with `greeting` bytes and echoes the first message; its error if there is one.
fn greeter(config: ServerConfig, greeting: usize) -> (SocketAddr, JoinHandle<Result<(), String>>) {
    serve(move |mut socket| {
        let mut session = ServerConnection::new(Arc::new(config)).map_err(|error| error.to_string())?;
        while session.is_handshaking() {
            if let Err(error) = session.complete_io(&mut socket) {
                // The client shall read the alert, not a reset: so take all that it has sent.
                let _ = socket.shutdown(std::net::Shutdown::Write);
                let _ = socket.read_to_end(&mut Vec::new());
                return Err(error.to_string());
            }
        }
        let mut server = tungstenite::accept(StreamOwned::new(session, socket)).map_err(|error| error.to_string())?;
        server.send(Message::binary(vec![b'g'; greeting])).map_err(|error| error.to_string())?;
        let said = server.read().map_err(|error| error.to_string())?;
        server.send(said).map_err(|error| error.to_string())?;
        server.close(None).map_err(|error| error.to_string())?;
        while server.read().is_ok() {}
        Ok(())
    })
}

fn trusting(issuer: &Issuer, address: SocketAddr) -> Scenario {
    let mut scenario = scenario("plain", "wss", address);
    scenario.target.tls.ca = Some(issuer.file("ca.pem"));
    scenario
}

fn driven(scenario: &Scenario, budget: usize) -> Driven {
    Driven::with(&Target::of(scenario).expect("a right scenario"), Part::Subscriber, 1, "t", 1 << 20, budget)
}

/// Exchanges messages over a connection that should work.
fn exchange(scenario: &Scenario, greeting: usize, budget: usize) {
    let mut driven = driven(scenario, budget);
    driven.until("the greeting", |driven| driven.log.messages.len() == 1);
    assert!(driven.log.messages[0] == vec![b'g'; greeting]);
    driven.client.push(&vec![b'e'; 300_000], true);
    driven.client.flush().expect("taken");
    driven.until("the echo and the end", |driven| driven.end.is_some());
    assert!(driven.log.messages[1] == vec![b'e'; 300_000]);
    assert_eq!(driven.end.as_deref(), Some("close without code"));
    assert_eq!(driven.client.unsent_bytes(), 0);
}

/// The cause of a connection that should not.
fn refused(scenario: &Scenario, server: JoinHandle<Result<(), String>>) -> String {
    let mut driven = driven(scenario, 64 << 10);
    let cause = driven.until_end();
    assert_eq!(driven.log.upgraded, None);
    drop(driven);
    assert!(server.join().expect("no panic").is_err());
    cause
}

#[test]
fn messages_pass_both_ways_whatever_the_budget() {
    let issuer = Issuer::new();
    for (greeting, budget) in [(10, 64 << 10), (1 << 20, 64 << 10), (500_000, 1000), (0, 1)] {
        let (address, server) = greeter(server_config(&issuer.identity("localhost", NOW), None), greeting);
        exchange(&trusting(&issuer, address), greeting, budget);
        assert_eq!(server.join().expect("no panic"), Ok(()));
    }
}

#[test]
fn a_certificate_that_is_wrong_is_named_by_what_is_wrong() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (address, server) = greeter(server_config(&issuer.identity("other.example", NOW), None), 0);
    let cause = refused(&trusting(&issuer, address), server);
    assert_eq!(cause, "certificate: not valid for name 'localhost'");

    let (address, server) = greeter(server_config(&issuer.identity("localhost", (2000, 2001)), None), 0);
    assert_eq!(refused(&trusting(&issuer, address), server), "certificate: expired");

    let (address, server) = greeter(server_config(&issuer.identity("localhost", (2080, 2090)), None), 0);
    assert_eq!(refused(&trusting(&issuer, address), server), "certificate: not valid yet");

    let (address, server) = greeter(server_config(&issuer.identity("localhost", NOW), None), 0);
    let cause = refused(&trusting(&other, address), server);
    // Both issuers bear the same name, so it is the signature that gives it away.
    assert!(["certificate: unknown issuer", "certificate: bad signature"].contains(&cause.as_str()), "{cause}");
}

#[test]
fn the_name_can_be_given_and_checks_can_be_left_out() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    let (address, server) = greeter(server_config(&issuer.identity("other.example", NOW), None), 5);
    let mut named = trusting(&issuer, address);
    named.target.tls.server_name = Some("other.example".into());
    exchange(&named, 5, 64 << 10);
    assert_eq!(server.join().expect("no panic"), Ok(()));

    let (address, server) = greeter(server_config(&other.identity("other.example", (2000, 2001)), None), 5);
    let mut careless = scenario("plain", "wss", address);
    careless.target.tls.insecure = true;
    assert!(Target::of(&careless).expect("right").describe().ends_with(", certificates NOT checked"));
    exchange(&careless, 5, 64 << 10);
    assert_eq!(server.join().expect("no panic"), Ok(()));
}

#[test]
fn a_server_that_wants_a_certificate_gets_ours_or_the_cause_says_so() {
    let issuer = Issuer::new();
    let server = || server_config(&issuer.identity("localhost", NOW), Some(issuer.roots()));
    let (address, thread) = greeter(server(), 5);
    assert_eq!(refused(&trusting(&issuer, address), thread), "certificate: the server wants one of the client");

    let own = issuer.identity("client", NOW);
    std::fs::write(issuer.file("own.pem"), &own.pem).expect("written");
    std::fs::write(issuer.file("own.key"), own.key.serialize_pem()).expect("written");
    let (address, thread) = greeter(server(), 5);
    let mut with_own = trusting(&issuer, address);
    with_own.target.tls.certificate = Some(issuer.file("own.pem"));
    with_own.target.tls.key = Some(issuer.file("own.key"));
    exchange(&with_own, 5, 64 << 10);
    assert_eq!(thread.join().expect("no panic"), Ok(()));
}

#[test]
fn sessions_are_resumed_only_if_asked_for_and_each_ticket_once() {
    let issuer = Issuer::new();
    let identity = issuer.identity("localhost", NOW);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        for resumption in [true, false] {
            let mut config = server_config_of(&identity, None, &[version]);
            config.send_tls13_tickets = 1;
            let mut resumed = Vec::new();
            let mut target = None;
            for _ in 0..3 {
                // A server of its own each time; what it knows of sessions is shared, as all clones of a configuration do.
                let (address, server) = greeter(config.clone(), 5);
                let mut own = trusting(&issuer, address);
                own.target.tls.resumption = resumption;
                let target = target.get_or_insert_with(|| Target::of(&own).expect("a right scenario"));
                target.address = address;
                let mut driven = Driven::with(target, Part::Subscriber, 1, "t", 1 << 20, 64 << 10);
                driven.until("the greeting", |driven| driven.log.messages.len() == 1);
                resumed.push(driven.log.upgraded.expect("upgraded").resumed);
                driven.client.push(b"e", true);
                driven.client.flush().expect("taken");
                driven.until("the end", |driven| driven.end.is_some());
                assert_eq!(server.join().expect("no panic"), Ok(()));
            }
            assert_eq!(resumed, [false, resumption, resumption], "{version:?}");
        }
    }
}

#[test]
fn a_server_without_tls_is_named() {
    let (address, server) = serve(|mut socket| {
        let mut hello = [0; 5];
        socket.read_exact(&mut hello).expect("a hello");
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("sent");
        Err(String::from_utf8_lossy(&hello).into_owned())
    });
    let mut careless = scenario("plain", "wss", address);
    careless.target.tls.insecure = true;
    assert_eq!(refused(&careless, server), "no TLS");
}

#[test]
fn files_that_are_missing_or_hold_something_else_are_named() {
    let issuer = Issuer::new();
    std::fs::write(issuer.file("empty.pem"), "").expect("written");
    let failure = |change: fn(&mut Scenario, &Path)| {
        let mut own = trusting(&issuer, "127.0.0.1:9".parse().expect("an address"));
        change(&mut own, issuer.files.path());
        Target::of(&own).expect_err("it is wrong")
    };
    let sentence = |failure: &Failure| failure.to_string();

    let missing = failure(|own, _| own.target.tls.ca = Some(Path::new("/no/ca.pem").into()));
    assert_eq!(missing.exit_code(), 1);
    assert!(sentence(&missing).starts_with("target.tls.ca: /no/ca.pem cannot be used: "), "{missing}");
    let empty = failure(|own, files| own.target.tls.ca = Some(files.join("empty.pem")));
    assert!(sentence(&empty).ends_with("empty.pem holds no certificate in PEM form"), "{empty}");
    let half = failure(|own, files| own.target.tls.certificate = Some(files.join("ca.pem")));
    assert_eq!(half, Failure::usage("target.tls.certificate is set without target.tls.key"));
    let no_key = failure(|own, files| {
        own.target.tls.certificate = Some(files.join("ca.pem"));
        own.target.tls.key = Some(files.join("ca.pem"));
    });
    assert!(sentence(&no_key).starts_with("target.tls.key: "), "{no_key}");
    let both = failure(|own, _| own.target.tls.insecure = true);
    assert_eq!(both.exit_code(), 2);
    let name = failure(|own, _| own.target.tls.server_name = Some("a b".into()));
    assert!(sentence(&name).starts_with("target.tls.server_name is 'a b'"), "{name}");
}
