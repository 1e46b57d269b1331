//! The embedding API, property by property: engines in this process, driven by tungstenite's client over real sockets.

mod closing;
mod deferring;
mod guide;
mod handle;
mod http;
mod kit;
mod lifecycle;
mod messages;
mod ordering;
mod panics;
mod pressure;
mod succession;
mod time;
mod topics;
mod upgrade;
