//! `/ws`: the native protocol. JSON text in both directions; any number of topics on one connection.
//!
//! [`request`] reads what clients send, `session` does it, [`reply`] writes the answers, and [`encoding`] is what a
//! publication looks like. A mistake of the client is answered with one error; the connection stays.

pub mod encoding;
pub mod reply;
pub mod request;
mod session;

pub use encoding::NativeEncoding;
pub use request::{Action, Fault, Id, Request, parse};

pub(super) use session::{accept, authenticated, ended, message, open, refuse};
