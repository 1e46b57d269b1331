//! Sends every message back as it came, text as text and binary as binary, on any path and to any web page.
//!
//! Its limits hold a 16 MiB message and its echo at once, which the largest Autobahn cases need.

use std::io;
use std::net::SocketAddr;
use std::thread;

use clap::Parser;
use fanfare::{Context, Decision, Engine, Handler, Message, Origins, SendOutcome, Settings, Upgrade};

/// Echoes WebSocket messages.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
}

struct Echo;

impl Handler for Echo {
    type Data = ();

    fn upgrade(&self, _request: &Upgrade<'_>) -> Decision<()> {
        Decision::accept(())
    }

    fn message(&self, ctx: &mut Context<'_, ()>, message: Message<'_>) {
        // A peer that sends without reading what comes back has to be cut off at some point.
        if ctx.send(message) == SendOutcome::Dropped {
            ctx.close(1013, "read your echoes");
        }
    }
}

fn main() -> io::Result<()> {
    let arguments = Arguments::parse();
    let settings =
        Settings { origins: Origins::Any, message_bytes: 32 << 20, pending_bytes: 64 << 20, ..Settings::default() };
    let engine = Engine::builder(Echo).listen(arguments.listen).settings(settings).start()?;
    println!("echo is listening on ws://{}/", engine.local_addrs()[0]);
    loop {
        thread::park();
    }
}
