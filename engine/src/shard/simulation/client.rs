//! The other end of a simulated connection: reads when it may, and checks that what comes is what must come next.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};

use super::PATTERNS;
use super::wire::Wire;
use crate::id::ConnectionId;
use crate::pubsub::{Pattern, Position};
use crate::ws::deflate::Inflater;
use crate::ws::session::{Event, Limits, Role, Session};
use crate::ws::{Message, Opcode, frame};

#[derive(Debug)]
pub struct Client {
    pub id: ConnectionId,
    pub stream: Wire,
    pub session: Session,
    pub reads: bool,
    /// Subscriptions to topics and patterns that have been asked for or made.
    pub asked: BTreeSet<String>,
    /// Those of them that have been answered, as far as the client has read.
    pub made: BTreeSet<String>,
    /// The last publication seen of each topic, and whether the next one must follow it without a gap.
    pub seen: BTreeMap<String, (Position, bool)>,
    /// Topics it has published to: its own publications are left out.
    pub own: BTreeSet<String>,
    pub commands: usize,
    pub answers: usize,
    /// Closed for reaching too much.
    pub overreached: bool,
}

impl Client {
    /// Sends a command; false if it cannot be sent now.
    pub fn say(&mut self, text: &str) -> bool {
        let mut bytes = Vec::new();
        frame::put_masked_data(&mut bytes, Opcode::Text, text.as_bytes(), [1, 2, 3, 4]);
        let said = self.stream.write(&bytes).is_ok_and(|written| written == bytes.len());
        self.commands += usize::from(said);
        said
    }

    /// Whether every publication of the topic must come: the policy drops nothing and none was its own.
    pub fn is_lossless(&self, topic: &str) -> bool {
        topic.starts_with("keep") && !self.own.contains(topic)
    }

    fn is_subscribed(&self, topic: &str) -> bool {
        self.made.iter().any(|made| Pattern::new(made).unwrap().matches(topic))
    }

    /// Reads what has come; whether there was anything.
    pub fn read(&mut self) -> bool {
        if !self.reads {
            return false;
        }
        let mut news = false;
        let mut buffer = [0; 2048];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return news,
                Ok(length) => {
                    news = true;
                    self.take(&mut buffer[..length]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return news,
                Err(error) => panic!("a client that keeps the rules is not reset: {error}"),
            }
        }
    }

    fn take(&mut self, bytes: &mut [u8]) {
        let mut session = std::mem::replace(&mut self.session, Session::new(Role::Client));
        let (mut at, mut inflater) = (0, Inflater::default());
        while at < bytes.len() {
            let received = session.receive(&mut bytes[at..], &Limits { message_bytes: 0 }, &mut inflater).unwrap();
            at += received.consumed;
            match received.event {
                Some(Event::Message(Message::Text(text))) => self.take_text(text),
                Some(Event::Close { code: Some(1008), .. }) => self.overreached = true,
                Some(Event::Close { code, reason }) => panic!("closed {code:?} {reason}"),
                Some(event) => panic!("unexpected {event:?}"),
                None => break,
            }
        }
        session.release();
        self.session = session;
    }

    fn take_text(&mut self, text: &str) {
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        match words[..] {
            ["published"] => self.answers += 1,
            ["subscribed", topic, position, already] => {
                self.answers += 1;
                // What comes next follows the position recovered from, or the newest publication.
                if already == "false" && !PATTERNS.contains(&topic) {
                    self.seen.insert(topic.into(), (position.parse().unwrap(), true));
                }
                self.made.insert(topic.into());
            }
            ["refused", ..] => self.answers += 1,
            ["unsubscribed", topic] => {
                self.answers += 1;
                assert!(self.made.remove(topic));
                let ended: Vec<_> = self.seen.keys().filter(|topic| !self.is_subscribed(topic)).cloned().collect();
                ended.iter().for_each(|topic| self.seen.get_mut(topic).unwrap().1 = false);
            }
            [topic, position, ..] => self.take_publication(topic, position.parse().unwrap()),
            _ => panic!("{text}"),
        }
    }

    fn take_publication(&mut self, topic: &str, position: Position) {
        assert!(self.is_subscribed(topic), "{topic} {position}: not subscribed (any more)");
        let lossless = self.is_lossless(topic);
        if let Some((last, follows)) = self.seen.get(topic) {
            let same = last.epoch == position.epoch;
            assert!(!same || !follows || position.offset > last.offset, "{topic}: {position} after {last}: doubled");
            let gap = same && *follows && lossless && position.offset != last.offset + 1;
            assert!(!gap, "{topic}: {position} after {last}: a gap");
            assert!(same || !follows || position.offset == 1 || !lossless, "a new life is seen from its first day");
        }
        self.seen.insert(topic.into(), (position, true));
    }
}
