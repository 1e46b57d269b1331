//! The known word that somebody who mistyped one most likely meant.

/// The candidate nearest to `word`, if any is near enough to be worth suggesting: at most a third of it wrong.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).max(1);
    let measured = candidates.into_iter().map(|candidate| (distance(word, candidate), candidate));
    let (distance, candidate) = measured.min_by_key(|(distance, _)| *distance)?;
    (distance <= allowed).then_some(candidate)
}

/// How many letters have to be put in, taken out, changed or swapped with their neighbour to make `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = above[j] + usize::from(!alike(a[i], b[j]));
            let mut least = changed.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

/// `Rate-Policy` for `rate_policy` is no mistake worth counting.
fn alike(a: char, b: char) -> bool {
    a.eq_ignore_ascii_case(&b) || matches!((a, b), ('-', '_') | ('_', '-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WORDS: [&str; 4] = ["connections_max", "history_bytes", "rate_policy", "pin"];

    proptest! {
        #[test]
        fn one_letter_too_few_still_finds_the_word(word in 0..4_usize, at in 0..4_usize) {
            let mut mistyped = WORDS[word].to_owned();
            mistyped.remove(at.min(mistyped.len() - 1));
            prop_assert_eq!(nearest(&mistyped, WORDS), Some(WORDS[word]));
        }

        #[test]
        fn a_distance_is_the_same_from_both_ends(a in "[a-d_]{0,8}", b in "[a-d_]{0,8}") {
            prop_assert_eq!(distance(&a, &b), distance(&b, &a));
            prop_assert_eq!(distance(&a, &b) == 0, a == b);
            prop_assert!(distance(&a, &b) <= a.len().max(b.len()));
        }
    }

    #[test]
    fn swapped_letters_hyphens_and_capitals_are_forgiven_and_other_words_are_not() {
        assert_eq!(nearest("pni", WORDS), Some("pin"));
        assert_eq!(nearest("Rate-Policy", WORDS), Some("rate_policy"));
        assert_eq!(nearest("colour", WORDS), None);
        assert_eq!(nearest("", WORDS), None);
    }
}
