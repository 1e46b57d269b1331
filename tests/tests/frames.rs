//! Frames that break the rules or stretch them: the right close code, a counter, and no effect on others.

use std::io::Write;
use std::thread;
use std::time::Duration;

use fanfare_tests::metrics::eventually_connections;
use fanfare_tests::raw::{close_frame, fragment, frame, header, masked, op, upgrade_request};
use fanfare_tests::{Client, Raw, Rng, Server, eventually, topic};

/// A mistake on the wire and the close code it deserves.
struct Mistake {
    name: String,
    bytes: Vec<u8>,
    code: u16,
}

fn mistake(name: impl Into<String>, bytes: Vec<u8>, code: u16) -> Mistake {
    Mistake { name: name.into(), bytes, code }
}

fn framing_mistakes() -> Vec<Mistake> {
    let mut all = vec![
        mistake("an unmasked frame", b"\x81\x02hi".to_vec(), 1002),
        mistake("an unmasked ping", b"\x89\x00".to_vec(), 1002),
        mistake("a fragmented ping", masked(op::PING, b""), 1002),
        mistake("a fragmented close", masked(op::CLOSE, b""), 1002),
        mistake("a ping of 126 bytes", frame(op::PING, &[0; 126]), 1002),
        mistake("a continuation of nothing", frame(op::CONTINUATION, b"x"), 1002),
        mistake("a message inside a message", [fragment(op::TEXT, b"a"), frame(op::TEXT, b"b")].concat(), 1002),
        mistake("a length with its top bit set", header(0x82, 1 << 63, true), 1002),
        mistake("a 16-bit length that fits 7 bits", b"\x82\xfe\x00\x05\0\0\0\0hello".to_vec(), 1002),
        mistake("a 64-bit length that fits 16 bits", b"\x82\xff\0\0\0\0\0\0\x01\x00\0\0\0\0".to_vec(), 1002),
    ];
    for bit in [0x40, 0x20, 0x10] {
        all.push(mistake(format!("the reserved bit {bit:#x}"), masked(0x80 | bit | op::TEXT, b"x"), 1002));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        all.push(mistake(format!("the reserved opcode {opcode}"), frame(opcode, b""), 1002));
    }
    all
}

fn text_mistakes() -> Vec<Mistake> {
    let bad: &[&[u8]] = &[b"\xff", b"\xc0\xaf", b"ab\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"];
    let mut all: Vec<_> = bad.iter().map(|text| mistake(format!("{text:x?}"), frame(op::TEXT, text), 1007)).collect();
    all.push(mistake("bad bytes in a first fragment", fragment(op::TEXT, b"ab\xff"), 1007));
    let cut = [fragment(op::TEXT, b"\xe2"), frame(op::CONTINUATION, b"\x28\xa1")].concat();
    all.push(mistake("a character broken over two fragments", cut, 1007));
    all.push(mistake("a close reason that is not UTF-8", frame(op::CLOSE, b"\x03\xe8\xff"), 1007));
    all
}

fn size_mistakes() -> Vec<Mistake> {
    let mut flood = fragment(op::BINARY, b"");
    flood.extend(header(op::CONTINUATION, 1 << 40, true));
    vec![
        mistake("a claim of 2^62 bytes", header(0x82, 1 << 62, true), 1009),
        mistake("a claim of 2^40 bytes of text", header(0x81, 1 << 40, true), 1009),
        mistake("a fragment that claims 2^40 bytes", flood, 1009),
    ]
}

fn close_mistakes() -> Vec<Mistake> {
    let mut all = vec![mistake("a close of one byte", frame(op::CLOSE, b"\x03"), 1002)];
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        all.push(mistake(format!("the close code {code}"), close_frame(code, ""), 1002));
    }
    all
}

/// Makes every mistake on a connection of its own beside one that keeps echoing.
fn assert_punished(mistakes: &[Mistake], cause: &str) {
    let server = Server::start();
    let mut bystander = Client::connect(&server, &format!("/topics/{}", topic("bystander")));
    let before = server.metrics().closes(cause);
    for Mistake { name, bytes, code } in mistakes {
        let mut raw = Raw::open(server.addr(), &format!("/topics/{}", topic("bad")));
        raw.send(bytes);
        assert_eq!(raw.read_close().0, *code, "{name}");
        raw.finish();
        raw.read_to_end();
        bystander.send_text(name);
        assert_eq!(bystander.read_text(), *name);
    }
    let expected = before + mistakes.len() as u64;
    eventually(&format!("the counter '{cause}' reaches {expected}"), || server.metrics().closes(cause) == expected);
    eventually_connections(server.addr(), 1);
}

#[test]
fn broken_framing_is_answered_with_1002() {
    assert_punished(&framing_mistakes(), "protocol_error");
}

#[test]
fn text_that_is_not_utf8_is_answered_with_1007() {
    assert_punished(&text_mistakes(), "invalid_payload");
}

#[test]
fn a_message_too_large_is_answered_with_1009_before_it_is_sent() {
    assert_punished(&size_mistakes(), "message_too_big");
}

#[test]
fn close_codes_that_must_not_be_sent_are_answered_with_1002() {
    assert_punished(&close_mistakes(), "protocol_error");
}

#[test]
fn close_codes_that_may_be_sent_are_answered_with_themselves() {
    let server = Server::start();
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in codes {
        let mut raw = Raw::open(server.addr(), "/topics/t");
        raw.send(close_frame(code, "because"));
        assert_eq!(raw.read_close().0, code);
        assert!(raw.try_read_frame().is_err(), "nothing comes after the Close frame");
    }
    let mut raw = Raw::open(server.addr(), "/topics/t");
    raw.send(frame(op::CLOSE, b""));
    assert!([1000, 1005].contains(&raw.read_close().0));
    raw.read_to_end();
    let expected = codes.len() as u64 + 1;
    eventually("all closes are the peer's", || server.metrics().closes("peer_close") == expected);
}

#[test]
fn what_follows_a_close_frame_is_ignored() {
    let server = Server::start();
    let path = format!("/topics/{}", topic("after"));
    let mut listener = Client::connect(&server, &path);
    let mut raw = Raw::open(server.addr(), &path);
    raw.send([frame(op::TEXT, b"before"), close_frame(1000, ""), frame(op::TEXT, b"after")].concat());
    assert_eq!(raw.read_close().0, 1000);
    assert_eq!(listener.read_text(), "before");
    listener.send_text("end");
    assert_eq!(listener.read_text(), "end");
}

#[test]
fn a_message_of_seventy_thousand_fragments_arrives_whole() {
    let server = Server::start();
    let mut raw = Raw::open(server.addr(), &format!("/topics/{}", topic("fragments")));
    let mut bytes = fragment(op::TEXT, b"");
    let mut expected = String::new();
    for n in 0..70_000 {
        let letter = [b'a' + (n % 26) as u8];
        expected.push(letter[0].into());
        bytes.extend(fragment(op::CONTINUATION, &letter));
        if n % 10_000 == 0 {
            bytes.extend(frame(op::PING, b"between"));
        }
    }
    bytes.extend(frame(op::CONTINUATION, b""));
    raw.send(bytes);
    let mut pongs = 0;
    let message = loop {
        let frame = raw.read_frame();
        if frame.opcode != op::PONG {
            break frame;
        }
        pongs += 1;
    };
    assert!(pongs >= 1, "control frames between fragments are answered");
    assert_eq!(message.opcode, op::TEXT);
    assert!(message.text() == expected, "the text is what was sent");
}

#[test]
fn empty_fragments_without_end_cost_no_memory() {
    let server = Server::start();
    let mut bystander = Client::connect(&server, &format!("/topics/{}", topic("bystander")));
    let mut raw = Raw::open(server.addr(), &format!("/topics/{}", topic("empty")));
    raw.send(fragment(op::BINARY, b""));
    let before = server.resident_bytes();
    let thousand = fragment(op::CONTINUATION, b"").repeat(1000);
    for _ in 0..500 {
        raw.send(&thousand);
    }
    bystander.send_text("still here");
    assert_eq!(bystander.read_text(), "still here");
    raw.send(frame(op::CONTINUATION, b"end"));
    assert_eq!(raw.read_frame().text(), "end");
    assert!(server.resident_bytes() < before + (16 << 20), "memory grew by more than 16 MiB");
}

#[test]
fn ten_thousand_pings_are_answered_in_order() {
    let server = Server::start();
    let mut raw = Raw::open(server.addr(), "/topics/t");
    let mut writer = raw.stream().try_clone().expect("a socket can be cloned");
    let flood: Vec<u8> = (0..10_000_u32).flat_map(|n| frame(op::PING, &n.to_be_bytes())).collect();
    let writer = thread::spawn(move || writer.write_all(&flood).expect("the pings can be sent"));
    let mut next = 0;
    // RFC 6455 section 5.5.3 allows to answer only the newest ping, so numbers may be missing; the last may not.
    while next < 10_000 {
        let pong = raw.read_frame();
        assert_eq!(pong.opcode, op::PONG);
        let number = u32::from_be_bytes(pong.payload.try_into().expect("four bytes as sent"));
        assert!(number >= next, "pong {number} came after {next}");
        next = number + 1;
    }
    writer.join().expect("the writer ends");
}

#[test]
fn pings_from_somebody_who_never_reads_are_bounded() {
    let server = Server::start();
    let mut bystander = Client::connect(&server, &format!("/topics/{}", topic("bystander")));
    let mut raw = Raw::open_narrow(server.addr(), "/topics/t");
    let before = server.resident_bytes();
    let pings = frame(op::PING, &[b'p'; 125]).repeat(4096);
    let mut sent = 0;
    while sent < 64 << 20 {
        let taken = raw.send_until_blocked(&pings, Duration::from_millis(500));
        sent += taken;
        if taken < pings.len() {
            break;
        }
    }
    bystander.send_text("still here");
    assert_eq!(bystander.read_text(), "still here");
    assert!(
        server.resident_bytes() < before + (32 << 20),
        "memory grew by more than 32 MiB after {sent} bytes of pings"
    );
}

#[test]
fn a_peer_that_stops_sending_is_let_go_in_every_state() {
    let server = Server::start();
    let states: [Vec<u8>; 4] =
        [Vec::new(), frame(op::BINARY, &[1; 100])[..50].to_vec(), fragment(op::TEXT, b"half a mess"), vec![0x81]];
    for state in states {
        let mut raw = Raw::open(server.addr(), &format!("/topics/{}", topic("half")));
        raw.send(state);
        raw.finish();
        raw.read_to_end();
    }
    eventually("all are counted", || server.metrics().closes("peer_gone") == 4);
    eventually_connections(server.addr(), 0);
}

#[test]
fn a_reset_in_any_state_takes_nobody_along() {
    let server = Server::start();
    let path = format!("/topics/{}", topic("reset"));
    let mut bystander = Client::connect(&server, &path);
    for round in 0..20 {
        reset_before_open(&server);
        reset_while_open(&server, &path);
        let text = format!("round {round}");
        bystander.send_text(&text);
        while bystander.read_text() != text {}
    }
    eventually_connections(server.addr(), 1);
}

fn reset_before_open(server: &Server) {
    let request = upgrade_request("/topics/t");
    for cut in [0, 1, request.len() / 2, request.len()] {
        let mut raw = Raw::connect(server.addr());
        raw.send(&request[..cut]);
        raw.reset();
    }
}

fn reset_while_open(server: &Server, path: &str) {
    let states: [Vec<u8>; 6] = [
        Vec::new(),
        frame(op::TEXT, b"whole"),
        frame(op::TEXT, b"half a frame")[..9].to_vec(),
        fragment(op::TEXT, b"half a message"),
        close_frame(1000, "bye"),
        frame(op::TEXT, &[b'x'; 60_000]),
    ];
    for state in states {
        let mut raw = Raw::open(server.addr(), path);
        raw.send(state);
        raw.reset();
    }
}

#[test]
fn messages_cut_at_random_arrive_as_they_were_sent() {
    let mut rng = Rng::from_env();
    // The listener may be far behind; being disconnected for that is not what is tested.
    let server = Server::with(&["--topic", "cuts:pending_bytes=100000000", "--pending-bytes", "100000000"]);
    let mut listener = Client::connect(&server, "/topics/cuts?mode=subscribe");
    let mut raw = Raw::open(server.addr(), "/topics/cuts?mode=publish");
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let len = [0, 1, 125, 126, 127, 1000, 65_535, 65_536][rng.below(8)];
        let payload = rng.bytes(len);
        bytes.extend(fragmented(&mut rng, &payload));
        expected.push(payload);
    }
    let sender = thread::spawn(move || {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let cut = (1 + rng.below(20_000)).min(rest.len());
            raw.send(&rest[..cut]);
            rest = &rest[cut..];
        }
        raw
    });
    for payload in expected {
        let message = listener.read();
        assert!(message.is_binary(), "a message was expected: {message:?}");
        assert!(message.into_data() == payload, "a payload of {} bytes", payload.len());
    }
    sender.join().expect("the sender ends");
}

/// A binary message in a random number of fragments.
fn fragmented(rng: &mut Rng, payload: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest, mut opcode) = (Vec::new(), payload, op::BINARY);
    while rng.below(3) == 0 {
        let cut = rng.below(rest.len() + 1);
        bytes.extend(fragment(opcode, &rest[..cut]));
        rest = &rest[cut..];
        opcode = op::CONTINUATION;
    }
    bytes.extend(frame(opcode, rest));
    bytes
}
