//! What a publication looks like to a native client: `{"type":"message","topic":…,"offset":…,"data":…}`.

use crate::server::json;
use crate::{Encoding, EncodingId, Opcode, Publication};

/// The encoding of the native protocol.
#[derive(Debug, Clone, Copy, Default)]
pub struct NativeEncoding;

impl NativeEncoding {
    /// Its place among the encodings of the binary's engine: it is the first one given to the builder.
    pub const ID: EncodingId = EncodingId::custom(0);
}

impl Encoding for NativeEncoding {
    fn name(&self) -> &'static str {
        "native"
    }

    fn encode(&self, publication: &Publication, out: &mut Vec<u8>) -> Opcode {
        let (topic, offset, key) = (publication.topic(), publication.offset(), publication.key());
        put_message(out, topic, offset, key, publication.opcode(), publication.payload());
        Opcode::Text
    }
}

fn put_message(out: &mut Vec<u8>, topic: &str, offset: u64, key: Option<&str>, opcode: Opcode, payload: &[u8]) {
    out.extend_from_slice(b"{\"type\":\"message\",\"topic\":");
    json::put_string(out, topic);
    out.extend_from_slice(b",\"offset\":");
    json::put_number(out, offset);
    out.push(b',');
    json::put_key(out, key);
    json::put_payload(out, opcode, payload);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn message(topic: &str, offset: u64, key: Option<&str>, opcode: Opcode, payload: &[u8]) -> String {
        let mut out = Vec::new();
        put_message(&mut out, topic, offset, key, opcode, payload);
        String::from_utf8(out).expect("a text message is UTF-8")
    }

    #[test]
    fn members_stand_in_a_fixed_order() {
        assert_eq!(
            message("t", 7, None, Opcode::Text, b"{\"b\":1,\"a\": 2}"),
            r#"{"type":"message","topic":"t","offset":7,"data":{"b":1,"a": 2}}"#
        );
        assert_eq!(
            message("a \"room\"", u64::MAX, Some("k"), Opcode::Text, b"hi"),
            r#"{"type":"message","topic":"a \"room\"","offset":18446744073709551615,"key":"k","text":"hi"}"#
        );
        assert_eq!(
            message("t", 1, None, Opcode::Binary, b"\x00\xff"),
            r#"{"type":"message","topic":"t","offset":1,"base64":"AP8="}"#
        );
    }

    proptest! {
        #[test]
        fn every_message_is_json_that_tells_all(
            topic in any::<String>(),
            offset in any::<u64>(),
            key in any::<Option<String>>(),
            payload in any::<Vec<u8>>(),
        ) {
            let opcode = if std::str::from_utf8(&payload).is_ok() { Opcode::Text } else { Opcode::Binary };
            let text = message(&topic, offset, key.as_deref(), opcode, &payload);
            let value: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&value["type"], "message");
            prop_assert_eq!(&value["topic"], &json!(topic));
            prop_assert_eq!(&value["offset"], &json!(offset));
            prop_assert_eq!(value.get("key").and_then(Value::as_str), key.as_deref());
            let members = 4 + usize::from(value.get("key").is_some());
            prop_assert_eq!(value.as_object().unwrap().len(), members);
        }
    }
}
