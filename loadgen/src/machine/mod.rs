//! What the machine says of itself, of the server's process and of others: `/proc`, read and understood.

pub mod environment;
pub mod neighbours;
pub mod procfs;
pub mod server;
mod sysconf;

pub use neighbours::{CoreShare, Neighbours};
pub use server::ServerProbe;
