//! Fanfare: a sharded broadcast engine.
//!
//! One publication goes in, and every subscriber of its topic gets it over a WebSocket, at the speed the kernel allows, with
//! every drop accounted for. A program implements [`Handler`], describes an [`Engine`] with [`Engine::builder`], and does
//! everything else through a [`Context`] (within a call of its handler) or an [`EngineHandle`] (from any thread).
//!
//! ```
//! use fanfare::{Context, Decision, Engine, Handler, Message, Subscribe, Upgrade};
//!
//! struct Chat;
//!
//! impl Handler for Chat {
//!     type Data = ();
//!
//!     fn upgrade(&self, _request: &Upgrade<'_>) -> Decision<()> {
//!         Decision::accept(())
//!     }
//!
//!     fn open(&self, ctx: &mut Context<'_, ()>) {
//!         let _ = ctx.subscribe("chat", Subscribe::default());
//!     }
//!
//!     fn message(&self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
//!         if ctx.publish("chat", message).is_err() {
//!             ctx.retry();
//!         }
//!     }
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let engine = Engine::builder(Chat).listen(([127, 0, 0, 1], 0).into()).shards(1).start()?;
//! println!("ws://{}/", engine.local_addrs()[0]);
//! engine.shutdown();
//! # Ok(())
//! # }
//! ```
//!
//! The layers, each importing only what stands left of it:
//! `id close events metrics` → [`ws`] → [`pubsub`] → `config net` [`handler`] → `shard` → `engine` → [`server`].

#![warn(missing_docs)]

pub mod close;
pub mod config;
pub mod events;
pub mod handler;
pub mod id;
pub mod pubsub;
pub mod ws;

mod engine;
mod metrics;
mod net;
pub mod server;
mod shard;

pub use close::{CloseCause, RefusalCause};
pub use config::{ClientAddress, ConnectionLimits, RatePolicy, Settings, TopicCharacters};
pub use engine::{
    Arrival, Engine, EngineBuilder, EngineError, EngineHandle, Gathered, HistoryPage, Latency, Reach, Reply,
    ShardStats, Stats, TopicInfo,
};
pub use handler::{
    Accept, Closed, Context, Decision, Deferred, Handler, Later, Pending, Publish, Refusal, SendOutcome, Subscribe,
    Upgrade,
};
pub use id::ConnectionId;
pub use net::client_address::FORWARDING as FORWARDING_HEADERS;
pub use net::tls::{
    CertificateInfo, ClientAuth, ClientCertificate, DevelopmentCertificate, Security, Tls, TlsBuilder, TlsError,
    TlsVersion,
};
pub use pubsub::tally::Deliveries;
pub use pubsub::{
    DeliveryPolicy, Encoding, EncodingId, Epoch, NameError, Pattern, Position, Publication, PublishError, Published,
    SubscribeError, Subscribed, TopicRules, TopicSettings,
};
pub use shard::inspect::{ConnectionDetails, ConnectionFilter, ConnectionInfo, ConnectionState};
pub use ws::handshake::Origins;
pub use ws::{Message, Opcode};

/// The programs shown in the embedding guide, which are compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/EMBEDDING.md")]
struct EmbeddingGuide;

/// The program shown in the README, likewise.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
