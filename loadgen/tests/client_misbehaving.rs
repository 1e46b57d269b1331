//! The client against servers that do everything wrong: each ends it with a cause, none crashes it, hangs it or fills its
//! memory.

mod harness;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use harness::{Driven, against, scenario, serve};
use loadgen::client::Upgraded;
use loadgen::target::{Part, Target};
use socket2::SockRef;
use tungstenite::handshake::derive_accept_key;

/// Reads the request; its key.
fn key(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).expect("a request");
        request.push(byte[0]);
    }
    let request = String::from_utf8(request).expect("text");
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    key.expect("a key").to_owned()
}

/// Answers the request as it should be, with `more` headers.
fn accept(socket: &mut TcpStream, more: &str) {
    let accept = derive_accept_key(key(socket).as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    );
    socket.write_all(answer.as_bytes()).expect("sent");
}

/// The cause after a server that accepts and then sends `bytes`; it stays until the client has gone.
fn after(bytes: &'static [u8]) -> String {
    let (mut driven, server) = against(move |mut socket| {
        accept(&mut socket, "");
        socket.write_all(bytes).expect("sent");
        wait_for_end(socket);
    });
    let cause = driven.until_end();
    drop(driven);
    server.join().expect("no panic");
    cause
}

/// The cause after a server that answers the request with `bytes`.
fn answered(bytes: impl AsRef<[u8]> + Send + 'static) -> String {
    let (mut driven, server) = against(move |mut socket| {
        key(&mut socket);
        // The client may end it before all is sent.
        let _ = socket.write_all(bytes.as_ref());
        wait_for_end(socket);
    });
    let cause = driven.until_end();
    drop(driven);
    server.join().expect("no panic");
    cause
}

fn wait_for_end(mut socket: TcpStream) {
    let mut rest = [0; 1024];
    loop {
        match socket.read(&mut rest) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn answers_that_are_no_upgrade_are_named() {
    assert_eq!(answered("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), "HTTP 403");
    assert_eq!(answered("HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n"), "HTTP 301");
    assert_eq!(answered([0xff; 100]), "no HTTP");
    assert_eq!(answered("220 mail.example ESMTP\r\n"), "no HTTP");
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    assert_eq!(answered(format!("{head}Sec-WebSocket-Accept: AAAA\r\n\r\n")), "bad accept key");
    assert_eq!(answered(format!("{head}X: {}", "x".repeat(100_000))), "answer too long");
    assert_eq!(answered(format!("{head}{}", "X: y\r\n".repeat(100))), "answer too long");
}

#[test]
fn nobody_who_listens_is_refused() {
    let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let target = Target::of(&scenario("plain", "ws", address)).expect("right");
    let poll = mio::Poll::new().expect("a poll");
    let dial = target.dial(Part::Subscriber, 0, "t");
    let began = loadgen::client::Client::connect(&dial, None, None, 0, poll.registry(), mio::Token(0));
    match began {
        // On loopback the answer may come before connect returns.
        Err(error) => assert_eq!(loadgen::client::cause(&error), "refused"),
        Ok(_) => assert_eq!(Driven::new(&target, Part::Subscriber, 0, "t").until_end(), "refused"),
    }
}

#[test]
fn half_a_head_and_silence_is_neither_opened_nor_ended() {
    let (go_on, gone_on) = std::sync::mpsc::channel::<()>();
    let (mut driven, server) = against(move |mut socket| {
        key(&mut socket);
        socket.write_all(b"HTTP/1.1 101 Switching Pro").expect("sent");
        gone_on.recv().expect("the test goes on");
        socket.shutdown(Shutdown::Both).expect("ended");
    });
    driven.until("half a head", |driven| driven.log.wire_bytes == 26);
    assert!(driven.log.upgraded.is_none() && !driven.client.is_open() && driven.end.is_none());
    go_on.send(()).expect("it waits");
    assert_eq!(driven.until_end(), "end of stream");
    server.join().expect("no panic");
}

#[test]
fn broken_frames_are_protocol_errors() {
    assert_eq!(after(&[0x81, 0x85, 1, 2, 3, 4, 0, 0, 0, 0, 0]), "protocol error: masked frame");
    assert_eq!(after(&[0xc1, 0x01, b'x']), "protocol error: reserved bits");
    assert_eq!(after(&[0x83, 0x00]), "protocol error: bad opcode 3");
    assert_eq!(after(b"HTTP/1.1 200 OK\r\n\r\n"), "protocol error: reserved bits");
    let gigabyte: &[u8] = &[0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0];
    assert_eq!(after(gigabyte), "message of 1073741824 bytes exceeds client.message_bytes_max");
    let absurd: &[u8] = &[0x82, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(after(absurd), "protocol error: length with its highest bit set");
}

#[test]
fn an_end_mid_frame_is_an_end_of_stream_and_a_reset_a_reset() {
    for hard in [false, true] {
        let (mut driven, server) = against(move |mut socket| {
            accept(&mut socket, "");
            socket.write_all(&[0x81, 100, b'x']).expect("sent");
            if hard {
                SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).expect("set");
            }
        });
        let cause = driven.until_end();
        assert_eq!(cause, if hard { "reset" } else { "end of stream" });
        assert!(driven.log.messages.is_empty());
        server.join().expect("no panic");
    }
}

#[test]
fn extensions_and_subprotocols_nobody_asked_for_are_refused() {
    for (more, expected) in [
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", "unasked extension permessage-deflate"),
        ("Sec-WebSocket-Protocol: chat\r\n", "unasked subprotocol chat"),
    ] {
        let (mut driven, server) = against(move |mut socket| {
            accept(&mut socket, more);
            wait_for_end(socket);
        });
        assert_eq!(driven.until_end(), expected);
        assert_eq!(driven.log.upgraded, None);
        drop(driven);
        server.join().expect("no panic");
    }
}

#[test]
fn a_deflated_bomb_ends_at_the_limit_and_garbage_as_broken() {
    let deflate = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let mut bomb = vec![0; 200_000];
    let mut compressor = zlib_rs::Deflate::new(9, false, 15);
    compressor.compress(&vec![0; 50 << 20], &mut bomb, zlib_rs::DeflateFlush::SyncFlush).expect("there is room");
    bomb.truncate(compressor.total_out() as usize - 4);
    let mut bomb_frame = vec![0xc2, 126];
    bomb_frame.extend_from_slice(&u16::try_from(bomb.len()).expect("zeros compress well").to_be_bytes());
    bomb_frame.extend_from_slice(&bomb);
    let garbage_frame = vec![0xc1, 3, 0xff, 0xff, 0xff];
    for (frame, expected) in [
        (bomb_frame, "message of over 1048576 bytes exceeds client.message_bytes_max"),
        (garbage_frame, "protocol error: deflated message is broken"),
    ] {
        let (address, server) = serve(move |mut socket| {
            accept(&mut socket, deflate);
            socket.write_all(&frame).expect("sent");
            wait_for_end(socket);
        });
        let mut own = scenario("plain", "ws", address);
        own.target.deflate = true;
        let mut driven = Driven::new(&Target::of(&own).expect("right"), Part::Subscriber, 0, "t");
        assert_eq!(driven.until_end(), expected);
        assert_eq!(driven.log.upgraded, Some(Upgraded { deflate: true, resumed: false }));
        drop(driven);
        server.join().expect("no panic");
    }
}

#[test]
fn a_server_that_pings_and_never_reads_fills_no_memory() {
    let (mut driven, server) = against(|mut socket| {
        accept(&mut socket, "");
        let pings = [&[0x89, 125][..], &[7; 125]].concat().repeat(1000);
        for _ in 0..200 {
            socket.write_all(&pings).expect("sent");
        }
        socket.write_all(&[0x81, 1, b'x']).expect("sent");
        socket
    });
    driven.until("the last message", |driven| !driven.log.messages.is_empty());
    assert!(driven.client.unsent_bytes() < 100_000, "{}", driven.client.unsent_bytes());
    drop(server.join().expect("no panic"));
}
