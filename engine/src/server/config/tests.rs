//! The configuration as a whole: sources over one another, mistakes with their places, what is printed.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::table::{SECTIONS, settings};
use super::value::{Kind, Value};
use super::*;
use crate::{Origins, RatePolicy};

/// A folder with a configuration file, which only its owner can read.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new(text: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("fanfare.toml", text, 0o600);
        folder
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.display().to_string()
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("fanfare.toml")
    }

    fn read(&self, flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let path = self.path().display().to_string();
        let flags = [&["--config", &path], flags].concat();
        // Shorter than the path of the day.
        read(&flags, variables).map_err(|mistakes| mistakes.iter().map(|text| text.replace(&path, "f.toml")).collect())
    }
}

fn read(flags: &[&str], variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let arguments = std::iter::once("fanfare").chain(flags.iter().copied()).map(OsString::from).collect();
    let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    match Config::read(arguments, variables) {
        Ok((config, _)) => Ok(config),
        Err(refused) => Err(refused.mistakes().iter().map(ToString::to_string).collect()),
    }
}

fn flags(flags: &[&str]) -> Result<Config, Vec<String>> {
    read(flags, &[])
}

/// Each list of parts must be in the mistake at its place, and there must be no other.
fn assert_mistakes(mistakes: Result<Config, Vec<String>>, expected: &[&[&str]]) {
    let mistakes = mistakes.expect_err("refused");
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
    for (mistake, parts) in mistakes.iter().zip(expected) {
        for part in *parts {
            assert!(mistake.contains(part), "{mistake:?} does not say {part:?}");
        }
        assert!(!mistake.contains('\n'), "{mistake:?} is more than one line");
    }
}

#[test]
fn the_command_line_is_consistent() {
    super::flags::command().debug_assert();
}

#[test]
fn without_options_it_is_safe_and_keeps_a_history() {
    let config = flags(&[]).unwrap();
    assert_eq!(config.addresses(), ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.settings.origins, Origins::SameHost);
    assert_eq!(config.topics.default_settings().history_messages, 100);
    assert_eq!(config.settings.message_bytes, 16 << 20);
    assert!(config.shards() >= 1 && !config.auth.is_on() && config.auth.api_token.is_none());
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file_each_key_by_itself() {
    let folder = Folder::new("[limits]\nconnections_max = 1\nhandshakes_max = 2\nmessage_bytes = 3\ntopics_max = 4\n");
    let variables = [("FANFARE_CONNECTIONS_MAX", "10"), ("FANFARE_HANDSHAKES_MAX", "20"), ("FANFARE_SHARDS", "5")];
    let config = folder.read(&["--connections-max", "100", "--shards=50"], &variables).unwrap();
    let settings = &config.settings;
    assert_eq!((settings.connections_max, settings.handshakes_max, settings.message_bytes), (100, 20, 3));
    assert_eq!((settings.topics_max, config.shards), (4, 50));
    let source = |key| config.source(key).to_string().replace(&folder.path().display().to_string(), "f.toml");
    for (key, from) in [
        ("connections_max", "--connections-max"),
        ("handshakes_max", "FANFARE_HANDSHAKES_MAX"),
        ("message_bytes", "f.toml:4"),
        ("idle_timeout_s", "default"),
    ] {
        assert_eq!(source(key), from);
    }
}

#[test]
fn the_environment_can_name_the_file() {
    let folder = Folder::new("[threads]\nshards = 3");
    let named = folder.path().display().to_string();
    assert_eq!(read(&[], &[("FANFARE_CONFIG", &named)]).unwrap().shards, 3);
    let other = Folder::new("[threads]\nshards = 7");
    assert_eq!(other.read(&[], &[("FANFARE_CONFIG", &named)]).unwrap().shards, 7);
    assert_mistakes(read(&[], &[("FANFARE_CONFIG", "/nowhere.toml")]), &[&["/nowhere.toml", "cannot be read"]]);
}

#[test]
fn lists_come_repeated_parted_by_commas_or_as_lists_and_replace_one_another() {
    let folder = Folder::new("[network]\norigin = ['https://a.example', 'https://b.example']");
    let origins = |config: Config| config.settings.origins;
    let list = |items: &[&str]| Origins::List(items.iter().map(|item| (*item).to_owned()).collect());
    assert_eq!(origins(folder.read(&[], &[]).unwrap()), list(&["https://a.example", "https://b.example"]));
    let variable = [("FANFARE_ORIGIN", "https://c.example, https://d.example")];
    assert_eq!(origins(folder.read(&[], &variable).unwrap()), list(&["https://c.example", "https://d.example"]));
    let given = ["--origin=https://e.example", "--origin", "https://f.example"];
    assert_eq!(origins(folder.read(&given, &variable).unwrap()), list(&["https://e.example", "https://f.example"]));
    assert_eq!(origins(folder.read(&[], &[("FANFARE_ORIGIN", "")]).unwrap()), Origins::SameHost);
    assert_eq!(origins(flags(&["--origin=any"]).unwrap()), Origins::Any);
}

#[test]
fn switches_need_no_value_as_flags_and_can_be_turned_off() {
    let folder = Folder::new("[threads]\npin = true");
    assert!(folder.read(&[], &[]).unwrap().pin);
    assert!(!folder.read(&["--pin=false"], &[]).unwrap().pin);
    assert!(!folder.read(&[], &[("FANFARE_PIN", "false")]).unwrap().pin);
    assert!(flags(&["--pin", "--log-json"]).unwrap().log_json);
    assert_mistakes(read(&[], &[("FANFARE_PIN", "yes")]), &[&["FANFARE_PIN is 'yes': it must be true or false"]]);
}

#[test]
fn other_addresses_than_loopback_need_authentication_or_a_word() {
    for address in ["0.0.0.0:80", "[::]:80", "192.168.1.1:80", "[::ffff:10.0.0.1]:80"] {
        assert_mistakes(flags(&["--listen", address]), &[&["--listen", address, "--open", "jwt_keys"]]);
        assert!(flags(&["--listen", address, "--open"]).is_ok(), "{address}");
        assert!(flags(&["--listen", address, "--auth-url=http://127.0.0.1/"]).is_ok(), "{address}");
        assert_mistakes(flags(&["--api-listen", address]), &[&["--api-listen", "api_token_file"]]);
        assert!(flags(&["--api-listen", address, "--api-token=0123456789abcdef"]).is_ok(), "{address}");
    }
    for address in ["127.0.0.1:0", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
        assert!(flags(&["--listen", address]).is_ok(), "{address}");
        assert!(flags(&["--api-listen", address]).is_ok(), "{address}");
    }
}

#[test]
fn what_is_open_is_said() {
    let said = |given: &[&str]| {
        let config = flags(given).unwrap();
        config.warnings(&config.addresses()).join(" ")
    };
    let loopback = said(&[]);
    assert!(loopback.contains("no authentication") && loopback.contains("close connections"), "{loopback}");
    let open = said(&["--listen=0.0.0.0:80", "--open"]);
    assert!(open.contains("no authentication") && open.contains("set api_token_file"), "{open}");
    let short = said(&["--api-token=short"]);
    assert!(short.contains("shorter than 16") && short.contains("every user") && !short.contains("'short'"), "{short}");
    assert_eq!(said(&["--auth-url=https://auth.example/"]), "");
}

#[test]
fn a_bad_value_is_named_with_what_is_allowed() {
    for (given, parts) in [
        (&["--shards=257"][..], &["--shards is '257'", "from 0 to 256"][..]),
        (&["--ping-interval-s", "-1"], &["--ping-interval-s is '-1'", "from 0 to"]),
        (&["--message-bytes=many"], &["--message-bytes is 'many'", "from 1 to 1073741824"]),
        (&["--listen=nonsense"], &["--listen is 'nonsense'", "IP:PORT"]),
        (&["--listen=127.0.0.1:1", "--listen=x"], &["--listen", "'x'", "IP:PORT"]),
        (&["--topic=a:histroy=1"], &["--topic", "'histroy'", "mean 'history'", "history_messages"]),
        (&["--topic=a:policy=hope"], &["--topic", "'hope'", "drop-oldest"]),
        (&["--topic=a:pending_bytes=0"], &["pending_bytes is '0'", "from 1 to"]),
        (&["--topic=a:history=1,history_messages=2"], &["history_messages is given twice"]),
        (&["--topic=a"], &["PATTERN:SETTING=VALUE"]),
        (&["--topic=>.a:policy=conflate"], &["'>.a'", "'>' may only be the last"]),
        (&["--topic=a:history=1", "--topic=a:history=2"], &["'a' is given twice"]),
        (&["--role=a b:publish=x"], &["the name of a role"]),
        (&["--role=r:subscribe=a|>.b"], &["--role", "'>.b'"]),
        (&["--role=r:subscirbe=a"], &["mean 'subscribe'"]),
        (&["--role=r:subscribe=users.{user}"], &["{user}", "only {sub}"]),
        (&["--origin=example.com"], &["--origin is 'example.com'", "SCHEME://HOST"]),
        (&["--origin=https://a/b"], &["without a path"]),
        (&["--static=/nowhere"], &["--static is '/nowhere'", "directory"]),
        (&["--log=loud"], &["--log is 'loud'", "debug"]),
        (&["--log="], &["--log is ''", "debug"]),
        (&["--rate-policy=slowdown"], &["slow-down, drop, close", "mean 'slow-down'"]),
        (&["--trusted-proxies=10.0.0.0/99"], &["--trusted-proxies is '10.0.0.0/99'", "CIDR"]),
        (&["--jwt-keys=none=/x"], &["--jwt-keys is 'none=/x'", "EdDSA"]),
        (&["--auth-url=auth.example"], &["--auth-url", "http://HOST"]),
        (&["--shards=1", "--shards=2"], &["--shards", "2 times"]),
        (&["--shards"], &["--shards", "value"]),
        (&["--pin", "false"], &["unexpected argument 'false'"]),
        (&["--conections-max=1"], &["--conections-max: there is no such flag", "mean --connections-max"]),
        (&["--colour"], &["--colour", "--help"]),
    ] {
        assert_mistakes(flags(given), &[parts]);
    }
}

#[test]
fn contradictions_are_refused_with_both_sides_and_where_they_come_from() {
    let folder = Folder::new("[limits]\nping_interval_s = 60\n");
    let mistakes = folder.read(&["--idle-timeout-s=60"], &[]);
    assert_mistakes(
        mistakes,
        &[&["--idle-timeout-s: idle_timeout_s is 60", "ping_interval_s is 60 (f.toml:2)", "more than"]],
    );
    for (given, parts) in [
        (&["--idle-timeout-s=5", "--ping-interval-s=5"][..], &["--idle-timeout-s", "more than"][..]),
        (&["--idle-timeout-s=30"], &["ping_interval_s is 30 (default)"]),
        (&["--ping-interval-s=120"], &["--ping-interval-s: idle_timeout_s is 120 (default)", "ping_interval_s is 120"]),
        (&["--pong-timeout-s=5", "--ping-interval-s=0"], &["--pong-timeout-s", "without pings"]),
        (&["--pong-timeout-s=90"], &["--pong-timeout-s", "has no effect"]),
        (
            &["--connections-per-ip-max=5", "--connections-max=4"],
            &["--connections-per-ip-max", "at most connections_max"],
        ),
        (&["--messages-burst=5"], &["--messages-burst", "set messages_per_s"]),
        (&["--received-bytes-burst=5"], &["--received-bytes-burst", "set received_bytes_per_s"]),
        (&["--received-bytes-burst=5", "--received-bytes-per-s=5"], &["message_bytes is 16777216 (default)"]),
        (&["--inbound-total-bytes=5"], &["--inbound-total-bytes", "must fit"]),
        (&["--pending-total-bytes=5"], &["--pending-total-bytes", "must fit"]),
        (&["--history-total-bytes=5"], &["--history-total-bytes", "must fit"]),
        (&["--client-address=forwarded"], &["--client-address", "trusted_proxies"]),
        (&["--trusted-proxies=10.0.0.0/8"], &["--trusted-proxies", "client_address"]),
        (&["--listen=127.0.0.1:80", "--listen=127.0.0.1:80"], &["--listen", "127.0.0.1:80 is given twice"]),
        (&["--listen=127.0.0.1:80", "--api-listen=127.0.0.1:80"], &["--api-listen", "share"]),
        (&["--jwt-issuer=me"], &["--jwt-issuer", "not authenticated"]),
        (&["--role=default:subscribe=>"], &["--role", "'default'", "not authenticated"]),
        (&["--tls-cert=a", "--tls-cert=b", "--tls-key=a"], &["--tls-cert", "2 certificates and 1 keys"]),
        (&["--tls-dev", "--tls-client-auth=optional"], &["--tls-client-auth", "set tls_client_ca"]),
        (&["--listen=https://127.0.0.1:80"], &["--listen", "no certificate"]),
        (&["--listen=ws://127.0.0.1:80", "--listen=127.0.0.1:80"], &["--listen", "127.0.0.1:80 is given twice"]),
        (&["--sys-interval-ms=50"], &["--sys-interval-ms", "at least 100"]),
        (&["--topic=a.*:history=1", "--topic=*.b:history=2"], &["--topic", "'a.b'", "'a.*'", "'*.b'", "neither"]),
    ] {
        assert_mistakes(flags(given), &[parts]);
    }
    for given in [
        &["--topic=a.*:history=1", "--topic=*.b:history=1"][..],
        &["--topic=a.*:history=1", "--topic=*.b:history=2", "--topic=a.b:history=3"],
        &["--topic=a.*:history=1", "--topic=a.>:history=2"],
        &["--pong-timeout-s=89"],
        &["--listen=127.0.0.1:0", "--listen=127.0.0.1:0"],
    ] {
        assert!(flags(given).is_ok(), "{given:?}");
    }
}

#[test]
fn a_wrong_value_is_not_told_again_as_a_contradiction() {
    assert_mistakes(flags(&["--idle-timeout-s=20", "--ping-interval-s=x"]), &[&["--ping-interval-s is 'x'"]]);
    assert_mistakes(flags(&["--listen=0.0.0.0:80", "--auth-url=x"]), &[&["--auth-url is 'x'"]]);
}

#[test]
fn all_mistakes_of_all_sources_are_told_at_once_with_their_lines() {
    let folder = Folder::new(
        "[limits]\nconnections_max = 0\nconections_max = 5\nmessage_bytes = \"1\"\n\n[netwrok]\n[topics]\npending_bytes = 5\n\
         shards = 2\n[topics.'>.a']\n[topics.a]\npolicy = 'hope'\nhistry_bytes = 1\n[topics.b.c]\nhistory_bytes = 1\n\
         [role.r]\nread = ['a']\npublish = 'a'\n",
    );
    let given = ["--shard=1", "--pni", "--log=loud", "extra"];
    assert_mistakes(
        folder.read(&given, &[("FANFARE_SHARDS", "x"), ("FANFARE_SHRADS", "1")]),
        &[
            &["f.toml:2: limits.connections_max is 0", "from 1 to 4294967295"],
            &["f.toml:3: there is no key 'conections_max' in [limits]", "mean 'connections_max'"],
            &["f.toml:4: limits.message_bytes is \"1\"", "a whole number"],
            &["f.toml:6: there is no table [netwrok]", "mean [network]"],
            &["f.toml:8: there is no key 'pending_bytes' in [topics]", "mean 'topic_pending_bytes'"],
            &["f.toml:9: there is no key 'shards' in [topics]", "[threads]"],
            &["f.toml:10: [topics.\">.a\"]", "'>' may only be the last"],
            &["f.toml:12: topics.\"a\".policy is 'hope'", "drop-oldest"],
            &["f.toml:13: [topics.\"a\"]", "'histry_bytes'", "mean 'history_bytes'"],
            &["f.toml:14: in [topics.b.c]", "[topics.\"b.c\"]"],
            &["f.toml:17: [role.r]", "'read'", "subscribe, publish"],
            &["f.toml:18: role.r.publish must be a list"],
            &["FANFARE_SHARDS is 'x'", "from 0 to 256"],
            &["FANFARE_SHRADS", "mean FANFARE_SHARDS"],
            &["--shard: ", "mean --shards"],
            &["--pni: ", "mean --pin"],
            &["unexpected argument 'extra'"],
            &["--log is 'loud'"],
        ],
    );
}

#[test]
fn a_secret_that_is_not_toml_is_not_shown() {
    for text in [
        "[network]\napi_token = \"hush\n",
        "[network]\napi_token = hush\n",
        "[network]\napi_token \"hush\"\n",
        "[network]\napi_token = \"a\"\napi_token = \"hush\"\n",
        "[network]\napi_token = \"\"\"\nhush==\n",
        "[network]\nApi-Token = hush\n",
        "network.api_token = hush\n",
    ] {
        let mistakes = Folder::new(text).read(&[], &[]).unwrap_err();
        assert!(mistakes.iter().any(|mistake| mistake.contains("'(secret)' is not TOML")), "{text}: {mistakes:#?}");
        assert!(!mistakes.iter().any(|mistake| mistake.contains("hush")), "{text}: {mistakes:#?}");
    }
}

#[test]
fn what_is_not_toml_is_shown_with_its_lines() {
    let folder = Folder::new("[limits]\nconnections_max = = 3\nx\n[threads\n");
    let mistakes = folder.read(&[], &[]).unwrap_err();
    for line in ["f.toml:2: 'connections_max = = 3' is not TOML", "f.toml:3: 'x'", "f.toml:4: '[threads'"] {
        assert!(mistakes.iter().any(|mistake| mistake.starts_with(line)), "{line}: {mistakes:#?}");
    }
    for (text, parts) in [
        ("shards = 1", ["f.toml:1", "'shards' belongs into [threads]"]),
        ("limits = 1", ["f.toml:1", "[limits]"]),
        ("[threads]\nshards = 1\nshards = 2", ["f.toml:3", "duplicate key"]),
        ("[network]\nlisten = '127.0.0.1:1'", ["f.toml:2", "it must be a list"]),
        ("[network]\nlisten = ['localhost:1']", ["f.toml:2", "IP:PORT"]),
    ] {
        assert_mistakes(Folder::new(text).read(&[], &[]), &[&parts]);
    }
}

#[test]
fn files_that_are_missing_endless_or_no_text_are_refused_by_name() {
    for (path, part) in
        [("/nowhere.toml", "cannot be read"), ("/dev/zero", "no regular file"), ("/", "no regular file")]
    {
        assert_mistakes(flags(&["--config", path]), &[&[path, part]]);
    }
    let folder = Folder::new(&"#".repeat((1 << 20) + 1));
    assert_mistakes(folder.read(&[], &[]), &[&["1 MiB"]]);
    fs::write(folder.path(), b"# a\n\xff").unwrap();
    assert_mistakes(folder.read(&[], &[]), &[&["byte 4"]]);
}

#[test]
fn topics_get_their_settings_by_pattern_setting_by_setting() {
    let folder = Folder::new(
        "[topics]\nhistory_messages = 5\n[topics.'prices.>']\npolicy = 'drop-oldest'\nhistory_messages = 7\n\
         [topics.lobby]\npending_age_ms = 50\n[topics.policy]\nhistory_bytes = 3\n",
    );
    let variables = [("FANFARE_TOPIC", "news.*:history_age_s=9; a;b:history=2")];
    let topics = folder.read(&["--topic=prices.>:policy=conflate"], &variables);
    assert_mistakes(topics, &[&["FANFARE_TOPIC: 'a'", "PATTERN:SETTING"]]);
    let variables = [("FANFARE_TOPIC", "news.*:history_age_s=9; urn:x:history=2")];
    let topics = folder.read(&["--topic=prices.>:policy=conflate"], &variables).unwrap().topics;
    let of = |topic: &str| topics.settings(topic).clone();
    assert_eq!((of("prices.eur").policy.label(), of("prices.eur").history_messages), ("conflate", 7));
    assert_eq!((of("lobby").pending_age, of("lobby").history_messages), (Duration::from_millis(50), 5));
    assert_eq!((of("policy").history_bytes, of("other").policy.label()), (3, "disconnect"));
    assert_eq!((of("news.x").history_age, of("urn:x").history_messages), (Duration::from_secs(9), 2));
}

#[test]
fn roles_come_from_the_file_and_are_completed_or_replaced_list_by_list() {
    let folder = Folder::new(
        "[auth]\nauth_url = 'http://127.0.0.1/'\n[role.default]\nsubscribe = ['a.>']\npublish = ['users.{sub}.>']\n[role.r]\n\
         admin = ['>']\n",
    );
    let variables = [("FANFARE_ROLE", "default:subscribe=b|c.{sub}; guest:history=d")];
    let roles = folder.read(&["--role=r:publish=x"], &variables).unwrap().auth.roles;
    let role = |name: &str| roles.iter().find(|role| role.name == name).unwrap().clone();
    assert_eq!(
        (role("default").subscribe, role("default").publish),
        (vec!["b".into(), "c.{sub}".into()], vec!["users.{sub}.>".into()])
    );
    assert_eq!((role("r").admin, role("r").publish), (vec![">".to_owned()], vec!["x".to_owned()]));
    assert_eq!(role("guest").history, ["d"]);
}

#[test]
fn authentication_is_what_the_settings_say() {
    let folder = Folder::new(
        "[auth]\nauth_url = 'https://auth.example/hook'\nauth_cache_s = 0\njwt_issuer = 'me'\njwt_audience = ['a', 'b']\n\
         token_cookie = 'session'\ntoken_in_query = false\nauth_timeout_s = 3\njwt_leeway_s = 1\n[network]\napi_on_loopback = false\n",
    );
    let auth = folder.read(&[], &[]).unwrap().auth;
    let callback = auth.callback.clone().unwrap();
    assert_eq!(
        (callback.url.as_str(), callback.cache, callback.failures_max),
        ("https://auth.example/hook", Duration::ZERO, 5)
    );
    assert_eq!((auth.jwt_issuer.as_deref(), auth.cookie.as_deref()), (Some("me"), Some("session")));
    assert_eq!((auth.jwt_audience.len(), auth.query_token, auth.api_on_loopback), (2, false, false));
    assert_eq!((auth.timeout, auth.jwt_leeway), (Duration::from_secs(3), Duration::from_secs(1)));
    assert!(auth.is_on() && flags(&[]).unwrap().auth.callback.is_none());
}

#[test]
fn the_token_is_read_from_a_file_that_only_few_can_read_and_never_shown() {
    let folder = Folder::new("[network]\napi_token = 'hidden-in-the-file'\n");
    assert_eq!(folder.read(&[], &[]).unwrap().auth.api_token, Some(Secret("hidden-in-the-file".into())));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o644)).unwrap();
    assert_mistakes(folder.read(&[], &[]), &[&["f.toml:2: network.api_token is a secret", "chmod o-r"]]);

    let token = folder.write("token", "hidden-in-a-file\n", 0o640);
    let config = flags(&["--api-token-file", &token]).unwrap();
    assert_eq!(config.auth.api_token, Some(Secret("hidden-in-a-file".into())));
    for given in [&["--api-token-file", &token][..], &["--api-token=hidden-in-a-flag"]] {
        let config = flags(given).unwrap();
        let printed = format!("{config:?}\n{}", config.describe());
        assert!(!printed.contains("hidden-in"), "{printed}");
    }
    assert!(flags(&["--api-token=hidden"]).unwrap().describe().contains("api_token = \"(secret)\""));
    assert_mistakes(flags(&["--api-token=a b"]), &[&["--api-token is '(secret)'", "openssl"]]);
    assert_mistakes(flags(&["--api-token=x", "--api-token-file", &token]), &[&["--api-token-file", "both given"]]);
    for (text, mode, part) in [("x", 0o644, "chmod o-r"), ("", 0o600, "is empty"), ("a b", 0o600, "is no token")] {
        let token = folder.write("bad", text, mode);
        assert_mistakes(flags(&["--api-token-file", &token]), &[&["--api-token-file", &token, part]]);
    }
    assert_mistakes(flags(&["--api-token-file=/nowhere"]), &[&["/nowhere", "cannot be read"]]);
}

#[test]
fn a_file_of_keys_that_cannot_be_used_is_named_with_the_place_that_names_it() {
    let folder = Folder::new("[auth]\njwt_leeway_s = 1\njwt_keys = ['HS256=/nowhere']\n");
    assert_mistakes(folder.read(&[], &[]), &[&["f.toml:3: jwt_keys: ", "/nowhere"]]);
    assert_mistakes(flags(&["--jwks-file=/nowhere"]), &[&["--jwks-file: ", "/nowhere"]]);
}

#[test]
fn the_printed_configuration_is_one_that_means_the_same_with_where_each_value_comes_from() {
    let folder = Folder::new(
        "[limits]\nrate_policy = 'drop'\n[topics.'a.>']\nhistory_bytes = 9\n[role.default]\nadmin = ['x']\n",
    );
    let given =
        ["--listen=127.0.0.1:9", "--listen=[::1]:9", "--auth-url=http://127.0.0.1/", "--topic=a.>:policy=conflate"];
    let config = folder.read(&given, &[("FANFARE_LIFETIME_S", "77")]).unwrap();
    let text = config.describe().replace(&folder.path().display().to_string(), "f.toml");
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}: {text}"));
    for (key, value, source) in [
        ("listen", "[\"127.0.0.1:9\", \"[::1]:9\"]", "--listen"),
        ("rate_policy", "\"drop\"", "f.toml:2"),
        ("lifetime_s", "77", "FANFARE_LIFETIME_S"),
        ("idle_timeout_s", "120", "default"),
        ("admin", "[\"x\"]", "f.toml:6"),
    ] {
        let line = line(&format!("{key} = "));
        assert!(line.starts_with(&format!("{key} = {value} ")) && line.ends_with(&format!("# {source}")), "{line}");
    }
    let rule: Vec<_> = text.lines().skip_while(|line| !line.starts_with("[topics.\"a.>\"]")).skip(1).take(2).collect();
    assert!(rule[0].starts_with("history_bytes = 9 ") && rule[0].ends_with("# f.toml:4"), "{rule:?}");
    assert!(rule[1].starts_with("policy = \"conflate\" ") && rule[1].ends_with("# --topic"), "{rule:?}");

    let again = Folder::new(&text).read(&[], &[]).unwrap();
    for setting in settings() {
        assert_eq!(setting.row.get(&again), setting.row.get(&config), "{}", setting.row.key);
    }
    assert_eq!(again.auth, config.auth);
    assert_eq!(again.topics.settings("a.b"), config.topics.settings("a.b"));
}

/// The file of defaults with all settings taken in.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_file_of_defaults_names_every_setting_and_changes_nothing() {
    let text = print::default_file();
    let default = flags(&[]).unwrap();
    for (text, is_said) in [(text.clone(), false), (uncommented(&text), true)] {
        let config = Folder::new(&text).read(&[], &[]).unwrap();
        for setting in settings() {
            assert_eq!(setting.row.get(&config), setting.row.get(&default), "{}", setting.row.key);
            assert_eq!(config.source(setting.row.key) != Source::Default, is_said, "{}", setting.row.key);
        }
    }
    assert!(text.lines().all(|line| line.len() <= 120), "{text}");
    assert_eq!(
        super::flags::read(&["fanfare".into(), "--print-default-config".into()]).unwrap().task,
        Task::PrintDefault
    );
}

#[test]
fn the_help_tells_every_setting_with_its_default() {
    let help = match Config::read(vec!["fanfare".into(), "--help".into()], []) {
        // As wide as the terminal is.
        Err(Refused::Shown(help)) => help.split_whitespace().collect::<Vec<_>>().join(" "),
        other => panic!("{other:?}"),
    };
    for setting in settings() {
        assert!(help.contains(&format!("--{}", setting.flag)), "{}", setting.flag);
    }
    for part in
        ["Network:", "Authentication:", "[default: 127.0.0.1:8080]", "0: without limit [default: 0]", "--check-config"]
    {
        assert!(help.contains(part), "{part} is not in: {help}");
    }
    for arg in super::flags::command().get_arguments() {
        assert!(arg.get_help().is_some_and(|help| !help.to_string().is_empty()), "{} says nothing", arg.get_id());
    }
}

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/OPERATIONS.md");

/// The guide with each table as it is made from the code, between `<!-- settings:SECTION -->` and `<!-- end -->`.
fn regenerated(guide: &str) -> String {
    SECTIONS.iter().fold(guide.to_owned(), |guide, section| {
        let begin = format!("<!-- settings:{} -->\n", section.name);
        let (before, rest) = guide.split_once(&begin).unwrap_or_else(|| panic!("{begin} is missing"));
        let (_, after) = rest.split_once("<!-- end -->").expect("a table has an end");
        format!("{before}{begin}\n{}\n<!-- end -->{after}", print::markdown(section.name))
    })
}

/// With `UPDATE_DOCS=1` the guide is written instead.
#[test]
fn the_tables_of_the_operations_guide_are_those_of_the_code() {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let regenerated = regenerated(&guide);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(GUIDE, regenerated).unwrap();
    } else {
        assert!(guide == regenerated, "docs/OPERATIONS.md is not what the code says: run with UPDATE_DOCS=1");
    }
}

#[test]
fn the_files_that_the_operations_guide_shows_have_no_mistakes() {
    let guide = fs::read_to_string(GUIDE).unwrap();
    let shown: Vec<_> = guide.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(shown.len() >= 4, "{shown:?}");
    for text in shown {
        let mistakes: Vec<_> = file::parse(text, "f.toml").mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(mistakes, [""; 0], "{text}");
    }
}

#[test]
fn settings_of_the_engine_come_from_their_keys() {
    let given = [
        "--rate-policy=close",
        "--messages-per-s=7",
        "--lifetime-s=60",
        "--trusted-proxies=::1",
        "--client-address=forwarded",
    ];
    let settings = flags(&given).unwrap().settings;
    assert_eq!((settings.rate_policy, settings.messages_per_s), (RatePolicy::Close, 7));
    assert_eq!(settings.lifetime, Duration::from_secs(60));
    assert_eq!(settings.trusted_proxies, ["::1/128".parse().unwrap()]);
}

/// Some line of a file, right or wrong.
fn line() -> impl Strategy<Value = String> {
    let sections: Vec<_> = SECTIONS.iter().map(|section| section.name).collect();
    let keys: Vec<_> = settings().iter().map(|setting| setting.row.key).collect();
    prop_oneof![
        proptest::sample::select(sections).prop_map(|name| format!("[{name}]")),
        (proptest::sample::select(keys), "([0-9]{1,12}|true|'[a-z.*>]{0,6}'|\\['[a-z]{0,4}'\\])")
            .prop_map(|(key, value)| format!("{key} = {value}")),
        "[a-z_.=\"'\\[\\]{}# 0-9é\n>*]{0,24}",
    ]
}

proptest! {
    #[test]
    fn no_file_makes_it_panic_and_each_mistake_has_its_line(lines in proptest::collection::vec(line(), 0..12)) {
        let found = file::parse(&lines.join("\n"), "f.toml");
        for mistake in found.mistakes {
            prop_assert!(mistake.to_string().starts_with("f.toml:"), "{}", mistake);
        }
    }

    #[test]
    fn no_flag_makes_it_panic(words in proptest::collection::vec("-{0,3}[a-z=-]{0,12}|--topic=[a-z.>*:=,]{0,12}|--role=[a-z.>*:=,|{}]{0,12}", 0..6)) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let _ = flags(&words);
    }

    #[test]
    fn a_number_is_allowed_within_its_range_only(number in any::<u64>(), at in 0..settings().len()) {
        let setting = &settings()[at];
        if let Kind::Number { least, most, .. } = setting.row.kind {
            let read = setting.row.kind.read_text(&number.to_string());
            prop_assert_eq!(read.is_ok(), (least..=most).contains(&number));
            if let Ok(value) = read {
                prop_assert_eq!(value, Value::Number(number));
            }
        }
    }
}
