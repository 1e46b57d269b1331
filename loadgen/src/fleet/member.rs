//! A worker thread of this process.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded, unbounded};
use mio::Waker;

use crate::failure::Failure;
use crate::fleet::message::{Order, Report};
use crate::worker::{Plan, Worker};

/// The way to a worker thread. When it is dropped, the worker ends.
#[derive(Debug)]
pub struct ThreadLink {
    member: u32,
    /// Orders are few, and a worker takes them every turn.
    orders: Option<Sender<Order>>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

/// Says that a worker has panicked, for which there is no other way.
struct LastWords(u32, Sender<(u32, Report)>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.1.send((self.0, Report::Failed(format!("worker thread {} has panicked", self.0))));
        }
    }
}

impl ThreadLink {
    /// Starts a worker, pinned to a core if there is one for it.
    ///
    /// # Errors
    /// A core it cannot be pinned to; out of files or threads.
    pub fn start(plan: Plan, reports: Sender<(u32, Report)>) -> Result<Self, Failure> {
        let (member, (orders, its_orders)) = (plan.member, unbounded());
        let (made, is_made) = bounded(1);
        let run = move || {
            let _last_words = LastWords(member, reports.clone());
            let worker = pin(&plan).and_then(|()| {
                let failed = |error| Failure::failed(format!("worker {member} cannot be made: {error}"));
                Worker::new(plan, its_orders, reports).map_err(failed)
            });
            match worker {
                Ok((worker, waker)) => {
                    let _ = made.send(Ok(waker));
                    worker.run();
                }
                Err(failure) => {
                    let _ = made.send(Err(failure));
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("worker {member}")).spawn(run);
        let thread = thread.map_err(|error| Failure::failed(format!("worker {member} cannot be started: {error}")))?;
        let ended = |_| Failure::failed(format!("worker {member} ended before it began"));
        let waker = is_made.recv().map_err(ended)??;
        Ok(Self { member, orders: Some(orders), waker, thread: Some(thread) })
    }

    /// Tells it an order, if it is meant.
    pub fn tell(&self, to: Option<u32>, order: &Order) {
        if to.is_none_or(|member| member == self.member)
            && let Some(orders) = &self.orders
        {
            // It is gone: its last report says why.
            let _ = orders.send(order.clone());
            let _ = self.waker.wake();
        }
    }
}

impl Drop for ThreadLink {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Pins this thread to the core that is its turn.
fn pin(plan: &Plan) -> Result<(), Failure> {
    let cores = &plan.scenario.client.pin;
    let Some(core) = cores.get(plan.member as usize % cores.len().max(1)) else {
        return Ok(());
    };
    match core_affinity::set_for_current(core_affinity::CoreId { id: *core }) {
        true => Ok(()),
        false => Err(Failure::failed(format!("client.pin: worker {} cannot be pinned to core {core}", plan.member))),
    }
}
