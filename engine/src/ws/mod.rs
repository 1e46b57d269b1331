//! The WebSocket protocol (RFC 6455, RFC 7692), sans-IO: bytes are arguments, events are results.
//!
//! | Module | Its promise |
//! |---|---|
//! | [`session`] | bytes of one connection in, events out; holds memory only for what is half received |
//! | [`frame`] | frames appended to a buffer, in either role; which close codes may be sent |
//! | [`handshake`] | the HTTP/1.1 head that comes first: parsed, checked, answered |
//! | [`deflate`] | permessage-deflate (RFC 7692): offers answered, messages compressed and inflated under a limit |
//! | [`mask`] | XOR with the masking key, a word at a time |
//! | [`utf8`] | UTF-8 checked as far as the bytes that have arrived allow |
//! | [`error`] | every mistake a peer can make, with its close code and metric label |
//!
//! Nothing here knows a socket, a thread or a clock, and no input makes it panic. The vocabulary (header layout,
//! opcodes, the accept key) is `tungstenite`'s; in the tests the whole of `tungstenite` is the oracle, and
//! `miniz_oxide` that of what is compressed.

pub mod deflate;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
pub mod session;
pub mod utf8;

#[cfg(test)]
mod tests;

pub use error::ProtocolError;
pub use message::{Message, Opcode};
pub use session::{Event, Limits, Received, Role, Session};
