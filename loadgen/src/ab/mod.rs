//! Two servers under one load, in turns.

pub mod turns;
