//! `loadgen worker`: what the processes of one run are started as. People do not call it.

use crate::failure::Failure;
use crate::fleet::process;
use crate::terminal::stop;

/// Follows the orders on standard input until it is closed. Signals are the conductor's: it ends a run in order, and
/// closes the input.
///
/// # Errors
/// If its workers cannot be started, or the orders cannot be understood.
pub fn run() -> Result<(), Failure> {
    stop::leave_interrupts_to_the_conductor()?;
    process::serve_orders()
}
