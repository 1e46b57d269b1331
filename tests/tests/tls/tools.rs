//! The programs everybody has: `curl` and `openssl s_client`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use fanfare_tests::wait_for;

use super::kit::*;

/// A process that does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[&str]) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|error| panic!("{program} is needed for this test: {error}")))
}

#[test]
fn curl_is_served() {
    let server = Server::start();
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("trusted.pem");
    std::fs::write(&trusted, &server.pem).unwrap();
    for addr in [server.addr(), server.private_addr()] {
        for version in ["1.2", "1.3"] {
            let at = format!("https://127.0.0.1:{}/whoami", addr.port());
            let arguments = ["-sS", "-m", "20", "--tls-max", version, "--cacert", trusted.to_str().unwrap(), &at, &at];
            let mut curl = start("curl", &arguments);
            let mut answer = String::new();
            curl.0.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
            assert!(curl.0.wait().unwrap().success());
            assert_eq!(answer.matches(r#""tls":true"#).count(), 2, "{answer}");
        }
    }
}

/// Renegotiation is refused, in the middle of an open connection, and the connection ends instead of hanging.
#[test]
fn renegotiation_comes_to_an_end() {
    let server = Server::start();
    let at = format!("127.0.0.1:{}", server.addr().port());
    let mut openssl = start("openssl", &["s_client", "-connect", &at, "-tls1_2", "-crlf"]);
    let mut stdin = openssl.0.stdin.take().unwrap();
    let mut stdout = BufReader::new(openssl.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("---") || !line.ends_with("---\n") || line.len() > 4 {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "it has connected");
        if line.contains("Verify return code") {
            break;
        }
    }
    server.eventually_is("tls_handshakes_total", &[("version", "1.2")], 1);
    stdin.write_all(b"R\n").unwrap();
    stdin.flush().unwrap();
    wait_for("openssl gives up", || openssl.0.try_wait().unwrap());
    server.eventually_is("tcp_connections", &[], 0);
}
