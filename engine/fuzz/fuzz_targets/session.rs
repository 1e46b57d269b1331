//! Any stream of bytes gives the same events however it is cut, and keeps no more memory than it may.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::session(data));
