//! Whatever is asked wrongly, and whatever a server answers: one clear sentence, an exit code, and an end.

use std::io::Write as _;
use std::net::TcpListener;

use fanfare_tests::loadgen::Loadgen;
use fanfare_tests::program::run_to_end;
use fanfare_tests::wrong;

/// A short run with one subscriber.
fn run(addr: impl std::fmt::Display, more: &[&str]) -> Loadgen {
    let short = ["--subscribers", "1", "--duration", "300ms", "--warmup", "0s", "--drain-timeout", "200ms", "--quiet"];
    Loadgen::run(&format!("ws://{addr}"), &[short.as_slice(), more].concat())
}

/// It failed with this code, and said one thing on standard error that has all these parts.
#[track_caller]
fn assert_sentence(loadgen: &Loadgen, code: i32, parts: &[&str]) {
    assert_eq!(loadgen.status.code(), Some(code), "{}\n{}", loadgen.stdout, loadgen.stderr);
    let said = loadgen.stderr.trim();
    assert!(said.starts_with("loadgen: ") || code == 2 && said.starts_with("error: "), "{said}");
    for part in parts {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let addr = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    assert_sentence(&run(addr, &[]), 1, &["refused", &addr.to_string()]);
}

#[test]
fn a_refused_upgrade_is_told_with_its_status() {
    let addr = wrong::server(|mut stream| {
        let _ = wrong::read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
        wrong::swallow(&mut stream);
    });
    assert_sentence(&run(addr, &[]), 1, &["HTTP 403"]);
}

#[test]
fn a_server_that_never_answers_is_not_waited_for_longer_than_allowed() {
    let addr = wrong::server(|mut stream| wrong::swallow(&mut stream));
    assert_sentence(&run(addr, &["--connect-timeout", "300ms"]), 1, &["timed out"]);
}

#[test]
fn an_answer_that_is_no_http_is_called_that() {
    let addr = wrong::server(|mut stream| {
        let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x00, b'\r', b'\n', 0xFF].repeat(100));
        wrong::swallow(&mut stream);
    });
    assert_sentence(&run(addr, &[]), 1, &["no HTTP"]);
}

#[test]
fn an_answer_to_another_key_is_no_upgrade() {
    let addr = wrong::server(|mut stream| {
        let _ = wrong::read_head(&mut stream);
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
        wrong::swallow(&mut stream);
    });
    assert_sentence(&run(addr, &[]), 1, &["bad accept key"]);
}

/// What a server does after the upgrade: it neither crashes nor hangs loadgen, and is named in the report.
#[track_caller]
fn assert_survived(bytes: &'static [u8], then_close: bool, cause: &str) {
    let addr = wrong::server(move |mut stream| {
        wrong::upgrade_and_send(&mut stream, bytes);
        if !then_close {
            wrong::swallow(&mut stream);
        }
    });
    let loadgen = run(addr, &[]);
    assert!(matches!(loadgen.status.code(), Some(0 | 1)), "{:?}\n{}", loadgen.status, loadgen.stderr);
    assert!(!loadgen.stderr.contains("panicked"), "{}", loadgen.stderr);
    let told = std::fs::read_to_string(loadgen.folder().join("report.json")).unwrap_or_default() + &loadgen.stderr;
    assert!(told.contains(cause), "'{cause}' is not in: {told}");
}

#[test]
fn a_connection_closed_within_a_frame_is_survived() {
    assert_survived(&[0x81, 0x7E, 0x01, 0x00, b'a', b'b'], true, "end of stream");
}

#[test]
fn a_frame_of_a_gigabyte_is_never_waited_for() {
    assert_survived(&[0x82, 0x7F, 0, 0, 0, 0, 0x40, 0, 0, 0], false, "exceeds client.message_bytes_max");
}

#[test]
fn frames_that_no_server_may_send_are_protocol_errors() {
    assert_survived(&[0x81, 0x81, 1, 2, 3, 4, 5], false, "protocol error");
    assert_survived(&[0xFF; 64], false, "protocol error");
}

#[test]
fn what_is_asked_wrongly_is_refused_with_setting_value_and_range() {
    let refused = |args: &[&str], parts: &[&str]| assert_sentence(&run("127.0.0.1:1", args), 2, parts);
    refused(&["--rate", "0"], &["rate", "0"]);
    refused(&["--payload-bytes", "10"], &["payload", "10", "52"]);
    refused(&["--connect-timeout", "forever"], &["forever"]);
    refused(&["--in-flight", "0"], &["in_flight", "0"]);
}

#[test]
fn a_mistake_in_a_scenario_is_told_with_file_and_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("mine.toml");
    for (text, parts) in [
        ("[load]\nrate = 100\n", ["mine.toml", "line 2", "rate"]),
        ("name = \"x\"\nduration = 10\n", ["mine.toml", "line 2", "duration"]),
        ("[payload]\nbytes = \"many\"\n", ["mine.toml", "line 2", "many"]),
    ] {
        std::fs::write(&file, text).expect("a file can be written");
        let loadgen = run("127.0.0.1:1", &[file.to_str().expect("UTF-8")]);
        assert_sentence(&loadgen, 2, &parts);
    }
}

#[test]
fn a_result_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.json");
    let named = file.to_str().expect("UTF-8");
    for (text, part) in [
        ("{\"format\":\"fanfare-loadgen-report\",\"version\":1,\"crea", "cut"),
        ("{\"format\":\"fanfare-loadgen-report\",\"version\":999}", "999"),
        ("{\"some\":\"json\"}", "report.json"),
    ] {
        std::fs::write(&file, text).expect("a file can be written");
        for command in ["report", "compare"] {
            let in_folder = folder.path().to_str().expect("UTF-8");
            let args = if command == "report" { vec![command, in_folder] } else { vec![command, named, named] };
            let (status, _, stderr) = run_to_end("loadgen", &args);
            assert_eq!(status.code(), Some(1), "{command}: {stderr}");
            assert!(stderr.contains(named) && stderr.contains(part), "{command}: {stderr}");
        }
    }
}
