//! How frames are read: prefixes, caps, buffers, and peers that stop in the middle.

use super::*;
use std::pin::Pin;
use std::task::{Context, Poll};
use tidewatch_protocol::frame::MAX_FETCH_FRAME_BYTES;
use tokio::io::ReadBuf;

/// Gives out what it holds in pieces of at most `step` bytes, then ends; notes where each went.
struct Pieces {
    held: Bytes,
    step: usize,
    went_to: Vec<usize>,
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.held.len().min(self.step).min(room.remaining());
        let address = room.filled().as_ptr() as usize + room.filled().len();
        self.went_to.push(address);
        room.put_slice(&self.held.split_to(size));
        Poll::Ready(Ok(()))
    }
}

fn frame(size: usize, fill: u8) -> Vec<u8> {
    let mut frame = u32::try_from(size).unwrap().to_be_bytes().to_vec();
    frame.resize(LENGTH_PREFIX_BYTES + size, fill);
    frame
}

fn receiver(sent: &[Vec<u8>], step: usize, cap: usize) -> Receiver<Pieces> {
    let held = Bytes::from(sent.concat());
    let stream = Pieces {
        held,
        step,
        went_to: Vec::new(),
    };
    Receiver::new(stream, cap)
}

#[tokio::test]
async fn frames_of_every_size_come_whole_however_they_are_cut() {
    let sizes = [
        4,
        5,
        100,
        SMALL_BYTES - 4,
        SMALL_BYTES - 3,
        40_000,
        7,
        300_000,
        12,
    ];
    let sent: Vec<_> = (1..)
        .zip(sizes)
        .map(|(fill, size)| frame(size, fill))
        .collect();
    for step in [1, 3, 4096, usize::MAX] {
        let mut frames = receiver(&sent, step, 1 << 20);
        for expected in &sent {
            let got = frames.next().await.unwrap();
            assert_eq!(got, expected[LENGTH_PREFIX_BYTES..], "step {step}");
        }
        assert!(matches!(frames.next().await, Err(ReceiveError::Closed)));
    }
}

#[tokio::test]
async fn line_38_a_frame_over_the_cap_is_refused_before_memory_is_taken_for_it() {
    let mut frames = receiver(&[frame(101, 1)], usize::MAX, 100);
    assert!(matches!(frames.next().await, Err(ReceiveError::Frame(_))));
    assert!(frames.received.capacity() <= 2 * SMALL_BYTES);
}

#[tokio::test]
async fn line_39_an_end_within_a_frame_is_told_from_one_between_frames() {
    for kept in [1, 3, 4, 90, 50_000] {
        let mut cut = frame(100_000, 1);
        cut.truncate(kept);
        let mut frames = receiver(&[frame(8, 2), cut], usize::MAX, 1 << 20);
        frames.next().await.unwrap();
        let end = frames.next().await;
        assert!(matches!(end, Err(ReceiveError::ClosedMidFrame)), "{kept}");
    }
}

#[tokio::test]
async fn a_large_frame_is_received_onto_a_page_boundary() {
    let mut frames = receiver(&[frame(1 << 20, 1)], 10_000, 2 << 20);
    frames.next().await.unwrap();
    // The first read is into the small buffer; the second is the large one's first.
    assert_eq!(frames.stream.went_to[1] % PAGE_BYTES, 0);
}

#[tokio::test]
async fn a_large_frame_keeps_nothing_pinned_once_it_is_dropped() {
    let mut frames = receiver(&[frame(1 << 20, 1), frame(9, 2)], usize::MAX, 2 << 20);
    let large = frames.next().await.unwrap();
    assert!(large.is_unique());
    let small = frames.next().await.unwrap();
    assert_eq!(small, [2; 9][..]);
    assert!(large.is_unique());
}

#[tokio::test]
async fn a_huge_announced_length_takes_memory_only_as_bytes_come() {
    let mut sent = frame(MAX_FETCH_FRAME_BYTES, 1);
    sent.truncate(TRUSTED_BYTES - 1);
    let mut frames = receiver(&[sent], 64 << 10, MAX_FETCH_FRAME_BYTES);
    assert!(matches!(
        frames.next().await,
        Err(ReceiveError::ClosedMidFrame)
    ));
    assert!(frames.received.capacity() <= TRUSTED_BYTES + PAGE_BYTES);
}

#[tokio::test]
async fn a_frame_beyond_the_trusted_size_still_comes_whole() {
    let sent = frame(3 * TRUSTED_BYTES, 7);
    let mut frames = receiver(std::slice::from_ref(&sent), 1 << 20, MAX_FETCH_FRAME_BYTES);
    let got = frames.next().await.unwrap();
    assert_eq!(got, sent[LENGTH_PREFIX_BYTES..]);
}

#[tokio::test]
async fn small_frames_use_the_same_memory_again() {
    let sent: Vec<_> = (0..200).map(|_| frame(1000, 1)).collect();
    let mut frames = receiver(&sent, 1004, 1 << 20);
    for _ in 0..200 {
        frames.next().await.unwrap();
    }
    let went_to = &frames.stream.went_to;
    let (low, high) = (went_to.iter().min().unwrap(), went_to.iter().max().unwrap());
    assert!(high - low <= 2 * SMALL_BYTES);
}
