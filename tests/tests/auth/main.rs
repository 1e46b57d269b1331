//! Authentication, property by property: the server's own handler and routes on an engine in this process, driven over real
//! sockets by clients that are not ours, with tokens made by `jsonwebtoken`. The same through the binary and its settings is
//! in `tests/node/auth.test.mjs`.

mod api;
mod callback;
mod kit;
mod messages;
mod permissions;
mod upgrade;
