//! The driver: the one task that owns the core, its connections and the requests under way.
//!
//! ```text
//!      handles ── messages ──┐            ┌── events ── connection tasks ── sockets
//!                            ▼            ▼                    ▲
//!      ┌──────────────▶ 1 messages   2 events                  │ frames
//!      │                     └─────┬──────┘                    │
//!      │                           ▼                           │
//!      │   wakers ── flag ──▶ 3 wake   4 timer                 │
//!      │                           │ handle_*                  │
//!      │                           ▼                           │
//!      │                       the core                        │
//!      │                           │ poll_action               │
//!      │                           ▼                           │
//!      │                      5 actions ───────────────────────┘
//!      │                           │ until there is none
//!      └──────── 6 sleep ◀─────────┘
//!          until poll_timeout or news
//! ```

use crate::clock::Clock;
use crate::connection::{self, Event, Events, MAX_QUEUED_FRAMES, Target};
use crate::handle::{Ended, Message};
use crate::token::Tokens;
use crate::transport::Transport;
use crate::wake::WakeFlag;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tidewatch_client_core::call::RequestId;
use tidewatch_client_core::client::{Action, Client as Core, ConnectionId};
use tidewatch_client_core::options::ClientOptions;
use tidewatch_protocol::frame::Frame;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// Events of all connections that may wait for the driver; beyond it, sockets are not read.
const MAX_EVENTS: usize = 32;
/// How many messages, and how many events, one turn takes up before it acts.
const MAX_NEWS_PER_TURN: usize = 64;
/// A timer that stands due although it was just handled is looked at again after so long.
const OVERDUE_TIMER_PAUSE: Duration = Duration::from_millis(1);
/// How long the driver goes on, once no handle is left, for what is still being closed.
const FAREWELL: Duration = Duration::from_secs(5);

/// Carries a client's work out: a future to be polled on a tokio runtime with network and time.
///
/// It ends when the last handle (client, producer, consumer) is dropped, and what those had open is
/// closed: consumers leave their groups, transactions are aborted, within five seconds. Dropping it ends every
/// task and socket of the client at once; what was under way ends with
/// [`Error::Closed`](crate::Error::Closed).
#[must_use = "nothing happens unless the driver is polled"]
pub struct Driver {
    running: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Driver {
    pub(crate) fn new(
        transport: impl Transport,
        options: ClientOptions,
        tokens: Tokens,
        clock: Clock,
        wake: Arc<WakeFlag>,
        messages: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let (events_in, events) = mpsc::channel(MAX_EVENTS);
        let shell = Shell {
            core: Core::new(options, fastrand::u64(..)),
            clock,
            wake,
            messages,
            requests: HashMap::new(),
            last_request: 0,
            connections: Connections {
                transport,
                tokens,
                open: HashMap::new(),
                tasks: JoinSet::new(),
                events: events_in,
            },
            events,
        };
        Self {
            running: Box::pin(shell.run()),
        }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.running.as_mut().poll(context)
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}

struct Shell<T> {
    core: Core,
    clock: Clock,
    wake: Arc<WakeFlag>,
    messages: mpsc::UnboundedReceiver<Message>,
    /// Bounded by what handles may have under way.
    requests: HashMap<RequestId, Ended>,
    last_request: u64,
    connections: Connections<T>,
    events: mpsc::Receiver<(ConnectionId, Event)>,
}

/// What sleeping ended with.
enum News {
    Message(Message),
    Event(ConnectionId, Event),
    WakeOrTimer,
    NoHandleLeft,
}

impl<T: Transport> Shell<T> {
    async fn run(mut self) {
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        let mut until = None;
        loop {
            self.take_messages();
            self.take_events();
            if self.wake.take() {
                self.core.handle_wake(self.clock.now());
            }
            let was_due = self.timer_is_due();
            if was_due {
                self.core.handle_timeout(self.clock.now());
            }
            self.carry_out();
            self.connections.reap();
            if until.is_some() && self.core.is_settled() {
                return;
            }

            let timer = self.core.poll_timeout().map(|(at_us, _)| at_us);
            if let Some(at_us) = timer {
                let again = tokio::time::Instant::now() + OVERDUE_TIMER_PAUSE;
                let at = self.clock.instant(at_us);
                let at = if was_due { at.max(again) } else { at };
                if sleep.deadline() != at {
                    sleep.as_mut().reset(at);
                }
            }
            let news = tokio::select! {
                message = self.messages.recv(), if until.is_none() => {
                    message.map_or(News::NoHandleLeft, News::Message)
                }
                () = pause(until) => return,
                Some((connection, event)) = self.events.recv() => News::Event(connection, event),
                () = self.wake.wait() => News::WakeOrTimer,
                () = &mut sleep, if timer.is_some() => News::WakeOrTimer,
            };
            match news {
                News::Message(message) => self.handle_message(message),
                News::Event(connection, event) => self.handle_event(connection, event),
                News::WakeOrTimer => {}
                News::NoHandleLeft => until = Some(tokio::time::Instant::now() + FAREWELL),
            }
        }
    }

    fn take_messages(&mut self) {
        for _ in 0..MAX_NEWS_PER_TURN {
            let Ok(message) = self.messages.try_recv() else {
                break;
            };
            self.handle_message(message);
        }
    }

    fn take_events(&mut self) {
        for _ in 0..MAX_NEWS_PER_TURN {
            let Ok((connection, event)) = self.events.try_recv() else {
                break;
            };
            self.handle_event(connection, event);
        }
    }

    fn timer_is_due(&self) -> bool {
        let now_us = self.clock.now().monotonic_us;
        self.core
            .poll_timeout()
            .is_some_and(|(at_us, _)| at_us <= now_us)
    }

    fn handle_message(&mut self, message: Message) {
        let now = self.clock.now();
        match message {
            Message::Request { command, ended } => {
                self.last_request += 1;
                let request = RequestId(self.last_request);
                self.requests.insert(request, ended);
                self.core.handle_command(now, request, command);
            }
            Message::Told(command) => {
                self.last_request += 1;
                let request = RequestId(self.last_request);
                self.core.handle_command(now, request, command);
            }
            // Nobody waits for the number any more: the room is closed again.
            Message::Open {
                open,
                close,
                opened,
            } => {
                let number = open(&mut self.core, now);
                if opened.send(number).is_err() {
                    self.handle_message(close(number));
                }
            }
            Message::CloseProducer(number) => self.core.close_producer(now, number),
            Message::CloseConsumer(number) => self.core.close_consumer(now, number),
        }
    }

    fn handle_event(&mut self, connection: ConnectionId, event: Event) {
        if !self.connections.is_open(connection) {
            // The core closed it while this was on its way.
            return;
        }
        let now = self.clock.now();
        match event {
            Event::Resolved(addresses) => {
                self.connections.forget(connection);
                self.core.handle_resolved(now, connection, addresses);
            }
            Event::Connected => self.core.handle_connected(now, connection),
            Event::Written => self.core.handle_written(now, connection),
            Event::Frame(frame) => self.core.handle_frame(now, connection, frame),
            Event::Token(token) => self.core.handle_token(now, connection, token),
            Event::Unsecured(error) => {
                tracing::debug!("connection {} ended: {error}", connection.0);
                self.connections.forget(connection);
                self.core.handle_unsecured(now, connection, error);
            }
            Event::Closed(why) => {
                tracing::debug!("connection {} ended: {why}", connection.0);
                self.connections.forget(connection);
                self.core.handle_closed(now, connection, why);
            }
        }
    }

    fn carry_out(&mut self) {
        let now = self.clock.now();
        while let Some(action) = self.core.poll_action(now) {
            match action {
                Action::Resolve {
                    connection,
                    host,
                    port,
                } => self.connections.resolve(connection, host, port),
                Action::Connect {
                    connection,
                    address,
                    host,
                    max_frame_bytes,
                } => {
                    let target = Target {
                        address,
                        host,
                        max_frame_bytes,
                    };
                    self.connections.connect(connection, target);
                }
                Action::WantToken(connection) => self.connections.bring_token(connection),
                Action::Send(connection, frame) => {
                    if let Err(why) = self.connections.send(connection, frame) {
                        self.connections.close(connection);
                        self.core.handle_closed(now, connection, why.to_owned());
                    }
                }
                Action::Close { connection, why } => {
                    tracing::debug!("closing connection {}: {why}", connection.0);
                    self.connections.close(connection);
                }
                Action::Finished(request, result) => {
                    if let Some(ended) = self.requests.remove(&request) {
                        ended.tell(result);
                    }
                }
            }
        }
    }
}

/// Until then; for ever where there is no such moment.
async fn pause(until: Option<tokio::time::Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The tasks that look up hosts and serve connections. Dropping it ends them all.
struct Connections<T> {
    transport: T,
    tokens: Tokens,
    open: HashMap<ConnectionId, Open>,
    tasks: JoinSet<()>,
    events: mpsc::Sender<(ConnectionId, Event)>,
}

struct Open {
    task: AbortHandle,
    /// `None` while the host is looked up.
    frames: Option<mpsc::Sender<Frame>>,
}

impl<T: Transport> Connections<T> {
    fn resolve(&mut self, connection: ConnectionId, host: String, port: u16) {
        let lookup =
            connection::resolve(self.transport.clone(), host, port, self.events(connection));
        let task = self.tasks.spawn(lookup);
        self.open.insert(connection, Open { task, frames: None });
    }

    fn connect(&mut self, connection: ConnectionId, target: Target) {
        tracing::debug!("connection {} goes to {}", connection.0, target.address);
        let (frames, queued) = mpsc::channel(MAX_QUEUED_FRAMES);
        let events = self.events(connection);
        let serving = connection::run(self.transport.clone(), target, queued, events);
        let task = self.tasks.spawn(serving);
        let frames = Some(frames);
        self.open.insert(connection, Open { task, frames });
    }

    /// Has a token brought for a connection that authenticates; it comes as an event, in bounded time.
    fn bring_token(&mut self, connection: ConnectionId) {
        let (tokens, events) = (self.tokens.clone(), self.events(connection));
        self.tasks
            .spawn(async move { events.tell(Event::Token(tokens.token().await)).await });
    }

    /// Queues a frame; the error says why it cannot be.
    fn send(&self, connection: ConnectionId, frame: Frame) -> Result<(), &'static str> {
        let open = self.open.get(&connection);
        let frames = open.and_then(|open| open.frames.as_ref());
        let frames = frames.ok_or("a frame was to be sent before there was a connection")?;
        match frames.try_send(frame) {
            Err(mpsc::error::TrySendError::Full(_)) => Err("too many frames wait to be written"),
            // The connection has just ended; its last event, on its way, says why.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    fn close(&mut self, connection: ConnectionId) {
        if let Some(open) = self.open.remove(&connection) {
            open.task.abort();
        }
    }

    /// Its task has told its last.
    fn forget(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
    }

    fn is_open(&self, connection: ConnectionId) -> bool {
        self.open.contains_key(&connection)
    }

    /// Frees what ended tasks leave behind.
    fn reap(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }

    fn events(&self, connection: ConnectionId) -> Events {
        Events {
            connection,
            driver: self.events.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
