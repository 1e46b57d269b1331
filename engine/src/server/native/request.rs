//! What native clients send, read strictly: every mistake is named, and nothing that is misspelt is silently ignored.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Serialize, Serializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::server::query::cut;
use crate::server::{KEY_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX};
use crate::{Epoch, Position};

/// The longest `id` of a request, in bytes as written.
pub const ID_BYTES_MAX: usize = 64;

/// A request that can be read.
#[derive(Debug)]
pub struct Request<'a> {
    /// What the client calls it.
    pub id: Option<Id<'a>>,
    /// What it asks for.
    pub action: Action<'a>,
}

/// What a request asks for. Names of topics are not checked yet.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// To get what is published to a topic or pattern.
    Subscribe {
        /// The topic or pattern.
        topic: Cow<'a, str>,
        /// From there on, whole or not at all.
        since: Option<Position>,
        /// At most this many of the last ones first.
        history: usize,
    },
    /// To get it no longer.
    Unsubscribe {
        /// The topic or pattern.
        topic: Cow<'a, str>,
    },
    /// To publish.
    Publish {
        /// The topic.
        topic: Cow<'a, str>,
        /// The JSON text of `data`, as sent: the payload.
        data: &'a str,
        /// What it is the newest state of.
        key: Option<Cow<'a, str>>,
    },
    /// To be told what was published.
    History {
        /// The topic.
        topic: Cow<'a, str>,
        /// The oldest ones after this position; the last ones without.
        since: Option<Position>,
        /// At most this many.
        limit: usize,
    },
    /// An answer.
    Ping,
    /// To be known by a token.
    Auth {
        /// The token.
        token: Token<'a>,
    },
}

/// A token, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<'a>(Cow<'a, str>);

impl Token<'_> {
    /// The token itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(token)")
    }
}

/// The `id` of a request: a string or number, given back as it was written.
#[derive(Debug, Clone, Copy)]
pub struct Id<'a>(&'a RawValue);

impl<'a> Id<'a> {
    /// The `id` as JSON.
    #[must_use]
    pub fn as_json(self) -> &'a str {
        self.0.get()
    }

    fn new(raw: &'a RawValue) -> Option<Self> {
        let text = raw.get();
        let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
        let is_short = text.len() <= ID_BYTES_MAX + if is_number { 0 } else { 2 };
        (is_short && (is_number || string(raw).is_some())).then_some(Self(raw))
    }

    /// Reads one as JSON.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok().and_then(Self::new)
    }
}

impl Serialize for Id<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Why a request cannot be read.
#[derive(Debug)]
pub struct Fault<'a> {
    /// What the client calls the request, as far as that could be read.
    pub id: Option<Id<'a>>,
    /// `bad_json`, `bad_request` or `unknown_type`.
    pub code: &'static str,
    /// A sentence that names the field, the value and what is allowed.
    pub message: String,
}

/// The longest sentence of a fault, in bytes.
const MESSAGE_BYTES_MAX: usize = 500;

/// Reads a request, in a text message or a binary one. Never panics, whatever the bytes are; what it keeps is bounded,
/// whatever their number.
///
/// # Errors
/// See [`Fault`].
pub fn parse(bytes: &[u8]) -> Result<Request<'_>, Fault<'_>> {
    let fault = |code, message| Fault { id: None, code, message: brief(message) };
    let text = std::str::from_utf8(bytes).map_err(|error| fault("bad_json", format!("not UTF-8: {error}")))?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => fault("bad_request", format!("a request is a JSON object: {error}")),
        Category::Syntax | Category::Eof | Category::Io => fault("bad_json", error.to_string()),
    })?;
    let id = fields.get(Field::Id).and_then(Id::new);
    let action = fields.action().map_err(|(code, message)| Fault { id, code, message: brief(message) })?;
    Ok(Request { id, action })
}

/// Sentences repeat what they complain of, which may be long.
fn brief(mut message: String) -> String {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
        message.push('…');
    }
    message
}

/// The fields that some request has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Type,
    Id,
    Topic,
    Data,
    Key,
    Since,
    History,
    Limit,
    Epoch,
    Offset,
    Token,
}

const FIELDS: [(Field, &str); 11] = [
    (Field::Type, "type"),
    (Field::Id, "id"),
    (Field::Topic, "topic"),
    (Field::Data, "data"),
    (Field::Key, "key"),
    (Field::Since, "since"),
    (Field::History, "history"),
    (Field::Limit, "limit"),
    (Field::Epoch, "epoch"),
    (Field::Offset, "offset"),
    (Field::Token, "token"),
];

impl Field {
    fn name(self) -> &'static str {
        FIELDS[self as usize].1
    }
}

type Wrong = (&'static str, String);

fn wrong(message: String) -> Wrong {
    ("bad_request", message)
}

/// The fields of an object, not yet read. Only those with a known name are kept, so a message of a million fields costs
/// no more.
#[derive(Debug, Default)]
struct Fields<'a> {
    values: [Option<&'a RawValue>; FIELDS.len()],
    unknown: Option<String>,
    twice: Option<Field>,
}

impl<'a> Fields<'a> {
    fn get(&self, field: Field) -> Option<&'a RawValue> {
        self.values[field as usize]
    }

    fn action(&self) -> Result<Action<'a>, Wrong> {
        if let Some(field) = self.twice {
            return Err(wrong(format!("'{}' is given twice", field.name())));
        }
        if let Some(id) = self.get(Field::Id)
            && Id::new(id).is_none()
        {
            return Err(wrong(format!("'id' must be a string or a number of at most {ID_BYTES_MAX} bytes")));
        }
        match &*self.string(Field::Type)? {
            "subscribe" => self.subscribe(),
            "unsubscribe" => {
                self.allow("unsubscribe", &[Field::Topic])?;
                Ok(Action::Unsubscribe { topic: self.string(Field::Topic)? })
            }
            "publish" => self.publish(),
            "history" => self.history(),
            "ping" => self.allow("ping", &[]).map(|()| Action::Ping),
            "auth" => {
                self.allow("auth", &[Field::Token])?;
                let raw = self.get(Field::Token).ok_or_else(|| missing(Field::Token))?;
                // What stands there may be one all the same, and is not repeated.
                let token = string(raw).ok_or_else(|| wrong("'token' must be a string".into()))?;
                Ok(Action::Auth { token: Token(token) })
            }
            other => {
                let known = "subscribe, unsubscribe, publish, history, ping, auth";
                Err(("unknown_type", format!("'{}' is no type of request: there are {known}", cut(other))))
            }
        }
    }

    fn subscribe(&self) -> Result<Action<'a>, Wrong> {
        self.allow("subscribe", &[Field::Topic, Field::Since, Field::History])?;
        let (topic, since) = (self.string(Field::Topic)?, self.since()?);
        // Of a history as long as wanted, as much is given as is kept.
        let history = self.number(Field::History, 0..=u64::from(u32::MAX))?;
        if since.is_some() && history.is_some() {
            return Err(wrong("'since' and 'history' exclude each other".into()));
        }
        Ok(Action::Subscribe { topic, since, history: history.unwrap_or(0) as usize })
    }

    fn publish(&self) -> Result<Action<'a>, Wrong> {
        self.allow("publish", &[Field::Topic, Field::Data, Field::Key])?;
        let topic = self.string(Field::Topic)?;
        let data = self.get(Field::Data).ok_or_else(|| missing(Field::Data))?.get();
        let key = self.get(Field::Key).map(|_| self.string(Field::Key)).transpose()?;
        if let Some(length) = key.as_ref().map(|key| key.len()).filter(|length| *length > KEY_BYTES_MAX) {
            return Err(wrong(format!("'key' has {length} bytes: it may have at most {KEY_BYTES_MAX}")));
        }
        Ok(Action::Publish { topic, data, key })
    }

    fn history(&self) -> Result<Action<'a>, Wrong> {
        self.allow("history", &[Field::Topic, Field::Since, Field::Limit])?;
        let (topic, since) = (self.string(Field::Topic)?, self.since()?);
        let limit = self.number(Field::Limit, 1..=PAGE_MAX as u64)?.map_or(PAGE_DEFAULT, |limit| limit as usize);
        Ok(Action::History { topic, since, limit })
    }

    /// Refuses fields that this kind of request does not have.
    fn allow(&self, what: &str, allowed: &[Field]) -> Result<(), Wrong> {
        let is_allowed = |field| matches!(field, Field::Type | Field::Id) || allowed.contains(&field);
        let stray = FIELDS.iter().find(|(field, _)| self.get(*field).is_some() && !is_allowed(*field));
        let Some(name) = self.unknown.as_deref().or(stray.map(|(_, name)| *name)) else { return Ok(()) };
        let names: Vec<_> = allowed.iter().map(|field| field.name()).chain(["id"]).collect();
        Err(wrong(format!("'{name}' is no field of {what}: there are {}", names.join(", "))))
    }

    fn string(&self, field: Field) -> Result<Cow<'a, str>, Wrong> {
        let raw = self.get(field).ok_or_else(|| missing(field))?;
        string(raw).ok_or_else(|| wrong(format!("'{}' is {}: it must be a string", field.name(), cut(raw.get()))))
    }

    fn number(&self, field: Field, range: RangeInclusive<u64>) -> Result<Option<u64>, Wrong> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        let number = serde_json::from_str(raw.get()).ok().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (name, value, least, most) = (field.name(), cut(raw.get()), range.start(), range.end());
            wrong(format!("'{name}' is {value}: it must be a whole number from {least} to {most}"))
        })
    }

    /// `{"epoch":"5f3a91c2","offset":42}`; null is as good as nothing.
    fn since(&self) -> Result<Option<Position>, Wrong> {
        let Some(raw) = self.get(Field::Since).filter(|raw| raw.get() != "null") else { return Ok(None) };
        let object = serde_json::from_str::<Fields<'_>>(raw.get());
        let fields = object.map_err(|_| wrong("'since' must be an object with epoch and offset".into()))?;
        let within = |(code, message): Wrong| (code, format!("in 'since': {message}"));
        if let Some(field) = fields.twice {
            return Err(within(wrong(format!("'{}' is given twice", field.name()))));
        }
        let epoch = fields.string(Field::Epoch).map_err(within)?;
        let epoch = epoch.parse::<Epoch>().map_err(|_| {
            within(wrong(format!("'epoch' is '{}': it must be as given in an earlier answer", cut(&epoch))))
        })?;
        let offset = fields.number(Field::Offset, 0..=u64::MAX).map_err(within)?;
        let offset = offset.ok_or_else(|| within(missing(Field::Offset)))?;
        Ok(Some(Position { epoch, offset }))
    }
}

fn missing(field: Field) -> Wrong {
    wrong(format!("'{}' is missing", field.name()))
}

/// Reads a string, without a copy if it has no escapes.
fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') { serde_json::from_str(raw.get()).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inner)) }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Name(name)) = map.next_key()? {
            match name {
                Ok(field) => {
                    let slot = &mut fields.values[field as usize];
                    if slot.replace(map.next_value()?).is_some() {
                        fields.twice.get_or_insert(field);
                    }
                }
                Err(name) => {
                    map.next_value::<IgnoredAny>()?;
                    fields.unknown.get_or_insert(name);
                }
            }
        }
        Ok(fields)
    }
}

/// The name of a field, or what stands there instead.
struct Name(Result<Field, String>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                let known = FIELDS.iter().find(|(_, known)| *known == name).map(|(field, _)| *field);
                Ok(Name(known.ok_or_else(|| cut(name).to_owned())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

#[cfg(test)]
mod tests;
