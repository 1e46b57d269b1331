//! One process takes the place of another on the same machine without its clients losing anything: the successor
//! ([`successor`]) asks the [`predecessor`] for its topics, with epochs, offsets and histories, so that positions go on to
//! mean the same; from then on only the successor gives offsets, and the predecessor follows it for the subscribers it still
//! has, while it ends. They speak over a Unix socket ([`wire`]) whose name is that of the address they listen on; each makes
//! sure that the other runs as the same user.

pub mod predecessor;
pub mod successor;
mod wire;

use std::io;
use std::net::SocketAddr as Address;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::time::Duration;

/// How long either waits for the other to say or take something.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a successor that has been given everything may take until it serves. Nothing is published meanwhile.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// Whether the process at the other end runs as the same user.
fn is_same_user(stream: &impl AsFd) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// Where a process that listens on this address can be asked to hand over: an abstract socket, so that nothing is left behind
/// in a file system, and that it is as far as the port is: in one network namespace.
fn meeting_point(listen: Address) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("fanfare/topics/{listen}"))
}
