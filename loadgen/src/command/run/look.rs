//! Who looks on while a load is driven: progress, the record, and the server's process at the right moments.

use std::time::Duration;

use crate::failure::Failure;
use crate::fleet::Watch;
use crate::machine::ServerProbe;
use crate::measure::{Connecting, Interval};
use crate::record::ServerUsage;
use crate::record::recorder::Recorder;
use crate::terminal::Progress;

/// Looks on at a drive.
pub(super) struct Looker<'a> {
    pub progress: &'a mut Progress,
    pub recorder: &'a mut Recorder,
    pub server: Option<ServerLook<'a>>,
}

/// The server's process, read when the measured time begins and ends: intervals tell when that is.
pub(super) struct ServerLook<'a> {
    probe: &'a mut ServerProbe,
    duration_ns: i64,
    found: Option<Result<ServerUsage, Failure>>,
}

impl<'a> ServerLook<'a> {
    /// Without a warm-up the measured time begins now.
    pub fn new(probe: &'a mut ServerProbe, warmup: Duration, duration: Duration) -> Self {
        let duration_ns = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let mut look = Self { probe, duration_ns, found: None };
        if warmup.is_zero() {
            look.begin();
        }
        look
    }

    /// An interval has ended.
    fn interval(&mut self, interval: &Interval) {
        let length_ns = i64::try_from(interval.length_ns).unwrap_or(i64::MAX);
        let end_ns = interval.begin_ns.saturating_add(length_ns);
        // Ends are where they should be but for the workers' clocks.
        let tolerance_ns = length_ns / 10;
        if self.found.is_none() && !self.probe.is_begun() && end_ns.saturating_add(tolerance_ns) >= 0 {
            self.begin();
        } else if self.probe.is_begun() && end_ns.saturating_add(tolerance_ns) >= self.duration_ns {
            self.found = Some(self.probe.end());
        }
    }

    fn begin(&mut self) {
        if let Err(failure) = self.probe.begin() {
            self.found = Some(Err(failure));
        }
    }

    /// What was found; if the drive ended before its time, until now.
    pub fn end(mut self) -> Result<ServerUsage, Failure> {
        let found = self.found.take();
        // It must still be there, whenever the measured time ended.
        let now = self.probe.end();
        match found {
            Some(found) => now.and(found),
            None => now,
        }
    }
}

impl Watch for Looker<'_> {
    fn connecting(&mut self, so_far: &Connecting) {
        self.progress.connecting(so_far);
    }

    fn interval(&mut self, interval: &Interval) {
        if let Some(server) = &mut self.server {
            server.interval(interval);
        }
        self.progress.interval(interval);
        // What cannot be written is told at the end: the figures are still worth having.
        let _ = self.recorder.interval(interval);
    }

    fn is_stopped(&self) -> bool {
        self.progress.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn interval(begin_s: i64) -> Interval {
        Interval { begin_ns: begin_s * SECOND, length_ns: SECOND as u64, ..Interval::default() }
    }

    #[test]
    fn the_server_is_read_from_the_end_of_the_warm_up_to_the_end_of_the_measured_time() {
        let mut probe = ServerProbe::of(std::process::id()).unwrap();
        let mut look = ServerLook::new(&mut probe, Duration::from_secs(2), Duration::from_secs(3));
        let states = (-2..5).map(|second| {
            look.interval(&interval(second));
            (look.probe.is_begun(), look.found.is_some())
        });
        let states: Vec<_> = states.collect();
        let (before, during, after) = ((false, false), (true, false), (false, true));
        assert_eq!(states, [before, during, during, during, after, after, after]);
        assert!(look.end().is_ok_and(|usage| usage.threads > 0));
    }

    #[test]
    fn without_a_warm_up_it_is_read_at_once_and_a_drive_cut_short_ends_where_it_is() {
        let mut probe = ServerProbe::of(std::process::id()).unwrap();
        let mut look = ServerLook::new(&mut probe, Duration::ZERO, Duration::from_secs(3));
        assert!(look.probe.is_begun());
        look.interval(&interval(0));
        assert!(look.end().is_ok_and(|usage| usage.wall_ns > 0));
    }
}
