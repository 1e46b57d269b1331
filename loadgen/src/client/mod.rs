//! One connection, from connect to its end: TCP, TLS, upgrade, opening conversation, messages.
//!
//! Owner: a worker. It knows nothing of topics, markers or clocks: what comes is given to a [`Sink`].
//!
//! | Module | What it is |
//! |---|---|
//! | `connect` | a TCP connection begun; causes of its end, named |
//! | `wire` | its bytes, plain or encrypted by `tls` |
//! | `handshake` | the upgrade |
//! | `frames` | messages, taken apart where they lie |
//! | `inflate`, `inflating` | permessage-deflate: one message; all those of a worker |
//! | `conversation` | the opening, and answers |
//! | `outgoing` | frames to be written |

mod connect;
mod conversation;
mod frames;
mod handshake;
mod inflate;
mod inflating;
mod outgoing;
mod sockopt;
mod tls;
mod wire;

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::Arc;

use mio::{Registry, Token};

use crate::target::{Dial, Habits, Line, Offer};

use conversation::{Heard, Opening};
use frames::{Decoder, Event, Limits};
use handshake::Handshake;
use inflating::{Deflate, Inflating};
use outgoing::Outgoing;

pub use connect::cause;
pub use inflate::DEFLATE_OFFER;
pub use wire::Wire;

/// The receive buffer of a worker, in bytes: what is read at most at once.
pub const BUFFER_BYTES: usize = 256 << 10;

/// What is shared by all connections of a worker: the receive buffer, the inflater.
#[derive(Debug)]
pub struct Shared {
    buffer: Box<[u8]>,
    inflating: Inflating,
    message_bytes_max: usize,
}

/// Takes what a connection receives.
pub trait Sink {
    /// Bytes have just been read from the socket: what follows arrived now. The moment to look at the clock, once a read.
    fn read(&mut self, wire_bytes: usize);
    /// The upgrade was answered with 101: the handshake's time ends here.
    fn upgraded(&mut self, upgraded: Upgraded);
    /// The next message came compressed, with so many bytes, and has so many now.
    fn inflated(&mut self, wire_bytes: usize, payload_bytes: usize);
    /// The opening conversation is done: subscribed.
    fn opened(&mut self);
    /// A data message that is not part of the opening conversation nor of its answers, after inflation.
    fn message(&mut self, payload: &[u8]);
}

/// What was agreed on with a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upgraded {
    /// permessage-deflate.
    pub deflate: bool,
    /// To go on with an earlier TLS session.
    pub resumed: bool,
}

/// How a look at a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Looked {
    /// The socket has nothing more; the next edge will tell.
    Drained,
    /// The budget is used up: look again without waiting for an edge.
    More,
    /// It is over, for this cause (`refused`, `HTTP 403`, `close 1008`, `reset`, `end of stream`, `protocol error: …`).
    Ended(String),
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    wire: Wire,
    phase: Phase,
    decoder: Decoder,
    outgoing: Outgoing,
    habits: Arc<Habits>,
    deflate: Deflate,
    /// Whether a close frame was sent by [`Client::close`].
    is_closing: bool,
    /// Whether the end of the stream is known to come: only an empty read tells that all before it was read.
    is_hung_up: bool,
}

/// How far a connection has come. What only its beginning needs is dropped with it.
#[derive(Debug)]
enum Phase {
    Upgrading(Box<Upgrading>),
    Opening(Box<Opening>),
    Open,
    Ended,
}

#[derive(Debug)]
struct Upgrading {
    handshake: Handshake,
    offer: Arc<Offer>,
    script: Arc<[Line]>,
}

/// Why a connection is over.
#[derive(Debug)]
enum End {
    /// The socket says so.
    Io(io::Error),
    /// What the peer said, or said wrongly.
    Cause(String),
}

/// Whether the socket only says that it has ended, not why.
fn is_mere_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::NotConnected)
}

impl Shared {
    /// Buffers for the connections of one worker. Messages longer than `message_bytes_max` end their connection.
    pub fn new(message_bytes_max: usize) -> Self {
        Self { buffer: vec![0; BUFFER_BYTES].into(), inflating: Inflating::default(), message_bytes_max }
    }
}

impl Client {
    /// Begins to connect (non-blocking), registered for reading and writing under `token`. `receive_buffer` sets
    /// SO_RCVBUF, for readers that shall be slow.
    ///
    /// # Errors
    /// Of the socket calls: out of files, out of local ports, network unreachable; [`cause`] names them.
    pub fn connect(
        dial: &Dial,
        bind: Option<IpAddr>,
        receive_buffer: Option<usize>,
        mask_seed: u64,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let wire = Wire::connect(dial.address, dial.tls.as_ref(), bind, receive_buffer, registry, token)?;
        Ok(Self::over(wire, dial, mask_seed))
    }

    fn over(wire: Wire, dial: &Dial, mask_seed: u64) -> Self {
        let mut outgoing = Outgoing::new(mask_seed);
        let handshake = Handshake::new();
        handshake.put_request(&dial.request, outgoing.raw());
        let (offer, script) = (Arc::clone(&dial.offer), Arc::clone(&dial.script));
        Self {
            wire,
            phase: Phase::Upgrading(Box::new(Upgrading { handshake, offer, script })),
            decoder: Decoder::default(),
            outgoing,
            habits: Arc::clone(&dial.habits),
            deflate: Deflate::None,
            is_closing: false,
            is_hung_up: false,
        }
    }

    /// Reads and writes what can be, at most about `budget` bytes read. To be called at each edge.
    pub fn look(&mut self, shared: &mut Shared, budget: usize, sink: &mut impl Sink) -> Looked {
        // A socket that cannot be written to may still hold what says why.
        let flushed = self.flush();
        let looked = self.read(shared, budget, sink);
        let flushed = flushed.and_then(|()| if self.outgoing.len() > 0 { self.flush() } else { Ok(()) });
        let end = match (looked, flushed) {
            (Ok(Looked::Drained), Err(error)) => End::Io(error),
            (Ok(looked), _) => return looked,
            // What the socket said to the write, it does not say again.
            (Err(End::Io(read)), Err(written)) if is_mere_end(&read) => End::Io(written),
            (Err(end), _) => end,
        };
        self.phase = Phase::Ended;
        Looked::Ended(match end {
            End::Io(error) if self.is_closing && is_mere_end(&error) => "closed".into(),
            End::Io(error) => cause(&error),
            End::Cause(cause) => cause,
        })
    }

    /// Tells that the peer has ended its direction (`mio::event::Event::is_read_closed`). Without it the end of a stream
    /// that comes in the same edge as its last bytes is not seen: a read that does not fill the buffer counts as the last.
    pub fn hang_up(&mut self) {
        self.is_hung_up = true;
    }

    /// Whether the opening conversation is done.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Adds a message to what [`Self::flush`] writes. Only for open connections: before the upgrade and after the end it
    /// is dropped.
    pub fn push(&mut self, payload: &[u8], binary: bool) {
        if matches!(self.phase, Phase::Opening(_) | Phase::Open) && !self.is_closing {
            self.outgoing.message(payload, binary);
        }
    }

    /// Adds the heartbeat of the way of speaking, if it has one and the connection is open. When is up to the owner: see
    /// [`Target::heartbeat`](crate::target::Target::heartbeat).
    pub fn heartbeat(&mut self) {
        if self.is_open()
            && !self.is_closing
            && let Some(heartbeat) = &self.habits.heartbeat
        {
            self.outgoing.answer(heartbeat);
        }
    }

    /// Writes what the socket takes. Called again by [`Self::look`] at the next edge.
    ///
    /// # Errors
    /// The connection is over; [`cause`] names it.
    pub fn flush(&mut self) -> io::Result<()> {
        self.outgoing.flush(&mut self.wire)
    }

    /// Bytes pushed that the socket has not taken.
    pub fn unsent_bytes(&self) -> usize {
        self.outgoing.len() + self.wire.pending()
    }

    /// Says goodbye with a close frame, as far as the socket takes it; the peer's answer ends it with `closed`. One that
    /// is not upgraded is just ended. A second call does nothing.
    pub fn close(&mut self, code: u16) {
        if std::mem::replace(&mut self.is_closing, true) {
            return;
        }
        match self.phase {
            Phase::Opening(_) | Phase::Open => {
                self.outgoing.close(Some(code));
                // An error shows at the next look.
                let _ = self.flush();
            }
            Phase::Upgrading(_) | Phase::Ended => self.wire.shutdown(),
        }
    }

    /// Takes the connection off the poll and drops it: with a reset (`SO_LINGER` 0), as a client that vanishes.
    pub fn drop_hard(self, registry: &Registry) {
        self.wire.drop_hard(registry);
    }

    fn read(&mut self, shared: &mut Shared, budget: usize, sink: &mut impl Sink) -> Result<Looked, End> {
        match self.phase {
            Phase::Ended => return Err(End::Cause("closed".into())),
            Phase::Upgrading(_) if self.is_closing => return Err(End::Cause("closed".into())),
            _ => {}
        }
        let mut left = budget.max(1);
        loop {
            let kept = self.decoder.tail().len();
            let room = left.min(shared.buffer.len() - kept);
            let read = match self.wire.read(&mut shared.buffer[kept..kept + room]) {
                Ok(0) => return Err(End::Io(ErrorKind::UnexpectedEof.into())),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Looked::Drained),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::Io(error)),
            };
            sink.read(read);
            self.take(shared, kept, read, sink).map_err(End::Cause)?;
            if read < room && self.wire.is_plain() && !self.is_hung_up {
                return Ok(Looked::Drained);
            }
            left -= read;
            if left == 0 {
                return Ok(Looked::More);
            }
        }
    }

    /// Takes what was read: `read` bytes, before which there is room for the `kept` bytes of an unfinished frame.
    fn take(&mut self, shared: &mut Shared, kept: usize, read: usize, sink: &mut impl Sink) -> Result<(), String> {
        let Shared { buffer, inflating, message_bytes_max } = shared;
        buffer[..kept].copy_from_slice(self.decoder.tail());
        let input = &buffer[..kept + read];
        let mut at = 0;
        if let Phase::Upgrading(_) = self.phase {
            match self.upgrade(input, sink)? {
                Some(used) => at = used,
                None => return Ok(()),
            }
        }
        let limits =
            Limits { message_bytes_max: *message_bytes_max as u64, deflate: !matches!(self.deflate, Deflate::None) };
        let Self { phase, decoder, outgoing, habits, deflate, is_closing, .. } = self;
        let mut receiver = Receiver { phase, outgoing, habits, sink };
        while let Some(event) = decoder.next(input, &mut at, limits).map_err(|error| error.to_string())? {
            match event {
                Event::Message { payload, deflated: false } => receiver.message(payload),
                Event::Message { payload, deflated: true } => {
                    let message = inflating.inflate(deflate, payload, *message_bytes_max)?;
                    receiver.sink.inflated(payload.len(), message.len());
                    receiver.message(message);
                }
                Event::Ping(payload) if !*is_closing => receiver.outgoing.pong(payload),
                Event::Ping(_) | Event::Pong => {}
                Event::Close(code) => {
                    decoder.keep(&[]);
                    return Err(self.closed_by_peer(code));
                }
            }
        }
        decoder.keep(&input[at..]);
        Ok(())
    }

    /// Takes the upgrade's answer: where the frames begin, once it is whole.
    fn upgrade(&mut self, input: &[u8], sink: &mut impl Sink) -> Result<Option<usize>, String> {
        let Phase::Upgrading(upgrading) = &mut self.phase else { return Ok(Some(0)) };
        let Some((accepted, used)) = upgrading.handshake.receive(input, &upgrading.offer)? else { return Ok(None) };
        self.deflate = match accepted.deflate {
            None => Deflate::None,
            Some(agreed) if agreed.no_context => Deflate::Alone,
            Some(_) => Deflate::Context(Box::default()),
        };
        self.wire.delay_acknowledgements();
        sink.upgraded(Upgraded { deflate: accepted.deflate.is_some(), resumed: self.wire.is_resumed() });
        let mut opening = Box::new(Opening::new(Arc::clone(&upgrading.script)));
        let outgoing = &mut self.outgoing;
        if opening.go_on(|text| outgoing.message(text, false)) {
            self.phase = Phase::Open;
            sink.opened();
        } else {
            self.phase = Phase::Opening(opening);
        }
        Ok(Some(used))
    }

    /// Answers the peer's close frame, unless it is an answer itself; the cause of the end.
    fn closed_by_peer(&mut self, code: Option<u16>) -> String {
        if self.is_closing {
            return "closed".into();
        }
        self.outgoing.close(code);
        // The peer may be gone already; that changes nothing.
        let _ = self.flush();
        code.map_or_else(|| "close without code".into(), |code| format!("close {code}"))
    }
}

/// The parts of a client that a message concerns.
struct Receiver<'a, S> {
    phase: &'a mut Phase,
    outgoing: &'a mut Outgoing,
    habits: &'a Habits,
    sink: &'a mut S,
}

impl<S: Sink> Receiver<'_, S> {
    #[inline]
    fn message(&mut self, payload: &[u8]) {
        if let Phase::Open = self.phase
            && self.habits.is_plain()
        {
            return self.sink.message(payload);
        }
        let habits = self.habits;
        conversation::split(habits, payload, |message| self.hear(message));
    }

    fn hear(&mut self, message: &[u8]) {
        match conversation::hear(self.habits, message) {
            Heard::Say(said) => return self.outgoing.answer(said),
            Heard::Done => return,
            Heard::Message => {}
        }
        let Phase::Opening(opening) = self.phase else { return self.sink.message(message) };
        if opening.hear(message) {
            let outgoing = &mut *self.outgoing;
            if opening.go_on(|text| outgoing.message(text, false)) {
                *self.phase = Phase::Open;
                self.sink.opened();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small_and_can_go_to_another_thread() {
        fn is_send<T: Send>() {}
        is_send::<Client>();
        is_send::<Shared>();
        assert!(size_of::<Client>() <= 200, "{}", size_of::<Client>());
    }
}
