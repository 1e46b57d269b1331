//! Certificates of clients: the handler and routes of HTTP see what was shown, whichever way a connection takes.

use std::sync::Arc;

use fanfare::{ClientAuth, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::Value;

use super::kit::*;

/// A server that asks for certificates, and what a client has that shows one, or none.
fn world() -> (Server, impl Fn(&'static SupportedProtocolVersion, bool) -> Arc<ClientConfig>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let issuer = Issuer::new(params, authority_key);
    let own = CertificateParams::new(vec!["sensor-7.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let shown = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls::builder()
        .certificate_pem(shown.cert.pem().as_bytes(), shown.signing_key.serialize_pem().as_bytes())
        .client_authorities_pem(authority.pem().as_bytes())
        .client_auth(ClientAuth::Optional)
        .build()
        .unwrap();
    let mut server = Server::of(|engine| engine.tls(tls));
    server.certificate = shown.cert.der().clone();
    let trusted = server.certificate.clone();
    let config = move |version, shows: bool| {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let builder = builder.with_root_certificates(roots);
        Arc::new(if shows {
            let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
            builder.with_client_auth_cert(vec![own.der().clone()], key).unwrap()
        } else {
            builder.with_no_client_auth()
        })
    };
    (server, config)
}

fn take_shown(server: &Server) -> Vec<String> {
    let notes = std::mem::take(&mut *server.notes.lock().unwrap());
    notes.into_iter().filter(|note| note.starts_with("shown")).collect()
}

#[test]
fn a_certificate_is_seen_on_every_way_to_a_websocket_and_by_routes() {
    let (server, config) = world();
    for version in VERSIONS {
        let connect = |shows| server.connect(&config(version, shows));
        for (shows, path, noted) in [
            (true, "/", &["shown sensor-7.example id=true"][..]),
            // Asked on the shard, and again on the control plane.
            (true, "/later", &["shown sensor-7.example id=true", "shown sensor-7.example id=false"]),
            (false, "/", &[]),
            (false, "/later", &[]),
        ] {
            let mut websocket = upgrade(connect(shows), path);
            assert_eq!(ask(&mut websocket, "hello"), "hello");
            assert_eq!(take_shown(&server), noted, "{path}");
        }
        for shows in [true, false] {
            let mut stream = connect(shows);
            let (_, body) = http(&mut stream, "/whoami");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["certificate"], shows);
            let mut websocket = upgrade(stream, "/");
            assert_eq!(ask(&mut websocket, "hello"), "hello");
            assert_eq!(take_shown(&server), vec!["shown sensor-7.example id=false"; usize::from(shows)]);
            let mut private = over(&config(version, shows), tcp(server.private_addr()));
            let (_, body) = http(&mut private, "/whoami");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["certificate"], shows);
        }
    }
}
