//! Tokens with the upgrade: where they may stand, and what is answered to those who have none, or a bad one.

use std::net::TcpStream;
use std::time::Duration;

use fanfare::server::auth::JwtKey;
use fanfare_tests::Client;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;

use super::kit::{Fanfare, SECRET, now, private_file, token, token_of};

#[test]
fn a_token_may_stand_in_a_header_the_query_a_cookie_or_among_the_subprotocols() {
    let server = Fanfare::with(|settings| settings.cookie = Some("session".into()));
    let token = token_of("ada");
    let (bearer, cookie) = (format!("Bearer {token}"), format!("a=b; session={token}"));
    let protocols = format!("fanfare.v1, bearer.{token}");
    let query = format!("?token={token}");
    let topic = format!("/topics/t?mode=subscribe&token={token}&history=1");
    for (path, headers) in [
        ("/ws".to_owned(), vec![("Authorization", &*bearer)]),
        ("/ws".to_owned(), vec![("Authorization", &bearer), ("Cookie", "session=rubbish")]),
        (format!("/ws{query}"), vec![]),
        ("/ws".to_owned(), vec![("Cookie", &*cookie)]),
        ("/ws".to_owned(), vec![("Sec-WebSocket-Protocol", &*protocols)]),
        (topic, vec![]),
    ] {
        let answer = server.upgrade(&path, &headers);
        assert_eq!(answer.status, 101, "{path} {headers:?}");
        let all = format!("{:?}", answer.headers);
        assert!(!all.contains(&token), "the token is not sent back: {all}");
    }
    assert_eq!(server.decisions("accepted"), 6);
    // What comes first counts, also if it is wrong.
    assert_eq!(server.upgrade(&format!("/ws{query}"), &[("Authorization", "Bearer rubbish")]).status, 401);
    let strict = Fanfare::with(|settings| settings.query_token = false);
    let answer = strict.upgrade(&format!("/ws{query}"), &[("Authorization", &bearer)]);
    assert_eq!((answer.status, answer.json()["code"].clone()), (400, json!("bad_query")));
    assert!(!answer.text().contains(&token));
    assert_eq!(
        strict.upgrade("/ws", &[("Cookie", &cookie), ("Authorization", "Basic eA==")]).status,
        101,
        "it may come later"
    );
}

#[test]
fn beside_a_token_among_the_subprotocols_the_other_one_is_chosen() {
    let server = Fanfare::start();
    let token = token_of("ada");
    let chosen = |offered: String| {
        let mut request = format!("ws://{}/ws", server.addr()).into_client_request().expect("an address");
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(&offered).expect("a value"));
        let stream = TcpStream::connect(server.addr()).expect("it listens");
        let (_, response) = tungstenite::client::client(request, stream).expect("the client agrees");
        response.headers().get("sec-websocket-protocol").map(|value| value.to_str().expect("text").to_owned())
    };
    assert_eq!(chosen(format!("bearer.{token}, fanfare.v1")).as_deref(), Some("fanfare.v1"));
    assert_eq!(chosen(format!("chat, bearer.{token}")).as_deref(), Some("chat"));
    assert_eq!(chosen("fanfare.v1".into()).as_deref(), Some("fanfare.v1"));
}

#[test]
fn the_greeting_says_who_the_client_is() {
    let server = Fanfare::start();
    let until = now() + 500;
    let (_client, hello) = server.native(&token(json!({ "sub": "ada", "exp": until })));
    assert_eq!(
        (&hello["authenticated"], &hello["subject"], &hello["expires_at"]),
        (&json!(true), &json!("ada"), &json!(until))
    );
    let mut client = server.connect("/ws", &[]).expect("a token may come later");
    assert_eq!(client.read_json()["authenticated"], false);
}

#[test]
fn who_has_no_token_is_told_so_and_who_has_a_bad_one_what_is_wrong() {
    let server = Fanfare::with(|settings| settings.timeout = Duration::ZERO);
    let answer = server.upgrade("/ws", &[]);
    answer.assert_error(401);
    assert_eq!(answer.json()["code"], "unauthenticated");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"fanfare\""));
    let expired = format!("Bearer {}", token(json!({ "exp": now() - 1 })));
    let answer = server.upgrade("/ws", &[("Authorization", &expired)]);
    answer.assert_error(401);
    assert_eq!(answer.json()["code"], "invalid_token");
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("error=\"invalid_token\", error_description=\"the token has expired\""), "{challenge}");
    let narrow = format!("Bearer {}", token(json!({ "permissions": { "subscribe": ["mine"] } })));
    let answer = server.upgrade("/topics/theirs?mode=subscribe", &[("Authorization", &narrow)]);
    answer.assert_error(403);
    assert_eq!(answer.json()["code"], "forbidden");
    assert!(answer.header("www-authenticate").is_some_and(|value| value.contains("insufficient_scope")));
    assert_eq!(server.upgrade("/topics/mine?mode=subscribe", &[("Authorization", &narrow)]).status, 101);
    assert_eq!(server.upgrade("/topics/mine", &[("Authorization", &narrow)]).status, 403, "mode=both publishes, too");
}

#[test]
fn hostile_tokens_are_refused_each_for_what_is_wrong_with_it() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let pem = pair.public_key_pem();
    let server = Fanfare::with(|settings| {
        let file = settings.jwt_keys[0].file.with_file_name("es.pem");
        std::fs::write(&file, &pem).expect("a file can be written");
        settings.jwt_keys.push(JwtKey { algorithm: "ES256".into(), kid: Some("es".into()), file });
        settings.jwt_issuer = Some("https://issuer.example".into());
        settings.jwt_audience = vec!["fanfare".into()];
        settings.jwt_leeway = Duration::from_secs(30);
    });
    let claims = |change: Value| {
        let mut claims =
            json!({ "sub": "ada", "exp": now() + 60, "iss": "https://issuer.example", "aud": ["fanfare", "other"] });
        claims.as_object_mut().expect("claims").extend(change.as_object().expect("claims").clone());
        claims
    };
    let named = |algorithm, kid: Option<&str>| Header { kid: kid.map(Into::into), ..Header::new(algorithm) };
    let sign = |header: Header, claims: Value, key: &EncodingKey| {
        jsonwebtoken::encode(&header, &claims, key).expect("a token")
    };
    let own = EncodingKey::from_secret(SECRET.as_bytes());
    let es = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
    let hs = |change: Value| sign(named(Algorithm::HS256, None), claims(change), &own);
    let good = hs(json!({}));
    let [_, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    // {"alg":"none"}, {"alg":"HS256"} with a signature of nothing.
    let unsigned = format!("eyJhbGciOiJub25lIn0.{payload}.");
    let tampered = format!("{}.{payload}.{}", good.split('.').next().expect("a header"), &signature[1..]);
    let public_as_secret = EncodingKey::from_secret(pem.as_bytes());
    let cases = [
        ("accepted", hs(json!({}))),
        ("accepted", sign(named(Algorithm::ES256, Some("es")), claims(json!({})), &es)),
        ("algorithm", unsigned),
        ("algorithm", sign(named(Algorithm::HS256, Some("es")), claims(json!({})), &public_as_secret)),
        ("algorithm", sign(named(Algorithm::HS384, None), claims(json!({})), &own)),
        ("signature", sign(named(Algorithm::HS256, None), claims(json!({})), &public_as_secret)),
        ("unknown_key", sign(named(Algorithm::ES256, Some("no")), claims(json!({})), &es)),
        ("expired", hs(json!({ "exp": now() - 31 }))),
        ("not_yet", hs(json!({ "nbf": now() + 60 }))),
        ("from_future", hs(json!({ "iat": now() + 60 }))),
        ("no_expiry", hs(json!({ "exp": null }))),
        ("issuer", hs(json!({ "iss": "https://evil.example" }))),
        ("audience", hs(json!({ "aud": "other" }))),
        ("claims", hs(json!({ "permissions": { "subscrbe": [] } }))),
        ("malformed", "rubbish".into()),
        ("malformed", tampered.replace('.', "")),
        ("too_long", "x.".repeat(8193)),
    ];
    for (outcome, token) in cases {
        let before = server.decisions(outcome);
        let status = server.connect(&format!("/ws?token={token}"), &[]).map_or_else(|status| status, |_| 101);
        // A head is bounded, too, and a token of this length does not fit into one.
        let expected = if outcome == "accepted" { 101 } else { 401 };
        if outcome == "too_long" {
            assert!([401, 431].contains(&status), "{status}");
            continue;
        }
        assert_eq!(status, expected, "{outcome}: {token}");
        assert_eq!(server.decisions(outcome), before + 1, "{outcome}: {token}");
    }
}

#[test]
fn a_megabyte_of_a_token_hurts_nobody() {
    let server = Fanfare::start();
    let huge = "x".repeat(1 << 20);
    let mut client = server.connect("/ws", &[]).expect("a token may come later");
    client.read_json();
    client.send_text(&json!({ "type": "auth", "token": huge }).to_string());
    let (code, reason) = client.read_close();
    // Too long a message, or too long a token, whichever is seen first.
    assert!(code == 1009 || code == 4002 && reason.contains("longer than 16,384 bytes"), "{code} {reason}");
    let bearer = format!("Bearer {}", "x".repeat(100_000));
    let stream = TcpStream::connect(server.addr()).expect("it listens");
    assert_eq!(Client::upgrade(stream, server.addr(), "/ws", &[("Authorization", &bearer)]).err(), Some(431));
    let (_client, hello) = server.native(&token_of("ada"));
    assert_eq!(hello["subject"], "ada");
}

#[test]
fn new_keys_count_from_the_reload_on_and_old_connections_stay() {
    let server = Fanfare::start();
    let old = token_of("ada");
    let (mut client, _) = server.native(&old);
    let file = private_file(&server.files, "new", "another secret, which is as long as it has to be");
    let mut settings = server.settings.clone();
    settings.jwt_keys = vec![JwtKey { algorithm: "HS256".into(), kid: None, file }];
    server.auth.reload(&settings).expect("good settings");
    assert_eq!(server.connect(&format!("/ws?token={old}"), &[]).err(), Some(401));
    client.send_text(r#"{"type":"publish","topic":"t","data":1}"#);
    assert_eq!(client.read_json()["type"], "published");
    client.send_text(&json!({ "type": "auth", "token": old }).to_string());
    assert_eq!(client.read_json()["code"], "invalid_token");
}
