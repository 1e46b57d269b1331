//! permessage-deflate (RFC 7692) from outside: what is agreed on, what is compressed and how often, what hostile peers can do with
//! it, and how it is switched. Clients of others are in `tests/node` (npm `ws`, Python `websockets`) and `tests/browser`.

mod broadcast;
mod direct;
mod hostile;
mod kit;
mod live;
mod negotiation;
