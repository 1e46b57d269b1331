//! Restarts without losing anybody: how an engine ends, how another one takes its place, and what service managers are told.

mod kit;
mod load;
mod shutdown;
mod takeover;
