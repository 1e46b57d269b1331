//! All connections to one target, in whatever threads and processes: the conductor's side.

use std::time::Duration;

use crate::failure::Failure;
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
    /// The length of an [`Interval`].
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
pub struct Fleet {}

impl Fleet {
    /// Starts the workers (threads, or processes if the scenario or the open-file limit asks for them). Connects nothing.
    pub fn start(_scenario: &Scenario) -> Result<Self, Failure> {
        Err(Failure::failed("not yet"))
    }

    /// Makes all connections. More failures than the scenario allows are a [`Failure::Failed`] that names the causes.
    pub fn connect(&mut self, _watch: &mut dyn Watch) -> Result<Connecting, Failure> {
        Err(Failure::failed("not yet"))
    }

    /// Drives a load over the connections and waits until everything is delivered, or the drain timeout has passed. May
    /// be called again: sequence numbers go on, figures begin anew.
    pub fn drive(&mut self, _drive: &Drive, _watch: &mut dyn Watch) -> Result<Driven, Failure> {
        Err(Failure::failed("not yet"))
    }

    /// Ends all connections in order (close frame, a moment for the answer) and all workers.
    pub fn close(self) {}
}
