//! A WebSocket server that is wrong on purpose, and counts how often: what a load generator must find, exactly.
//!
//! It speaks the raw way of Fanfare (`?mode=publish`, all else is subscribed to everything), a thread a connection, on
//! `tungstenite`. Each fault hits every n-th publication of each subscriber, so what is to be found can be computed.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tungstenite::handshake::server::{Request, Response};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};

/// What goes wrong. Zero is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Everything is delivered so much later.
    pub delay: Duration,
    /// Every n-th publication, the n-th first, is not delivered.
    pub drop_every: u64,
    /// Every n-th is delivered twice.
    pub double_every: u64,
    /// Every n-th is delivered behind the one after it.
    pub swap_every: u64,
    /// Every n-th has one byte of its end changed.
    pub corrupt_every: u64,
    /// Before the first, a message that nobody published.
    pub greets: bool,
    /// After so many the connection is closed with 1011.
    pub close_after: u64,
    /// Subscribers after the so-manieth are delivered nothing at all.
    pub serves_only: usize,
}

/// A running server. It ends with the process.
pub struct Faulty {
    addr: SocketAddr,
}

/// A publication on its way to a subscriber, and when it came.
type Passed = (Message, Instant);

type Subscribers = Arc<Mutex<Vec<Sender<Passed>>>>;

impl Faulty {
    /// Listens on a port of its own.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let subscribers = Subscribers::default();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let subscribers = Arc::clone(&subscribers);
                thread::spawn(move || serve(stream, faults, &subscribers));
            }
        });
        Self { addr }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}", self.addr)
    }
}

#[expect(clippy::result_large_err, reason = "the error type of the callback is tungstenite's")]
fn serve(stream: TcpStream, faults: Faults, subscribers: &Subscribers) {
    let _ = stream.set_nodelay(true);
    let (sender, receiver) = mpsc::channel();
    let (mut publishes, mut forgotten) = (false, None);
    // Subscribed before the upgrade is answered, so that a client which has its answer misses nothing.
    let look_at_path = |request: &Request, response: Response| {
        publishes = request.uri().query().is_some_and(|query| query.contains("mode=publish"));
        if !publishes {
            let mut subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever comes too late is kept, but gets a sender that nobody sends to.
            if faults.serves_only == 0 || subscribers.len() < faults.serves_only {
                subscribers.push(sender);
            } else {
                forgotten = Some(sender);
            }
        }
        Ok(response)
    };
    let Ok(socket) = tungstenite::accept_hdr(stream, look_at_path) else { return };
    if publishes {
        pass_on(socket, subscribers)
    } else {
        deliver(socket, faults, &receiver)
    }
    drop(forgotten);
}

fn pass_on(mut socket: WebSocket<TcpStream>, subscribers: &Subscribers) {
    while let Ok(message) = socket.read() {
        if message.is_text() || message.is_binary() {
            let now = Instant::now();
            let subscribers = subscribers.lock().unwrap_or_else(PoisonError::into_inner);
            for subscriber in subscribers.iter() {
                let _ = subscriber.send((message.clone(), now));
            }
        }
    }
}

fn deliver(mut socket: WebSocket<TcpStream>, faults: Faults, publications: &Receiver<Passed>) {
    let mut held_back = None;
    for number in 1.. {
        let Ok((message, came)) = publications.recv() else { return };
        thread::sleep((came + faults.delay).saturating_duration_since(Instant::now()));
        if faults.greets && number == 1 && socket.send("welcome".into()).is_err() {
            return;
        }
        let is = |every: u64| every > 0 && number % every == 0;
        let message = if is(faults.corrupt_every) { corrupted(&message) } else { message };
        let swapped: Option<Message> = held_back.take();
        let mut out = Vec::new();
        if is(faults.swap_every) {
            held_back = Some(message);
        } else if !is(faults.drop_every) {
            out.extend(is(faults.double_every).then(|| message.clone()));
            out.push(message);
        }
        out.extend(swapped);
        if out.into_iter().any(|message| socket.send(message).is_err()) {
            return;
        }
        if number == faults.close_after {
            let _ = socket.close(Some(CloseFrame { code: CloseCode::Error, reason: "on purpose".into() }));
            // Until the client has answered.
            while socket.read().is_ok() {}
            return;
        }
    }
}

/// With another last byte, which is still ASCII.
fn corrupted(message: &Message) -> Message {
    let mut payload = message.clone().into_data().to_vec();
    if let Some(last) = payload.last_mut() {
        *last = if *last == b'!' { b'?' } else { b'!' };
    }
    String::from_utf8(payload).map_or_else(|error| Message::binary(error.into_bytes()), Message::text)
}
