//! Any text is a request of the native protocol or a fault with a sentence.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::native_protocol(data));
