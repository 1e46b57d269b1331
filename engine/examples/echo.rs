//! Sends every message back as it came, text as text and binary as binary, on any path and to any web page.
//!
//! Its limits hold a 16 MiB message and its echo at once, which the largest Autobahn cases need. It compresses and encrypts if
//! told so.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::{fs, io, thread};

use clap::Parser;
use fanfare::{Context, Decision, Engine, Handler, Message, Origins, SendOutcome, Settings, Tls, Upgrade};

/// Echoes WebSocket messages.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Where to listen for TLS besides.
    #[arg(long, value_name = "ADDR", requires = "tls_cert")]
    listen_tls: Option<SocketAddr>,
    /// The certificate with its chain, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Take offers of permessage-deflate, and compress every message.
    #[arg(long)]
    deflate: bool,
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
    let Arguments { listen, listen_tls, tls_cert, tls_key, deflate } = Arguments::parse();
    let settings = Settings {
        origins: Origins::Any,
        message_bytes: 32 << 20,
        pending_bytes: 64 << 20,
        deflate,
        deflate_min_bytes: 1,
        ..Settings::default()
    };
    let mut builder = Engine::builder(Echo).listen(listen).settings(settings);
    if let (Some(address), Some(chain), Some(key)) = (listen_tls, tls_cert, tls_key) {
        let tls = Tls::from_pem(&fs::read(chain)?, &fs::read(key)?).map_err(io::Error::other)?;
        builder = builder.tls(tls).listen_tls(address);
    }
    let engine = builder.start()?;
    for (address, scheme) in engine.local_addrs().iter().zip(["ws", "wss"]) {
        println!("echo is listening on {scheme}://{address}/");
    }
    loop {
        thread::park();
    }
}
