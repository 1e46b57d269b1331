//! The session against rustls' own client, byte by byte if it has to be.
