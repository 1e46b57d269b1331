//! What stands behind the marker of a payload: the same for everybody who knows the seed.

use std::fmt::Write;

use crate::scenario::Filler;

/// `bytes` of filler, all ASCII.
pub(super) fn filler(kind: Filler, bytes: usize, seed: u64) -> Box<[u8]> {
    let mut random = Random(seed ^ 0x5851_f42d_4c95_7f2d);
    match kind {
        Filler::Random => (0..bytes).map(|_| random.letter()).collect(),
        Filler::Json => json(bytes, &mut random),
    }
}

/// The upper bits of a linear congruential generator.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        self.0 >> 33
    }

    fn letter(&mut self) -> u8 {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789AZ";
        LETTERS[(self.bits() >> 25) as usize]
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.bits() >> 8) % limit
    }
}

/// Records as a feed of prices has them: keys that come again, numbers that do not. Deflate makes about a quarter of it.
fn json(bytes: usize, random: &mut Random) -> Box<[u8]> {
    const VENUES: [&str; 4] = ["XETRA", "NASDAQ", "NYSE", "LSE"];
    let mut text = String::with_capacity(bytes + 256);
    text.push('[');
    while text.len() < bytes {
        let symbol: String = (0..4).map(|_| char::from(b'A' + random.below(26) as u8)).collect();
        let venue = VENUES[random.below(4) as usize];
        let (id, volume) = (random.below(1_000_000), random.below(50_000));
        let (price, change) = (random.below(100_000) as f64 / 100.0, random.below(2_000) as f64 / 100.0 - 10.0);
        let (second, ms) = (random.below(60), random.below(1_000));
        // Writing to a String does not fail.
        let _ = write!(
            text,
            r#"{{"id":{id},"symbol":"{symbol}","venue":"{venue}","price":{price:.2},"change":{change:.2},"volume":{volume},"at":"2026-11-20T09:30:{second:02}.{ms:03}Z","open":true}},"#
        );
    }
    text.truncate(bytes);
    text.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use zlib_rs::{Deflate, DeflateFlush};

    use super::*;

    fn deflated(text: &[u8]) -> f64 {
        let mut deflate = Deflate::new(3, false, 15);
        let mut out = vec![0; 2 * text.len()];
        deflate.compress(text, &mut out, DeflateFlush::SyncFlush).expect("there is room");
        text.len() as f64 / deflate.total_out() as f64
    }

    #[test]
    fn json_is_about_as_compressible_as_that_of_real_feeds_and_random_is_hardly_so() {
        for seed in 0..20 {
            let ratio = deflated(&filler(Filler::Json, 4096, seed));
            assert!((3.0..4.5).contains(&ratio), "{ratio}");
            let ratio = deflated(&filler(Filler::Random, 4096, seed));
            assert!(ratio < 1.4, "{ratio}");
        }
    }

    #[test]
    fn it_is_as_long_as_asked_for_and_json_as_far_as_it_goes() {
        for bytes in [0, 1, 127, 4096] {
            for kind in [Filler::Random, Filler::Json] {
                let text = filler(kind, bytes, 7);
                assert_eq!((text.len(), text.is_ascii()), (bytes, true));
                assert_eq!(text, filler(kind, bytes, 7));
            }
        }
        let text = filler(Filler::Json, 4096, 7);
        let whole = text.iter().rposition(|byte| *byte == b'}').expect("records");
        let array = [&text[..=whole], b"]"].concat();
        let records: Vec<serde_json::Value> = serde_json::from_slice(&array).expect("JSON");
        assert!(records.len() > 20 && records[0] != records[1]);
    }
}
