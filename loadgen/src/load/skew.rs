//! How publications and subscribers are spread over topics.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, Zipf};

use crate::scenario::{Skew, Topics};

/// Which topic each publication goes to, one after the other.
#[derive(Debug, Clone)]
pub struct TopicPicker {
    topics: u32,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    InTurn(u32),
    Zipf(Zipf<f64>, Box<Xoshiro256PlusPlus>),
}

impl TopicPicker {
    /// Uniform: the topics in turn. Zipf: drawn at random, by `seed`.
    pub fn new(topics: &Topics, seed: u64) -> Self {
        let count = topics.count.max(1);
        let zipf = (topics.publications == Skew::Zipf).then(|| Zipf::new(f64::from(count), topics.zipf_exponent).ok());
        let way = match zipf.flatten() {
            Some(zipf) => Way::Zipf(zipf, Box::new(Xoshiro256PlusPlus::seed_from_u64(seed))),
            None => Way::InTurn(0),
        };
        Self { topics: count, way }
    }

    /// The topic of the next publication.
    #[inline]
    pub fn pick(&mut self) -> u32 {
        match &mut self.way {
            Way::InTurn(next) => {
                let topic = *next;
                *next = if topic + 1 == self.topics { 0 } else { topic + 1 };
                topic
            }
            // Ranks count from 1.
            Way::Zipf(zipf, random) => (zipf.sample(&mut **random) as u32).clamp(1, self.topics) - 1,
        }
    }
}

/// Which topic each of a number of connections is subscribed to.
#[derive(Debug, Clone)]
pub struct Spread {
    topics: u32,
    /// For Zipf: the share of all topics up to this one.
    shares: Option<Vec<f64>>,
}

impl Spread {
    /// The spread of subscribers over `topics`.
    pub fn new(topics: &Topics) -> Self {
        let count = topics.count.max(1);
        let shares = (topics.subscribers == Skew::Zipf).then(|| {
            let mut sum = 0.0;
            let mut shares: Vec<f64> = (1..=count)
                .map(|rank| {
                    sum += f64::from(rank).powf(-topics.zipf_exponent);
                    sum
                })
                .collect();
            shares.iter_mut().for_each(|share| *share /= sum);
            shares
        });
        Self { topics: count, shares }
    }

    /// The topic of connection number `n` of `total`. Uniform: the topics in turn. Zipf: each topic has its share of
    /// `total`, to the nearest whole number.
    pub fn topic(&self, n: u64, total: u64) -> u32 {
        match &self.shares {
            None => (n % u64::from(self.topics)) as u32,
            Some(shares) => {
                let at = (n as f64 + 0.5) / total.max(1) as f64;
                shares.partition_point(|share| *share <= at).min(shares.len() - 1) as u32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topics(count: u32, skew: Skew, zipf_exponent: f64) -> Topics {
        Topics { count, subscribers: skew, publications: skew, zipf_exponent, ..Topics::default() }
    }

    proptest! {
        #[test]
        fn uniform_differs_by_at_most_one(count in 1_u32..50, total in 0_u64..500) {
            let topics = topics(count, Skew::Uniform, 1.0);
            let (mut picker, spread) = (TopicPicker::new(&topics, 1), Spread::new(&topics));
            let (mut picked, mut subscribed) = (vec![0_u64; count as usize], vec![0_u64; count as usize]);
            for n in 0..total {
                picked[picker.pick() as usize] += 1;
                subscribed[spread.topic(n, total) as usize] += 1;
            }
            for counts in [picked, subscribed] {
                prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
            }
        }

        #[test]
        fn zipf_gives_each_topic_its_share_of_subscribers(count in 1_u32..50, total in 1_u64..2_000, s in 0.0_f64..2.0) {
            let spread = Spread::new(&topics(count, Skew::Zipf, s));
            let mut subscribed = vec![0_u64; count as usize];
            (0..total).for_each(|n| subscribed[spread.topic(n, total) as usize] += 1);
            let sum: f64 = (1..=count).map(|rank| f64::from(rank).powf(-s)).sum();
            for (topic, subscribers) in subscribed.iter().enumerate() {
                let share = (topic as f64 + 1.0).powf(-s) / sum * total as f64;
                prop_assert!((*subscribers as f64 - share).abs() <= 1.0, "topic {topic}: {subscribers}, not {share}");
            }
        }
    }

    #[test]
    fn zipf_publications_come_with_their_frequencies_and_again_with_the_same_seed() {
        let topics = topics(10, Skew::Zipf, 1.0);
        let picks = |seed| {
            let mut picker = TopicPicker::new(&topics, seed);
            (0..100_000).map(|_| picker.pick()).collect::<Vec<_>>()
        };
        let (first, sum) = (picks(3), (1..=10).map(|rank| 1.0 / f64::from(rank)).sum::<f64>());
        for topic in 0..10_u32 {
            let expected = 100_000.0 / f64::from(topic + 1) / sum;
            let count = first.iter().filter(|picked| **picked == topic).count() as f64;
            assert!((count - expected).abs() < 5.0 * expected.sqrt(), "topic {topic}: {count}, not {expected}");
        }
        assert_eq!(first, picks(3));
        assert_ne!(first, picks(4));
    }
}
