//! Texts with placeholders, taken apart once so that filling them in is only copying.
//!
//! Owner: [`Target`](super::Target). A template is JSON more often than not, so in messages only the known names in braces
//! are placeholders and every other brace is a brace; in paths and headers, which have no braces of their own, one that is
//! not understood is refused.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::failure::Failure;

/// What stays as it is in a path or query: the unreserved characters (RFC 3986, 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The topic's name.
    Topic,
    /// The connection's number.
    Client,
    /// The connection's token.
    Token,
    /// `target.app.id`.
    AppId,
    /// `target.app.key`.
    AppKey,
    /// The payload that is published.
    Message,
    /// The signed query of the Pusher protocol's HTTP API.
    PusherAuth,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As it is.
    Plain,
    /// As the inside of a JSON string.
    Json,
    /// Percent-encoded.
    Url,
}

/// Where a template stands: it decides what braces mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A path with its query: values are percent-encoded, unknown braces refused.
    Path,
    /// The value of a header: unknown braces refused.
    Header,
    /// A message or body: unknown braces are text.
    Message,
}

const NAMES: [(&str, What); 7] = [
    ("topic", What::Topic),
    ("client", What::Client),
    ("token", What::Token),
    ("app_id", What::AppId),
    ("app_key", What::AppKey),
    ("message", What::Message),
    ("pusher_auth", What::PusherAuth),
];

/// A text taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<[u8]>),
    Slot(What, How),
}

/// What the placeholders of one connection stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Values<'a> {
    pub topic: &'a str,
    pub client: u64,
    pub token: &'a str,
    pub app_id: &'a str,
    pub app_key: &'a str,
}

/// A template of which only the payload is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Carrier {
    first: Box<[u8]>,
    rest: Box<[(How, Box<[u8]>)]>,
}

impl Template {
    /// Takes `text` apart. `part` is its name in the scenario; `allowed` is what it may hold.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a placeholder that means nothing there, or a brace in a path or header that is none.
    pub fn parse(part: &str, text: &str, place: Place, allowed: &[What]) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::usage(format!("{part} is '{text}': {why}"));
        let (mut template, mut rest, mut literal) = (Self::default(), text, String::new());
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            rest = &rest[at..];
            let name = rest.strip_prefix('{').and_then(|inside| inside.split_once('}')).map_or("", |(name, _)| name);
            match named(name) {
                Some((what, _)) if !allowed.contains(&what) => {
                    return Err(wrong(format!("{{{name}}} has no meaning here")));
                }
                Some((what, how)) => {
                    template.text(&mut literal);
                    let encode = place == Place::Path && how == How::Plain && what != What::PusherAuth;
                    template.pieces.push(Piece::Slot(what, if encode { How::Url } else { how }));
                    rest = &rest[name.len() + 2..];
                }
                None if place == Place::Message => {
                    literal.push_str(&rest[..1]);
                    rest = &rest[1..];
                }
                None => return Err(wrong(not_understood(name, allowed))),
            }
        }
        literal.push_str(rest);
        template.text(&mut literal);
        Ok(template)
    }

    fn text(&mut self, literal: &mut String) {
        if !literal.is_empty() {
            self.pieces.push(Piece::Text(std::mem::take(literal).into_bytes().into()));
        }
    }

    /// Appends text as it is.
    pub fn push(&mut self, text: &str) {
        self.text(&mut text.to_owned());
    }

    /// Appends another template.
    pub fn append(&mut self, other: Self) {
        self.pieces.extend(other.pieces);
    }

    /// Whether it holds this placeholder, however it is written.
    pub fn has(&self, what: What) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Slot(slot, _) if *slot == what))
    }

    /// Whether the payload stands in it inside a JSON string.
    pub fn has_json_message(&self) -> bool {
        self.pieces.contains(&Piece::Slot(What::Message, How::Json))
    }

    /// Whether it is the same for all connections.
    pub fn is_constant(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// Whether it ends with this placeholder.
    pub fn ends_with(&self, what: What) -> bool {
        matches!(self.pieces.last(), Some(Piece::Slot(slot, _)) if *slot == what)
    }

    /// Appends it, filled in; placeholders of publications are left out.
    pub fn put(&self, values: &Values<'_>, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Slot(what, how) => values.put(*what, *how, out),
            }
        }
    }

    /// Fills in everything but the payload.
    pub fn carrier(&self, values: &Values<'_>) -> Carrier {
        let (mut first, mut rest, mut text) = (None, Vec::new(), Vec::new());
        let mut how_before = None;
        for piece in &self.pieces {
            match piece {
                Piece::Text(bytes) => text.extend_from_slice(bytes),
                Piece::Slot(What::Message, how) => {
                    let done = std::mem::take(&mut text).into_boxed_slice();
                    match how_before.replace(*how) {
                        None => first = Some(done),
                        Some(before) => rest.push((before, done)),
                    }
                }
                Piece::Slot(what, how) => values.put(*what, *how, &mut text),
            }
        }
        match how_before {
            None => first = Some(text.into()),
            Some(before) => rest.push((before, text.into())),
        }
        Carrier { first: first.unwrap_or_default(), rest: rest.into() }
    }
}

impl Values<'_> {
    fn put(&self, what: What, how: How, out: &mut Vec<u8>) {
        let text = match what {
            What::Topic => self.topic,
            What::Token => self.token,
            What::AppId => self.app_id,
            What::AppKey => self.app_key,
            // Digits need no encoding.
            What::Client => return out.extend_from_slice(self.client.to_string().as_bytes()),
            What::Message | What::PusherAuth => return,
        };
        put_as(how, text.as_bytes(), out);
    }
}

impl Carrier {
    /// Appends it with the payload in its place.
    pub fn put(&self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first);
        for (how, text) in &self.rest {
            put_as(*how, payload, out);
            out.extend_from_slice(text);
        }
    }

    /// How many bytes [`Self::put`] appends.
    pub fn len(&self, payload: &[u8]) -> usize {
        let filled = self.rest.iter().map(|(how, text)| len_as(*how, payload) + text.len());
        self.first.len() + filled.sum::<usize>()
    }
}

fn named(name: &str) -> Option<(What, How)> {
    let find = |name: &str| NAMES.iter().find(|(known, _)| *known == name).map(|(_, what)| *what);
    match find(name) {
        Some(what) => Some((what, How::Plain)),
        None => {
            let json = name.strip_suffix("_json").map(|name| (name, How::Json));
            let (name, how) = json.or_else(|| name.strip_suffix("_url").map(|name| (name, How::Url)))?;
            find(name).filter(|what| *what != What::PusherAuth).map(|what| (what, how))
        }
    }
}

fn not_understood(name: &str, allowed: &[What]) -> String {
    let known: Vec<String> =
        NAMES.iter().filter(|(_, what)| allowed.contains(what)).map(|(name, _)| format!("{{{name}}}")).collect();
    let known = known.join(", ");
    if name.is_empty() {
        return format!("a brace stands alone; the placeholders here are {known}, and a brace itself is %7B or %7D");
    }
    format!("{{{name}}} is no placeholder; here there are {known}")
}

fn put_as(how: How, bytes: &[u8], out: &mut Vec<u8>) {
    match how {
        How::Plain => out.extend_from_slice(bytes),
        How::Json => put_json(bytes, out),
        How::Url => percent_encode(bytes, ENCODED).for_each(|piece| out.extend_from_slice(piece.as_bytes())),
    }
}

fn len_as(how: How, bytes: &[u8]) -> usize {
    match how {
        How::Plain => bytes.len(),
        How::Json => bytes.iter().map(|byte| json_escape(*byte).map_or(1, |escape| escape.len())).sum(),
        How::Url => percent_encode(bytes, ENCODED).map(str::len).sum(),
    }
}

/// How a byte is written in a JSON string, if not as it is. Bytes of longer UTF-8 sequences are left alone.
fn json_escape(byte: u8) -> Option<&'static str> {
    const CONTROLS: [&str; 32] = [
        "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007", "\\b", "\\t", "\\n",
        "\\u000b", "\\f", "\\r", "\\u000e", "\\u000f", "\\u0010", "\\u0011", "\\u0012", "\\u0013", "\\u0014",
        "\\u0015", "\\u0016", "\\u0017", "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e",
        "\\u001f",
    ];
    match byte {
        b'"' => Some("\\\""),
        b'\\' => Some("\\\\"),
        control @ 0..32 => Some(CONTROLS[usize::from(control)]),
        _ => None,
    }
}

fn put_json(bytes: &[u8], out: &mut Vec<u8>) {
    let mut rest = bytes;
    while let Some((at, escape)) = rest.iter().enumerate().find_map(|(at, b)| json_escape(*b).map(|e| (at, e))) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(escape.as_bytes());
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [What; 7] =
        [What::Topic, What::Client, What::Token, What::AppId, What::AppKey, What::Message, What::PusherAuth];
    const VALUES: Values<'_> = Values { topic: "a/b \"ü", client: 7, token: "t&", app_id: "1", app_key: "k" };

    fn filled(text: &str, place: Place) -> String {
        let template = Template::parse("part", text, place, &ALL).expect("a right template");
        let mut out = Vec::new();
        template.put(&VALUES, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn each_placeholder_is_filled_in_as_its_name_and_place_say() {
        assert_eq!(
            filled("{topic}|{topic_json}|{topic_url}|{client}|{token}", Place::Message),
            "a/b \"ü|a/b \\\"ü|a%2Fb%20%22%C3%BC|7|t&"
        );
        assert_eq!(filled("/{topic}?t={token}&id={app_id}", Place::Path), "/a%2Fb%20%22%C3%BC?t=t%26&id=1");
        assert_eq!(filled("Bearer {token}", Place::Header), "Bearer t&");
    }

    #[test]
    fn in_messages_every_other_brace_is_a_brace() {
        for text in ["{\"a\":{\"b\":{}}}", "{topics}", "{", "}", "{{", "{ topic}", "{message_xml}", "{}{\"topic\"}"] {
            assert_eq!(filled(text, Place::Message), text);
        }
        assert_eq!(filled("{{client}}", Place::Message), "{7}");
    }

    #[test]
    fn in_paths_and_headers_a_brace_that_means_nothing_is_refused_by_the_name_of_the_part() {
        for (text, why) in [
            ("/{topics}", "{topics} is no placeholder; here there are {topic}"),
            ("/{", "a brace stands alone"),
            ("/}", "a brace stands alone"),
            ("/{message}", "{message} has no meaning here"),
        ] {
            for place in [Place::Path, Place::Header] {
                let Err(Failure::Usage(sentence)) = Template::parse("target.x", text, place, &[What::Topic]) else {
                    panic!("{text} was taken")
                };
                assert!(sentence.starts_with("target.x is '") && sentence.contains(why), "{sentence}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_carrier_is_the_template_with_the_payload_in_its_place_and_knows_its_length(
            text in "(\\{(message|message_json|message_url|topic|client)\\}|[a-z{}\"]){0,8}",
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let template = Template::parse("part", &text, Place::Message, &ALL).expect("messages have no wrong braces");
            let mut out = b"before".to_vec();
            let carrier = template.carrier(&VALUES);
            carrier.put(&payload, &mut out);
            prop_assert_eq!(out.len(), 6 + carrier.len(&payload));

            let mut expected = b"before".to_vec();
            for piece in &template.pieces {
                match piece {
                    Piece::Text(text) => expected.extend_from_slice(text),
                    Piece::Slot(What::Message, how) => put_as(*how, &payload, &mut expected),
                    Piece::Slot(what, how) => VALUES.put(*what, *how, &mut expected),
                }
            }
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn what_is_put_in_a_json_string_is_read_back_by_a_json_parser(text in any::<String>()) {
            let mut out = b"\"".to_vec();
            put_as(How::Json, text.as_bytes(), &mut out);
            out.push(b'"');
            prop_assert_eq!(out.len(), 2 + len_as(How::Json, text.as_bytes()));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
        }
    }
}
