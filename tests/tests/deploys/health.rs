//! `fanfare --health`.

use fanfare_tests::Server;
use fanfare_tests::program::run_to_end;

#[test]
fn the_binary_tells_whether_its_server_is_alive() {
    let server = Server::start();
    let addr = server.addr().to_string();
    let (status, _, stderr) = run_to_end("fanfare", &["--health", "--listen", &addr]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    // What listens on all addresses is asked on loopback, and what has an address for HTTP only, there.
    let all = format!("0.0.0.0:{}", server.addr().port());
    let (status, _, stderr) = run_to_end("fanfare", &["--health", "--open", "--listen", &all]);
    assert_eq!(status.code(), Some(0), "{stderr}");
    drop(server);
    let (status, _, stderr) = run_to_end("fanfare", &["--health", "--listen", &addr]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains(&addr) && stderr.contains("does not answer"), "{stderr}");
}

#[test]
fn somebody_else_there_is_not_healthy() {
    use std::io::{Read, Write};
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = other.local_addr().expect("it has an address").to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().expect("it is asked");
        let mut request = [0; 1024];
        let _ = stream.read(&mut request);
        stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").expect("it can be answered");
    });
    let (status, _, stderr) = run_to_end("fanfare", &["--health", "--api-listen", &addr]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("503"), "{stderr}");
    answering.join().expect("it answers");
    let (status, _, stderr) = run_to_end("fanfare", &["--health", "--listen", "127.0.0.1:0"]);
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("port"), "{stderr}");
}
