//! All that is needed to open one connection, and how it is put together: request, opening conversation, habits.
//!
//! Owner: [`Target`](super::Target) makes it, a client uses it up. 50,000 connections each need one, so what is the same for
//! all of them is shared.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::Failure;
use crate::scenario::{Step, Template as Parts};

use super::reader::Reader;
use super::template::{Place, Template, Values, What};
use super::tls::Tls;

/// All that is needed to open one connection.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Where to.
    pub address: SocketAddr,
    /// The upgrade request but for the line of its key: see `client::handshake`.
    pub request: Arc<[u8]>,
    /// What is said and waited for after the upgrade.
    pub script: Arc<[Line]>,
    /// What is said as long as the connection lasts.
    pub habits: Arc<Habits>,
    /// What the request offers, for the answer to be checked against.
    pub offer: Arc<Offer>,
    /// How it is encrypted, if it is.
    pub tls: Option<Tls>,
}

/// A line of the opening conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// Says this.
    Send(Box<[u8]>),
    /// Waits for a message that contains this.
    Expect(Box<[u8]>),
}

/// What is said as long as a connection lasts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Habits {
    /// What messages are answered with; the first that fits counts.
    pub answers: Vec<Reply>,
    /// What is said from time to time.
    pub heartbeat: Option<Box<[u8]>>,
    /// Whether a message holds several lines, each a message of its own.
    pub lines: bool,
}

/// What a message is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The beginning of the message.
    pub to: Box<[u8]>,
    /// The answer. Empty: the message is only passed over.
    pub send: Box<[u8]>,
}

/// What an upgrade request offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// permessage-deflate without context takeover.
    pub deflate: bool,
    /// Subprotocols.
    pub subprotocols: Vec<String>,
}

impl Habits {
    /// Whether every message is just a message: nothing to answer, nothing to split.
    pub fn is_plain(&self) -> bool {
        self.answers.is_empty() && !self.lines
    }
}

/// The request of one kind of connection and its opening conversation, ready to be filled in.
#[derive(Debug)]
pub(super) struct Plan {
    request: Template,
    script: Filled<[Line], Vec<(bool, Template)>>,
}

/// Something that is the same for all connections, or made for each.
#[derive(Debug)]
enum Filled<T: ?Sized, F> {
    Once(Arc<T>),
    Each(F),
}

impl Plan {
    /// Reads the steps; `request` is complete but for its values.
    pub fn of(reader: &Reader<'_>, request: Template, steps: &[(&str, &[Step])]) -> Result<Self, Failure> {
        let mut script = Vec::new();
        for (part, steps) in steps {
            for step in *steps {
                let (is_send, text) = match step {
                    Step::Send(text) => (true, text),
                    Step::Expect(text) => (false, text),
                };
                if text.is_empty() {
                    return Err(Failure::usage(format!("{part} has an empty step")));
                }
                script.push((is_send, reader.template(part, text, Place::Message, CONNECTION)?));
            }
        }
        let script = if script.iter().all(|(_, template)| template.is_constant()) {
            Filled::Once(lines(&script, &NO_VALUES))
        } else {
            Filled::Each(script)
        };
        Ok(Self { request, script })
    }

    /// The upgrade request, filled in.
    pub fn request(&self, values: &Values<'_>) -> Arc<[u8]> {
        let mut request = Vec::with_capacity(512);
        self.request.put(values, &mut request);
        request.into()
    }

    /// The opening conversation, filled in.
    pub fn script(&self, values: &Values<'_>) -> Arc<[Line]> {
        match &self.script {
            Filled::Once(script) => Arc::clone(script),
            Filled::Each(script) => lines(script, values),
        }
    }

    /// Whether the topic decides how it is opened.
    pub fn has_topic(&self) -> bool {
        let in_script = match &self.script {
            Filled::Once(_) => false,
            Filled::Each(script) => script.iter().any(|(_, template)| template.has(What::Topic)),
        };
        in_script || self.request.has(What::Topic)
    }
}

/// What templates of connections may hold.
pub(super) const CONNECTION: &[What] = &[What::Topic, What::Client, What::Token, What::AppId, What::AppKey];

const NO_VALUES: Values<'_> = Values { topic: "", client: 0, token: "", app_id: "", app_key: "" };

fn lines(script: &[(bool, Template)], values: &Values<'_>) -> Arc<[Line]> {
    let line = |(is_send, template): &(bool, Template)| {
        let text = fill(template, values);
        if *is_send { Line::Send(text) } else { Line::Expect(text) }
    };
    script.iter().map(line).collect()
}

fn fill(template: &Template, values: &Values<'_>) -> Box<[u8]> {
    let mut text = Vec::new();
    template.put(values, &mut text);
    text.into()
}

/// The habits of connections, ready to be filled in.
#[derive(Debug)]
pub(super) struct HabitsPlan {
    habits: Filled<Habits, Vec<(Template, Template)>>,
    heartbeat: Option<Template>,
    /// From one heartbeat to the next.
    pub heartbeat_every: Option<Duration>,
    lines: bool,
}

impl HabitsPlan {
    /// Reads answers and heartbeat.
    pub fn of(reader: &Reader<'_>, parts: &Parts) -> Result<Self, Failure> {
        let mut answers = Vec::new();
        for answer in parts.answers.as_deref().unwrap_or_default() {
            if answer.to.is_empty() {
                return Err(Failure::usage("target.template.answers has an answer to '', which is every message"));
            }
            let part = "target.template.answers";
            answers.push((
                reader.template(part, &answer.to, Place::Message, CONNECTION)?,
                reader.template(part, &answer.send, Place::Message, CONNECTION)?,
            ));
        }
        let heartbeat = parts.heartbeat.as_ref();
        if heartbeat.is_some_and(|heartbeat| heartbeat.every.0.is_zero()) {
            return Err(Failure::usage("target.template.heartbeat.every is 0s: it must be longer"));
        }
        let template = heartbeat
            .map(|heartbeat| reader.template("target.template.heartbeat", &heartbeat.send, Place::Message, CONNECTION))
            .transpose()?;
        let mut plan = Self {
            habits: Filled::Each(answers),
            heartbeat: template,
            heartbeat_every: heartbeat.map(|heartbeat| heartbeat.every.0),
            lines: parts.lines.unwrap_or(false),
        };
        if plan.is_constant() {
            plan.habits = Filled::Once(plan.fill(&NO_VALUES));
        }
        Ok(plan)
    }

    fn is_constant(&self) -> bool {
        let answers = match &self.habits {
            Filled::Once(_) => true,
            Filled::Each(answers) => answers.iter().all(|(to, send)| to.is_constant() && send.is_constant()),
        };
        answers && self.heartbeat.as_ref().is_none_or(Template::is_constant)
    }

    /// The habits of one connection.
    pub fn fill(&self, values: &Values<'_>) -> Arc<Habits> {
        match &self.habits {
            Filled::Once(habits) => Arc::clone(habits),
            Filled::Each(answers) => Arc::new(Habits {
                answers: answers
                    .iter()
                    .map(|(to, send)| Reply { to: fill(to, values), send: fill(send, values) })
                    .collect(),
                heartbeat: self.heartbeat.as_ref().map(|heartbeat| fill(heartbeat, values)),
                lines: self.lines,
            }),
        }
    }
}
