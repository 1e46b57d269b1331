//! The ceiling: a bare loop of `send()` over all sockets of a topic, with a WebSocket upgrade in front and nothing else.
//!
//! No queues, no threads, no limits: a message that would block is dropped and counted, which the load generator's check
//! sees as a loss. A frame that was begun is finished, by blocking on that socket, because half a frame would end the
//! connection. It speaks the raw way of Fanfare (`/topics/NAME?mode=…`), so the scenario of an engine runs on it unchanged.
//!
//! * [`admission`]: listening and upgrades. [`fan_out`]: from a publisher's read to everybody's `send()`.

pub mod admission;
pub mod fan_out;

use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;

use mio::{Events, Interest, Poll, Token};

use crate::failure::Failure;
use fan_out::BareLoop;
pub use fan_out::Sending;

const LISTENER: Token = Token(usize::MAX);

/// Listens, prints `ws://ADDRESS/` on standard output, and serves until the process is ended.
///
/// # Errors
/// If the address cannot be listened on, or the poll fails.
pub fn serve(listen: SocketAddr, sending: Sending) -> Result<(), Failure> {
    run(listen, sending).map_err(|error| Failure::failed(format!("the bare loop on {listen}: {error}")))
}

fn run(listen: SocketAddr, sending: Sending) -> io::Result<()> {
    // Without room for all connections it would be the limit that is measured. What it cannot be raised to, it stays at.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let mut poll = Poll::new()?;
    let mut listener = admission::listen(listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut out = io::stdout().lock();
    writeln!(out, "ws://{}/", listener.local_addr()?)?;
    out.flush()?;
    drop(out);
    let mut bare = BareLoop::new(sending);
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() != LISTENER {
                bare.ready(event.token(), poll.registry());
                continue;
            }
            loop {
                match listener.accept() {
                    // Who fails here sees it, and is who measures.
                    Ok((stream, _)) => {
                        if let Ok(admitted) = admission::admit(stream.into()) {
                            bare.admit(admitted, poll.registry())?;
                        }
                    }
                    // One that is gone already says nothing about those behind it.
                    Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                    Err(_) => break,
                }
            }
        }
    }
}
