//! Whoever follows all topics gets every publication in its topic's order: the process that this one has succeeded, for the
//! subscribers it still has. Bounded; a follower that is too slow is let go, and its clients find out by their position.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::Mutex;

use crate::pubsub::Publication;

/// Publications that may wait for the follower.
const WAITING_MAX: usize = 65_536;
/// Bytes of them.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// The follower's end.
#[derive(Debug)]
pub struct Following {
    publications: Receiver<Arc<Publication>>,
    bytes: Arc<AtomicUsize>,
}

impl Following {
    /// The next publication, waited for so long; an error tells whether there may be more later.
    pub fn next(&self, patience: Duration) -> Result<Arc<Publication>, RecvTimeoutError> {
        let publication = self.publications.recv_timeout(patience)?;
        self.bytes.fetch_sub(publication.weight(), Ordering::Relaxed);
        Ok(publication)
    }
}

/// The way to a follower, if there is one.
#[derive(Debug, Default)]
pub struct Mirror {
    on: AtomicBool,
    sender: Mutex<Option<Sender<Arc<Publication>>>>,
    bytes: Arc<AtomicUsize>,
}

impl Mirror {
    /// Begins to show every publication; what is given back ends when the follower is let go.
    pub fn follow(&self) -> Following {
        let (sender, receiver) = bounded(WAITING_MAX);
        *self.sender.lock() = Some(sender);
        self.on.store(true, Ordering::Release);
        Following { publications: receiver, bytes: self.bytes.clone() }
    }

    /// Lets the follower go.
    pub fn release(&self) {
        self.on.store(false, Ordering::Release);
        *self.sender.lock() = None;
    }

    /// Shows a publication. Costs a look at a flag if nobody follows.
    pub fn show(&self, publication: &Arc<Publication>) {
        if !self.on.load(Ordering::Acquire) {
            return;
        }
        let mut sender = self.sender.lock();
        let Some(open) = &*sender else { return };
        let waiting = self.bytes.fetch_add(publication.weight(), Ordering::Relaxed);
        if waiting > WAITING_BYTES_MAX || open.try_send(publication.clone()).is_err() {
            self.on.store(false, Ordering::Release);
            *sender = None;
        }
    }
}
