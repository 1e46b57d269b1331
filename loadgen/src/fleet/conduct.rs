//! The connection phase and the drives: orders to all, reports put together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::failure::Failure;
use crate::fleet::message::{DriveOrder, Order, Report};
use crate::fleet::{Drive, Driven, Fleet, Link, Watch};
use crate::measure::{Connecting, Interval, Measurement, OwnWorker};
use crate::scenario::LoadKind;
use crate::units::Amount;
use crate::verify::{Parties, Step};
use crate::worker::sys::monotonic_ns;
use crate::worker::{Completed, Window};

/// How often it is asked whether to stop, at least.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How often a watcher is told of connections.
const TELL_EVERY: Duration = Duration::from_millis(100);

/// How much later than it should a worker may end a drive before it counts as stuck: it may be short of CPU time.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// How long the answers to goodbyes may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// From an order to the moment it is about: time enough for every worker to hear it.
fn lead_ns(fleet: &Fleet) -> u64 {
    match fleet.links.first() {
        Some(Link::Process(_)) => 30_000_000,
        _ => 2_000_000,
    }
}

/// A report, if one comes in time. A worker that cannot go on is the end.
fn next_report(fleet: &Fleet) -> Result<Option<(u32, Report)>, Failure> {
    match fleet.reports.recv_timeout(ASK_EVERY) {
        Ok((_, Report::Failed(why))) => Err(Failure::failed(why)),
        Ok(report) => Ok(Some(report)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(Failure::failed("all workers have ended")),
    }
}

/// See [`Fleet::connect`].
pub(super) fn connect(fleet: &mut Fleet, watch: &mut dyn Watch) -> Result<Connecting, Failure> {
    let (members, wanted) = (fleet.members() as usize, fleet.roster.connections());
    let begin_ns = monotonic_ns() + lead_ns(fleet);
    fleet.tell_all(&Order::Connect { at_ns: begin_ns })?;
    let mut so_far = vec![(0, BTreeMap::new()); members];
    let mut whole = Connecting::default();
    let (mut left, mut told, mut is_stopping, mut has_failed) = (members, Instant::now(), false, false);
    while left > 0 {
        match next_report(fleet)? {
            Some((member, Report::Connecting { connected, failures })) => {
                so_far[member as usize] = (connected, failures);
            }
            Some((member, Report::Connected(figures))) => {
                so_far[member as usize] = (figures.connected, figures.failures.clone());
                whole.merge(&figures);
                left -= 1;
            }
            _ => {}
        }
        let failures: u64 = so_far.iter().flat_map(|(_, failures)| failures.values()).sum();
        has_failed = failures > allowed(fleet.scenario.connect.failures_max, wanted);
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            watch.connecting(&sum(&so_far, wanted, begin_ns));
        }
        if (has_failed || watch.is_stopped()) && !std::mem::replace(&mut is_stopping, true) {
            fleet.tell_all(&Order::StopConnecting)?;
        }
    }
    watch.connecting(&whole);
    if has_failed { Err(too_many_failures(&whole, fleet)) } else { Ok(whole) }
}

fn allowed(failures_max: Amount, wanted: u64) -> u64 {
    match failures_max {
        Amount::Count(count) => count,
        Amount::Percent(percent) => (percent / 100.0 * wanted as f64) as u64,
    }
}

fn sum(so_far: &[(u64, BTreeMap<String, u64>)], wanted: u64, begin_ns: u64) -> Connecting {
    let elapsed_ns = monotonic_ns().saturating_sub(begin_ns);
    let mut sum = Connecting { wanted, elapsed_ns, ..Connecting::default() };
    for (connected, failures) in so_far {
        sum.connected += connected;
        for (cause, count) in failures {
            *sum.failures.entry(cause.clone()).or_default() += count;
        }
    }
    sum
}

fn too_many_failures(figures: &Connecting, fleet: &Fleet) -> Failure {
    let causes: Vec<String> = figures.failures.iter().map(|(cause, count)| format!("{count} × {cause}")).collect();
    let failures: u64 = figures.failures.values().sum();
    let (wanted, max) = (figures.wanted, fleet.scenario.connect.failures_max);
    let (url, causes) = (&fleet.scenario.target.url, causes.join(", "));
    Failure::failed(format!(
        "{failures} of {wanted} connections to {url} failed (connect.failures_max is {max}): {causes}"
    ))
}

/// What a drive gives, as it comes together.
struct Score {
    window: Window,
    members: u32,
    base: Vec<u64>,
    whole: Measurement,
    /// By member, whoever is the first to end.
    workers: BTreeMap<u32, Vec<OwnWorker>>,
    left: u32,
    /// By index: from how many workers, and the sum.
    pieces: BTreeMap<i64, (u32, Interval)>,
    intervals: Vec<Interval>,
    completion: Option<Whole>,
}

/// Completion over several workers.
struct Whole {
    /// Of each worker, its subscribers of each topic.
    attending: Vec<Option<Vec<u32>>>,
    /// Steps that came before everybody had told who attends.
    early: Vec<(u32, Vec<Step>)>,
    parties: Parties,
    completed: Completed,
    /// Streams that have subscribers.
    attended: Vec<bool>,
    /// Whether all workers have told who attends, and whether the publisher was told.
    is_attended: bool,
    is_told: bool,
}

/// See [`Fleet::drive`].
pub(super) fn drive(fleet: &mut Fleet, drive: &Drive, watch: &mut dyn Watch) -> Result<Driven, Failure> {
    let order = order_of(fleet, drive);
    let mut window = Window { begin_ns: order.measured_ns, end_ns: order.end_ns };
    let mut score = Score::new(fleet, window);
    let (is_closed, mut credited, mut is_stopped) = (drive.load.kind == LoadKind::Closed, 0, Stopped::No);
    fleet.drives += 1;
    fleet.tell_all(&Order::Drive(order))?;
    // Nothing is published later than a drain timeout after the end, and nothing waited for later than another one.
    let drain_ns = nanoseconds(drive.drain_timeout);
    let stuck_ns = window.end_ns.saturating_add(drain_ns.saturating_mul(2)).saturating_add(nanoseconds(STUCK_AFTER));
    let (mut is_published, mut attending) = (false, 0);
    while score.left > 0 {
        let report = next_report(fleet)?;
        if matches!(report, Some((_, Report::Attending(_)))) {
            attending += 1;
            // What is published before a worker has heard of the drive would be nobody's there.
            if attending == fleet.members() {
                fleet.tell_publisher(&Order::Begin)?;
            }
        }
        if let Some((_, Report::Published(published))) = &report {
            fleet.published.clone_from(published);
            is_published = true;
            let until_ns = monotonic_ns().saturating_add(if is_stopped == Stopped::InDrain { 0 } else { drain_ns });
            fleet.tell_all(&Order::Drain { published: published.clone(), until_ns })?;
        }
        if let Some((member, report)) = report {
            score.take(fleet, member, report, watch);
        }
        if let Some(streams) = score.take_unattended().filter(|_| is_closed) {
            fleet.tell_publisher(&Order::Unattended { streams })?;
        }
        if let Some(passed) = score.passed().filter(|passed| is_closed && *passed > credited) {
            credited = passed;
            fleet.tell_publisher(&Order::Credit { passed })?;
        }
        let now_ns = monotonic_ns();
        let at_ns = now_ns + lead_ns(fleet);
        if is_stopped == Stopped::No && watch.is_stopped() {
            if at_ns < window.end_ns {
                is_stopped = Stopped::InTime;
                window.stop(at_ns);
                score.window = window;
            } else {
                is_stopped = Stopped::InDrain;
            }
            fleet.tell_all(&Order::Stop { at_ns })?;
            if is_published && is_stopped == Stopped::InDrain {
                fleet.tell_all(&Order::Drain { published: fleet.published.clone(), until_ns: at_ns })?;
            }
        }
        if now_ns > stuck_ns {
            let left = score.left;
            return Err(Failure::failed(format!("{left} of {} workers do not answer", fleet.members())));
        }
    }
    Ok(score.end(fleet, is_stopped != Stopped::No))
}

/// Whether, and when, somebody has ended a drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    No,
    /// Before the measured time was over: what was published is waited for.
    InTime,
    /// After it: nothing is waited for any longer.
    InDrain,
}

fn order_of(fleet: &Fleet, drive: &Drive) -> DriveOrder {
    let begin_ns = monotonic_ns() + lead_ns(fleet);
    let measured_ns = begin_ns.saturating_add(nanoseconds(drive.warmup));
    DriveOrder {
        load: drive.load.clone(),
        // Each drive has arrivals of its own.
        seed: fleet.scenario.seed.wrapping_add(fleet.drives),
        begin_ns,
        measured_ns,
        end_ns: measured_ns.saturating_add(nanoseconds(drive.duration)),
        drain_timeout_ns: nanoseconds(drive.drain_timeout),
        storm_ns: drive.storm_at.map(|at| measured_ns.saturating_add(nanoseconds(at))),
        interval_ns: nanoseconds(drive.interval),
    }
}

impl Score {
    fn new(fleet: &Fleet, window: Window) -> Self {
        let (members, streams) = (fleet.members(), fleet.roster.streams());
        let completion = (members > 1).then(|| Whole {
            attending: vec![None; members as usize],
            early: Vec::new(),
            parties: Parties::new(streams),
            completed: Completed::default(),
            attended: vec![false; streams as usize],
            is_attended: false,
            is_told: false,
        });
        Self {
            window,
            members,
            base: fleet.published.clone(),
            whole: Measurement::default(),
            workers: BTreeMap::new(),
            left: members,
            pieces: BTreeMap::new(),
            intervals: Vec::new(),
            completion,
        }
    }

    fn take(&mut self, fleet: &Fleet, member: u32, report: Report, watch: &mut dyn Watch) {
        match report {
            Report::Attending(people) => {
                if let Some(whole) = &mut self.completion {
                    whole.attend(fleet, member, people, &self.base, self.window);
                }
            }
            Report::Steps(steps) => {
                if let Some(whole) = &mut self.completion {
                    whole.take(member, steps, self.window);
                }
            }
            Report::Interval { index, interval } => self.take_interval(index, *interval, watch),
            Report::Driven(mut measurement) => {
                self.workers.insert(member, std::mem::take(&mut measurement.workers));
                self.whole.merge(&measurement);
                self.left -= 1;
            }
            _ => {}
        }
    }

    /// An interval is told of when all workers have told of theirs.
    fn take_interval(&mut self, index: i64, interval: Interval, watch: &mut dyn Watch) {
        let piece = self.pieces.entry(index).or_default();
        if piece.0 == 0 {
            piece.1 = interval;
        } else {
            piece.1.merge(&interval);
        }
        piece.0 += 1;
        if piece.0 == self.members
            && let Some((_, interval)) = self.pieces.remove(&index)
        {
            watch.interval(&interval);
            self.intervals.push(interval);
        }
    }

    /// With several workers: the streams that have no subscribers, told once it is known.
    fn take_unattended(&mut self) -> Option<Vec<u32>> {
        let whole = self.completion.as_mut().filter(|whole| whole.is_attended)?;
        if std::mem::replace(&mut whole.is_told, true) {
            return None;
        }
        let streams = (0..).zip(&whole.attended).filter(|(_, attended)| !**attended).map(|(stream, _)| stream);
        Some(streams.collect())
    }

    /// With several workers: publications that have passed all their subscribers.
    fn passed(&self) -> Option<u64> {
        self.completion.as_ref().map(|whole| whole.completed.passed)
    }

    fn end(mut self, fleet: &Fleet, stopped: bool) -> Driven {
        if let Some(whole) = &self.completion {
            let published = fleet.published.iter().zip(&self.base).map(|(now, base)| now.saturating_sub(*base));
            let attended = published.zip(&whole.attended).filter(|(_, attended)| **attended);
            let to_somebody = attended.map(|(published, _)| published).sum();
            self.whole.tally.incomplete = whole.completed.incomplete_of(to_somebody);
            self.whole.completion = whole.completed.latency.clone();
        }
        self.whole.workers = self.workers.into_values().flatten().collect();
        self.whole.window_ns = self.window.length_ns();
        Driven { measurement: self.whole, intervals: self.intervals, stopped }
    }
}

impl Whole {
    fn attend(&mut self, fleet: &Fleet, member: u32, people: Vec<u32>, base: &[u64], window: Window) {
        self.attending[member as usize] = Some(people);
        if self.attending.iter().any(Option::is_none) {
            return;
        }
        for stream in 0..fleet.roster.streams() {
            let topic = fleet.roster.topic_of(stream) as usize;
            let has_people = |people: &Option<Vec<u32>>| people.as_ref().is_some_and(|people| people[topic] > 0);
            let parties = (0..).zip(&self.attending).filter(|(_, people)| has_people(people)).map(|(member, _)| member);
            let parties: Vec<u32> = parties.collect();
            self.attended[stream as usize] = !parties.is_empty();
            self.parties.begin(stream, base[stream as usize], parties);
        }
        self.is_attended = true;
        for (member, steps) in std::mem::take(&mut self.early) {
            self.take(member, steps, window);
        }
    }

    fn take(&mut self, member: u32, steps: Vec<Step>, window: Window) {
        if self.attending.iter().any(Option::is_none) {
            return self.early.push((member, steps));
        }
        let Self { parties, completed, .. } = self;
        for step in steps {
            parties.take(member, step, &mut |step| completed.take(step, window));
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// See [`Fleet::close`].
pub(super) fn close(fleet: &mut Fleet) {
    if fleet.tell_all(&Order::Close).is_err() {
        return;
    }
    let (deadline, mut left) = (Instant::now() + CLOSE_TIMEOUT, fleet.members());
    while left > 0 && Instant::now() < deadline {
        match next_report(fleet) {
            Ok(Some((_, Report::Closed))) => left -= 1,
            Ok(_) => {}
            Err(_) => return,
        }
    }
}
