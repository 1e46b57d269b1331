//! The client against `tungstenite` as the server: an implementation that is not ours, over real sockets.

mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;

use harness::{Driven, against, scenario, serve};
use loadgen::client::Upgraded;
use loadgen::scenario::Step;
use loadgen::target::{Part, Target};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{Frame, FrameHeader};
use tungstenite::{Bytes, Message, WebSocket};

fn accepted(socket: TcpStream) -> WebSocket<TcpStream> {
    socket.set_nodelay(true).expect("set");
    tungstenite::accept(socket).expect("a right upgrade")
}

/// Reads until the connection ends; what came.
fn rest(mut server: WebSocket<TcpStream>) -> Vec<Message> {
    let mut seen = Vec::new();
    while let Ok(message) = server.read() {
        seen.push(message);
    }
    seen
}

#[test]
fn messages_of_all_sizes_arrive_whole_and_in_order_whatever_the_budget() {
    let sizes = [0, 1, 125, 126, 65_535, 65_536, 300_000, 5, 1 << 20, 128];
    let expected: Vec<Vec<u8>> = (0_u8..).zip(sizes).map(|(n, size)| vec![n; size]).collect();
    for budget in [1_000, 64 << 10, 10 << 20] {
        let to_send = expected.clone();
        let (address, server) = serve(move |socket| {
            let mut server = accepted(socket);
            for payload in to_send {
                server.send(Message::binary(payload)).expect("sent");
            }
            rest(server)
        });
        let target = Target::of(&scenario("plain", "ws", address)).expect("right");
        let mut driven = Driven::with(&target, Part::Subscriber, 0, "t", 1 << 20, budget);
        driven.until("all", |driven| driven.log.messages.len() == sizes.len());
        assert!(driven.log.messages == expected);
        assert_eq!((driven.log.upgraded, driven.log.opened), (Some(Upgraded::default()), 1));
        assert!(driven.log.wire_bytes > sizes.iter().sum());
        driven.client.close(1000);
        assert_eq!(driven.until_end(), "closed");
        drop(driven);
        let close = CloseFrame { code: 1000.into(), reason: "".into() };
        assert_eq!(server.join().expect("no panic"), [Message::Close(Some(close))]);
    }
}

#[test]
fn many_messages_in_one_read_arrive_each() {
    let (mut driven, server) = against(|socket| {
        let mut server = accepted(socket);
        for n in 0..50_000 {
            server.write(Message::text(format!("message {n}"))).expect("sent");
        }
        server.flush().expect("sent");
        rest(server)
    });
    driven.until("all", |driven| driven.log.messages.len() == 50_000);
    assert!((0..).zip(&driven.log.messages).all(|(n, message)| *message == format!("message {n}").as_bytes()));
    driven.vanish();
    assert_eq!(server.join().expect("no panic"), []);
}

#[test]
fn fragments_are_joined_and_pings_between_them_answered() {
    let (mut driven, server) = against(|socket| {
        let mut server = accepted(socket);
        let fragment = |opcode, is_final, payload: &'static str| {
            let header = FrameHeader { opcode: OpCode::Data(opcode), is_final, ..FrameHeader::default() };
            Message::Frame(Frame::from_payload(header, Bytes::from_static(payload.as_bytes())))
        };
        server.send(fragment(Data::Text, false, "Hel")).expect("sent");
        server.send(fragment(Data::Continue, false, "")).expect("sent");
        server.send(Message::Ping(Bytes::from_static(b"are you there?"))).expect("sent");
        server.send(fragment(Data::Continue, true, "lo")).expect("sent");
        server.send(Message::Pong(Bytes::from_static(b"unasked"))).expect("sent");
        server.send(Message::text("whole")).expect("sent");
        server.read().expect("an answer")
    });
    assert_eq!(driven.messages(2), ["Hello", "whole"]);
    assert_eq!(server.join().expect("no panic"), Message::Pong(Bytes::from_static(b"are you there?")));
}

#[test]
fn what_is_pushed_arrives_masked_and_whole_though_the_server_reads_late() {
    let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
    let (mut driven, server) = against(move |socket| {
        let mut server = accepted(socket);
        gone_on.recv().expect("the test goes on");
        let mut seen = 0;
        while let Message::Binary(payload) = server.read().expect("a message") {
            assert!(payload.iter().all(|byte| *byte == seen as u8));
            seen += 1;
        }
        seen
    });
    driven.until_open();
    for n in 0..100_u8 {
        driven.client.push(&vec![n; 100_000], true);
    }
    driven.client.flush().expect("it takes some");
    assert!(driven.client.unsent_bytes() > 0, "ten megabytes fit in no socket");
    go_on.send(()).expect("it waits");
    driven.until("all is sent", |driven| driven.client.unsent_bytes() == 0);
    driven.client.push(b"end", false);
    driven.client.flush().expect("taken");
    assert_eq!(server.join().expect("no panic"), 100);
}

#[test]
fn the_servers_close_is_answered_and_its_code_is_the_cause() {
    for (code, cause) in [(Some(1008), "close 1008"), (Some(4999), "close 4999"), (None, "close without code")] {
        let (mut driven, server) = against(move |socket| {
            let mut server = accepted(socket);
            let frame = code.map(|code: u16| CloseFrame { code: code.into(), reason: "so".into() });
            server.close(frame).expect("sent");
            rest(server)
        });
        assert_eq!(driven.until_end(), cause);
        assert_eq!(driven.log.opened, 1);
        drop(driven);
        let answer = server.join().expect("no panic");
        let codes: Vec<Option<u16>> = answer
            .iter()
            .map(|message| match message {
                Message::Close(frame) => frame.as_ref().map(|frame| frame.code.into()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(codes, [code]);
    }
}

#[test]
fn one_that_vanishes_resets_the_connection() {
    let (mut driven, server) = against(|socket| accepted(socket).read().expect_err("it ends").to_string());
    driven.until_open();
    driven.vanish();
    let error = server.join().expect("no panic");
    assert!(error.contains("reset") || error.contains("Reset"), "{error}");
}

#[test]
fn closing_before_the_upgrade_just_ends_it() {
    let (mut driven, server) = against(|_socket| ());
    driven.client.close(1000);
    assert_eq!(driven.until_end(), "closed");
    drop(driven);
    server.join().expect("no panic");
}

#[test]
fn the_opening_is_held_line_by_line_and_answers_are_given_all_the_time() {
    let (address, server) = serve(|socket| {
        let mut server = accepted(socket);
        let mut heard = Vec::new();
        let say = |server: &mut WebSocket<TcpStream>, text: &str| server.send(Message::text(text)).expect("sent");
        let mut hear = |server: &mut WebSocket<TcpStream>| {
            heard.push(server.read().expect("a message").into_text().expect("text").to_string());
        };
        say(&mut server, "2");
        hear(&mut server);
        say(&mut server, "passed over");
        say(&mut server, "0{\"sid\":\"x\"}");
        hear(&mut server);
        say(&mut server, "40{}");
        hear(&mut server);
        say(&mut server, "430[]");
        say(&mut server, "42[\"message\",1]");
        say(&mut server, "2");
        hear(&mut server);
        say(&mut server, "42[\"message\",2]");
        hear(&mut server);
        heard
    });
    let mut own = scenario("socket-io", "ws", address);
    own.target.template.heartbeat =
        Some(loadgen::scenario::Heartbeat { every: "1s".parse().expect("a span"), send: "beat {client}".into() });
    let target = Target::of(&own).expect("right");
    assert_eq!(target.heartbeat().map(|every| every.as_secs()), Some(1));
    let mut driven = Driven::new(&target, Part::Subscriber, 9, "t");
    driven.client.heartbeat();
    assert_eq!(driven.messages(2), ["42[\"message\",1]", "42[\"message\",2]"]);
    driven.client.heartbeat();
    driven.client.flush().expect("taken");
    assert_eq!(server.join().expect("no panic"), ["3", "40", "420[\"subscribe\",\"t\"]", "3", "beat 9"]);
}

#[test]
fn lines_of_one_message_are_messages_of_their_own() {
    let (address, server) = serve(|socket| {
        let mut server = accepted(socket);
        assert_eq!(server.read().expect("connect"), Message::text("{\"id\":1,\"connect\":{}}"));
        server.send(Message::text("{\"id\":1,\"connect\":{\"ping\":25}}\n{}")).expect("sent");
        let mut next = || server.read().expect("a message").into_text().expect("text").to_string();
        assert_eq!(next(), "{\"id\":2,\"subscribe\":{\"channel\":\"t\"}}");
        assert_eq!(next(), "{}");
        let lines = "{\"push\":0}\n{\"id\":2,\"subscribe\":{}}\n{\"push\":1}\n{}\n{\"push\":2}";
        server.send(Message::text(lines)).expect("sent");
        assert_eq!(server.read().expect("the answer to the ping"), Message::text("{}"));
    });
    let target = Target::of(&scenario("centrifugo", "ws", address)).expect("right");
    let mut driven = Driven::new(&target, Part::Subscriber, 0, "t");
    assert_eq!(driven.messages(2), ["{\"push\":1}", "{\"push\":2}"]);
    server.join().expect("no panic");
}

#[test]
fn subprotocol_headers_and_token_reach_the_server() {
    let (address, server) = serve(|socket| {
        let mut seen = Vec::new();
        #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
        let check = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
            seen = vec![
                request.uri().to_string(),
                header("Host").to_owned(),
                header("Authorization").to_owned(),
                header("Sec-WebSocket-Protocol").to_owned(),
            ];
            response.headers_mut().insert("Sec-WebSocket-Protocol", "two".parse().expect("a value"));
            Ok(response)
        };
        tungstenite::accept_hdr(socket, check).expect("a right upgrade").send(Message::text("hello")).expect("sent");
        seen
    });
    let mut own = scenario("plain", "ws", address);
    own.target.token = Some("secret".into());
    own.target.subprotocols = vec!["one".into(), "two".into()];
    own.target.template.subscribe_path = Some("/a?t={token}&c={client}".into());
    own.target.headers.insert("Authorization".into(), "Bearer {token}".into());
    own.target.template.open = Some(vec![Step::Expect("hello".into())]);
    let mut driven = Driven::new(&Target::of(&own).expect("right"), Part::Subscriber, 5, "t");
    driven.until_open();
    let expected =
        ["/a?t=secret&c=5", &format!("localhost:{}", address.port()), "Bearer secret", "one, two"].map(str::to_owned);
    assert_eq!(server.join().expect("no panic"), expected);
}

#[test]
fn an_end_in_the_same_edge_as_the_last_bytes_is_seen() {
    let (mut driven, server) = against(|socket| {
        let mut server = accepted(socket);
        server.send(Message::text("last words")).expect("sent");
        server.get_mut().shutdown(std::net::Shutdown::Write).expect("ended");
        server
    });
    driven.until("the request is sent", |driven| driven.client.unsent_bytes() == 0);
    // The client looks again only when everything is there: answer, message and end are one edge.
    let _server = server.join().expect("no panic");
    assert_eq!(driven.until_end(), "end of stream");
    assert_eq!(driven.log.messages, [b"last words"]);
}

#[test]
fn deflated_messages_that_refer_to_earlier_ones_are_inflated_by_an_inflater_of_their_own() {
    let (address, server) = serve(|mut socket| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).expect("a request");
            request.push(byte[0]);
        }
        let request = String::from_utf8(request).expect("text");
        let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        );
        socket.write_all(answer.as_bytes()).expect("sent");
        // RFC 7692, 7.2.3.2: the second "Hello" is a reference to the first. In between, one that is not compressed.
        socket.write_all(&[0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).expect("sent");
        socket.write_all(&[0x81, 0x02, b'o', b'k']).expect("sent");
        socket.write_all(&[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00]).expect("sent");
        socket
    });
    let mut own = scenario("plain", "ws", address);
    own.target.deflate = true;
    let target = Target::of(&own).expect("right");
    let mut driven = Driven::with(&target, Part::Subscriber, 0, "t", 1 << 20, 3);
    assert_eq!(driven.messages(3), ["Hello", "ok", "Hello"]);
    drop(server.join().expect("no panic"));
}
