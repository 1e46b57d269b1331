//! Where the engine meets the network: [`listener`] makes the sockets that accept, [`handover`] carries what speaks plain
//! HTTP to the control plane and upgraded connections back.

pub mod handover;
pub mod listener;
