//! The configuration of a running server: where it comes from, what of it is refused, and how it changes while the server
//! works.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fanfare_tests::http::encode;
use fanfare_tests::program::{Output, binary, run_to_end, spawn};
use fanfare_tests::raw::{frame, op};
use fanfare_tests::{Client, Metrics, Native, Raw, Server, eventually, wait_for};
use serde_json::{Value, json};

/// A configuration file, and whatever else a test puts beside it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(config: &str) -> Self {
        let files = Self(tempfile::tempdir().expect("a folder"));
        files.write(config);
        files
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("fanfare.toml")
    }

    fn name(&self) -> String {
        self.path().display().to_string()
    }

    fn write(&self, config: &str) {
        // In one step: a reload under way must not find half a file.
        let new = self.0.path().join("new");
        fs::write(&new, config).expect("written");
        fs::rename(new, self.path()).expect("renamed");
    }

    fn secret(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("changed");
        path.display().to_string()
    }

    fn server(&self, more: &[&str]) -> Server {
        Server::with(&[&["--config", &self.name()], more].concat())
    }
}

/// Runs the server with variables to its end.
fn run_with(variables: &[(&str, &str)], args: &[&str]) -> (ExitStatus, String) {
    let mut program = Command::new(binary("fanfare"));
    program.envs(variables.iter().copied());
    let mut child = spawn(program, args);
    let stderr = Output::collect(child.stderr.take().expect("a pipe"));
    let status = wait_for("it ends by itself", || child.try_wait().expect("a child"));
    eventually("its last line is in", || stderr.text().contains("fanfare: "));
    (status, stderr.text())
}

fn reloads(server: &Server, outcome: &str) -> u64 {
    server.metrics().count("fanfare_config_reloads_total", &[("outcome", outcome)])
}

/// Reloads by signal and waits for the outcome.
fn reload_by_signal(server: &Server, outcome: &str) {
    let before = reloads(server, outcome);
    server.signal(libc::SIGHUP);
    eventually("the configuration is read again", || reloads(server, outcome) > before);
}

/// Reloads over HTTP; what it says.
fn reload(server: &Server) -> Value {
    let answer = server.http().post("/api/reload", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn publish_status(server: &Server, bytes: usize) -> u16 {
    server.http().post("/api/publish?topic=size", &vec![b'x'; bytes]).status
}

// ---- the start --------------------------------------------------------------

#[test]
fn all_mistakes_are_told_at_once_and_nothing_is_started() {
    let files = Files::new("[limits]\nconections_max = 5\nmessage_bytes = 0\n[network]\nlisten = '127.0.0.1:0'\n");
    let (status, stdout, stderr) = run_to_end("fanfare", &["--config", &files.name(), "--shards=x", "--pinn"]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert_eq!(stdout, "");
    let name = files.name();
    for part in [
        "the configuration has 5 mistakes",
        &format!("{name}:2: there is no key 'conections_max' in [limits]: did you mean 'connections_max'?"),
        &format!("{name}:3: limits.message_bytes is 0: it must be a whole number from 1 to 1073741824"),
        &format!("{name}:5: network.listen is '127.0.0.1:0': it must be a list"),
        "--shards is 'x': it must be a whole number from 0 to 256",
        "--pinn: there is no such flag: did you mean --pin?",
    ] {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
}

#[test]
fn variables_that_are_no_settings_are_refused_but_not_those_of_kubernetes() {
    let (status, stderr) = run_with(&[("FANFARE_MESAGE_BYTES", "5")], &[]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("FANFARE_MESAGE_BYTES: there is no such setting: did you mean FANFARE_MESSAGE_BYTES?"),
        "{stderr}"
    );
    let variables = [
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
        ("FANFARE_PORT", "tcp://10.0.0.1:80"),
        ("FANFARE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("FANFARE_MESSAGE_BYTES", "50"),
    ];
    let server = Server::with_variables(&variables, &[]);
    assert_eq!((publish_status(&server, 50), publish_status(&server, 51)), (200, 413));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let files = Files::new("[limits]\nmessage_bytes = 30\n");
    let name = files.name();
    for (variables, flags, limit) in [
        (&[][..], &[][..], 30),
        (&[("FANFARE_MESSAGE_BYTES", "20")], &[], 20),
        (&[("FANFARE_MESSAGE_BYTES", "20")], &["--message-bytes=10"], 10),
    ] {
        let server = Server::with_variables(variables, &[&["--config", &name], flags].concat());
        assert_eq!((publish_status(&server, limit), publish_status(&server, limit + 1)), (200, 413));
    }
    let server = Server::with_variables(&[("FANFARE_CONFIG", &name)], &[]);
    assert_eq!(publish_status(&server, 31), 413);
}

#[test]
fn an_address_for_all_needs_authentication_or_a_word_and_what_is_open_is_said() {
    let (status, _, stderr) = run_to_end("fanfare", &["--listen=0.0.0.0:0"]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("--listen: listen is '0.0.0.0:0'") && stderr.contains("--open"), "{stderr}");
    let server = Server::with_exactly(&["--listen=0.0.0.0:0", "--shards=1", "--open"]);
    eventually("it says what is open", || {
        let said = server.stdout();
        said.contains("There is no authentication") && said.contains("set api_token_file")
    });
}

#[test]
fn secrets_that_everybody_can_read_are_refused_and_no_secret_is_ever_printed() {
    let files = Files::new("");
    let token = files.secret("token", "not-to-be-seen", 0o644);
    let (status, _, stderr) = run_to_end("fanfare", &["--api-token-file", &token]);
    assert_eq!(status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&format!("chmod o-r {token}")), "{stderr}");
    let token = files.secret("token", "not-to-be-seen", 0o600);
    let (status, stdout, stderr) = run_to_end("fanfare", &["--api-token-file", &token, "--check-config"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let (_, shown, refused) = run_to_end("fanfare", &["--api-token=not-to-be-seen", "--check-config"]);
    assert!(shown.contains("api_token = \"(secret)\""), "{shown}");
    let (_, _, wrong) = run_to_end("fanfare", &["--api-token=not-to-be-seen; at all"]);
    for text in [stdout, stderr, shown, refused, wrong] {
        assert!(!text.contains("not-to-be-seen"), "{text}");
    }
}

#[test]
fn without_anything_to_listen_on_it_ends_and_says_so() {
    let files = Files::new("[network]\nlisten = []\n");
    let (status, _, stderr) = run_to_end("fanfare", &["--config", &files.name()]);
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("nothing to listen on"), "{stderr}");
}

// ---- printing ---------------------------------------------------------------

#[test]
fn the_checked_configuration_is_printed_with_where_each_value_comes_from() {
    let files = Files::new("[limits]\nrate_policy = \"drop\"\n[topics.\"prices.>\"]\npolicy = \"conflate\"\n");
    let (status, stdout, stderr) = run_to_end("fanfare", &["--config", &files.name(), "--check-config", "--shards=3"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    for (line, source) in [
        ("rate_policy = \"drop\"", format!("# {}:2", files.name())),
        ("policy = \"conflate\"", format!("# {}:4", files.name())),
        ("shards = 3", "# --shards".into()),
        ("idle_timeout_s = 120", "# default".into()),
    ] {
        assert!(stdout.lines().any(|seen| seen.starts_with(line) && seen.ends_with(&source)), "{line}: {stdout}");
    }
    let (status, stdout, stderr) = run_to_end("fanfare", &["--check-config", "--idle-timeout-s=5"]);
    assert_eq!((status.code(), stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.contains("ping_interval_s is 30 (default)"), "{stderr}");
}

#[test]
fn the_printed_file_of_defaults_can_be_used_as_it_is() {
    let (status, text, stderr) = run_to_end("fanfare", &["--print-default-config"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let files = Files::new(&text);
    let server = files.server(&[]);
    server.publish("a", "b");
    files.write(&text.replace("#message_bytes = 16777216", "message_bytes = 5"));
    assert_eq!(reload(&server)["changes"][0]["setting"], "limits.message_bytes");
    assert_eq!(publish_status(&server, 6), 413);
}

// ---- reloading --------------------------------------------------------------

#[test]
fn a_signal_has_the_file_read_again_and_flags_stay() {
    let files = Files::new("[limits]\nmessage_bytes = 30\npattern_topics_max = 7\n");
    let server = files.server(&["--pattern-topics-max=5"]);
    let mut client = Client::connect(&server, "/topics/t");
    let loaded = |server: &Server| server.metrics().find("fanfare_config_loaded_timestamp_seconds", &[]);
    assert!(loaded(&server).is_some_and(|seconds| seconds > 1.6e9));
    files.write("[limits]\nmessage_bytes = 50\npattern_topics_max = 9\n");
    reload_by_signal(&server, "accepted");
    assert_eq!((publish_status(&server, 50), publish_status(&server, 51)), (200, 413));
    // A connection that was there before.
    client.send_text(&"x".repeat(50));
    assert_eq!(client.read_text().len(), 50);
    client.send_text(&"x".repeat(51));
    assert_eq!(client.read_close().0, 1009);
    let log = server.stderr();
    assert!(log.contains("limits.message_bytes: 30 -> 50"), "{log}");
    assert!(!log.contains("pattern_topics_max"), "a flag wins over the file: {log}");
}

#[test]
fn a_reload_over_http_tells_what_changed_and_what_needs_a_restart_until_that() {
    let files = Files::new("[limits]\nmessage_bytes = 30\n");
    let server = files.server(&[]);
    files.write(
        "[limits]\nmessage_bytes = 40\ninbox_messages = 500\n[threads]\npin = true\n[topics.a]\nhistory_messages = 3\n",
    );
    let waiting = json!([
        { "setting": "threads.pin", "from": "false", "to": "true", "restart": true },
        { "setting": "limits.message_bytes", "from": "30", "to": "40", "restart": false },
        { "setting": "limits.inbox_messages", "from": "65536", "to": "500", "restart": true },
        { "setting": "topics.\"a\".history_messages", "from": "", "to": "3", "restart": false },
    ]);
    assert_eq!(reload(&server), json!({ "changes": waiting, "restart": ["threads.pin", "limits.inbox_messages"] }));
    let again = reload(&server);
    assert_eq!(again["restart"], json!(["threads.pin", "limits.inbox_messages"]));
    assert_eq!(again["changes"].as_array().expect("a list").len(), 2, "{again}");
    files.write("");
    assert_eq!(reload(&server)["restart"], json!([]));
    assert_eq!(reload(&server), json!({ "changes": [], "restart": [] }));
}

#[test]
fn a_bad_file_changes_nothing_and_every_mistake_is_told() {
    let files = Files::new("[limits]\nmessage_bytes = 30\n");
    let server = files.server(&[]);
    files.write("[limits]\nmessage_bytes = 50\nmesage_bytes = 1\n[threads]\nshards = -1\n");
    let answer = server.http().post("/api/reload", b"");
    answer.assert_error(422);
    let body = answer.json();
    let mistakes: Vec<_> = body["mistakes"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[0].starts_with(&format!("{}:3: ", files.name())), "{mistakes:?}");
    assert!(mistakes[1].contains(":5: threads.shards is -1"), "{mistakes:?}");
    assert_eq!(reloads(&server, "refused"), 1);
    assert_eq!(publish_status(&server, 31), 413);

    fs::remove_file(files.path()).expect("removed");
    reload_by_signal(&server, "refused");
    assert_eq!(publish_status(&server, 31), 413);
    let log = server.stderr();
    for part in ["threads.shards is -1", "cannot be read", "the configuration was not changed"] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    files.write("[limits]\nmessage_bytes = 50\n");
    reload_by_signal(&server, "accepted");
    assert_eq!(publish_status(&server, 50), 200);
}

/// Where it listens changes only with a restart; that it need no longer be protected would hold at once.
#[test]
fn a_reload_cannot_open_what_still_listens_for_all() {
    let files = Files::new("[network]\nlisten = ['0.0.0.0:0']\n[auth]\nauth_url = 'http://127.0.0.1:1/'\n");
    let server = Server::with_exactly(&["--config", &files.name(), "--shards=1"]);
    files.write("[network]\nlisten = ['127.0.0.1:0']\n");
    reload_by_signal(&server, "refused");
    let log = server.stderr();
    assert!(log.contains("listen is '0.0.0.0:") && log.contains("without authentication"), "{log}");
    files.write("[network]\nlisten = ['127.0.0.1:0']\nopen = true\n");
    reload_by_signal(&server, "accepted");
}

#[test]
fn topics_that_exist_get_their_new_settings_and_so_do_those_that_come() {
    let files = Files::new("[topics]\nhistory_messages = 10\n");
    let server = files.server(&[]);
    let fill = |topic: &str| (0..10).for_each(|n| drop(server.publish(topic, &n.to_string())));
    let kept = |topic: &str| {
        let answer = server.http().get(&format!("/api/topics/{}/history", encode(topic))).json();
        answer["publications"].as_array().expect("a list").len()
    };
    fill("prices.eur");
    fill("lobby");
    files.write("[topics]\nhistory_messages = 10\n[topics.'prices.*']\nhistory_messages = 3\n");
    reload(&server);
    eventually("the history of a topic that exists shrinks", || kept("prices.eur") == 3);
    fill("prices.usd");
    assert_eq!((kept("prices.usd"), kept("lobby")), (3, 10));
    files.write("");
    reload(&server);
    eventually("what the rule said is gone", || {
        server.publish("prices.usd", "x");
        kept("prices.usd") > 3
    });
}

#[test]
fn the_level_of_the_log_changes_with_a_reload() {
    let files = Files::new("[log]\nlog = 'error'\n");
    let server = files.server(&[]);
    reload_by_signal(&server, "accepted");
    assert_eq!(server.stderr(), "", "nothing that is to be told was an error");
    files.write("[log]\nlog = 'info'\n");
    assert_eq!(reload(&server)["changes"][0]["restart"], false);
    eventually("it is told what happens", || server.stderr().contains("the configuration was read again"));
}

#[test]
fn another_token_in_the_same_file_is_noticed() {
    let files = Files::new("");
    let token = files.secret("token", "the-first-of-the-tokens", 0o600);
    let server = files.server(&["--api-token-file", &token]);
    files.secret("token", "the-second-of-the-tokens", 0o600);
    let told = reload(&server);
    assert_eq!(told["changes"][0]["setting"], "network.api_token_file");
    files.secret("token", "the-third-of-the-tokens", 0o604);
    server.http().post("/api/reload", b"").assert_error(422);
    let all = format!("{}{}{told}", server.stderr(), server.stdout());
    assert!(!all.contains("of-the-tokens"), "{all}");
}

#[test]
fn only_who_may_administer_everything_can_reload_and_a_new_token_holds_at_once() {
    let files = Files::new("[network]\napi_on_loopback = false\n");
    let token = files.secret("token", "the-first-of-the-tokens", 0o600);
    let server = files.server(&["--api-token-file", &token]);
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("Authorization", &bearer)] };
        server.http().request("POST", "/api/reload", headers, b"").status
    };
    assert_eq!((ask(""), ask("the-second-of-the-tokens"), ask("the-first-of-the-tokens")), (401, 401, 200));
    files.secret("token", "the-second-of-the-tokens", 0o600);
    assert_eq!(ask("the-first-of-the-tokens"), 200, "the one that brings the other");
    assert_eq!((ask("the-first-of-the-tokens"), ask("the-second-of-the-tokens")), (401, 200));
}

#[test]
fn pages_of_other_origins_cannot_reload_and_the_list_of_origins_changes_with_it() {
    let files = Files::new("");
    let server = files.server(&[]);
    let from_page = |server: &Server| {
        let origin = [("Origin", "http://friend.example")];
        server.http().request("POST", "/api/reload", &origin, b"").status
    };
    assert_eq!((from_page(&server), reloads(&server, "accepted")), (403, 0));
    files.write("[network]\norigin = ['http://friend.example']\n");
    reload(&server);
    assert_eq!(from_page(&server), 200);
    let friend = [("Origin", "http://friend.example")];
    assert!(Client::connect_with(server.addr(), "/topics/t", &friend).is_ok());
    files.write("");
    reload(&server);
    assert!(Client::connect_with(server.addr(), "/topics/t", &friend).is_err());
}

#[test]
fn a_signal_to_reload_does_not_cut_an_ending_short() {
    let mut server = Server::with(&["--shutdown-timeout-s", "300"]);
    let mut stubborn = Raw::open(server.addr(), "/topics/t");
    server.signal(libc::SIGTERM);
    let (code, _) = stubborn.read_close();
    server.signal(libc::SIGHUP);
    stubborn.send(frame(op::CLOSE, &code.to_be_bytes()));
    stubborn.read_to_end();
    assert_eq!(server.wait().code(), Some(0), "{}", server.stderr());
}

/// Subscribers come and go, publications go out, and all the while the configuration changes.
#[test]
fn reloads_in_the_middle_of_a_storm_lose_nothing_and_close_nobody() {
    const PUBLICATIONS: u64 = 3000;
    let variant = |n: usize| {
        format!(
            "[limits]\nping_interval_s = {}\nmessage_bytes = {}\n[topics]\nhistory_messages = {}\n[topics.'other.>']\npolicy = '{}'\n",
            10 + n % 7,
            1000 + n % 5,
            50 + n % 3,
            ["conflate", "drop-oldest"][n % 2],
        )
    };
    let files = Files::new(&variant(0));
    let server = files.server(&[]);
    let is_over = AtomicBool::new(false);
    let mut subscribers: Vec<_> = (0..20).map(|_| Native::connect(&server)).collect();
    for subscriber in &mut subscribers {
        subscriber.subscribe("storm");
    }
    thread::scope(|scope| {
        let churn: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        let mut native = Native::connect(&server);
                        native.subscribe("storm");
                        native.client().send(tungstenite::Message::Close(None));
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        let readers: Vec<_> = subscribers
            .iter_mut()
            .map(|subscriber| {
                scope.spawn(|| {
                    for n in 0..PUBLICATIONS {
                        assert_eq!(subscriber.read_message()["data"], n);
                    }
                })
            })
            .collect();
        let publisher = scope.spawn(|| {
            let mut http = server.http();
            for n in 0..PUBLICATIONS {
                http.publish("storm", n.to_string().as_bytes());
            }
        });
        let mut changes = 0;
        while !publisher.is_finished() || changes < 20 {
            changes += 1;
            files.write(&variant(changes));
            let told = reload(&server);
            assert_eq!(told["restart"], json!([]));
            server.signal(libc::SIGHUP);
        }
        for reader in readers {
            reader.join().expect("each publication came once, in order");
        }
        is_over.store(true, Ordering::Relaxed);
        for rounds in churn {
            assert!(rounds.join().expect("each connect was served") > 0);
        }
    });
    eventually("all who left are gone", || server.metrics().connections() == 20);
    let metrics = Metrics::scrape(server.addr());
    for cause in ["slow_consumer", "idle_timeout", "protocol_error", "message_too_big", "administrative"] {
        assert_eq!(metrics.closes(cause), 0, "{cause}");
    }
    assert_eq!((metrics.all_refusals(), reloads(&server, "refused")), (0, 0));
}
