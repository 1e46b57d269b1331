//! The event log: what happens, as keys and values, for whoever develops a program and wants to watch. Off unless asked for;
//! then it costs one look at an option.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// What is called with each event: its key and its value.
pub type EventSink = Arc<dyn Fn(&str, &Value) + Send + Sync>;

/// Where events go, if anywhere.
#[derive(Clone, Default)]
pub struct Events(Option<EventSink>);

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Events(on)" } else { "Events(off)" })
    }
}

impl Events {
    /// Events go there.
    pub fn new(sink: EventSink) -> Self {
        Self(Some(sink))
    }

    /// Whether anybody watches.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells of an event. The value is only made if somebody watches. A sink that panics is not asked again for this event.
    pub fn emit(&self, key: &str, value: impl FnOnce() -> Value) {
        if let Some(sink) = &self.0 {
            let value = value();
            // The sink is the program's code: it must not take a shard down with it.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sink(key, &value)));
        }
    }
}

/// The longest text shown of a message, in bytes.
const SHOWN_MAX: usize = 1024;

/// A payload as it is shown: text as it is, bytes in hexadecimal, both cut.
#[must_use]
pub fn shown(payload: &[u8], is_text: bool) -> String {
    let cut = &payload[..payload.len().min(SHOWN_MAX)];
    let mut shown = match std::str::from_utf8(cut) {
        Ok(text) if is_text => text.to_owned(),
        // Cut within a character.
        Err(error) if is_text => String::from_utf8_lossy(&cut[..error.valid_up_to()]).into_owned(),
        _ => cut.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if payload.len() > SHOWN_MAX {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[test]
    fn a_value_is_made_only_if_somebody_watches_and_a_sink_may_panic() {
        Events::default().emit("a", || unreachable!("nobody watches"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let events = Events::new(Arc::new(move |key: &str, value: &Value| {
            sink.lock().push((key.to_owned(), value.clone()));
            assert!(value != 1, "a bad sink");
        }));
        events.emit("a", || 1.into());
        events.emit("b", || 2.into());
        assert_eq!(*seen.lock(), [("a".to_owned(), Value::from(1)), ("b".to_owned(), 2.into())]);
    }

    #[test]
    fn payloads_are_shown_as_text_or_in_hexadecimal_and_cut() {
        assert_eq!(shown("grüße".as_bytes(), true), "grüße");
        assert_eq!(shown(b"bin", false), "62696e");
        let long = "ü".repeat(SHOWN_MAX);
        assert_eq!(shown(long.as_bytes(), true), format!("{}…", "ü".repeat(SHOWN_MAX / 2)));
        let odd = format!("a{long}");
        assert_eq!(shown(odd.as_bytes(), true), format!("a{}…", "ü".repeat(SHOWN_MAX / 2 - 1)));
    }
}
