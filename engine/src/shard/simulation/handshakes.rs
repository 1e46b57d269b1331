//! However many TLS handshakes there are to make, who is connected is served in every turn.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::net::listener::Acceptor;
use crate::net::takeover::Holding;
use crate::net::tls::Security;

const NEWCOMERS: usize = 300;

#[test]
fn handshakes_leave_every_turn_to_those_who_are_connected() {
    let mut simulation = Simulation::new(0);
    // One shard, which accepts.
    let settings = Settings { ping_interval: Duration::ZERO, ..Settings::default() };
    let parts = Parts { tls: Some(wire::certificate()), ..Parts::default() };
    let (shared, seats, _handovers) = Shared::new(settings, parts, 1, Listening::default()).unwrap();
    let listener = crate::net::listener::open(([127, 0, 0, 1], 0).into(), &Settings::default()).unwrap();
    let addr = listener.local_addr().unwrap();
    let holding = Holding::new(addr, Vec::new(), false);
    let acceptor = Acceptor::new(listener, holding, Security::Tls);
    simulation.engine = EngineHandle::new(shared);
    let seat = seats.into_iter().next().unwrap();
    let shard = Shard::new(0, simulation.engine.clone(), seat, simulation.handler.clone(), vec![acceptor]).unwrap();
    simulation.shards = vec![shard];
    let mut events = Events::with_capacity(EVENTS);
    let mut turn = |simulation: &mut Simulation| simulation.shards[0].turn(&mut events, Some(Duration::ZERO));

    // Somebody is connected.
    let (mut own, accepted) = pair();
    let peer = own.local_addr().unwrap();
    let terms = Terms::default();
    let adoption =
        Adoption { stream: accepted, tls: None, peer, counted: false, data: Box::new(()), terms, rest: vec![] };
    simulation.engine.shared().inboxes.0[0].command(Command::Adopt(adoption)).unwrap();
    while simulation.handler.opened.lock().is_empty() {
        turn(&mut simulation);
    }
    // And many come, all of whom begin at the same time.
    let mut newcomers: Vec<TcpStream> = (0..NEWCOMERS).map(|_| TcpStream::connect(addr).unwrap()).collect();
    while simulation.shards[0].core.metrics().tls_connections.get() < NEWCOMERS as u64 {
        turn(&mut simulation);
    }
    for newcomer in &mut newcomers {
        let mut hello = Vec::new();
        wire::client(1).write_tls(&mut hello).unwrap();
        newcomer.write_all(&hello).unwrap();
    }
    let (mut turns, mut served) = (0, 0);
    loop {
        let mut order = Vec::new();
        frame::put_masked_data(&mut order, Opcode::Text, b"unsub nothing", [1, 2, 3, 4]);
        own.write_all(&order).unwrap();
        soon(|| simulation.shards[0].core.connections[0].stream.peek(&mut [0]).ok());
        let before = simulation.shards[0].core.metrics().messages_in.get();
        turn(&mut simulation);
        assert_eq!(simulation.shards[0].core.metrics().messages_in.get(), before + 1, "heard in this turn");
        // And answered in it: there is no other before this has come.
        served += soon(|| own.read(&mut [0; 64]).ok());
        turns += 1;
        let connections = simulation.shards[0].core.connections.iter();
        let answered = connections.filter(|(_, own)| own.tls.is_some() && own.bytes_out > 0);
        if answered.count() == NEWCOMERS {
            break;
        }
    }
    // What a turn leaves to newcomers is enough for a few of them.
    assert!(turns > 10, "{NEWCOMERS} handshakes in {turns} turns");
    assert_eq!(served, turns * "..refused nothing".len());
}

/// What comes in a moment: the kernel may take its time, even here.
fn soon<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not come");
        std::thread::yield_now();
    }
}

const EVENTS: usize = 1024;

/// Two ends of a connection, ours and the engine's.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    accepted.set_nodelay(true).unwrap();
    own.set_nonblocking(true).unwrap();
    (own, accepted)
}
