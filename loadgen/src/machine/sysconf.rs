//! Two constants of the kernel that no file tells.

/// Bytes of a page.
pub fn page_bytes() -> u64 {
    positive(libc::_SC_PAGESIZE, 4096)
}

/// Nanoseconds of a clock tick of `/proc`.
pub fn tick_ns() -> u64 {
    1_000_000_000 / positive(libc::_SC_CLK_TCK, 100)
}

fn positive(name: libc::c_int, otherwise: u64) -> u64 {
    // SAFETY: sysconf takes a number, touches no memory of ours and has no preconditions; an unknown name gives -1.
    let value = unsafe { libc::sysconf(name) };
    u64::try_from(value).ok().filter(|value| *value > 0).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_a_power_of_two_and_ticks_shorter_than_a_second() {
        assert!(page_bytes().is_power_of_two() && page_bytes() >= 4096);
        assert!((100_000..=1_000_000_000).contains(&tick_ns()));
    }
}
