//! Any head is parsed, checked and answered, or refused.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::http_head(data));
