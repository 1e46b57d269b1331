//! One connection's place in a worker, kept while connections come and go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::client::Client;
use crate::load::{Place, Role, Roster};
use crate::worker::books::Follower;

/// A place for a connection.
#[derive(Debug)]
pub struct Seat {
    /// Whose it is.
    pub place: Place,
    /// The connection, if there is one.
    pub client: Option<Client>,
    /// What it receives, if it is subscribed.
    pub follower: Option<Follower>,
    /// Distinguishes its connections in the poll's tokens and in alarms.
    pub generation: u32,
    /// How far it is.
    pub state: State,
    /// What the next or current attempt to connect is for.
    pub attempt: Attempt,
    /// When the current attempt was begun.
    pub begun_ns: u64,
    /// A slow reader reads nothing before this time.
    pub read_at_ns: u64,
    /// Whether it is on the list of those to be looked at.
    pub is_listed: bool,
    /// Whether permessage-deflate was agreed on.
    pub is_deflated: bool,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is none.
    Away,
    /// From connect to the end of the opening conversation.
    Opening,
    /// It can be used.
    Open,
    /// It has said goodbye, and waits for the answer.
    Leaving,
}

/// What a connection is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The connection phase.
    First,
    /// Coming back in a storm.
    Storm,
    /// A churner coming back.
    Churn,
}

impl Seat {
    /// A place without a connection.
    pub fn new(place: Place, roster: &Roster) -> Self {
        let is_subscribed = Role::SUBSCRIBED.contains(&place.role);
        Self {
            place,
            client: None,
            follower: is_subscribed.then(|| Follower::new(place.role, place.topic, roster)),
            generation: 0,
            state: State::Away,
            attempt: Attempt::First,
            begun_ns: 0,
            read_at_ns: 0,
            is_listed: false,
            is_deflated: false,
        }
    }

    /// The connection is over; what is said of it from now on is not said of the next.
    pub fn clear(&mut self) -> Option<Client> {
        self.state = State::Away;
        self.generation = self.generation.wrapping_add(1) & 0x3fff_ffff;
        self.client.take()
    }
}

/// Something to be done later with a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// The opening takes too long, or the answer to a goodbye.
    Timeout,
    /// A slow reader may read on.
    Read,
    /// A churner leaves.
    Leave,
    /// Try to connect again.
    Again,
    /// Say something, unasked.
    Heartbeat,
}

/// What is to be done when. Alarms of connections that are gone are passed over by their generation.
#[derive(Debug, Default)]
pub struct Alarms(BinaryHeap<Reverse<(u64, u32, u32, Alarm)>>);

impl Alarms {
    /// Sets an alarm for the connection of this generation at place number `slot`.
    pub fn set(&mut self, at_ns: u64, slot: u32, generation: u32, alarm: Alarm) {
        self.0.push(Reverse((at_ns, slot, generation, alarm)));
    }

    /// When the next one is; `u64::MAX` for never.
    pub fn next_ns(&self) -> u64 {
        self.0.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns)
    }

    /// One whose time has come: place, generation, alarm.
    pub fn take(&mut self, now_ns: u64) -> Option<(u32, u32, Alarm)> {
        if self.next_ns() > now_ns {
            return None;
        }
        self.0.pop().map(|Reverse((_, slot, generation, alarm))| (slot, generation, alarm))
    }
}
