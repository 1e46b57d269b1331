//! Which topics somebody may do what with: patterns, and when one pattern lies within another.

use super::settings::{Role, Rules};
use super::{Action, Denied};
use crate::Pattern;

/// The most patterns of one kind that somebody may have.
pub const PATTERNS_MAX: usize = 1000;

/// What stands for the subject in patterns of roles.
const SUBJECT: &str = "{sub}";

/// What somebody may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Whatever there is, topics whose name begins with `$` included.
    everything: bool,
    rules: Rules,
}

impl Permissions {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self { everything: true, rules: Rules::default() }
    }

    /// All topics but those whose name begins with `$`, and no administration: what everybody may if nobody is asked
    /// who he is.
    #[must_use]
    pub fn all_topics() -> Self {
        let all: Vec<_> = Pattern::new(">").into_iter().collect();
        let rules = Rules { subscribe: all.clone(), publish: all.clone(), history: all, admin: Vec::new() };
        Self { everything: false, rules }
    }

    /// These.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { everything: false, rules }
    }

    /// Adds what a role permits.
    pub fn add(&mut self, role: &Role, subject: Option<&str>) {
        for (own, theirs) in [
            (&mut self.rules.subscribe, &role.subscribe),
            (&mut self.rules.publish, &role.publish),
            (&mut self.rules.history, &role.history),
            (&mut self.rules.admin, &role.admin),
        ] {
            own.extend(theirs.iter().filter_map(|pattern| fill(pattern, subject)));
        }
    }

    /// Whether this may be done with a topic, or with all topics of a pattern.
    #[must_use]
    pub fn allow(&self, action: Action, topic: &str) -> bool {
        let rules = &self.rules;
        let patterns = match action {
            Action::Subscribe => &rules.subscribe,
            Action::Publish => &rules.publish,
            Action::History => &rules.history,
            Action::Admin => &rules.admin,
        };
        self.everything
            || patterns.iter().any(|pattern| covers(pattern.as_str(), topic))
            // Who may remove what is kept may also read it.
            || action == Action::History && rules.admin.iter().any(|pattern| covers(pattern.as_str(), topic))
    }

    /// Whether the server itself may be administered.
    #[must_use]
    pub fn allow_server(&self) -> bool {
        self.everything || self.rules.admin.iter().any(|pattern| pattern.as_str() == ">")
    }

    /// Checks it: on a topic, or on the server itself.
    ///
    /// # Errors
    /// It is not permitted.
    pub fn check(&self, action: Action, topic: Option<&str>) -> Result<(), Denied> {
        let is_allowed = match topic {
            // Who administers everything administers what begins with `$`, too.
            Some(topic) => self.allow(action, topic) || action == Action::Admin && self.allow_server(),
            None => self.allow_server(),
        };
        let what = || match action {
            Action::Subscribe => "subscribe to",
            Action::Publish => "publish to",
            Action::History => "read the history of",
            Action::Admin => "administer",
        };
        if is_allowed { Ok(()) } else { Err(Denied::Forbidden(what(), topic.map(Into::into))) }
    }

    /// An estimate of the memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let rules = &self.rules;
        let lists = [&rules.subscribe, &rules.publish, &rules.history, &rules.admin];
        lists.into_iter().flatten().map(|pattern| pattern.as_str().len() + 32).sum()
    }
}

/// Whether a pattern matches all that another one matches (a topic's name is a pattern without a wildcard). As in MQTT, a
/// wildcard at the beginning does not stand for what begins with `$`.
#[must_use]
pub fn covers(allowed: &str, wanted: &str) -> bool {
    if wanted.starts_with('$') && !allowed.starts_with('$') {
        return false;
    }
    let mut wanted = wanted.split('.');
    for token in allowed.split('.') {
        match (token, wanted.next()) {
            (">", Some(_)) => return true,
            // More than one token may stand there.
            (_, Some(">")) => return false,
            ("*", Some(_)) => {}
            (literal, Some(other)) if literal == other => {}
            _ => return false,
        }
    }
    wanted.next().is_none()
}

/// Whether a pattern of a role is one, whoever the subject is.
///
/// # Errors
/// What is wrong with it.
pub fn check_role_pattern(pattern: &str) -> Result<(), String> {
    Pattern::new(&pattern.replace(SUBJECT, "x")).map(drop).map_err(|error| error.to_string())
}

/// A pattern of a role for a subject; none without the subject it needs, or if it gets too long.
fn fill(pattern: &str, subject: Option<&str>) -> Option<Pattern> {
    if !pattern.contains(SUBJECT) {
        return Pattern::new(pattern).ok();
    }
    Pattern::new(&pattern.replace(SUBJECT, &escape(subject.filter(|subject| !subject.is_empty())?))).ok()
}

/// A subject as a single token without a meaning of its own: two subjects never become the same, none becomes a wildcard,
/// several tokens, or the beginning of what only the server publishes to.
#[must_use]
pub fn escape(subject: &str) -> String {
    let mut escaped = String::with_capacity(subject.len());
    for c in subject.chars() {
        if matches!(c, '.' | '*' | '>' | '$' | '%' | '{' | '}') || c.is_control() {
            let mut bytes = [0; 4];
            c.encode_utf8(&mut bytes).bytes().for_each(|byte| escaped.push_str(&format!("%{byte:02X}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    fn role(subscribe: &[&str]) -> Role {
        let subscribe = subscribe.iter().map(|text| (*text).to_owned()).collect();
        Role { name: "r".into(), subscribe, publish: Vec::new(), history: Vec::new(), admin: Vec::new() }
    }

    #[test]
    fn a_pattern_covers_what_lies_within_it() {
        for (allowed, wanted, expected) in [
            ("a.>", "a.b.c", true),
            ("a.>", "a.>", true),
            ("a.>", "a.*.c", true),
            ("a.>", "a", false),
            ("a.>", ">", false),
            ("a.>", "*.b", false),
            ("a.*", "a.>", false),
            ("a.*", "a.*", true),
            ("a.*", "a.b", true),
            ("a.*", "*.*", false),
            ("*.*", "a.*", true),
            ("*", ">", false),
            (">", ">", true),
            (">", "*", true),
            (">", "$sys.stats", false),
            ("*.stats", "$sys.stats", false),
            ("$sys.>", "$sys.stats", true),
            ("$sys.>", "$sys.>", true),
            ("$sys.>", "$system.x", false),
            ("$sys.>", ">", false),
            ("a", "", false),
            ("", "a", false),
        ] {
            assert_eq!(covers(allowed, wanted), expected, "{allowed} over {wanted}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_covered_matches_nothing_more(
            allowed in "(([ab]|\\*)\\.){0,3}([ab]|\\*|>)",
            wanted in "(([ab]|\\*)\\.){0,3}([ab]|\\*|>)",
            names in prop::collection::vec("([abz]\\.){0,5}[abz]", 40),
        ) {
            let (outer, inner) = (Pattern::new(&allowed).unwrap(), Pattern::new(&wanted).unwrap());
            // The most a pattern matches: other tokens where it has wildcards, and one or more at its end.
            let fresh = wanted.replace(['*', '>'], "z");
            let longer = wanted.replace('*', "z").replace('>', "z.z.z");
            let escapes = |name: &str| inner.matches(name) && !outer.matches(name);
            if covers(&allowed, &wanted) {
                for name in names.iter().chain([&fresh, &longer]) {
                    prop_assert!(!escapes(name), "{} lets {} through by {}", allowed, name, wanted);
                }
            } else {
                prop_assert!(escapes(&fresh) || escapes(&longer), "{} should cover {}", allowed, wanted);
            }
            for name in &names {
                prop_assert_eq!(covers(&allowed, name), outer.matches(name));
            }
        }

        #[test]
        fn no_subject_widens_a_role(subject in "[a.*>$%{}sub]{1,12}", other in "[a.*>$%{}sub]{1,12}") {
            let mut permissions = Permissions::default();
            permissions.add(&role(&["user.{sub}", "{sub}.inbox.>"]), Some(&subject));
            for pattern in &permissions.rules.subscribe {
                let tokens = pattern.as_str().split('.').count();
                prop_assert!(tokens <= 3 && !pattern.as_str().starts_with('$'), "{}", pattern);
            }
            prop_assert!(!permissions.allow(Action::Subscribe, "user.*") && !permissions.allow(Action::Subscribe, "user.>"));
            let theirs = format!("user.{}", escape(&other));
            prop_assert_eq!(permissions.allow(Action::Subscribe, &theirs), subject == other);
        }
    }

    #[test]
    fn a_role_that_needs_a_subject_gives_nothing_without_one() {
        for subject in [None, Some("")] {
            let mut permissions = Permissions::default();
            permissions.add(&role(&["user.{sub}.>", "lobby"]), subject);
            assert_eq!(permissions.rules.subscribe, patterns(&["lobby"]));
        }
        let mut permissions = Permissions::default();
        permissions.add(&role(&["user.{sub}.>"]), Some("ada@example.org"));
        assert_eq!(permissions.rules.subscribe, patterns(&["user.ada@example%2Eorg.>"]));
        // Too long a name is none, not a shorter one.
        let mut permissions = Permissions::default();
        permissions.add(&role(&["user.{sub}.>"]), Some(&"x".repeat(255)));
        assert_eq!(permissions.rules.subscribe, []);
    }

    #[test]
    fn each_action_has_its_own_patterns() {
        let rules = Rules {
            subscribe: patterns(&["s.>"]),
            publish: patterns(&["p.>"]),
            history: patterns(&["h.>"]),
            admin: patterns(&["a.>"]),
        };
        let permissions = Permissions::new(rules);
        for (action, allowed) in
            [(Action::Subscribe, "s.x"), (Action::Publish, "p.x"), (Action::History, "h.x"), (Action::Admin, "a.x")]
        {
            for topic in ["s.x", "p.x", "h.x", "a.x"] {
                let expected = topic == allowed || action == Action::History && topic == "a.x";
                assert_eq!(permissions.check(action, Some(topic)).is_ok(), expected, "{action:?} {topic}");
            }
        }
        assert!(permissions.check(Action::Admin, None).is_err(), "not everything is a part of something");
        let everything = Permissions::new(Rules { admin: patterns(&[">"]), ..Rules::default() });
        assert!(everything.check(Action::Admin, None).is_ok());
        assert!(everything.check(Action::Admin, Some("$sys.stats")).is_ok());
        assert!(everything.check(Action::Publish, Some("x")).is_err());
        assert!(Permissions::everything().check(Action::Subscribe, Some("$sys.>")).is_ok());
        assert!(Permissions::all_topics().check(Action::Subscribe, Some("$sys.>")).is_err());
        assert!(Permissions::all_topics().check(Action::Subscribe, Some(">")).is_ok());
    }
}
