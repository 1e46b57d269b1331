//! What flows after the upgrade is bounded: rates, memory of all connections together, time limits, settings that change while
//! the engine runs. Engines in this process, driven by tungstenite's client over real sockets.

#[allow(dead_code, reason = "shared with the tests of the embedding API; each needs a part of it")]
#[path = "../embedding/kit.rs"]
mod kit;
mod topics;
