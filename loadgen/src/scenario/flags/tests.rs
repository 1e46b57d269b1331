//! Flags lie over the file, each over its own key.

use clap::{CommandFactory, Parser};
use proptest::prelude::*;

use super::*;
use crate::scenario::keys;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    scenario: ScenarioArgs,
}

fn applied_to(mut scenario: Scenario, words: &[&str]) -> Result<Scenario, String> {
    let line = Line::try_parse_from([&["loadgen"], words].concat()).map_err(|error| error.to_string())?;
    line.scenario.flags.apply(&mut scenario).map_err(|failure| failure.to_string())?;
    Ok(scenario)
}

fn applied(words: &[&str]) -> Result<Scenario, String> {
    applied_to(Scenario::default(), words)
}

/// A flag, the key it sets, and the value the key then has in TOML.
const EACH: &[(&[&str], &str, &str)] = &[
    (&["--name", "a"], "name", "'a'"),
    (&["--seed", "7"], "seed", "7"),
    (&["--repetitions", "3"], "repetitions", "3"),
    (&["--warmup", "3s"], "warmup", "'3s'"),
    (&["--duration", "500ms"], "duration", "'500ms'"),
    (&["--drain-timeout", "1m"], "drain_timeout", "'1m'"),
    (&["--reconnect-storm", "3s"], "storm.at", "'3s'"),
    (&["--url", "ws://a:1"], "target.url", "'ws://a:1'"),
    (&["--preset", "node-ws"], "target.preset", "'node-ws'"),
    (&["--subprotocol", "a", "--subprotocol", "b"], "target.subprotocols", "['a', 'b']"),
    (&["--header", "K: V: W"], "target.headers", "{ K = 'V: W' }"),
    (&["--token", "t"], "target.token", "'t'"),
    (&["--token-file", "f"], "target.token_file", "'f'"),
    (&["--deflate"], "target.deflate", "true"),
    (&["--tls-ca", "f"], "target.tls.ca", "'f'"),
    (&["--tls-server-name", "n"], "target.tls.server_name", "'n'"),
    (&["--tls-insecure"], "target.tls.insecure", "true"),
    (&["--tls-certificate", "f"], "target.tls.certificate", "'f'"),
    (&["--tls-key", "f"], "target.tls.key", "'f'"),
    (&["--tls-resumption"], "target.tls.resumption", "true"),
    (&["--total", "9"], "connections.total", "9"),
    (&["--subscribers", "9"], "connections.subscribers", "9"),
    (&["--publishers", "9"], "connections.publishers", "9"),
    (&["--publish-via", "http"], "connections.publish_via", "'http'"),
    (&["--idle", "5%"], "connections.idle", "'5%'"),
    (&["--slow", "5"], "connections.slow", "'5'"),
    (&["--stalled", "5"], "connections.stalled", "'5'"),
    (&["--churning", "5"], "connections.churning", "'5'"),
    (&["--connect-rate", "50"], "connect.rate_per_s", "50.0"),
    (&["--connect-concurrency", "50"], "connect.concurrency", "50"),
    (&["--connect-timeout", "1s"], "connect.timeout", "'1s'"),
    (&["--connect-failures-max", "1%"], "connect.failures_max", "'1%'"),
    (&["--bind", "127.0.0.2,127.0.0.3"], "connect.bind", "['127.0.0.2', '127.0.0.3']"),
    (&["--rate", "5"], "load.rate_per_s", "5.0"),
    (&["--poisson"], "load.kind", "'poisson'"),
    (&["--steps", "5:1s"], "load.steps", "[{ rate_per_s = 5.0, duration = '1s' }]"),
    (&["--ramp", "1..2"], "load.to_rate_per_s", "2.0"),
    (&["--burst", "64/100ms"], "load.burst_size", "64"),
    (&["--burst", "64/100ms"], "load.burst_every", "'100ms'"),
    (&["--in-flight", "8"], "load.in_flight", "8"),
    (&["--payload-bytes", "4KiB"], "payload.bytes", "'4KiB'"),
    (&["--binary"], "payload.binary", "true"),
    (&["--filler", "json"], "payload.filler", "'json'"),
    (&["--topics", "8"], "topics.count", "8"),
    (&["--topic-name", "t{n}"], "topics.name", "'t{n}'"),
    (&["--zipf=1.5"], "topics.zipf_exponent", "1.5"),
    (&["--zipf"], "topics.publications", "'zipf'"),
    (&["--zipf"], "topics.subscribers", "'zipf'"),
    (&["--threads", "2"], "client.threads", "2"),
    (&["--processes", "2"], "client.processes", "2"),
    (&["--pin", "0,1"], "client.pin", "[0, 1]"),
    (&["--cpu-share-max", "0.5"], "client.cpu_share_max", "0.5"),
    (&["--lag-max", "5ms"], "client.lag_max", "'5ms'"),
    (&["--late-after", "5ms"], "client.late_after", "'5ms'"),
    (&["--message-bytes-max", "1MiB"], "client.message_bytes_max", "'1MiB'"),
    (&["--server-pid", "5"], "server.pid", "5"),
    (&["--server-revision", "r 1"], "server.revision", "'r 1'"),
    (&["--set", "connections.churn_lifetime=2s"], "connections.churn_lifetime", "'2s'"),
    (&["--set", "connections.slow_bytes_per_s=2"], "connections.slow_bytes_per_s", "'2'"),
];

fn value_at(scenario: &Scenario, path: &str) -> Option<toml::Value> {
    let whole = toml::Value::try_from(scenario).unwrap();
    path.split('.').try_fold(&whole, |value, part| value.get(part)).cloned()
}

#[test]
fn each_flag_sets_its_key() {
    for (words, path, value) in EACH {
        let scenario = applied(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
        let expected: toml::Table = toml::from_str(&format!("value = {value}")).unwrap();
        assert_eq!(value_at(&scenario, path).as_ref(), expected.get("value"), "{words:?}");
        assert_ne!(scenario, Scenario::default(), "{words:?}");
    }
}

#[test]
fn every_key_can_be_overridden_by_a_flag_of_its_own_or_by_set() {
    let command = Line::command();
    for path in keys::paths() {
        let flag = flag_of(&path);
        let is_flag = |name| command.get_arguments().any(|arg| arg.get_long() == Some(name));
        if let Some(name) = flag.strip_prefix("--").filter(|name| !name.starts_with("set ")) {
            assert!(is_flag(name), "{path}: there is no {flag}");
        }
        let (_, key) = keys::find(&path).unwrap();
        let value = key.example.map_or_else(|| keys::default_of(&path).unwrap().to_string(), str::to_owned);
        let scenario = applied(&["--set", &format!("{path}={value}")]);
        assert!(scenario.is_ok(), "{path}={value}: {scenario:?}");
    }
}

#[test]
fn the_help_is_grouped_and_says_units_and_defaults() {
    let help = Line::command().render_long_help().to_string();
    for part in [
        "Target:",
        "Connections:",
        "Load:",
        "Run:",
        "[default: 10s]",
        "[default: 100]",
        "{n} is the topic",
        "[default: loadgen.{n}]",
        "publications a second",
    ] {
        assert!(help.contains(part), "{part} is missing");
    }
    for argument in Line::command().get_arguments() {
        let is_explained = argument.get_help().is_some_and(|help| help.to_string().len() > 15);
        assert!(is_explained, "{:?} is not explained", argument.get_id());
    }
}

#[test]
fn a_shape_takes_the_place_of_the_file_s_shape_and_keeps_its_rate() {
    let load = Load { kind: LoadKind::Burst, burst_size: 5, rate_per_s: 30.0, ..Load::default() };
    let file = Scenario { load, ..Scenario::default() };
    let load = applied_to(file, &["--poisson"]).unwrap().load;
    assert_eq!(load, Load { kind: LoadKind::Poisson, rate_per_s: 30.0, ..Load::default() });
}

#[test]
fn flags_that_would_have_no_effect_are_refused() {
    let mut file = Scenario::default();
    file.load.kind = LoadKind::Closed;
    assert!(applied_to(file, &["--rate", "5"]).unwrap_err().contains("--rate has no meaning"));
    let mut file = Scenario::default();
    file.connections.total = 50;
    assert!(applied_to(file, &["--subscribers", "5"]).unwrap_err().contains("--total"));
    for words in [["--poisson", "--burst=5/1s"], ["--rate=5", "--steps=5:1s"], ["--token=a", "--token-file=b"]] {
        assert!(applied(&words).unwrap_err().contains("cannot be used with"), "{words:?}");
    }
}

#[test]
fn booleans_can_be_taken_back() {
    let mut file = Scenario::default();
    file.payload.binary = true;
    assert!(!applied_to(file, &["--binary=false"]).unwrap().payload.binary);
}

#[test]
fn set_reads_toml_then_text_and_an_empty_value_takes_a_key_away() {
    let set = |setting: &str| applied(&["--set", setting]);
    assert_eq!(set("target.token=true").unwrap().target.token.as_deref(), Some("true"));
    assert_eq!(set("name=5").unwrap().name, "5");
    assert_eq!(set("target.template.publish={\"a\":1}").unwrap().target.template.publish.as_deref(), Some("{\"a\":1}"));
    let mut file = Scenario::default();
    file.storm.at = Some(crate::units::Span(std::time::Duration::from_secs(1)));
    file.seed = 9;
    let bare = applied_to(file, &["--set", "storm.at=", "--set", "seed=", "--set", "target.token="]).unwrap();
    assert_eq!(bare, Scenario::default());
}

#[test]
fn set_refuses_with_key_value_and_what_is_allowed() {
    let cases: [(&str, &[&str]); 8] = [
        ("targt.url=x", &["targt", "mean 'target'?"]),
        ("target.urll=x", &["'urll'", "[target]", "mean 'url'?"]),
        ("load.kind=possion", &["load.kind=possion", "mean 'poisson'?"]),
        ("duration=10", &["duration=10", "no unit"]),
        ("seed=-1", &["seed=-1", "whole number"]),
        ("seed.x=1", &["'seed'", "no table"]),
        ("colour=", &["'colour'"]),
        ("novalue", &["KEY.PATH=VALUE"]),
    ];
    for (setting, parts) in cases {
        let error = applied(&["--set", setting]).unwrap_err();
        assert!(parts.iter().all(|part| error.contains(part)), "{setting}: {error}");
    }
}

proptest! {
    #[test]
    fn no_setting_makes_it_panic(path in "[a-z_]{1,6}(\\.[a-z_]{0,6}){0,2}", value in "[ -~\n]{0,12}") {
        let mut scenario = Scenario::default();
        let _ = set::set(&mut scenario, &path, &value);
    }
}
