//! All connections to one target, in whatever threads and processes: the conductor's side.
//!
//! | Module | What it is |
//! |---|---|
//! | `message` | orders and reports |
//! | `member` | worker threads of this process |
//! | `process` | worker processes, and what they run |
//! | `muster` | how many workers of what kind there are |
//! | `conduct` | the connection phase and the drives |

mod conduct;
mod member;
pub mod message;
mod muster;
pub mod process;

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::failure::Failure;
use crate::fleet::member::ThreadLink;
use crate::fleet::message::{Order, Report};
use crate::fleet::process::ProcessLink;
use crate::load::Roster;
use crate::measure::{Connecting, Interval, Measurement};
use crate::scenario::{Load, Scenario};

/// What a fleet is to do once it is connected.
#[derive(Debug, Clone, PartialEq)]
pub struct Drive {
    /// Publications.
    pub load: Load,
    /// Load before the measured time.
    pub warmup: Duration,
    /// The measured time.
    pub duration: Duration,
    /// How long deliveries are waited for afterwards.
    pub drain_timeout: Duration,
    /// A reconnect storm, so long after the beginning of the measured time.
    pub storm_at: Option<Duration>,
    /// The length of an [`Interval`]; zero for none.
    pub interval: Duration,
}

/// Who looks on.
pub trait Watch {
    /// Ten times a second or so while connections are made.
    fn connecting(&mut self, _so_far: &Connecting) {}
    /// At the end of each interval, warm-up included.
    fn interval(&mut self, _interval: &Interval) {}
    /// Asked often: whether to end in order, now.
    fn is_stopped(&self) -> bool {
        false
    }
}

/// What a drive gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Driven {
    /// Everything measured.
    pub measurement: Measurement,
    /// The course of it.
    pub intervals: Vec<Interval>,
    /// Whether [`Watch::is_stopped`] ended it before its time.
    pub stopped: bool,
}

/// All connections to one target.
#[derive(Debug)]
pub struct Fleet {
    scenario: Scenario,
    roster: Roster,
    /// Before the links, and so dropped before them: no worker waits for room in it when it is to end.
    reports: Receiver<(u32, Report)>,
    links: Vec<Link>,
    /// Publications of each stream so far.
    published: Vec<u64>,
    drives: u64,
}

/// The way to one or more workers.
#[derive(Debug)]
enum Link {
    Thread(ThreadLink),
    Process(ProcessLink),
}

impl Link {
    /// Tells an order to a worker, or to all of this link.
    fn tell(&mut self, to: Option<u32>, order: &Order) -> Result<(), Failure> {
        match self {
            Self::Thread(thread) => {
                thread.tell(to, order);
                Ok(())
            }
            Self::Process(process) => process.tell(to, order),
        }
    }
}

impl Fleet {
    /// Whether [`Self::start`] would refuse the scenario: to be asked before anything is written.
    ///
    /// # Errors
    /// As those of [`Self::start`], but for workers that do not start.
    pub fn check(scenario: &Scenario) -> Result<(), Failure> {
        muster::check(scenario).map(drop)
    }

    /// Starts the workers (threads, or processes if the scenario or the open-file limit asks for them). Connects nothing.
    ///
    /// Worker processes run this program with the argument `worker`: see [`process::serve_orders`].
    ///
    /// # Errors
    /// [`Failure::Usage`] for a core that cannot be pinned to, too few processes for the open-file limit, or a way of
    /// speaking that wants more publishers; what [`Target::of`](crate::target::Target::of) says; workers that do not start.
    pub fn start(scenario: &Scenario) -> Result<Self, Failure> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| Failure::failed(format!("this program cannot be found: {error}")))?;
        Self::start_with(scenario, &(program, vec!["worker".into()]))
    }

    /// As [`Self::start`], with another program and its arguments for worker processes.
    ///
    /// # Errors
    /// As those of [`Self::start`].
    pub fn start_with(scenario: &Scenario, program: &(PathBuf, Vec<String>)) -> Result<Self, Failure> {
        muster::start(scenario, program)
    }

    /// Makes all connections. More failures than the scenario allows are a [`Failure::Failed`] that names the causes. If
    /// [`Watch::is_stopped`] ends it, what was made until then is told.
    ///
    /// # Errors
    /// More failures than allowed; a worker that ended.
    pub fn connect(&mut self, watch: &mut dyn Watch) -> Result<Connecting, Failure> {
        conduct::connect(self, watch)
    }

    /// Drives a load over the connections and waits until everything is delivered, or the drain timeout has passed. May
    /// be called again: sequence numbers go on, figures begin anew.
    ///
    /// # Errors
    /// A worker that ended.
    pub fn drive(&mut self, drive: &Drive, watch: &mut dyn Watch) -> Result<Driven, Failure> {
        conduct::drive(self, drive, watch)
    }

    /// Ends all connections in order (close frame, a moment for the answer) and all workers.
    pub fn close(mut self) {
        conduct::close(&mut self);
    }

    /// How many workers there are, in all processes.
    pub fn members(&self) -> u32 {
        self.roster.members()
    }

    /// How many processes have them; 1 if they are threads of this one.
    pub fn processes(&self) -> u32 {
        let processes = self.links.iter().filter(|link| matches!(link, Link::Process(_))).count();
        (processes as u32).max(1)
    }

    /// Tells an order to all workers.
    fn tell_all(&mut self, order: &Order) -> Result<(), Failure> {
        self.links.iter_mut().try_for_each(|link| link.tell(None, order))
    }

    /// Tells an order to the worker that publishes.
    fn tell_publisher(&mut self, order: &Order) -> Result<(), Failure> {
        self.links.first_mut().map_or(Ok(()), |link| link.tell(Some(0), order))
    }
}

#[cfg(test)]
mod tests;
