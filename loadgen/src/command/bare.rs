//! `loadgen bare`: the bare loop of `send()` as a server, for comparisons that want it as a side of its own.

use std::net::SocketAddr;

use clap::Args;

use crate::bare::{self, Sending};
use crate::failure::Failure;

/// The arguments of `loadgen bare`.
#[derive(Debug, Clone, Args)]
pub struct BareArgs {
    /// Where to listen, as IP:PORT; port 0 takes a free one. It is printed
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// What goes into one send()
    #[arg(long, value_enum, default_value_t)]
    pub sending: Sending,
}

/// Serves until the process is ended.
///
/// # Errors
/// As [`bare::serve`].
pub fn run(args: &BareArgs) -> Result<(), Failure> {
    bare::serve(args.listen, args.sending)
}
