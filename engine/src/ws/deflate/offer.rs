//! What a client offers, and the answer (RFC 7692, 5.1 and 7.1).

use std::borrow::Cow;
use std::fmt;

use super::Window;

/// The registered name of the extension (RFC 7692, 11.1).
const NAME: &str = "permessage-deflate";

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// What may be sent to the client.
    pub window: Window,
    /// The value of `Sec-WebSocket-Extensions` in the answer.
    pub answer: String,
}

/// The header does not have the form of RFC 6455, 9.1: the handshake has to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedOffer;

impl fmt::Display for MalformedOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sec-WebSocket-Extensions is malformed")
    }
}

impl std::error::Error for MalformedOffer {}

/// Takes the first offer that can be taken, of all values of the header `Sec-WebSocket-Extensions`; `None` if there is none.
/// Other extensions are passed over, and so are offers of this one with a parameter that is unknown, given twice or of no
/// right value (RFC 7692, 7): the next may be better.
///
/// # Errors
/// A value is malformed, before or behind what could be taken.
pub fn negotiate<'a>(values: impl Iterator<Item = &'a str>) -> Result<Option<Agreed>, MalformedOffer> {
    let mut chosen = None;
    for value in values {
        let mut scanner = Scanner(value);
        while scanner.is_at_element() {
            let offer = scanner.extension()?;
            chosen = chosen.or(offer);
            if !scanner.is_at_end() && !scanner.take(',') {
                return Err(MalformedOffer);
            }
        }
    }
    Ok(chosen.map(Offer::accept))
}

/// An offer of this extension, as far as it was read.
#[derive(Debug, Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window: Option<Window>,
    client_max_window_bits: bool,
}

impl Offer {
    /// Takes a parameter. False if the offer has to be declined for it.
    fn take(&mut self, name: &str, value: Option<&str>) -> bool {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("server_no_context_takeover") {
            value.is_none() && !std::mem::replace(&mut self.server_no_context_takeover, true)
        } else if is("client_no_context_takeover") {
            value.is_none() && !std::mem::replace(&mut self.client_no_context_takeover, true)
        } else if is("server_max_window_bits") {
            // One of 8 bits would have to be kept to, and no zlib makes it.
            let window = value.and_then(window_bits).and_then(Window::new);
            window.is_some() && self.server_max_window.is_none() && {
                self.server_max_window = window;
                true
            }
        } else if is("client_max_window_bits") {
            // With a value it promises a window, without one it takes orders (7.1.2.2). Every window can be inflated, so
            // neither needs an answer.
            value.is_none_or(|value| window_bits(value).is_some())
                && !std::mem::replace(&mut self.client_max_window_bits, true)
        } else {
            false
        }
    }

    /// A server may ask for both no-context parameters whether or not they were offered (7.1.1); a limit of its own window
    /// has to be repeated, or the client would think it ignored (7.1.2.1).
    fn accept(self) -> Agreed {
        let mut answer = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if let Some(window) = self.server_max_window {
            answer.push_str(&format!("; server_max_window_bits={}", window.bits()));
        }
        Agreed { window: self.server_max_window.unwrap_or(Window::MAX), answer }
    }
}

/// 8 to 15, without leading zeros (7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    let is_number = value.starts_with(|first: char| ('1'..='9').contains(&first));
    value.parse().ok().filter(|bits| is_number && (8..=15).contains(bits))
}

/// What is left of a header's value.
struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    /// Whether there is another element. Empty ones are passed over (RFC 9110, 5.6.1.2).
    fn is_at_element(&mut self) -> bool {
        while self.take(',') {}
        !self.is_at_end()
    }

    /// An extension with its parameters; the offer, if it is one that can be accepted.
    fn extension(&mut self) -> Result<Option<Offer>, MalformedOffer> {
        let mut offer = Offer::default();
        let mut is_acceptable = self.token()?.eq_ignore_ascii_case(NAME);
        while self.take(';') {
            let name = self.token()?;
            let value = if self.take('=') { Some(self.value()?) } else { None };
            is_acceptable = is_acceptable && offer.take(name, value.as_deref());
        }
        Ok(is_acceptable.then_some(offer))
    }

    /// A parameter's value: a token, which may be quoted.
    fn value(&mut self) -> Result<Cow<'a, str>, MalformedOffer> {
        if !self.take('"') {
            return self.token().map(Cow::Borrowed);
        }
        let (mut value, mut chars) = (String::new(), self.0.chars());
        loop {
            match chars.next() {
                Some('"') => break,
                Some('\\') => value.extend(chars.next()),
                Some(char) => value.push(char),
                None => return Err(MalformedOffer),
            }
        }
        self.0 = chars.as_str();
        let is_token = !value.is_empty() && value.chars().all(is_token_char);
        if is_token { Ok(Cow::Owned(value)) } else { Err(MalformedOffer) }
    }

    fn token(&mut self) -> Result<&'a str, MalformedOffer> {
        self.skip_blanks();
        let end = self.0.find(|char| !is_token_char(char)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        if token.is_empty() { Err(MalformedOffer) } else { Ok(token) }
    }

    /// Takes a character, if it is the next one. Blanks before it are passed over.
    fn take(&mut self, char: char) -> bool {
        self.skip_blanks();
        let rest = self.0.strip_prefix(char);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn is_at_end(&mut self) -> bool {
        self.skip_blanks();
        self.0.is_empty()
    }

    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }
}

/// RFC 9110, 5.6.2.
fn is_token_char(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}
