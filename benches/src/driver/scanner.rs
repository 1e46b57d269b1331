//! Finds the frames in the bytes of one connection, wherever the reads have cut them.
//!
//! A frame that lies whole in one read is looked at where it lies. Of a cut one only the beginning is kept (header and
//! [`PREFIX_LEN`] bytes of payload) and the rest is counted off.

use crate::driver::Stamp;
use crate::wire::FrameHeader;

/// How much of a payload the scanner shows.
pub const PREFIX_LEN: usize = Stamp::LEN;

/// A server's header has at most 10 bytes.
const HEAD_LEN: usize = 10 + PREFIX_LEN;

/// A frame that has been received whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedFrame<'a> {
    /// Its opcode.
    pub opcode: u8,
    /// Length of its whole payload.
    pub payload_len: u64,
    /// The first [`PREFIX_LEN`] bytes of the payload, or all of a shorter one.
    pub prefix: &'a [u8],
}

/// The server sent a masked frame: whatever follows cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskedByServer;

/// What is known of a frame that is cut.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameScanner {
    /// The beginning of the cut frame.
    head: [u8; HEAD_LEN],
    /// How many bytes of it have come; 0 between frames.
    seen: u64,
}

impl FrameScanner {
    /// Shows every frame that `bytes` complete to `sink`, in order.
    #[inline(always)]
    pub fn scan(&mut self, mut bytes: &[u8], mut sink: impl FnMut(ScannedFrame<'_>)) -> Result<(), MaskedByServer> {
        if self.seen > 0 {
            bytes = self.resume(bytes, &mut sink)?;
        }
        while let Some(header) = FrameHeader::parse(bytes) {
            if header.masking_key.is_some() {
                return Err(MaskedByServer);
            }
            if header.frame_len() > bytes.len() as u64 {
                break;
            }
            let (frame, rest) = bytes.split_at(header.frame_len() as usize);
            let payload = &frame[header.header_len..];
            let prefix = &payload[..payload.len().min(PREFIX_LEN)];
            sink(ScannedFrame { opcode: header.opcode, payload_len: header.payload_len, prefix });
            bytes = rest;
        }
        // Nothing is left here unless it is cut, and a cut frame is resumed from its beginning next time.
        if !bytes.is_empty() {
            let kept = bytes.len().min(HEAD_LEN);
            self.head[..kept].copy_from_slice(&bytes[..kept]);
            self.seen = bytes.len() as u64;
        }
        Ok(())
    }

    /// Goes on with a cut frame; returns what lies behind it, empty if it is still cut.
    #[cold]
    fn resume<'a>(
        &mut self,
        mut bytes: &'a [u8],
        sink: &mut impl FnMut(ScannedFrame<'_>),
    ) -> Result<&'a [u8], MaskedByServer> {
        loop {
            let known = &self.head[..HEAD_LEN.min(self.seen as usize)];
            let header = FrameHeader::parse(known);
            if header.is_some_and(|header| header.masking_key.is_some()) || known.get(1).is_some_and(|b| b & 0x80 != 0)
            {
                return Err(MaskedByServer);
            }
            if let Some(header) = header.filter(|header| header.frame_len() == self.seen) {
                let end = HEAD_LEN.min(header.header_len + PREFIX_LEN).min(self.seen as usize);
                let prefix = &self.head[header.header_len..end];
                sink(ScannedFrame { opcode: header.opcode, payload_len: header.payload_len, prefix });
                self.seen = 0;
                return Ok(bytes);
            }
            if bytes.is_empty() {
                return Ok(bytes);
            }
            // Until the header is known byte by byte, so that nothing of the next frame is taken.
            let wanted = header.map_or(1, |header| header.frame_len() - self.seen);
            let taken = (bytes.len() as u64).min(wanted) as usize;
            if let Some(room) = self.head.get_mut(self.seen as usize..) {
                let kept = room.len().min(taken);
                room[..kept].copy_from_slice(&bytes[..kept]);
            }
            self.seen += taken as u64;
            bytes = &bytes[taken..];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{self, BINARY, MASKING_KEY, PING};

    type Seen = Vec<(u8, u64, Vec<u8>)>;

    fn scan_in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Seen, MaskedByServer> {
        let (mut scanner, mut seen, mut rest) = (FrameScanner::default(), Vec::new(), bytes);
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let piece = (*cuts.next().unwrap_or(&usize::MAX)).clamp(1, rest.len());
            scanner
                .scan(&rest[..piece], |frame| seen.push((frame.opcode, frame.payload_len, frame.prefix.to_vec())))?;
            rest = &rest[piece..];
        }
        assert_eq!(scanner.seen, 0, "nothing stays behind a whole frame");
        Ok(seen)
    }

    fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::push_header(opcode, payload.len(), None, &mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn payload_len() -> impl Strategy<Value = usize> {
        prop_oneof![4 => 0_usize..40, 2 => 100_usize..300, 1 => 65_530_usize..65_545]
    }

    proptest! {
        #[test]
        fn frames_are_found_wherever_they_are_cut(
            lens in prop::collection::vec(payload_len(), 0..12),
            cuts in prop::collection::vec(prop_oneof![1_usize..6, 1_usize..200, 1_usize..70_000], 1..20),
            fill: u8,
        ) {
            let payload = |at: usize, len: usize| -> Vec<u8> { (0..len).map(|i| fill.wrapping_add((at + i) as u8)).collect() };
            let opcode = |at: usize| if at % 3 == 2 { PING } else { BINARY };
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (at, &len) in lens.iter().enumerate() {
                let payload = payload(at, len);
                bytes.extend(frame(opcode(at), &payload));
                expected.push((opcode(at), len as u64, payload[..len.min(PREFIX_LEN)].to_vec()));
            }
            prop_assert_eq!(scan_in_pieces(&bytes, &cuts).unwrap(), expected);
        }
    }

    #[test]
    fn every_single_cut_of_short_frames_is_survived() {
        let bytes: Vec<u8> =
            [0_usize, 1, 16, 17, 125, 126, 130].iter().flat_map(|&len| frame(BINARY, &vec![7; len])).collect();
        let whole = scan_in_pieces(&bytes, &[bytes.len()]).unwrap();
        assert_eq!(whole.len(), 7);
        for cut in 1..bytes.len() {
            assert_eq!(scan_in_pieces(&bytes, &[cut, bytes.len()]).unwrap(), whole, "cut at {cut}");
        }
        assert_eq!(scan_in_pieces(&bytes, &[1]).unwrap(), whole, "byte by byte");
    }

    #[test]
    fn a_masked_frame_of_a_server_is_an_error_in_every_cut() {
        let mut bytes = frame(BINARY, &[1; 20]);
        wire::push_header(BINARY, 20, Some(MASKING_KEY), &mut bytes);
        bytes.extend([0; 20]);
        for cut in 1..bytes.len() {
            assert_eq!(scan_in_pieces(&bytes, &[cut]), Err(MaskedByServer), "cut at {cut}");
        }
    }
}
