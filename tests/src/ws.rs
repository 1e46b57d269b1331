//! Clients that are not ours: `tungstenite`, with a deadline on everything.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::{HeaderName, HeaderValue};
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use crate::{DEADLINE, Server};

/// A WebSocket.
pub struct Client {
    socket: WebSocket<TcpStream>,
}

impl Client {
    /// Connects to a path of the server.
    ///
    /// # Panics
    /// If that is refused.
    #[must_use]
    #[track_caller]
    pub fn connect(server: &Server, path: &str) -> Self {
        Self::connect_with(server.addr(), path, &[])
            .unwrap_or_else(|status| panic!("the upgrade of {path} was refused: {status}"))
    }

    /// Connects with more headers.
    ///
    /// # Errors
    /// The HTTP status, if the upgrade is refused.
    ///
    /// # Panics
    /// If it fails in another way.
    #[track_caller]
    pub fn connect_with(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        let stream = TcpStream::connect(addr).expect("the server accepts");
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self::upgrade(stream, addr, path, headers)
    }

    /// Becomes a WebSocket on a TCP connection that is there already.
    ///
    /// # Errors
    /// The HTTP status, if the upgrade is refused.
    ///
    /// # Panics
    /// If it fails in another way.
    #[track_caller]
    pub fn upgrade(stream: TcpStream, addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, u16> {
        stream.set_read_timeout(Some(DEADLINE)).expect("a deadline can be set");
        stream.set_write_timeout(Some(DEADLINE)).expect("a deadline can be set");
        let mut request = format!("ws://{addr}{path}").into_client_request().expect("a WebSocket address");
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match tungstenite::client::client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::HandshakeError::Failure(Error::Http(response))) => Err(response.status().as_u16()),
            Err(error) => panic!("the upgrade of {path} failed: {error}"),
        }
    }

    /// Sends a message.
    ///
    /// # Panics
    /// If it cannot be sent.
    #[track_caller]
    pub fn send(&mut self, message: Message) {
        self.socket.send(message).expect("the message can be sent");
    }

    /// Sends a text.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.send(Message::text(text));
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send(Message::binary(bytes.to_vec()));
    }

    /// Reads the next message, pongs and close frames included; the answers to pings are given on the way.
    ///
    /// # Panics
    /// If there is none within the deadline.
    #[track_caller]
    pub fn read(&mut self) -> Message {
        loop {
            match self.socket.read() {
                Ok(Message::Ping(_)) => {}
                Ok(message) => return message,
                Err(error) => panic!("a message was expected: {error}"),
            }
        }
    }

    /// Reads the next message, which must be text.
    ///
    /// # Panics
    /// If it is anything else.
    #[track_caller]
    pub fn read_text(&mut self) -> String {
        match self.read() {
            Message::Text(text) => text.as_str().to_owned(),
            other => panic!("text was expected: {other:?}"),
        }
    }

    /// Reads the next message, which must be JSON.
    ///
    /// # Panics
    /// If it is anything else.
    #[track_caller]
    pub fn read_json(&mut self) -> Value {
        let text = self.read_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"))
    }

    /// Reads the next message if it comes within `patience`.
    ///
    /// # Panics
    /// If the connection fails.
    #[track_caller]
    pub fn read_within(&mut self, patience: Duration) -> Option<Message> {
        self.set_read_timeout(patience);
        let result = loop {
            match self.socket.read() {
                Ok(Message::Ping(_)) => {}
                other => break other,
            }
        };
        self.set_read_timeout(DEADLINE);
        match result {
            Ok(message) => Some(message),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("a message or nothing was expected: {error}"),
        }
    }

    /// Reads up to the Close frame and returns its code and reason; 1005 for an empty one, 1006 if there is none.
    pub fn read_close(&mut self) -> (u16, String) {
        loop {
            match self.socket.read() {
                Ok(Message::Close(Some(CloseFrame { code, reason }))) => {
                    return (code.into(), reason.as_str().to_owned());
                }
                Ok(Message::Close(None)) => return (1005, String::new()),
                Ok(_) => {}
                Err(_) => return (1006, String::new()),
            }
        }
    }

    /// Closes with this code and reason, and waits for the answer.
    ///
    /// # Panics
    /// If it cannot be sent.
    pub fn close(mut self, code: u16, reason: &str) -> (u16, String) {
        let frame = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.socket.close(Some(frame)).expect("the Close frame can be sent");
        self.read_close()
    }

    /// The TCP connection.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    fn set_read_timeout(&self, timeout: Duration) {
        self.stream().set_read_timeout(Some(timeout)).expect("a deadline can be set");
    }
}

/// A client of the native protocol on `/ws`: JSON in text frames.
pub struct Native {
    client: Client,
    /// What arrived while an answer was waited for.
    waiting: VecDeque<Value>,
    /// The name the server gave this connection.
    pub connection: String,
}

impl Native {
    /// Connects and is greeted.
    ///
    /// # Panics
    /// If not.
    #[must_use]
    #[track_caller]
    pub fn connect(server: &Server) -> Self {
        let mut client = Client::connect(server, "/ws");
        let hello = client.read_json();
        assert_eq!(hello["type"], "connected", "{hello}");
        let connection = hello["connection"].as_str().expect("the connection has a name").to_owned();
        Self { client, waiting: VecDeque::new(), connection }
    }

    /// Sends a request.
    #[track_caller]
    pub fn send(&mut self, request: &Value) {
        self.client.send_text(&request.to_string());
    }

    /// Sends text as it is.
    #[track_caller]
    pub fn send_text(&mut self, text: &str) {
        self.client.send_text(text);
    }

    /// The next thing the server says.
    #[track_caller]
    pub fn read(&mut self) -> Value {
        self.waiting.pop_front().unwrap_or_else(|| self.client.read_json())
    }

    /// Sends a request and returns what answers it; messages that come first are kept for [`read`](Self::read).
    #[track_caller]
    pub fn ask(&mut self, request: &Value) -> Value {
        self.send(request);
        loop {
            let said = self.client.read_json();
            if said["type"] != "message" {
                return said;
            }
            self.waiting.push_back(said);
        }
    }

    /// Subscribes and returns the answer.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn subscribe(&mut self, topic: &str) -> Value {
        self.subscribe_with(topic, json!({}))
    }

    /// Subscribes with more fields: `since`, `history`.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn subscribe_with(&mut self, topic: &str, more: Value) -> Value {
        let mut request = json!({ "type": "subscribe", "topic": topic });
        if let (Value::Object(request), Value::Object(more)) = (&mut request, more) {
            request.extend(more);
        }
        let answer = self.ask(&request);
        assert_eq!(answer["type"], "subscribed", "{answer}");
        answer
    }

    /// Publishes and returns the offset.
    ///
    /// # Panics
    /// If it is refused.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, data: Value) -> u64 {
        let answer = self.ask(&json!({ "type": "publish", "topic": topic, "data": data }));
        assert_eq!(answer["type"], "published", "{answer}");
        answer["offset"].as_u64().expect("an offset")
    }

    /// The next thing the server says, which must be a message.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn read_message(&mut self) -> Value {
        let said = self.read();
        assert_eq!(said["type"], "message", "{said}");
        said
    }

    /// The WebSocket itself.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A position as the protocol writes it, from an answer that has `epoch` and `offset`.
///
/// # Panics
/// If it has none.
#[must_use]
#[track_caller]
pub fn position(answer: &Value) -> Value {
    assert!(answer["offset"].is_u64(), "{answer}");
    json!({ "epoch": answer["epoch"], "offset": answer["offset"] })
}
