//! `buffer.memory`: how much batches hold, used buffers for the next ones, and who waits for room.

use super::delivery::DeliveryCause;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What a batch is charged for: its buffer while it is open, its bytes once compressed. Touched once
/// per batch, never per record.
#[derive(Debug)]
pub(crate) struct Memory {
    limit_bytes: usize,
    /// The size of the buffers that are kept for reuse: `batch.size`.
    buffer_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used_bytes: usize,
    /// Each of `buffer_bytes`; together with `used_bytes` within the limit.
    spare: Vec<Vec<u8>>,
    /// Senders in the order they came. One entry per waiting call of a user.
    waiting: VecDeque<(Ticket, Waker)>,
    next_ticket: u64,
    next_batch: u64,
    unresolved: BTreeSet<u64>,
    /// Why the first batch failed that did since this was last asked for.
    failure: Option<DeliveryCause>,
}

/// A waiting sender's place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// What a new batch gets.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) buffer: Vec<u8>,
    pub(crate) charge: Charge,
    pub(crate) unresolved: Arc<Unresolved>,
}

impl Memory {
    pub(crate) fn new(limit_bytes: usize, buffer_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            buffer_bytes,
            state: Mutex::default(),
        })
    }

    /// Room for a batch of `size_bytes`; `None` when there is none, or when others came first.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        size_bytes: usize,
        ticket: Option<Ticket>,
    ) -> Option<Reserved> {
        let mut state = self.lock();
        let first = state.waiting.front().map(|(first, _)| *first);
        if first.is_some() && first != ticket {
            return None;
        }
        let used_bytes = state.used_bytes.checked_add(size_bytes)?;
        if used_bytes > self.limit_bytes {
            return None;
        }
        state.used_bytes = used_bytes;
        let spare = if size_bytes == self.buffer_bytes {
            state.spare.pop()
        } else {
            None
        };
        state.trim_spare(self);
        let number = state.next_batch;
        state.next_batch = number.saturating_add(1);
        state.unresolved.insert(number);
        drop(state);
        let charge = Charge {
            memory: Arc::clone(self),
            bytes: size_bytes,
        };
        let unresolved = Arc::new(Unresolved {
            memory: Arc::clone(self),
            number,
        });
        let buffer = spare.unwrap_or_else(|| Vec::with_capacity(size_bytes));
        Some(Reserved {
            buffer,
            charge,
            unresolved,
        })
    }

    /// Keeps a buffer of a batch that is done for the next one.
    pub(crate) fn recycle(&self, buffer: Vec<u8>) {
        if buffer.capacity() != self.buffer_bytes {
            return;
        }
        let mut state = self.lock();
        state.spare.push(buffer);
        state.trim_spare(self);
    }

    /// Bytes that batches hold now.
    pub(crate) fn used_bytes(&self) -> usize {
        self.lock().used_bytes
    }

    pub(crate) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    pub(crate) fn new_ticket(&self) -> Ticket {
        let mut state = self.lock();
        let ticket = Ticket(state.next_ticket);
        state.next_ticket = ticket.0.saturating_add(1);
        ticket
    }

    /// Puts a sender at the end of the queue, or renews its waker where it stands.
    pub(crate) fn wait(&self, ticket: Ticket, waker: &Waker) {
        let mut state = self.lock();
        match state.waiting.iter_mut().find(|(other, _)| *other == ticket) {
            Some((_, old)) => old.clone_from(waker),
            None => state.waiting.push_back((ticket, waker.clone())),
        }
    }

    /// Takes a sender out of the queue, served or not; the next one may try.
    pub(crate) fn leave(&self, ticket: Ticket) {
        let mut state = self.lock();
        let first = state
            .waiting
            .front()
            .is_some_and(|(first, _)| *first == ticket);
        state.waiting.retain(|(other, _)| *other != ticket);
        let next = if first { state.first_waiting() } else { None };
        drop(state);
        next.into_iter().for_each(Waker::wake);
    }

    /// Whether somebody waits for room: then open batches must go out.
    pub(crate) fn is_exhausted(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Wakes every waiting sender, for a closed accumulator.
    pub(crate) fn wake_all(&self) {
        let waiting = std::mem::take(&mut self.lock().waiting);
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// The number that the next batch will have.
    pub(crate) fn next_batch(&self) -> u64 {
        self.lock().next_batch
    }

    /// The oldest batch whose records' fate is not known.
    pub(crate) fn oldest_unresolved(&self) -> Option<u64> {
        self.lock().unresolved.first().copied()
    }

    /// A batch failed.
    pub(crate) fn note_failure(&self, cause: &DeliveryCause) {
        self.lock().failure.get_or_insert_with(|| cause.clone());
    }

    /// Why a batch failed, if one did since this was last asked for.
    pub(crate) fn take_failure(&self) -> Option<DeliveryCause> {
        self.lock().failure.take()
    }

    fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut state = self.lock();
        state.used_bytes = state.used_bytes.saturating_sub(bytes);
        let next = state.first_waiting();
        drop(state);
        next.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn first_waiting(&self) -> Option<Waker> {
        self.waiting.front().map(|(_, waker)| waker.clone())
    }

    fn trim_spare(&mut self, memory: &Memory) {
        let room = memory.limit_bytes.saturating_sub(self.used_bytes);
        let keep = room.checked_div(memory.buffer_bytes).unwrap_or(0);
        self.spare.truncate(keep);
    }
}

/// Bytes that a batch holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Charge {
    /// The batch has become smaller. It never becomes larger than it was charged for.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let freed = self.bytes.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(freed);
        self.memory.release(freed);
    }

    /// Gives each piece of a split batch its share; what they take beyond the whole is not charged.
    pub(crate) fn split(mut self, sizes: impl IntoIterator<Item = usize>) -> Vec<Self> {
        let mut take = |bytes: usize| {
            let bytes = bytes.min(self.bytes);
            self.bytes -= bytes;
            Self {
                memory: Arc::clone(&self.memory),
                bytes,
            }
        };
        sizes.into_iter().map(&mut take).collect()
    }

    pub(crate) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.release(self.bytes);
    }
}

/// A batch that some record's fate still hangs on; its pieces share it. Batches count up in the
/// order they were opened, which is what a flush waits by.
#[derive(Debug)]
pub(crate) struct Unresolved {
    memory: Arc<Memory>,
    pub(crate) number: u64,
}

impl Drop for Unresolved {
    fn drop(&mut self) {
        self.memory.lock().unresolved.remove(&self.number);
    }
}
