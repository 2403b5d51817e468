//! Frames on their way out: gathered into vectored writes, never copied.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;
use tidewatch_protocol::frame::Frame;

/// Frames that are being written, as one sequence of pieces.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pieces: VecDeque<Bytes>,
    /// Bytes left of each frame, the oldest first.
    frames: VecDeque<usize>,
    /// Frames written whole and not yet reported.
    written: usize,
}

impl Outgoing {
    /// Puts a frame behind the others.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.frames.push_back(frame.size_bytes());
        let pieces = std::iter::once(frame.head).chain(frame.parts);
        self.pieces.extend(pieces.filter(|piece| !piece.is_empty()));
    }

    /// How many frames were written since this was last asked.
    pub(crate) fn take_written(&mut self) -> usize {
        std::mem::take(&mut self.written)
    }
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.frames.iter().sum()
    }

    fn has_remaining(&self) -> bool {
        !self.pieces.is_empty()
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.pieces);
        filled
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        while let Some(piece) = self.pieces.front_mut() {
            let taken = left.min(piece.len());
            piece.advance(taken);
            left -= taken;
            if !piece.is_empty() {
                break;
            }
            self.pieces.pop_front();
        }
        let mut left = count;
        while let Some(frame) = self.frames.front_mut() {
            let taken = left.min(*frame);
            *frame -= taken;
            left -= taken;
            if *frame > 0 {
                break;
            }
            self.frames.pop_front();
            self.written += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(head: &'static [u8], parts: &[&'static [u8]]) -> Frame {
        Frame {
            head: Bytes::from_static(head),
            parts: parts.iter().map(|part| Bytes::from_static(part)).collect(),
        }
    }

    fn three_frames() -> Outgoing {
        let mut outgoing = Outgoing::default();
        outgoing.push(frame(b"head", &[b"first", b"", b"second"]));
        outgoing.push(frame(b"x", &[]));
        outgoing.push(frame(b"", &[b"tail"]));
        outgoing
    }

    #[test]
    fn pieces_go_out_in_one_vector_without_being_copied() {
        let part = Bytes::from_static(b"records");
        let mut outgoing = three_frames();
        outgoing.push(Frame {
            head: Bytes::from_static(b"h"),
            parts: vec![part.clone()],
        });
        let mut slices = [IoSlice::new(&[]); 16];
        let count = outgoing.chunks_vectored(&mut slices);
        let vector: Vec<&[u8]> = slices[..count].iter().map(|slice| &**slice).collect();
        assert_eq!(
            vector[..6],
            [&b"head"[..], b"first", b"second", b"x", b"tail", b"h"]
        );
        assert_eq!(vector[6].as_ptr(), part.as_ptr());
    }

    #[test]
    fn frames_count_as_written_with_their_last_byte_however_writes_are_cut() {
        let whole = three_frames().remaining();
        assert_eq!(whole, 4 + 5 + 6 + 1 + 4);
        for step in 1..=whole {
            let mut outgoing = three_frames();
            let (mut sent, mut written) = (0, 0);
            while outgoing.has_remaining() {
                let count = step.min(outgoing.remaining());
                outgoing.advance(count);
                sent += count;
                written += outgoing.take_written();
                let due = [15, 16, 20].iter().filter(|end| **end <= sent).count();
                assert_eq!(written, due, "after {sent} bytes by {step}");
            }
            assert_eq!(outgoing.remaining(), 0);
            assert_eq!(written, 3);
        }
    }
}
