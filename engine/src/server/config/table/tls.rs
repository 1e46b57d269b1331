//! The rows of the section `tls`.

use super::checks::{any, client_auth, is_client_auth, path, path_text};
use super::{Row, choice, list, row, seconds, span, switch, text};
use crate::{ClientAuth, TlsVersion};

pub const TLS: &[Row] = &[
    row(
        "tls_cert",
        list!("FILE", any, |path| path_text(path), path, tls.certs),
        "Certificates in PEM, each with the chain of its issuers (as 'fullchain.pem'). With them every address speaks TLS that \
         does not say ws:// or http://. Clients are shown the one for the name they ask for (SNI), else the first.",
    )
    .empty("no TLS"),
    row(
        "tls_key",
        list!("FILE", any, |path| path_text(path), path, tls.keys),
        "Their private keys in PEM, in the same order: RSA, ECDSA (P-256, P-384) or Ed25519, without a passphrase.",
    )
    .empty("none"),
    row(
        "tls_client_ca",
        text!("FILE", any, |path| path_text(path), path, tls.client_ca),
        "Authorities in PEM that certificates of clients must come from. Who shows one is authenticated: its common name is \
         the subject.",
    )
    .empty("clients are not asked for a certificate"),
    row(
        "tls_client_auth",
        text!(
            "none|optional|required",
            is_client_auth,
            |auth: &ClientAuth| auth.label().to_owned(),
            client_auth,
            tls.client_auth
        ),
        "Whether clients need a certificate: 'optional' lets in who has none as somebody without a token, 'required' does not.",
    )
    .empty("required if 'tls_client_ca' is set, else none"),
    row(
        "tls_min_version",
        choice!(TlsVersion::ALL, &["1.2", "1.3"], tls.min_version),
        "The oldest version of TLS that is spoken.",
    ),
    row(
        "tls_watch_s",
        seconds!(0, 86_400, tls.watch),
        "How often it is looked whether these files have changed; then new connections get the new ones, and those that there \
         are go on. What cannot be used is refused and logged, and the old ones stay.",
    )
    .zero("only when it is told to, by SIGHUP or POST /api/reload"),
    row(
        "tls_dev",
        switch!(tls.dev),
        "Speak TLS with a certificate that is made at the start, for the first try: clients do not trust it.",
    ),
];
