//! One connection: a task that opens it, reads frames and writes frames until either side ends it.

pub(crate) mod receive;
pub(crate) mod send;

use crate::transport::{Transport, security_error};
use bytes::{Buf, Bytes};
use receive::{ReceiveError, Receiver};
use send::Outgoing;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tidewatch_client_core::client::ConnectionId;
use tidewatch_client_core::error::SecurityError;
use tidewatch_client_core::token::{Token, TokenError};
use tidewatch_protocol::frame::Frame;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

/// Frames that may wait for one connection's socket. The core keeps far fewer under way.
pub(crate) const MAX_QUEUED_FRAMES: usize = 64;

/// What a connection's task tells the driver, in order.
#[derive(Debug)]
pub(crate) enum Event {
    Resolved(Result<Vec<SocketAddr>, String>),
    Connected,
    Written,
    Frame(Bytes),
    /// What `WantToken` asked for.
    Token(Result<Token, TokenError>),
    /// The last.
    Closed(String),
    /// The last, where the connection cannot be secured as the options ask.
    Unsecured(SecurityError),
}

impl Event {
    /// The end of a connection, by the error that caused it if there was one.
    fn ended(why: String, error: Option<&io::Error>) -> Self {
        match error.and_then(security_error) {
            Some(error) => Self::Unsecured(error),
            None => Self::Closed(why),
        }
    }
}

/// Where a connection's task tells it. The channel is bounded: a driver that is busy stops reading.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    pub(crate) connection: ConnectionId,
    pub(crate) driver: mpsc::Sender<(ConnectionId, Event)>,
}

impl Events {
    pub(crate) async fn tell(&self, event: Event) {
        // A driver that is gone takes this task along.
        let _ = self.driver.send((self.connection, event)).await;
    }
}

/// Looks up the addresses of a host.
pub(crate) async fn resolve<T: Transport>(transport: T, host: String, port: u16, events: Events) {
    let found = match transport.resolve(&host, port).await {
        Ok(addresses) => Ok(addresses),
        // Of what, the core says.
        Err(error) => Err(error.to_string()),
    };
    events.tell(Event::Resolved(found)).await;
}

/// Where a connection goes, and what it may bring.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) host: Arc<str>,
    pub(crate) max_frame_bytes: usize,
}

/// Opens a connection and serves it to its end, which is the last event.
pub(crate) async fn run<T: Transport>(
    transport: T,
    target: Target,
    frames: mpsc::Receiver<Frame>,
    events: Events,
) {
    let Target { address, host, .. } = &target;
    let last = match transport.connect(*address, host).await {
        Ok((read, write)) => {
            events.tell(Event::Connected).await;
            serve(read, write, target.max_frame_bytes, frames, &events).await
        }
        Err(error) => {
            let why = format!("failed to connect: {error}");
            Event::ended(why, Some(&error))
        }
    };
    events.tell(last).await;
}

async fn serve(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    max_frame_bytes: usize,
    frames: mpsc::Receiver<Frame>,
    events: &Events,
) -> Event {
    // One task for both: whichever side ends, the other ends with it.
    tokio::select! {
        error = receive_frames(Receiver::new(read, max_frame_bytes), events) => {
            Event::ended(error.to_string(), error.read_error())
        }
        error = send_frames(write, frames, events) => {
            Event::ended(format!("failed to write: {error}"), Some(&error))
        }
    }
}

async fn receive_frames(
    mut receiver: Receiver<impl AsyncRead + Unpin>,
    events: &Events,
) -> ReceiveError {
    loop {
        match receiver.next().await {
            Ok(frame) => events.tell(Event::Frame(frame)).await,
            Err(error) => return error,
        }
    }
}

async fn send_frames(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
    events: &Events,
) -> io::Error {
    let mut outgoing = Outgoing::default();
    while let Some(frame) = frames.recv().await {
        outgoing.push(frame);
        while let Ok(frame) = frames.try_recv() {
            outgoing.push(frame);
        }
        while outgoing.has_remaining() {
            match stream.write_buf(&mut outgoing).await {
                Ok(0) => return io::ErrorKind::WriteZero.into(),
                Ok(_) => {}
                Err(error) => return error,
            }
            let written = outgoing.take_written();
            if written > 0 {
                // TLS may keep what it took; a frame counts as written once the socket has it.
                if let Err(error) = stream.flush().await {
                    return error;
                }
            }
            for _ in 0..written {
                events.tell(Event::Written).await;
            }
        }
    }
    // The driver has let go of this connection and is about to end its task.
    std::future::pending().await
}

#[cfg(test)]
mod tests;
