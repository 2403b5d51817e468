//! One connection: a task that opens it, reads frames and writes frames until either side ends it.

pub(crate) mod receive;
pub(crate) mod send;

use crate::transport::Transport;
use bytes::{Buf, Bytes};
use receive::{ReceiveError, Receiver};
use send::Outgoing;
use std::io;
use std::net::SocketAddr;
use tidewatch_client_core::client::ConnectionId;
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
    /// The last.
    Closed(String),
}

/// Where a connection's task tells it. The channel is bounded: a driver that is busy stops reading.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    pub(crate) connection: ConnectionId,
    pub(crate) driver: mpsc::Sender<(ConnectionId, Event)>,
}

impl Events {
    async fn tell(&self, event: Event) {
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

/// Opens a connection and serves it to its end, which is the last event.
pub(crate) async fn run<T: Transport>(
    transport: T,
    address: SocketAddr,
    max_frame_bytes: usize,
    frames: mpsc::Receiver<Frame>,
    events: Events,
) {
    let why = match transport.connect(address).await {
        Ok((read, write)) => {
            events.tell(Event::Connected).await;
            serve(read, write, max_frame_bytes, frames, &events).await
        }
        Err(error) => format!("failed to connect: {error}"),
    };
    events.tell(Event::Closed(why)).await;
}

async fn serve(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    max_frame_bytes: usize,
    frames: mpsc::Receiver<Frame>,
    events: &Events,
) -> String {
    // One task for both: whichever side ends, the other ends with it.
    tokio::select! {
        error = receive_frames(Receiver::new(read, max_frame_bytes), events) => error.to_string(),
        error = send_frames(write, frames, events) => format!("failed to write: {error}"),
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
            for _ in 0..outgoing.take_written() {
                events.tell(Event::Written).await;
            }
        }
    }
    // The driver has let go of this connection and is about to end its task.
    std::future::pending().await
}

#[cfg(test)]
mod tests;
