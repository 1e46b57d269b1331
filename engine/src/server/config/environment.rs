//! The environment: a variable for each row of the table, and which others may begin like them.

use std::ffi::{OsStr, OsString};

use super::merge::{Entry, Found};
use super::mistake::{Mistake, Source};
use super::nearest::nearest;
use super::rules;
use super::table::{settings, variable};
use super::value::Kind;

/// The file with settings.
pub const FILE: &str = "FANFARE_CONFIG";

/// Variables of the project's tests and tools, which are no settings.
const TOOLS: [&str; 6] =
    ["FANFARE_AUTOBAHN", "FANFARE_BIN", "FANFARE_FUZZ_SECONDS", "FANFARE_SEED", "FANFARE_SEEDS", "FANFARE_URL"];

/// Reads all variables that begin with `FANFARE_`.
pub fn read(variables: &[(OsString, OsString)]) -> Found {
    let mut found = Found::default();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("FANFARE_")) else { continue };
        let source = Source::Variable(name.to_owned());
        let Some(value) = value.to_str() else {
            found.mistakes.push(Mistake::new(source, "the value is not UTF-8"));
            continue;
        };
        let setting = settings().iter().find(|setting| setting.variable == name);
        if let Some(setting) = setting {
            let values: Vec<&str> = match setting.row.kind {
                Kind::List { .. } => value.split(',').map(str::trim).collect(),
                _ => vec![value],
            };
            found.add(Entry::of_texts(setting, &values, source));
        } else if let Some(kind) = ["topic", "role"].into_iter().find(|kind| variable(kind) == name) {
            let values: Vec<&str> = value.split(';').map(str::trim).filter(|rule| !rule.is_empty()).collect();
            rules::read_texts(kind, &values, &source, &mut found);
        } else if name != FILE && !TOOLS.contains(&name) && !is_of_kubernetes(name, value) {
            found.mistakes.push(Mistake::new(source, unknown(name)));
        }
    }
    found
}

/// The value of the variable that names the file.
pub fn file(variables: &[(OsString, OsString)]) -> Option<&OsStr> {
    variables.iter().find(|(name, _)| name == FILE).map(|(_, value)| value.as_os_str()).filter(|path| !path.is_empty())
}

fn unknown(name: &str) -> String {
    // Compared without what all have in common, which would make anything near.
    let bare = name.trim_start_matches("FANFARE_");
    let known = settings().iter().map(|setting| setting.row.key).chain(["config", "topic", "role"]);
    match nearest(bare, known) {
        Some(near) => format!("there is no such setting: did you mean {}?", variable(near)),
        None => "there is no such setting (fanfare --help names all): unset it".into(),
    }
}

/// Kubernetes tells every container where services are: of one called `fanfare` or `fanfare-…` by variables that begin as
/// ours. Where they are no settings they are none of our business.
fn is_of_kubernetes(name: &str, value: &str) -> bool {
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let port = name.rsplit_once("_PORT_").map_or("", |(_, port)| port);
    let is_port = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| {
        let number = port.split_once(protocol);
        number.is_some_and(|(number, _)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    });
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && is_address)
        || is_port
        || ["_TCP_ADDR", "_TCP_PORT", "_TCP_PROTO"].iter().any(|end| name.contains("_PORT_") && name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(name: &str, value: &str) -> Vec<String> {
        let found = read(&[(name.into(), value.into())]);
        found.mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn variables_of_kubernetes_and_of_the_tools_are_left_alone_and_mistyped_ones_are_not() {
        for (name, value) in [
            ("FANFARE_SERVICE_HOST", "10.0.0.1"),
            ("FANFARE_SERVICE_PORT", "80"),
            ("FANFARE_SERVICE_PORT_HTTP", "80"),
            ("FANFARE_PORT", "tcp://10.0.0.1:80"),
            ("FANFARE_PORT_8080_TCP", "tcp://10.0.0.1:80"),
            ("FANFARE_PORT_8080_TCP_PROTO", "tcp"),
            ("FANFARE_ADMIN_SERVICE_HOST", "10.0.0.1"),
            ("FANFARE_ADMIN_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("FANFARE_BIN", "target/release/fanfare"),
            ("FANFARES_OTHER", "x"),
            ("OTHER", "x"),
        ] {
            assert_eq!(mistakes(name, value), [""; 0], "{name}");
        }
        assert_eq!(
            mistakes("FANFARE_SHARD", "2"),
            ["FANFARE_SHARD: there is no such setting: did you mean FANFARE_SHARDS?"]
        );
        assert!(mistakes("FANFARE_PORT", "8080")[0].contains("no such setting"));
        assert!(mistakes("FANFARE_COLOUR", "1")[0].contains("--help"));
    }
}
