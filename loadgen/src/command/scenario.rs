//! `loadgen scenario`: prints a complete scenario, commented, as a file to begin with.
//!
//! What stands in it as it is, is what counts without it; keys that are absent by default stand in it as comments.

use crate::failure::Failure;
use crate::scenario::keys::{self, Key, SECTIONS, Section};
use crate::terminal;

/// The widest line of a comment.
const WIDTH: usize = 110;

/// Prints it.
///
/// # Errors
/// If standard output takes nothing any more.
pub fn run() -> Result<(), Failure> {
    terminal::print(&text())
}

/// The whole file.
pub fn text() -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "A scenario of loadgen, complete: every value here is the default, and what is commented out is absent by \
         default. A file needs only what differs; flags override it. Times: ns, us, ms, s, m, h. Bytes: B, kB, MB, GB, \
         KiB, MiB, GiB.",
    );
    text.push_str("#\n# Presets:\n");
    for (name, sentence) in crate::target::presets() {
        hanging(&mut text, &format!("#   {name:<14} "), sentence);
    }
    for section in SECTIONS {
        text.push('\n');
        put_section(&mut text, section);
    }
    text
}

fn put_section(text: &mut String, section: &Section) {
    if !section.path.is_empty() {
        comment(text, section.about);
        text.push_str(&format!("[{}]\n", section.path));
    }
    for key in section.keys {
        comment(text, &format!("{}.", key.about));
        text.push_str(&line(section, key));
        text.push('\n');
    }
}

/// `key = default`, or `#key = example` where there is none.
fn line(section: &Section, key: &Key) -> String {
    let default = keys::default_of(&section.path_of(key));
    match (key.example, default) {
        (None, Some(default)) => format!("{} = {default}", key.name),
        (example, _) => format!("#{} = {}", key.name, example.unwrap_or("\"\"")),
    }
}

fn comment(text: &mut String, about: &str) {
    hanging(text, "# ", about);
}

/// Words in lines that begin with `first`, the later ones with a `#` and as much space.
fn hanging(text: &mut String, first: &str, words: &str) {
    let later = format!("#{}", " ".repeat(first.len() - 1));
    let mut line = first.to_owned();
    let mut is_fresh = true;
    for word in words.split_whitespace() {
        if !is_fresh && line.len() + 1 + word.len() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line.clone_from(&later);
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scenario::{Scenario, shape};

    /// The text with the keys in it that are commented out.
    fn complete() -> String {
        let is_key =
            |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        let lines = text()
            .lines()
            .map(|line| if is_key(line) { line[1..].to_owned() } else { line.to_owned() })
            .collect::<Vec<_>>();
        lines.join("\n")
    }

    #[test]
    fn what_is_printed_is_the_default() {
        assert_eq!(Scenario::parse(&text(), "printed"), Ok(Scenario::default()));
    }

    #[test]
    fn every_key_of_the_structs_is_printed_and_its_example_is_right() {
        let document: toml::Value = toml::from_str(&complete()).unwrap();
        for path in shape::keys_of::<Scenario>() {
            assert!(shape::has_path(&document, &path), "{path} is not printed");
        }
        let read = Scenario::parse(&complete(), "printed").map_err(|failure| failure.to_string()).unwrap();
        assert_ne!(read, Scenario::default());
    }

    #[test]
    fn every_key_of_the_default_is_printed_with_its_value() {
        let defaults = toml::to_string(&Scenario::default()).unwrap();
        let printed: BTreeSet<String> = text().lines().map(str::to_owned).collect();
        for line in defaults.lines().filter(|line| line.contains(" = ") && !line.ends_with("= []")) {
            assert!(printed.contains(line), "{line}");
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let too_wide: Vec<String> =
            text().lines().filter(|line| line.starts_with("# ") && line.len() > WIDTH).map(str::to_owned).collect();
        assert_eq!(too_wide, Vec::<String>::new());
    }
}
