//! Certificates and keys as they are, and as they should not be; handshakes in memory with a client of rustls.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

use super::error::{Found, Problem};
use super::identity::FILE_BYTES_MAX;
use super::resolver::Resolver;
use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name, ".pem")).as_slice()
    };
}

/// A certificate authority of the test's own.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for names, from now for so many days.
    fn issue(&self, names: &[&str], days: i64) -> (String, String) {
        self.issue_with(names, days, KeyPair::generate().unwrap())
    }

    fn issue_with(&self, names: &[&str], days: i64, key: KeyPair) -> (String, String) {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, names[0]);
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(30);
        params.not_after = now + Duration::days(days);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn problem(chain: &[u8], key: &[u8]) -> Problem {
    Tls::from_pem(chain, key).expect_err("it cannot be used").problem().clone()
}

// ---- reading ------------------------------------------------------------------

#[test]
fn keys_of_all_kinds_and_in_all_forms_are_read() {
    let ed25519 = Authority::new("ca");
    let ed25519 = ed25519.issue_with(&["a.example"], 90, KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    let p384 = Authority::new("ca");
    let p384 = p384.issue_with(&["a.example"], 90, KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    for (chain, key, name, kind) in [
        (fixture!("rsa"), fixture!("rsa.pkcs8"), "rsa.example", "RSA 2048"),
        (fixture!("rsa"), fixture!("rsa.pkcs1"), "rsa.example", "RSA 2048"),
        (fixture!("ec"), fixture!("ec.sec1"), "ec.example", "ECDSA P-256"),
        (fixture!("ed25519"), fixture!("ed25519.key"), "ed.example", "Ed25519"),
        (ed25519.0.as_bytes(), ed25519.1.as_bytes(), "a.example", "Ed25519"),
        (p384.0.as_bytes(), p384.1.as_bytes(), "a.example", "ECDSA P-384"),
    ] {
        let tls = Tls::from_pem(chain, key).unwrap();
        let [info] = tls.certificates() else { panic!("{tls:?}") };
        assert_eq!((info.name(), info.key(), info.chain_len()), (name, kind, 1));
        assert_eq!(tls.warnings(now()), [""; 0]);
    }
}

#[test]
fn certificate_and_key_may_lie_in_one_file() {
    let (chain, key) = Authority::new("ca").issue(&["a.example"], 90);
    let both = key + &chain;
    assert!(Tls::from_pem(both.as_bytes(), both.as_bytes()).is_ok());
}

#[test]
fn a_certificate_without_names_goes_by_its_common_name() {
    let tls = Tls::from_pem(fixture!("common-name"), fixture!("ec.sec1")).unwrap();
    assert_eq!(tls.certificates()[0].names(), ["common.example"]);
}

#[test]
fn what_is_wrong_with_a_key_is_told() {
    let ec = fixture!("ec");
    assert_eq!(problem(ec, b""), Problem::NoKey(Found::Nothing));
    assert_eq!(problem(ec, ec), Problem::NoKey(Found::Other));
    assert_eq!(problem(ec, &[0x30, 0x82]), Problem::NoKey(Found::Binary));
    assert_eq!(problem(ec, fixture!("ec.encrypted")), Problem::EncryptedKey);
    assert_eq!(problem(ec, fixture!("ec.encrypted-sec1")), Problem::EncryptedKey);
    let two = [fixture!("ec.sec1"), fixture!("rsa.pkcs8")].concat();
    assert_eq!(problem(ec, &two), Problem::SeveralKeys(2));
    assert_eq!(problem(ec, fixture!("p521.key")), Problem::BadKey);
    assert_eq!(problem(ec, fixture!("weak.key")), Problem::BadKey);
    assert_eq!(problem(ec, fixture!("rsa.pkcs8")), Problem::NotItsKey("the certificate".into()));
    let broken = b"-----BEGIN PRIVATE KEY-----\nAAAA\n";
    assert!(matches!(problem(ec, broken), Problem::Damaged(_)));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told() {
    let key = fixture!("ec.sec1");
    assert_eq!(problem(b"", key), Problem::NoCertificate(Found::Nothing));
    assert_eq!(problem(key, key), Problem::NoCertificate(Found::Other));
    assert_eq!(problem(&[0x30, 0x82], key), Problem::NoCertificate(Found::Binary));
    assert_eq!(problem(fixture!("weak"), key), Problem::BadPublicKey("RSA with 1024 bits".into()));
    assert_eq!(problem(fixture!("p521"), key), Problem::BadPublicKey("ECDSA P-521".into()));
    let old = problem(fixture!("version1"), key);
    assert!(matches!(&old, Problem::BadCertificate { position: 1, reason } if reason.contains("version 1")), "{old:?}");
    assert_eq!(problem(fixture!("sha1"), key), Problem::WeakSignature { position: 1, algorithm: "SHA-1" });
    let no_certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(problem(no_certificate, key), Problem::BadCertificate { position: 1, .. }));
    let second = [fixture!("ec"), no_certificate].concat();
    assert!(matches!(problem(&second, key), Problem::BadCertificate { position: 2, .. }));
    let half = fixture!("ec").split(|byte| *byte == b'\n').take(3).collect::<Vec<_>>().join(&b'\n');
    assert!(matches!(problem(&half, key), Problem::Damaged(_)), "{:?}", problem(&half, key));
}

#[test]
fn chains_are_in_order() {
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let (own, key) = root.issue(&["a.example"], 90);
    let chain = |parts: &[&str]| parts.concat();
    let good = Tls::from_pem(chain(&[&own, &root.pem]).as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(good.certificates()[0].chain_len(), 2);
    // A root that follows twice, as some authorities sell it, is no harm.
    assert!(Tls::from_pem(chain(&[&own, &root.pem, &root.pem]).as_bytes(), key.as_bytes()).is_ok());
    let reversed = chain(&[&root.pem, &own]);
    assert_eq!(problem(reversed.as_bytes(), key.as_bytes()), Problem::OwnNotFirst(2));
    let strange = problem(chain(&[&own, &other.pem]).as_bytes(), key.as_bytes());
    assert!(
        matches!(&strange, Problem::OutOfOrder { position: 2, subject } if subject.contains("CN=other")),
        "{strange:?}"
    );
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (chain, key) = Authority::new("ca").issue(&["a.example"], 90);
    fs::write(at("chain"), chain).unwrap();
    fs::write(at("key"), key).unwrap();
    fs::set_permissions(at("key"), fs::Permissions::from_mode(0o640)).unwrap();
    let error = |chain: &str, key: &str| Tls::builder().certificate_files(at(chain), at(key)).build().unwrap_err();
    for (error, name) in [(error("none", "key"), "none"), (error("chain", "none"), "none"), (error("chain", "."), ".")]
    {
        assert!(matches!(error.problem(), Problem::Unreadable { is_denied: false, .. }), "{error}");
        assert_eq!(error.input(), at(name).display().to_string());
    }
    fs::write(at("long"), vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
    assert_eq!(error("long", "key").problem(), &Problem::TooLong);

    let build = || Tls::builder().certificate_files(at("chain"), at("key")).build().unwrap();
    assert_eq!(build().warnings(now()), [""; 0]);
    fs::set_permissions(at("key"), fs::Permissions::from_mode(0o644)).unwrap();
    let [warning] = &build().warnings(now())[..] else { panic!("one warning") };
    assert!(warning.contains("Every user") && warning.contains(&at("key").display().to_string()), "{warning}");
}

#[test]
fn another_digest_means_other_contents() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (chain, key) = Authority::new("ca").issue(&["a.example"], 90);
    fs::write(at("chain"), &chain).unwrap();
    fs::write(at("key"), key).unwrap();
    let builder = Tls::builder().certificate_files(at("chain"), at("key"));
    let digest = builder.build().unwrap().digest();
    assert_eq!(builder.digest(), digest);
    fs::write(at("chain"), &chain).unwrap();
    assert_eq!(builder.digest(), digest, "the same written again is no change");
    fs::write(at("chain"), chain + "\n").unwrap();
    assert_ne!(builder.digest(), digest);
    fs::remove_file(at("chain")).unwrap();
    let without = builder.digest();
    assert!(without != digest && without == builder.digest());
}

// ---- time ---------------------------------------------------------------------

#[test]
fn certificates_that_do_not_hold_or_soon_will_not_are_named() {
    let authority = Authority::new("ca");
    let warnings = |days, at| {
        let (chain, key) = authority.issue(&["a.example"], days);
        Tls::from_pem(chain.as_bytes(), key.as_bytes()).unwrap().warnings(at).join(" ")
    };
    assert_eq!(warnings(15, now()), "");
    assert!(warnings(13, now()).contains("The certificate of a.example in the certificate expires on "));
    assert!(warnings(13, now() - 5).contains(", in 13 days; renew it."), "{}", warnings(13, now() - 5));
    assert!(warnings(1, now() + 5).contains(", in 23 hours;"), "{}", warnings(1, now() + 5));
    assert!(warnings(-1, now()).contains("has expired on "));
    assert!(warnings(90, now() - 31 * 86_400).contains("does not hold before "));
}

#[test]
fn what_does_not_hold_does_not_replace_what_does() {
    let authority = Authority::new("ca");
    let make = |certificates: &[(&[&str], i64)]| {
        let issued = certificates.iter().map(|(names, days)| authority.issue(names, *days));
        let builder = issued
            .fold(Tls::builder(), |builder, (chain, key)| builder.certificate_pem(chain.as_bytes(), key.as_bytes()));
        builder.build().unwrap()
    };
    let good = make(&[(&["a.example", "b.example"], 90)]);
    let refused =
        |next: &Tls, present: &Tls| next.may_replace(present, now()).err().map(|error| error.problem().clone());
    assert!(
        matches!(refused(&make(&[(&["b.example"], -1)]), &good), Some(Problem::Worse { name, .. }) if name == "b.example")
    );
    assert_eq!(refused(&make(&[(&["b.example"], 1)]), &good), None);
    assert_eq!(refused(&make(&[(&["c.example"], -1)]), &good), None, "it replaces nothing");
    assert_eq!(refused(&make(&[(&["b.example"], -1)]), &make(&[(&["b.example"], -2)])), None, "both are expired");
    assert_eq!(refused(&make(&[(&["b.example"], -1), (&["b.example"], 1)]), &good), None, "another one holds");
    // As they are shown: a wildcard is for its names, and one of a name itself goes before it.
    let wildcard = make(&[(&["*.example.com"], 90)]);
    let expired = make(&[(&["www.example.com"], -1)]);
    assert!(matches!(refused(&expired, &wildcard), Some(Problem::Worse { name, .. }) if name == "www.example.com"));
    assert!(refused(&make(&[(&["www.example.com"], -1), (&["*.example.com"], 1)]), &wildcard).is_some());
    assert!(refused(&make(&[(&["*.example.com"], -1)]), &make(&[(&["www.example.com"], 1)])).is_some());
    // Those without names by their place.
    let nameless = |days: i64| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example");
        params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
        let key = KeyPair::generate().unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        Tls::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    };
    assert!(nameless(1).certificates()[0].names().is_empty());
    assert!(refused(&nameless(-1), &nameless(1)).is_some() && refused(&nameless(-1), &good).is_some());
    assert_eq!((refused(&nameless(2), &nameless(1)), refused(&nameless(-1), &nameless(-2))), (None, None));
}

// ---- handshakes ---------------------------------------------------------------

/// Takes whatever certificate it is shown, and remembers nothing of it.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

type Versions = &'static [&'static rustls::SupportedProtocolVersion];
const TLS12: Versions = &[&rustls::version::TLS12];
const TLS13: Versions = &[&rustls::version::TLS13];

fn client(versions: Versions, own: Option<&(String, String)>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
    use rustls_pki_types::pem::PemObject as _;
    match own {
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
        None => builder.with_no_client_auth(),
    }
}

/// A whole handshake, and one byte in each direction, so that tickets have arrived.
fn shake(
    tls: &Tls,
    config: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(tls.config())).unwrap();
    client.writer().write_all(b"c").unwrap();
    server.writer().write_all(b"s").unwrap();
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    let mut byte = [0];
    server.reader().read_exact(&mut byte).map_err(|_| rustls::Error::HandshakeNotComplete)?;
    client.reader().read_exact(&mut byte).map_err(|_| rustls::Error::HandshakeNotComplete)?;
    Ok((client, server))
}

/// The first name in what a client that asks for `name` is shown.
fn shown(tls: &Tls, config: &Arc<ClientConfig>, name: &str) -> String {
    let (client, _) = shake(tls, config, name).unwrap();
    let certificate = &client.peer_certificates().unwrap()[0];
    ClientCertificate::from_der(certificate).unwrap().dns_names()[0].clone()
}

#[test]
fn clients_are_shown_the_certificate_of_the_name_they_ask_for() {
    let authority = Authority::new("ca");
    let issued = [&["first.example"][..], &["*.b.example", "b.example"], &["x.b.example"]]
        .map(|names| authority.issue(names, 9));
    let builder = issued
        .iter()
        .fold(Tls::builder(), |builder, (chain, key)| builder.certificate_pem(chain.as_bytes(), key.as_bytes()));
    let tls = builder.build().unwrap();
    for versions in [TLS12, TLS13] {
        let config = Arc::new(client(versions, None));
        for (asked, expected) in [
            ("b.example", "*.b.example"),
            ("y.b.example", "*.b.example"),
            ("Y.B.Example", "*.b.example"),
            ("x.b.example", "x.b.example"),
            ("z.y.b.example", "first.example"),
            ("unknown.example", "first.example"),
            ("127.0.0.1", "first.example"),
        ] {
            assert_eq!(shown(&tls, &config, asked), expected, "{asked}");
        }
    }
}

#[test]
fn of_two_for_one_name_it_is_the_one_that_the_client_can_check() {
    let (ecdsa, ecdsa_key) = Authority::new("ca").issue(&["rsa.example"], 90);
    let tls = Tls::builder()
        .certificate_pem(ecdsa.as_bytes(), ecdsa_key.as_bytes())
        .certificate_pem(fixture!("rsa"), fixture!("rsa.pkcs8"))
        .build()
        .unwrap();
    let kind = |suite: Option<rustls::CipherSuite>, name: &str| {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|own| suite.is_none_or(|suite| own.suite() == suite));
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(if suite.is_some() { TLS12 } else { TLS13 })
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let (client, _) = shake(&tls, &Arc::new(config), name).unwrap();
        let shown = client.peer_certificates().unwrap()[0].clone();
        if shown == tls_certificate(fixture!("rsa")) { "RSA" } else { "ECDSA" }
    };
    for name in ["rsa.example", "unknown.example"] {
        assert_eq!(kind(None, name), "ECDSA", "the first, if both go");
        assert_eq!(kind(Some(rustls::CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256), name), "RSA");
        assert_eq!(kind(Some(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), name), "ECDSA");
    }
}

#[test]
fn an_exact_name_does_not_hide_a_wildcard_that_the_client_can_check() {
    let authority = Authority::new("ca");
    let rsa = KeyPair::from_pem(std::str::from_utf8(fixture!("rsa.pkcs8")).unwrap()).unwrap();
    let identities = [
        authority.issue(&["first.example"], 9),
        authority.issue_with(&["*.b.example"], 9, rsa),
        authority.issue(&["x.b.example"], 9),
    ];
    let read = |(chain, key): &(String, String)| {
        let contents = |text: &String| Contents { name: String::new(), bytes: text.clone().into(), is_open: false };
        Identity::new(&contents(chain), &contents(key)).unwrap()
    };
    let identities = identities.iter().map(read).collect::<Vec<_>>();
    let resolver = Resolver::new(&identities);
    let shown = |schemes: &[SignatureScheme]| {
        let chosen = resolver.choose(Some("x.b.example"), schemes).unwrap();
        identities.iter().position(|own| Arc::ptr_eq(&own.key, &chosen)).unwrap()
    };
    let (ecdsa, rsa) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256);
    assert_eq!((shown(&[rsa, ecdsa]), shown(&[rsa]), shown(&[])), (2, 1, 2));
}

#[test]
fn what_a_client_has_shown_counts_until_its_end_and_by_the_same_authorities() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let server = own.issue(&["a.example"], 9);
    let tls = |pem: Option<&str>| {
        let builder = Tls::builder().certificate_pem(server.0.as_bytes(), server.1.as_bytes());
        let builder = pem.into_iter().fold(builder, |builder, pem| builder.client_authorities_pem(pem.as_bytes()));
        builder.build().unwrap()
    };
    let asking = tls(Some(&own.pem));
    let shown = own.issue(&["alice"], 9);
    let shown = ClientCertificate::from_der(&tls_certificate(shown.0.as_bytes())).unwrap().verified_by(asking.trust());
    assert!(shown.holds(Some(&asking), now()) && !shown.holds(Some(&asking), shown.not_after() + 1));
    assert!(shown.holds(Some(&tls(Some(&own.pem))), now()), "others for the server, the same for clients");
    assert!(![Some(&tls(Some(&other.pem))), Some(&tls(None)), None].into_iter().any(|tls| shown.holds(tls, now())));
}

fn tls_certificate(pem: &[u8]) -> CertificateDer<'static> {
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem).unwrap()
}

#[test]
fn the_oldest_version_is_kept_to() {
    let (chain, key) = Authority::new("ca").issue(&["a.example"], 90);
    let builder = Tls::builder().certificate_pem(chain.as_bytes(), key.as_bytes());
    let old = Arc::new(client(TLS12, None));
    assert!(shake(&builder.build().unwrap(), &old, "a.example").is_ok());
    let strict = builder.min_version(TlsVersion::Tls13).build().unwrap();
    assert!(shake(&strict, &old, "a.example").is_err());
    assert!(shake(&strict, &Arc::new(client(TLS13, None)), "a.example").is_ok());
}

#[test]
fn certificates_of_clients_are_verified() {
    let (authority, other) = (Authority::new("clients"), Authority::new("others"));
    let (chain, key) = authority.issue(&["a.example"], 90);
    let builder = Tls::builder()
        .certificate_pem(chain.as_bytes(), key.as_bytes())
        .client_authorities_pem(authority.pem.as_bytes());
    let required = builder.build().unwrap();
    assert_eq!(required.client_auth(), ClientAuth::Required);
    let optional = builder.client_auth(ClientAuth::Optional).build().unwrap();
    let good = authority.issue(&["alice"], 90);
    for versions in [TLS12, TLS13] {
        let sees = |tls: &Tls, own: Option<&(String, String)>| {
            let config = Arc::new(client(versions, own));
            let (_, server) = shake(tls, &config, "a.example").ok()?;
            let shown = server.peer_certificates().and_then(|chain| ClientCertificate::from_der(&chain[0]));
            Some(shown.map_or_else(String::new, |certificate| certificate.dns_names()[0].clone()))
        };
        for tls in [&required, &optional] {
            assert_eq!(sees(tls, Some(&good)).as_deref(), Some("alice"));
            assert_eq!(sees(tls, Some(&other.issue(&["alice"], 90))), None, "another authority");
            assert_eq!(sees(tls, Some(&authority.issue(&["alice"], -1))), None, "expired");
        }
        assert_eq!(sees(&required, None), None);
        assert_eq!(sees(&optional, None).as_deref(), Some(""));
    }
}

#[test]
fn authorities_are_checked() {
    let builder = Tls::builder().certificate_pem(fixture!("ec"), fixture!("ec.sec1"));
    let error = |builder: TlsBuilder| builder.build().unwrap_err().problem().clone();
    assert_eq!(error(Tls::builder()), Problem::Nothing);
    assert_eq!(error(builder.clone().client_auth(ClientAuth::Required)), Problem::NoAuthority);
    assert_eq!(error(builder.clone().client_authorities_pem(b"")), Problem::NoCertificate(Found::Nothing));
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(matches!(error(builder.client_authorities_pem(broken)), Problem::BadCertificate { position: 1, .. }));
}

#[test]
fn sessions_are_resumed_under_the_same_configuration_only() {
    let (chain, key) = Authority::new("ca").issue(&["a.example"], 90);
    let builder = Tls::builder().certificate_pem(chain.as_bytes(), key.as_bytes());
    let (tls, changed) = (builder.build().unwrap(), builder.build().unwrap());
    for versions in [TLS12, TLS13] {
        let config = Arc::new(client(versions, None));
        let kind = |tls: &Tls| shake(tls, &config, "a.example").unwrap().1.handshake_kind();
        assert_eq!(kind(&tls), Some(HandshakeKind::Full));
        assert_eq!(kind(&tls), Some(HandshakeKind::Resumed));
        assert_eq!(kind(&changed), Some(HandshakeKind::Full), "a ticket from before the change");
    }
}

#[test]
fn who_shows_a_certificate_shows_it_each_time() {
    let authority = Authority::new("clients");
    let (chain, key) = authority.issue(&["a.example"], 90);
    let tls = Tls::builder()
        .certificate_pem(chain.as_bytes(), key.as_bytes())
        .client_authorities_pem(authority.pem.as_bytes())
        .build()
        .unwrap();
    for versions in [TLS12, TLS13] {
        let config = Arc::new(client(versions, Some(&authority.issue(&["alice"], 90))));
        for _ in 0..2 {
            let (_, server) = shake(&tls, &config, "a.example").unwrap();
            assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn the_development_certificate_says_what_it_is() {
    let tls = Tls::development().unwrap();
    let [info] = tls.certificates() else { panic!("{tls:?}") };
    assert!(info.names().starts_with(&["localhost".into(), "127.0.0.1".into(), "::1".into()]), "{:?}", info.names());
    assert_eq!(info.issuer(), "CN=Fanfare development certificate\\, not for production");
    assert_eq!(info.key(), "ECDSA P-256");
    assert!((13 * 86_400..=14 * 86_400).contains(&(info.not_after() - now())));
    assert_eq!(info.fingerprint().len(), 32 * 3 - 1);
    assert_ne!(info.fingerprint(), Tls::development().unwrap().certificates()[0].fingerprint());

    // Who trusts it, gets in by any of its names.
    let made = super::dev::DevelopmentCertificate::generate().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(tls_certificate(made.certificate.as_bytes())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let tls = Tls::builder().development(&made).build().unwrap();
    for name in ["localhost", "127.0.0.1", "::1"] {
        assert!(shake(&tls, &config, name).is_ok(), "{name}");
    }
    assert!(shake(&tls, &config, "a.example").is_err());
}

// ---- names --------------------------------------------------------------------

/// What RFC 9525, 6.3 says of one name in a certificate.
fn is_for(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        Some(parent) => name.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => pattern == name,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_chosen_certificate_is_for_the_name_if_any_is(
        certificates in prop::collection::vec(prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}", 1..3), 1..5),
        asked in "[ab](\\.[ab]){0,3}",
    ) {
        let key = rustls_pki_types::PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let identities: Vec<_> = certificates
            .iter()
            .enumerate()
            .map(|(at, names)| super::identity::Identity {
                // Only told apart by their bytes.
                key: Arc::new(rustls::sign::CertifiedKey::new(vec![vec![at as u8].into()], Arc::clone(&key))),
                info: CertificateInfo::named(names),
            })
            .collect();
        let chosen = Resolver::new(&identities).choose(Some(&asked), &[SignatureScheme::ECDSA_NISTP256_SHA256]).unwrap();
        let chosen = usize::from(chosen.cert[0][0]);
        let exact = certificates.iter().position(|names| names.contains(&asked));
        let any = certificates.iter().position(|names| names.iter().any(|name| is_for(name, &asked)));
        prop_assert_eq!(chosen, exact.or(any).unwrap_or(0));
    }
}
