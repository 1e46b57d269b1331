//! Tokens and keys: published examples, and what hostile ones come to.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::jwt::{TOKEN_BYTES_MAX, Verifier};
use super::keys::Keys;
use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Files that end with the test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        path
    }

    fn key(&self, algorithm: &str, kid: Option<&str>, content: impl AsRef<[u8]>) -> JwtKey {
        let file = self.put(&format!("{algorithm}-{}", kid.unwrap_or("none")), content);
        JwtKey { algorithm: algorithm.into(), kid: kid.map(Into::into), file }
    }

    fn secret(&self) -> AuthSettings {
        AuthSettings { jwt_keys: vec![self.key("HS256", None, SECRET)], ..AuthSettings::default() }
    }
}

fn encode(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", encode(signature))
}

fn token(claims: &Value) -> String {
    hs256(SECRET.as_bytes(), &json!({ "alg": "HS256", "typ": "JWT" }), claims)
}

fn verifier(settings: &AuthSettings) -> Verifier {
    Verifier::new(settings).unwrap()
}

fn key_error(key: JwtKey) -> String {
    let settings = AuthSettings { jwt_keys: vec![key], ..AuthSettings::default() };
    Keys::read(&settings).unwrap_err()
}

fn set_error(files: &Files, set: impl AsRef<[u8]>) -> String {
    let settings = AuthSettings { jwks_file: Some(files.put("jwks.json", set)), ..AuthSettings::default() };
    Keys::read(&settings).unwrap_err()
}

/// The examples of RFC 7515 (appendices A.1 to A.3) and RFC 8037 (appendix A.4): what others sign is verified, as a whole
/// and in no other way.
#[test]
fn the_examples_of_the_standards_are_verified() {
    let files = Files::new();
    let set = json!({ "keys": [
        { "kty": "oct", "kid": "a1",
          "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow" },
        { "kty": "RSA", "kid": "a2", "e": "AQAB",
          "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" },
        { "kty": "EC", "kid": "a3", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
          "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" },
        { "kty": "OKP", "kid": "a4", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
    ]});
    let settings = AuthSettings { jwks_file: Some(files.put("set", set.to_string())), ..AuthSettings::default() };
    let keys = Keys::read(&settings).unwrap();
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let examples = [
        (
            "a1",
            format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{payload}"),
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            "a2",
            format!("eyJhbGciOiJSUzI1NiJ9.{payload}"),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "a3",
            format!("eyJhbGciOiJFUzI1NiJ9.{payload}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
        (
            "a4",
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".into(),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ];
    for (kid, message, signature) in &examples {
        let key = keys.get(Some(kid)).unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(key.verify(message.as_bytes(), &signature), "{kid}");
        assert!(!key.verify(format!("{message}x").as_bytes(), &signature), "{kid}");
        for at in [0, signature.len() / 2, signature.len() - 1] {
            let mut forged = signature.clone();
            forged[at] ^= 1;
            assert!(!key.verify(message.as_bytes(), &forged), "{kid}");
        }
        assert!(!key.verify(message.as_bytes(), &[]), "{kid}");
        for (other, ..) in examples.iter().filter(|(other, ..)| other != kid) {
            assert!(!keys.get(Some(other)).unwrap().verify(message.as_bytes(), &signature), "{kid} by {other}");
        }
    }
}

#[test]
fn a_token_is_checked_in_all_its_claims() {
    let files = Files::new();
    let verifier = verifier(&AuthSettings {
        jwt_issuer: Some("https://issuer.example".into()),
        jwt_audience: vec!["fanfare".into(), "live".into()],
        ..files.secret()
    });
    let good = json!({ "sub": "ada", "exp": NOW + 60, "iss": "https://issuer.example", "aud": "fanfare" });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        verifier.verify(&token(&claims), NOW).map(|claims| claims.subject)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(name);
        verifier.verify(&token(&claims), NOW).map(|claims| claims.subject)
    };
    let ada = || Ok(Some("ada".to_owned()));
    assert_eq!(with("x", json!(1)), ada());
    assert_eq!(with("aud", json!(["other", "live"])), ada());
    // Thirty seconds of leeway, and not one more.
    assert_eq!(with("exp", json!(NOW - 29)), ada());
    assert_eq!(with("exp", json!(NOW - 30)), Err(Denied::Expired));
    assert_eq!(with("exp", json!(0)), Err(Denied::Expired));
    assert_eq!(with("nbf", json!(NOW + 30)), ada());
    assert_eq!(with("nbf", json!(NOW + 31)), Err(Denied::NotYet));
    assert_eq!(with("iat", json!(NOW + 30)), ada());
    assert_eq!(with("iat", json!(NOW + 31)), Err(Denied::FromFuture));
    assert_eq!(without("exp"), Err(Denied::NoExpiry));
    assert_eq!(with("exp", Value::Null), Err(Denied::NoExpiry));
    assert_eq!(with("iss", json!("https://issuer.example.evil")), Err(Denied::Issuer));
    assert_eq!(without("iss"), Err(Denied::Issuer));
    assert_eq!(with("aud", json!("other")), Err(Denied::Audience));
    assert_eq!(with("aud", json!([])), Err(Denied::Audience));
    assert_eq!(without("aud"), Err(Denied::Audience));
    assert!(matches!(with("exp", json!("tomorrow")), Err(Denied::Claims(_))));
    assert!(matches!(with("sub", json!("x".repeat(256))), Err(Denied::Claims(_))));
}

#[test]
fn no_algorithm_but_that_of_the_key_is_believed() {
    let files = Files::new();
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let pem = pair.public_key_pem();
    let keys = vec![files.key("ES256", Some("es"), &pem), files.key("HS256", None, SECRET)];
    let verifier = verifier(&AuthSettings { jwt_keys: keys, ..AuthSettings::default() });
    let claims = json!({ "sub": "ada", "exp": NOW + 60 });
    let verify = |token: &str| verifier.verify(token, NOW).map(|claims| claims.subject).unwrap_err();
    // No signature at all, however it is written.
    for alg in ["none", "None", "NONE", "nOnE", "", "hs256", "HS512", "ES384", "PS256"] {
        let unsigned = format!("{}.{}.", encode(json!({ "alg": alg }).to_string()), encode(claims.to_string()));
        assert_eq!(verify(&unsigned), Denied::Algorithm, "{alg}");
        assert_eq!(verify(&hs256(SECRET.as_bytes(), &json!({ "alg": alg }), &claims)), Denied::Algorithm, "{alg}");
    }
    // The public key, known to all, as the secret.
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), pair.der_bytes(), &pair.subject_public_key_info()] {
        let confused = hs256(secret, &json!({ "alg": "HS256", "kid": "es" }), &claims);
        assert_eq!(verify(&confused), Denied::Algorithm);
        let nameless = hs256(secret, &json!({ "alg": "HS256" }), &claims);
        assert_eq!(verify(&nameless), Denied::Signature);
    }
    // A signature of the right key under another name, a key of the token's own, and demands.
    let header = |more: Value| {
        let mut header = json!({ "alg": "HS256" });
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        verify(&hs256(SECRET.as_bytes(), &header, &claims))
    };
    assert_eq!(header(json!({ "kid": "other" })), Denied::UnknownKey);
    assert_eq!(header(json!({ "kid": "../../dev/null" })), Denied::UnknownKey);
    assert_eq!(header(json!({ "crit": ["b64"], "b64": false })), Denied::Critical);
    assert_eq!(header(json!({ "kid": 7 })), Denied::Malformed);
    let own = json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": encode([7; 32]) }, "jku": "http://evil.example" });
    assert_eq!(verify(&hs256(&[7; 32], &own, &claims)), Denied::Signature);
}

#[test]
fn what_is_no_token_is_refused_and_nothing_too_long_is_read() {
    let files = Files::new();
    let verifier = verifier(&files.secret());
    let verify = |token: &str| verifier.verify(token, NOW).map(drop).unwrap_err();
    let good = token(&json!({ "exp": NOW + 60 }));
    assert!(verifier.verify(&good, NOW).is_ok());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for bad in [
        String::new(),
        "..".into(),
        "a.b.c".into(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}=.{payload}.{signature}"),
        format!(" {good}"),
        format!("{good}.x"),
        good.replace('.', ".."),
    ] {
        assert_eq!(verify(&bad), Denied::Malformed, "{bad}");
    }
    assert_eq!(verify(&format!("{header}.{payload}.")), Denied::Signature);
    assert_eq!(verify(&format!("{header}.{}.{signature}", encode("{}"))), Denied::Signature);
    // Signed rubbish is rubbish.
    let message = format!("{header}.{}", encode("rubbish"));
    let sign = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message.as_bytes());
    assert!(matches!(verify(&format!("{message}.{}", encode(sign))), Denied::Claims(_)));
    assert_eq!(verify(&"a.".repeat(TOKEN_BYTES_MAX / 2 + 1)), Denied::TooLong);
    let auth = Auth::new(&files.secret()).unwrap();
    let huge = Credentials { token: Some("x".repeat(1 << 20)), ..Credentials::default() };
    assert_eq!(auth.judge(&auth.state(), &huge).map(drop), Err(Denied::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_token_makes_it_panic_and_none_is_accepted(
        text in "\\PC{0,200}",
        header in any::<Vec<u8>>(),
        payload in any::<Vec<u8>>(),
        signature in any::<Vec<u8>>(),
    ) {
        let files = Files::new();
        let verifier = verifier(&files.secret());
        prop_assert!(verifier.verify(&text, NOW).is_err());
        let dotted = format!("{}.{}.{}", encode(&header), encode(&payload), encode(&signature));
        prop_assert!(verifier.verify(&dotted, NOW).is_err());
        let signed = format!("{}.{}.{}", encode(r#"{"alg":"HS256"}"#), encode(&payload), encode(&signature));
        prop_assert!(verifier.verify(&signed, NOW).is_err());
    }

    #[test]
    fn no_jwks_makes_it_panic(text in "\\PC{0,200}", kty in "(oct|RSA|EC|OKP)", part in any::<Vec<u8>>()) {
        let files = Files::new();
        set_error(&files, &text);
        let part = encode(&part);
        let jwk = json!({ "kty": kty, "crv": "P-256", "n": part, "e": part, "x": part, "y": part, "k": "" });
        set_error(&files, json!({ "keys": [jwk] }).to_string());
    }
}

#[test]
fn keys_of_openssl_s_form_are_read_for_their_own_algorithm_only() {
    let files = Files::new();
    let ec = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let claims = json!({ "sub": "ada", "exp": NOW + 60 });
    for (name, pair, other) in [("ES256", &ec, &ed), ("EdDSA", &ed, &ec)] {
        let keys = vec![files.key(name, Some("k"), pair.public_key_pem())];
        let verifier = verifier(&AuthSettings { jwt_keys: keys, ..AuthSettings::default() });
        let message =
            format!("{}.{}", encode(json!({ "alg": name, "kid": "k" }).to_string()), encode(claims.to_string()));
        let sign = |pair: &KeyPair| pair.sign(message.as_bytes()).unwrap();
        let fixed = |signature: Vec<u8>| if name == "ES256" { der_to_fixed(&signature) } else { signature };
        let signed = format!("{message}.{}", encode(fixed(sign(pair))));
        assert_eq!(verifier.verify(&signed, NOW).unwrap().subject.as_deref(), Some("ada"), "{name}");
        let forged = format!("{message}.{}", encode(sign(other)));
        assert_eq!(verifier.verify(&forged, NOW).map(drop), Err(Denied::Signature), "{name}");
        let wrong = key_error(files.key(name, None, other.public_key_pem()));
        assert!(wrong.contains("it is no"), "{wrong}");
    }
}

/// An ECDSA signature as certificates have it, in the form of tokens (RFC 7518, section 3.4).
fn der_to_fixed(der: &[u8]) -> Vec<u8> {
    let (r_length, mut fixed) = (usize::from(der[3]), Vec::new());
    let (r, s) = (&der[4..4 + r_length], &der[6 + r_length..]);
    for number in [r, s] {
        let digits = &number[number.len().saturating_sub(32)..];
        fixed.extend(std::iter::repeat_n(0, 32 - digits.len()));
        fixed.extend_from_slice(digits);
    }
    fixed
}

#[test]
fn what_is_wrong_with_a_key_is_said_with_its_file_and_a_remedy() {
    let files = Files::new();
    let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["x".into()]).unwrap().self_signed(&pair).unwrap();
    for (algorithm, content, part) in [
        ("HS512", SECRET.to_owned(), "the algorithm is 'HS512': it must be one of HS256, RS256, ES256, EdDSA"),
        ("none", SECRET.to_owned(), "the algorithm is 'none'"),
        ("HS256", "short".to_owned(), "the secret has 5 bytes: HS256 needs at least 32"),
        ("HS256", String::new(), "the secret has 0 bytes"),
        ("HS256", pair.public_key_pem(), "HS256 needs a secret"),
        ("ES256", pair.serialize_pem(), "it is a private key"),
        ("ES256", certificate.pem(), "it is a certificate: give its public key"),
        ("ES256", "rubbish".to_owned(), "no key in PEM form"),
        ("RS256", pair.public_key_pem(), "it is no RSA key"),
    ] {
        let key = files.key(algorithm, Some("k"), content);
        let file = key.file.display().to_string();
        let error = key_error(key);
        assert!(error.starts_with("jwt_keys: ") && error.contains(&file) && error.contains(part), "{error}");
    }
    let missing = JwtKey { algorithm: "HS256".into(), kid: None, file: "/nonexistent/key".into() };
    assert!(key_error(missing).contains("/nonexistent/key: it cannot be read"));
    let pipe = JwtKey { algorithm: "HS256".into(), kid: None, file: "/dev/zero".into() };
    assert!(key_error(pipe).contains("no regular file"));
    let huge = files.key("HS256", None, vec![b'x'; (1 << 20) + 1]);
    assert!(key_error(huge).contains("more than 1048576 bytes"));
    let twice = vec![files.key("HS256", Some("k"), SECRET), files.key("ES256", Some("k"), pair.public_key_pem())];
    let settings = AuthSettings { jwt_keys: twice, ..AuthSettings::default() };
    assert!(Keys::read(&settings).unwrap_err().contains("two keys with the kid 'k'"));
}

#[test]
fn a_secret_that_everybody_can_read_is_refused_and_a_last_line_break_is_not_a_part_of_it() {
    let files = Files::new();
    let key = files.key("HS256", None, format!("{SECRET}\r\n"));
    fs::set_permissions(&key.file, fs::Permissions::from_mode(0o644)).unwrap();
    let error = key_error(key.clone());
    assert!(error.contains("everybody on this machine can read the secret: chmod o-r"), "{error}");
    fs::set_permissions(&key.file, fs::Permissions::from_mode(0o640)).unwrap();
    let verifier = verifier(&AuthSettings { jwt_keys: vec![key], ..AuthSettings::default() });
    assert!(verifier.verify(&token(&json!({ "exp": NOW + 1 })), NOW).is_ok());
    // A public key may be read by everybody.
    let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let public = files.key("EdDSA", None, pair.public_key_pem());
    fs::set_permissions(&public.file, fs::Permissions::from_mode(0o644)).unwrap();
    Keys::read(&AuthSettings { jwt_keys: vec![public], ..AuthSettings::default() }).unwrap();
}

#[test]
fn what_is_wrong_with_a_jwks_is_said() {
    let files = Files::new();
    let oct = |kid: &str| json!({ "kty": "oct", "kid": kid, "k": encode(SECRET) });
    let keys = |keys: Value| json!({ "keys": keys }).to_string();
    for (set, part) in [
        ("{".to_owned(), "it is no JSON"),
        ("[]".to_owned(), "it is no JWKS"),
        ("{}".to_owned(), "it is no JWKS"),
        (keys(json!([])), "there is no key in it"),
        (keys(json!([{ "kty": "RSA", "use": "enc", "n": "x", "e": "AQAB" }])), "there is no key in it"),
        (keys(json!([{ "kty": "oct", "alg": "HS512", "k": encode(SECRET) }])), "there is no key in it"),
        (keys(json!([{ "kty": "EC", "crv": "P-521", "x": "", "y": "" }])), "there is no key in it"),
        (keys(json!([{ "kid": "x" }])), "key 1 of the array: 'kty' is missing"),
        (keys(json!([oct("a"), { "kty": "oct" }])), "key 2 of the array: 'k' is missing"),
        (keys(json!([{ "kty": "oct", "k": "a+b" }])), "'k' must be base64url"),
        (keys(json!([{ "kty": "oct", "k": encode("short") }])), "the secret has 5 bytes"),
        (keys(json!([oct("a"), oct("b"), oct("a")])), "key 3 of the array: there are two keys with the kid 'a'"),
        (keys(json!([{ "kty": "RSA", "n": encode([255; 128]), "e": "AQAB" }])), "the RSA key has 1024 bits"),
        (keys(json!([{ "kty": "RSA", "n": encode([255; 256]), "e": "AQ" }])), "the exponent of the RSA key"),
        (keys(json!([{ "kty": "RSA", "n": encode([255; 256]), "e": "AQAB", "d": "AQ" }])), "it is a private key"),
        (
            keys(json!([{ "kty": "EC", "crv": "P-256", "x": encode([1; 32]), "y": encode([1; 32]) }])),
            "no point on the curve",
        ),
        (keys(json!([{ "kty": "OKP", "crv": "Ed25519", "x": encode([1; 31]) }])), "an Ed25519 key has 32 bytes"),
        (keys(json!([{ "kty": 7 }])), "'kty' must be a string"),
    ] {
        let error = set_error(&files, &set);
        assert!(error.starts_with("jwks_file: ") && error.contains(part), "{set}: {error}");
    }
    let open = files.put("open.json", keys(json!([oct("a")])));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o604)).unwrap();
    let settings = AuthSettings { jwks_file: Some(open), ..AuthSettings::default() };
    assert!(Keys::read(&settings).unwrap_err().contains("chmod o-r"));
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials { token: token.map(Into::into), ..Credentials::default() }
}

fn known(auth: &Auth, token: &str) -> Arc<Identity> {
    match auth.judge(&auth.state(), &credentials(Some(token))) {
        Ok(Verdict::Known(identity)) => identity,
        other => panic!("somebody was expected: {other:?}"),
    }
}

#[test]
fn what_was_found_out_is_kept_until_the_keys_change() {
    let files = Files::new();
    let settings = files.secret();
    let auth = Auth::new(&settings).unwrap();
    let token = token(&json!({ "sub": "ada", "exp": now_s() + 60 }));
    let first = known(&auth, &token);
    assert!(Arc::ptr_eq(&first, &known(&auth, &token)), "the second time nothing is computed");
    let wrong = AuthSettings { jwks_file: Some("/nonexistent".into()), ..settings.clone() };
    assert!(auth.reload(&wrong).unwrap_err().contains("/nonexistent"));
    assert!(Arc::ptr_eq(&first, &known(&auth, &token)), "what was there is kept if what is new is wrong");
    let other = files.key("HS256", Some("new"), "another secret, as long as it needs to be");
    auth.reload(&AuthSettings { jwt_keys: vec![other], ..settings }).unwrap();
    let judged = auth.judge(&auth.state(), &credentials(Some(&token))).map(drop);
    assert_eq!(judged, Err(Denied::UnknownKey), "what the old keys signed is worth nothing, kept or not");
}

#[test]
fn what_is_kept_ends_with_the_token() {
    let files = Files::new();
    let auth = Auth::new(&AuthSettings { jwt_leeway: Duration::ZERO, ..files.secret() }).unwrap();
    let soon = now_s() + 2;
    let token = token(&json!({ "exp": soon }));
    known(&auth, &token);
    while now_s() < soon {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let judged = auth.judge(&auth.state(), &credentials(Some(&token))).map(drop);
    assert_eq!(judged, Err(Denied::Expired));
}

#[test]
fn the_api_token_may_do_everything_and_only_the_whole_of_it() {
    let api_token = Some(Secret("an operator's token".into()));
    let auth = Auth::new(&AuthSettings { api_token, ..AuthSettings::default() }).unwrap();
    let identity = known(&auth, "an operator's token");
    assert!(identity.permissions.check(Action::Admin, None).is_ok());
    for wrong in ["an operator's toke", "an operator's token ", "An operator's token", ""] {
        let judged = auth.judge(&auth.state(), &credentials(Some(wrong))).map(drop);
        assert_eq!(judged, Err(Denied::Malformed), "{wrong}");
    }
    for token in [String::new(), "x".repeat(TOKEN_BYTES_MAX + 1)] {
        let settings = AuthSettings { api_token: Some(Secret(token)), ..AuthSettings::default() };
        assert!(Auth::new(&settings).is_err());
    }
}

fn role(name: &str, subscribe: &[&str]) -> Role {
    let subscribe = subscribe.iter().map(|text| (*text).to_owned()).collect();
    Role { name: name.into(), subscribe, publish: Vec::new(), history: Vec::new(), admin: Vec::new() }
}

#[test]
fn roles_add_to_what_a_token_says() {
    let files = Files::new();
    let roles = vec![role("default", &["news"]), role("staff", &["staff.>"]), role("anonymous", &["public"])];
    let auth = Auth::new(&AuthSettings { roles, ..files.secret() }).unwrap();
    let may = |claims: Value, topic: &str| known(&auth, &token(&claims)).permissions.allow(Action::Subscribe, topic);
    let exp = now_s() + 60;
    assert!(may(json!({ "exp": exp }), "news") && !may(json!({ "exp": exp }), "staff.a"));
    assert!(!may(json!({ "exp": exp }), "public"), "who is known is not anonymous");
    let staff = json!({ "exp": exp, "role": "staff", "permissions": { "subscribe": ["own"] } });
    assert!(["news", "staff.a", "own"].into_iter().all(|topic| may(staff.clone(), topic)));
    assert!(!may(json!({ "exp": exp, "role": "unknown" }), "staff.a"));
    let state = auth.state();
    let anonymous = auth.without_token(&state, true).unwrap();
    assert!(anonymous.permissions.allow(Action::Subscribe, "public"));
    assert!(!anonymous.permissions.allow(Action::Subscribe, "news"));
    for (roles, part) in [
        (vec![role("a", &[]), role("a", &[])], "the role 'a' is given twice"),
        (vec![role("a", &[">.{sub}"])], "role a: subscribe has '>.{sub}': '>' may only be the last part"),
    ] {
        let error = Auth::new(&AuthSettings { roles, ..files.secret() }).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn without_authentication_everybody_gets_topics_and_this_machine_everything() {
    let auth = Auth::new(&AuthSettings::default()).unwrap();
    let state = auth.state();
    let of = |is_local| auth.without_token(&state, is_local).unwrap();
    assert!(of(false).permissions.check(Action::Subscribe, Some(">")).is_ok());
    assert!(of(false).permissions.check(Action::Subscribe, Some("$sys.>")).is_err());
    assert!(of(false).permissions.check(Action::Admin, None).is_err());
    assert!(of(true).permissions.check(Action::Subscribe, Some("$sys.>")).is_ok());
    let strict = Auth::new(&AuthSettings { api_on_loopback: false, ..AuthSettings::default() }).unwrap();
    let here = strict.without_token(&strict.state(), true).unwrap();
    assert!(here.permissions.check(Action::Subscribe, Some("$sys.>")).is_err());
}

#[test]
fn a_callback_s_address_is_checked() {
    let error = |url: &str| {
        let callback = CallbackSettings {
            url: url.into(),
            timeout: Duration::from_secs(2),
            cache: Duration::ZERO,
            concurrent_max: 64,
            failures_max: 5,
            pause: Duration::from_secs(10),
        };
        Auth::new(&AuthSettings { callback: Some(callback), ..AuthSettings::default() }).map(drop).unwrap_err()
    };
    for url in ["", "localhost:80", "/auth", "ftp://host/", "http://", "unix:/x"] {
        assert!(error(url).contains("auth_url"), "{url}: {}", error(url));
    }
    let secret = error("http://user:hunter2@host/");
    assert!(secret.contains("auth_url") && !secret.contains("hunter2"), "{secret}");
}

#[test]
fn nothing_shows_a_secret() {
    let files = Files::new();
    let settings = AuthSettings { api_token: Some(Secret("hunter2".into())), ..files.secret() };
    let auth = Auth::new(&settings).unwrap();
    let brought = Credentials {
        token: Some("hunter2".into()),
        headers: vec![("cookie", "hunter2".into())],
        query: Some("hunter2".into()),
        ..Credentials::default()
    };
    let shown = format!("{settings:?} {:?} {auth:?} {brought:?}", auth.state());
    assert!(!shown.contains("hunter2") && !shown.contains(SECRET), "{shown}");
    let _: &Path = files.0.path();
}

#[test]
fn who_shows_a_certificate_goes_by_its_common_name_or_else_by_another() {
    let certificate = |common: Option<&str>, names: &[&str]| {
        let mut params =
            rcgen::CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        common.into_iter().for_each(|name| params.distinguished_name.push(rcgen::DnType::CommonName, name));
        let key = rcgen::KeyPair::generate().unwrap();
        crate::ClientCertificate::from_der(params.self_signed(&key).unwrap().der()).unwrap()
    };
    let role = Role {
        name: "default".into(),
        subscribe: vec!["users.{sub}".into()],
        publish: Vec::new(),
        history: Vec::new(),
        admin: Vec::new(),
    };
    let settings = AuthSettings { client_certificates: true, roles: vec![role], ..AuthSettings::default() };
    let auth = Auth::new(&settings).unwrap();
    let found = |certificate: &crate::ClientCertificate| {
        let identity = auth.by_certificate(&auth.state(), Some(certificate)).unwrap();
        assert!(identity.is_authenticated);
        identity
    };
    let long = "x".repeat(256);
    for (certificate, subject) in [
        (certificate(Some("alice"), &["a.example"]), Some("alice")),
        (certificate(None, &["a.example", "b.example"]), Some("a.example")),
        (certificate(Some(""), &["a.example"]), None),
        (certificate(Some("a\nb"), &["a.example"]), None),
        (certificate(Some(&long), &["a.example"]), None),
        (certificate(None, &[]), None),
    ] {
        let identity = found(&certificate);
        assert_eq!(identity.subject.as_deref(), subject);
        assert!(Arc::ptr_eq(&identity, &found(&certificate)), "it is found out once");
        assert_eq!(identity.permissions.allow(Action::Subscribe, "users.alice"), subject == Some("alice"));
        assert!(!identity.permissions.allow(Action::Publish, "users.alice"));
    }
    let off = Auth::new(&AuthSettings::default()).unwrap();
    assert!(off.by_certificate(&off.state(), Some(&certificate(Some("alice"), &[]))).is_none());
    assert!(auth.by_certificate(&auth.state(), None).is_none());
}

#[test]
fn a_certificate_that_has_expired_is_nobody_s() {
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.not_after = time::OffsetDateTime::now_utc() - time::Duration::seconds(2);
    let key = rcgen::KeyPair::generate().unwrap();
    let expired = crate::ClientCertificate::from_der(params.self_signed(&key).unwrap().der()).unwrap();
    let auth = Auth::new(&AuthSettings { client_certificates: true, ..AuthSettings::default() }).unwrap();
    assert!(auth.by_certificate(&auth.state(), Some(&expired)).is_none());
}
