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

/// Set when something shared with callers' threads wants the core's attention.
#[derive(Debug, Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A client and its flag.
#[derive(Debug)]
pub struct SimulatedClient {
    /// Which of the run's clients.
    pub number: usize,
    /// The core.
    pub core: Client,
    woken: Arc<Flag>,
}

impl SimulatedClient {
    /// A client that knows only the first node's address.
    pub fn new(number: usize, options: ClientOptions, seed: u64) -> Self {
        let woken = Arc::new(Flag::default());
        Self {
            number,
            core: Client::new(options, seed),
            woken,
        }
    }

    /// What accumulators and inboxes wake.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.woken))
    }

    /// Tells the core that it was woken, if it was. True if it was.
    pub fn take_wake(&mut self, now: Now) -> bool {
        let woken = self.woken.0.swap(false, Ordering::SeqCst);
        if woken {
            self.core.handle_wake(now);
        }
        woken
    }

    /// The core's next action.
    pub fn poll(&mut self, now: Now) -> Option<Action> {
        self.core.poll_action(now)
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
