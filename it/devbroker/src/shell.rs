//! The one cluster, shared by the tasks of this thread: each hands in what happened to it and
//! passes on what comes out.

use crate::clock;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tidewatch_broker::{Cluster, ConnectionId, NodeId, Now, Output};
use tokio::sync::{Notify, mpsc};

/// A connection has one request in service at a time, so one answer, or a close, or both.
const MAX_PENDING_OUTPUTS: usize = 2;

struct Inner {
    cluster: Cluster,
    outboxes: BTreeMap<ConnectionId, mpsc::Sender<Output>>,
}

/// No borrow of it lives across an await.
pub(crate) struct Shell {
    inner: RefCell<Inner>,
    deadline_changed: Notify,
}

impl Shell {
    pub(crate) fn new(cluster: Cluster) -> Self {
        let inner = Inner {
            cluster,
            outboxes: BTreeMap::new(),
        };
        Self {
            inner: RefCell::new(inner),
            deadline_changed: Notify::new(),
        }
    }

    /// A client connected; what is to be done for it comes out of the receiver.
    pub(crate) fn connect(&self, node: NodeId) -> Option<(ConnectionId, mpsc::Receiver<Output>)> {
        let inner = &mut *self.inner.borrow_mut();
        let id = inner.cluster.handle_connected(node)?;
        let (outbox, outputs) = mpsc::channel(MAX_PENDING_OUTPUTS);
        inner.outboxes.insert(id, outbox);
        Some((id, outputs))
    }

    pub(crate) fn disconnect(&self, id: ConnectionId) {
        let inner = &mut *self.inner.borrow_mut();
        inner.cluster.handle_disconnected(id);
        inner.outboxes.remove(&id);
    }

    pub(crate) fn handle_frame(&self, id: ConnectionId, frame: Bytes) {
        self.change(|cluster, now| cluster.handle_frame(now, id, frame));
    }

    pub(crate) fn is_busy(&self, id: ConnectionId) -> bool {
        self.inner.borrow().cluster.is_busy(id)
    }

    fn change(&self, act: impl FnOnce(&mut Cluster, Now)) {
        let inner = &mut *self.inner.borrow_mut();
        let before = inner.cluster.poll_timeout();
        act(&mut inner.cluster, clock::now());
        while let Some(output) = inner.cluster.poll_output() {
            let (Output::Send(id, _) | Output::Close(id, _)) = &output;
            if let Some(outbox) = inner.outboxes.get(id)
                && outbox.try_send(output).is_err()
            {
                tracing::error!("an answer had no room; this is a bug");
            }
        }
        if inner.cluster.poll_timeout() != before {
            self.deadline_changed.notify_one();
        }
    }

    /// Tells the cluster when time has passed.
    pub(crate) async fn keep_time(self: Rc<Self>) {
        loop {
            let deadline = self.inner.borrow().cluster.poll_timeout();
            let Some(deadline) = deadline else {
                self.deadline_changed.notified().await;
                continue;
            };
            let wait_us = deadline
                .monotonic_us
                .saturating_sub(clock::now().monotonic_us);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_micros(wait_us)) => {
                    self.change(|cluster, now| cluster.handle_timeout(now));
                }
                () = self.deadline_changed.notified() => {}
            }
        }
    }
}
