//! UTF-8 checked piece by piece, failing at the first byte that cannot be part of any text.

/// The bytes can never become valid UTF-8, whatever follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidUtf8;

/// Length of the longest prefix of `bytes` made of whole characters. What comes after it is at most three bytes: the
/// beginning of a character whose end has not arrived. Check again from there when there is more.
///
/// # Errors
///
/// [`InvalidUtf8`] as soon as no continuation could make `bytes` valid. `core` sees this for an unfinished character
/// too: `ED A0` (a surrogate) or `F4 90` (above U+10FFFF) are errors of their own, not unexpected ends.
pub fn complete_len(bytes: &[u8]) -> Result<usize, InvalidUtf8> {
    match core::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(InvalidUtf8),
    }
}
