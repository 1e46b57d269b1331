//! Certificates and keys of the running server: what is refused at the start, who is shown which, who clients are by theirs,
//! and how they are replaced while the server works.

mod clients;
mod kit;
mod load;
mod reload;
mod start;
mod takeover;
