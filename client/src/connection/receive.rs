//! Cuts what a peer sends into frames, each in one piece of memory.

use bytes::buf::BufMut;
use bytes::{Buf, Bytes, BytesMut};
use std::io;
use tidewatch_protocol::frame::{FrameError, LENGTH_PREFIX_BYTES, frame_length, split_frame};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Frames up to this size are cut from one buffer that is used again; larger ones get their own.
const SMALL_BYTES: usize = 16 << 10;
/// Less room than this is not worth a system call.
const MIN_READ_BYTES: usize = 2 << 10;
/// A length up to this is believed at once; beyond it, memory grows as bytes come.
const TRUSTED_BYTES: usize = 8 << 20;
/// Receiving into memory that begins on a page boundary takes a third of the time: allocators
/// return page + 16 for large pieces, where copying out of the kernel's pages is slowest.
const PAGE_BYTES: usize = 4096;

/// Why there are no more frames.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer closed the connection in the middle of a frame")]
    ClosedMidFrame,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("failed to read: {0}")]
    Read(#[from] io::Error),
}

impl ReceiveError {
    /// The stream's own error, where it was one.
    pub(crate) fn read_error(&self) -> Option<&io::Error> {
        match self {
            Self::Read(error) => Some(error),
            Self::Closed | Self::ClosedMidFrame | Self::Frame(_) => None,
        }
    }
}

/// Reads frames from a stream.
#[derive(Debug)]
pub(crate) struct Receiver<R> {
    stream: R,
    cap: usize,
    received: BytesMut,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    /// Frames of at most `cap` bytes from `stream`.
    pub(crate) fn new(stream: R, cap: usize) -> Self {
        Self {
            stream,
            cap,
            received: BytesMut::new(),
        }
    }

    /// The next frame, without its length prefix. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Bytes, ReceiveError> {
        loop {
            let Some(size) = frame_length(&self.received, self.cap)? else {
                self.make_small_room();
                self.read(usize::MAX).await?;
                continue;
            };
            let whole = LENGTH_PREFIX_BYTES + size;
            if whole > SMALL_BYTES && self.received.len() <= whole {
                return self.receive_large(whole).await;
            }
            if let Some(frame) = split_frame(&mut self.received, self.cap)? {
                return Ok(frame);
            }
            self.make_small_room();
            self.read(usize::MAX).await?;
        }
    }

    /// The rest of a frame that does not share its memory with others, so that nothing pins it but
    /// its own users.
    async fn receive_large(&mut self, whole: usize) -> Result<Bytes, ReceiveError> {
        while self.received.len() < whole {
            let (held, capacity) = (self.received.len(), self.received.capacity());
            if capacity < whole.min(TRUSTED_BYTES) || capacity == held {
                let grown = whole.min(TRUSTED_BYTES.max(held * 2));
                self.received = page_aligned(&self.received, grown);
            }
            self.read(whole - held).await?;
        }
        let mut frame = std::mem::take(&mut self.received);
        frame.advance(LENGTH_PREFIX_BYTES);
        Ok(frame.freeze())
    }

    fn make_small_room(&mut self) {
        let held = self.received.len();
        if self.received.capacity() - held < MIN_READ_BYTES {
            // Takes the same memory again when no frame cut from it is alive.
            self.received
                .reserve(SMALL_BYTES.saturating_sub(held).max(MIN_READ_BYTES));
        }
    }

    async fn read(&mut self, limit: usize) -> Result<(), ReceiveError> {
        let mut room = (&mut self.received).limit(limit);
        if self.stream.read_buf(&mut room).await? > 0 {
            return Ok(());
        }
        Err(if self.received.is_empty() {
            ReceiveError::Closed
        } else {
            ReceiveError::ClosedMidFrame
        })
    }
}

/// `head` in a new buffer for `capacity` bytes, whose next byte lies on a page boundary.
fn page_aligned(head: &[u8], capacity: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(capacity + PAGE_BYTES);
    let next = buffer.as_ptr().wrapping_add(head.len());
    let shift = next.align_offset(PAGE_BYTES).min(PAGE_BYTES);
    buffer.put_bytes(0, shift);
    buffer.advance(shift);
    buffer.extend_from_slice(head);
    buffer
}

#[cfg(test)]
mod tests;
