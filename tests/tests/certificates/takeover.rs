//! A process that takes the place of another one has certificates of its own.

use fanfare_tests::Server;

use crate::kit::*;

#[test]
fn a_successor_shows_its_own_certificate_and_keeps_the_topics() {
    let (files, authority) = (Files::new(), Authority::new("test"));
    let (first, second) = (authority.issue(&["localhost"]), authority.issue(&["localhost"]));
    let start = |name: &str, issued: &Issued, plain: &str, tls: &str| {
        let own = files.pair(name, issued);
        let mut flags = vec!["--shards", "2", "--takeover", "--listen", plain, "--listen", tls];
        flags.extend(own.iter().map(String::as_str));
        Server::with_exactly(&flags)
    };
    let mut old = start("first", &first, "ws://127.0.0.1:0", "wss://127.0.0.1:0");
    let (plain, tls) = (old.addr(), tls_addr(&old));
    let config = client(&authority, None);
    let mut socket = websocket(tls, &config, "/topics/kept").expect("it is let in");
    old.publish("kept", "before");
    assert_eq!(next_text(&mut socket), "before");

    let new = start("second", &second, &format!("ws://{plain}"), &format!("wss://{tls}"));
    assert_eq!((new.addr(), tls_addr(&new)), (plain, tls));
    assert_eq!(old.wait().code(), Some(0), "{}", old.stderr());
    // Who was there is told to come again, in order.
    let end = loop {
        if let tungstenite::Message::Close(frame) = socket.read().expect("a Close frame") {
            break frame.expect("with a code");
        }
    };
    assert_eq!(u16::from(end.code), 1012);
    eventually_shown(tls, &config, "localhost", &second);
    let mut socket = websocket(tls, &config, "/topics/kept?history=1").expect("it is let in");
    assert_eq!(next_text(&mut socket), "before");
}
