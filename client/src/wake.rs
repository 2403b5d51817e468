//! How callers' threads wake the driver, without a message and without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use tokio::sync::Notify;

/// Set by any number of wakings until the driver takes them as one.
#[derive(Debug, Default)]
pub(crate) struct WakeFlag {
    is_set: AtomicBool,
    notify: Notify,
}

impl WakeFlag {
    /// A waker that sets `flag`.
    pub(crate) fn waker(flag: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(flag))
    }

    /// Whether it was set since this was last asked.
    pub(crate) fn take(&self) -> bool {
        self.is_set.swap(false, Ordering::AcqRel)
    }

    /// Until it is set. May end once too often, never too rarely. Dropping the future loses nothing.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }
}

impl Wake for WakeFlag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever set it first has notified already.
        if !self.is_set.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn many_wakings_are_taken_as_one_and_the_next_counts_again() {
        let flag = Arc::new(WakeFlag::default());
        let waker = WakeFlag::waker(&flag);
        assert!(!flag.take());
        for _ in 0..2 {
            waker.wake_by_ref();
            waker.wake_by_ref();
            flag.wait().await;
            assert!(flag.take());
            assert!(!flag.take());
        }
    }
}
