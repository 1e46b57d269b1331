//! Topics: one order, history, subscribers, delivery policies. Knows no sockets, threads or clocks.
//!
//! In the order of a publication's way: [`name`] says what a topic and a pattern are called, [`publication`] is what is
//! published, [`encoding`] and [`form`] the bytes a subscriber gets, [`topic`] gives the offset, [`history`] keeps what may be asked for
//! again, [`pace`] how fast it goes, [`topics`] finds and forgets topics, [`settings`] bounds them, [`fanout`] is one shard's share of a topic, and
//! [`outbound`] the queue of one connection that does not keep up.

pub mod encoding;
pub mod fanout;
pub mod form;
pub mod history;
pub mod name;
pub mod outbound;
pub mod pace;
pub mod patterns;
pub mod publication;
pub mod settings;
pub mod succession;
pub mod tally;
pub mod topic;
pub mod topics;

pub use encoding::{Encoding, EncodingId};
pub use name::{NAME_BYTES_MAX, NameError, Pattern, TopicCharacters};
pub use publication::{Epoch, Position, Publication, Published};
pub use settings::{DeliveryPolicy, TopicRules, TopicSettings};
pub use topic::{PublishError, SubscribeError, Subscribed};
