//! Certificates replaced while the server works: by signal, over the API, because the files are others; and what is kept out.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use fanfare_tests::eventually;
use serde_json::Value;

use crate::kit::*;

fn eventually_reloads(server: &fanfare_tests::Server, outcome: &str, count: u64) {
    eventually(&format!("{count} {outcome}"), || reloads(server, outcome) >= count);
    assert_eq!(reloads(server, outcome), count);
}

#[test]
fn a_signal_and_the_api_have_the_files_read_again() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let first = authority.issue(&["localhost"]);
    let flags = [files.pair("own", &first).to_vec(), vec!["--tls-watch-s=0".to_owned()]].concat();
    let server = server(&flags);
    let (addr, config) = (tls_addr(&server), client(&authority, None));
    let mut socket = websocket(addr, &config, "/topics/kept").expect("it is let in");
    assert_eq!(shown(addr, &config, "localhost"), first.der());

    let second = authority.issue(&["localhost"]);
    files.pair("own", &second);
    server.signal(libc::SIGHUP);
    eventually_shown(addr, &config, "localhost", &second);
    eventually_reloads(&server, "accepted", 1);
    assert!(server.stderr().contains("localhost until "), "{}", server.stderr());

    let third = authority.issue(&["localhost"]);
    files.pair("own", &third);
    let answer = server.http().post("/api/reload", b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer: Value = answer.json();
    assert_eq!(answer["changes"][0]["setting"], "tls.tls_cert", "{answer}");
    assert_eq!(answer["changes"][0]["restart"], false);
    assert!(answer["changes"][0]["to"].as_str().expect("text").contains("localhost until "), "{answer}");
    assert_eq!(shown(addr, &config, "localhost"), third.der());
    assert_eq!(reloads(&server, "accepted"), 2);

    // The same again is no change, and those who come back can go on with their tickets.
    let answer = server.http().post("/api/reload", b"").json();
    assert_eq!(answer["changes"], Value::Array(Vec::new()));
    assert_eq!(reloads(&server, "accepted"), 2);
    server.publish("kept", "through all of it");
    assert_eq!(next_text(&mut socket), "through all of it");
}

#[test]
fn files_that_change_are_noticed_also_behind_links() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    // As Kubernetes mounts a secret: the files are links into a folder, which is itself a link that is swapped.
    let put = |folder: &str, issued: &Issued| {
        fs::create_dir(files.path(folder)).expect("a folder");
        fs::write(files.path(folder).join("tls.crt"), &issued.chain).expect("written");
        fs::write(files.path(folder).join("tls.key"), &issued.key).expect("written");
        symlink(folder, files.path("next")).expect("a link");
        fs::rename(files.path("next"), files.path("data")).expect("swapped");
    };
    let first = authority.issue(&["localhost"]);
    put("1", &first);
    symlink("data/tls.crt", files.path("tls.crt")).expect("a link");
    symlink("data/tls.key", files.path("tls.key")).expect("a link");
    let (cert, key) = (files.name("tls.crt"), files.name("tls.key"));
    let server = server(&["--tls-cert", &cert, "--tls-key", &key, "--tls-watch-s=1"]);
    let (addr, config) = (tls_addr(&server), client(&authority, None));
    let mut socket = websocket(addr, &config, "/topics/kept").expect("it is let in");
    assert_eq!(shown(addr, &config, "localhost"), first.der());
    let second = authority.issue(&["localhost"]);
    put("2", &second);
    eventually_shown(addr, &config, "localhost", &second);
    eventually_reloads(&server, "accepted", 1);
    server.publish("kept", "still there");
    assert_eq!(next_text(&mut socket), "still there");
}

#[test]
fn what_cannot_be_used_is_kept_out_and_told_once() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let good = authority.issue(&["localhost"]);
    let flags = [files.pair("own", &good).to_vec(), vec!["--tls-watch-s=1".to_owned()]].concat();
    let server = server(&flags);
    let (addr, config) = (tls_addr(&server), client(&authority, None));
    let told = || server.stderr().lines().filter(|line| line.contains("the certificates stay as they are")).count();

    // The key of another one.
    files.write("own.key", &authority.issue(&["localhost"]).key);
    eventually_reloads(&server, "refused", 1);
    assert!(server.stderr().contains("own.key is not the private key of"), "{}", server.stderr());
    assert_eq!(shown(addr, &config, "localhost"), good.der());
    // It is looked at every second, and nothing more is said of it: there is no other sign of that than time.
    let seen = Instant::now();
    eventually("it was looked at some times more", || seen.elapsed() > Duration::from_secs(4));
    assert_eq!((reloads(&server, "refused"), told()), (1, 1));

    // Nothing at all.
    fs::remove_file(files.path("own.pem")).expect("removed");
    eventually_reloads(&server, "refused", 2);
    assert_eq!(told(), 2);

    // One that has expired, in the place of one that holds.
    files.pair("own", &authority.issue_for(&["localhost"], -1));
    eventually_reloads(&server, "refused", 3);
    assert!(server.stderr().contains("has expired on") && server.stderr().contains("it stays"), "{}", server.stderr());
    assert_eq!(shown(addr, &config, "localhost"), good.der());

    // And one that is good again.
    let better = authority.issue(&["localhost"]);
    files.pair("own", &better);
    eventually_shown(addr, &config, "localhost", &better);
    assert_eq!((reloads(&server, "accepted"), reloads(&server, "refused"), told()), (1, 3, 3));
}

#[test]
fn certificates_and_configuration_change_together_or_not_at_all() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let good = authority.issue(&["localhost"]);
    files.pair("own", &good);
    let (cert, key) = (files.name("own.pem"), files.name("own.key"));
    let write = |bytes: usize, more: &str| {
        let tls = format!("[tls]\ntls_cert = ['{cert}']\ntls_key = ['{key}']\ntls_watch_s = 0\n{more}");
        files.write("fanfare.toml", &format!("[limits]\nmessage_bytes = {bytes}\n{tls}"))
    };
    let file = write(100, "");
    let server = server(&["--config", &file]);
    let (addr, config) = (tls_addr(&server), client(&authority, None));
    let fits = |bytes: usize| server.http().post("/api/publish?topic=size", &vec![b'x'; bytes]).status;

    // A wrong key, and a setting that would do.
    files.write("own.key", &authority.issue(&["localhost"]).key);
    write(50, "");
    let answer = server.http().post("/api/reload", b"");
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("is not the private key of"), "{}", answer.text());
    assert_eq!((fits(51), reloads(&server, "refused")), (200, 1));

    // A good certificate, and a setting that would not do.
    let next = authority.issue(&["localhost"]);
    files.pair("own", &next);
    write(0, "");
    assert_eq!(server.http().post("/api/reload", b"").status, 422);
    assert_eq!(shown(addr, &config, "localhost"), good.der());
    assert_eq!(reloads(&server, "refused"), 1, "the certificate is not to blame");

    // Both good; and what is said in a handshake changes with them.
    let old = client_of(&VERSIONS[1..], &authority.pem, None);
    assert!(connect(addr, &old, "localhost").is_ok());
    write(50, "tls_min_version = '1.3'\n");
    assert_eq!(server.http().post("/api/reload", b"").status, 200);
    assert_eq!((fits(50), fits(51)), (200, 413));
    assert_eq!(shown(addr, &config, "localhost"), next.der());
    assert!(connect(addr, &old, "localhost").is_err());
}

#[test]
fn tls_begins_and_ends_with_a_restart() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let own = authority.issue(&["localhost"]);
    files.pair("own", &own);
    let tls = format!("[tls]\ntls_cert = ['{}']\ntls_key = ['{}']\n", files.name("own.pem"), files.name("own.key"));
    let config = client(&authority, None);
    for (before, after) in [(tls.as_str(), ""), ("", tls.as_str())] {
        let file = files.write("fanfare.toml", before);
        let server = fanfare_tests::Server::with(&["--config", &file]);
        files.write("fanfare.toml", after);
        let addr = server.addr();
        // It speaks what it spoke before the reload, and after it.
        let reload = "/api/reload";
        let answer = if before.is_empty() {
            server.http().post(reload, b"").json()
        } else {
            server.signal(libc::SIGHUP);
            eventually("it was read again", || server.stderr().contains("the configuration was read again"));
            assert_eq!(shown(addr, &config, "localhost"), own.der());
            assert!(server.stderr().contains("tls.tls_cert") && server.stderr().contains("(after a restart)"));
            continue;
        };
        let restart = answer["restart"].as_array().expect("a list");
        assert!(restart.contains(&Value::from("tls.tls_cert")), "{answer}");
        assert_eq!(server.http().get("/healthz").status, 200);
    }
}
