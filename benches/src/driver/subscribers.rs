//! The reading side of the driver: many subscribers of one topic on one thread.
//!
//! One receive buffer for all of them, one `recv` and one look at the clock for all that has arrived at a socket, and no
//! work per frame beyond finding it and comparing its sequence number.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::clock::Clock;
use crate::driver::progress::Progress;
use crate::driver::scanner::{FrameScanner, PREFIX_LEN, ScannedFrame};
use crate::driver::{Stamp, connect};
use crate::{Result, wire};

const RECEIVE_BUFFER_BYTES: usize = 256 * 1024;

/// Latencies are kept from 1 µs to a minute with three digits.
const LATENCY_RANGE_NS: (u64, u64) = (1_000, 60_000_000_000);

/// What the subscribers have seen since [`SubscriberSet::reset`].
#[derive(Clone, Debug)]
pub struct Received {
    /// Publications received, over all subscribers.
    pub deliveries: u64,
    /// Publications that a subscriber missed, seen from the sequence numbers.
    pub gaps: u64,
    /// Publications that a subscriber got twice or too late.
    pub repeated: u64,
    /// Data frames that no publication of this driver explains.
    pub alien: u64,
    /// Subscribers that the server disconnected.
    pub closed: u64,
    /// Intended time of publication to receipt, for each delivery.
    pub latency_ns: Histogram<u64>,
    /// Intended time of publication to receipt by the last subscriber, for each publication.
    pub completion_ns: Histogram<u64>,
}

impl Received {
    fn nothing() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(LATENCY_RANGE_NS.0, LATENCY_RANGE_NS.1, 3);
        Ok(Self {
            deliveries: 0,
            gaps: 0,
            repeated: 0,
            alien: 0,
            closed: 0,
            latency_ns: histogram()?,
            completion_ns: histogram()?,
        })
    }
}

/// All subscribers, registered under the tokens `0..len`.
#[derive(Debug)]
pub struct SubscriberSet {
    subscribers: Vec<Subscriber>,
    buffer: Box<[u8]>,
    clock: Clock,
    /// The window of publications; whoever publishes tells it.
    pub progress: Progress,
    /// What has been seen.
    pub received: Received,
}

#[derive(Debug)]
struct Subscriber {
    stream: TcpStream,
    scanner: FrameScanner,
    /// The sequence number it expects next.
    next: u64,
    open: bool,
}

impl SubscriberSet {
    /// Connects `count` subscribers to `path`.
    pub fn connect(address: SocketAddr, path: &str, count: usize, registry: &Registry, clock: Clock) -> Result<Self> {
        let mut set = Self {
            subscribers: Vec::with_capacity(count),
            buffer: vec![0; RECEIVE_BUFFER_BYTES].into(),
            clock,
            progress: Progress::new(count),
            received: Received::nothing()?,
        };
        for (index, upgraded) in connect::connect_many(address, path, count)?.into_iter().enumerate() {
            let mut stream = TcpStream::from_std(upgraded.stream);
            registry.register(&mut stream, Token(index), Interest::READABLE)?;
            set.subscribers.push(Subscriber { stream, scanner: FrameScanner::default(), next: 0, open: true });
            set.absorb(index, &upgraded.early);
        }
        Ok(set)
    }

    /// The number of subscribers, closed ones included.
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether there is not a single subscriber.
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// Forgets what was received, but not how far each subscriber is.
    pub fn reset(&mut self) {
        let received = &mut self.received;
        (received.deliveries, received.gaps, received.repeated) = (0, 0, 0);
        (received.alien, received.closed) = (0, 0);
        received.latency_ns.reset();
        received.completion_ns.reset();
    }

    /// Reads all that has arrived at the subscriber with this token; `false` if the token is none of theirs.
    #[inline]
    pub fn on_readable(&mut self, token: Token) -> bool {
        let index = token.0;
        if index >= self.subscribers.len() {
            return false;
        }
        // Taken out for the time, so that its bytes and the rest of `self` can be used together.
        let mut buffer = std::mem::take(&mut self.buffer);
        while self.subscribers[index].open {
            match self.subscribers[index].stream.read(&mut buffer) {
                Ok(0) => self.close(index),
                Ok(read) => {
                    self.absorb(index, &buffer[..read]);
                    // With edge-triggered epoll a short read has emptied the socket: what comes later is a new edge.
                    if read < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.close(index),
            }
        }
        self.buffer = buffer;
        true
    }

    /// Gives up waiting for publications that have not come: they count as gaps. Returns how many.
    pub fn give_up(&mut self) -> u64 {
        let (published, mut missing) = (self.progress.published(), 0);
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.open) {
            missing += published - subscriber.next;
            self.progress.advance(subscriber.next, published, |_| {});
            subscriber.next = published;
        }
        self.received.gaps += missing;
        missing
    }

    #[inline]
    fn absorb(&mut self, index: usize, bytes: &[u8]) {
        let now_ns = self.clock.now_ns();
        let published = self.progress.published();
        let (subscriber, received) = (&mut self.subscribers[index], &mut self.received);
        let before = subscriber.next;
        let mut run = Run { next: before, intended_ns: 0, length: 0 };
        let mut control = None;
        let scanned = subscriber.scanner.scan(bytes, |frame| match Stamp::read(frame.prefix) {
            Some(stamp) if frame.opcode == wire::BINARY && stamp.sequence < published => {
                run.add(stamp, now_ns, received);
            }
            _ => control = Control::of(frame, received).or(control),
        });
        run.record(now_ns, received);
        subscriber.next = run.next;
        let completion_ns = &mut received.completion_ns;
        self.progress.advance(before, run.next, |intended_ns| {
            completion_ns.saturating_record(now_ns.saturating_sub(intended_ns));
        });
        match control {
            Some(Control::Ping(length, prefix)) => self.pong(index, &prefix[..length]),
            Some(Control::Close) => self.close(index),
            None => {}
        }
        if scanned.is_err() {
            self.received.alien += 1;
            self.close(index);
        }
    }

    /// Answers a ping. Payloads over [`PREFIX_LEN`] bytes come back cut, which still is a sign of life.
    #[cold]
    fn pong(&mut self, index: usize, payload: &[u8]) {
        let mut frame = Vec::with_capacity(wire::MAX_HEADER_LEN + payload.len());
        wire::push_client_frame(wire::PONG, payload, &mut frame);
        // Nothing else is ever written here, so the socket has room; if it has not, the server disconnects us.
        let _ = self.subscribers[index].stream.write(&frame);
    }

    #[cold]
    fn close(&mut self, index: usize) {
        let (subscriber, now_ns) = (&mut self.subscribers[index], self.clock.now_ns());
        if std::mem::replace(&mut subscriber.open, false) {
            self.received.closed += 1;
            let completion_ns = &mut self.received.completion_ns;
            self.progress.leave(subscriber.next, |intended_ns| {
                completion_ns.saturating_record(now_ns.saturating_sub(intended_ns));
            });
        }
    }
}

/// Deliveries in a row with the same intended time, which are recorded in one step.
struct Run {
    next: u64,
    intended_ns: u64,
    length: u64,
}

impl Run {
    #[inline(always)]
    fn add(&mut self, stamp: Stamp, now_ns: u64, received: &mut Received) {
        if stamp.sequence != self.next {
            if stamp.sequence < self.next {
                received.repeated += 1;
                return;
            }
            received.gaps += stamp.sequence - self.next;
        }
        self.next = stamp.sequence + 1;
        if stamp.intended_ns != self.intended_ns {
            self.record(now_ns, received);
            self.intended_ns = stamp.intended_ns;
        }
        self.length += 1;
    }

    #[inline]
    fn record(&mut self, now_ns: u64, received: &mut Received) {
        if self.length > 0 {
            received.deliveries += self.length;
            received.latency_ns.saturating_record_n(now_ns.saturating_sub(self.intended_ns), self.length);
            self.length = 0;
        }
    }
}

/// What a subscriber has to react to.
#[derive(Clone, Copy)]
enum Control {
    Ping(usize, [u8; PREFIX_LEN]),
    Close,
}

impl Control {
    #[cold]
    fn of(frame: ScannedFrame<'_>, received: &mut Received) -> Option<Self> {
        match frame.opcode {
            wire::CLOSE => Some(Self::Close),
            wire::PING => {
                let mut payload = [0; PREFIX_LEN];
                payload[..frame.prefix.len()].copy_from_slice(frame.prefix);
                Some(Self::Ping(frame.prefix.len(), payload))
            }
            wire::PONG => None,
            _ => {
                received.alien += 1;
                None
            }
        }
    }
}
