//! The interval log: one histogram an interval, appended as the run goes, in the format of HdrHistogram's log tools.
//!
//! Times are seconds after the base time, which is when the result was begun. Intervals of the measured time bear the tag
//! `corrected`, those of the warm-up `warmup`; a comment says where each repetition begins. A log whose process was killed
//! ends with a whole line or with half a one, which readers skip.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::measure::Interval;

/// The scale of the third column, the greatest value: nanoseconds in a millisecond.
const SCALE: f64 = 1e6;

/// The head of a log whose times count from `base`.
pub fn head(base: SystemTime) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[corrected latencies in nanoseconds, by loadgen]")
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(SCALE)
        .begin_log_with(&mut text, &mut V2DeflateSerializer::new())?;
    text.extend_from_slice(
        b"\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    );
    Ok(text)
}

/// The line of one interval that began so long after the base time.
pub fn line(interval: &Interval, begin: Duration) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let tag = Tag::new(if interval.begin_ns < 0 { "warmup" } else { "corrected" });
    let length = Duration::from_nanos(interval.length_ns);
    let mut builder = IntervalLogWriterBuilder::new();
    let mut writer = builder.with_max_value_divisor(SCALE).begin_log_with(&mut text, &mut serializer)?;
    let written = writer.write_histogram(interval.corrected.histogram(), begin, length, tag);
    written.map_err(|error| io::Error::other(error.to_string()))?;
    // A log that is begun anew says its divisor in one line: that stands in the head already.
    let head_bytes = text.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Ok(text.split_off(head_bytes))
}

/// A comment line.
pub fn comment(words: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for line in words.lines() {
        text.push(b'#');
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
    }
    text
}

/// An open log; every line is written at once and in one piece.
#[derive(Debug)]
pub struct Log(File);

impl Log {
    /// Begins a log with its [`head`] in a new, empty file.
    pub fn begin(mut file: File, base: SystemTime) -> io::Result<Self> {
        file.write_all(&head(base)?)?;
        Ok(Self(file))
    }

    /// Appends the [`line()`] of an interval.
    pub fn append(&mut self, interval: &Interval, begin: Duration) -> io::Result<()> {
        self.0.write_all(&line(interval, begin)?)
    }

    /// Appends a [`comment`].
    pub fn comment(&mut self, words: &str) -> io::Result<()> {
        self.0.write_all(&comment(words))
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use proptest::prelude::*;

    use super::*;
    use crate::measure::Latencies;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn another_reader_reads_every_interval_back(
            intervals in prop::collection::vec((prop::collection::vec(1_u64..1_000_000_000, 0..20), any::<bool>()), 0..8)
        ) {
            let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
            let mut log = head(base).unwrap();
            let mut written = Vec::new();
            for (n, (values, warmup)) in intervals.into_iter().enumerate() {
                let mut interval = Interval { length_ns: 1_000_000_000, ..Interval::default() };
                interval.begin_ns = if warmup { -1 } else { 1 };
                values.iter().for_each(|ns| interval.corrected.record(*ns));
                log.extend(comment(&format!("repetition {n}")));
                log.extend(line(&interval, Duration::from_secs(n as u64)).unwrap());
                written.push(interval);
            }
            let mut read = Vec::new();
            for entry in IntervalLogIterator::new(&log) {
                match entry.expect("a line that can be read") {
                    LogEntry::StartTime(time) | LogEntry::BaseTime(time) => prop_assert_eq!(time.as_secs(), 1_800_000_000),
                    LogEntry::Interval(interval) => read.push(interval),
                }
            }
            prop_assert_eq!(read.len(), written.len());
            for (n, (read, written)) in read.iter().zip(&written).enumerate() {
                prop_assert_eq!(Latencies::from_base64(read.encoded_histogram()).unwrap(), written.corrected.clone());
                prop_assert_eq!(read.start_timestamp(), Duration::from_secs(n as u64));
                prop_assert_eq!(read.duration(), Duration::from_secs(1));
                prop_assert!((read.max() - written.corrected.max_ns() as f64 / SCALE).abs() <= 0.001);
                let tag = if written.begin_ns < 0 { "warmup" } else { "corrected" };
                prop_assert_eq!(read.tag().map(|tag| tag.as_str()), Some(tag));
            }
        }
    }
}
