//! The latencies of a single subscriber, small enough to be kept for each of very many: enough for a median.
//!
//! Eight buckets an octave from about 1 µs to 17 s: the median is off by at most 4.5 % (half a bucket) and less where it
//! can be interpolated.

/// The first bucket begins here: 2^10 ns.
const FIRST_OCTAVE: u32 = 10;
const OCTAVES: usize = 24;
const BUCKETS: usize = OCTAVES * 8;

/// A compact histogram of one subscriber's latencies, allocated with the first one.
#[derive(Debug, Clone, Default)]
pub struct Medians {
    counts: Option<Box<Counts>>,
}

#[derive(Debug, Clone)]
struct Counts {
    buckets: [u16; BUCKETS],
    /// A count of one in a bucket stands for two to the power of this.
    shift: u32,
    /// Latencies that are not in a bucket yet, fewer than one in a bucket stands for.
    carried: u64,
}

impl Medians {
    /// Adds `count` times the same latency.
    #[inline]
    pub fn record_n(&mut self, ns: u64, count: u64) {
        let counts = self.counts.get_or_insert_with(|| Box::new(Counts::default()));
        counts.carried += count;
        let bucket = bucket_of(ns);
        match counts.taken().and_then(|taken| counts.buckets[bucket].checked_add(taken)) {
            Some(sum) => counts.put(bucket, sum),
            None => counts.put_by_halving(bucket),
        }
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        if let Some(counts) = &mut self.counts {
            **counts = Counts::default();
        }
    }

    /// The median, interpolated within its bucket; `None` if there is nothing.
    pub fn median_ns(&self) -> Option<u64> {
        let counts = &self.counts.as_deref()?.buckets;
        let half = counts.iter().map(|count| f64::from(*count)).sum::<f64>() / 2.0;
        let mut below = 0.0;
        for (bucket, count) in counts.iter().map(|count| f64::from(*count)).enumerate() {
            if count > 0.0 && below + count >= half {
                let (from, to) = (lower_bound_ns(bucket), lower_bound_ns(bucket + 1));
                return Some((from + (to - from) * (half - below) / count) as u64);
            }
            below += count;
        }
        None
    }
}

impl Default for Counts {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], shift: 0, carried: 0 }
    }
}

impl Counts {
    /// What of the carried latencies goes to a bucket, if a bucket can hold it.
    #[inline]
    fn taken(&self) -> Option<u16> {
        u16::try_from(self.carried >> self.shift).ok()
    }

    #[inline]
    fn put(&mut self, bucket: usize, sum: u16) {
        self.buckets[bucket] = sum;
        self.carried &= (1 << self.shift) - 1;
    }

    /// A bucket is full: from now on one in a bucket stands for twice as many, until there is room.
    #[cold]
    fn put_by_halving(&mut self, bucket: usize) {
        loop {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
            self.shift += 1;
            if let Some(sum) = self.taken().and_then(|taken| self.buckets[bucket].checked_add(taken)) {
                return self.put(bucket, sum);
            }
        }
    }
}

#[inline]
fn bucket_of(ns: u64) -> usize {
    let ns = ns.max(1 << FIRST_OCTAVE);
    let octave = ns.ilog2();
    // The three bits below the highest tell the eighth of the octave.
    let eighth = (ns >> (octave - 3)) as usize & 7;
    (((octave - FIRST_OCTAVE) as usize) * 8 + eighth).min(BUCKETS - 1)
}

fn lower_bound_ns(bucket: usize) -> f64 {
    let (octave, eighth) = (bucket / 8, bucket % 8);
    f64::from(1_u32 << FIRST_OCTAVE) * f64::from(1_u32 << octave.min(31)) * (1.0 + eighth as f64 / 8.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_median_is_within_a_bucket_of_the_sorted_list_s(latencies in prop::collection::vec(2_000_u64..5_000_000_000, 1..200)) {
            let mut medians = Medians::default();
            latencies.iter().for_each(|ns| medians.record_n(*ns, 1));
            let mut sorted = latencies;
            sorted.sort_unstable();
            let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
            let median = medians.median_ns().unwrap() as f64;
            prop_assert!(median >= low as f64 / 1.126 && median <= high as f64 * 1.126, "{median}: {low}, {high}");
        }

        #[test]
        fn buckets_hold_what_lies_between_their_bounds(ns in 1_024_u64..17_000_000_000) {
            let bucket = bucket_of(ns);
            prop_assert!(lower_bound_ns(bucket) <= ns as f64 && (ns as f64) < lower_bound_ns(bucket + 1));
        }

        #[test]
        fn any_number_of_latencies_keeps_the_median(small in 1_u64..1_000_000, large in 1_u64..1_000_000) {
            prop_assume!(small.abs_diff(large) > small.max(large) / 100);
            let mut medians = Medians::default();
            medians.record_n(10_000, small);
            medians.record_n(10_000_000, large);
            let median = medians.median_ns().unwrap();
            prop_assert_eq!(median > 1_000_000, large > small);
        }
    }

    #[test]
    fn it_is_small_and_empty_until_used() {
        assert!(size_of::<Counts>() <= 700 && size_of::<Medians>() == 8);
        let mut medians = Medians::default();
        assert_eq!(medians.median_ns(), None);
        medians.record_n(0, 1);
        medians.record_n(u64::MAX, 1);
        assert!(medians.median_ns().is_some());
        medians.clear();
        assert_eq!(medians.median_ns(), None);
    }
}
