//! Writes a result as the run goes, so that a killed run keeps what it had.
//!
//! `report.json` is replaced as a whole (written beside itself, then renamed), so a reader never sees half a one. It is
//! written at the beginning, when a repetition begins or ends, at most every two seconds while intervals come, and at the
//! end. What an interval or a repetition becomes in JSON is kept as text, so writing again costs little.
//!
//! The first error (disk full, no permission) is kept: the run goes on, and whoever ends it is told.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::measure::{Connecting, Interval, Latencies, Measurement};
use crate::record::folder::REPORT_FILE;
use crate::record::{Ceiling, Environment, Repetition, Report, ServerUsage, hgrm, hlog};
use crate::scenario::Scenario;

/// The interval log's name.
pub const LOG_FILE: &str = "corrected.hlog";

/// What `report.json` is called while it is written.
const PART_FILE: &str = "report.json.part";

/// Repetitions beyond this one have no percentile files of their own; what is in them is in `report.json`.
pub const PERCENTILE_FILES_MAX: usize = 12;

/// The shortest time from one write to the next while intervals come.
const WRITE_EVERY: Duration = Duration::from_secs(2);

/// Writing may take this part of the time at most: the next one waits so many times as long as the last one took.
const WRITE_SHARE: u32 = 100;

/// The writer of one result.
#[derive(Debug)]
pub struct Recorder {
    folder: PathBuf,
    /// Everything but the repetition under way.
    report: Report,
    /// The finished repetitions as they stand in the file.
    finished: Vec<Box<RawValue>>,
    under_way: Option<UnderWay>,
    log: Option<hlog::Log>,
    begun: Instant,
    write_after: Instant,
    /// Whether writes wait for [`WRITE_EVERY`]; tests do without.
    paced: bool,
    failure: Option<Failure>,
}

/// A repetition that has not ended; its intervals are kept as text.
#[derive(Debug)]
struct UnderWay {
    repetition: Repetition,
    intervals: Vec<Box<RawValue>>,
    /// When the measured time begins, after the beginning of the run in nanoseconds; known with the first interval.
    origin_ns: Option<i64>,
}

/// A [`Report`] as it is written, its repetitions being text already.
#[derive(Serialize)]
struct WrittenReport<'a> {
    format: &'a str,
    version: u32,
    created: &'a str,
    command: &'a [String],
    scenario: &'a Scenario,
    environment: &'a Environment,
    complete: bool,
    ended_early: &'a Option<String>,
    ceiling: &'a Option<Ceiling>,
    repetitions: Vec<&'a RawValue>,
}

/// A [`Repetition`] as it is written, its intervals being text already.
#[derive(Serialize)]
struct WrittenRepetition<'a> {
    begun: &'a str,
    complete: bool,
    void: &'a [String],
    warnings: &'a [String],
    connecting: &'a Connecting,
    measurement: &'a Measurement,
    intervals: &'a [Box<RawValue>],
    server: &'a Option<ServerUsage>,
}

impl Recorder {
    /// Begins a result in a folder that is there, and writes `report` as it is, marked incomplete. `now` is the base time
    /// of the interval log.
    ///
    /// A file that cannot be written is a [`Failure::Failed`] that names it and gives the system's reason: it is better
    /// not to begin a run that cannot be kept.
    pub fn begin(folder: &Path, report: Report, now: OffsetDateTime) -> Result<Self, Failure> {
        let begun = Instant::now();
        let mut recorder = Self {
            folder: folder.to_owned(),
            finished: Vec::new(),
            report: Report { complete: false, ..report },
            under_way: None,
            log: None,
            begun,
            write_after: begun,
            paced: true,
            failure: None,
        };
        for repetition in &recorder.report.repetitions {
            let text = serde_json::value::to_raw_value(repetition);
            recorder.finished.push(text.map_err(|error| failed(&folder.join(REPORT_FILE), &error.into()))?);
        }
        let path = folder.join(LOG_FILE);
        let log = File::create(&path).and_then(|file| hlog::Log::begin(file, SystemTime::from(now)));
        recorder.log = Some(log.map_err(|error| failed(&path, &error))?);
        recorder.write()?;
        Ok(recorder)
    }

    /// The folder of the result.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is recorded, the repetition under way left out.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The first error, if there was one. The caller may end the run, or let it go on and keep its figures in memory.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Sets where the server listens and how it was called, which is known only when it runs.
    pub fn server(&mut self, url: &str, command: &[String]) {
        self.report.scenario.target.url = url.to_owned();
        self.report.environment.server_command = command.to_vec();
    }

    /// Sets what the machine can do; it is written with the next write.
    pub fn ceiling(&mut self, ceiling: Ceiling) {
        self.report.ceiling = Some(ceiling);
    }

    /// Begins a repetition. What is known of it already (`begun`, `connecting`) is in `repetition`.
    pub fn begin_repetition(&mut self, repetition: Repetition) -> Result<(), Failure> {
        let words = format!("[repetition {} begun {}]", self.finished.len() + 1, repetition.begun);
        self.append_log(|log| log.comment(&words));
        let repetition = Repetition { complete: false, ..repetition };
        self.under_way = Some(UnderWay { repetition, intervals: Vec::new(), origin_ns: None });
        self.write_and_keep()
    }

    /// Adds an interval of the repetition under way, at the moment it ended: to the log at once, to the report with the
    /// next write. Without a repetition under way it is left out.
    pub fn interval(&mut self, interval: &Interval) -> Result<(), Failure> {
        let now = Instant::now();
        self.interval_at(interval, now)?;
        if self.paced && now < self.write_after { self.outcome() } else { self.write_and_keep() }
    }

    fn interval_at(&mut self, interval: &Interval, now: Instant) -> Result<(), Failure> {
        let elapsed_ns = i64::try_from((now - self.begun).as_nanos()).unwrap_or(i64::MAX);
        let Some(under_way) = &mut self.under_way else { return Ok(()) };
        let length_ns = i64::try_from(interval.length_ns).unwrap_or(i64::MAX);
        let end_ns = interval.begin_ns.saturating_add(length_ns);
        let origin_ns = *under_way.origin_ns.get_or_insert_with(|| elapsed_ns.saturating_sub(end_ns));
        let begin_ns = u64::try_from(origin_ns.saturating_add(interval.begin_ns)).unwrap_or(0);
        match serde_json::value::to_raw_value(interval) {
            Ok(text) => under_way.intervals.push(text),
            Err(error) => self.keep(failed(&self.folder.join(REPORT_FILE), &error.into())),
        }
        self.append_log(|log| log.append(interval, Duration::from_nanos(begin_ns)));
        Ok(())
    }

    /// Ends the repetition under way, or adds one that was not begun: `repetition` takes its place, intervals included.
    /// Its percentile files are written too: `repetition-1.corrected.hgrm`, `….service.hgrm`, `….completion.hgrm`; only of
    /// the first [`PERCENTILE_FILES_MAX`], as the slices of an `ab` are many.
    pub fn end_repetition(&mut self, repetition: Repetition) -> Result<(), Failure> {
        self.under_way = None;
        let path = self.folder.join(REPORT_FILE);
        match serde_json::value::to_raw_value(&repetition) {
            Ok(text) => self.finished.push(text),
            Err(error) => self.keep(failed(&path, &error.into())),
        }
        let number = self.finished.len();
        if number <= PERCENTILE_FILES_MAX {
            self.write_percentiles(&format!("repetition-{number}."), &repetition.measurement);
        }
        self.report.repetitions.push(repetition);
        self.write_and_keep()
    }

    /// Ends the result in order and writes everything a last time, with the percentiles of all repetitions merged:
    /// `corrected.hgrm`, `service.hgrm`, `completion.hgrm`. `ended_early` says why the run ended before its time; only
    /// without it, and with no repetition under way, the result counts as complete.
    ///
    /// Gives the report as it was recorded, and the first error of the whole run if there was one: figures are worth
    /// showing even if they could not be kept.
    pub fn end(mut self, ended_early: Option<String>) -> (Report, Result<(), Failure>) {
        let mut merged = Measurement::default();
        for repetition in &self.report.repetitions {
            merged.corrected.merge(&repetition.measurement.corrected);
            merged.service.merge(&repetition.measurement.service);
            merged.completion.merge(&repetition.measurement.completion);
        }
        self.write_percentiles("", &merged);
        self.report.complete = ended_early.is_none() && self.under_way.is_none();
        self.report.ended_early = ended_early;
        if let Err(failure) = self.write() {
            self.keep(failure);
        }
        let outcome = self.outcome();
        if let Some(UnderWay { mut repetition, intervals, .. }) = self.under_way.take() {
            repetition.intervals = intervals.iter().filter_map(|text| serde_json::from_str(text.get()).ok()).collect();
            self.report.repetitions.push(repetition);
        }
        (self.report, outcome)
    }

    fn write_percentiles(&mut self, prefix: &str, measurement: &Measurement) {
        let histograms: [(&str, &Latencies); 3] = [
            ("corrected", &measurement.corrected),
            ("service", &measurement.service),
            ("completion", &measurement.completion),
        ];
        for (name, latencies) in histograms {
            let path = self.folder.join(format!("{prefix}{name}.hgrm"));
            if let Err(error) = fs::write(&path, hgrm::text(latencies)) {
                self.keep(failed(&path, &error));
            }
        }
    }

    fn append_log(&mut self, append: impl FnOnce(&mut hlog::Log) -> io::Result<()>) {
        if let Some(log) = &mut self.log
            && let Err(error) = append(log)
        {
            // Half a line may stand there now: nothing readable can follow it.
            self.log = None;
            self.keep(failed(&self.folder.join(LOG_FILE), &error));
        }
    }

    /// Keeps the first error only: the others follow from it.
    fn keep(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    fn outcome(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    fn write_and_keep(&mut self) -> Result<(), Failure> {
        if let Err(failure) = self.write() {
            self.keep(failure);
        }
        self.outcome()
    }

    fn write(&mut self) -> Result<(), Failure> {
        let from = Instant::now();
        let path = self.folder.join(REPORT_FILE);
        let written = self.text().and_then(|text| replace(&path, &self.folder.join(PART_FILE), &text));
        let took = from.elapsed();
        self.write_after = from + WRITE_EVERY.max(took * WRITE_SHARE);
        written.map_err(|error| failed(&path, &error))
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let under_way = self.under_way.as_ref().map(UnderWay::text).transpose()?;
        let Report { format, version, created, command, scenario, environment, complete, ended_early, ceiling, .. } =
            &self.report;
        Ok(serde_json::to_vec(&WrittenReport {
            format,
            version: *version,
            created,
            command,
            scenario,
            environment,
            complete: *complete,
            ended_early,
            ceiling,
            repetitions: self.finished.iter().chain(&under_way).map(AsRef::as_ref).collect(),
        })?)
    }
}

impl UnderWay {
    fn text(&self) -> io::Result<Box<RawValue>> {
        let Repetition { begun, complete, void, warnings, connecting, measurement, intervals: _, server } =
            &self.repetition;
        let intervals = &self.intervals;
        let complete = *complete;
        let written = WrittenRepetition { begun, complete, void, warnings, connecting, measurement, intervals, server };
        Ok(serde_json::value::to_raw_value(&written)?)
    }
}

/// Replaces a file as a whole: nobody ever sees half of it, and if it fails the old one stays.
fn replace(path: &Path, part: &Path, text: &[u8]) -> io::Result<()> {
    let written = File::create(part).and_then(|mut file| {
        file.write_all(text)?;
        file.write_all(b"\n")
    });
    let replaced = written.and_then(|()| fs::rename(part, path));
    if replaced.is_err() {
        // What is left of it is of no use, and takes room where there may be none.
        let _ = fs::remove_file(part);
    }
    replaced
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{} cannot be written: {error}", path.display()))
}

#[cfg(test)]
impl Recorder {
    /// From now on every interval is written at once.
    pub fn write_at_every_interval(&mut self) {
        self.paced = false;
    }
}
