//! Filling requests: per leader, everything that is due, full batches first.

use super::partition::Next;
use super::queue::Taken;
use super::response::Named;
use super::transacting::{Transacting, permitted};
use super::{InCall, ProducerRoom};
use crate::call::{Body, BrokerId, Call, Destination, Lane, Permits};
use crate::time::Now;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidewatch_protocol::message::{ProduceFrame, ProduceTopic};
use uuid::Uuid;

/// The last version that names topics instead of giving their ids.
const LAST_WITH_NAMES: i16 = 12;

/// A request that is being filled.
#[derive(Debug)]
struct Filling {
    call: u64,
    room_bytes: usize,
    topics: BTreeMap<Arc<str>, ProduceTopic>,
    batches: Vec<Named>,
}

impl ProducerRoom {
    /// The next Produce call to a leader that can take one.
    pub(super) fn poll_produce(&mut self, now: Now, permits: &Permits) -> Option<Call> {
        let ready = |broker: &BrokerId| permits.may_send(*broker, Lane::Produce);
        let leaders: Vec<BrokerId> = self.due.keys().copied().filter(ready).collect();
        leaders
            .into_iter()
            .find_map(|broker| self.fill(now, broker))
    }

    fn fill(&mut self, now: Now, broker: BrokerId) -> Option<Call> {
        let under_way = self.in_flight.get(&broker).copied().unwrap_or(0);
        if under_way >= self.options.max_in_flight.max(1) {
            return None;
        }
        let numbers = self.plan_order(now, broker);
        if numbers.is_empty() {
            return None;
        }
        let id = self.next_call_id();
        let mut filling = Filling {
            call: id.number,
            room_bytes: self.options.max_request_size,
            topics: BTreeMap::new(),
            batches: Vec::new(),
        };
        for number in numbers {
            if filling.room_bytes == 0 {
                break;
            }
            self.add(now, number, &mut filling);
            self.touch(now, number);
        }
        let last = filling.batches.last()?.number;
        self.filled_to.insert(broker, last);
        *self.in_flight.entry(broker).or_default() += 1;
        let unnamed = filling.topics.values().any(|topic| topic.id.is_nil());
        let timeout_ms = i32::try_from(self.options.request_timeout_ms).unwrap_or(i32::MAX);
        let frame = ProduceFrame {
            transactional_id: self.transaction.as_ref().map(Transacting::id),
            acks: self.options.acks,
            timeout_ms,
            topics: filling.topics.into_values().collect(),
        };
        self.calls.insert(
            id.number,
            InCall {
                broker,
                batches: filling.batches,
            },
        );
        let body = Body::Produce(frame);
        let call = self.call(now, id, Destination::Broker(broker), Lane::Produce, body);
        let capped = self.transaction.as_ref().and_then(Transacting::cap);
        Some(Call {
            version_cap: capped.or(unnamed.then_some(LAST_WITH_NAMES)),
            ..call
        })
    }

    /// The partitions due at a leader: those with full batches first, in turn from one request to
    /// the next, so that none is left out for ever where not all fit.
    fn plan_order(&mut self, now: Now, broker: BrokerId) -> Vec<u32> {
        let terms = self.terms(now);
        let last = self.filled_to.get(&broker).copied();
        let Some(due) = self.due.get(&broker) else {
            return Vec::new();
        };
        let behind = last.map_or(0, |last| last.saturating_add(1));
        let turn = due.range(behind..).chain(due.range(..behind));
        let (mut full, mut open) = (Vec::new(), Vec::new());
        for number in turn.copied() {
            let part = self.parts.get(&number);
            let next = part.map_or(Next::Nothing, |part| {
                part.plan_next(
                    &terms,
                    permitted(&self.identity, &self.transaction, &part.name),
                )
            });
            match next {
                Next::Fresh { full: false } => open.push(number),
                Next::Fresh { full: true } | Next::Resend => full.push(number),
                // Time has moved on since it was touched; it is touched again when it is tried.
                Next::Nothing => open.push(number),
            }
        }
        full.append(&mut open);
        full
    }

    /// Adds what a partition would send, if the request has room for it.
    fn add(&mut self, now: Now, number: u32, filling: &mut Filling) {
        let terms = self.terms(now);
        let Some(part) = self.parts.get_mut(&number) else {
            return;
        };
        let known = permitted(&self.identity, &self.transaction, &part.name);
        // A batch alone may be larger than a request should be: then the broker decides.
        let empty = filling.batches.is_empty();
        let limit_bytes = if empty {
            usize::MAX
        } else {
            filling.room_bytes
        };
        let pieces = match part.plan_next(&terms, known) {
            Next::Nothing => None,
            Next::Resend if part.resend_bytes() > limit_bytes => None,
            Next::Resend => part.resend(filling.call, &terms),
            Next::Fresh { .. } => match part.queue.take(limit_bytes, self.options.codec()) {
                Some(Taken::Batch(batch)) => part.send(filling.call, batch, &terms),
                Some(Taken::Nothing) | None => None,
            },
        };
        let Some(pieces) = pieces else {
            return;
        };
        let topic_id = part.topic_id;
        filling.add(
            Named {
                number,
                name: part.name.clone(),
                topic_id,
            },
            pieces,
        );
    }
}

impl Filling {
    fn add(&mut self, named: Named, pieces: [Bytes; 2]) {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        self.room_bytes = self.room_bytes.saturating_sub(bytes);
        let name = &named.name;
        let topic = self
            .topics
            .entry(Arc::clone(&name.topic))
            .or_insert_with(|| ProduceTopic {
                name: name.topic.to_string(),
                id: named.topic_id.unwrap_or(Uuid::nil()),
                partitions: Vec::new(),
            });
        topic.partitions.push((name.partition, Vec::from(pieces)));
        self.batches.push(named);
    }
}
