//! What a straightforward program does: a tungstenite context for each connection, with its default settings, and for
//! each message and connection a write (which copies) and a flush (which sends).

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use tungstenite::Message;
use tungstenite::protocol::{Role as Side, WebSocketContext};

use crate::Result;
use crate::contestants::Totals;
use crate::contestants::admission::{Admitted, Role};
use crate::contestants::serve::{FanOut, say};

/// The naive server.
#[derive(Debug, Default)]
pub struct Naive {
    /// By token; closed ones leave a hole.
    connections: Vec<Option<Connection>>,
    totals: Totals,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    context: WebSocketContext,
    role: Role,
}

/// What reading a connection gave.
enum Read {
    Publication(Message),
    Nothing,
    Empty,
    Closed,
}

impl Naive {
    fn read(&mut self, index: usize) -> Read {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) else {
            return Read::Empty;
        };
        match connection.context.read(&mut connection.stream) {
            Ok(message) if message.is_binary() && connection.role == Role::Publisher => Read::Publication(message),
            Ok(_) => Read::Nothing,
            Err(error) if would_block(&error) => Read::Empty,
            Err(_) => Read::Closed,
        }
    }

    fn broadcast(&mut self, message: &Message) {
        for slot in &mut self.connections {
            let Some(connection) = slot.as_mut().filter(|connection| connection.role == Role::Subscriber) else {
                continue;
            };
            self.totals.sends += 1;
            let Connection { stream, context, .. } = connection;
            let sent = context.write(stream, message.clone()).and_then(|()| context.flush(stream));
            // What would block stays in the context and leaves with the next flush.
            if sent.is_err_and(|error| !would_block(&error)) {
                *slot = None;
            }
        }
    }

    fn close(&mut self, index: usize) {
        let closed = self.connections.get_mut(index).and_then(Option::take);
        if closed.is_some_and(|connection| connection.role == Role::Publisher) {
            say(&std::mem::take(&mut self.totals).to_line());
        }
    }
}

impl FanOut for Naive {
    fn admit(&mut self, admitted: Admitted, registry: &Registry) -> Result<()> {
        let token = Token(self.connections.len());
        let mut stream = TcpStream::from_std(admitted.stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let context = WebSocketContext::from_partially_read(admitted.early, Side::Server, None);
        self.connections.push(Some(Connection { stream, context, role: admitted.role }));
        Ok(())
    }

    fn ready(&mut self, token: Token) {
        if let Some(Connection { stream, context, .. }) = self.connections.get_mut(token.0).and_then(Option::as_mut) {
            // An error shows again in the read.
            let _ = context.flush(stream);
        }
        loop {
            match self.read(token.0) {
                Read::Publication(message) => self.broadcast(&message),
                Read::Nothing => {}
                Read::Empty => return,
                Read::Closed => return self.close(token.0),
            }
        }
    }
}

fn would_block(error: &tungstenite::Error) -> bool {
    matches!(error, tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}
