//! Connections of the driver, from `connect` to the accepted upgrade.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::{Result, wire};

/// How long a server may take to answer an upgrade.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests sent before the first answer to them is read.
const BATCH: usize = 64;

/// An upgraded connection, non-blocking.
#[derive(Debug)]
pub struct Upgraded {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that came behind the response head.
    pub early: Vec<u8>,
}

/// Opens `count` connections to `path`, from as many loopback addresses as their ports require.
pub fn connect_many(address: SocketAddr, path: &str, count: usize) -> Result<Vec<Upgraded>> {
    let request = wire::upgrade_request(address, path);
    let mut source = 1;
    let mut upgraded = Vec::with_capacity(count);
    while upgraded.len() < count {
        let batch: Vec<TcpStream> = (0..BATCH.min(count - upgraded.len()))
            .map(|_| {
                let mut stream = connect_from_any(address, &mut source)?;
                stream.write_all(&request)?;
                Ok(stream)
            })
            .collect::<io::Result<_>>()
            .map_err(|error| format!("connection {} to {address}: {error}", upgraded.len()))?;
        for stream in batch {
            let number = upgraded.len();
            upgraded.push(finish(stream).map_err(|error| format!("upgrade {number} of {path}: {error}"))?);
        }
    }
    Ok(upgraded)
}

/// Connects from 127.0.0.`source`, or from the next address when the ports of that one have run out.
fn connect_from_any(address: SocketAddr, source: &mut u8) -> io::Result<TcpStream> {
    loop {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let bound = match *source {
            1 => Ok(()),
            other => socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, other), 0)).into()),
        };
        match bound.and_then(|()| socket.connect(&address.into())) {
            Ok(()) => break Ok(socket.into()),
            Err(error) if ports_have_run_out(&error) && *source < 250 => *source += 1,
            Err(error) => break Err(error),
        }
    }
}

fn ports_have_run_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse)
}

fn finish(mut stream: TcpStream) -> Result<Upgraded> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    let head_len = loop {
        let read = stream.read(&mut chunk)?;
        head.extend_from_slice(&chunk[..read]);
        match wire::head_len(&head) {
            Some(len) => break len,
            None if read == 0 => return Err("closed before its answer was complete".into()),
            None => {}
        }
    };
    if !wire::is_accepted(&head[..head_len]) {
        return Err(format!("refused: {}", String::from_utf8_lossy(&head).escape_debug()).into());
    }
    stream.set_nonblocking(true)?;
    Ok(Upgraded { stream, early: head.split_off(head_len) })
}
