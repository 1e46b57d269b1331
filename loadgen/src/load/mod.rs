//! What is offered: when publications are due, which topics they go to, and who is connected for what.
//!
//! All of it is a pure function of the scenario and its seed, so every worker knows it without being told.

pub mod roster;
pub mod schedule;
pub mod skew;

pub use roster::{Place, Role, Roster};
pub use schedule::Schedule;
pub use skew::{Spread, TopicPicker};
