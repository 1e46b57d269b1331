//! What the program does when it is called: one file a command.

pub mod compare;
pub mod report;
