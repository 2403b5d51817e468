//! Whether a consumer's reader still comes for more: what `max.poll.interval.ms` is judged by. The
//! reader's side reads no clock; the group's room sees that there was something, and when it looked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;

/// Shared by a reader and its consumer's rooms.
#[derive(Debug)]
pub struct Pulse {
    polls: AtomicU64,
    waiting: AtomicUsize,
    is_wanted: AtomicBool,
    driver: Waker,
}

/// The reader waits for something to read; dropped, it does no longer.
#[derive(Debug)]
pub struct Waiting {
    pulse: Arc<Pulse>,
}

impl Pulse {
    /// Of a reader that has not come yet; `driver` is woken when a group waits for it to come back.
    pub fn new(driver: Waker) -> Arc<Self> {
        Arc::new(Self {
            polls: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            is_wanted: AtomicBool::new(false),
            driver,
        })
    }

    /// The reader asked for more.
    pub fn beat(&self) {
        self.polls.fetch_add(1, Ordering::SeqCst);
        if self.is_wanted.swap(false, Ordering::SeqCst) {
            self.driver.wake_by_ref();
        }
    }

    /// The reader waits until there is more, for as long as what this returns lives.
    pub fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        Waiting {
            pulse: Arc::clone(self),
        }
    }

    /// How often it asked for more.
    pub(crate) fn polls(&self) -> u64 {
        self.polls.load(Ordering::SeqCst)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// The driver is to be woken when the reader comes next. To be said before it looks.
    pub(crate) fn set_wanted(&self) {
        self.is_wanted.store(true, Ordering::SeqCst);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pulse.beat();
        self.pulse.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
