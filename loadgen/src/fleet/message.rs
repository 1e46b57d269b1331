//! What conductor and workers say to each other: over channels within a process, as lines of JSON between processes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::{Connecting, Interval, Measurement};
use crate::scenario::{Load, Scenario};
use crate::verify::Step;

/// The first thing a worker process is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// What is to be done.
    pub scenario: Scenario,
    /// By this number the markers of this run are told from those of others.
    pub run: u64,
    /// All workers of the run, in whatever processes.
    pub members: u32,
    /// The first worker of this process.
    pub first_member: u32,
    /// How many it has.
    pub own_members: u32,
}

/// From the conductor to a worker. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Make all connections, beginning at this time.
    Connect {
        /// When the first is due.
        at_ns: u64,
    },
    /// Make no more connections: the phase has failed or was stopped.
    StopConnecting,
    /// Offer a load and see what comes.
    Drive(DriveOrder),
    /// With several workers, to the one that publishes: all others are ready to receive.
    Begin,
    /// In a closed loop with several workers: so many publications of this drive have passed everybody.
    Credit {
        /// Since the drive began.
        passed: u64,
    },
    /// In a closed loop with several workers: nobody is subscribed to these streams' topics.
    Unattended {
        /// The streams.
        streams: Vec<u32>,
    },
    /// All is published: wait for the rest, but not beyond `until_ns`.
    Drain {
        /// Publications of each stream since the fleet was started.
        published: Vec<u64>,
        /// When what has not come is lost.
        until_ns: u64,
    },
    /// End the measured time at `at_ns` if it would end later.
    Stop {
        /// The new end.
        at_ns: u64,
    },
    /// Say goodbye and end.
    Close,
}

/// A drive as a worker is told. Times are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriveOrder {
    /// Publications.
    pub load: Load,
    /// Of what is random in this drive.
    pub seed: u64,
    /// When the load begins.
    pub begin_ns: u64,
    /// When the measured time begins.
    pub measured_ns: u64,
    /// When it ends.
    pub end_ns: u64,
    /// How long publications that could not be sent are tried for after the end.
    pub drain_timeout_ns: u64,
    /// When all subscribers drop their connections.
    pub storm_ns: Option<u64>,
    /// The length of an interval; 0 for none.
    pub interval_ns: u64,
}

/// From a worker to the conductor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// It is there.
    Started,
    /// How far the connection phase is.
    Connecting {
        /// Opened.
        connected: u64,
        /// Failed, by cause.
        failures: BTreeMap<String, u64>,
    },
    /// The connection phase is over.
    Connected(Box<Connecting>),
    /// With several workers, at the beginning of a drive: its subscribers of each topic.
    Attending(Vec<u32>),
    /// With several workers: what became of publications, seen from its subscribers.
    Steps(Vec<Step>),
    /// A piece of time is over.
    Interval {
        /// Which: 0 begins with the measured time, those of the warm-up are negative.
        index: i64,
        /// What was seen in it.
        interval: Box<Interval>,
    },
    /// From the publishing worker: publications of each stream since the fleet was started; no more will come.
    Published(Vec<u64>),
    /// The drive is over.
    Driven(Box<Measurement>),
    /// It has said goodbye.
    Closed,
    /// It cannot go on, for this reason.
    Failed(String),
}
