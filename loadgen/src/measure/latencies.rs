//! A histogram of durations in nanoseconds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as V2Reader, Serializer as _, V2DeflateSerializer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

/// The longest duration that is told apart from longer ones: an hour.
pub const LONGEST_NS: u64 = 3_600_000_000_000;

/// Durations in nanoseconds, three significant digits from 1 ns to [`LONGEST_NS`]; longer ones count as that.
///
/// Serialised as base64 of the HDR V2 compressed form, which other HdrHistogram tools read.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds and digits are constants that are allowed"))
    }
}

impl Latencies {
    /// Adds one duration.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds `count` times the same duration.
    #[inline]
    pub fn record_n(&mut self, ns: u64, count: u64) {
        self.0.saturating_record_n(ns, count);
    }

    /// Adds all that `other` holds; nothing is lost.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many durations there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The duration below or at which this share (0 to 1) of all lies, in nanoseconds; 0 if there are none.
    pub fn quantile_ns(&self, quantile: f64) -> u64 {
        if self.is_empty() { 0 } else { self.0.value_at_quantile(quantile) }
    }

    /// The longest, in nanoseconds; 0 if there are none.
    pub fn max_ns(&self) -> u64 {
        if self.is_empty() { 0 } else { self.0.max() }
    }

    /// The mean, in nanoseconds.
    pub fn mean_ns(&self) -> f64 {
        self.0.mean()
    }

    /// The histogram itself, for the writers of other formats.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The base64 text that is also the serialised form.
    pub fn to_base64(&self) -> Result<String, String> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).map_err(|error| error.to_string())?;
        Ok(STANDARD.encode(bytes))
    }

    /// Reads [`Self::to_base64`], or what another HdrHistogram tool has written.
    pub fn from_base64(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let read: Histogram<u64> =
            V2Reader::new().deserialize(&mut bytes.as_slice()).map_err(|error| error.to_string())?;
        let mut latencies = Self::default();
        latencies.0.add(read).map_err(|error| error.to_string())?;
        Ok(latencies)
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64().map_err(ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(|error| D::Error::custom(format!("no histogram: {error}")))
    }
}
