//! Listening, accepting and upgrading, as simply as it goes: it is not what is measured, so it may block.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use mio::net::TcpListener;
use socket2::{Domain, Socket, Type};

use crate::{Result, wire};

const BACKLOG: i32 = 1024;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_REQUEST_BYTES: usize = 8 * 1024;

/// What a connection has come for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `?mode=publish`.
    Publisher,
    /// Anything else.
    Subscriber,
}

/// An upgraded connection: non-blocking, without Nagle's delay.
#[derive(Debug)]
pub struct Admitted {
    /// The socket.
    pub stream: TcpStream,
    /// What it has come for.
    pub role: Role,
    /// Bytes that came behind the request.
    pub early: Vec<u8>,
}

/// Listens on `address`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Reads the upgrade request of a new connection and accepts it.
pub fn admit(mut stream: TcpStream) -> Result<Admitted> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_nodelay(true)?;
    let (mut request, mut chunk) = (Vec::new(), [0; 1024]);
    let head_len = loop {
        let read = stream.read(&mut chunk)?;
        request.extend_from_slice(&chunk[..read]);
        match wire::head_len(&request) {
            Some(len) => break len,
            None if read == 0 || request.len() > MAX_REQUEST_BYTES => {
                return Err("no request".into());
            }
            None => {}
        }
    };
    let (role, key) = parse(&request[..head_len])?;
    stream.write_all(&wire::upgrade_response(&key))?;
    stream.set_nonblocking(true)?;
    Ok(Admitted { stream, role, early: request.split_off(head_len) })
}

fn parse(request: &[u8]) -> Result<(Role, Vec<u8>)> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(request)?;
    let path = parsed.path.ok_or("no path")?;
    let mut keys = parsed.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
    let key = keys.next().ok_or("no key")?.value.to_vec();
    Ok((if path.contains("mode=publish") { Role::Publisher } else { Role::Subscriber }, key))
}
