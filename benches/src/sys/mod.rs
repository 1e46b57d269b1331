//! Everything here that the standard library cannot do safely: four small pieces, and no `unsafe` outside of them.

mod allocator;
mod limits;
mod parent;
mod timer;

pub use allocator::{Allocations, CountingAllocator, SHARD_THREAD_PREFIX, exclude_this_thread};
pub use limits::raise_open_files_limit;
pub use parent::die_with_parent;
pub use timer::Timer;
