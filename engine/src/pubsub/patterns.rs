//! Who subscribes to which pattern: a trie over tokens. It is walked when a topic is made, never when one is published to,
//! and visits at most the nodes that some pattern has made, at most [`NAME_TOKENS_MAX`](super::name::NAME_TOKENS_MAX) deep.

use hashbrown::HashMap;

use super::encoding::EncodingId;
use super::name::{self, Pattern};
use crate::id::ConnectionId;

type Members = HashMap<ConnectionId, EncodingId>;

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    /// Below `*`.
    star: Option<Box<Node>>,
    /// Subscribers of the pattern that ends here.
    here: Members,
    /// Subscribers of the pattern that ends here with `>`.
    tail: Members,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.star.is_none() && self.here.is_empty() && self.tail.is_empty()
    }
}

/// All pattern subscriptions of the engine.
#[derive(Debug, Default)]
pub struct Patterns {
    root: Node,
    subscriptions: usize,
}

impl Patterns {
    /// Adds a subscriber to a pattern. False if it was there already.
    pub fn insert(&mut self, pattern: &Pattern, id: ConnectionId, encoding: EncodingId) -> bool {
        let new = Self::members(&mut self.root, pattern).insert(id, encoding).is_none();
        self.subscriptions += usize::from(new);
        new
    }

    fn members<'n>(root: &'n mut Node, pattern: &Pattern) -> &'n mut Members {
        let mut node = root;
        for token in pattern.as_str().split('.') {
            node = match token {
                ">" => return &mut node.tail,
                "*" => node.star.get_or_insert_default(),
                literal => node.children.entry(literal.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Takes a subscriber from a pattern. False if it was not there.
    pub fn remove(&mut self, pattern: &Pattern, id: ConnectionId) -> bool {
        let mut tokens = pattern.as_str().split('.');
        let removed = Self::remove_below(&mut self.root, &mut tokens, id);
        self.subscriptions -= usize::from(removed);
        removed
    }

    fn remove_below<'t>(node: &mut Node, tokens: &mut impl Iterator<Item = &'t str>, id: ConnectionId) -> bool {
        match tokens.next() {
            None => node.here.remove(&id).is_some(),
            Some(">") => node.tail.remove(&id).is_some(),
            Some("*") => {
                let Some(star) = &mut node.star else { return false };
                let removed = Self::remove_below(star, tokens, id);
                if star.is_empty() {
                    node.star = None;
                }
                removed
            }
            Some(literal) => {
                let Some(child) = node.children.get_mut(literal) else { return false };
                let removed = Self::remove_below(child, tokens, id);
                if child.is_empty() {
                    node.children.remove(literal);
                }
                removed
            }
        }
    }

    /// The subscribers of all patterns that match a topic, each once.
    #[must_use]
    pub fn matching(&self, topic: &str) -> Members {
        let mut found = Members::new();
        if self.subscriptions == 0 {
            return found;
        }
        if name::is_reserved(topic) {
            // Only those who name its first token mean it.
            let (token, rest) = topic.split_once('.').map_or((topic, None), |(token, rest)| (token, Some(rest)));
            if let Some(child) = self.root.children.get(token) {
                Self::collect(child, rest, &mut found);
            }
        } else {
            Self::collect(&self.root, Some(topic), &mut found);
        }
        found
    }

    fn collect(node: &Node, rest: Option<&str>, found: &mut Members) {
        let Some(rest) = rest else {
            found.extend(node.here.iter().map(|(id, encoding)| (*id, *encoding)));
            return;
        };
        found.extend(node.tail.iter().map(|(id, encoding)| (*id, *encoding)));
        let (token, rest) = rest.split_once('.').map_or((rest, None), |(token, rest)| (token, Some(rest)));
        if let Some(child) = node.children.get(token) {
            Self::collect(child, rest, found);
        }
        if let Some(star) = &node.star {
            Self::collect(star, rest, found);
        }
    }

    /// How many pattern subscriptions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscriptions
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscriptions == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(slot: u32) -> ConnectionId {
        ConnectionId { shard: 0, slot, generation: 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_trie_finds_exactly_what_the_patterns_match(
            patterns in prop::collection::vec("(([ab]|\\$s|\\*)\\.){0,3}([ab]|\\$s|\\*|>)", 1..40),
            topics in prop::collection::vec("([abc]|\\$s)(\\.([abc]|\\$s)){0,4}", 1..20),
            removed in prop::collection::vec(any::<bool>(), 40),
        ) {
            let mut trie = Patterns::default();
            let mut model = Vec::new();
            for (slot, pattern) in patterns.iter().enumerate() {
                let pattern = Pattern::new(pattern).unwrap();
                // Several patterns of one connection: each must be found, the connection once.
                let id = id(slot as u32 % 7);
                let known = model.contains(&(pattern.clone(), id));
                prop_assert_eq!(trie.insert(&pattern, id, EncodingId::RAW), !known);
                if !known {
                    model.push((pattern, id));
                }
            }
            let mut removed = removed.into_iter();
            model.retain(|(pattern, id)| {
                let remove = removed.next().unwrap();
                if remove {
                    assert!(trie.remove(pattern, *id));
                    assert!(!trie.remove(pattern, *id));
                }
                !remove
            });
            prop_assert_eq!(trie.len(), model.len());
            for topic in &topics {
                let mut found: Vec<_> = trie.matching(topic).into_keys().collect();
                found.sort();
                let mut expected: Vec<_> =
                    model.iter().filter(|(pattern, _)| pattern.matches(topic)).map(|(_, id)| *id).collect();
                expected.sort();
                expected.dedup();
                prop_assert_eq!(found, expected, "{}", topic);
            }
            for (pattern, id) in &model {
                trie.remove(pattern, *id);
            }
            prop_assert!(trie.root.is_empty(), "nothing is left behind");
        }
    }
}
