//! One worker: a thread, a poll, and its share of the connections.

pub mod account;
pub mod books;
pub mod sys;
pub mod usage;

pub use account::{Account, Completed, Window};
pub use books::{Books, Follower};
