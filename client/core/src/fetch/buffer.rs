//! How many bytes of responses are alive: a response counts until the last slice of it is gone, in
//! whoever's hands that is.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

/// The bytes of a consumer's live responses, and the driver that may wait for them to go.
#[derive(Debug)]
pub(crate) struct Buffer {
    live_bytes: AtomicUsize,
    driver_waits: AtomicBool,
    driver: Waker,
}

/// A response in memory.
#[derive(Debug)]
pub(crate) struct LiveFrame {
    buffer: Arc<Buffer>,
    size_bytes: usize,
}

/// A slice of a response that keeps its count.
struct Counted {
    bytes: Bytes,
    _frame: Arc<LiveFrame>,
}

impl Buffer {
    pub(crate) fn new(driver: Waker) -> Arc<Self> {
        Arc::new(Self {
            live_bytes: AtomicUsize::new(0),
            driver_waits: AtomicBool::new(false),
            driver,
        })
    }

    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes.load(Ordering::SeqCst)
    }

    /// The driver is to be woken when there is less to read. To be said before it looks, so that no
    /// change falls between the look and the wait.
    pub(crate) fn set_driver_waits(&self, waits: bool) {
        self.driver_waits.store(waits, Ordering::SeqCst);
    }

    /// There is less to read than before, or (`must_wake`) something to report.
    pub(crate) fn handle_change(&self, must_wake: bool) {
        if self.driver_waits.swap(false, Ordering::SeqCst) || must_wake {
            self.driver.wake_by_ref();
        }
    }

    pub(crate) fn hold(self: &Arc<Self>, size_bytes: usize) -> Arc<LiveFrame> {
        self.live_bytes.fetch_add(size_bytes, Ordering::SeqCst);
        Arc::new(LiveFrame {
            buffer: Arc::clone(self),
            size_bytes,
        })
    }
}

impl LiveFrame {
    /// The same bytes, counted with their response for as long as they or a slice of them live.
    pub(crate) fn count(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Counted {
            bytes,
            _frame: Arc::clone(self),
        })
    }
}

impl Drop for LiveFrame {
    fn drop(&mut self) {
        self.buffer
            .live_bytes
            .fetch_sub(self.size_bytes, Ordering::SeqCst);
        self.buffer.handle_change(false);
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
