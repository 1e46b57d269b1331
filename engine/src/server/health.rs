//! `fanfare --health`: asks the server that runs with the same configuration whether it is alive. For containers, which have
//! no other program to ask with.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Config;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks `/healthz` at `api_listen`, or else at the first address of `listen`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn check(config: &Config) -> Result<(), String> {
    let Some(addr) = config.api_listen.or(config.listen.first().copied()) else {
        return Err("--health: there is neither 'api_listen' nor 'listen' to ask".into());
    };
    if addr.port() == 0 {
        return Err(format!("--health: the port of {addr} is chosen when the server starts; give it one"));
    }
    let addr = reachable(addr);
    let answer = ask(addr).map_err(|error| format!("--health: {addr} does not answer: {error}"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" { Ok(()) } else { Err(format!("--health: {addr} answers {status:?} instead of 200")) }
}

/// An address that stands for all of this machine's is asked on loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

/// The first bytes of the answer.
fn ask(addr: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 32];
    let mut length = 0;
    while length < head.len() {
        match stream.read(&mut head[length..])? {
            0 => break,
            read => length += read,
        }
    }
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&head[..length]).into_owned())
}
