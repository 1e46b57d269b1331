//! Restarts without losing anybody: how an engine ends, how another one takes its place, and what service managers are told.

mod health;
mod kit;
mod load;
mod private;
mod processes;
mod service_manager;
mod shutdown;
mod succession;
mod takeover;
