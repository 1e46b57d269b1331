//! Any frame, put together from the input, decodes to what it was made of.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fanfare_fuzz::frame_decoder(data));
