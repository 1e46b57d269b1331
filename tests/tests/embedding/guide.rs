//! The embedding guide says what the code says.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The public fields of a struct in a source file.
fn fields(source: &str, of: &str) -> Vec<String> {
    let body = source.split_once(&format!("pub struct {of} {{")).unwrap().1.split_once("\n}").unwrap().0;
    let fields = body.lines().filter_map(|line| line.strip_prefix("    pub ")?.split_once(':'));
    fields.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn every_setting_and_every_close_cause_is_in_the_tables_of_the_guide() {
    let guide = read("docs/EMBEDDING.md");
    let settings = fields(&read("engine/src/config.rs"), "Settings");
    let topic_settings = fields(&read("engine/src/pubsub/settings.rs"), "TopicSettings");
    assert!(settings.len() > 20 && topic_settings.len() > 5);
    for name in settings.iter().chain(&topic_settings) {
        assert!(guide.contains(&format!("\n| `{name}` |")), "{name} is missing");
    }
    for cause in fanfare::CloseCause::ALL {
        let row = guide.lines().find(|line| line.starts_with("| `") && line.contains(&format!("`{cause:?}`")));
        let row = row.unwrap_or_else(|| panic!("{cause:?} is missing"));
        let chosen_elsewhere = row.contains("its own") || row.contains("the peer's");
        assert!(chosen_elsewhere || row.contains(&format!("| {} |", cause.code())), "{row}");
    }
}
