//! TLS from the outside: engines in this process, certificates made for the test, and clients that are not ours: rustls under
//! tungstenite, `curl`, `openssl`.

mod broken;
mod certified;
mod handshakes;
mod http;
mod kit;
mod pressure;
mod tools;
mod websocket;
