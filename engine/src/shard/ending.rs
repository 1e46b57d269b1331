//! How far the end of the engine has come: one number that all threads look at, and that only grows.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

/// A step of the end; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is not ending.
    Serving,
    /// Everything as before, only that it says it is not ready any more.
    Draining,
    /// Nobody is let in any more, and connections are closed one after the other.
    Stopping,
    /// Nothing is published any more; whoever is left is closed.
    Silent,
}

/// The end of the engine.
#[derive(Debug)]
pub struct Ending {
    /// A [`Phase`], for the shards.
    phase: AtomicU8,
    /// The same for tasks, which can wait for it.
    news: watch::Sender<Phase>,
    begun: AtomicBool,
    /// No time is given for anything any more.
    hurried: Mutex<bool>,
    hurry: Condvar,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            news: watch::Sender::new(Phase::Serving),
            begun: AtomicBool::new(false),
            hurried: Mutex::new(false),
            hurry: Condvar::new(),
        }
    }
}

impl Ending {
    /// Whether the end has come so far.
    #[must_use]
    pub fn has_reached(&self, phase: Phase) -> bool {
        // In one order with the flag by which a shard says that it has to be woken.
        self.phase.load(Ordering::SeqCst) >= phase as u8
    }

    /// Goes on to a phase, unless it is past that. The shards have to be woken then.
    pub fn reach(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::SeqCst);
        self.news.send_modify(|present| *present = phase.max(*present));
    }

    /// Tells whoever waits for phases.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<Phase> {
        self.news.subscribe()
    }

    /// True for the first who asks: who begins the end.
    #[must_use]
    pub fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::SeqCst)
    }

    /// Ends all waiting, present and to come.
    pub fn hurry(&self) {
        *self.hurried.lock() = true;
        self.hurry.notify_all();
    }

    /// Whoever waits looks again whether there is still a reason to.
    pub fn look_again(&self) {
        let _hurried = self.hurried.lock();
        self.hurry.notify_all();
    }

    /// Waits so long, unless it has to hurry.
    pub fn wait(&self, duration: Duration) {
        self.wait_unless(duration, || false);
    }

    /// Waits so long, unless it has to hurry or there is no reason any more; see [`look_again`](Self::look_again).
    pub fn wait_unless(&self, duration: Duration, needless: impl Fn() -> bool) {
        let until = Instant::now() + duration;
        let mut hurried = self.hurried.lock();
        while !*hurried && !needless() && !self.hurry.wait_until(&mut hurried, until).timed_out() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_grow_and_tasks_hear_of_them() {
        let ending = Ending::default();
        let news = ending.news();
        assert!(ending.has_reached(Phase::Serving) && !ending.has_reached(Phase::Draining));
        ending.reach(Phase::Silent);
        ending.reach(Phase::Draining);
        assert!(ending.has_reached(Phase::Stopping));
        assert_eq!(*news.borrow(), Phase::Silent);
        assert!(ending.begin() && !ending.begin());
    }

    #[test]
    fn what_need_not_be_waited_for_any_more_is_not() {
        let (ending, needless) = (Ending::default(), AtomicBool::new(false));
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| ending.wait_unless(Duration::from_secs(600), || needless.load(Ordering::SeqCst)));
            needless.store(true, Ordering::SeqCst);
            ending.look_again();
        });
        ending.wait(Duration::from_millis(1));
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn whoever_hurries_ends_the_waiting_of_others() {
        let ending = Ending::default();
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| ending.wait(Duration::from_secs(600)));
            ending.hurry();
        });
        ending.wait(Duration::from_secs(600));
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
