//! The servers that are compared, and how each is started.
//!
//! * [`bare`]: the ceilings, `send-loop` and `coalescing-loop`: no queues, no protocol beyond what a fan-out needs.
//! * [`naive`]: what a straightforward program with tungstenite does.
//! * [`admission`]: accepting and upgrading; [`serve`]: the event loop they all run in.

pub mod admission;
pub mod bare;
pub mod naive;
pub mod serve;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::Result;

/// A server in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Contestant {
    /// Fanfare itself, its real binary, with one shard.
    Engine,
    /// tungstenite, a write and a flush for each message and connection.
    Naive,
    /// One `send()` for each message and connection, and nothing else.
    SendLoop,
    /// One `send()` for each connection and all messages that were read together.
    CoalescingLoop,
}

impl Contestant {
    /// Its name in tables, in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Naive => "naive",
            Self::SendLoop => "send-loop",
            Self::CoalescingLoop => "coalescing-loop",
        }
    }

    /// The program that serves it, and its arguments: the engine's binary, or this very program again.
    pub fn command(self, engine: &Path) -> Result<(PathBuf, Vec<OsString>)> {
        let listen = ["--listen", "127.0.0.1:0"];
        let (program, arguments) = match self {
            Self::Engine => (engine.to_owned(), [&listen[..], &["--shards", "1"]].concat()),
            Self::Naive => (std::env::current_exe()?, [&["serve-naive"], &listen[..]].concat()),
            Self::SendLoop => (std::env::current_exe()?, [&["serve-send-loop"], &listen[..]].concat()),
            Self::CoalescingLoop => (std::env::current_exe()?, [&["serve-coalescing-loop"], &listen[..]].concat()),
        };
        Ok((program, arguments.into_iter().map(OsString::from).collect()))
    }

    /// Serves on `listen` in this thread, for ever. The engine does that in its own binary only.
    pub fn serve(self, listen: SocketAddr) -> Result<()> {
        match self {
            Self::Engine => Err("the engine is a program of its own".into()),
            Self::Naive => serve::run(listen, &mut naive::Naive::default()),
            Self::SendLoop => serve::run(listen, &mut bare::BareLoop::new(bare::Sending::EachMessage)),
            Self::CoalescingLoop => serve::run(listen, &mut bare::BareLoop::new(bare::Sending::EachRead)),
        }
    }
}

/// What a contestant of ours prints when its publisher has left, for the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls of `send`.
    pub sends: u64,
    /// Messages that a connection did not get because its socket was full.
    pub dropped: u64,
}

impl Totals {
    /// How the printed line begins.
    pub const LABEL: &str = "totals ";

    /// The line.
    pub fn to_line(self) -> String {
        format!("{}sends {} dropped {}", Self::LABEL, self.sends, self.dropped)
    }

    /// Reads the line.
    pub fn parse(line: &str) -> Option<Self> {
        let (sends, dropped) = line.strip_prefix(Self::LABEL)?.strip_prefix("sends ")?.split_once(" dropped ")?;
        Some(Self { sends: sends.parse().ok()?, dropped: dropped.trim().parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_as_they_were_printed() {
        let totals = Totals { sends: 12, dropped: 3 };
        assert_eq!(Totals::parse(&totals.to_line()), Some(totals));
        assert_eq!(Totals::parse("listening 127.0.0.1:1"), None);
    }
}
