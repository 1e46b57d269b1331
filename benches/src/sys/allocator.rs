//! An allocator that counts, by the thread that asks: shard threads, and all others.
//!
//! A thread belongs to a shard by its name ([`SHARD_THREAD_PREFIX`]). Only requests are counted (allocations, and
//! reallocations as one each), not releases.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How the names of the threads begin whose allocations count as the shards'.
pub const SHARD_THREAD_PREFIX: &str = "fanfare-shard-";

static SHARDS: Tally = Tally::new();
static OTHERS: Tally = Tally::new();

thread_local! {
    // Constant and without a destructor: reading it allocates nothing, at any moment of a thread's life.
    static THREAD: Cell<Thread> = const { Cell::new(Thread::Unknown) };
}

#[derive(Clone, Copy)]
enum Thread {
    /// Its name is looked at again each time: a thread may allocate before it is named.
    Unknown,
    Shard,
    Excluded,
}

struct Tally {
    calls: AtomicU64,
    bytes: AtomicU64,
}

impl Tally {
    const fn new() -> Self {
        Self { calls: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    fn read(&self) -> Allocations {
        Allocations { calls: self.calls.load(Relaxed), bytes: self.bytes.load(Relaxed) }
    }
}

/// A number of allocations and the bytes asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocations {
    /// Calls of `alloc`, `alloc_zeroed` and `realloc`.
    pub calls: u64,
    /// Bytes they asked for; a reallocation asks for its whole new size.
    pub bytes: u64,
}

impl Allocations {
    /// What the threads named [`SHARD_THREAD_PREFIX`]… have allocated since the start of the process.
    pub fn of_shards() -> Self {
        SHARDS.read()
    }

    /// What all other threads have allocated, excluded ones aside.
    pub fn of_others() -> Self {
        OTHERS.read()
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self { calls: self.calls - earlier.calls, bytes: self.bytes - earlier.bytes }
    }
}

/// Takes the calling thread out of every count, for good.
pub fn exclude_this_thread() {
    THREAD.with(|thread| thread.set(Thread::Excluded));
}

/// The system's allocator, counting. Use as `#[global_allocator]`.
#[derive(Debug)]
pub struct CountingAllocator;

impl CountingAllocator {
    fn count(bytes: usize) {
        let tally = THREAD.with(|thread| {
            if matches!(thread.get(), Thread::Unknown) && is_named_like_a_shard() {
                thread.set(Thread::Shard);
            }
            match thread.get() {
                Thread::Unknown => Some(&OTHERS),
                Thread::Shard => Some(&SHARDS),
                Thread::Excluded => None,
            }
        });
        if let Some(tally) = tally {
            tally.calls.fetch_add(1, Relaxed);
            tally.bytes.fetch_add(bytes as u64, Relaxed);
        }
    }
}

fn is_named_like_a_shard() -> bool {
    let mut name = [0_u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, terminating zero included, to a buffer of 16 bytes that is ours.
    let done = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    done == 0 && name.starts_with(SHARD_THREAD_PREFIX.as_bytes())
}

// SAFETY: every request goes unchanged to the system's allocator, whose guarantees are thereby ours. Counting neither
// allocates (atomics, a constant thread-local, one `prctl` into the stack) nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count(layout.size());
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: the caller's promise, handed on; `old` came from the system's allocator, like all that we give.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as for `realloc`.
        unsafe { System.dealloc(old, layout) }
    }
}
