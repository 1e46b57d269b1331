//! Certificates replaced twenty times while everybody is busy: nobody is dropped, and everybody who comes gets in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use fanfare_tests::eventually;
use fanfare_tests::metrics::eventually_connections;

use crate::kit::*;

#[test]
fn replacing_certificates_under_load_drops_nobody() {
    const REPLACEMENTS: u64 = 20;
    const OPEN: usize = 200;
    let (files, authority) = (Files::new(), Authority::new("test"));
    let flags = [files.pair("own", &authority.issue(&["localhost"])).to_vec(), vec!["--tls-watch-s=0".into()]].concat();
    let server = server(&flags);
    let (addr, config) = (tls_addr(&server), client(&authority, None));
    let mut open: Vec<_> = (0..OPEN).map(|_| websocket(addr, &config, "/topics/load").expect("it is let in")).collect();
    eventually_connections(server.addr(), OPEN as u64);

    let (is_over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (is_over, done, config) = (is_over.clone(), done.clone(), config.clone());
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // Whole connections: a handshake, perhaps by a ticket from before, and an answer.
                    assert_eq!(request(addr, &config, "/healthz", "").expect("an answer").0, 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 1..=REPLACEMENTS {
        let before = done.load(Ordering::Relaxed);
        files.pair("own", &authority.issue(&["localhost"]));
        let answer = server.http().post("/api/reload", b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(reloads(&server, "accepted"), number);
        server.publish("load", &number.to_string());
        eventually("the load goes on", || done.load(Ordering::Relaxed) > before + 20);
    }
    is_over.store(true, Ordering::Relaxed);
    for one in load {
        one.join().expect("every connect is answered");
    }
    for socket in &mut open {
        for number in 1..=REPLACEMENTS {
            assert_eq!(next_text(socket), number.to_string());
        }
    }
    let metrics = server.metrics();
    assert_eq!(metrics.connections(), OPEN as u64);
    assert_eq!((metrics.all_refusals(), metrics.count("fanfare_closed_total", &[])), (0, 0));
    println!("{} connections came meanwhile", done.load(Ordering::Relaxed));
}
