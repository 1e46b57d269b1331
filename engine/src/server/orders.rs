//! What is done for connections from outside: the API subscribes and unsubscribes them, and sends to them. It is carried
//! out by the handler on each connection's shard, as only that knows which protocol is spoken there.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::json;
use super::native::NativeEncoding;
use super::native::reply::Reply;
use crate::{Context, Message, Opcode, SendOutcome, Subscribe, Subscribed};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Subscribe to a topic or pattern, with so many of its last publications.
    Subscribe {
        /// The topic or pattern.
        topic: String,
        /// Of its history.
        history: usize,
    },
    /// End a subscription.
    Unsubscribe {
        /// The topic or pattern.
        topic: String,
    },
    /// Send a message that belongs to no topic.
    Send {
        /// Text or binary.
        opcode: Opcode,
        /// What.
        payload: Vec<u8>,
    },
}

/// What became of it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcomes {
    /// For so many connections it was done.
    pub done: usize,
    /// For so many not, by the code of the error.
    pub failed: BTreeMap<&'static str, usize>,
    /// The first error's sentence.
    pub message: String,
}

/// An order on its way to any number of connections. Who holds it last tells what became of it.
pub struct Errand {
    order: Order,
    outcomes: Mutex<Outcomes>,
    finished: Option<oneshot::Sender<Outcomes>>,
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Errand({:?})", self.order)
    }
}

impl Errand {
    /// An errand, and where its outcomes will be told once nobody has it any more.
    #[must_use]
    pub fn begin(order: Order) -> (Arc<dyn Any + Send + Sync>, oneshot::Receiver<Outcomes>) {
        let (finished, outcomes) = oneshot::channel();
        (Arc::new(Self { order, outcomes: Mutex::default(), finished: Some(finished) }), outcomes)
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        if let Some(finished) = self.finished.take() {
            // Whoever asked may have gone away.
            let _ = finished.send(std::mem::take(self.outcomes.get_mut()));
        }
    }
}

/// Does it for one connection.
pub(super) fn carry_out<D>(ctx: &mut Context<'_, D>, is_native: bool, word: &(dyn Any + Send + Sync)) {
    let Some(errand) = word.downcast_ref::<Errand>() else { return };
    let outcome = match &errand.order {
        Order::Subscribe { topic, history } => subscribe(ctx, is_native, topic, *history),
        Order::Unsubscribe { topic } => unsubscribe(ctx, is_native, topic),
        Order::Send { opcode, payload } => send(ctx, is_native, *opcode, payload),
    };
    let mut outcomes = errand.outcomes.lock();
    match outcome {
        Ok(()) => outcomes.done += 1,
        Err((code, message)) => {
            *outcomes.failed.entry(code).or_default() += 1;
            if outcomes.message.is_empty() {
                outcomes.message = message;
            }
        }
    }
}

type Outcome = Result<(), (&'static str, String)>;

fn subscribe<D>(ctx: &mut Context<'_, D>, is_native: bool, topic: &str, history: usize) -> Outcome {
    if ctx.is_subscribed(topic) {
        return Ok(());
    }
    let encoding = if is_native { NativeEncoding::ID } else { Subscribe::default().encoding };
    let mut greet = |subscribed: &Subscribed| is_native.then(|| Reply::subscribed(None, topic, subscribed).text());
    let subscribe = Subscribe { encoding, since: None, history };
    match ctx.subscribe_with(topic, subscribe, &mut greet) {
        Ok(_) => Ok(()),
        Err(error) => Err((error.label(), error.to_string())),
    }
}

fn unsubscribe<D>(ctx: &mut Context<'_, D>, is_native: bool, topic: &str) -> Outcome {
    if !ctx.unsubscribe(topic) {
        return Err(("not_subscribed", format!("the connection has no subscription to '{topic}'")));
    }
    if is_native {
        // It was not asked for: if there is no room to say so, the next message of the topic is missed all the same.
        let _ = ctx.send(&*Reply::Unsubscribed { id: None, topic, reason: Some("administrative") }.text());
    }
    Ok(())
}

fn send<D>(ctx: &mut Context<'_, D>, is_native: bool, opcode: Opcode, payload: &[u8]) -> Outcome {
    let outcome = if is_native {
        ctx.send(&*direct(opcode, payload))
    } else {
        match (opcode, std::str::from_utf8(payload)) {
            (Opcode::Text, Ok(text)) => ctx.send(text),
            _ => ctx.send(Message::Binary(payload)),
        }
    };
    match outcome {
        SendOutcome::Written | SendOutcome::Queued => Ok(()),
        SendOutcome::Dropped => Err(("slow_consumer", "too much waits for the connection: it was not sent".into())),
        SendOutcome::Closed => Err(("closed", "the connection is closing".into())),
    }
}

/// What a native client gets: `{"type":"direct","data":…}`.
fn direct(opcode: Opcode, payload: &[u8]) -> String {
    let mut out = b"{\"type\":\"direct\",".to_vec();
    json::put_payload(&mut out, opcode, payload);
    out.push(b'}');
    // Made of nothing but UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direct_message_tells_its_payload_as_messages_of_topics_do() {
        assert_eq!(direct(Opcode::Text, b"{\"a\":1}"), r#"{"type":"direct","data":{"a":1}}"#);
        assert_eq!(direct(Opcode::Text, b"plain"), r#"{"type":"direct","text":"plain"}"#);
        assert_eq!(direct(Opcode::Binary, b"\x00\xff"), r#"{"type":"direct","base64":"AP8="}"#);
    }

    #[test]
    fn outcomes_are_told_when_the_last_holder_lets_go() {
        let (word, mut outcomes) = Errand::begin(Order::Unsubscribe { topic: "t".into() });
        let other = word.clone();
        word.downcast_ref::<Errand>().unwrap().outcomes.lock().done = 2;
        drop(word);
        assert!(outcomes.try_recv().is_err());
        drop(other);
        assert_eq!(outcomes.try_recv().unwrap().done, 2);
    }
}
