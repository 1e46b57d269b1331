//! The clock all processes of a host share, and a timer that the poll can wait for to the nanosecond.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

const SECOND_NS: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid, exclusively borrowed timespec for the time of the call, which is all it asks for.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * SECOND_NS + now.tv_nsec as u64
}

/// A one-shot timerfd on that clock. epoll's own timeout has whole milliseconds.
#[derive(Debug)]
pub struct Timer {
    fd: OwnedFd,
    /// What it is set to; `u64::MAX` for nothing.
    armed_ns: u64,
}

impl Timer {
    /// A timer that is not set, registered under `token`.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        // SAFETY: the call takes no pointers. A descriptor it returns is open and owned by nobody else.
        let fd = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { fd, armed_ns: u64::MAX })
    }

    /// Wakes the poll at `at_ns` (`u64::MAX`: never), at once if that has passed. Set again, it forgets what it was set to;
    /// set to the same, it does nothing. Nobody needs to read it: setting it makes it unreadable.
    pub fn wake_at(&mut self, at_ns: u64) -> io::Result<()> {
        if at_ns == self.armed_ns {
            return Ok(());
        }
        // All zero would disarm it, and is what "never" means.
        let at = if at_ns == u64::MAX { 0 } else { at_ns.max(1) };
        let once = libc::itimerspec {
            it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: libc::timespec {
                tv_sec: (at / SECOND_NS) as libc::time_t,
                tv_nsec: (at % SECOND_NS) as libc::c_long,
            },
        };
        let (fd, absolute) = (self.fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME);
        // SAFETY: the descriptor is open as long as `self` is, `once` is valid, and the old value may be null.
        if unsafe { libc::timerfd_settime(fd, absolute, &once, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        self.armed_ns = at_ns;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn a_timer_wakes_the_poll_when_it_is_set_to_and_not_before() {
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(4));
        let mut timer = Timer::new(poll.registry(), Token(3)).unwrap();
        let at_ns = monotonic_ns() + 2_000_000;
        timer.wake_at(at_ns).unwrap();
        while events.is_empty() {
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
        }
        assert!(monotonic_ns() >= at_ns);
        timer.wake_at(u64::MAX).unwrap();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(events.is_empty());
    }
}
