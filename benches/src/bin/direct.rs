//! The engine as a program uses it that knows no topics: what a client sends goes to all others, to each by itself, so that
//! it is compressed for each. What `benches/deflate.sh` compares compressing once with.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use clap::Parser;
use fanfare::{Closed, ConnectionId, Context, Decision, Engine, Handler, Message, Origins, Settings, Upgrade};
use fanfare_benches::Result;

/// Sends what a client says to every other client, by a direct send to each.
#[derive(Parser)]
struct Cli {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Compress, at this level.
    #[arg(long)]
    deflate_level: Option<u8>,
}

#[derive(Default)]
struct Each(Mutex<BTreeSet<ConnectionId>>);

impl Each {
    fn open(&self) -> MutexGuard<'_, BTreeSet<ConnectionId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Each {
    type Data = ();

    fn upgrade(&self, _: &Upgrade<'_>) -> Decision<()> {
        Decision::accept(())
    }

    fn open(&self, ctx: &mut Context<'_, ()>) {
        self.open().insert(ctx.id());
    }

    fn message(&self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        for id in self.open().iter().filter(|id| **id != ctx.id()) {
            if ctx.engine().send(*id, message).is_err() {
                eprintln!("a message could not be given to the shard");
            }
        }
    }

    fn close(&self, ctx: &mut Context<'_, ()>, _: &Closed<'_>) {
        self.open().remove(&ctx.id());
    }
}

fn main() -> ExitCode {
    match serve(&Cli::parse()) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("direct: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(cli: &Cli) -> Result<std::convert::Infallible> {
    let plain = Settings { origins: Origins::Any, ..Settings::default() };
    let settings = match cli.deflate_level {
        None => plain,
        Some(deflate_level) => Settings { deflate: true, deflate_level, ..plain },
    };
    let engine = Engine::builder(Each::default()).listen(cli.listen).settings(settings).shards(1).start()?;
    println!("ws://{}/", engine.local_addrs()[0]);
    loop {
        thread::park();
    }
}
