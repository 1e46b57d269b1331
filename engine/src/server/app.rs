//! The handler of the binary: the path of the upgrade chooses the protocol, and each connection keeps to its own.

use std::any::Any;

use super::{native, orders, raw};
use crate::{Context, Decision, Handler, Message, Refusal, Upgrade};

/// The program that `fanfare` runs on the engine. It keeps nothing but what each connection needs.
#[derive(Debug, Clone, Copy, Default)]
pub struct App;

/// What is kept for a connection.
#[derive(Debug)]
pub enum Client {
    /// On `/topics/{topic}`.
    Raw(raw::Raw),
    /// On `/ws`. All it needs, the engine knows.
    Native,
}

impl Handler for App {
    type Data = Client;

    fn upgrade(&self, request: &Upgrade<'_>) -> Decision<Client> {
        match route(request) {
            Ok(client) => Decision::accept(client),
            Err(refusal) => refusal.into(),
        }
    }

    fn open(&self, ctx: &mut Context<'_, Client>) {
        match ctx.data() {
            Client::Raw(raw) => {
                let start = raw.start();
                raw::open(ctx, start);
            }
            Client::Native => native::open(ctx),
        }
    }

    fn message(&self, ctx: &mut Context<'_, Client>, message: Message<'_>) {
        match ctx.data() {
            Client::Raw(raw) => {
                let publisher = raw.publisher();
                raw::message(ctx, publisher, message);
            }
            Client::Native => native::message(ctx, message),
        }
    }

    fn told(&self, ctx: &mut Context<'_, Client>, word: &(dyn Any + Send + Sync)) {
        let is_native = matches!(ctx.data(), Client::Native);
        orders::carry_out(ctx, is_native, word);
    }
}

/// Which protocol is spoken on this path.
fn route(request: &Upgrade<'_>) -> Result<Client, Refusal> {
    match request.path() {
        "/ws" => native::accept(request.query()).map(|()| Client::Native),
        path => match path.strip_prefix("/topics/") {
            // One segment: a slash within a name is sent as %2F.
            Some(topic) if !topic.contains('/') => raw::accept(topic, request.query()).map(Client::Raw),
            _ => Err(Refusal::new(404).error("not_found", "there are WebSockets at /ws and at /topics/{topic}")),
        },
    }
}
