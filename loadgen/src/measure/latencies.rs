//! A histogram of durations in nanoseconds.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as V2Reader, Serializer as _, V2DeflateSerializer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest duration that is told apart from longer ones: an hour.
pub const LONGEST_NS: u64 = 3_600_000_000_000;

/// Durations in nanoseconds, three significant digits from 1 ns to [`LONGEST_NS`]; longer ones count as that.
///
/// Serialised as base64 of the HDR V2 compressed form, which other HdrHistogram tools read. One that is recorded to has
/// about 270 KiB; an empty one, and one that was read or [packed](Self::pack), has next to nothing.
#[derive(Clone, Default)]
pub struct Latencies(State);

#[derive(Clone, Default)]
enum State {
    #[default]
    Empty,
    Counting(Box<Histogram<u64>>),
    /// The compressed form, which [`Latencies::from_packed`] has read once: it can be read again.
    Packed(Vec<u8>),
}

impl Latencies {
    /// The histogram, to record to.
    #[inline]
    fn counting(&mut self) -> &mut Histogram<u64> {
        if !matches!(self.0, State::Counting(_)) {
            self.begin_counting();
        }
        match &mut self.0 {
            State::Counting(histogram) => histogram,
            State::Empty | State::Packed(_) => unreachable!("it was made to count above"),
        }
    }

    #[cold]
    fn begin_counting(&mut self) {
        self.0 = State::Counting(Box::new(self.histogram().into_owned()));
    }

    /// Adds one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.counting().saturating_record(ns);
    }

    /// Adds `count` times the same duration.
    #[inline]
    pub fn record_n(&mut self, ns: u64, count: u64) {
        self.counting().saturating_record_n(ns, count);
    }

    /// Adds all that `other` holds; nothing is lost.
    pub fn merge(&mut self, other: &Self) {
        if matches!(other.0, State::Empty) {
            return;
        }
        self.counting().add(&*other.histogram()).expect("both have the same bounds");
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        match &mut self.0 {
            State::Counting(histogram) => histogram.reset(),
            State::Empty | State::Packed(_) => self.0 = State::Empty,
        }
    }

    /// Gives the memory of the counts back; what is recorded stays, and takes some hundred bytes to a few KiB. For those
    /// that are kept and seldom looked at.
    pub fn pack(&mut self) {
        if let State::Counting(histogram) = &self.0 {
            self.0 = if histogram.is_empty() { State::Empty } else { State::Packed(packed(histogram)) };
        }
    }

    /// How many durations there are.
    pub fn len(&self) -> u64 {
        match &self.0 {
            State::Empty => 0,
            State::Counting(histogram) => histogram.len(),
            State::Packed(_) => self.histogram().len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The duration below or at which this share (0 to 1) of all lies, in nanoseconds; 0 if there are none.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        if self.is_empty() { 0 } else { self.histogram().value_at_quantile(quantile) }
    }

    /// The longest, in nanoseconds; 0 if there are none.
    pub fn max_ns(&self) -> u64 {
        if self.is_empty() { 0 } else { self.histogram().max() }
    }

    /// The mean, in nanoseconds; 0 if there are none.
    pub fn mean_ns(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.histogram().mean() }
    }

    /// The histogram itself, for the writers of other formats.
    pub fn histogram(&self) -> Cow<'_, Histogram<u64>> {
        match &self.0 {
            State::Empty => Cow::Owned(empty()),
            State::Counting(histogram) => Cow::Borrowed(histogram),
            State::Packed(bytes) => Cow::Owned(unpacked(bytes).expect("what was packed or read before can be read")),
        }
    }

    /// The base64 text that is also the serialised form.
    pub fn to_base64(&self) -> String {
        match &self.0 {
            State::Packed(bytes) => STANDARD.encode(bytes),
            State::Empty | State::Counting(_) => STANDARD.encode(packed(&self.histogram())),
        }
    }

    /// Reads [`Self::to_base64`], or what another HdrHistogram tool has written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_base64(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let histogram = unpacked(&bytes)?;
        Ok(Self(if histogram.is_empty() { State::Empty } else { State::Packed(bytes) }))
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds and digits are constants that are allowed")
}

fn packed(histogram: &Histogram<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).expect("writing to memory cannot fail");
    bytes
}

/// With our bounds, whatever those of the writer were.
fn unpacked(bytes: &[u8]) -> Result<Histogram<u64>, String> {
    let mut bytes = bytes;
    let read: Histogram<u64> = V2Reader::new().deserialize(&mut bytes).map_err(|error| error.to_string())?;
    let mut histogram = empty();
    histogram.add(read).map_err(|error| error.to_string())?;
    Ok(histogram)
}

/// Equal are those in which the same durations were recorded, as exactly as they are kept.
impl PartialEq for Latencies {
    fn eq(&self, other: &Self) -> bool {
        self.histogram() == other.histogram()
    }
}

/// A line, not thirty thousand counts.
impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quantile = |quantile| self.quantile_ns(quantile);
        let [p50, p99] = [quantile(0.5), quantile(0.99)];
        write!(f, "Latencies({}, p50 {p50} ns, p99 {p99} ns, max {} ns)", self.len(), self.max_ns())
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(|error| D::Error::custom(format!("no histogram: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Latencies {
        let mut latencies = Latencies::default();
        values.iter().for_each(|value| latencies.record(*value));
        latencies
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn packed_written_and_read_it_is_the_same(a in prop::collection::vec(1_u64..10_000_000_000, 0..50), b in prop::collection::vec(1_u64..10_000_000, 0..50)) {
            let (live, mut kept) = (of(&a), of(&a));
            kept.pack();
            prop_assert!(kept == live && kept.len() == a.len() as u64);
            let json = serde_json::to_string(&kept).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&live).unwrap());
            let read: Latencies = serde_json::from_str(&json).unwrap();
            prop_assert!(read == live);
            // Whatever state they are in, merging loses nothing.
            let both = of(&[a.as_slice(), &b].concat());
            for mut merged in [live, kept, read] {
                let mut other = of(&b);
                other.pack();
                merged.merge(&other);
                prop_assert!(merged == both);
            }
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_list(mut values in prop::collection::vec(1_u64..100_000_000_000, 1..300), quantile in 0.0_f64..=1.0) {
            let latencies = of(&values);
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let (found, exact) = (latencies.quantile_ns(quantile) as f64, values[rank - 1] as f64);
            prop_assert!((found / exact - 1.0).abs() <= 0.001, "{found} {exact}");
        }
    }

    #[test]
    fn what_is_no_histogram_is_refused() {
        for text in ["", "!", "AAAA", "HISTFAAAAA=="] {
            assert!(Latencies::from_base64(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_empty_one_is_told_in_a_line() {
        assert_eq!(format!("{:?}", Latencies::default()), "Latencies(0, p50 0 ns, p99 0 ns, max 0 ns)");
    }
}
