//! The phases of a drive: warm-up, measured time, drain, result.

use crate::fleet::message::{DriveOrder, Report};
use crate::measure::{Latencies, OwnWorker};
use crate::worker::account::Window;
use crate::worker::seat::State;
use crate::worker::sys::monotonic_ns;
use crate::worker::usage::{CpuTime, peak_rss_bytes};
use crate::worker::{Storm, Worker};

/// A drive, while it lasts.
#[derive(Debug)]
pub(super) struct Driving {
    order: DriveOrder,
    /// Of each topic, this worker's subscribers at the beginning.
    people: Vec<u32>,
    storm_ns: Option<u64>,
    /// CPU time, and when it was read: at the beginning and at the end of the measured time.
    begun: Option<(CpuTime, u64)>,
    ended: Option<(CpuTime, u64)>,
    /// The same at the beginning of the interval.
    interval_begun: (CpuTime, u64),
    /// Whether nothing is published yet, because other workers may not have heard of the drive.
    pub(super) is_held: bool,
    /// Whether it was told that all is published.
    is_published: bool,
    drain_until_ns: Option<u64>,
    lag: Latencies,
    interval_lag_max_ns: u64,
    end_ns: u64,
    begin_ns: u64,
}

impl Driving {
    /// What was ready waited so long in a turn.
    pub(super) fn record_lag(&mut self, is_measured: bool, lag_ns: u64) {
        self.interval_lag_max_ns = self.interval_lag_max_ns.max(lag_ns);
        if is_measured {
            self.lag.record(lag_ns);
        }
    }

    /// When something is to be done even if nothing comes.
    pub(super) fn wake_ns(&self) -> u64 {
        let mut wake_ns = self.storm_ns.unwrap_or(u64::MAX);
        if self.begun.is_none() {
            wake_ns = wake_ns.min(self.begin_ns);
        }
        if self.ended.is_none() {
            wake_ns = wake_ns.min(self.end_ns);
        } else if !self.is_published {
            wake_ns = wake_ns.min(self.end_ns.saturating_add(self.order.drain_timeout_ns));
        }
        wake_ns.min(self.drain_until_ns.unwrap_or(u64::MAX))
    }
}

impl Worker {
    pub(super) fn begin_drive(&mut self, order: DriveOrder) {
        let window = Window { begin_ns: order.measured_ns, end_ns: order.end_ns };
        let people = self.attending.clone();
        let is_there = |state: State| state == State::Open;
        self.books.begin_drive(order.begin_ns, window, order.interval_ns, &self.published, &people);
        for seat in &mut self.seats {
            if let Some(follower) = &mut seat.follower {
                self.books.attend(follower, is_there(seat.state));
            }
        }
        self.books.measurement.tally.closed = std::mem::take(&mut self.closed_between);
        if !self.books.account.is_alone() {
            self.report(Report::Attending(people.clone()));
        }
        if self.plan.member == 0 {
            let patience_ns = order.drain_timeout_ns;
            self.publishing.begin(&order.load, order.begin_ns, window, patience_ns, order.seed);
            self.leave_unattended();
        }
        // A storm of an earlier drive goes on, but it is not this one's.
        self.storm = None;
        self.driving = Some(Driving {
            people,
            storm_ns: order.storm_ns,
            begun: None,
            ended: None,
            interval_begun: (self.cpu.read(), order.begin_ns),
            is_held: !self.books.account.is_alone(),
            is_published: self.plan.member != 0,
            drain_until_ns: None,
            lag: Latencies::default(),
            interval_lag_max_ns: 0,
            end_ns: window.end_ns,
            begin_ns: window.begin_ns,
            order,
        });
    }

    pub(super) fn stop_drive(&mut self, at_ns: u64) {
        let Some(driving) = &mut self.driving else {
            return;
        };
        if driving.ended.is_some() || at_ns >= driving.end_ns {
            // What could not be sent until now is not tried for any longer.
            driving.order.drain_timeout_ns = 0;
        } else {
            self.books.stop(at_ns);
            self.publishing.stop(at_ns);
            let window = self.books.account.window;
            (driving.begin_ns, driving.end_ns) = (window.begin_ns, window.end_ns);
            driving.storm_ns = driving.storm_ns.filter(|storm_ns| *storm_ns < window.end_ns);
        }
    }

    pub(super) fn begin_drain(&mut self, published: Vec<u64>, until_ns: u64) {
        if let Some(driving) = &mut self.driving {
            driving.drain_until_ns = Some(until_ns);
            self.published.clone_from(&published);
            // Messages may come before the opening is done.
            let open = self.seats.iter().filter(|seat| matches!(seat.state, State::Open | State::Opening));
            self.books.begin_drain(published, open.filter_map(|seat| seat.follower.as_ref()));
        }
    }

    /// Goes on with the drive as far as it is time.
    pub(super) fn drive_on(&mut self, now_ns: u64) {
        let Some(driving) = &mut self.driving else {
            return;
        };
        if driving.storm_ns.is_some_and(|storm_ns| storm_ns <= now_ns) {
            driving.storm_ns = None;
            self.begin_storm();
        }
        self.note_cpu(now_ns);
        self.report_intervals(now_ns);
        self.report_steps();
        self.finish_publishing(now_ns);
        let Some(driving) = &self.driving else {
            return;
        };
        let is_answered = !self.https.iter().any(|publisher| publisher.is_asking());
        let is_whole = driving.ended.is_some() && self.books.is_drained() && is_answered;
        if is_whole || driving.drain_until_ns.is_some_and(|until_ns| until_ns <= now_ns) {
            self.end_drive(now_ns);
        }
    }

    fn note_cpu(&mut self, now_ns: u64) {
        let Some(driving) = &mut self.driving else {
            return;
        };
        if driving.begun.is_none() && now_ns >= driving.begin_ns {
            driving.begun = Some((self.cpu.read(), now_ns));
        }
        if driving.ended.is_none() && now_ns >= driving.end_ns {
            driving.ended = Some((self.cpu.read(), now_ns));
        }
    }

    fn report_intervals(&mut self, now_ns: u64) {
        let Some(driving) = self.driving.as_mut().filter(|_| !self.books.finished.is_empty()) else {
            return;
        };
        let cpu = self.cpu.read();
        let (before, since_ns) = std::mem::replace(&mut driving.interval_begun, (cpu, now_ns));
        let elapsed_ns = now_ns.saturating_sub(since_ns).max(1);
        let cpu_share = cpu.since(before).used_ns as f64 / elapsed_ns as f64;
        let lag_max_ns = std::mem::take(&mut driving.interval_lag_max_ns);
        for (index, mut interval) in std::mem::take(&mut self.books.finished) {
            interval.connections = self.open;
            (interval.cpu_share_max, interval.lag_max_ns) = (cpu_share, lag_max_ns);
            self.report(Report::Interval { index, interval: Box::new(interval) });
        }
    }

    fn report_steps(&mut self) {
        if !self.books.account.steps.is_empty() {
            let steps = std::mem::take(&mut self.books.account.steps);
            self.report(Report::Steps(steps));
        }
    }

    /// When nothing more will be published, the conductor is told how much was.
    fn finish_publishing(&mut self, now_ns: u64) {
        let Some(driving) = self.driving.as_mut().filter(|driving| !driving.is_published) else {
            return;
        };
        let give_up_ns = driving.end_ns.saturating_add(driving.order.drain_timeout_ns);
        if now_ns < driving.end_ns || !self.publishing.is_done(now_ns) && now_ns < give_up_ns {
            return;
        }
        driving.is_published = true;
        self.books.measurement.tally.unsent += self.publishing.end();
        self.report(Report::Published(self.publishing.published().to_vec()));
    }

    fn end_drive(&mut self, now_ns: u64) {
        // It may end before its time: nothing was published, and all was drained.
        self.books.tick(now_ns);
        self.report_intervals(now_ns);
        self.give_up_answers();
        let Some(driving) = self.driving.take() else {
            return;
        };
        let followers = self.seats.iter().filter_map(|seat| seat.follower.as_ref());
        let mut measurement = self.books.end_drive(followers, &driving.people);
        self.report_steps();
        let is_deflated = |seat: &&crate::worker::Seat| seat.state == State::Open && seat.is_deflated;
        measurement.tally.deflated_connections = self.seats.iter().filter(is_deflated).count() as u64;
        measurement.storm = self.storm.take().map(|Storm { outcome, .. }| outcome);
        if let Some(storm) = &mut measurement.storm {
            let is_there = |seat: &&crate::worker::Seat| seat.state == State::Open;
            let followers = self.seats.iter().filter(is_there).filter_map(|seat| seat.follower.as_ref());
            storm.silent = followers.filter(|follower| follower.is_silent()).count() as u64;
        }
        measurement.workers.push(self.own_worker(driving));
        self.report(Report::Driven(Box::new(measurement)));
    }

    fn own_worker(&self, driving: Driving) -> OwnWorker {
        let now = (self.cpu.read(), monotonic_ns());
        let (begun, ended) = (driving.begun.unwrap_or(now), driving.ended.unwrap_or(now));
        let cpu = ended.0.since(begun.0);
        OwnWorker {
            pid: std::process::id(),
            connections: self.open,
            cpu_ns: cpu.used_ns,
            waited_ns: cpu.waited_ns,
            wall_ns: ended.1.saturating_sub(begun.1),
            lag: driving.lag,
            rss_bytes: peak_rss_bytes(),
        }
    }
}
