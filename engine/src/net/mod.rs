//! Where the engine meets the network: [`listener`] makes the sockets that accept, [`handover`] carries what speaks plain
//! HTTP to the control plane and upgraded connections back, [`takeover`] listeners from one process to the next.

pub mod handover;
pub mod listener;
pub mod takeover;
