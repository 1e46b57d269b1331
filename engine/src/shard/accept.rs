//! From a TCP connection to a WebSocket: accept, let in ([`admission`](super::admission)), find out whose connection it is,
//! read the head of the first request, and then the upgrade is decided here, or the socket goes to the control plane with
//! what has been read.
//!
//! All of this is for newcomers, and has its share of a turn ([`Shard::see_to_newcomers`]): who is connected is served first,
//! however many want to come in.

use std::io::Write as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::TcpStream;

use super::Shard;
use super::admission::{Entry, Waiting};
use super::connection::{Connection, ProxyHeader, State};
use super::core::{Core, ticks_of};
use super::extensions::{agree_deflate, take_deflate};
use super::stop;
use super::transport::begin_tls;
use crate::close::RefusalCause;
use crate::config::ClientAddress;
use crate::handler::{Accept, Decision, Handler, Refusal, Terms, Upgrade};
use crate::net::client_address;
use crate::net::handover::Handover;
use crate::net::listener::{Accepted, BACKLOG};
use crate::net::proxy_protocol::{self, Proxied};
use crate::net::tls::Security;
use crate::net::tls::session::{NOT_SPOKEN, TURNED_AWAY, is_client_hello};
use crate::ws::deflate::Agreed;
use crate::ws::handshake::{
    HEADERS_MAX, HeadError, Request, UpgradeKey, check_upgrade, is_header_name, is_header_value, parse_head,
    put_accept, put_response, wants_upgrade,
};

/// How long a turn goes on with newcomers after everybody else has been served. Each turn sees to some, so that a shard that
/// is busy does not keep them out for ever.
const NEWCOMERS: Duration = Duration::from_micros(200);
/// Accepted for each head that is read: the kernel's queue must not overflow, where clients would have to try again.
const ACCEPTS_PER_HEAD: usize = 2;
/// Bytes that newcomers may send in one turn, in full buffers.
const NEWCOMERS_BYTES: usize = 1 << 20;
/// When those may come back who were refused because there are too many, in seconds.
const RETRY_S: u64 = 5;
/// What is said to somebody who does not speak TLS where only that is understood.
pub const NOT_TLS: &str = "this address speaks TLS: its URLs begin with https:// and wss://";
/// Why a head is refused, the status and the message.
type HeadRefusal = (RefusalCause, u16, String);

impl<H: Handler> Shard<H> {
    /// Accepts, lets in and hears newcomers, for a while.
    pub(super) fn see_to_newcomers(&mut self) {
        self.core.part();
        self.exhausted = false;
        // What the others have read is no reason not to hear them.
        self.core.read_budget = NEWCOMERS_BYTES;
        let until = self.core.shared.clock.nanos() + NEWCOMERS.as_nanos() as u64;
        loop {
            let mut seen = false;
            for _ in 0..ACCEPTS_PER_HEAD {
                seen |= self.accept_one();
            }
            seen |= self.core.admit_one();
            seen |= self.hear_one();
            if !seen || self.core.read_budget == 0 || self.core.shared.clock.nanos() >= until {
                return;
            }
        }
    }

    /// Accepts one connection, of one listener after the other; false if there is none, or none can be accepted now.
    fn accept_one(&mut self) -> bool {
        while let Some(listener) = self.accepting.first().copied().filter(|_| !self.exhausted) {
            let security = self.acceptors[listener].security();
            match self.acceptors[listener].accept() {
                Accepted::Connection(stream, peer) => self.core.welcome(stream, peer, security),
                Accepted::NoDescriptor(stream, alone) => {
                    self.core.turn_away_without_descriptor(stream, security);
                    self.acceptors[listener].lay_aside();
                    drop(alone);
                }
                Accepted::Failed => self.core.metrics().accept_errors.add(1),
                Accepted::Nobody => {
                    self.accepting.swap_remove(0);
                    continue;
                }
                // Tried again a little later.
                Accepted::Exhausted => {
                    self.core.metrics().accept_errors.add(1);
                    self.core.part_with_all();
                    self.exhausted = true;
                    return false;
                }
            }
            self.accepting.rotate_left(1);
            return true;
        }
        false
    }

    /// Reads from the newcomer who has waited longest for that; false if there is none.
    fn hear_one(&mut self) -> bool {
        let Some((slot, generation)) = self.core.newcomers.pop_front() else { return false };
        if self.core.connection(slot, generation).is_some() {
            self.core.at(slot).unread = false;
            self.read(slot);
        }
        true
    }

    /// Accepts everybody who waits and whom nobody else will serve, in the kernel's queues or here: the listeners are about to be closed, and who has come as
    /// far as here is let in, whatever the limits.
    pub(super) fn accept_all(&mut self) {
        for acceptor in self.acceptors.iter_mut().filter(|acceptor| !acceptor.is_left_to_others()) {
            let security = acceptor.security();
            // As many as the queue can hold, and those that fail on the way.
            for _ in 0..2 * BACKLOG {
                match acceptor.accept() {
                    Accepted::Connection(stream, peer) => self.core.welcome(stream, peer, security),
                    Accepted::NoDescriptor(stream, alone) => {
                        self.core.turn_away_without_descriptor(stream, security);
                        acceptor.lay_aside();
                        drop(alone);
                    }
                    Accepted::Failed => self.core.metrics().accept_errors.add(1),
                    Accepted::Nobody | Accepted::Exhausted => break,
                }
            }
        }
        while let Some((waiting, inside)) = self.core.next_at_the_end() {
            self.core.seat(waiting, inside);
        }
    }

    /// Takes bytes of a head that is not complete yet.
    pub(super) fn take_head(&mut self, slot: u32, bytes: &mut [u8]) {
        let earlier = self.core.at(slot).rare.as_mut().map(|rare| std::mem::take(&mut rare.head)).unwrap_or_default();
        if earlier.is_empty() {
            return self.take_front(slot, bytes);
        }
        let mut all = earlier;
        all.extend_from_slice(bytes);
        self.take_front(slot, &mut all);
    }

    /// Takes a PROXY header, if there has to be one, and what follows it.
    fn take_front(&mut self, slot: u32, bytes: &mut [u8]) {
        let connection = self.core.at(slot);
        if connection.proxy_header != ProxyHeader::Awaited {
            return self.take_whole_head(slot, bytes);
        }
        let (header, length, client) = match proxy_protocol::parse(bytes) {
            Proxied::Incomplete => {
                connection.rare().head = bytes.to_vec();
                return;
            }
            Proxied::Invalid => {
                return self.core.drop_unanswered(slot, RefusalCause::ProxyHeader, "it is not answered");
            }
            Proxied::Own(length) => (ProxyHeader::None, length, connection.peer),
            Proxied::Unknown(length) => (ProxyHeader::Seen, length, connection.peer),
            Proxied::Client(length, client) => (ProxyHeader::Seen, length, client),
        };
        connection.proxy_header = header;
        if !self.core.claim(slot, client) {
            let (status, headers, message) = self.core.too_many(client);
            return self.core.refuse(slot, RefusalCause::PerIp, status, &headers, &message);
        }
        if length == bytes.len() {
            return;
        }
        if self.core.at(slot).tls.is_some() {
            return self.take_cipher(slot, &mut bytes[length..]);
        }
        self.take_whole_head(slot, &mut bytes[length..]);
    }

    fn take_whole_head(&mut self, slot: u32, bytes: &mut [u8]) {
        if self.core.at(slot).tls.is_none() && is_client_hello(bytes) {
            return self.core.refuse_tls(slot);
        }
        let parsed = {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let most = self.core.settings.headers_max.min(HEADERS_MAX);
            let parsed = parse_head(bytes, &mut headers[..most]);
            match self.core.judge_head(bytes.len(), &parsed) {
                Some(refusal) => Err(refusal),
                None => Ok(parsed.ok().flatten().map(|(request, length)| (self.decide(slot, &request), length))),
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
            Err((cause, status, message)) => self.core.refuse(slot, cause, status, &[], &message),
        }
    }

    /// What becomes of a request.
    fn decide(&mut self, slot: u32, request: &Request<'_>) -> Verdict<H::Data> {
        if !wants_upgrade(request) {
            return Verdict::Http;
        }
        if self.core.shared.turns_away() {
            let (cause, headers) = (RefusalCause::ShuttingDown, stop::retry_after(&self.core.settings));
            return Verdict::Refuse(cause, error_answer(cause.label(), "the server is ending", 503, &headers));
        }
        let key = match check_upgrade(request) {
            Ok(key) => key,
            Err(error) => {
                let answer = error_answer("bad_upgrade", &error.to_string(), error.status(), &error.extra_headers());
                return Verdict::Refuse(RefusalCause::BadUpgrade, answer);
            }
        };
        let agreed = match agree_deflate(request, &self.core.settings) {
            Ok(agreed) => agreed,
            Err(error) => {
                let answer = error_answer("bad_upgrade", &error.to_string(), 400, &[]);
                return Verdict::Refuse(RefusalCause::BadUpgrade, answer);
            }
        };
        if !self.core.settings.origins.allows(request, self.core.connections[slot as usize].tls.is_some()) {
            let message = "this Origin is not allowed";
            return Verdict::Refuse(
                RefusalCause::Origin,
                error_answer(RefusalCause::Origin.label(), message, 403, &[]),
            );
        }
        let connection = &self.core.connections[slot as usize];
        let (peer, local) = (connection.peer, connection.stream.local_addr().unwrap_or(connection.peer));
        let client = self.core.client_of(peer, request);
        if !self.core.claim(slot, client) {
            let (status, headers, message) = self.core.too_many(client);
            let answer = error_answer(RefusalCause::PerIp.label(), &message, status, &headers);
            return Verdict::Refuse(RefusalCause::PerIp, answer);
        }
        self.core.watch_upgrade(slot, request);
        let tls = &self.core.connections[slot as usize].tls;
        let certificate = tls.as_ref().and_then(|tls| self.core.shared.certificate(tls));
        let (id, is_tls) = (Some(self.core.id(slot)), tls.is_some());
        let upgrade = Upgrade { request: *request, peer: client, local, id, is_tls, certificate: certificate.as_ref() };
        match catch_unwind(AssertUnwindSafe(|| self.handler.upgrade(&upgrade))) {
            Ok(Decision::Accept(accept)) => accepted(accept, &key, request, agreed),
            // The control plane waits for it, and asks again whose it is.
            Ok(Decision::Later(_)) => {
                self.core.disclaim(slot, peer);
                Verdict::Http
            }
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
        core.leave_gate(slot);
        core.unbook_pending(slot);
        let tls = core.take_tls(slot);
        let mut connection = core.connections.remove(slot as usize);
        // Of the handshake something may still be on its way to the client: the session has it.
        core.metrics().backlogged.sub(u64::from(connection.behind));
        let _ = core.registry.deregister(&mut connection.stream);
        core.generations[slot as usize] = core.generations[slot as usize].wrapping_add(1) & 0x00ff_ffff;
        core.metrics().connections.sub(1);
        core.metrics().handed_over.add(1);
        let (client, counted) = (connection.peer, connection.counted);
        let proxied = connection.proxy_header == ProxyHeader::Seen;
        let peer = if proxied { connection.stream.peer_addr().unwrap_or(client) } else { client };
        let read = bytes.to_vec();
        let handover = Handover { stream: connection.stream.into(), tls, peer, client, proxied, counted, read };
        if !core.shared.handover.send(handover) {
            // The control plane has ended: so will this shard.
            core.tell_refused(client, RefusalCause::HttpBusy, 0, "the control plane has ended");
            core.shared.http_connections.fetch_sub(1, Ordering::Relaxed);
            core.shared.release_connection(counted.then(|| client.ip()));
        }
    }
}

/// What becomes of a request.
enum Verdict<D> {
    Upgrade { data: D, terms: Terms, answer: Vec<u8> },
    Refuse(RefusalCause, Vec<u8>),
    Http,
}

fn accepted<D>(
    mut accept: Accept<D>,
    key: &UpgradeKey<'_>,
    request: &Request<'_>,
    agreed: Option<Agreed>,
) -> Verdict<D> {
    if let Some((name, _)) = bad_header(&accept.headers) {
        let message = format!("the program wants to send a header that is none: {name:?}");
        let answer = error_answer(RefusalCause::Application.label(), &message, 500, &[]);
        return Verdict::Refuse(RefusalCause::Application, answer);
    }
    take_deflate(&mut accept, agreed);
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

/// A whole answer with the JSON of every error; the connection is closed with it.
pub fn error_answer(code: &str, message: &str, status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let body = serde_json::json!({ "code": code, "message": message }).to_string();
    let mut answer = Vec::with_capacity(256);
    put_response(&mut answer, status, headers, "application/json", body.as_bytes(), true);
    answer
}

/// The answer to somebody there is no place for now, and when to come back, in seconds.
fn busy_answer(cause: RefusalCause, status: u16, retry_s: u64, message: &str) -> Vec<u8> {
    error_answer(cause.label(), message, status, &[retry_after(retry_s)])
}

fn retry_after(seconds: u64) -> (String, String) {
    ("Retry-After".to_owned(), seconds.to_string())
}

/// In whole seconds, rounded up.
fn secs(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

impl Core {
    /// A connection has been accepted: is there a place for it, and does it have to wait?
    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr, security: Security) {
        self.metrics().accepted.add(1);
        let limit = self.settings.connections_max;
        if self.shared.connections.fetch_add(1, Ordering::Relaxed) >= limit {
            self.shared.connections.fetch_sub(1, Ordering::Relaxed);
            let message = format!("there are {limit} connections, which is connections_max");
            let answer = busy_answer(RefusalCause::Capacity, 503, RETRY_S, &message);
            return self.turn_away(stream, security, RefusalCause::Capacity, &answer);
        }
        let counted = !client_address::is_told_later(&self.settings, peer.ip());
        if counted && !self.shared.addresses.enter(peer.ip(), self.settings.connections_per_ip_max) {
            self.shared.release_connection(None);
            let (status, _, message) = self.too_many(peer);
            let answer = busy_answer(RefusalCause::PerIp, status, RETRY_S, &message);
            return self.turn_away(stream, security, RefusalCause::PerIp, &answer);
        }
        let waiting = self.waiting(stream, peer, counted, security);
        if self.shared.is_stopping() {
            return self.seat(waiting, false);
        }
        let entry = self.shared.gate.enter(self.shard, self.shared.clock.nanos(), &self.settings);
        let queue_max = self.settings.accept_queue_max;
        match entry {
            Entry::Inside => self.seat(waiting, true),
            Entry::Waits => self.line_up(waiting),
            Entry::Full => {
                let message = format!("{queue_max} wait to be admitted, which is accept_queue_max");
                self.send_off(waiting, self.settings.accept_queue_timeout, &message);
            }
            Entry::TooLong(wait) => {
                let message = format!("it would take {} s to be admitted: more than accept_queue_timeout", secs(wait));
                self.send_off(waiting, wait, &message);
            }
        }
    }

    /// Lets the next one in who waits and may, or sends off who has waited too long; false if there is none.
    fn admit_one(&mut self) -> bool {
        if let Some(waiting) = self.next_granted() {
            self.seat(waiting, true);
            return true;
        }
        let Some(waiting) = self.next_given_up() else { return false };
        let patience = self.settings.accept_queue_timeout;
        let message = format!("not admitted within {} s, which is accept_queue_timeout", secs(patience));
        self.send_off(waiting, patience, &message);
        true
    }

    /// Somebody is let in: a connection from now on.
    fn seat(&mut self, waiting: Waiting, inside: bool) {
        let Waiting { stream, peer, counted, security, .. } = waiting;
        let tls = match begin_tls(&self.shared, security) {
            Ok(tls) => tls,
            Err(why) => return self.turn_away_unseated(stream, peer, counted, inside, &why),
        };
        let mut connection = Connection::new(stream, peer, 0, self.tick());
        (connection.inside, connection.counted, connection.tls) = (inside, counted, tls);
        if !counted && self.settings.client_address == ClientAddress::ProxyProtocol {
            connection.proxy_header = ProxyHeader::Awaited;
        }
        match self.insert(connection) {
            Some(slot) => self.check_after(slot, self.settings.handshake_timeout),
            None => {
                self.shared.release_connection(counted.then(|| peer.ip()));
                self.metrics().accept_errors.add(1);
                if inside {
                    self.leave_gate_unseated();
                }
            }
        }
    }

    /// Somebody was let in, but cannot become a connection.
    fn turn_away_unseated(&mut self, mut stream: TcpStream, peer: SocketAddr, counted: bool, inside: bool, why: &str) {
        self.tell_refused(peer, RefusalCause::TlsHandshake, 0, why);
        let _ = stream.write(&TURNED_AWAY);
        self.shared.release_connection(counted.then(|| peer.ip()));
        if inside {
            self.leave_gate_unseated();
        }
    }

    /// Something else than TLS is spoken where only that is understood: it is answered in the clear.
    pub(super) fn refuse_plain(&mut self, slot: u32) {
        drop(self.take_tls(slot));
        self.refuse(slot, RefusalCause::PlainOnTls, 400, &[], NOT_TLS);
    }

    /// TLS is spoken where nobody understands it.
    fn refuse_tls(&mut self, slot: u32) {
        let why = "this address does not speak TLS: its URLs begin with http:// and ws://";
        self.tell_refused(self.connections[slot as usize].peer, RefusalCause::TlsOnPlain, 0, why);
        self.part_with(slot, NOT_SPOKEN.to_vec());
    }

    /// Sends somebody off who cannot be admitted; when to come back is spread by half of it, so that not all come at once.
    fn send_off(&mut self, waiting: Waiting, wait: Duration, message: &str) {
        let Waiting { stream, peer, counted, security, .. } = waiting;
        self.shared.release_connection(counted.then(|| peer.ip()));
        let least = secs(wait).max(1);
        let retry = least + u64::from(peer.port()) % (least / 2 + 2);
        let answer = busy_answer(RefusalCause::AcceptQueue, 503, retry, message);
        self.turn_away(stream, security, RefusalCause::AcceptQueue, &answer);
    }

    fn turn_away_without_descriptor(&mut self, stream: TcpStream, security: Security) {
        let cause = RefusalCause::FileDescriptors;
        let answer = busy_answer(cause, 503, RETRY_S, "no file descriptor is left");
        self.turn_away(stream, security, cause, &answer);
        // They hold descriptors for politeness only.
        self.part_with_all();
    }

    /// It is this client's connection, and is counted so. False if he has too many.
    fn claim(&mut self, slot: u32, client: SocketAddr) -> bool {
        let Self { connections, shared, settings, .. } = self;
        let connection = &mut connections[slot as usize];
        if connection.counted && !shared.addresses.is_same(connection.peer.ip(), client.ip()) {
            shared.addresses.leave(connection.peer.ip());
            connection.counted = false;
        }
        connection.peer = client;
        if !connection.counted {
            connection.counted = shared.addresses.enter(client.ip(), settings.connections_per_ip_max);
        }
        connection.counted
    }

    /// Whose connection it is was said by a header of one request only: it is the proxy's again.
    fn disclaim(&mut self, slot: u32, proxy: SocketAddr) {
        if client_address::header_name(&self.settings, proxy.ip()).is_none() {
            return;
        }
        let connection = &mut self.connections[slot as usize];
        if connection.counted {
            self.shared.addresses.leave(connection.peer.ip());
            connection.counted = false;
        }
        connection.peer = proxy;
    }

    /// The client of a request, whose connection is this one's as far as is known.
    fn client_of(&self, known: SocketAddr, request: &Request<'_>) -> SocketAddr {
        let Some(name) = client_address::header_name(&self.settings, known.ip()) else { return known };
        let headers = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        client_address::client(&self.settings, known, headers.map(|header| header.value))
    }

    /// What to answer to a client that has too many connections.
    fn too_many(&self, client: SocketAddr) -> (u16, Vec<(String, String)>, String) {
        let most = self.settings.connections_per_ip_max;
        let message =
            format!("there are {most} connections from the address {}, which is connections_per_ip_max", client.ip());
        (429, vec![retry_after(RETRY_S)], message)
    }

    /// Whether a head, of which so many bytes are there, is refused for what it is.
    fn judge_head(
        &self,
        bytes: usize,
        parsed: &Result<Option<(Request<'_>, usize)>, HeadError>,
    ) -> Option<HeadRefusal> {
        let (limit, most) = (self.settings.head_bytes, self.settings.headers_max);
        let too_large = |message| Some((RefusalCause::HeadTooLarge, 431, message));
        match parsed {
            Ok(head) if head.as_ref().map_or(bytes, |(_, length)| *length) > limit => {
                too_large(format!("the head of the request is longer than head_bytes, which is {limit}"))
            }
            Ok(_) => None,
            Err(HeadError::TooManyHeaders) => {
                too_large(format!("the request has more headers than headers_max, which is {most}"))
            }
            Err(error) => Some((RefusalCause::MalformedHead, error.status(), error.to_string())),
        }
    }

    /// An accepted upgrade becomes a WebSocket.
    pub(super) fn begin(&mut self, slot: u32, answer: Vec<u8>) {
        let tick = self.tick() as u32;
        let connection = self.at(slot);
        connection.state = State::Open;
        connection.read_tick = tick;
        connection.message_tick = tick;
        connection.pinged_tick = tick;
        self.leave_gate(slot);
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
        let what = match &self.connections[slot as usize].tls {
            Some(tls) if !tls.is_open() => "TLS handshake was not completed",
            _ => "head of the request did not come",
        };
        let message = format!("the {what} within {} ms", limit.as_millis());
        self.refuse(slot, RefusalCause::HandshakeTimeout, 408, &[], &message);
    }
}
