//! The event loop of the contestants: one thread, accepts, and hands all else on.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;

use mio::{Events, Interest, Poll, Registry, Token};

use crate::Result;
use crate::contestants::admission::{self, Admitted};

const LISTENER: Token = Token(usize::MAX);

/// What a contestant does with its connections. Readiness is edge-triggered.
pub trait FanOut {
    /// Takes a new connection; whoever wants to hear of its readiness registers it.
    fn admit(&mut self, admitted: Admitted, registry: &Registry) -> Result<()>;

    /// A connection it registered is readable or writable.
    fn ready(&mut self, token: Token);
}

/// Listens, says where on stdout, and serves for ever.
pub fn run(listen: SocketAddr, fan_out: &mut impl FanOut) -> Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = admission::listen(listen)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    say(&format!("listening {}", listener.local_addr()?));
    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() != LISTENER {
                fan_out.ready(event.token());
                continue;
            }
            while let Ok((stream, _)) = listener.accept() {
                // A client that fails here is the driver's to report.
                let _ = admission::admit(stream.into()).and_then(|admitted| fan_out.admit(admitted, poll.registry()));
            }
        }
    }
}

/// Prints a line for the driver, which may have gone.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
