//! Who is who: which connections there are, what each is for, and which worker has it.
//!
//! A pure function of the checked scenario and the number of members (workers, in whatever processes). Connections are
//! numbered from 0: publishers first, then subscribers, slow readers, stalled ones, churners, idle ones. All publishers
//! belong to member 0, so that there is one schedule in one place; the others are dealt out in turn.
//!
//! A *stream* is a publisher and a topic, with sequence numbers of its own. With P publishers and T topics there are
//! max(P, T) streams; stream s is that of publisher s mod P and topic s mod T. So with at least as many topics as
//! publishers every topic is one publisher's, else every publisher has one topic.

use serde::{Deserialize, Serialize};

use crate::load::skew::Spread;
use crate::scenario::{PublishVia, Scenario};
use crate::units::Amount;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Publishes.
    Publisher,
    /// Its deliveries are measured.
    Subscriber,
    /// Subscribed, reads slowly.
    Slow,
    /// Subscribed, reads nothing.
    Stalled,
    /// Subscribed, leaves and comes back.
    Churning,
    /// Connected only.
    Idle,
}

impl Role {
    /// All of them, in the order of connection numbers.
    pub const ALL: [Self; 6] =
        [Self::Publisher, Self::Subscriber, Self::Slow, Self::Stalled, Self::Churning, Self::Idle];

    /// Those who are subscribed to a topic.
    pub const SUBSCRIBED: [Self; 4] = [Self::Subscriber, Self::Slow, Self::Stalled, Self::Churning];

    /// Its name in a tally.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Subscriber => "subscriber",
            Self::Slow => "slow",
            Self::Stalled => "stalled",
            Self::Churning => "churning",
            Self::Idle => "idle",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub id: u64,
    /// What it is for.
    pub role: Role,
    /// Its topic; meaningless for publishers and idle ones.
    pub topic: u32,
    /// The worker that has it.
    pub member: u32,
}

/// Everybody.
#[derive(Debug, Clone)]
pub struct Roster {
    /// How many there are of each role, in the order of [`Role::ALL`].
    counts: [u64; 6],
    topics: u32,
    members: u32,
    spread: Spread,
    publish_via: PublishVia,
}

impl Roster {
    /// The roster of `scenario` for so many workers (at least 1).
    pub fn new(scenario: &Scenario, members: u32) -> Self {
        let connections = &scenario.connections;
        let amount = |amount: Amount| amount.of(connections.total);
        let (slow, stalled) = (amount(connections.slow), amount(connections.stalled));
        let (churning, idle) = (amount(connections.churning), amount(connections.idle));
        let publishers = connections.publishers;
        let subscribers = connections.subscribers();
        Self {
            counts: [publishers, subscribers, slow, stalled, churning, idle],
            topics: scenario.topics.count.max(1),
            members: members.max(1),
            spread: Spread::new(&scenario.topics),
            publish_via: connections.publish_via,
        }
    }

    /// How many connections there are in all.
    pub fn connections(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many there are of a role.
    pub fn count(&self, role: Role) -> u64 {
        self.counts[role.index()]
    }

    /// How many topics there are, at least 1.
    pub fn topics(&self) -> u32 {
        self.topics
    }

    /// How many workers there are, at least 1.
    pub fn members(&self) -> u32 {
        self.members
    }

    /// How publications are made.
    pub fn publish_via(&self) -> PublishVia {
        self.publish_via
    }

    /// Connection number `id`, if there is one.
    pub fn place(&self, id: u64) -> Option<Place> {
        let mut first = 0;
        for role in Role::ALL {
            let (n, total) = (id - first, self.count(role));
            if n < total {
                let topic = if Role::SUBSCRIBED.contains(&role) { self.spread.topic(n, total) } else { 0 };
                return Some(Place { id, role, topic, member: self.member(id) });
            }
            first += total;
        }
        None
    }

    /// The worker of connection number `id`.
    fn member(&self, id: u64) -> u32 {
        match id.checked_sub(self.count(Role::Publisher)) {
            None => 0,
            Some(n) => (n % u64::from(self.members)) as u32,
        }
    }

    /// The connections of a worker, in the order of their numbers.
    pub fn of_member(&self, member: u32) -> impl Iterator<Item = Place> + '_ {
        (0..self.connections()).filter(move |id| self.member(*id) == member).filter_map(|id| self.place(id))
    }

    /// How many streams there are: none without a publisher.
    pub fn streams(&self) -> u32 {
        match self.count(Role::Publisher) {
            0 => 0,
            publishers => u32::try_from(publishers).unwrap_or(u32::MAX).max(self.topics),
        }
    }

    /// The publisher of a stream: its connection number.
    pub fn publisher_of(&self, stream: u32) -> u64 {
        u64::from(stream) % self.count(Role::Publisher).max(1)
    }

    /// The topic of a stream.
    pub fn topic_of(&self, stream: u32) -> u32 {
        stream % self.topics
    }

    /// The streams of a topic, in order: the first has the topic's number, each further one is [`Self::topics`] higher.
    pub fn streams_of(&self, topic: u32) -> impl Iterator<Item = u32> + use<> {
        (topic..self.streams()).step_by(self.topics as usize)
    }

    /// Which of the streams of `topic` this one is, if it is one of them.
    #[inline]
    pub fn rank_in(&self, topic: u32, stream: u32) -> Option<usize> {
        let is_one = stream % self.topics == topic && stream < self.streams();
        is_one.then_some((stream / self.topics) as usize)
    }

    /// Of each topic, how many connections of `role` a worker has.
    pub fn subscribed(&self, role: Role, member: u32) -> Vec<u64> {
        let mut counts = vec![0; self.topics as usize];
        for place in self.of_member(member).filter(|place| place.role == role) {
            counts[place.topic as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::{Connections, Skew, Topics};

    fn scenario(counts: [u64; 6], topics: u32, skew: Skew) -> Scenario {
        let [publishers, subscribers, slow, stalled, churning, idle] = counts;
        let [slow, stalled, churning, idle] = [slow, stalled, churning, idle].map(Amount::Count);
        let connections =
            Connections { publishers, subscribers, slow, stalled, churning, idle, ..Connections::default() };
        let topics = Topics { count: topics, subscribers: skew, ..Topics::default() };
        Scenario { connections, topics, ..Scenario::default() }
    }

    proptest! {
        #[test]
        fn everybody_is_there_once_with_the_role_that_was_asked_for(
            counts in prop::array::uniform6(0_u64..30),
            topics in 1_u32..8,
            zipf: bool,
            members in 1_u32..5,
        ) {
            let skew = if zipf { Skew::Zipf } else { Skew::Uniform };
            let roster = Roster::new(&scenario(counts, topics, skew), members);
            let mut seen: Vec<Place> = (0..members).flat_map(|member| roster.of_member(member)).collect();
            let sizes: Vec<usize> =
                (0..members).map(|m| seen.iter().filter(|place| place.member == m && place.role != Role::Publisher).count()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
            seen.sort_by_key(|place| place.id);
            prop_assert_eq!(seen.iter().map(|place| place.id).collect::<Vec<_>>(), (0..roster.connections()).collect::<Vec<_>>());
            for role in Role::ALL {
                let of_role = seen.iter().filter(|place| place.role == role);
                prop_assert_eq!(of_role.clone().count() as u64, counts[role.index()]);
                prop_assert!(role != Role::Publisher || of_role.clone().all(|place| place.member == 0));
                let subscribed: u64 = (0..members).flat_map(|member| roster.subscribed(role, member)).sum();
                prop_assert_eq!(subscribed, counts[role.index()]);
            }
            prop_assert_eq!(roster.place(roster.connections()), None);
        }

        #[test]
        fn every_stream_is_one_of_its_topic_and_nobody_is_left_out(publishers in 0_u64..20, topics in 1_u32..20) {
            let roster = Roster::new(&scenario([publishers, 1, 0, 0, 0, 0], topics, Skew::Uniform), 1);
            let mut streams: Vec<u32> = (0..topics).flat_map(|topic| roster.streams_of(topic)).collect();
            for topic in 0..topics {
                prop_assert!(roster.streams_of(topic).all(|stream| roster.topic_of(stream) == topic));
                prop_assert!(roster.streams_of(topic).enumerate().all(|(n, stream)| roster.rank_in(topic, stream) == Some(n)));
                let beyond = topic + roster.streams().next_multiple_of(topics);
                prop_assert_eq!(roster.rank_in(topic, beyond), None);
                prop_assert!(topics == 1 || roster.rank_in(topic, topic + 1).is_none());
                prop_assert_eq!(roster.streams_of(topic).next(), (publishers > 0).then_some(topic));
            }
            streams.sort();
            prop_assert_eq!(streams, (0..roster.streams()).collect::<Vec<_>>());
            let publishing: std::collections::BTreeSet<u64> =
                (0..roster.streams()).map(|stream| roster.publisher_of(stream)).collect();
            prop_assert_eq!(publishing, (0..publishers).collect());
        }
    }

    #[test]
    fn shares_are_of_the_total_and_subscribers_are_what_is_left() {
        let mut scenario = scenario([2, 999, 0, 0, 0, 0], 1, Skew::Uniform);
        scenario.connections.total = 1_000;
        scenario.connections.slow = Amount::Percent(5.0);
        scenario.connections.idle = Amount::Percent(10.0);
        scenario.connections.stalled = Amount::Count(3);
        let roster = Roster::new(&scenario, 3);
        assert_eq!(Role::ALL.map(|role| roster.count(role)), [2, 845, 50, 3, 0, 100]);
        assert_eq!(roster.connections(), 1_000);
    }
}
