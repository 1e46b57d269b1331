//! One line in the log for every connection that is refused or ends, with its cause. So that a storm of them does not fill a
//! disk, each cause has so many lines a second; the next line says how many were left out, and the metrics count all.

use std::net::SocketAddr;

use super::core::Core;
use crate::close::{CloseCause, RefusalCause};

/// How much of an answer is looked at, in bytes.
const ANSWER_SHOWN_MAX: usize = 1024;
/// Lines a second for each cause on each shard.
const LINES_PER_S: u32 = 10;

/// What of one cause has been logged.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meter {
    second: u64,
    lines: u32,
    left_out: u64,
}

impl Meter {
    /// Whether there may be a line now, and if so how many were left out before it.
    pub fn admit(&mut self, second: u64) -> Option<u64> {
        if self.second != second {
            (self.second, self.lines) = (second, 0);
        }
        if self.lines >= LINES_PER_S {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// A shard's meters.
#[derive(Debug, Default)]
pub struct CauseLog {
    closed: [Meter; CloseCause::ALL.len()],
    refused: [Meter; RefusalCause::ALL.len()],
}

/// Ends that are everyday life are told at `debug`, those that somebody may want to do something about at `info`.
fn is_ordinary(cause: CloseCause) -> bool {
    matches!(
        cause,
        CloseCause::PeerClose
            | CloseCause::PeerGone
            | CloseCause::PeerReset
            | CloseCause::Application
            | CloseCause::Lifetime
            | CloseCause::Shutdown
    )
}

/// Logs at one of two levels, without making anything if nobody reads it.
macro_rules! line {
    ($ordinary:expr, $($what:tt)*) => {
        if $ordinary {
            tracing::debug!(target: "fanfare::connections", $($what)*);
        } else {
            tracing::info!(target: "fanfare::connections", $($what)*);
        }
    };
}

impl Core {
    /// Counts and logs the end of a WebSocket.
    pub fn tell_closed(&mut self, slot: u32, cause: CloseCause, code: u16, reason: &str) {
        self.metrics().close(cause);
        let second = self.now.nanos / 1_000_000_000;
        let Some(left_out) = self.causes.closed[cause as usize].admit(second) else { return };
        let info = self.describe(slot);
        let (peer, age) = info.map_or((None, None), |info| (Some(info.peer), Some(info.age.as_millis() as u64)));
        let subject = self.subject(slot);
        line!(
            is_ordinary(cause),
            connection = %self.id(slot),
            peer = peer.map(tracing::field::display),
            subject = subject.as_deref(),
            cause = cause.label(),
            code,
            reason,
            age_ms = age,
            left_out = (left_out > 0).then_some(left_out),
            "closed"
        );
    }

    /// Counts and logs somebody who is answered with this instead of becoming a WebSocket; or would be, if before the end of
    /// the TLS handshake there were more words than an alert.
    pub fn tell_answered(&mut self, peer: SocketAddr, cause: RefusalCause, answer: &[u8], alerted: bool) {
        let (mut status, mut why) = said(answer);
        if alerted {
            status = 0;
            why.push_str(" (told by a TLS alert only)");
        }
        self.tell_refused(peer, cause, status, &why);
    }

    /// Counts and logs somebody who does not become a WebSocket.
    pub fn tell_refused(&mut self, peer: SocketAddr, cause: RefusalCause, status: u16, why: &str) {
        self.metrics().refuse(cause);
        let second = self.now.nanos / 1_000_000_000;
        let Some(left_out) = self.causes.refused[cause as usize].admit(second) else { return };
        line!(
            cause == RefusalCause::Gone,
            %peer,
            cause = cause.label(),
            status = (status > 0).then_some(status),
            why,
            left_out = (left_out > 0).then_some(left_out),
            "refused"
        );
    }
}

/// The status of an answer, and the beginning of its body.
fn said(answer: &[u8]) -> (u16, String) {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(ANSWER_SHOWN_MAX)]);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_its_status_and_why() {
        assert_eq!(said(b"HTTP/1.1 429 Too Many Requests\r\nA: b\r\n\r\nno"), (429, "no".into()));
        assert_eq!(said(b""), (0, String::new()));
    }

    #[test]
    fn a_cause_has_so_many_lines_a_second_and_what_was_left_out_is_told_later() {
        let mut meter = Meter::default();
        for second in [7, 8] {
            let told: Vec<_> = (0..100).filter_map(|_| meter.admit(second)).collect();
            assert_eq!(told.len(), LINES_PER_S as usize);
            assert_eq!(told[0], if second == 7 { 0 } else { 90 });
            assert!(told[1..].iter().all(|left_out| *left_out == 0));
        }
    }
}
