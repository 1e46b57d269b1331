//! Counts what the shard threads of an engine in this very process allocate while it delivers.
//!
//! The program that uses this has [`CountingAllocator`](crate::sys::CountingAllocator) as its global allocator.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use crate::Result;
use crate::clock::Clock;
use crate::driver::{Stamp, SubscriberSet};
use crate::sys::{Allocations, exclude_this_thread};

const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// An engine in this process, whose shard threads bear the names that are counted.
pub trait Subject {
    /// Where it listens; every WebSocket there is subscribed at once to what [`Self::publish`] publishes.
    fn address(&self) -> SocketAddr;

    /// Publishes a binary message; `false` if there is no room for it now.
    fn publish(&self, payload: &[u8]) -> Result<bool>;
}

/// One measurement to make.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Subscribers.
    pub subscribers: usize,
    /// Publications counted.
    pub publications: u64,
    /// Publications before them that are not.
    pub warm_up: u64,
    /// Publications that may be on their way at the same time.
    pub in_flight: u64,
    /// Bytes of each payload.
    pub payload_bytes: usize,
}

impl Case {
    /// Deliveries counted.
    pub fn deliveries(&self) -> u64 {
        self.publications * self.subscribers as u64
    }
}

/// What was allocated in a case between warm-up and last delivery.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// The case.
    pub case: Case,
    /// By the shard threads.
    pub shards: Allocations,
    /// By all other threads, the subscribers' aside: the publishing thread and the engine's control thread.
    pub others: Allocations,
}

impl Counted {
    /// Shard allocations for each delivery that `more` has beyond `fewer`: what a delivery costs, when the publications
    /// are the same in number.
    pub fn per_delivery_between(fewer: &Self, more: &Self) -> f64 {
        let allocations = more.shards.calls as f64 - fewer.shards.calls as f64;
        allocations / (more.case.deliveries() - fewer.case.deliveries()) as f64
    }
}

/// What the subscribers' thread tells and is told.
#[derive(Default)]
struct Shared {
    ready: AtomicBool,
    /// Publications that all subscribers have.
    complete: AtomicU64,
    stop: AtomicBool,
}

/// Runs one case on a fresh subject.
pub fn count(subject: &impl Subject, case: Case) -> Result<Counted> {
    let shared = Shared::default();
    let total = case.warm_up + case.publications;
    let address = subject.address();
    thread::scope(|scope| {
        let client = thread::Builder::new()
            .name("subscribers".into())
            .spawn_scoped(scope, || subscribe(address, case.subscribers, total, &shared))?;
        let counted = publish_and_count(subject, case, &shared, || client.is_finished());
        shared.stop.store(true, Ordering::Release);
        client.join().map_err(|_| "the subscribers' thread panicked")??;
        counted
    })
}

fn publish_and_count(
    subject: &impl Subject,
    case: Case,
    shared: &Shared,
    is_over: impl Fn() -> bool,
) -> Result<Counted> {
    wait(&is_over, || shared.ready.load(Ordering::Acquire))?;
    if Allocations::of_shards().calls == 0 {
        return Err("no shard thread has ever allocated: are they named as they should be?".into());
    }
    let mut payload = vec![b'.'; case.payload_bytes.max(Stamp::LEN)];
    let mut publish = |sequences: std::ops::Range<u64>| {
        let end = sequences.end;
        for sequence in sequences {
            wait(&is_over, || sequence < shared.complete.load(Ordering::Acquire) + case.in_flight)?;
            payload[..Stamp::LEN].copy_from_slice(&Stamp { sequence, intended_ns: 0 }.to_bytes());
            while !subject.publish(&payload)? {
                thread::sleep(Duration::from_micros(100));
            }
        }
        wait(&is_over, || shared.complete.load(Ordering::Acquire) == end)
    };
    publish(0..case.warm_up)?;
    let (shards, others) = (Allocations::of_shards(), Allocations::of_others());
    publish(case.warm_up..case.warm_up + case.publications)?;
    let (shards, others) = (Allocations::of_shards().since(shards), Allocations::of_others().since(others));
    Ok(Counted { case, shards, others })
}

/// Waits for `condition`; fails if the subscribers' thread is over or the time is up.
fn wait(is_over: &impl Fn() -> bool, condition: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        if is_over() || start.elapsed() > STALL_TIMEOUT {
            return Err("the deliveries have stopped".into());
        }
        thread::sleep(Duration::from_micros(50));
    }
    Ok(())
}

/// The subscribers' thread: receives `publications`, all expected from the start, and allocates uncounted.
fn subscribe(address: SocketAddr, subscribers: usize, publications: u64, shared: &Shared) -> Result<()> {
    exclude_this_thread();
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let path = "/topics/bench?mode=subscribe";
    let mut set = SubscriberSet::connect(address, path, subscribers, poll.registry(), Clock::start())?;
    for _ in 0..publications {
        set.progress.publish(0);
    }
    // The answer to an upgrade may leave the server before the subscription is made.
    thread::sleep(Duration::from_millis(200));
    shared.ready.store(true, Ordering::Release);
    while !shared.stop.load(Ordering::Acquire) {
        poll.poll(&mut events, Some(Duration::from_millis(10)))?;
        for event in &events {
            set.on_readable(event.token());
        }
        let received = &set.received;
        if received.gaps + received.repeated + received.alien + received.closed > 0 {
            return Err(format!(
                "{} gaps, {} repeated, {} alien, {} closed",
                received.gaps, received.repeated, received.alien, received.closed
            )
            .into());
        }
        shared.complete.store(set.progress.lowest(), Ordering::Release);
    }
    Ok(())
}
