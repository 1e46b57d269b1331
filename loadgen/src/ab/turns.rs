//! Whose turn it is: A B B A A B B A …, so that a machine that drifts steadily favours neither.

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first: what is compared against.
    A,
    /// The second: what is judged.
    B,
}

/// The turns of so many pairs, in order.
pub fn turns(pairs: u32) -> impl Iterator<Item = Side> {
    (0..pairs).flat_map(|pair| if pair % 2 == 0 { [Side::A, Side::B] } else { [Side::B, Side::A] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_have_the_same_mean_position() {
        for pairs in (2..20).step_by(2) {
            let position =
                |side| turns(pairs).enumerate().filter(|(_, turn)| *turn == side).map(|(at, _)| at).sum::<usize>();
            assert_eq!(position(Side::A), position(Side::B), "{pairs} pairs");
        }
    }

    #[test]
    fn each_pair_has_one_of_each() {
        let all: Vec<_> = turns(7).collect();
        assert!(all.len() == 14 && all.chunks(2).all(|pair| pair[0] != pair[1]), "{all:?}");
    }
}
