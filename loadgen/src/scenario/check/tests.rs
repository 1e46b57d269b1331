//! Every range and every contradiction is refused, with the name of its setting.

use proptest::prelude::*;

use super::*;
use crate::scenario::{Answer, Load, RateStep, Template};
use crate::units::Size;

fn right() -> Scenario {
    let mut scenario = Scenario::default();
    scenario.target.url = "ws://127.0.0.1:8080".into();
    scenario
}

fn check(scenario: &Scenario) -> Result<(), String> {
    scenario.check_on(Some(&[0, 1])).map_err(|failure| {
        assert_eq!(failure.exit_code(), 2);
        failure.to_string()
    })
}

/// Sets keys by their paths, as `--set` does.
fn with(settings: &[&str]) -> Scenario {
    let mut scenario = right();
    let set =
        settings.iter().map(|setting| setting.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect();
    let flags = crate::scenario::flags::ScenarioFlags { set, ..Default::default() };
    flags.apply(&mut scenario).unwrap();
    scenario
}

#[test]
fn the_default_with_a_url_is_right() {
    assert_eq!(check(&right()), Ok(()));
}

/// Settings of which the first one's key is wrong.
const WRONG: &[&[&str]] = &[
    &["name="],
    &["name=a b"],
    &["name=../etc"],
    &["repetitions=0"],
    &["repetitions=10001"],
    &["warmup=25h"],
    &["duration=99ms"],
    &["duration=25h"],
    &["drain_timeout=2h"],
    &["target.url=http://a:1"],
    &["target.url=ws://"],
    &["target.url=ws://:80"],
    &["target.url=ws://a:0"],
    &["target.url=ws://a:65536"],
    &["target.url=ws://a:x"],
    &["target.url=ws://user@a:80"],
    &["target.url=ws://a b:80"],
    &["target.url=ws://[::1:80"],
    &["target.url=ws://[zz]:80"],
    &["target.url=ws://a:80/#x"],
    &["target.subprotocols=['a b']"],
    &["target.headers={ 'a b' = 'c' }"],
    &["target.headers={ Upgrade = 'c' }"],
    &["target.headers={ a = \"c\\r\\nd\" }"],
    &["target.token=\"a\\n\""],
    &["target.token_file=f", "target.token=t"],
    &["target.template.subscribe_path=x"],
    &["target.template.publish_path=/a b"],
    &["target.template.idle_path="],
    &["target.template.heartbeat={ every = '1ms', send = 'x' }"],
    &["target.tls.ca=f"],
    &["target.tls.insecure=true"],
    &["target.tls.server_name=n"],
    &["target.tls.certificate=f", "target.url=wss://a:1"],
    &["target.tls.key=f", "target.url=wss://a:1"],
    &["connections.total=10000001"],
    &["connections.total=5", "connections.idle=3", "connections.slow=3"],
    &["connections.total=100", "connections.idle=50%", "connections.slow=50%"],
    &["connections.subscribers=10000001"],
    &["connections.subscribers=0", "connections.publishers=0"],
    &["connections.publishers=10000001"],
    &["connections.idle=5%"],
    &["connections.slow=10000001"],
    &["connections.stalled=0.1%"],
    &["connections.churning=5%"],
    &["connections.slow_bytes_per_s=0"],
    &["connections.churn_lifetime=1ms"],
    &["connect.rate_per_s=-1.0"],
    &["connect.rate_per_s=nan"],
    &["connect.rate_per_s=1e9"],
    &["connect.concurrency=0"],
    &["connect.timeout=0"],
    &["connect.timeout=2h"],
    &["connect.failures_max=100000001"],
    &["connect.bind=['0.0.0.0']"],
    &["topics.count=0"],
    &["topics.name=plain", "topics.count=2"],
    &["topics.name=\"a\\n\""],
    &["topics.zipf_exponent=-0.5"],
    &["topics.zipf_exponent=inf"],
    &["load.rate_per_s=0.0"],
    &["load.rate_per_s=nan"],
    &["load.rate_per_s=1e8"],
    &["load.rate_per_s=0", "load.kind=poisson"],
    &["load.to_rate_per_s=0", "load.kind=ramp"],
    &["load.to_rate_per_s=5"],
    &["load.steps=[{ rate_per_s = 1, duration = '1s' }]"],
    &["load.steps=[]", "load.kind=steps"],
    &["load.steps=[{ rate_per_s = 0, duration = '1s' }]", "load.kind=steps"],
    &["load.steps=[{ rate_per_s = 1, duration = '1ms' }]", "load.kind=steps"],
    &["load.burst_size=5"],
    &["load.burst_every=1s"],
    &["load.burst_size=0", "load.kind=burst", "load.burst_every=1s"],
    &["load.burst_every=0", "load.kind=burst", "load.burst_size=1"],
    &["load.burst_every=11s", "load.kind=burst", "load.burst_size=1"],
    &["load.burst_size=1000000", "load.kind=burst", "load.burst_every=1ms"],
    &["load.in_flight=0", "load.kind=closed"],
    &["payload.bytes=51"],
    &["payload.bytes=17MiB"],
    &["storm.at=10s"],
    &["storm.at=1s", "connections.subscribers=0"],
    &["storm.at=1s", "connections.total=1"],
    &["client.threads=0"],
    &["client.processes=1025"],
    &["client.pin=[7]"],
    &["server.cores=[7]"],
    &["client.cpu_share_max=0.0"],
    &["client.cpu_share_max=1.1"],
    &["client.lag_max=0"],
    &["client.late_after=2h"],
    &["client.message_bytes_max=1"],
    &["client.message_bytes_max=2GiB"],
    &["server.pid=0"],
    &["server.revision=\"a\\nb\""],
];

#[test]
fn each_wrong_value_is_refused_with_key_flag_and_what_is_allowed() {
    for settings in WRONG {
        let key = settings[0].split_once('=').unwrap().0;
        let mut scenario = with(settings);
        match settings[0] {
            // An empty value takes a key away; these are empty.
            "name=" => scenario.name.clear(),
            "target.template.idle_path=" => scenario.target.template.idle_path = Some(String::new()),
            _ => {}
        }
        let error = check(&scenario).expect_err(settings[0]);
        assert!(error.starts_with(&format!("{key} (--")), "{settings:?}: {error}");
        let says_what = ["allowed is", "less than"].iter().any(|words| error.contains(words));
        assert!(says_what && !error.contains('\n'), "{settings:?}: {error}");
    }
}

#[test]
fn a_missing_url_is_asked_for() {
    assert!(check(&Scenario::default()).unwrap_err().contains("target.url (--url) is missing"));
}

#[test]
fn an_answer_to_everything_is_refused() {
    let mut scenario = right();
    let answers = Some(vec![Answer { to: String::new(), send: "x".into() }]);
    scenario.target.template = Template { answers, ..Template::default() };
    assert!(check(&scenario).unwrap_err().contains("target.template.answers"));
}

#[test]
fn whoever_publishes_nothing_may_say_of_the_load_what_he_likes() {
    let mut scenario = with(&["connections.publishers=0", "payload.bytes=1", "load.to_rate_per_s=5"]);
    scenario.load.rate_per_s = f64::NAN;
    assert_eq!(check(&scenario), Ok(()));
}

#[test]
fn all_forms_of_a_url_are_right() {
    for url in ["ws://a", "wss://a.example:443/path?x={topic}", "ws://[::1]:80", "ws://127.0.0.1:1/", "ws://a?x=1"] {
        assert_eq!(check(&with(&[&format!("target.url={url}")])), Ok(()), "{url}");
    }
}

#[test]
fn shares_are_right_with_a_total_and_cores_are_only_asked_for_where_they_are_known() {
    assert_eq!(check(&with(&["connections.total=100", "connections.idle=50%", "connections.slow=49%"])), Ok(()));
    assert!(with(&["client.pin=[7]"]).check_on(None).is_ok());
}

#[test]
fn the_measured_time_is_the_sum_of_the_steps() {
    let mut scenario = with(&["storm.at=11s", "load.kind=steps"]);
    let step = RateStep { rate_per_s: 5.0, duration: Span(Duration::from_secs(6)) };
    scenario.load = Load { steps: vec![step; 2], ..scenario.load };
    assert_eq!(scenario.measured_time(), Duration::from_secs(12));
    assert_eq!(check(&scenario), Ok(()));
}

proptest! {
    #[test]
    fn a_rate_is_right_exactly_between_its_bounds(rate in prop::num::f64::ANY) {
        let mut scenario = right();
        scenario.load.rate_per_s = rate;
        prop_assert_eq!(check(&scenario).is_ok(), (0.001..=1e7).contains(&rate));
    }

    #[test]
    fn a_payload_is_right_exactly_between_marker_and_maximum(bytes: u64, max in 1024_u64..1 << 30) {
        let mut scenario = right();
        scenario.client.message_bytes_max = Size(max);
        for bytes in [bytes, bytes % (2 * max), max, max + 1, 51, 52] {
            scenario.payload.bytes = Size(bytes);
            prop_assert_eq!(check(&scenario).is_ok(), (52..=max).contains(&bytes));
        }
    }

    #[test]
    fn no_url_makes_it_panic(url in "(ws|wss)?(://)?[a-z0-9:\\[\\]/?@# é]{0,16}") {
        let mut scenario = right();
        scenario.target.url = url;
        let _ = check(&scenario);
    }
}
