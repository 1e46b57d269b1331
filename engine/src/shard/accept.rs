//! From a TCP connection to a WebSocket: accept, read the head of the first request, and then the upgrade is decided here,
//! or the socket goes to the control plane with what has been read.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use mio::net::TcpStream;

use super::Shard;
use super::connection::{Connection, State};
use super::core::{Core, ticks_of};
use super::stop::retry_after;
use crate::close::RefusalCause;
use crate::handler::{Accept, Decision, Handler, Refusal, Terms, Upgrade};
use crate::net::handover::Handover;
use crate::net::listener::{Accepted, BACKLOG};
use crate::ws::handshake::{
    HEADERS_MAX, Request, UpgradeKey, check_upgrade, is_header_name, is_header_value, parse_head, put_accept,
    put_response, wants_upgrade,
};

/// Connections accepted in one turn; more have to wait for the next one.
const ACCEPTS_PER_TURN: usize = 256;

impl<H: Handler> Shard<H> {
    /// Accepts from the listeners that may have somebody waiting.
    pub(super) fn accept(&mut self) {
        let mut budget = ACCEPTS_PER_TURN;
        self.exhausted = false;
        let mut index = 0;
        while index < self.accepting.len() && budget > 0 {
            let listener = self.accepting[index];
            match self.acceptors[listener].accept() {
                Accepted::Connection(stream, peer) => {
                    budget -= 1;
                    self.core.welcome(stream, peer);
                }
                Accepted::NoDescriptor(mut stream) => {
                    budget -= 1;
                    self.core.turn_away(&mut stream, RefusalCause::FileDescriptors, "no file descriptor is left");
                }
                Accepted::Failed => {
                    budget -= 1;
                    self.core.metrics().accept_errors.add(1);
                }
                Accepted::Nobody => {
                    self.accepting.swap_remove(index);
                }
                // Tried again a little later; the others go on meanwhile.
                Accepted::Exhausted => {
                    self.core.metrics().accept_errors.add(1);
                    self.exhausted = true;
                    index += 1;
                }
            }
        }
    }

    /// Accepts everybody who waits and whom nobody else will serve: the listeners are about to be closed.
    pub(super) fn accept_all(&mut self) {
        for acceptor in self.acceptors.iter_mut().filter(|acceptor| !acceptor.is_left_to_others()) {
            // As many as the queue can hold, and those that fail on the way.
            for _ in 0..2 * BACKLOG {
                match acceptor.accept() {
                    Accepted::Connection(stream, peer) => self.core.welcome(stream, peer),
                    Accepted::NoDescriptor(_) | Accepted::Failed => {}
                    Accepted::Nobody | Accepted::Exhausted => break,
                }
            }
        }
    }

    /// Takes bytes of a head that is not complete yet.
    pub(super) fn take_head(&mut self, slot: u32, bytes: &mut [u8]) {
        let earlier = self.core.at(slot).rare.as_mut().map(|rare| std::mem::take(&mut rare.head)).unwrap_or_default();
        if earlier.is_empty() {
            return self.take_whole_head(slot, bytes);
        }
        let mut all = earlier;
        all.extend_from_slice(bytes);
        self.take_whole_head(slot, &mut all);
    }

    fn take_whole_head(&mut self, slot: u32, bytes: &mut [u8]) {
        let limit = self.core.settings.head_bytes;
        let parsed = {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            match parse_head(bytes, &mut headers) {
                Ok(Some((_, length))) if length > limit => Err(None),
                Ok(Some((request, length))) => Ok(Some((self.decide(slot, &request), length))),
                Ok(None) if bytes.len() > limit => Err(None),
                Ok(None) => Ok(None),
                Err(error) => Err(Some((error.status(), error.to_string()))),
            }
        };
        match parsed {
            Ok(Some((Verdict::Upgrade { data, terms, answer }, length))) => {
                self.core.at(slot).rare = None;
                self.open(slot, data, terms, answer);
                self.feed(slot, &mut bytes[length..]);
            }
            Ok(Some((Verdict::Http, _))) => self.hand_over(slot, bytes),
            Ok(Some((Verdict::Refuse(cause, answer), _))) => self.core.answer_and_close(slot, cause, answer),
            Ok(None) => self.core.at(slot).rare().head = bytes.to_vec(),
            Err(None) => {
                let message = format!("the head of the request is longer than head_bytes, which is {limit}");
                self.core.refuse(slot, RefusalCause::HeadTooLarge, 431, &[], &message);
            }
            Err(Some((status, message))) => {
                let cause = if status == 431 { RefusalCause::HeadTooLarge } else { RefusalCause::MalformedHead };
                self.core.refuse(slot, cause, status, &[], &message);
            }
        }
    }

    /// What becomes of a request.
    fn decide(&mut self, slot: u32, request: &Request<'_>) -> Verdict<H::Data> {
        if !wants_upgrade(request) {
            return Verdict::Http;
        }
        if self.core.shared.is_stopping() {
            let (cause, headers) = (RefusalCause::ShuttingDown, retry_after(&self.core.settings));
            return Verdict::Refuse(cause, error_answer(cause.label(), "the server is ending", 503, &headers));
        }
        let key = match check_upgrade(request) {
            Ok(key) => key,
            Err(error) => {
                let answer = error_answer("bad_upgrade", &error.to_string(), error.status(), &error.extra_headers());
                return Verdict::Refuse(RefusalCause::BadUpgrade, answer);
            }
        };
        if !self.core.settings.origins.allows(request) {
            let message = "this Origin is not allowed";
            return Verdict::Refuse(
                RefusalCause::Origin,
                error_answer(RefusalCause::Origin.label(), message, 403, &[]),
            );
        }
        let connection = &self.core.connections[slot as usize];
        let (peer, local) = (connection.peer, connection.stream.local_addr().unwrap_or(connection.peer));
        let upgrade = Upgrade { request: *request, peer, local, id: Some(self.core.id(slot)) };
        match catch_unwind(AssertUnwindSafe(|| self.handler.upgrade(&upgrade))) {
            Ok(Decision::Accept(accept)) => accepted(accept, &key, request),
            // The control plane waits for it.
            Ok(Decision::Later(_)) => Verdict::Http,
            Ok(Decision::Refuse(refusal)) => Verdict::Refuse(RefusalCause::Application, refusal_answer(&refusal)),
            Err(_) => {
                self.core.metrics().handler_panics.add(1);
                let answer = error_answer(RefusalCause::HandlerPanic.label(), "internal error", 500, &[]);
                Verdict::Refuse(RefusalCause::HandlerPanic, answer)
            }
        }
    }

    /// Gives a socket that speaks plain HTTP to the control plane, with what has been read.
    fn hand_over(&mut self, slot: u32, bytes: &[u8]) {
        let http_max = self.core.settings.http_connections_max;
        if self.core.shared.http_connections.fetch_add(1, Ordering::Relaxed) >= http_max {
            self.core.shared.http_connections.fetch_sub(1, Ordering::Relaxed);
            let headers = [("Retry-After".to_owned(), "1".to_owned())];
            let message = format!("there are {http_max} HTTP connections, which is http_connections_max");
            return self.core.refuse(slot, RefusalCause::HttpBusy, 503, &headers, &message);
        }
        let core = &mut self.core;
        let mut connection = core.connections.remove(slot as usize);
        let _ = core.registry.deregister(&mut connection.stream);
        core.generations[slot as usize] = core.generations[slot as usize].wrapping_add(1) & 0x00ff_ffff;
        core.metrics().connections.sub(1);
        core.metrics().handed_over.add(1);
        let handover = Handover { stream: connection.stream.into(), peer: connection.peer, read: bytes.to_vec() };
        if !core.shared.handover.send(handover) {
            // The control plane has ended: so will this shard.
            core.metrics().refuse(RefusalCause::HttpBusy);
            core.shared.http_connections.fetch_sub(1, Ordering::Relaxed);
            core.shared.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// What becomes of a request.
enum Verdict<D> {
    Upgrade { data: D, terms: Terms, answer: Vec<u8> },
    Refuse(RefusalCause, Vec<u8>),
    Http,
}

fn accepted<D>(accept: Accept<D>, key: &UpgradeKey<'_>, request: &Request<'_>) -> Verdict<D> {
    if let Some((name, _)) = bad_header(&accept.headers) {
        let message = format!("the program wants to send a header that is none: {name:?}");
        let answer = error_answer(RefusalCause::Application.label(), &message, 500, &[]);
        return Verdict::Refuse(RefusalCause::Application, answer);
    }
    let protocol = accept.protocol.as_deref().filter(|chosen| request.protocols().any(|offered| offered == *chosen));
    let mut answer = Vec::with_capacity(160);
    put_accept(&mut answer, key, protocol, &accept.headers);
    Verdict::Upgrade { data: accept.data, terms: accept.terms, answer }
}

/// The first header that may not be sent.
pub fn bad_header(headers: &[(String, String)]) -> Option<&(String, String)> {
    headers.iter().find(|(name, value)| !is_header_name(name) || !is_header_value(value))
}

fn refusal_answer(refusal: &Refusal) -> Vec<u8> {
    let mut answer = Vec::with_capacity(128 + refusal.body.len());
    put_response(&mut answer, refusal.status, &refusal.headers, refusal.content_type, &refusal.body, true);
    answer
}

fn error_answer(code: &str, message: &str, status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut answer = Vec::with_capacity(256);
    put_response(&mut answer, status, headers, "application/json", body.as_bytes(), true);
    answer
}

impl Core {
    /// A connection has been accepted.
    fn welcome(&mut self, mut stream: TcpStream, peer: SocketAddr) {
        self.metrics().accepted.add(1);
        let limit = self.settings.connections_max;
        if self.shared.connections.fetch_add(1, Ordering::Relaxed) >= limit {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            let message = format!("there are {limit} connections, which is connections_max");
            return self.turn_away(&mut stream, RefusalCause::Capacity, &message);
        }
        let connection = Connection::new(stream, peer, 0, self.tick());
        match self.insert(connection) {
            Some(slot) => self.check_after(slot, self.settings.handshake_timeout),
            None => {
                self.shared.connections.fetch_sub(1, Ordering::Relaxed);
                self.metrics().accept_errors.add(1);
            }
        }
    }

    /// Answers somebody there is no place for, without keeping anything. What the socket does not take is lost.
    fn turn_away(&mut self, stream: &mut TcpStream, cause: RefusalCause, message: &str) {
        use std::io::{Read, Write};
        self.metrics().refuse(cause);
        let headers = [("Retry-After".to_owned(), "5".to_owned())];
        let answer = error_answer(cause.label(), message, 503, &headers);
        // Reading what has come keeps the kernel from answering with a reset that overtakes the answer.
        let mut request = [0; 2048];
        let _ = stream.read(&mut request);
        let _ = stream.write(&answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }

    /// An accepted upgrade becomes a WebSocket.
    pub(super) fn begin(&mut self, slot: u32, answer: Vec<u8>) {
        let tick = self.tick() as u32;
        let connection = self.at(slot);
        connection.state = State::Open;
        connection.read_tick = tick;
        connection.message_tick = tick;
        connection.pinged_tick = tick;
        self.metrics().upgrades.add(1);
        self.metrics().open.add(1);
        if !answer.is_empty() {
            self.outbound(slot).push_control(answer);
            self.mark_dirty(slot);
        }
        self.schedule_alive(slot);
    }

    /// A head is not complete in time.
    pub(super) fn check_head(&mut self, slot: u32) {
        let limit = self.settings.handshake_timeout;
        let since = (self.tick() as u32).wrapping_sub(self.at(slot).accepted_tick);
        if u64::from(since) < ticks_of(limit) {
            return self.check_after(slot, limit);
        }
        let message = format!("the head of the request did not come within {} ms", limit.as_millis());
        self.refuse(slot, RefusalCause::HandshakeTimeout, 408, &[], &message);
    }
}
