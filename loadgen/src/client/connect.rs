//! TCP connections, begun; and what becomes of them, named.
//!
//! Owner: a client, or a publisher by HTTP.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::{sockopt, tls};

/// Begins to connect without waiting. `bind` is the local address, whose port the kernel chooses when it knows the
/// destination, so that each destination has the full range. `receive_buffer` sets SO_RCVBUF, in bytes.
///
/// # Errors
/// Of the socket calls; [`cause`] names them.
pub fn connect(address: SocketAddr, bind: Option<IpAddr>, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        // Before the connect: it decides the window that is announced.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(ip) = bind {
        sockopt::bind_address_no_port(&socket)?;
        socket.bind(&SocketAddr::new(ip, 0).into()).map_err(|error| match error.kind() {
            ErrorKind::AddrNotAvailable => io::Error::other(format!("{ip} is no address of this machine")),
            _ => error,
        })?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// An error of a connection in few words, always the same for the same cause: `refused`, `reset`, `certificate: expired`.
pub fn cause(error: &io::Error) -> String {
    if let Some(inner) = error.get_ref() {
        return match inner.downcast_ref::<rustls::Error>() {
            Some(error) => tls::cause(error),
            None => inner.to_string(),
        };
    }
    let name = match (error.raw_os_error(), error.kind()) {
        (Some(libc::EMFILE | libc::ENFILE), _) => "out of files",
        (Some(libc::ENOBUFS | libc::ENOMEM), _) => "out of memory",
        // EAGAIN of connect: no port is free (as for EADDRNOTAVAIL).
        (Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE | libc::EAGAIN), _) => "out of local ports",
        (Some(libc::EPIPE | libc::ECONNABORTED), _) => "reset",
        (_, ErrorKind::ConnectionRefused) => "refused",
        (_, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted) => "reset",
        (_, ErrorKind::TimedOut) => "timed out",
        (_, ErrorKind::UnexpectedEof) => "end of stream",
        (_, ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown) => "unreachable",
        (_, ErrorKind::PermissionDenied) => "not permitted",
        _ => return error.to_string(),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named_in_few_words() {
        for (errno, name) in [
            (libc::ECONNREFUSED, "refused"),
            (libc::ECONNRESET, "reset"),
            (libc::EPIPE, "reset"),
            (libc::ETIMEDOUT, "timed out"),
            (libc::EADDRNOTAVAIL, "out of local ports"),
            (libc::EMFILE, "out of files"),
            (libc::ENETUNREACH, "unreachable"),
            (libc::EHOSTUNREACH, "unreachable"),
        ] {
            assert_eq!(cause(&io::Error::from_raw_os_error(errno)), name);
        }
    }

    #[test]
    fn an_address_that_is_not_here_cannot_be_bound_and_is_named() {
        let address = "127.0.0.1:9".parse().expect("an address");
        let error = connect(address, Some("203.0.113.7".parse().expect("an address")), None).expect_err("not ours");
        assert_eq!(cause(&error), "203.0.113.7 is no address of this machine");
    }

    #[test]
    fn the_local_address_is_the_one_asked_for() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let bind = "127.0.0.2".parse().expect("an address");
        let _stream = connect(address, Some(bind), Some(4096)).expect("it begins");
        let (_, peer) = listener.accept().expect("it comes");
        assert_eq!(peer.ip(), bind);
    }
}
