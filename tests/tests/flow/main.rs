//! What flows after the upgrade is bounded: rates, memory of all connections together, time limits, settings that change while
//! the engine runs. Engines in this process, driven by tungstenite's client over real sockets.

#[allow(dead_code, reason = "shared with the tests of the embedding API; each needs a part of it")]
#[path = "../embedding/kit.rs"]
mod kit;
mod live;
mod memory;
mod rates;
mod time;
mod topics;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use fanfare::Settings;
use kit::{Running, Script};

/// Sends every message back.
fn echo() -> Script {
    Script::new().on_message(|ctx, message| {
        let _ = ctx.send(message);
    })
}

fn with(script: Script, change: impl FnOnce(&mut Settings)) -> Running {
    Running::start_with(script, |builder| builder.settings(kit::settings(change)))
}

/// Changes settings of a running engine.
#[track_caller]
fn reconfigure(engine: &Running, change: impl FnOnce(&mut Settings)) {
    let mut settings = Settings::clone(&engine.handle().settings());
    change(&mut settings);
    assert_eq!(engine.handle().reconfigure(settings), Ok(Vec::new()), "nothing of it needs a restart");
}

/// A WebSocket that does nothing by itself, not even answer pings.
#[track_caller]
fn raw(addr: SocketAddr) -> TcpStream {
    let mut stream = kit::tcp(addr);
    stream.write_all(kit::upgrade_head("/").as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut one = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut one).unwrap(), 1);
        head.push(one[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// Reads short frames up to the Close frame: how many there were, and code and reason.
#[track_caller]
fn read_to_close(stream: &mut TcpStream) -> (usize, u16, String) {
    let mut frames = 0;
    loop {
        let mut header = [0; 2];
        stream.read_exact(&mut header).expect("a Close frame comes");
        let mut payload = vec![0; usize::from(header[1])];
        stream.read_exact(&mut payload).unwrap();
        if header[0] == 0x88 {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            return (frames, code, String::from_utf8(payload[2..].to_vec()).unwrap());
        }
        frames += 1;
    }
}
