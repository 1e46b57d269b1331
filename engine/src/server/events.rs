//! The event log of the binary (`--events`): one line for each event on standard error, its key and its value as JSON. For
//! development: it slows every shard down.

use std::io::Write;

use serde_json::Value;

/// Keys of values that hold what clients send.
const DATA: [&str; 1] = ["data"];

/// Writes events. What clients send is left out while it may hold tokens, which a reload can change.
pub fn sink(
    may_hold_tokens: impl Fn() -> bool + Send + Sync + 'static,
) -> impl Fn(&str, &Value) + Send + Sync + 'static {
    move |key, value| {
        let line = line(key, value, !may_hold_tokens());
        // Nobody may be reading that, which is no reason to end.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

fn line(key: &str, value: &Value, with_data: bool) -> String {
    let hides = |object: &serde_json::Map<String, Value>| DATA.iter().any(|name| object.contains_key(*name));
    match value {
        Value::Object(object) if !with_data && hides(object) => {
            let mut shown = object.clone();
            for name in DATA {
                shown.remove(name);
            }
            format!("{key} {}\n", Value::Object(shown))
        }
        value => format!("{key} {value}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_is_a_line_and_what_clients_send_can_be_left_out() {
        let value = json!({ "bytes": 3, "data": "a\nb" });
        assert_eq!(
            line("websocket.socket.message", &value, true),
            "websocket.socket.message {\"bytes\":3,\"data\":\"a\\nb\"}\n"
        );
        assert_eq!(line("websocket.socket.message", &value, false), "websocket.socket.message {\"bytes\":3}\n");
        assert_eq!(line("own.key", &json!(7), false), "own.key 7\n");
    }
}
