//! Whether what was published is what comes: markers in the payloads, sequences, completion, fairness.
//!
//! Sans-IO: bytes and times are arguments. Nothing here allocates, hashes or looks at a clock for a message that comes
//! as it should.

pub mod completion;
pub mod fairness;
mod filler;
pub mod marker;
pub mod parties;
pub mod sequence;

pub use completion::{Completion, Step};
pub use fairness::Medians;
pub use marker::{MARKER_LEN, Marker, PayloadReader, PayloadWriter, Read};
pub use parties::Parties;
pub use sequence::{Outcome, Tracker, Trackers};
