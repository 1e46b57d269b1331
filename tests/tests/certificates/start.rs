//! The start: what is refused, what is warned of, who is shown which certificate, and what `--check-config` and `--health` say.

use std::process::Command;

use fanfare::Tls;
use fanfare_tests::program::run_to_end;

use crate::kit::*;

/// A key that a passphrase protects, as `openssl` makes it.
const ENCRYPTED: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGb\n-----END ENCRYPTED PRIVATE KEY-----\n";

#[test]
fn what_cannot_be_used_is_told_with_its_setting_and_nothing_is_started() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let (good, other) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    files.pair("good", &good);
    files.pair("other", &other);
    files.write("encrypted.key", ENCRYPTED);
    files.write("reversed.pem", &(authority.pem.clone() + &good.chain));
    files.write("ca.pem", &authority.pem);
    files.write("empty.pem", "");
    let at = |name: &str| files.name(name);
    let pair = |chain: &str, key: &str| vec!["--tls-cert".to_owned(), at(chain), "--tls-key".to_owned(), at(key)];
    let with = |more: &[&str]| [pair("good.pem", "good.key"), more.iter().map(ToString::to_string).collect()].concat();
    for (flags, parts) in [
        (pair("none.pem", "good.key"), vec!["--tls-cert: tls_cert: ", "none.pem cannot be read: No such file"]),
        (pair("good.pem", "none.key"), vec!["--tls-key: tls_key: ", "none.key cannot be read"]),
        (pair("good.key", "good.pem"), vec!["--tls-cert", "good.key has no certificate in it", "swapped?"]),
        (pair("good.pem", "good.pem"), vec!["good.pem has no private key in it"]),
        (pair("empty.pem", "good.key"), vec!["empty.pem has no certificate in it", "BEGIN CERTIFICATE"]),
        (pair("good.pem", "encrypted.key"), vec!["--tls-key", "is encrypted with a passphrase", "openssl pkey"]),
        (pair("good.pem", "other.key"), vec!["--tls-key", "other.key is not the private key of", "good.pem"]),
        (pair("reversed.pem", "good.key"), vec!["--tls-cert", "wrong order", "the 2nd is the server's own"]),
        (vec!["--tls-cert".into(), at("good.pem")], vec!["1 certificates and 0 keys"]),
        (with(&["--tls-dev"]), vec!["--tls-dev", "only one of them"]),
        (with(&["--tls-client-ca", &at("none.pem")]), vec!["--tls-client-ca: tls_client_ca: ", "cannot be read"]),
        (with(&["--tls-client-auth=required"]), vec!["--tls-client-auth", "set tls_client_ca"]),
        (with(&["--tls-client-auth=always"]), vec!["--tls-client-auth is 'always'", "none, optional, required"]),
        (
            with(&["--tls-client-ca", &at("ca.pem"), "--tls-client-auth=none"]),
            vec!["--tls-client-auth", "no client is asked"],
        ),
        (vec!["--tls-client-ca".into(), at("ca.pem")], vec!["--tls-client-ca", "TLS is not spoken"]),
        (vec!["--listen=wss://127.0.0.1:0".into()], vec!["--listen", "no certificate to show", "tls_dev"]),
        (vec!["--api-listen=https://127.0.0.1:0".into()], vec!["--api-listen", "no certificate to show"]),
        (with(&["--tls-min-version=1.1"]), vec!["--tls-min-version is '1.1'", "1.2, 1.3"]),
        // Certificates of the server authenticate nobody.
        (with(&["--listen=0.0.0.0:0"]), vec!["--listen", "0.0.0.0:0", "tls_client_ca"]),
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (status, stdout, stderr) = run_to_end("fanfare", &flags);
        assert_eq!((status.code(), stdout.as_str()), (Some(2), ""), "{flags:?}: {stderr}");
        assert!(stderr.contains("the configuration has 1 mistake\n"), "{flags:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
        }
    }
}

#[test]
fn what_should_be_seen_to_is_told_at_the_start_and_stops_nothing() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let first = files.pair("first", &authority.issue_for(&["first.example"], -3));
    let second = files.pair("second", &authority.issue_for(&["second.example"], 5));
    files.mode("second.key", 0o644);
    let server = server(&[first, second].concat());
    let said = server.stdout();
    for part in [
        "The certificate of first.example in ".to_owned(),
        "has expired on ".to_owned(),
        "The certificate of second.example in ".to_owned(),
        "expires on ".to_owned(),
        format!("Every user of this machine can read the private key {0}: chmod o-r {0}.", files.name("second.key")),
    ] {
        assert!(said.contains(&part), "{part:?} is not in: {said}");
    }
    assert_eq!(server.http().get("/healthz").status, 200);
    let expiry =
        |name| server.metrics().find("fanfare_tls_certificate_expiry_timestamp_seconds", &[("certificate", name)]);
    assert!(expiry("second.example").expect("a gauge") - expiry("first.example").expect("a gauge") >= 7.9 * 86_400.0);
}

#[test]
fn each_address_speaks_what_it_says_and_tls_if_it_says_nothing() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let issued = authority.issue(&["localhost"]);
    let own = files.pair("own", &issued);
    let addresses = ["--listen=ws://127.0.0.1:0", "--listen=127.0.0.1:0", "--listen=https://127.0.0.1:0"];
    let apis = [("127.0.0.1:0", true), ("http://127.0.0.1:0", false)];
    for (api, api_speaks_tls) in apis {
        let api = ["--api-listen", api].map(str::to_owned);
        let flags = [addresses.map(str::to_owned).to_vec(), own.to_vec(), api.to_vec()].concat();
        let server = fanfare_tests::Server::with_exactly(&flags.iter().map(String::as_str).collect::<Vec<_>>());
        let config = client(&authority, None);
        let addrs = server.addrs();
        let expected = [false, true, true, api_speaks_tls];
        assert_eq!(addrs.len(), expected.len(), "{}", server.stdout());
        for (addr, speaks_tls) in addrs.iter().zip(expected) {
            let schemes = if speaks_tls { "https" } else { "http" };
            assert!(server.stdout().contains(&format!(" {schemes}://{addr}/")), "{}", server.stdout());
            if speaks_tls {
                assert_eq!(shown(*addr, &config, "localhost"), issued.der());
                assert_eq!(request(*addr, &config, "/healthz", "").expect("an answer").0, 200);
            } else {
                assert_eq!(fanfare_tests::Http::connect(*addr).get("/healthz").status, 200);
            }
        }
        assert!(server.stdout().contains(&format!("wss://{}/ws", addrs[1])), "{}", server.stdout());
    }
}

#[test]
fn clients_are_shown_the_certificate_of_the_name_they_ask_for() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let issued = [&["a.example"][..], &["*.b.example"], &["c.b.example"]].map(|names| authority.issue(names));
    let flags: Vec<_> = (0..).zip(&issued).flat_map(|(at, own)| files.pair(&format!("own{at}"), own)).collect();
    let server = server(&flags);
    let config = client(&authority, None);
    for (name, expected) in [("a.example", 0), ("x.b.example", 1), ("c.b.example", 2)] {
        assert_eq!(shown(tls_addr(&server), &config, name), issued[expected].der(), "{name}");
    }
    // Shown to who asks for another, who then does not believe it.
    let error = connect(tls_addr(&server), &config, "other.example").expect_err("it is for another name");
    assert!(error.to_string().contains("a.example"), "{error}");
}

#[test]
fn the_development_certificate_is_shown_and_said_to_be_one() {
    let server = server(&["--tls-dev"]);
    let said = server.stdout();
    let fingerprint = said.lines().find_map(|line| line.split_once("SHA-256 fingerprint: ")).expect("it is said").1;
    let anybody = Tls::development().expect("another one");
    assert_ne!(anybody.certificates()[0].fingerprint(), fingerprint, "each is made anew");
    assert!(said.contains("clients do not trust it"), "{said}");
    // Another client than ours: it gives the fingerprint that was said.
    let output = Command::new("sh")
        .arg("-c")
        .arg("openssl s_client -connect \"$0\" -servername localhost </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256 -subject")
        .arg(tls_addr(&server).to_string())
        .output()
        .expect("openssl is there");
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(seen.contains(fingerprint), "{fingerprint} is not in: {seen}");
    assert!(seen.contains("Fanfare development certificate, not for production"), "{seen}");
}

#[test]
fn a_check_tells_which_certificates_there_are() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let mut issued = authority.issue_for(&["a.example", "*.a.example"], 80);
    issued.chain += &authority.pem;
    let flags = files.pair("own", &issued);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["--check-config"]).collect();
    let (status, stdout, stderr) = run_to_end("fanfare", &flags);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let part = format!(
        "# {}: a.example, *.a.example; ECDSA P-256, 2 in its chain, issued by 'CN=test'; ",
        files.name("own.pem")
    );
    let line =
        stdout.lines().find(|line| line.starts_with(&part)).unwrap_or_else(|| panic!("{part:?} is not in: {stdout}"));
    // The 80th day has begun, or is about to.
    assert!(line.ends_with("(79 days left)") || line.ends_with("(80 days left)"), "{line}");
    // What it prints is a configuration file again.
    let copy = files.write("copy.toml", &stdout);
    let (status, again, stderr) = run_to_end("fanfare", &["--config", &copy, "--check-config"]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert!(again.contains(&part), "{again}");
    files.write("own.key", &authority.issue(&["a.example"]).key);
    let (status, stdout, stderr) = run_to_end("fanfare", &flags);
    assert_eq!((status.code(), stdout.as_str()), (Some(2), ""));
    assert!(stderr.contains("is not the private key of"), "{stderr}");
}

#[test]
fn health_is_asked_over_tls_whatever_the_certificate_and_whatever_is_asked_of_clients() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let own = files.pair("own", &authority.issue_for(&["elsewhere.example"], -3)).to_vec();
    let ca = ["--tls-client-ca".to_owned(), files.write("ca.pem", &authority.pem)].to_vec();
    for version in ["1.2", "1.3"] {
        for more in [Vec::new(), ca.clone()] {
            let version = vec![format!("--tls-min-version={version}")];
            let server = server(&[own.clone(), more.clone(), version.clone()].concat());
            let listen = format!("--listen={}", tls_addr(&server));
            let flags = [vec!["--health".to_owned(), listen], own.clone(), more, version].concat();
            let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
            let (status, _, stderr) = run_to_end("fanfare", &flags);
            assert_eq!(status.code(), Some(0), "{stderr}");
            drop(server);
            let (status, _, stderr) = run_to_end("fanfare", &flags);
            assert_eq!(status.code(), Some(1), "{stderr}");
            assert!(stderr.contains("does not answer"), "{stderr}");
        }
    }
    // Who only asks need not be able to read the key.
    let server = server(&own);
    files.write("own.key", "");
    let listen = format!("--listen={}", tls_addr(&server));
    let flags: Vec<&str> = ["--health", &listen].into_iter().chain(own.iter().map(String::as_str)).collect();
    let (status, _, stderr) = run_to_end("fanfare", &flags);
    assert_eq!(status.code(), Some(0), "{stderr}");
}

#[test]
fn health_does_not_mind_that_the_running_server_speaks_what_was_configured_before() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let own = files.pair("own", &authority.issue(&["localhost"])).to_vec();
    let ca = ["--tls-client-ca".to_owned(), files.write("ca.pem", &authority.pem)];
    let health = |addr: std::net::SocketAddr, more: &[String]| {
        let listen = format!("--listen={addr}");
        let flags: Vec<&str> = ["--health", &listen].into_iter().chain(more.iter().map(String::as_str)).collect();
        let (status, _, stderr) = run_to_end("fanfare", &flags);
        (status.code(), stderr)
    };
    for more in [own.clone(), [own.as_slice(), &ca].concat()] {
        let server = server(&more);
        let plain = server.addrs()[0];
        let (secure, expected) = (tls_addr(&server), (Some(0), String::new()));
        assert_eq!((health(secure, &[]), health(plain, &more)), (expected.clone(), expected));
        drop(server);
        assert_eq!((health(secure, &[]).0, health(plain, &more).0), (Some(1), Some(1)));
    }
}
