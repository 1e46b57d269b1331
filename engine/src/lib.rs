//! Fanfare.
pub mod ws;
