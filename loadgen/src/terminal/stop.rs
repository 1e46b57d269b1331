//! Ctrl-C: the first signal ends a run in order, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::Failure;

/// Whether somebody has asked for the end.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// Is set by SIGINT and SIGTERM from now on; a second one ends the process at once, with 130.
    ///
    /// # Errors
    /// If the system does not let signals be caught.
    pub fn on_signals() -> Result<Self, Failure> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the one that ends the process must find the flag as the signal before has left it.
            flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop.asked)).map_err(|e| uncaught(&e))?;
            flag::register(signal, Arc::clone(&stop.asked)).map_err(|e| uncaught(&e))?;
        }
        Ok(stop)
    }

    /// Whether the end was asked for.
    pub fn is_set(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Asks for the end, as a signal does.
    pub fn set(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }
}

/// Lets SIGINT and SIGTERM pass this process by: Ctrl-C and `timeout` reach worker processes too, but it is the conductor
/// who ends them in order. When it is gone, they end by themselves.
///
/// # Errors
/// If the system does not let signals be caught.
pub fn leave_interrupts_to_the_conductor() -> Result<(), Failure> {
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, Arc::default()).map_err(|error| uncaught(&error))?;
    }
    Ok(())
}

fn uncaught(error: &io::Error) -> Failure {
    Failure::failed(format!("signals cannot be caught: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_copies_see_that_the_end_was_asked_for() {
        let stop = Stop::default();
        let copy = stop.clone();
        assert!(!copy.is_set());
        stop.set();
        assert!(copy.is_set());
    }

    #[test]
    fn a_signal_sets_it() {
        let stop = Stop::on_signals().unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        assert!(stop.is_set());
    }
}
