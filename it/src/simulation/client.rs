//! One client of a run: its core, and a shell of a few lines that carries out what the core asks.

use crate::simulation::network::LinkId;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use tidewatch_client_core::Now;
use tidewatch_client_core::client::{Action, Client, ConnectionId};
use tidewatch_client_core::options::ClientOptions;
use tidewatch_protocol::frame::Frame;

/// A task's: set when it is woken.
#[derive(Debug, Default)]
pub struct Flag(AtomicBool);

impl Flag {
    /// Of a task that has not run yet.
    pub fn raised() -> Arc<Self> {
        let flag = Arc::<Self>::default();
        flag.raise();
        flag
    }

    /// It is to run.
    pub fn raise(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is to run, now that it does.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }

    /// Raises it.
    pub fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.raise();
    }
}

/// A client and its flag. As a shell does, it looks at the core when something has happened to it, and
/// not otherwise.
#[derive(Debug)]
pub struct SimulatedClient {
    /// Which of the run's clients.
    pub number: usize,
    core: Client,
    woken: Arc<Flag>,
    /// Something happened to the core since it was polled to its end.
    is_stale: bool,
    /// As of then.
    timeout_us: Option<u64>,
    /// Its process is gone.
    is_gone: bool,
}

impl SimulatedClient {
    /// A client that knows only the nodes' addresses.
    pub fn new(number: usize, options: ClientOptions, seed: u64) -> Self {
        Self {
            number,
            core: Client::new(options, seed),
            woken: Arc::default(),
            is_stale: true,
            timeout_us: None,
            is_gone: false,
        }
    }

    /// The core, to have something done to it.
    pub fn core(&mut self) -> &mut Client {
        self.is_stale = true;
        &mut self.core
    }

    /// Its process is killed: it does nothing any more.
    pub fn kill(&mut self) {
        self.is_gone = true;
        self.timeout_us = None;
    }

    /// What accumulators and inboxes wake.
    pub fn waker(&self) -> Waker {
        self.woken.waker()
    }

    /// Tells the core that it was woken, if it was. True if it was.
    pub fn take_wake(&mut self, now: Now) -> bool {
        let woken = self.woken.take();
        if woken {
            self.core().handle_wake(now);
        }
        woken
    }

    /// The core's next action.
    pub fn poll(&mut self, now: Now) -> Option<Action> {
        if !self.is_stale || self.is_gone {
            return None;
        }
        let action = self.core.poll_action(now);
        if action.is_none() {
            self.is_stale = false;
            self.timeout_us = self.core.poll_timeout().map(|(at_us, _)| at_us);
        }
        action
    }

    /// When the core wants to be looked at, though nothing happens.
    pub fn timeout_us(&self) -> Option<u64> {
        self.timeout_us
    }

    /// Its link's name in the network.
    pub fn link(&self, connection: ConnectionId) -> LinkId {
        LinkId {
            client: self.number,
            connection,
        }
    }
}

/// What a frame's receiver sees: everything behind the length prefix, in one piece.
pub fn body_of(frame: &Frame) -> Bytes {
    let mut whole = BytesMut::with_capacity(frame.size_bytes());
    whole.extend_from_slice(&frame.head);
    for part in &frame.parts {
        whole.extend_from_slice(part);
    }
    whole.freeze().slice(4..)
}
