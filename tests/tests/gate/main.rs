//! Before the upgrade: who is let in, how many from where, how fast, and who a client behind a proxy is. Engines in this
//! process, real sockets.

mod addresses;
mod kit;
mod proxies;
mod queue;
mod service;
