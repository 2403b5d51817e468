//! A consumer's events and records as streams.

use super::Consumer;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tidewatch_client_core::call::TopicPartition;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::fetch::inbox::Event;
use tidewatch_client_core::fetch::records::Fetched;
use tidewatch_client_core::pulse::Waiting;
use tidewatch_protocol::records::Record;

/// A consumer's events as a stream: see [`Consumer::events`].
#[derive(Debug)]
pub struct Events<'a> {
    consumer: &'a Consumer,
    /// However long it waits for an event, the reader is not late.
    waiting: Option<Waiting>,
}

/// A consumer's records as a stream: see [`Consumer::records`].
#[derive(Debug)]
pub struct Records<'a> {
    events: Events<'a>,
    open: Option<Fetched>,
}

/// A record and where it is from. It is a copy: keeping it keeps nothing else in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Where it is from.
    pub partition: TopicPartition,
    /// The record.
    pub record: Record,
}

impl<'a> Events<'a> {
    /// Takes the consumer mutably, because only one may wait for its events.
    pub(super) fn new(consumer: &'a mut Consumer) -> Self {
        let waiting = None;
        Self { consumer, waiting }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let inbox = &self.consumer.inbox;
        let Poll::Ready(event) = inbox.poll_event(context) else {
            self.waiting.get_or_insert_with(|| inbox.pulse().wait());
            return Poll::Pending;
        };
        self.waiting = None;
        Poll::Ready(match event {
            Err(Error::Closed { .. }) => None,
            event => Some(event),
        })
    }
}

impl Stream for Events<'_> {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}

impl<'a> Records<'a> {
    pub(super) fn new(consumer: &'a mut Consumer) -> Self {
        Self {
            events: Events::new(consumer),
            open: None,
        }
    }

    /// The next record; `None` once the client is closed.
    ///
    /// # Errors
    /// As [`Consumer::next`]; a batch that cannot be read.
    pub async fn next(&mut self) -> Option<Result<ConsumerRecord, Error>> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<ConsumerRecord, Error>>> {
        loop {
            if let Some(fetched) = &mut self.open
                && let Some(found) = fetched.next()
            {
                let partition = fetched.topic_partition().clone();
                let found = found.map(|record| ConsumerRecord { partition, record });
                return Poll::Ready(Some(found));
            }
            self.open = None;
            match ready!(self.events.poll(context)) {
                Some(Ok(Event::Records(fetched))) => self.open = Some(fetched),
                // Partitions that the group takes are given up at once.
                Some(Ok(Event::CaughtUp(_) | Event::Rebalance(_))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Records<'_> {
    type Item = Result<ConsumerRecord, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context)
    }
}
