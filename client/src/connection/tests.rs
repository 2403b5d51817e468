//! One connection over a pipe: what is written, what comes back, how it ends.

use super::*;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;

const CONNECTION: ConnectionId = ConnectionId(7);
const CAP: usize = 1000;

/// One stream, made beforehand.
#[derive(Clone)]
struct Once(Arc<Mutex<Option<DuplexStream>>>);

impl Transport for Once {
    type Read = ReadHalf<DuplexStream>;
    type Write = WriteHalf<DuplexStream>;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match host {
            "known" => Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))]),
            "empty" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such host")),
        }
    }

    async fn connect(&self, _: SocketAddr, _: &str) -> io::Result<(Self::Read, Self::Write)> {
        let stream = self.0.lock().unwrap().take();
        let stream = stream.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(split(stream))
    }
}

struct Scene {
    peer: DuplexStream,
    frames: mpsc::Sender<Frame>,
    events: mpsc::Receiver<(ConnectionId, Event)>,
    task: JoinHandle<()>,
}

fn target() -> Target {
    Target {
        address: SocketAddr::from(([10, 0, 0, 1], 9092)),
        host: "known".into(),
        max_frame_bytes: CAP,
    }
}

/// A connection over a pipe that holds `pipe_bytes`.
async fn connected(pipe_bytes: usize) -> Scene {
    let (ours, peer) = duplex(pipe_bytes);
    let transport = Once(Arc::new(Mutex::new(Some(ours))));
    let (frames, queued) = mpsc::channel(MAX_QUEUED_FRAMES);
    let (driver, events) = mpsc::channel(8);
    let to_driver = Events {
        connection: CONNECTION,
        driver,
    };
    let task = tokio::spawn(run(transport, target(), queued, to_driver));
    let mut scene = Scene {
        peer,
        frames,
        events,
        task,
    };
    assert!(matches!(scene.event().await, Event::Connected));
    scene
}

impl Scene {
    async fn event(&mut self) -> Event {
        let (connection, event) = self.events.recv().await.unwrap();
        assert_eq!(connection, CONNECTION);
        event
    }

    /// Reads the event that must be the last, and sees the task end.
    async fn end(mut self) -> String {
        let Event::Closed(why) = self.event().await else {
            panic!("something else came before the end");
        };
        self.task.await.unwrap();
        assert!(self.events.recv().await.is_none());
        why
    }
}

fn frame(head: &'static [u8], parts: &[&'static [u8]]) -> Frame {
    Frame {
        head: Bytes::from_static(head),
        parts: parts.iter().map(|part| Bytes::from_static(part)).collect(),
    }
}

#[tokio::test(start_paused = true)]
async fn frames_are_told_as_they_come_and_the_end_last() {
    let mut scene = connected(1 << 16).await;
    let sent = b"\0\0\0\x05first\0\0\0\x06second";
    scene.peer.write_all(sent).await.unwrap();
    for expected in ["first", "second"] {
        assert!(matches!(scene.event().await, Event::Frame(frame) if frame == expected));
    }
    scene.peer.shutdown().await.unwrap();
    assert_eq!(scene.end().await, "the peer closed the connection");
}

#[tokio::test(start_paused = true)]
async fn line_38_a_frame_over_the_cap_ends_the_connection() {
    let mut scene = connected(64).await;
    scene
        .peer
        .write_all(b"HTTP/1.1 400 Bad Request")
        .await
        .unwrap();
    let why = scene.end().await;
    assert!(
        why.contains("over the limit of 1000") && why.contains("that is HTTP"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn line_39_a_peer_that_closes_in_mid_frame_ends_the_connection() {
    let mut scene = connected(64).await;
    scene.peer.write_all(b"\0\0\0\x09half").await.unwrap();
    drop(scene.peer);
    scene.peer = duplex(1).0;
    assert!(scene.end().await.contains("in the middle of a frame"));
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_reported_as_written_once_its_last_byte_is() {
    let mut scene = connected(8).await;
    scene
        .frames
        .send(frame(b"head", &[b"part", b"tail"]))
        .await
        .unwrap();
    scene.frames.send(frame(b"next", &[])).await.unwrap();
    // The pipe holds eight: the rest waits for the peer.
    let mut read = [0; 3];
    scene.peer.read_exact(&mut read).await.unwrap();
    tokio::task::yield_now().await;
    assert!(scene.events.try_recv().is_err());
    let mut rest = [0; 13];
    scene.peer.read_exact(&mut rest).await.unwrap();
    assert_eq!([&read[..], &rest].concat(), b"headparttailnext");
    assert!(matches!(scene.event().await, Event::Written));
    assert!(matches!(scene.event().await, Event::Written));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_ends_the_connection_when_it_goes() {
    let mut scene = connected(2).await;
    scene
        .frames
        .send(frame(b"far too long", &[]))
        .await
        .unwrap();
    tokio::task::yield_now().await;
    drop(scene.peer);
    scene.peer = duplex(1).0;
    let why = scene.end().await;
    assert!(
        why.contains("closed") || why.contains("failed to write"),
        "{why}"
    );
}

#[tokio::test(start_paused = true)]
async fn line_39_a_write_dropped_midway_ends_the_connection() {
    let mut scene = connected(4).await;
    scene.frames.send(frame(b"head", &[b"tail"])).await.unwrap();
    tokio::task::yield_now().await;
    scene.task.abort();
    let mut read = Vec::new();
    scene.peer.read_to_end(&mut read).await.unwrap();
    assert_eq!(
        read, b"head",
        "half a frame, and then nothing that could pass for one"
    );
}

#[tokio::test(start_paused = true)]
async fn an_address_where_nobody_listens_is_told() {
    let (driver, mut events) = mpsc::channel(8);
    let to_driver = Events {
        connection: CONNECTION,
        driver,
    };
    let (_frames, queued) = mpsc::channel(1);
    run(Once(Arc::default()), target(), queued, to_driver).await;
    let Some((CONNECTION, Event::Closed(why))) = events.recv().await else {
        panic!("not closed");
    };
    assert!(why.starts_with("failed to connect: "), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_tells_addresses_or_why_there_are_none() {
    let mut found = Vec::new();
    for host in ["known", "empty", "else"] {
        let (driver, mut events) = mpsc::channel(1);
        let to_driver = Events {
            connection: CONNECTION,
            driver,
        };
        resolve(Once(Arc::default()), host.to_owned(), 9092, to_driver).await;
        let Some((CONNECTION, Event::Resolved(result))) = events.recv().await else {
            panic!("not resolved");
        };
        found.push(result);
    }
    let [known, empty, failed] = <[_; 3]>::try_from(found).unwrap();
    assert_eq!(known.unwrap(), ["10.0.0.1:9092".parse().unwrap()]);
    assert_eq!(empty.unwrap(), []);
    assert_eq!(failed.unwrap_err(), "no such host");
}

/// Notes where the pieces of each vectored write lie in memory.
#[derive(Default)]
struct Noted(Vec<Vec<usize>>);

impl AsyncWrite for Noted {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        piece: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(piece)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0
            .push(pieces.iter().map(|piece| piece.as_ptr() as usize).collect());
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_frames_leave_in_one_vectored_write_uncopied() {
    let (driver, mut events) = mpsc::channel(8);
    let to_driver = Events {
        connection: CONNECTION,
        driver,
    };
    let (frames, queued) = mpsc::channel(8);
    let sent = [frame(b"head", &[b"records", b"end"]), frame(b"second", &[])];
    let addresses: Vec<usize> = sent
        .iter()
        .flat_map(|frame| std::iter::once(&frame.head).chain(&frame.parts))
        .map(|piece| piece.as_ptr() as usize)
        .collect();
    for frame in sent {
        frames.send(frame).await.unwrap();
    }
    let mut stream = Noted::default();
    tokio::select! {
        _ = send_frames(&mut stream, queued, &to_driver) => panic!("it ended"),
        () = async { for _ in 0..2 { events.recv().await; } } => {}
    }
    assert_eq!(stream.0, [addresses]);
}
