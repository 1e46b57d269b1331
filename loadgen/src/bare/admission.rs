//! Listening, accepting and upgrading, as simply as it goes: it is not what is measured, so it may block.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::net::TcpListener;
use socket2::{Domain, Socket, Type};
use tungstenite::handshake::derive_accept_key;

const BACKLOG: i32 = 4096;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// An upgraded connection: non-blocking, without Nagle's delay.
#[derive(Debug)]
pub struct Admitted {
    /// The socket.
    pub stream: TcpStream,
    /// Whether it publishes (`mode=publish`); else it is subscribed.
    pub publishes: bool,
    /// Of what: the path.
    pub topic: String,
    /// Bytes that came behind the request.
    pub early: Vec<u8>,
}

/// Listens on `address`.
///
/// # Errors
/// Of the socket calls.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Reads the upgrade request of a new connection and accepts it.
///
/// # Errors
/// If the request is none, is too long, or does not come in time.
pub fn admit(mut stream: TcpStream) -> io::Result<Admitted> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_nodelay(true)?;
    let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
    let head_len = loop {
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
        match memchr::memmem::find(&request, b"\r\n\r\n") {
            Some(at) => break at + 4,
            None if read == 0 || request.len() > REQUEST_BYTES_MAX => return Err(ErrorKind::InvalidData.into()),
            None => {}
        }
    };
    let asked = parse(&request[..head_len]).ok_or(ErrorKind::InvalidData)?;
    let accept = derive_accept_key(&asked.key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes())?;
    stream.set_nonblocking(true)?;
    let early = request.split_off(head_len);
    Ok(Admitted { stream, publishes: asked.publishes, topic: asked.topic, early })
}

#[derive(Debug, PartialEq)]
struct Asked {
    key: Vec<u8>,
    publishes: bool,
    topic: String,
}

fn parse(head: &[u8]) -> Option<Asked> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(head).ok()?;
    let (topic, query) = parsed.path?.split_once('?').unwrap_or((parsed.path?, ""));
    let key =
        parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"))?.value.to_vec();
    Some(Asked { key, publishes: query.split('&').any(|pair| pair == "mode=publish"), topic: topic.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_and_part_are_read_off_the_path() {
        let head = |path: &str| format!("GET {path} HTTP/1.1\r\nSec-WebSocket-Key: abc\r\n\r\n").into_bytes();
        let asked = |topic: &str, publishes| Some(Asked { key: b"abc".to_vec(), publishes, topic: topic.into() });
        assert_eq!(parse(&head("/topics/a?mode=subscribe")), asked("/topics/a", false));
        assert_eq!(parse(&head("/topics/a?x=1&mode=publish")), asked("/topics/a", true));
        assert_eq!(parse(&head("/")), asked("/", false));
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n"), None, "no key");
    }
}
