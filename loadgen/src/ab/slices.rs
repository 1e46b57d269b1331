//! Both servers run, each with its connections, and one is loaded at a time, for a short slice.

use super::{Contestant, Pairs, Side, turns};
use crate::failure::Failure;
use crate::fleet::{Drive, Watch};
use crate::machine::{CoreShare, Neighbours};
use crate::record::{Environment, Repetition};

/// How a slice may be taken again.
const TRIES: u32 = 4;

/// How slices are taken.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Pairs to take.
    pub pairs: u32,
    /// One slice.
    pub slice: Drive,
    /// Load before the first slice of each side, not kept.
    pub warmup: Drive,
    /// The cores of server and load generator: others on them disturb.
    pub cores: Vec<usize>,
    /// Above this share of one of these cores, used by other programs or taken by the hypervisor, a slice is taken again.
    pub others_max: f64,
}

/// Takes the slices of all pairs, or fewer if `watch` ends it. `told` hears of every slice that was taken.
///
/// # Errors
/// If a server ends or its connections cannot be driven.
pub fn take<W: Watch>(
    a: &mut Contestant,
    b: &mut Contestant,
    plan: &Plan,
    environment: &Environment,
    watch: &mut W,
    told: &mut dyn FnMut(&mut W, &Pairs),
) -> Result<Pairs, Failure> {
    let mut pairs = Pairs::default();
    let own = [std::process::id(), a.pid(), b.pid()];
    for contestant in [&mut *a, &mut *b] {
        if contestant.drive(&plan.warmup, environment, watch)?.1 {
            return Ok(pairs);
        }
    }
    for side in turns::turns(plan.pairs) {
        let contestant = match side {
            Side::A => &mut *a,
            Side::B => &mut *b,
        };
        let slice = |watch: &mut W| contestant.drive(&plan.slice, environment, watch);
        match undisturbed(plan, &own, &mut pairs, watch, slice)? {
            Some(repetition) => pairs.of(side).push(repetition),
            None => break,
        }
        told(watch, &pairs);
    }
    pairs.even_out();
    Ok(pairs)
}

/// A slice during which nobody else was on the cores, or the last of several tries, with a warning; none if it was ended.
fn undisturbed<W: Watch>(
    plan: &Plan,
    own: &[u32],
    pairs: &mut Pairs,
    watch: &mut W,
    mut slice: impl FnMut(&mut W) -> Result<(Repetition, bool), Failure>,
) -> Result<Option<Repetition>, Failure> {
    for attempt in 1.. {
        let neighbours = Neighbours::begin(&plan.cores, own)?;
        let (mut repetition, stopped) = slice(watch)?;
        if stopped {
            break;
        }
        match disturbance(&neighbours.end()?, plan.others_max) {
            None => return Ok(Some(repetition)),
            Some(_) if attempt < TRIES => pairs.retaken += 1,
            Some(sentence) => {
                pairs.disturbed += 1;
                repetition.warnings.push(sentence);
                return Ok(Some(repetition));
            }
        }
    }
    Ok(None)
}

/// Who was where he should not have been.
fn disturbance(shares: &[CoreShare], others_max: f64) -> Option<String> {
    let worst = shares.iter().max_by(|a, b| (a.others + a.steal).total_cmp(&(b.others + b.steal)))?;
    (worst.others + worst.steal > others_max).then(|| {
        format!(
            "Core {} was used by others for {:.0}% of the slice, and {:.0}% was taken by the hypervisor, {TRIES} times in a \
             row.",
            worst.core,
            worst.others * 100.0,
            worst.steal * 100.0
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(core: usize, others: f64, steal: f64) -> CoreShare {
        CoreShare { core, others, steal, interrupts: 0.0 }
    }

    #[test]
    fn only_who_takes_more_than_allowed_disturbs() {
        assert_eq!(disturbance(&[], 0.05), None);
        assert_eq!(disturbance(&[share(0, 0.02, 0.02), share(1, 0.05, 0.0)], 0.05), None);
        let sentence = disturbance(&[share(0, 0.01, 0.0), share(1, 0.04, 0.03)], 0.05).unwrap();
        assert!(sentence.starts_with("Core 1 was used by others for 4%") && sentence.contains("3%"), "{sentence}");
    }
}
