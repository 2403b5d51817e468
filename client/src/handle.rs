//! What every public handle holds: the way to the driver. The last one dropped ends the driver.

use crate::clock::Clock;
use std::sync::Arc;
use std::task::Waker;
use tidewatch_client_core::Now;
use tidewatch_client_core::call::Outcome;
use tidewatch_client_core::client::{Client as Core, Command};
use tidewatch_client_core::error::Error;
use tidewatch_client_core::fetch::inbox::Inbox;
use tidewatch_client_core::options::{ConsumerOptions, Options, ProducerOptions};
use tidewatch_client_core::producer::accumulator::Accumulator;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Requests of users that may be under way at once; the next one waits until one has ended.
pub(crate) const MAX_PENDING_REQUESTS: usize = 1024;

/// Opens a room in the core and returns its number. A function and not a value, so that a program which
/// opens no consumer and no transactions has nothing of them linked into it.
pub(crate) type Open = Box<dyn FnOnce(&mut Core, Now) -> u32 + Send>;

/// What handles send to the driver. The channel is not bounded itself: requests are, by
/// [`MAX_PENDING_REQUESTS`], and there are no more closings than openings,
/// nor more commands that nobody waits for than transactions begun.
pub(crate) enum Message {
    Request {
        command: Command,
        ended: Ended,
    },
    /// A command whose end nobody waits for.
    Told(Command),
    Open {
        open: Open,
        close: fn(u32) -> Message,
        opened: oneshot::Sender<u32>,
    },
    CloseProducer(u32),
    CloseConsumer(u32),
}

/// Where a request's end is told. It holds one of [`MAX_PENDING_REQUESTS`] until then, even if the
/// user has stopped waiting: the core still works on it.
pub(crate) struct Ended {
    user: oneshot::Sender<Result<Outcome, Error>>,
    _permit: OwnedSemaphorePermit,
}

impl Ended {
    /// Tells it, if there is still someone to tell.
    pub(crate) fn tell(self, result: Result<Outcome, Error>) {
        let _ = self.user.send(result);
    }
}

/// The way to the driver; cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    messages: mpsc::UnboundedSender<Message>,
    pending: Arc<Semaphore>,
    waker: Waker,
    clock: Clock,
    options: Options,
}

impl Handle {
    /// The way to the driver that reads the other end of `messages`.
    pub(crate) fn new(
        messages: mpsc::UnboundedSender<Message>,
        waker: Waker,
        clock: Clock,
        options: Options,
    ) -> Self {
        let pending = Arc::new(Semaphore::new(MAX_PENDING_REQUESTS));
        let shared = Shared {
            messages,
            pending,
            waker,
            clock,
            options,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// What the client was built with: the options that its producers and consumers start from.
    pub(crate) fn options(&self) -> &Options {
        &self.shared.options
    }

    /// How many more requests may be under way.
    #[cfg(test)]
    pub(crate) fn free_requests(&self) -> usize {
        self.shared.pending.available_permits()
    }

    /// The driver's clock, to be read where need be.
    pub(crate) fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// The time by the driver's clock.
    pub(crate) fn now(&self) -> Now {
        self.shared.clock.now()
    }

    /// Wakes the driver; for accumulators and inboxes.
    pub(crate) fn waker(&self) -> Waker {
        self.shared.waker.clone()
    }

    /// Has `command` carried out; `doing` names it in the error when the client is closed. Dropping
    /// the future does not take the command back.
    pub(crate) async fn request(&self, doing: &str, command: Command) -> Result<Outcome, Error> {
        let closed = || Error::Closed {
            doing: doing.to_owned(),
        };
        let permit = Arc::clone(&self.shared.pending).acquire_owned().await;
        let permit = permit.map_err(|_| closed())?;
        let (user, end) = oneshot::channel();
        let ended = Ended {
            user,
            _permit: permit,
        };
        let message = Message::Request { command, ended };
        self.send(message).ok_or_else(closed)?;
        end.await.map_err(|_| closed())?
    }

    /// Has `command` carried out without waiting; for what is dropped.
    pub(crate) fn tell(&self, command: Command) {
        // A driver that is gone carries nothing out any more.
        let _ = self.send(Message::Told(command));
    }

    /// Opens a producer's room around `accumulator` and returns its number.
    pub(crate) async fn open_producer(
        &self,
        options: ProducerOptions,
        accumulator: Arc<Accumulator>,
    ) -> Result<u32, Error> {
        let open: Open = Box::new(|core, now| core.open_producer(now, options, accumulator));
        self.open("open a producer", open, Message::CloseProducer)
            .await
    }

    /// As [`open_producer`](Self::open_producer), with transactions.
    pub(crate) async fn open_transactional_producer(
        &self,
        options: ProducerOptions,
        accumulator: Arc<Accumulator>,
    ) -> Result<u32, Error> {
        let open: Open =
            Box::new(|core, now| core.open_transactional_producer(now, options, accumulator));
        self.open("open a producer", open, Message::CloseProducer)
            .await
    }

    /// Opens a consumer's rooms around `inbox` and returns their number.
    pub(crate) async fn open_consumer(
        &self,
        options: ConsumerOptions,
        inbox: Arc<Inbox>,
    ) -> Result<u32, Error> {
        let open: Open = Box::new(|core, now| core.open_consumer(now, options, inbox));
        self.open("open a consumer", open, Message::CloseConsumer)
            .await
    }

    async fn open(&self, doing: &str, open: Open, close: fn(u32) -> Message) -> Result<u32, Error> {
        let closed = || Error::Closed {
            doing: doing.to_owned(),
        };
        let (opened, number) = oneshot::channel();
        let message = Message::Open {
            open,
            close,
            opened,
        };
        self.send(message).ok_or_else(closed)?;
        let mut opening = Opening {
            handle: self,
            number,
            close,
        };
        (&mut opening.number).await.map_err(|_| closed())
    }

    /// For a producer's `Drop`: its room goes, nothing is waited for.
    pub(crate) fn close_producer(&self, number: u32) {
        // A driver that is gone has no rooms left to close.
        let _ = self.send(Message::CloseProducer(number));
    }

    /// For a consumer's `Drop`.
    pub(crate) fn close_consumer(&self, number: u32) {
        let _ = self.send(Message::CloseConsumer(number));
    }

    /// `None` where there is no driver to take it any more.
    fn send(&self, message: Message) -> Option<()> {
        self.shared.messages.send(message).ok()
    }
}

/// A room on its way. Whoever stops waiting for its number leaves no room behind.
struct Opening<'a> {
    handle: &'a Handle,
    number: oneshot::Receiver<u32>,
    close: fn(u32) -> Message,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        // From here on the driver sees that nobody waits, and closes the room itself.
        self.number.close();
        // Empty once the number was taken.
        if let Ok(number) = self.number.try_recv() {
            let _ = self.handle.send((self.close)(number));
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll};

    fn handle() -> (Handle, mpsc::UnboundedReceiver<Message>) {
        let (messages, inbound) = mpsc::unbounded_channel();
        let options = Options::default();
        let handle = Handle::new(messages, Waker::noop().clone(), Clock::start(), options);
        (handle, inbound)
    }

    /// Asks for a consumer, lets `driver` see the request, polls again if `awaited`, and gives up.
    fn open(handle: &Handle, mut driver: impl FnMut(), awaited: bool) -> Poll<u32> {
        let options = ConsumerOptions::default();
        let inbox = Inbox::new(&options, handle.waker());
        let mut opening = pin!(handle.open_consumer(options, inbox));
        let mut context = Context::from_waker(Waker::noop());
        assert!(opening.as_mut().poll(&mut context).is_pending());
        driver();
        match awaited {
            true => opening.as_mut().poll(&mut context).map(Result::unwrap),
            false => Poll::Pending,
        }
    }

    fn opened(inbound: &mut mpsc::UnboundedReceiver<Message>) -> oneshot::Sender<u32> {
        match inbound.try_recv() {
            Ok(Message::Open { opened, .. }) => opened,
            _ => panic!("no consumer was asked for"),
        }
    }

    #[test]
    fn whoever_gets_the_number_keeps_the_room() {
        let (handle, mut inbound) = handle();
        let number = open(&handle, || opened(&mut inbound).send(7).unwrap(), true);
        assert_eq!(number, Poll::Ready(7));
        assert!(inbound.try_recv().is_err());
    }

    #[test]
    fn giving_up_after_the_room_was_opened_closes_it() {
        let (handle, mut inbound) = handle();
        let number = open(&handle, || opened(&mut inbound).send(7).unwrap(), false);
        assert!(number.is_pending());
        assert!(matches!(inbound.try_recv(), Ok(Message::CloseConsumer(7))));
    }

    #[test]
    fn giving_up_before_the_room_was_opened_tells_the_driver() {
        let (handle, mut inbound) = handle();
        assert!(open(&handle, || (), false).is_pending());
        assert_eq!(opened(&mut inbound).send(7), Err(7));
        assert!(inbound.try_recv().is_err());
    }
}
