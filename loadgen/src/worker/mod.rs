//! One worker: a thread, a poll, and its share of the connections.
//!
//! | Module | What it is |
//! |---|---|
//! | `turns` | the loop: poll, look at who is ready, publish what is due in between, alarms, orders |
//! | `connecting` | connections made, failed, dropped in a storm and made again |
//! | `looking` | one look at one connection, by its role |
//! | `sending` | publications sent |
//! | `driving` | the phases of a drive |
//! | `books`, `account` | what came, checked and counted (sans-IO) |
//! | `publishing`, `pace` | what is due, when connections are made (sans-IO) |
//! | `http_publisher` | a publisher by HTTP |
//! | `seat` | a connection's place, alarms |
//! | `sys`, `usage` | clock and timer, CPU and memory |
//!
//! Lag, the time what is ready waits in the worker, is recorded once a turn: from the return of the poll to the last look
//! of that turn. When the poll could not tell of all that was ready, the next turn counts from the first one's poll.

pub mod account;
pub mod books;
mod connecting;
mod driving;
pub mod http_publisher;
mod looking;
pub mod pace;
pub mod publishing;
mod seat;
mod sending;
pub mod sys;
mod turns;
pub mod usage;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use mio::{Events, Poll, Token, Waker};

use crate::client::Shared;
use crate::fleet::message::{Order, Report};
use crate::load::{Role, Roster};
use crate::measure::{Connecting, StormOutcome};
use crate::scenario::{PublishVia, Scenario};
use crate::target::{Publication, Target};
use crate::verify::PayloadReader;
use crate::worker::driving::Driving;
use crate::worker::http_publisher::HttpPublisher;
use crate::worker::pace::{Pace, Sources};
use crate::worker::publishing::Publishing;
use crate::worker::seat::{Alarms, Seat};
use crate::worker::sys::Timer;
use crate::worker::usage::OwnCpu;

pub use account::{Account, Completed, Window};
pub use books::{Books, Follower};

const WAKER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// Connections that one poll can tell of.
const EVENTS: usize = 4096;

/// What a worker is made from.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is to be done.
    pub scenario: Arc<Scenario>,
    /// How the server is spoken to.
    pub target: Arc<Target>,
    /// Who is who.
    pub roster: Roster,
    /// The number of the run, for the markers.
    pub run: u64,
    /// Which worker this is.
    pub member: u32,
}

/// A worker; made and run in its own thread.
#[derive(Debug)]
pub struct Worker {
    plan: Plan,
    poll: Poll,
    events: Events,
    timer: Timer,
    orders: Receiver<Order>,
    reports: Sender<(u32, Report)>,
    seats: Vec<Seat>,
    /// Publishers by HTTP: their numbers follow those of the seats.
    https: Vec<HttpPublisher>,
    shared: Shared,
    books: Books,
    publishing: Publishing,
    /// How publications of each stream look, made when first needed.
    publications: Vec<Option<Publication>>,
    /// The message being made.
    message: Vec<u8>,
    /// Publishers with something to flush.
    unflushed: Vec<u32>,
    pace: Pace,
    sources: Sources,
    alarms: Alarms,
    /// Places to be looked at.
    listed: Vec<u32>,
    /// Open connections.
    open: u64,
    /// Of each topic, the subscribers that are here.
    attending: Vec<u32>,
    connecting: Option<ConnectPhase>,
    storm: Option<Storm>,
    driving: Option<Driving>,
    /// Connections ended between drives, by cause.
    closed_between: BTreeMap<String, u64>,
    /// Publications of each stream up to the end of the last drive.
    published: Vec<u64>,
    cpu: OwnCpu,
    /// Since when what is ready now may have been ready, if the last poll could not tell of all.
    ready_since_ns: Option<u64>,
    closing_until_ns: Option<u64>,
    is_over: bool,
}

/// The connection phase, while it lasts.
#[derive(Debug, Default)]
struct ConnectPhase {
    figures: Connecting,
    begin_ns: u64,
    /// Publishers by HTTP that are neither connected nor have failed.
    https_left: u64,
    reported_ns: u64,
}

/// A storm, while it lasts and after it.
#[derive(Debug)]
struct Storm {
    outcome: StormOutcome,
    begin_ns: u64,
}

impl Worker {
    /// A worker that takes `orders` and gives `reports`; the waker tells it that there are orders.
    ///
    /// # Errors
    /// Of making a poll and a timer: out of files.
    pub fn new(plan: Plan, orders: Receiver<Order>, reports: Sender<(u32, Report)>) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (scenario, roster) = (&plan.scenario, &plan.roster);
        let bytes = usize::try_from(scenario.payload.bytes.0).unwrap_or(usize::MAX);
        let by_http = scenario.connections.publish_via == PublishVia::Http;
        let is_seat = |role| !(by_http && role == Role::Publisher);
        let seats: Vec<Seat> = roster
            .of_member(plan.member)
            .filter(|place| is_seat(place.role))
            .map(|place| Seat::new(place, roster))
            .collect();
        let https = if by_http && plan.member == 0 { roster.count(Role::Publisher) } else { 0 };
        let connect = &scenario.connect;
        let message_bytes_max = usize::try_from(scenario.client.message_bytes_max.0).unwrap_or(usize::MAX);
        let worker = Self {
            events: Events::with_capacity(EVENTS),
            shared: Shared::new(message_bytes_max),
            books: Books::new(
                roster.clone(),
                PayloadReader::new(bytes, scenario.payload.filler, plan.run, scenario.seed),
            ),
            publishing: Publishing::new(scenario, roster, plan.run),
            publications: vec![None; if plan.member == 0 { roster.streams() as usize } else { 0 }],
            pace: Pace::new(connect.rate_per_s, connect.concurrency, roster.members()),
            sources: Sources::new(&connect.bind, plan.target.address.ip(), plan.member),
            https: (0..https).map(|_| HttpPublisher::default()).collect(),
            published: vec![0; roster.streams() as usize],
            poll,
            timer,
            orders,
            reports,
            seats,
            message: Vec::new(),
            unflushed: Vec::new(),
            alarms: Alarms::default(),
            listed: Vec::new(),
            open: 0,
            attending: vec![0; roster.topics() as usize],
            connecting: None,
            storm: None,
            driving: None,
            closed_between: BTreeMap::new(),
            cpu: OwnCpu::of_this_thread(),
            ready_since_ns: None,
            closing_until_ns: None,
            is_over: false,
            plan,
        };
        Ok((worker, waker))
    }

    fn report(&self, report: Report) {
        // Nobody listens any more: the orders' end tells so at the next turn.
        let _ = self.reports.send((self.plan.member, report));
    }

    /// The name of a topic.
    fn topic_name(&self, topic: u32) -> String {
        self.plan.scenario.topics.name.replace("{n}", &topic.to_string())
    }

    /// The token of the connection at place number `slot`.
    fn token(slot: u32, generation: u32) -> Token {
        Token(slot as usize | (generation as usize) << 32)
    }
}
