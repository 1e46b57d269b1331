//! The opening handshake: what is refused, what is read, and that nothing can be smuggled in or injected.

use httparse::EMPTY_HEADER;
use proptest::prelude::*;

use super::config;
use crate::ws::handshake::*;

/// The request of RFC 6455, 1.3.
const GOOD: &str = "GET /chat?room=7&x=? HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Parses `head`, which must be whole, and looks at it.
fn with_request<T>(head: &str, look: impl FnOnce(Request<'_>) -> T) -> T {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let (request, head_len) = parse_head(head.as_bytes(), &mut headers).unwrap().expect("the head is whole");
    assert_eq!(head_len, head.len());
    look(request)
}

/// A request with these headers, one a line.
fn with_headers<T>(headers: &[&str], look: impl FnOnce(Request<'_>) -> T) -> T {
    with_request(&format!("GET / HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n")), look)
}

fn check(head: &str) -> Result<String, UpgradeError> {
    with_request(head, |request| check_upgrade(&request).map(|key| key.accept()))
}

fn parse_error(head: &str) -> Option<HeadError> {
    parse_head(head.as_bytes(), &mut [EMPTY_HEADER; HEADERS_MAX]).err()
}

#[test]
fn the_example_of_the_rfc_is_accepted_with_its_key() {
    assert_eq!(check(GOOD).as_deref(), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let answer = with_request(GOOD, |request| {
        let key = check_upgrade(&request).unwrap();
        let mut out = Vec::new();
        put_accept(&mut out, &key, Some("chat"), &[("X-Shard".into(), "3".into())]);
        String::from_utf8(out).unwrap()
    });
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\nX-Shard: 3\r\n\r\n"
    );
}

#[test]
fn each_rule_of_the_upgrade_has_its_own_error() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let host = "Host: server.example.com\r\n";
    let broken = [
        ("GET /", "POST /", UpgradeError::Method),
        ("HTTP/1.1", "HTTP/1.0", UpgradeError::HttpVersion),
        (host, "", UpgradeError::Host),
        (host, "Host: a\r\nHost: a\r\n", UpgradeError::Host),
        ("Upgrade: websocket\r\n", "", UpgradeError::NoUpgrade),
        ("Upgrade: websocket\r\n", "Upgrade: h2c, websocket2\r\n", UpgradeError::NoUpgrade),
        ("Connection: Upgrade\r\n", "", UpgradeError::Connection),
        ("Connection: Upgrade\r\n", "Connection: keep-alive\r\n", UpgradeError::Connection),
        (version, "", UpgradeError::Version),
        (version, "Sec-WebSocket-Version: 8\r\n", UpgradeError::Version),
        (version, "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n", UpgradeError::Version),
        (key, "", UpgradeError::Key),
        (key, &key.repeat(2), UpgradeError::Key),
        (key, "Sec-WebSocket-Key: \r\n", UpgradeError::Key),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", UpgradeError::Key),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSEh\r\n", UpgradeError::Key),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n", UpgradeError::Key),
        (version, "Sec-WebSocket-Version: 13\r\nContent-Length: 5\r\n", UpgradeError::Body),
        (version, "Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\nContent-Length: 5\r\n", UpgradeError::Body),
        (version, "Sec-WebSocket-Version: 13\r\nContent-Length: +0\r\n", UpgradeError::Body),
        (version, "Sec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked\r\n", UpgradeError::Body),
        (version, "Sec-WebSocket-Version: 13\r\ntransfer-encoding: identity\r\n", UpgradeError::Body),
    ];
    for (good, bad, error) in broken {
        assert!(GOOD.contains(good));
        assert_eq!(check(&GOOD.replacen(good, bad, 1)), Err(error), "{bad}");
    }
}

#[test]
fn harmless_variations_are_accepted() {
    let variations = [
        ("Connection: Upgrade", "Connection: keep-alive, upgrade"),
        ("Connection: Upgrade", "connection: keep-alive\r\nCONNECTION:UPGRADE"),
        ("Upgrade: websocket", "Upgrade: h2c,\t WebSocket"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version:  13 "),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nContent-Length: 0"),
    ];
    for (good, other) in variations {
        assert!(check(&GOOD.replacen(good, other, 1)).is_ok(), "{other}");
    }
}

#[test]
fn errors_tell_the_client_what_to_do() {
    let headers = |error: UpgradeError| error.extra_headers();
    assert!(headers(UpgradeError::Version).contains(&("Sec-WebSocket-Version".into(), "13".into())));
    assert_eq!(headers(UpgradeError::Method), [("Allow".into(), "GET".into())]);
    assert_eq!(UpgradeError::Version.status(), 426);
    assert_eq!(UpgradeError::Method.status(), 405);
    assert_eq!(UpgradeError::Body.status(), 400);
    assert_eq!(HeadError::TooManyHeaders.status(), 431);
}

#[test]
fn a_head_is_incomplete_until_its_last_byte_and_ends_there() {
    for end in 0..GOOD.len() {
        let mut headers = [EMPTY_HEADER; HEADERS_MAX];
        assert!(parse_head(&GOOD.as_bytes()[..end], &mut headers).unwrap().is_none());
    }
    let with_more = format!("{GOOD}\u{1}frames");
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let (_, head_len) = parse_head(with_more.as_bytes(), &mut headers).unwrap().unwrap();
    assert_eq!(head_len, GOOD.len());
}

#[test]
fn sixty_four_headers_pass_and_one_more_does_not() {
    let head = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    with_request(&head(HEADERS_MAX), |request| assert_eq!(request.headers.len(), HEADERS_MAX));
    assert_eq!(parse_error(&head(HEADERS_MAX + 1)), Some(HeadError::TooManyHeaders));
}

#[test]
fn heads_that_proxies_read_differently_are_malformed() {
    let heads = [
        // A folded line, a blank before the colon, a line without a name: each hides a header from somebody.
        "GET / HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length : 5\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\n: a\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
    ];
    for head in heads {
        assert!(matches!(parse_error(head), Some(HeadError::Malformed(_))), "{head:?}");
    }
}

#[test]
fn the_target_is_a_path_and_a_query() {
    with_request(GOOD, |request| {
        assert_eq!((request.path(), request.query()), ("/chat", Some("room=7&x=?")));
    });
    with_headers(&["Host: a"], |request| assert_eq!((request.path(), request.query()), ("/", None)));
}

#[test]
fn headers_are_found_without_regard_to_case_and_come_trimmed() {
    with_headers(&["x-a:  one\t ", "X-B: two", "X-A: three"], |request| {
        assert_eq!(request.header("X-a"), Some("one"));
        assert_eq!(request.headers_named("x-A").collect::<Vec<_>>(), ["one", "three"]);
        assert_eq!(request.header("x"), None);
    });
}

#[test]
fn a_value_that_is_not_text_is_skipped_but_still_counts() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: http://\xff\r\n\r\n";
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let (request, _) = parse_head(head, &mut headers).unwrap().unwrap();
    assert_eq!(request.header("origin"), None);
    assert!(!Origins::SameHost.allows(&request, false));
    assert!(!Origins::List(vec!["null".into()]).allows(&request, false));
}

#[test]
fn protocols_are_offered_in_order_over_all_headers() {
    with_headers(&["Sec-WebSocket-Protocol: b , a,", "sec-websocket-protocol: c"], |request| {
        assert_eq!(request.protocols().collect::<Vec<_>>(), ["b", "a", "c"]);
        assert_eq!(choose_protocol(request.protocols(), &["a", "b"]), Some("b"));
        assert_eq!(choose_protocol(request.protocols(), &["B", "x"]), None);
        assert_eq!(choose_protocol(request.protocols(), &[]), None);
    });
}

#[test]
fn cookies_are_found_by_their_whole_name() {
    with_headers(&["Cookie: xtoken=1; token=a=b; token=2", "Cookie: other=3"], |request| {
        assert_eq!(request.cookie("token"), Some("a=b"));
        assert_eq!(request.cookie("other"), Some("3"));
        assert_eq!(request.cookie("oken"), None);
    });
}

fn allows(origins: &Origins, host: &str, origin: &str) -> bool {
    with_headers(&[&format!("Host: {host}"), &format!("Origin: {origin}")], |request| origins.allows(&request, false))
}

#[test]
fn same_host_compares_host_and_port() {
    let same = |host, origin| allows(&Origins::SameHost, host, origin);
    assert!(same("example.com", "https://example.com"));
    assert!(same("Example.com", "http://EXAMPLE.com:80"));
    assert!(same("example.com:443", "https://example.com"));
    assert!(same("localhost:8080", "http://localhost:8080"));
    assert!(same("[::1]:8080", "http://[::1]:8080"));
    assert!(same("[::1]", "http://[::1]"));
    assert!(!same("localhost:8080", "http://localhost:8081"));
    assert!(!same("localhost:8080", "http://localhost"));
    assert!(!same("example.com", "https://evil.com"));
    assert!(!same("example.com", "https://evil.com/example.com"));
    assert!(!same("example.com", "https://evil.com@example.com"));
    assert!(!same("example.com", "https://example.com.evil.com"));
    assert!(!same("example.com", "null"));
    assert!(!same("example.com", ""));
}

#[test]
fn through_tls_a_page_in_the_clear_is_not_of_the_same_host() {
    let same = |host, origin| {
        let headers = [format!("Host: {host}"), format!("Origin: {origin}")];
        with_headers(&[&headers[0], &headers[1]], |request| Origins::SameHost.allows(&request, true))
    };
    assert!(same("example.com", "https://example.com"));
    assert!(same("example.com", "HTTPS://example.com:443"));
    assert!(same("example.com:443", "https://example.com"));
    assert!(same("example.com:8443", "https://example.com:8443"));
    for (host, origin) in [
        ("example.com", "http://example.com"),
        ("example.com:80", "http://example.com"),
        ("example.com:443", "http://example.com:443"),
        ("example.com:80", "https://example.com"),
        ("example.com:8443", "http://example.com:8443"),
        ("example.com", "null"),
    ] {
        assert!(!same(host, origin), "{host} {origin}");
    }
    assert!(with_headers(&["Host: a"], |request| Origins::SameHost.allows(&request, true)), "no browser");
    let list = Origins::List(vec!["http://example.com".into()]);
    let listed = ["Host: a", "Origin: http://example.com"];
    assert!(with_headers(&listed, |request| list.allows(&request, true)), "as it is listed");
}

#[test]
fn an_origin_is_needed_from_browsers_only_and_only_once() {
    for origins in [Origins::SameHost, Origins::Any, Origins::List(vec![])] {
        assert!(with_headers(&["Host: a"], |request| origins.allows(&request, false)));
    }
    let twice = ["Host: a", "Origin: http://a", "Origin: http://a"];
    assert!(!with_headers(&twice, |request| Origins::SameHost.allows(&request, false)));
    assert!(with_headers(&twice, |request| Origins::Any.allows(&request, false)));
}

#[test]
fn listed_origins_match_wholly_and_wildcards_match_subdomains_only() {
    let list = Origins::List(vec!["https://example.com".into(), "https://*.example.org".into()]);
    let listed = |origin| allows(&list, "a", origin);
    assert!(listed("https://EXAMPLE.com"));
    assert!(listed("https://example.com:443"));
    assert!(listed("https://a.example.org"));
    assert!(listed("https://a.b.Example.org"));
    assert!(!listed("http://example.com"));
    assert!(!listed("https://example.com:8443"));
    assert!(!listed("https://a.example.com"));
    assert!(!listed("https://example.org"));
    assert!(!listed("https://.example.org"));
    assert!(!listed("https://evilexample.org"));
    assert!(!listed("https://evil.com/.example.org"));
    assert!(!listed("null"));
    assert!(allows(&Origins::List(vec!["null".into()]), "a", "null"));
    assert!(allows(&Origins::Any, "a", "null"));
}

#[test]
fn a_response_has_its_length_and_says_if_it_closes() {
    let mut out = Vec::new();
    put_response(&mut out, 426, &UpgradeError::Version.extra_headers(), "text/plain", b"no\n", true);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\nno\n"
    );
}

#[test]
fn names_are_tokens_and_values_have_no_control_characters() {
    assert!(is_header_name("X-Shard_1"));
    for name in ["", "a b", "a:", "a\r\n", "ä"] {
        assert!(!is_header_name(name), "{name:?}");
    }
    assert!(is_header_value("any text, tab\t, and ä"));
    for value in ["a\r\nb", "a\nb", "a\rb", "\0", "\x7f"] {
        assert!(!is_header_value(value), "{value:?}");
    }
}

/// Bytes that look a little like a head, so that the parser is reached at depth.
fn head_like() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Origin: http://[::1]:\r\n".to_vec()),
        Just(b"Cookie: a=b;=;;c\r\n".to_vec()),
        Just(b"Sec-WebSocket-Key: ==\r\n".to_vec()),
        Just(b"Upgrade: websocket\r\nConnection: ,upgrade,\r\n".to_vec()),
        Just(b"Sec-WebSocket-Version: 13\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        "[ -~]{1,10}: ?[ -~\u{e4}]{0,10}\r\n".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..10),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn no_bytes_make_it_panic(noise in prop_oneof![head_like(), prop::collection::vec(any::<u8>(), 0..200)]) {
        let bytes = [b"GET /?".to_vec(), noise.clone(), b"\r\n\r\n".to_vec()].concat();
        for bytes in [&noise, &bytes] {
            let mut headers = [EMPTY_HEADER; HEADERS_MAX];
            let Ok(Some((request, head_len))) = parse_head(bytes, &mut headers) else { continue };
            prop_assert!(head_len <= bytes.len());
            let _ = (request.path(), request.query(), request.cookie("a"), request.protocols().count());
            let _ = check_upgrade(&request).map(|key| key.accept());
            let _ = Origins::SameHost.allows(&request, false);
            let _ = Origins::List(vec!["https://*.a".into(), "*".into(), "".into()]).allows(&request, false);
        }
    }

    #[test]
    fn nothing_can_be_injected_into_an_answer(
        names in prop::collection::vec(("[\r\n\0 :a-c\u{e4}]{0,8}", "[\r\n\0 :a-c\u{e4}]{0,8}"), 0..4),
        protocol in "[\r\n\0 :a-c]{0,8}",
    ) {
        let mut out = Vec::new();
        with_request(GOOD, |request| put_accept(&mut out, &check_upgrade(&request).unwrap(), Some(&protocol), &names));
        let answer = String::from_utf8_lossy(&out);
        prop_assert_eq!(answer.split("\r\n").count(), 7 + names.len());
        prop_assert_eq!(answer.matches(['\r', '\n', '\0']).count(), 2 * (6 + names.len()));

        out.clear();
        put_response(&mut out, 200, &names, &protocol, b"", false);
        let answer = String::from_utf8_lossy(&out);
        let lines = 3 + names.len() + usize::from(!protocol.is_empty());
        prop_assert_eq!(answer.matches(['\r', '\n', '\0']).count(), 2 * lines);
    }
}
