//! Where the engine meets the network: [`listener`] makes the sockets that accept, [`proxy_protocol`] and [`client_address`]
//! tell whose connection it is, [`addresses`] counts them by client, [`handover`] carries what speaks plain HTTP to the
//! control plane, where it is an [`http_socket`], and upgraded connections back, [`tls`] is what is said in the clear otherwise, [`takeover`] listeners from one process to the next, [`descriptors`] makes
//! room for them.

pub mod addresses;
pub mod client_address;
pub mod descriptors;
pub mod handover;
pub mod http_socket;
pub mod listener;
pub mod proxy_protocol;
pub mod takeover;
pub mod tls;
