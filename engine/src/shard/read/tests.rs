//! Compressed messages and the turn: a connection whose few bytes become many has its share, and the rest of them waits.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::Events;
use parking_lot::Mutex;

use super::*;
use crate::close::RefusalCause;
use crate::config::Settings;
use crate::engine::EngineHandle;
use crate::handler::{Closed, Context, Decision, Terms, Upgrade};
use crate::id::ConnectionId;
use crate::net::tls::TlsSession;
use crate::shard::connection::Connection;
use crate::shard::inbox::{Adoption, Command};
use crate::shard::shared::{Listening, Parts, Shared};
use crate::shard::simulation::wire::{self, Wire};
use crate::ws::deflate::Compressor;

/// Remembers who sent messages of which length, and who closed.
#[derive(Default)]
struct Listener {
    opened: Mutex<Vec<ConnectionId>>,
    heard: Mutex<Vec<(ConnectionId, usize)>>,
    closed: Mutex<Vec<(ConnectionId, u16)>>,
}

impl Handler for Listener {
    type Data = ();

    fn upgrade(&self, _request: &Upgrade<'_>) -> Decision<()> {
        Decision::accept(())
    }

    fn open(&self, ctx: &mut Context<'_, ()>) {
        self.opened.lock().push(ctx.id());
    }

    fn message(&self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        self.heard.lock().push((ctx.id(), message.len()));
    }

    fn close(&self, ctx: &mut Context<'_, ()>, closed: &Closed<'_>) {
        self.closed.lock().push((ctx.id(), closed.code));
    }
}

/// One shard that is turned by hand.
struct Bench {
    shard: Shard<Listener>,
    engine: EngineHandle,
    handler: Arc<Listener>,
}

impl Bench {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let settings = Settings { ping_interval: Duration::ZERO, ..settings };
        let (shared, mut seats, _) = Shared::new(settings, Parts::default(), 1, Listening::default()).unwrap();
        let (engine, handler) = (EngineHandle::new(shared), Arc::new(Listener::default()));
        let shard = Shard::new(0, engine.clone(), seats.remove(0), handler.clone(), Vec::new()).unwrap();
        Self { shard, engine, handler }
    }

    fn turn(&mut self) {
        self.shard.turn(&mut Events::with_capacity(64), Some(Duration::ZERO));
    }

    /// Turns until something is so, and looks at the books in between.
    fn turn_until(&mut self, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so(self) {
            assert!(Instant::now() < deadline, "it does not come about");
            self.turn();
            let held: usize =
                self.shard.core.connections.iter().map(|(_, connection)| connection.inbound_bytes()).sum();
            assert_eq!(self.engine.shared().inbound_bytes.load(Ordering::Relaxed), held);
            assert!(self.shard.inflater.held_bytes() <= 64 << 10, "given back at the end of the turn");
        }
    }

    /// A client whose messages may come compressed.
    fn connect(&mut self) -> (TcpStream, ConnectionId) {
        self.connect_through(None)
    }

    fn connect_through(&mut self, tls: Option<Box<TlsSession>>) -> (TcpStream, ConnectionId) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let terms = Terms::default();
        let adoption = Adoption { stream, tls, peer, counted: false, data: Box::new(()), terms, rest: Vec::new() };
        self.engine.shared().inboxes.0[0].command(Command::Adopt(adoption)).unwrap();
        let before = self.handler.opened.lock().len();
        self.turn_until(|bench| bench.handler.opened.lock().len() > before);
        let id = *self.handler.opened.lock().last().unwrap();
        self.shard.core.at(id.slot).session.agree_deflate();
        (client, id)
    }

    fn heard(&self, id: ConnectionId) -> Vec<usize> {
        self.handler.heard.lock().iter().filter(|(who, _)| *who == id).map(|(_, length)| *length).collect()
    }

    fn inflated(&self) -> Work {
        let metrics = self.shard.core.metrics();
        Work {
            messages: metrics.inflated_messages.get(),
            input_bytes: metrics.inflate_input_bytes.get(),
            output_bytes: metrics.inflate_output_bytes.get(),
        }
    }
}

/// A client's frame of so many zeros, and how long they are compressed.
fn zeros(bytes: usize) -> (Vec<u8>, usize) {
    let (mut payload, mut frame) = (Vec::new(), Vec::new());
    assert!(Compressor::default().compress(9, &vec![0; bytes], &mut payload));
    frame::put_masked_data(&mut frame, Opcode::Binary, &payload, [7, 8, 9, 0]);
    frame[0] |= 0x40;
    (frame, payload.len())
}

const LENGTH: usize = 200_000;
/// Messages of this length that make up a share.
const SHARE: usize = (INFLATE_BYTES as usize).div_ceil(LENGTH);

#[test]
fn what_becomes_long_is_handled_a_share_a_turn_in_order_and_all_of_it() {
    let mut bench = Bench::new();
    let (mut flood, flooder) = bench.connect();
    let (mut other, patient) = bench.connect();
    let (frame, payload_bytes) = zeros(LENGTH);
    let (mut stream, mut expected) = (Vec::new(), Vec::new());
    for n in 0..100 {
        stream.extend(&frame);
        expected.push(LENGTH);
        frame::put_masked_data(&mut stream, Opcode::Binary, &vec![1; n], [1, 2, 3, 4]);
        expected.push(n);
    }
    assert!(stream.len() < 60_000, "it all fits in one read: {}", stream.len());
    flood.write_all(&stream).unwrap();
    bench.turn_until(|bench| !bench.heard(flooder).is_empty());
    let mut plain = Vec::new();
    frame::put_masked_data(&mut plain, Opcode::Binary, b"me too", [1, 2, 3, 4]);
    other.write_all(&plain).unwrap();
    let (mut turns, mut heard_other_at) = (1, None);
    let mut before = bench.heard(flooder).iter().filter(|length| **length == LENGTH).count();
    assert!(before <= 2 * SHARE, "{before} when they came, and with what was left to read");
    bench.turn_until(|bench| {
        let heard = bench.heard(flooder);
        let long = heard.iter().filter(|length| **length == LENGTH).count();
        assert!(long <= before + SHARE, "{} in one turn", long - before);
        let cost = (long - before) * (LENGTH + 16 * payload_bytes);
        assert!(bench.shard.core.read_budget <= READ_BUDGET_BYTES - cost, "what was inflated was read");
        before = long;
        turns += 1;
        if heard_other_at.is_none() && !bench.heard(patient).is_empty() {
            heard_other_at = Some(long);
        }
        heard.len() == expected.len()
    });
    assert_eq!(bench.heard(flooder), expected);
    assert!(turns > 100 / SHARE, "{turns} turns");
    assert!(heard_other_at.is_some_and(|long| long < 100), "who sends little need not wait for who sends much");
    let work = Work { messages: 100, input_bytes: 100 * payload_bytes as u64, output_bytes: 100 * LENGTH as u64 };
    assert_eq!(bench.inflated(), work);
    assert_eq!(bench.engine.shared().inbound_bytes.load(Ordering::Relaxed), 0, "nothing is kept");

    // And it goes on.
    flood.write_all(&plain).unwrap();
    bench.turn_until(|bench| bench.heard(flooder).len() == expected.len() + 1);
}

#[test]
fn the_share_is_kept_while_closing_and_the_peer_s_close_frame_is_found_behind() {
    let mut bench = Bench::new();
    let (mut flood, flooder) = bench.connect();
    let (frame, _) = zeros(LENGTH);
    let mut stream = frame.repeat(40);
    frame::put_masked_close(&mut stream, Some(1000), "", [1, 2, 3, 4]);
    drop(bench.engine.close(flooder, 1000, "enough"));
    bench.turn_until(|bench| !bench.handler.closed.lock().is_empty());
    flood.write_all(&stream).unwrap();
    let mut before = 0;
    // Then our side is shut, and the client's is waited for.
    bench.turn_until(|bench| {
        let now = bench.inflated().messages;
        assert!(now <= before + 2 * SHARE as u64, "{} in one turn", now - before);
        before = now;
        let connection = bench.shard.core.connection(flooder.slot, flooder.generation);
        connection.is_none_or(|connection| connection.state != State::Closing)
    });
    assert_eq!(bench.inflated().messages, 40, "all that was sent before the Close frame was read");
    assert!(bench.heard(flooder).is_empty(), "and none of it told");
}

#[test]
fn what_is_refused_in_the_end_costs_the_turn_as_much_as_what_is_not() {
    let mut bench = Bench::new();
    let limit = bench.shard.core.settings.message_bytes;
    let (bomb, _) = zeros(limit + 1);
    // As long as a share, and broken in its last byte.
    let mut broken = Vec::new();
    let mut payload = Vec::new();
    assert!(Compressor::default().compress(9, &vec![0; 5 << 20], &mut payload));
    payload.extend([0xff; 3]);
    frame::put_masked_data(&mut broken, Opcode::Binary, &payload, [1, 2, 3, 4]);
    broken[0] |= 0x40;
    for (bytes, code) in [(bomb, 1009), (broken, 1007)] {
        let (mut client, id) = bench.connect();
        client.write_all(&bytes).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while bench.shard.core.at(id.slot).state == State::Open {
            assert!(Instant::now() < deadline, "it is not refused");
            bench.shard.core.read_budget = READ_BUDGET_BYTES;
            bench.shard.read(id.slot);
        }
        assert_eq!(bench.shard.core.read_budget, 0, "nothing is left for others in this turn");
        bench.turn_until(|bench| bench.handler.closed.lock().contains(&(id, code)));
    }
    assert_eq!(bench.inflated(), Work::default(), "none of it was a message");
}

#[test]
fn a_bomb_and_a_broken_message_end_the_connection_with_its_cause() {
    let mut bench = Bench::new();
    let limit = bench.shard.core.settings.message_bytes;
    let (bomb, _) = zeros(limit + 1);
    let mut broken = Vec::new();
    frame::put_masked_data(&mut broken, Opcode::Binary, &[0xff; 9], [1, 2, 3, 4]);
    broken[0] |= 0x40;
    for (bytes, code) in [(bomb, 1009), (broken, 1007)] {
        let (mut client, id) = bench.connect();
        client.write_all(&bytes).unwrap();
        bench.turn_until(|bench| bench.handler.closed.lock().contains(&(id, code)));
        assert!(bench.heard(id).is_empty());
    }
    assert_eq!(bench.inflated(), Work::default());
}

/// A close_notify that comes together with more than a share is not the end before the rest is handled.
#[test]
fn what_waits_for_its_share_is_handled_before_a_close_notify_that_came_with_it() {
    for version in [0, 1] {
        let mut bench = Bench::new();
        let (_unused, other) = socket_pair();
        let (mut client, server) = Wire::new(other, Some(version));
        let (mut socket, id) = bench.connect_through(server);
        let mut stream = zeros(LENGTH).0.repeat(3 * SHARE);
        frame::put_masked_data(&mut stream, Opcode::Text, b"last words", [1, 2, 3, 4]);
        frame::put_masked_close(&mut stream, Some(1000), "", [1, 2, 3, 4]);
        socket.write_all(&client.encrypted(&stream, true)).unwrap();
        bench.turn_until(|bench| !bench.handler.closed.lock().is_empty());
        assert_eq!(bench.heard(id), [&vec![LENGTH; 3 * SHARE][..], &[10]].concat());
        assert_eq!(*bench.handler.closed.lock(), [(id, 1000)]);
        bench.turn_until(|bench| bench.shard.core.connections.is_empty());
    }
}

/// Who is not even done with the handshake makes room, not who is connected.
#[test]
fn a_handshake_that_holds_what_there_is_none_of_ends_and_is_counted() {
    let mut bench = Bench::with(Settings { inbound_total_bytes: 100, ..Settings::default() });
    let (_connected, _) = bench.connect();
    let (mut newcomer, stream) = socket_pair();
    stream.set_nonblocking(true).unwrap();
    let mut connection = Connection::new(mio::net::TcpStream::from_std(stream), newcomer.local_addr().unwrap(), 0, 0);
    connection.tls = Some(Box::new(TlsSession::new(wire::certificate().config()).unwrap()));
    bench.shard.core.insert(connection).unwrap();
    // The beginning of a record of 16 KiB.
    newcomer.write_all(&[&[22, 3, 1, 64, 0, 1, 0, 63, 252, 3, 3][..], &[0; 1000]].concat()).unwrap();
    bench.turn_until(|bench| bench.shard.core.metrics().refused[RefusalCause::TlsHandshake as usize].get() == 1);
    bench.turn_until(|bench| bench.shard.core.connections.len() == 1);
    assert!(bench.handler.closed.lock().is_empty());
    assert_eq!(bench.engine.shared().inbound_bytes.load(Ordering::Relaxed), 0);
}

fn socket_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}
