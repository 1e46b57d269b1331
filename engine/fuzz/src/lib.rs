//! What the fuzz targets do with their input. The targets themselves are in `fuzz_targets/`; `tests/tests/fuzz_corpus.rs`
//! calls the same functions on the stable compiler, with the committed corpus and with random changes of it.

use fanfare::server::native::request;
use fanfare::ws::deflate::{self, Compressor, Inflater};
use fanfare::ws::handshake::{self, HEADERS_MAX, Origins};
use fanfare::ws::{Event, Limits, Message, Opcode, ProtocolError, Role, Session, frame};

const LIMITS: Limits = Limits { message_bytes: 1 << 16 };

/// An event that owns what it says; a mistake is the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Mistake(ProtocolError),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Message(Message::Text(text)) => Self::Text(text.to_owned()),
            Event::Message(Message::Binary(bytes)) => Self::Binary(bytes.to_vec()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// A session as it begins, and what it may take.
#[derive(Debug, Clone, Copy)]
struct Setting {
    role: Role,
    /// Whether messages may come compressed.
    deflate: bool,
    limits: Limits,
}

impl Setting {
    fn plain(role: Role) -> Self {
        Self { role, deflate: false, limits: LIMITS }
    }

    fn session(self) -> Session {
        let mut session = Session::new(self.role);
        if self.deflate {
            session.agree_deflate();
        }
        session
    }
}

/// Feeds one piece of a stream; everything that happened, and whether the session goes on.
fn feed(session: &mut Session, piece: &[u8], limits: &Limits, inflater: &mut Inflater, seen: &mut Vec<Seen>) -> bool {
    let mut input = piece.to_vec();
    let mut at = 0;
    while at < input.len() {
        match session.receive(&mut input[at..], limits, inflater) {
            Ok(received) => {
                if let Some(Event::Message(message)) = received.event {
                    assert!(message.len() <= limits.message_bytes, "more was delivered than is allowed");
                }
                assert!(received.consumed <= piece.len() - at, "more was taken than was there");
                assert!(
                    received.event.is_some() || received.consumed == piece.len() - at,
                    "without an event all is taken"
                );
                at += received.consumed;
                seen.extend(received.event.map(Seen::from));
            }
            Err(mistake) => {
                assert!([1002, 1007, 1009].contains(&mistake.close_code()));
                assert!(mistake.to_string().len() <= frame::CLOSE_REASON_MAX);
                seen.push(Seen::Mistake(mistake));
                return false;
            }
        }
    }
    session.release();
    // What is half received, its capacity doubled by growing, and a control frame; compressed it may be an eighth longer.
    assert!(session.held_bytes() <= 5 * limits.message_bytes / 2 + 1024, "{} bytes held", session.held_bytes());
    assert!(inflater.held_bytes() <= (limits.message_bytes + 1).max(16 << 10), "{} bytes", inflater.held_bytes());
    !matches!(seen.last(), Some(Seen::Close(..)))
}

/// All that a stream says, fed in pieces of these lengths, over and over.
fn events(stream: &[u8], setting: Setting, lengths: &[u8]) -> Vec<Seen> {
    let (mut session, mut inflater) = (setting.session(), Inflater::default());
    let (mut seen, mut rest) = (Vec::new(), stream);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*length) + 1));
        rest = after;
        if !feed(&mut session, piece, &setting.limits, &mut inflater, &mut seen) {
            break;
        }
    }
    seen
}

/// The first bytes of an input say how the rest is used.
fn split(data: &[u8], count: usize) -> Option<(&[u8], &[u8])> {
    (data.len() >= count).then(|| data.split_at(count))
}

fn role(control: u8) -> Role {
    if control & 1 == 0 { Role::Server } else { Role::Client }
}

/// What a stream says in one piece; cut into such pieces, and into single bytes, it says the same.
fn events_however_cut(stream: &[u8], setting: Setting, lengths: &[u8]) -> Vec<Seen> {
    let mut whole = Vec::new();
    feed(&mut setting.session(), stream, &setting.limits, &mut Inflater::default(), &mut whole);
    assert_eq!(events(stream, setting, lengths), whole, "cut into pieces of {lengths:?}");
    assert_eq!(events(stream, setting, &[0]), whole, "cut into single bytes");
    whole
}

/// Any stream of bytes gives the same events however it is cut.
pub fn session(data: &[u8]) {
    let Some((control, stream)) = split(data, 5) else { return };
    events_however_cut(stream, Setting::plain(role(control[0])), &control[1..]);
}

/// Any stream of bytes to a session that has agreed on compression, or any bytes as one compressed message, gives the same
/// however it is cut, and nothing beyond the limit. What was inflated is compressed again, and comes back the same.
pub fn compressed(data: &[u8]) {
    let Some((control, rest)) = split(data, 5) else { return };
    let message_bytes = [10, 1000, 20_000, 1 << 16][usize::from(control[0] >> 2 & 3)];
    let setting = Setting { role: role(control[0]), deflate: true, limits: Limits { message_bytes } };
    let lengths = &control[1..];
    let seen = if control[0] & 2 == 0 {
        events_however_cut(rest, setting, lengths)
    } else {
        let whole = events_however_cut(&fragments(rest, setting.role, &[255]), setting, lengths);
        let cut = events_however_cut(&fragments(rest, setting.role, lengths), setting, lengths);
        assert_eq!(cut, whole, "in fragments");
        let alone = Inflater::default().inflate(rest, message_bytes).map(<[u8]>::to_vec);
        let alone = alone.map_or_else(Seen::Mistake, Seen::Binary);
        let is_too_big_at_once = matches!(alone, Seen::Binary(_) | Seen::Mistake(ProtocolError::BrokenDeflate))
            && matches!(whole[..], [Seen::Mistake(ProtocolError::MessageTooBig { .. })]);
        assert!(is_too_big_at_once && rest.len() > message_bytes || whole == [alone], "in a session and by itself");
        whole
    };
    let (mut compressor, mut inflater) = (Compressor::default(), Inflater::default());
    for seen in seen {
        let payload = match seen {
            Seen::Text(text) => text.into_bytes(),
            Seen::Binary(bytes) => bytes,
            _ => continue,
        };
        let mut out = Vec::new();
        if compressor.compress(1 + control[2] % 9, &payload, &mut out) {
            assert!(out.len() < payload.len());
            assert_eq!(inflater.inflate(&out, payload.len()), Ok(&payload[..]));
        }
    }
}

/// A compressed message in fragments of these lengths, over and over.
fn fragments(payload: &[u8], role: Role, lengths: &[u8]) -> Vec<u8> {
    let (mut out, mut rest, mut first) = (Vec::new(), payload, 0x42);
    for length in lengths.iter().cycle() {
        // No more than some hundred.
        let length = usize::from(*length).max(payload.len() / 100).max(1);
        let length = if length == 255 { rest.len() } else { rest.len().min(length) };
        let (fragment, after) = rest.split_at(length);
        rest = after;
        let at = out.len();
        match role {
            Role::Server => frame::put_masked_data(&mut out, Opcode::Binary, fragment, [1, 2, 3, 4]),
            Role::Client => frame::put_data(&mut out, Opcode::Binary, fragment),
        }
        out[at] = first | if rest.is_empty() { 0x80 } else { 0 };
        first = 0;
        if rest.is_empty() {
            break;
        }
    }
    out
}

/// Any frame, put together from the input, decodes to what it was made of.
pub fn frame_decoder(data: &[u8]) {
    let Some((control, payload)) = split(data, 6) else { return };
    let key = [control[2], control[3], control[4], control[5]];
    let short = &payload[..payload.len().min(frame::CONTROL_PAYLOAD_MAX)];
    let payload = &payload[..payload.len().min(LIMITS.message_bytes)];
    let text = String::from_utf8_lossy(&payload[..payload.len() / 3]).into_owned();
    let (mut masked, mut plain) = (Vec::new(), Vec::new());
    let expected = match control[0] % 4 {
        0 => {
            frame::put_masked_data(&mut masked, Opcode::Binary, payload, key);
            frame::put_data(&mut plain, Opcode::Binary, payload);
            Seen::Binary(payload.to_vec())
        }
        1 => {
            frame::put_masked_data(&mut masked, Opcode::Text, text.as_bytes(), key);
            frame::put_data(&mut plain, Opcode::Text, text.as_bytes());
            Seen::Text(text)
        }
        2 => {
            frame::put_masked_ping(&mut masked, short, key);
            frame::put_ping(&mut plain, short);
            Seen::Ping(short.to_vec())
        }
        _ => {
            frame::put_masked_pong(&mut masked, short, key);
            frame::put_pong(&mut plain, short);
            Seen::Pong(short.to_vec())
        }
    };
    let cuts = &control[1..2];
    let (server, client) = (Setting::plain(Role::Server), Setting::plain(Role::Client));
    assert_eq!(events(&masked, server, cuts), std::slice::from_ref(&expected));
    assert_eq!(events(&plain, client, cuts), std::slice::from_ref(&expected));
    // And a frame that is damaged is some event, a mistake, or not there yet; in each case the same however it is cut.
    let at = usize::from(control[1]) % masked.len();
    masked[at] ^= control[0] | 1;
    assert_eq!(events(&masked, server, cuts), events(&masked, server, &[255]));
}

/// Any head is parsed, checked and answered, or refused; what a shorter input already decided, a longer one does not change.
pub fn http_head(data: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let head_len = match handshake::parse_head(data, &mut headers) {
        Err(error) => {
            assert!((400..=599).contains(&error.status()) && !error.to_string().is_empty());
            return;
        }
        Ok(None) => return,
        Ok(Some((request, head_len))) => {
            assert!(head_len <= data.len());
            look_at(&request);
            answer(&request);
            head_len
        }
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let alone = handshake::parse_head(&data[..head_len], &mut headers);
    assert!(matches!(alone, Ok(Some((_, len))) if len == head_len), "what follows a head changes nothing");
}

fn look_at(request: &handshake::Request<'_>) {
    let _ = (request.path(), request.query(), request.cookie("session"), request.header("host"));
    let _ = request.protocols().count();
    if let Ok(Some(agreed)) = deflate::negotiate(request.headers_named("sec-websocket-extensions")) {
        assert!((9..=15).contains(&agreed.window.bits()) && handshake::is_header_value(&agreed.answer));
    }
    let list = Origins::List(vec!["https://*.example.org".to_owned(), "null".to_owned()]);
    let _ = (Origins::SameHost.allows(request, false), list.allows(request, false));
}

fn answer(request: &handshake::Request<'_>) {
    match handshake::check_upgrade(request) {
        Ok(key) => {
            assert!(handshake::wants_upgrade(request));
            let mut out = Vec::new();
            let chosen = handshake::choose_protocol(request.protocols(), &["chat", "fanfare"]);
            handshake::put_accept(&mut out, &key, chosen, &[]);
            assert!(out.starts_with(b"HTTP/1.1 101 ") && out.ends_with(b"\r\n\r\n"));
        }
        Err(error) => {
            assert!((400..=599).contains(&error.status()) && !error.to_string().is_empty());
            let mut out = Vec::new();
            handshake::put_response(&mut out, error.status(), &error.extra_headers(), "text/plain", b"no", true);
            assert!(out.ends_with(b"\r\n\r\nno"));
        }
    }
}

/// Any text is a request of the native protocol or a fault with a sentence.
pub fn native_protocol(data: &[u8]) {
    match request::parse(data) {
        Ok(request) => {
            if let Some(id) = request.id {
                assert!(id.as_json().len() <= request::ID_BYTES_MAX + 2);
            }
            assert!(!format!("{:?}", request.action).is_empty());
        }
        Err(fault) => {
            assert!(!fault.code.is_empty() && !fault.message.is_empty());
            assert!(fault.message.len() < 1024, "a message repeats only a little of the input");
        }
    }
}
