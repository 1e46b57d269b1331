//! What people see: results on standard output, progress and warnings on standard error.

pub mod progress;
pub mod stop;
pub mod summary;
pub mod table;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

pub use progress::Progress;
pub use stop::Stop;

use crate::failure::Failure;

/// Whether standard output is a terminal that may be written to in colours (see no-color.org).
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

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

/// Causes and how often each, the most frequent first, four at most: `refused 20, HTTP 403 2`.
pub fn causes(counts: &BTreeMap<String, u64>) -> String {
    const SHOWN: usize = 4;
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut words: Vec<String> = sorted.iter().take(SHOWN).map(|(cause, count)| format!("{cause} {count}")).collect();
    if sorted.len() > SHOWN {
        words.push(format!("and {} other causes", sorted.len() - SHOWN));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_causes_come_first_and_rare_ones_are_only_counted() {
        let counts = (0..6).map(|n| (format!("cause{n}"), n)).collect();
        assert_eq!(causes(&counts), "cause5 5, cause4 4, cause3 3, cause2 2, and 2 other causes");
        assert_eq!(causes(&BTreeMap::new()), "");
    }
}
