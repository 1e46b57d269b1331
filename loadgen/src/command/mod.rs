//! What can be asked of `loadgen`: a file or folder for each command.

pub mod ab;
pub mod bare;
pub mod ceiling;
pub mod compare;
pub mod report;
pub mod run;
pub mod scenario;
pub mod search;
pub mod worker;
