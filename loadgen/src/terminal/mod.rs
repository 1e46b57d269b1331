//! What people see: results on standard output, progress and warnings on standard error.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes a result to standard output. Whoever closes it early, as `head` does, has seen enough: that is no failure.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("the result cannot be written to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
