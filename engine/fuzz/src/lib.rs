//! What the fuzz targets do with their input. The targets themselves are in `fuzz_targets/`; `tests/tests/fuzz_corpus.rs`
//! calls the same functions on the stable compiler, with the committed corpus and with random changes of it.

use fanfare::server::native::request;
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

/// Feeds one piece of a stream; everything that happened, and whether the session goes on.
fn feed(session: &mut Session, piece: &[u8], seen: &mut Vec<Seen>) -> bool {
    let mut input = piece.to_vec();
    let mut at = 0;
    while at < input.len() {
        match session.receive(&mut input[at..], &LIMITS) {
            Ok(received) => {
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
    // What is half received, its capacity doubled by growing, and a control frame.
    assert!(session.held_bytes() <= 2 * LIMITS.message_bytes + 1024, "{} bytes held", session.held_bytes());
    !matches!(seen.last(), Some(Seen::Close(..)))
}

/// All that a stream says, fed in pieces of these lengths, over and over.
fn events(stream: &[u8], role: Role, lengths: &[u8]) -> Vec<Seen> {
    let (mut session, mut seen, mut rest) = (Session::new(role), Vec::new(), stream);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*length) + 1));
        rest = after;
        if !feed(&mut session, piece, &mut seen) {
            break;
        }
    }
    seen
}

/// The first bytes of an input say how the rest is used.
fn split(data: &[u8], count: usize) -> Option<(&[u8], &[u8])> {
    (data.len() >= count).then(|| data.split_at(count))
}

/// Any stream of bytes gives the same events however it is cut.
pub fn session(data: &[u8]) {
    let Some((control, stream)) = split(data, 5) else { return };
    let role = if control[0] & 1 == 0 { Role::Server } else { Role::Client };
    let (mut whole, mut session) = (Vec::new(), Session::new(role));
    feed(&mut session, stream, &mut whole);
    assert_eq!(events(stream, role, &control[1..]), whole, "cut into pieces of {:?}", &control[1..]);
    assert_eq!(events(stream, role, &[0]), whole, "cut into single bytes");
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
    assert_eq!(events(&masked, Role::Server, cuts), std::slice::from_ref(&expected));
    assert_eq!(events(&plain, Role::Client, cuts), std::slice::from_ref(&expected));
    // And a frame that is damaged is some event, a mistake, or not there yet; in each case the same however it is cut.
    let at = usize::from(control[1]) % masked.len();
    masked[at] ^= control[0] | 1;
    assert_eq!(events(&masked, Role::Server, cuts), events(&masked, Role::Server, &[255]));
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
    let list = Origins::List(vec!["https://*.example.org".to_owned(), "null".to_owned()]);
    let _ = (Origins::SameHost.allows(request), list.allows(request));
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
