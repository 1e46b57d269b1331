//! Masking of payloads (RFC 6455, 5.3). XOR is its own inverse: the same function masks and unmasks.

/// Bytes handled at once; the compiler turns the loop over them into vector instructions.
const WORD: usize = size_of::<u64>();

/// XORs `payload` with `key` in place and returns the key as it applies to the byte after `payload`, so that a payload
/// may be treated in pieces of any length.
#[must_use = "the next piece of the payload needs the returned key"]
pub fn apply(payload: &mut [u8], key: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = key;
    let word_key = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<WORD>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ word_key).to_ne_bytes();
    }
    // A word is a multiple of the key, so the rest starts with the key's first byte again.
    for (byte, key_byte) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key_byte;
    }
    let turn_bits = 8 * (payload.len() % key.len()) as u32;
    u32::from_be_bytes(key).rotate_left(turn_bits).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::apply;
    use crate::ws::tests::config;

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn every_byte_is_xored_with_its_byte_of_the_key_however_the_payload_is_cut(
            payload in prop::collection::vec(any::<u8>(), 0..200),
            key: [u8; 4],
            cut in 0..200_usize,
        ) {
            let expected: Vec<u8> = payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let mut masked = payload.clone();
            let (head, tail) = masked.split_at_mut(cut.min(payload.len()));
            let key_of_tail = apply(head, key);
            let _ = apply(tail, key_of_tail);
            prop_assert_eq!(&masked, &expected);

            let _ = apply(&mut masked, key);
            prop_assert_eq!(masked, payload);
        }
    }
}
