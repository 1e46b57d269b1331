//! The session against rustls' own client, byte by byte if it has to be.

use std::io::{Read, Write};

use proptest::prelude::*;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

/// Who is known to whom.
struct World {
    server: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl World {
    /// With `mutual`, the client has to show a certificate: the same one, as both trust it.
    fn new(mutual: bool) -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, key) =
            (own.cert.der().clone(), PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap());
        let provider = Arc::new(ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if mutual {
            let roots = Arc::new(roots(&certificate));
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let mut server = builder.with_single_cert(vec![certificate.clone()], key.clone_key()).unwrap();
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self { server: Arc::new(server), certificate, key }
    }

    fn client_config(&self, version: &'static SupportedProtocolVersion, certified: bool) -> ClientConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let builder = builder.with_root_certificates(roots(&self.certificate));
        let mut config = if certified {
            builder.with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key()).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    fn pair(&self, client: &Arc<ClientConfig>) -> Pair {
        let name = ServerName::try_from("localhost").unwrap();
        Pair {
            client: ClientConnection::new(client.clone(), name).unwrap(),
            server: TlsSession::new(&self.server).unwrap(),
            plain: Vec::new(),
        }
    }
}

fn roots(certificate: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    roots
}

/// A client and our side of the connection, with what has come through so far.
struct Pair {
    client: ClientConnection,
    server: TlsSession,
    plain: Vec<u8>,
}

impl Pair {
    /// What the client has to say.
    fn said(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Gives the client what it is sent; returns what it reads.
    fn hear(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            self.client.read_tls(&mut bytes).unwrap();
            self.client.process_new_packets()?;
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = self.client.reader().read(&mut buffer) {
                plain.extend_from_slice(&buffer[..length]);
            }
        }
        Ok(plain)
    }

    /// Gives the session bytes in pieces of the sizes given, over and over.
    fn deliver(&mut self, bytes: &[u8], sizes: &[usize]) -> Result<Vec<u8>, TlsFailure> {
        let (mut out, mut at) = (Vec::new(), 0);
        let mut sizes = sizes.iter().cycle();
        while at < bytes.len() {
            let length = (*sizes.next().unwrap()).clamp(1, bytes.len() - at);
            let mut piece = bytes[at..at + length].to_vec();
            self.server.receive(&mut piece, &mut self.plain, &mut out)?;
            at += length;
        }
        Ok(out)
    }

    fn shake_hands(&mut self, sizes: &[usize]) {
        while self.client.is_handshaking() || !self.server.is_open() {
            let said = self.said();
            let answer = self.deliver(&said, sizes).unwrap();
            assert!(!said.is_empty() || !answer.is_empty(), "it goes on");
            self.hear(&answer).unwrap();
        }
    }
}

fn versions() -> impl Strategy<Value = &'static SupportedProtocolVersion> {
    prop::sample::select(&VERSIONS[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn however_bytes_are_cut_the_same_comes_out(
        version in versions(),
        hello_sizes in prop::collection::vec(1..700_usize, 1..8),
        sizes in prop::collection::vec(1..40_000_usize, 1..8),
        lengths in prop::collection::vec(0..50_000_usize, 1..6),
    ) {
        let world = World::new(false);
        let mut pair = world.pair(&Arc::new(world.client_config(version, false)));
        pair.client.set_buffer_limit(None);
        pair.shake_hands(&hello_sizes);
        prop_assert_eq!(pair.server.is_tls13(), Some(version.version == ProtocolVersion::TLSv1_3));
        prop_assert_eq!(pair.server.alpn(), Some(&b"http/1.1"[..]));
        prop_assert!(!pair.server.is_resumed() && pair.server.peer_certificate().is_none());
        let mut sent = Vec::new();
        for (n, length) in lengths.iter().enumerate() {
            let message: Vec<u8> = (0..*length).map(|at| (at * 31 + n) as u8).collect();
            pair.client.writer().write_all(&message).unwrap();
            sent.extend_from_slice(&message);
            let mut out = Vec::new();
            pair.server.encrypt(&message, &mut out).unwrap();
            // As few records as there can be.
            prop_assert!(out.len() <= message.len() + message.len().div_ceil(RECORD_PLAIN_MAX) * RECORD_OVERHEAD);
            prop_assert!(pair.hear(&out).unwrap() == message);
        }
        pair.client.send_close_notify();
        let said = pair.said();
        pair.deliver(&said, &sizes).unwrap();
        prop_assert!(pair.plain == sent);
        prop_assert_eq!(pair.server.progress(), Progress::PeerClosed);
        prop_assert_eq!(pair.server.held_bytes(), 0);
        let mut out = Vec::new();
        pair.server.close_notify(&mut out);
        pair.server.close_notify(&mut out);
        pair.hear(&out).unwrap();
        prop_assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
    }

    /// Whatever is left out or changed on the way: it fails with an alert that the client understands, or waits for more, and
    /// what comes out is the beginning of what was sent.
    #[test]
    fn what_is_broken_on_the_way_is_found_out(
        version in versions(),
        sizes in prop::collection::vec(1..2000_usize, 1..5),
        at in any::<prop::sample::Index>(),
        change in 1..=255_u8,
        cut in any::<bool>(),
        in_handshake in any::<bool>(),
    ) {
        let world = World::new(false);
        let mut pair = world.pair(&Arc::new(world.client_config(version, false)));
        let sent = b"word ".repeat(500);
        if !in_handshake {
            pair.shake_hands(&[64]);
            pair.client.writer().write_all(&sent).unwrap();
        }
        let mut said = pair.said();
        let at = at.index(said.len());
        if cut { said.truncate(at) } else { said[at] ^= change }
        let outcome = pair.deliver(&said, &sizes);
        prop_assert!(sent.starts_with(&pair.plain));
        if let Err(failure) = outcome {
            prop_assert!(!failure.to_string().is_empty());
            // It stays like that, and nothing panics.
            let (mut out, mut more) = (Vec::new(), said.clone());
            prop_assert_eq!(pair.server.receive(&mut more, &mut pair.plain, &mut out), Err(TlsFailure::Over));
            prop_assert_eq!(pair.server.encrypt(b"no", &mut out), Err(TlsFailure::Over));
            pair.server.close_notify(&mut out);
            prop_assert!(out.is_empty() && !pair.server.is_open());
        }
    }

    #[test]
    fn garbage_never_panics_and_never_opens(
        mut garbage in prop::collection::vec(any::<u8>(), 0..5000),
        like_a_record in any::<bool>(),
        sizes in prop::collection::vec(1..600_usize, 1..5),
    ) {
        if like_a_record && garbage.len() >= 5 {
            garbage[..3].copy_from_slice(&[HANDSHAKE, 3, 1]);
            garbage[3] %= 64;
        }
        let world = World::new(false);
        let mut pair = world.pair(&Arc::new(world.client_config(VERSIONS[1], false)));
        let _ = pair.deliver(&garbage, &sizes);
        prop_assert!(!pair.server.is_open() && pair.plain.is_empty());
        let mut out = Vec::new();
        pair.server.close_notify(&mut out);
        prop_assert!(pair.server.encrypt(b"no", &mut out).is_err());
    }
}

#[test]
fn a_message_of_the_handshake_without_end_is_given_up_in_bounded_memory() {
    let world = World::new(false);
    for (certified, most) in [(false, HELD_BEFORE_MAX), (true, HELD_CERTIFIED_MAX)] {
        let mut session = TlsSession::new(&world.server).unwrap();
        session.expect_certificates(certified);
        // A ClientHello of 16 MiB, of which each record brings one byte more.
        let (mut out, mut plain, mut held) = (Vec::new(), Vec::new(), 0);
        let mut first = vec![HANDSHAKE, 3, 1, 0, 4, 1, 0, 255, 255];
        let mut outcome = session.receive(&mut first, &mut plain, &mut out);
        for _ in 0..200_000 {
            if outcome.is_err() {
                break;
            }
            outcome = session.receive(&mut [HANDSHAKE, 3, 1, 0, 1, 0], &mut plain, &mut out);
            held = held.max(session.held_bytes());
        }
        assert_eq!(outcome, Err(TlsFailure::TooLong));
        assert!(held > most / 2 && held <= 2 * most, "{held} bytes");
        assert_eq!(session.held_bytes(), 0);
    }
}

#[test]
fn a_failed_handshake_says_why_with_an_alert() {
    let world = World::new(false);
    let mut config = world.client_config(VERSIONS[1], false);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut pair = world.pair(&Arc::new(config));
    let mut said = pair.said();
    let mut out = Vec::new();
    let failure = pair.server.receive(&mut said, &mut pair.plain, &mut out).unwrap_err();
    assert_eq!(failure, TlsFailure::Protocol(Error::NoApplicationProtocol));
    let told = pair.hear(&out).unwrap_err();
    assert_eq!(told, Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol));
}

#[test]
fn a_corrupted_record_is_answered_with_an_alert() {
    for version in VERSIONS {
        let world = World::new(false);
        let mut pair = world.pair(&Arc::new(world.client_config(version, false)));
        pair.shake_hands(&[usize::MAX]);
        pair.client.writer().write_all(b"hello").unwrap();
        let mut said = pair.said();
        *said.last_mut().unwrap() ^= 1;
        let mut out = Vec::new();
        pair.server.receive(&mut said, &mut pair.plain, &mut out).unwrap_err();
        assert_eq!(pair.hear(&out), Err(Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));
    }
}

#[test]
fn a_second_session_resumes_the_first_and_a_certificate_is_known() {
    for version in VERSIONS {
        let world = World::new(true);
        let config = Arc::new(world.client_config(version, true));
        for resumed in [false, true] {
            let mut pair = world.pair(&config);
            pair.shake_hands(&[100]);
            assert_eq!(pair.server.is_resumed(), resumed);
            assert_eq!(pair.server.peer_certificate(), Some(world.certificate.as_ref()));
            // TLS 1.3 gives its tickets with what comes after the handshake.
            let mut out = Vec::new();
            pair.server.encrypt(b"hello", &mut out).unwrap();
            assert_eq!(pair.hear(&out).unwrap(), b"hello");
        }
    }
}

#[test]
fn keys_are_changed_when_the_client_asks_for_it() {
    let world = World::new(false);
    let mut pair = world.pair(&Arc::new(world.client_config(VERSIONS[1], false)));
    pair.shake_hands(&[usize::MAX]);
    for _ in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(b"new key").unwrap();
        let said = pair.said();
        pair.deliver(&said, &[7]).unwrap();
        let mut out = Vec::new();
        pair.server.encrypt(b"likewise", &mut out).unwrap();
        assert_eq!(pair.hear(&out).unwrap(), b"likewise");
    }
    assert_eq!(pair.plain, b"new key".repeat(3));
}

#[test]
fn what_is_kept_goes_out_in_order_and_gives_its_memory_back() {
    let world = World::new(false);
    let mut session = TlsSession::new(&world.server).unwrap();
    session.keep(b"abcdef");
    session.sent(4);
    session.keep(b"ghi");
    assert_eq!(session.kept_bytes(), b"efghi");
    session.sent(5);
    assert!(session.kept_bytes().is_empty() && session.kept.capacity() == 0);
}

#[test]
fn what_is_no_tls_is_seen_at_the_first_byte_and_only_there() {
    let world = World::new(false);
    let mut session = TlsSession::new(&world.server).unwrap();
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4", &[0x80, 0x2e], &[0], &[24]] {
        assert!(session.is_not_tls(other));
    }
    assert!(!session.is_not_tls(&[HANDSHAKE]) && !session.is_not_tls(&[]));
    session.receive(&mut [HANDSHAKE, 3], &mut Vec::new(), &mut Vec::new()).unwrap();
    assert!(!session.is_not_tls(b"GET"));
    assert!(is_client_hello(&[HANDSHAKE]) && is_client_hello(&[HANDSHAKE, 3, 1]) && !is_client_hello(b"GET"));
}

/// The promise of 12 KiB for an idle connection has room for it.
#[test]
fn a_session_is_small() {
    let size = std::mem::size_of::<TlsSession>();
    assert!(size <= 2048, "{size} bytes");
}
