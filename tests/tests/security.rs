//! What must not leak, through the binary.

use fanfare_tests::{Client, Server, eventually};

/// The only token there is.
const TOKEN: &str = "the-token-of-the-operators";

#[test]
fn the_event_log_shows_what_clients_send_only_if_that_cannot_be_a_token() {
    for (arguments, is_shown) in [(&["--events"][..], true), (&["--events", "--api-token", TOKEN], false)] {
        let server = Server::with(&[arguments, &["--log", "trace"]].concat());
        let mut client = Client::connect(&server, "/ws");
        client.read_json();
        client.send_text(&format!(r#"{{"type":"auth","token":"{TOKEN}"}}"#));
        assert_eq!(client.read_json()["type"], "authenticated");
        let bearer = format!("Bearer {TOKEN}");
        assert_eq!(server.http().request("GET", "/api/info", &[("Authorization", &bearer)], b"").status, 200);
        eventually("the message is logged", || server.stderr().contains("websocket.socket.message "));
        assert_eq!(server.stderr().contains(TOKEN), is_shown, "{}", server.stderr());
    }
}
