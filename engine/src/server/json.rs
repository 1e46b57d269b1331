//! How a publication is written as JSON, and how one is read from it: the same in the native protocol, in histories and
//! in the HTTP API.
//!
//! A text payload that is JSON stands there as it is under `data`; other text is a string under `text`; a binary
//! payload is base64 under `base64`. So whatever was published can be had back exactly.

use std::fmt;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{HistoryPage, Opcode, Position, Publication};

/// The most that the publications of one history answer take, in bytes; one publication is always given.
pub const HISTORY_ANSWER_BYTES: usize = 1 << 20;

/// Appends a JSON string.
pub fn put_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string can be written to memory");
}

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, number: u64) {
    write!(out, "{number}").expect("a number can be written to memory");
}

/// Appends the member that holds a payload: `"data":…`, `"text":…` or `"base64":…`.
pub fn put_payload(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    match (opcode, std::str::from_utf8(payload)) {
        (Opcode::Text, Ok(text)) if is_common_json(text) => {
            out.extend_from_slice(b"\"data\":");
            out.extend_from_slice(payload);
        }
        (Opcode::Text, Ok(text)) => {
            out.extend_from_slice(b"\"text\":");
            put_string(out, text);
        }
        (Opcode::Binary, _) | (Opcode::Text, Err(_)) => put_base64(out, payload),
    }
}

fn put_base64(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(b"\"base64\":\"");
    let start = out.len();
    out.resize(start + payload.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(payload, &mut out[start..]).expect("the room was made for it");
    out.truncate(start + written);
    out.push(b'"');
}

/// Reads back what [`put_payload`] writes as `base64`.
#[must_use]
pub fn base64_decode(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// Whether a text is JSON that every parser takes: a hostile publisher must not get something into the messages of
/// others at which their parsers give up. So besides the grammar: at most 127 levels deep, no unpaired surrogates, and
/// numbers within the range of a double.
#[must_use]
pub fn is_common_json(text: &str) -> bool {
    serde_json::from_str::<Common>(text).is_ok()
}

/// Reads every value and keeps none: `serde_json` checks depth, strings and numbers only where someone wants them.
struct Common;

impl<'de> Deserialize<'de> for Common {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CommonVisitor)
    }
}

struct CommonVisitor;

impl<'de> Visitor<'de> for CommonVisitor {
    type Value = Common;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Common, E> {
        Ok(Common)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Common, E> {
        Ok(Common)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Common, E> {
        Ok(Common)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Common, E> {
        Ok(Common)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Common, E> {
        Ok(Common)
    }

    fn visit_str<E>(self, _: &str) -> Result<Common, E> {
        Ok(Common)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Common, A::Error> {
        while sequence.next_element::<Common>()?.is_some() {}
        Ok(Common)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Common, A::Error> {
        while map.next_entry::<Common, Common>()?.is_some() {}
        Ok(Common)
    }
}

/// Appends the members of a history answer, without the braces around them. Where not all fits, who reads on from a
/// position gets the oldest, who asks for the last the newest.
pub fn put_history(out: &mut Vec<u8>, topic: &str, page: &HistoryPage, since: Option<Position>) {
    out.extend_from_slice(b"\"topic\":");
    put_string(out, topic);
    let _ = write!(out, ",\"epoch\":\"{}\",\"offset\":{},\"complete\":{}", page.epoch, page.offset, page.complete);
    out.extend_from_slice(b",\"publications\":[");
    let items = match since {
        Some(_) => fitting(page.publications.iter().map(|publication| item(publication))),
        None => {
            let mut items = fitting(page.publications.iter().rev().map(|publication| item(publication)));
            items.reverse();
            items
        }
    };
    out.extend_from_slice(&items.join(&b','));
    out.push(b']');
}

fn item(publication: &Publication) -> Vec<u8> {
    let mut out = Vec::with_capacity(publication.payload().len() + 64);
    let _ = write!(out, "{{\"offset\":{},\"time_ms\":{},", publication.offset(), publication.unix_ms());
    put_key(&mut out, publication.key());
    put_payload(&mut out, publication.opcode(), publication.payload());
    out.push(b'}');
    out
}

/// As many as one answer may hold, but one at least.
fn fitting(items: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut bytes = 0;
    let fits = |item: &Vec<u8>| {
        let is_first = bytes == 0;
        bytes += item.len() + 1;
        is_first || bytes <= HISTORY_ANSWER_BYTES
    };
    items.take_while(fits).collect()
}

/// Appends the member `"key":…,` if there is a key.
pub fn put_key(out: &mut Vec<u8>, key: Option<&str>) {
    if let Some(key) = key {
        out.extend_from_slice(b"\"key\":");
        put_string(out, key);
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    fn member(opcode: Opcode, payload: &[u8]) -> (String, Box<RawValue>) {
        let mut out = b"{".to_vec();
        put_payload(&mut out, opcode, payload);
        out.push(b'}');
        serde_json::from_slice::<Value>(&out).expect("whatever is published, the message is JSON");
        serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(&out).unwrap().pop_first().unwrap()
    }

    /// The payload as a client has it back.
    fn returned(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let (name, value) = member(opcode, payload);
        match name.as_str() {
            "data" => value.get().into(),
            "text" => serde_json::from_str::<String>(value.get()).unwrap().into(),
            "base64" => base64_decode(&serde_json::from_str::<String>(value.get()).unwrap()).unwrap(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn json_stays_json_and_the_rest_is_quoted() {
        for (payload, name) in [
            (r#"{"a":[1,2.5e3,null,true,"x\u00e9"]}"#, "data"),
            ("42", "data"),
            ("\"quoted\"", "data"),
            ("null", "data"),
            ("", "text"),
            ("hello", "text"),
            ("{\"a\":1} trailing", "text"),
            ("{\"a\":", "text"),
            ("\"\\ud800\"", "text"),
            ("{\"\\udc00\":1}", "text"),
            ("1e999", "text"),
            ("01", "text"),
            ("NaN", "text"),
            ("\u{feff}1", "text"),
            ("\"tab\tinside\"", "text"),
        ] {
            assert_eq!(member(Opcode::Text, payload.as_bytes()).0, name, "{payload}");
        }
        assert_eq!(member(Opcode::Binary, b"42").0, "base64");
    }

    #[test]
    fn depth_that_breaks_parsers_travels_as_text() {
        let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_common_json(&nested(127)));
        assert!(!is_common_json(&nested(128)));
        assert!(!is_common_json(&nested(1_000_000)));
        assert!(!is_common_json(&"[".repeat(1_000_000)));
    }

    #[test]
    fn an_answer_is_bounded_but_never_empty() {
        let of = |length: usize| vec![b'x'; length];
        assert_eq!(fitting([of(10), of(10)].into_iter()).len(), 2);
        assert_eq!(fitting([of(2 << 20), of(1)].into_iter()).len(), 1);
        assert_eq!(fitting((0..10).map(|_| of(300_000))).len(), 3);
        assert!(fitting(std::iter::empty()).is_empty());
    }

    fn json_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        value.prop_map(|value| value.to_string())
    }

    proptest! {
        #[test]
        fn any_text_comes_back(payload in any::<String>()) {
            let back = returned(Opcode::Text, payload.as_bytes());
            // Inlined JSON loses nothing but blanks around it.
            prop_assert!(back == payload.as_bytes() || back == payload.trim_ascii().as_bytes());
        }

        #[test]
        fn any_bytes_come_back(payload in any::<Vec<u8>>()) {
            prop_assert_eq!(returned(Opcode::Binary, &payload), payload);
        }

        #[test]
        fn any_json_is_inlined_byte_for_byte(payload in json_text()) {
            prop_assert_eq!(member(Opcode::Text, payload.as_bytes()).0, "data");
            prop_assert_eq!(returned(Opcode::Text, payload.as_bytes()), payload.as_bytes());
        }

        #[test]
        fn json_damaged_anywhere_still_makes_a_json_message(
            payload in json_text(),
            at in any::<prop::sample::Index>(),
            byte in 0u8..128,
        ) {
            let mut payload = payload.into_bytes();
            let at = at.index(payload.len());
            payload[at] = byte;
            if let Ok(text) = String::from_utf8(payload) {
                let back = returned(Opcode::Text, text.as_bytes());
                prop_assert!(back == text.as_bytes() || back == text.trim_ascii().as_bytes());
            }
        }
    }
}
