//! One socket: a request is read, served and answered before the next is looked at, so a client
//! that does not read its answers is not read either.

use crate::shell::Shell;
use bytes::BytesMut;
use std::time::Duration;
use tidewatch_broker::{CloseReason, ConnectionId, NodeId, Output};
use tidewatch_protocol::frame::{Frame, FrameError, MAX_FRAME_BYTES, split_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Read ahead of the request in service, so that the client's end is noticed while it waits.
const READ_AHEAD_BYTES: usize = 64 << 10;
/// A client that takes nothing for so long is dropped.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the connection ended, unless the client ended it between two requests.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Closed(CloseReason),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the client took no bytes for {} s", WRITE_TIMEOUT.as_secs())]
    Slow,
    #[error("the node does not run")]
    NodeStopped,
}

impl End {
    pub(crate) fn log(&self, node: NodeId, peer: &str) {
        match self {
            Self::Io(_) | Self::NodeStopped => debug!(%node, %peer, "{self}"),
            Self::Frame(_) | Self::Closed(_) | Self::Slow => warn!(%node, %peer, "closed: {self}"),
        }
    }
}

/// Serves the socket until it ends.
pub(crate) async fn serve(shell: &Shell, node: NodeId, stream: TcpStream) -> Result<(), End> {
    stream.set_nodelay(true)?;
    let (id, outputs) = shell.connect(node).ok_or(End::NodeStopped)?;
    let _disconnect = DisconnectOnDrop { shell, id };
    Socket {
        shell,
        id,
        stream,
        outputs,
        received: BytesMut::new(),
    }
    .serve()
    .await
}

struct DisconnectOnDrop<'a> {
    shell: &'a Shell,
    id: ConnectionId,
}

impl Drop for DisconnectOnDrop<'_> {
    fn drop(&mut self) {
        self.shell.disconnect(self.id);
    }
}

struct Socket<'a> {
    shell: &'a Shell,
    id: ConnectionId,
    stream: TcpStream,
    outputs: mpsc::Receiver<Output>,
    received: BytesMut,
}

impl Socket<'_> {
    async fn serve(mut self) -> Result<(), End> {
        loop {
            if let Ok(output) = self.outputs.try_recv() {
                self.put(output).await?;
                continue;
            }
            let is_busy = self.shell.is_busy(self.id);
            if !is_busy && let Some(frame) = split_frame(&mut self.received, MAX_FRAME_BYTES)? {
                self.shell.handle_frame(self.id, frame);
                continue;
            }
            let may_read = !is_busy || self.received.len() < READ_AHEAD_BYTES;
            tokio::select! {
                Some(output) = self.outputs.recv() => self.put(output).await?,
                read = self.stream.read_buf(&mut self.received), if may_read => {
                    if read? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn put(&mut self, output: Output) -> Result<(), End> {
        match output {
            Output::Send(_, frame) => {
                let write = write(&mut self.stream, &frame);
                tokio::time::timeout(WRITE_TIMEOUT, write)
                    .await
                    .map_err(|_| End::Slow)??;
                Ok(())
            }
            Output::Close(_, why) => Err(End::Closed(why)),
        }
    }
}

async fn write(stream: &mut TcpStream, frame: &Frame) -> std::io::Result<()> {
    stream.write_all(&frame.head).await?;
    for part in &frame.parts {
        stream.write_all(part).await?;
    }
    Ok(())
}
