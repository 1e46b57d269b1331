//! The order in which an engine ends: see [`Phase`]. What there is to wait for in between, a thread of its own waits for, so
//! that whoever begins the end need not, and nobody's failure holds it up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::shard::ending::Phase;
use crate::shard::shared::Shared;

/// Begins the end, once.
pub fn begin(shared: &Arc<Shared>) {
    let has_failed = shared.failed.load(Ordering::Acquire);
    if has_failed {
        // The share of new connections that the lost shard would get is not served: no time may be lost.
        shared.ending.hurry();
    }
    if !shared.ending.begin() {
        return;
    }
    let settings = shared.settings();
    // Whoever has taken over listens where this one did: no load balancer has to look elsewhere.
    let succeeded = shared.succession.given.load(Ordering::SeqCst);
    let grace = if succeeded { Duration::ZERO } else { settings.shutdown_grace };
    let spread = settings.shutdown_spread;
    if has_failed || (grace.is_zero() && spread.is_zero()) {
        return reach(shared, Phase::Silent);
    }
    let own = Arc::clone(shared);
    let conductor = thread::Builder::new().name("fanfare-shutdown".into());
    if let Err(error) = conductor.spawn(move || conduct(&own, grace, spread)) {
        tracing::error!(%error, "no thread for the shutdown: it leaves out shutdown_grace and shutdown_spread");
        reach(shared, Phase::Silent);
    }
}

/// Ends at once.
pub fn abort(shared: &Shared) {
    shared.aborting.store(true, Ordering::Release);
    let _ = shared.ending.begin();
    shared.ending.hurry();
    reach(shared, Phase::Silent);
}

fn conduct(shared: &Shared, grace: Duration, spread: Duration) {
    let (grace_ms, spread_ms) = (grace.as_millis() as u64, spread.as_millis() as u64);
    if !grace.is_zero() {
        tracing::info!(grace_ms, "not ready any more; serving on until load balancers have noticed");
        reach(shared, Phase::Draining);
        shared.ending.wait_unless(grace, || shared.succession.given.load(Ordering::SeqCst));
    }
    let connections = shared.metrics.iter().map(|metrics| metrics.open.get()).sum::<u64>();
    tracing::info!(connections, spread_ms, "nobody is let in any more; closing the connections");
    if !spread.is_zero() {
        reach(shared, Phase::Stopping);
        shared.ending.wait(spread);
    }
    reach(shared, Phase::Silent);
}

fn reach(shared: &Shared, phase: Phase) {
    if phase >= Phase::Stopping && !shared.is_stopping() {
        // Copies that were to be passed on would keep the listeners open behind the backs of the shards.
        shared.holdings.iter().for_each(|holding| holding.let_go());
    }
    shared.ending.reach(phase);
    for inbox in &shared.inboxes.0 {
        inbox.wake();
    }
}
