//! Any compressed message is inflated under the limit, the same however it is cut, or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::compressed(data));
