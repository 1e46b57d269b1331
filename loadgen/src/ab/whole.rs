//! Where both servers cannot run at once (memory, ports), whole runs alternate: a fresh server and fresh connections each.

use super::{Contestant, Entrant, Pairs, Side, turns};
use crate::failure::Failure;
use crate::fleet::{Drive, Watch};
use crate::record::Environment;

/// Makes the runs of all pairs, or fewer if `watch` ends it. `told` hears of every run that was made.
///
/// # Errors
/// If a server cannot be started or connected to, or ends.
pub fn take<W: Watch>(
    a: &Entrant,
    b: &Entrant,
    pairs_wanted: u32,
    drive: &Drive,
    environment: &Environment,
    watch: &mut W,
    told: &mut dyn FnMut(&mut W, &Pairs),
) -> Result<Pairs, Failure> {
    let mut pairs = Pairs::default();
    for side in turns::turns(pairs_wanted) {
        let entrant = match side {
            Side::A => a,
            Side::B => b,
        };
        let mut contestant = Contestant::start(entrant, watch)?;
        let (repetition, stopped) = contestant.drive(drive, environment, watch)?;
        contestant.end();
        if stopped {
            break;
        }
        pairs.of(side).push(repetition);
        told(watch, &pairs);
    }
    pairs.even_out();
    Ok(pairs)
}
