//! The socket option that `socket2` does not have. The only unsafe code of the client.

use std::io;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Sets IP_BIND_ADDRESS_NO_PORT: a bind to an address with port 0 reserves no port; `connect` chooses one, and it need only
/// be free for that destination. It has the same meaning for IPv6 sockets.
pub(super) fn bind_address_no_port(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open as long as `socket` lives, and the option's value is an int that outlives the call.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
