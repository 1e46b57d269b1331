//! What clients may say, and how what they may not say is answered.

use super::*;
use proptest::prelude::*;

fn action(text: &str) -> Action<'_> {
    parse(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: {fault:?}")).action
}

fn fault(text: &str) -> (&'static str, String) {
    let fault = parse(text.as_bytes()).expect_err(text);
    (fault.code, fault.message)
}

#[test]
fn the_order_of_fields_knows_each_at_its_place() {
    for (place, (field, _)) in FIELDS.iter().enumerate() {
        assert_eq!(*field as usize, place);
    }
}

#[test]
fn every_kind_of_request_is_read() {
    assert_eq!(
        action(r#"{"type":"subscribe","topic":"t"}"#),
        Action::Subscribe { topic: "t".into(), since: None, history: 0 }
    );
    assert_eq!(
        action(r#"{"history":10,"topic":"a\u002fb","type":"subscribe","id":1}"#),
        Action::Subscribe { topic: "a/b".into(), since: None, history: 10 }
    );
    assert_eq!(
        action(r#"{"type":"subscribe","topic":"t","since":{"epoch":"5f","offset":42}}"#),
        Action::Subscribe { topic: "t".into(), since: Some(Position { epoch: Epoch(0x5f), offset: 42 }), history: 0 }
    );
    assert_eq!(action(r#"{"type":"unsubscribe","topic":"t"}"#), Action::Unsubscribe { topic: "t".into() });
    assert_eq!(
        action(r#" {"type":"publish","topic":"t","data": {"a" : [1, "x"]} ,"key":"k"} "#),
        Action::Publish { topic: "t".into(), data: r#"{"a" : [1, "x"]}"#, key: Some("k".into()) }
    );
    assert_eq!(
        action(r#"{"type":"publish","topic":"t","data":null}"#),
        Action::Publish { topic: "t".into(), data: "null", key: None }
    );
    assert_eq!(
        action(r#"{"type":"history","topic":"t"}"#),
        Action::History { topic: "t".into(), since: None, limit: PAGE_DEFAULT }
    );
    assert_eq!(action(r#"{"type":"ping"}"#), Action::Ping);
}

#[test]
fn mistakes_are_told_apart_and_named() {
    for (text, code, part) in [
        ("", "bad_json", "EOF"),
        ("{", "bad_json", "EOF"),
        ("hello", "bad_json", "line 1"),
        (r#"{"type":"ping"} {}"#, "bad_json", "trailing"),
        (r#"{"type":"ping","type":"ping"}"#, "bad_request", "'type' is given twice"),
        ("42", "bad_request", "object"),
        ("[]", "bad_request", "object"),
        ("{}", "bad_request", "'type' is missing"),
        (r#"{"type":7}"#, "bad_request", "'type' is 7: it must be a string"),
        (r#"{"type":"Subscribe","topic":"t"}"#, "unknown_type", "'Subscribe'"),
        (r#"{"type":"subscribe"}"#, "bad_request", "'topic' is missing"),
        (r#"{"type":"subscribe","topic":["t"]}"#, "bad_request", "'topic' is [\"t\"]"),
        (r#"{"type":"subscribe","topic":"t","histroy":1}"#, "bad_request", "'histroy' is no field of subscribe"),
        (r#"{"type":"subscribe","topic":"t","data":1}"#, "bad_request", "'data' is no field of subscribe"),
        (r#"{"type":"subscribe","topic":"t","history":-1}"#, "bad_request", "'history' is -1"),
        (r#"{"type":"subscribe","topic":"t","history":1.5}"#, "bad_request", "'history' is 1.5"),
        (r#"{"type":"subscribe","topic":"t","since":"5f:1"}"#, "bad_request", "'since' must be an object"),
        (r#"{"type":"subscribe","topic":"t","since":{"offset":1}}"#, "bad_request", "in 'since': 'epoch' is missing"),
        (r#"{"type":"subscribe","topic":"t","since":{"epoch":"5f"}}"#, "bad_request", "'offset' is missing"),
        (r#"{"type":"subscribe","topic":"t","since":{"epoch":"zz","offset":1}}"#, "bad_request", "'zz'"),
        (
            r#"{"type":"subscribe","topic":"t","history":1,"since":{"epoch":"1","offset":1}}"#,
            "bad_request",
            "exclude each other",
        ),
        (r#"{"type":"publish","topic":"t"}"#, "bad_request", "'data' is missing"),
        (r#"{"type":"publish","topic":"t","data":1,"key":1}"#, "bad_request", "'key' is 1"),
        (r#"{"type":"history","topic":"t","limit":1001}"#, "bad_request", "from 1 to 1000"),
        (r#"{"type":"ping","topic":"t"}"#, "bad_request", "'topic' is no field of ping: there are id"),
        (r#"{"type":"ping","id":[]}"#, "bad_request", "'id' must be"),
        (r#"{"type":"ping","id":null}"#, "bad_request", "'id' must be"),
    ] {
        let (seen, message) = fault(text);
        assert_eq!(seen, code, "{text}: {message}");
        assert!(message.contains(part), "{text}: {message}");
    }
    assert_eq!(parse(b"\xff").unwrap_err().code, "bad_json");
}

#[test]
fn an_id_is_echoed_as_it_was_written_also_with_mistakes() {
    let echoed = |text: &'static str| match parse(text.as_bytes()) {
        Ok(request) => request.id.map(Id::as_json),
        Err(fault) => fault.id.map(Id::as_json),
    };
    assert_eq!(echoed(r#"{"type":"ping","id":1.50}"#), Some("1.50"));
    assert_eq!(echoed(r#"{"type":"ping","id":"\u0041"}"#), Some(r#""\u0041""#));
    assert_eq!(echoed(r#"{"type":"nonsense","id":"a"}"#), Some("\"a\""));
    assert_eq!(echoed(r#"{"type":"publish","id":-7}"#), Some("-7"));
    assert_eq!(echoed(r#"{"type":"ping","id":true}"#), None);
    assert_eq!(echoed(r#"{"type":"ping"}"#), None);
    let long = |length: usize| format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(length));
    assert!(parse(long(64).as_bytes()).is_ok());
    assert!(parse(long(65).as_bytes()).unwrap_err().id.is_none());
}

#[test]
fn a_flood_of_fields_is_skipped() {
    let flood: String = (0..100_000).map(|n| format!("\"f{n}\":{n},")).collect();
    let (code, message) = fault(&format!(r#"{{{flood}"type":"ping"}}"#));
    assert_eq!((code, message.contains("'f0'")), ("bad_request", true), "{message}");
    assert_eq!(fault(&"[".repeat(1_000_000)).0, "bad_request");
    assert_eq!(fault(&"{\"a\":".repeat(1_000_000)).0, "bad_json");
}

#[test]
fn a_key_has_a_limit() {
    let publish =
        |length: usize| format!(r#"{{"type":"publish","topic":"t","data":1,"key":"{}"}}"#, "k".repeat(length));
    assert!(parse(publish(255).as_bytes()).is_ok());
    assert!(fault(&publish(256)).1.contains("256 bytes"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_cut_or_damage_of_a_request_makes_it_panic(
        request in prop::sample::select(vec![
            r#"{"type":"subscribe","id":"a\u00e9","topic":"prices.*","since":{"epoch":"5f","offset":42},"history":3}"#,
            r#"{"type":"publish","id":12,"topic":"žluť","data":{"a":[1,2,{"b":"\ud83d\ude00"}]},"key":"k"}"#,
            r#"{"type":"history","topic":"t","since":{"epoch":"ffffffffffffffff","offset":18446744073709551615},"limit":10}"#,
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = request.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = parse(&bytes);
        let _ = parse(&bytes[..end.index(bytes.len())]);
    }

    #[test]
    fn what_is_published_is_the_text_of_data(topic in any::<String>(), data in any::<String>(), id in any::<u64>()) {
        let (topic_json, data_json) = (serde_json::to_string(&topic).unwrap(), serde_json::to_string(&data).unwrap());
        let text = format!(r#"{{"data":{data_json},"id":{id},"type":"publish","topic":{topic_json}}}"#);
        let request = parse(text.as_bytes()).unwrap();
        prop_assert_eq!(request.id.unwrap().as_json(), id.to_string());
        prop_assert_eq!(request.action, Action::Publish { topic: topic.into(), data: &data_json, key: None });
    }
}
