//! What becomes of a record: one outcome per batch, shared by the records in it.

use crate::call::TopicPartition;
use crate::error::CallError;
use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use tidewatch_protocol::compression::CompressionError;
use tidewatch_protocol::error_code::ErrorCode;

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset; -1 where the broker does not say (`acks=0`, a batch that it had already).
    pub offset: i64,
    /// Milliseconds: the record's own, or the broker's where the topic keeps LogAppendTime.
    pub timestamp_ms: i64,
}

/// A record that was not delivered, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryError {
    /// Where it should have gone.
    pub partition: TopicPartition,
    /// Why it did not.
    pub cause: DeliveryCause,
    /// Some attempt may have succeeded unseen: sending the record again may double it.
    pub possibly_written: bool,
}

/// Why a record was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryCause {
    /// The broker refused its batch.
    #[error("{code}{}", said(.message))]
    Broker {
        /// Its reason. INVALID_TIMESTAMP: this host's clock and the broker's differ too much.
        code: ErrorCode,
        /// Its words about this record, or about the batch (KIP-467).
        message: Option<String>,
    },
    /// The request could not be made.
    #[error("{0}")]
    Call(CallError),
    /// `delivery.timeout.ms` passed.
    #[error("not delivered within {limit_ms} ms (delivery.timeout.ms): {why}")]
    TimedOut {
        /// The limit.
        limit_ms: u64,
        /// What stood in the way last.
        why: String,
    },
    /// The batch could not be compressed.
    #[error("its batch cannot be compressed: {0}")]
    Compression(CompressionError),
    /// No transaction is open that could commit it.
    #[error("its transaction is not committed: {why}")]
    Transaction {
        /// Why not.
        why: std::sync::Arc<str>,
    },
    /// The producer was closed before it was sent or acknowledged.
    #[error("the producer was closed")]
    Closed,
}

fn said(message: &Option<String>) -> String {
    message
        .as_ref()
        .map_or_else(String::new, |message| format!(" ({message})"))
}

impl DeliveryError {
    /// Whether sending the same record again can help; see also
    /// [`possibly_written`](Self::possibly_written).
    pub fn is_retriable(&self) -> bool {
        match &self.cause {
            DeliveryCause::Broker { code, .. } => code.meaning().retriable,
            DeliveryCause::Call(error) => error.kind.is_retriable(),
            DeliveryCause::TimedOut { .. } => true,
            DeliveryCause::Compression(_)
            | DeliveryCause::Transaction { .. }
            | DeliveryCause::Closed => false,
        }
    }

    /// The broker's error code, where one was its reason.
    pub fn code(&self) -> Option<ErrorCode> {
        match &self.cause {
            DeliveryCause::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// What an operator can do about it, where that is known.
    pub fn remedy(&self) -> Option<&'static str> {
        match self.code()? {
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
                Some("raise max.message.bytes of the topic, or send smaller records")
            }
            ErrorCode::INVALID_TIMESTAMP => Some(
                "set this host's clock right, or widen message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic",
            ),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => Some("grant this user Write on the topic"),
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED => Some(
                "grant this user IdempotentWrite on the cluster, or set enable.idempotence=false",
            ),
            ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
                Some("bring replicas back, or lower min.insync.replicas of the topic")
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "failed to deliver a record to {}: {}",
            self.partition, self.cause
        )?;
        if let Some(remedy) = self.remedy() {
            write!(f, "; {remedy}")?;
        }
        if self.possibly_written {
            f.write_str("; it may have been written all the same")?;
        }
        Ok(())
    }
}

impl std::error::Error for DeliveryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.cause {
            DeliveryCause::Call(error) => Some(error),
            DeliveryCause::Compression(error) => Some(error),
            _ => None,
        }
    }
}

/// The fate of one record, to be awaited or dropped; dropping it does not take the record back.
///
/// A program may hold one for each record on its way: it has 24 bytes at most.
#[derive(Debug)]
#[must_use = "a record may fail: await its delivery, or drop it on purpose"]
pub struct Delivery {
    outcome: Arc<Outcome>,
    index: i32,
    /// Behind how many wakers, itself among them, its own waits.
    slot: Option<NonZeroU32>,
    timestamp_ms: i64,
}

const _: () = assert!(size_of::<Delivery>() <= 24);

impl Delivery {
    /// The partition that the record was given to.
    pub fn partition(&self) -> i32 {
        self.outcome.partition
    }

    /// What became of the record, if that is known already.
    pub fn try_result(&self) -> Option<Result<RecordMetadata, DeliveryError>> {
        let state = self.outcome.lock();
        self.result_in(&state)
    }

    fn result_in(&self, state: &OutcomeState) -> Option<Result<RecordMetadata, DeliveryError>> {
        let piece = state
            .resolved
            .iter()
            .find(|piece| piece.holds(self.index))?;
        let partition = TopicPartition {
            topic: Arc::clone(&self.outcome.topic),
            partition: self.outcome.partition,
        };
        let index = self.index.saturating_sub(piece.first);
        Some(match &piece.result {
            Ok(written) => Ok(RecordMetadata {
                partition,
                offset: written.offset_of(index),
                timestamp_ms: written.log_append_time_ms.unwrap_or(self.timestamp_ms),
            }),
            Err(failure) => Err(DeliveryError {
                partition,
                cause: failure.of_record(index),
                possibly_written: failure.possibly_written,
            }),
        })
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, DeliveryError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Arc::clone(&self.outcome);
        let mut state = outcome.lock();
        if let Some(result) = self.result_in(&state) {
            return Poll::Ready(result);
        }
        let place = self.slot.map(|slot| slot.get() as usize - 1);
        match place.and_then(|place| state.waiting.get_mut(place)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => {
                state.waiting.push(cx.waker().clone());
                let count = u32::try_from(state.waiting.len()).ok();
                self.slot = count.and_then(NonZeroU32::new);
            }
        }
        Poll::Pending
    }
}

/// Where a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// -1 where it is not known.
    pub(crate) base_offset: i64,
    pub(crate) log_append_time_ms: Option<i64>,
}

impl Written {
    /// It is in the log, but nobody says where.
    pub(crate) const UNPLACED: Self = Self {
        base_offset: -1,
        log_append_time_ms: None,
    };

    fn offset_of(self, index: i32) -> i64 {
        if self.base_offset < 0 {
            return -1;
        }
        self.base_offset.saturating_add(i64::from(index))
    }
}

/// Why a batch failed, and what the broker said about single records in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) cause: DeliveryCause,
    pub(crate) possibly_written: bool,
    /// By index in the batch.
    pub(crate) record_messages: BTreeMap<i32, String>,
}

impl Failure {
    pub(crate) fn new(cause: DeliveryCause, possibly_written: bool) -> Self {
        Self {
            cause,
            possibly_written,
            record_messages: BTreeMap::new(),
        }
    }

    fn of_record(&self, index: i32) -> DeliveryCause {
        match (&self.cause, self.record_messages.get(&index)) {
            (DeliveryCause::Broker { code, .. }, Some(own)) => DeliveryCause::Broker {
                code: *code,
                message: Some(own.clone()),
            },
            (cause, _) => cause.clone(),
        }
    }
}

/// The shared outcome of a batch. A split batch is resolved piece by piece.
#[derive(Debug)]
pub(crate) struct Outcome {
    topic: Arc<str>,
    partition: i32,
    state: Mutex<OutcomeState>,
}

#[derive(Debug, Default)]
struct OutcomeState {
    resolved: Vec<Piece>,
    /// One per delivery that was polled, so at most one per record.
    waiting: Vec<Waker>,
}

#[derive(Debug)]
struct Piece {
    first: i32,
    count: i32,
    result: Result<Written, Arc<Failure>>,
}

impl Piece {
    fn holds(&self, index: i32) -> bool {
        index >= self.first && index.saturating_sub(self.first) < self.count
    }
}

impl Outcome {
    pub(crate) fn new(topic: Arc<str>, partition: i32) -> Arc<Self> {
        Arc::new(Self {
            topic,
            partition,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, OutcomeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resolve(&self, piece: Piece) {
        let waiting = {
            let mut state = self.lock();
            state.resolved.push(piece);
            // All are woken; those whose piece is still open ask again, in new slots.
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The duty to resolve a batch, or one piece of it. Dropped, it says that the producer was closed.
#[derive(Debug)]
pub(crate) struct Promise {
    outcome: Arc<Outcome>,
    first: i32,
    count: i32,
    kept: bool,
}

impl Promise {
    /// For a whole batch, however many records it comes to hold.
    pub(crate) fn new(outcome: Arc<Outcome>) -> Self {
        Self {
            outcome,
            first: 0,
            count: i32::MAX,
            kept: false,
        }
    }

    /// The delivery of the record at `index`.
    #[inline]
    pub(crate) fn delivery(&self, index: i32, timestamp_ms: i64) -> Delivery {
        Delivery {
            outcome: Arc::clone(&self.outcome),
            index,
            slot: None,
            timestamp_ms,
        }
    }

    /// One promise per piece, of so many records each.
    pub(crate) fn split(mut self, counts: impl IntoIterator<Item = i32>) -> Vec<Self> {
        self.kept = true;
        let mut first = self.first;
        let piece = |count: i32| {
            let piece = Self {
                outcome: Arc::clone(&self.outcome),
                first,
                count,
                kept: false,
            };
            first = first.saturating_add(count);
            piece
        };
        counts.into_iter().map(piece).collect()
    }

    pub(crate) fn written(self, written: Written) {
        self.keep(Ok(written));
    }

    pub(crate) fn failed(self, failure: Failure) {
        self.keep(Err(Arc::new(failure)));
    }

    fn keep(mut self, result: Result<Written, Arc<Failure>>) {
        self.kept = true;
        self.outcome.resolve(Piece {
            first: self.first,
            count: self.count,
            result,
        });
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Who drops a promise may have sent its batch before.
        let failure = Arc::new(Failure::new(DeliveryCause::Closed, true));
        self.outcome.resolve(Piece {
            first: self.first,
            count: self.count,
            result: Err(failure),
        });
    }
}
