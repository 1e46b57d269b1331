//! Where the engine meets the network: [`listener`] makes the sockets that accept, [`proxy_protocol`] and [`client_address`]
//! tell whose connection it is, [`addresses`] counts them by client, [`handover`] carries what speaks plain HTTP to the
//! control plane and upgraded connections back, [`descriptors`] makes room for them.

pub mod addresses;
pub mod client_address;
pub mod descriptors;
pub mod handover;
pub mod listener;
pub mod proxy_protocol;
