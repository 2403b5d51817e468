//! The driver and the core against scripted brokers at the other end of pipes.

use super::*;
use crate::{Client, ProducerRecord};
use bytes::Bytes;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidewatch_client_core::error::Error;
use tidewatch_client_core::options::Options;
use tidewatch_protocol::api::broker_versions;
use tidewatch_protocol::frame::MAX_FRAME_BYTES;
use tidewatch_protocol::header::{RequestHeader, decode_request_header};
use tidewatch_protocol::message::{decode_request, encode_response};
use tidewatch_protocol::messages::api_versions_response::ApiVersion;
use tidewatch_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use tidewatch_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, MetadataRequest, MetadataResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinHandle;

const PIPE_BYTES: usize = 1 << 16;

/// Every connection is a pipe whose other end goes to the script.
#[derive(Clone)]
struct Pipes(mpsc::UnboundedSender<DuplexStream>);

impl Transport for Pipes {
    type Read = ReadHalf<DuplexStream>;
    type Write = WriteHalf<DuplexStream>;

    async fn resolve(&self, _: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([10, 0, 0, 1], port))])
    }

    async fn connect(&self, _: SocketAddr, _: &str) -> io::Result<(Self::Read, Self::Write)> {
        let (ours, theirs) = duplex(PIPE_BYTES);
        self.0.send(theirs).map_err(io::Error::other)?;
        Ok(split(ours))
    }
}

/// A client with its driver running, and the brokers that it connects to.
struct Scene {
    client: Client,
    driver: JoinHandle<()>,
    accepted: mpsc::UnboundedReceiver<DuplexStream>,
}

fn scene() -> Scene {
    let mut options = Options::default();
    options.set("bootstrap.servers", "kafka:9092").unwrap();
    let (connect, accepted) = mpsc::unbounded_channel();
    let options = options.validated().unwrap();
    let tokens = Tokens::new(&options.client, None).unwrap();
    let (client, driver) = Client::build_over(Pipes(connect), options, tokens);
    Scene {
        client,
        driver: tokio::spawn(driver),
        accepted,
    }
}

/// The broker's end of one connection.
struct Peer(DuplexStream);

impl Peer {
    async fn request(&mut self) -> io::Result<(RequestHeader, Bytes)> {
        let size = usize::try_from(self.0.read_i32().await?).unwrap();
        let mut body = vec![0; size];
        self.0.read_exact(&mut body).await?;
        let mut body = Bytes::from(body);
        let header = decode_request_header(&mut body).unwrap();
        Ok((header, body))
    }

    /// Answers what a broker with one topic of three partitions would, until the client goes.
    async fn serve(mut self) {
        while let Ok((header, body)) = self.request().await {
            let (version, id) = (header.api_version, header.correlation_id);
            let frame = match ApiKey::try_from(header.api_key).unwrap() {
                ApiKey::ApiVersions => {
                    encode_response::<ApiVersionsRequest>(&versions(), version, id)
                }
                ApiKey::Metadata => {
                    let asked = decode_request::<MetadataRequest>(body, version).unwrap();
                    encode_response::<MetadataRequest>(&metadata(&asked), version, id)
                }
                other => panic!("{other:?} was not expected"),
            };
            let whole = frame.unwrap().to_bytes();
            if self.0.write_all(&whole).await.is_err() {
                return;
            }
        }
    }

    /// Whether the client has closed this connection; reads what it sent before.
    async fn sees_the_end(mut self) {
        let mut sent = Vec::new();
        self.0.read_to_end(&mut sent).await.unwrap();
    }
}

fn versions() -> ApiVersionsResponse {
    let spoken = [ApiKey::ApiVersions, ApiKey::Metadata].map(|api| {
        let range = broker_versions(api).unwrap();
        ApiVersion::default()
            .with_api_key(api as i16)
            .with_min_version(range.min)
            .with_max_version(range.max)
    });
    ApiVersionsResponse::default().with_api_keys(spoken.to_vec())
}

fn metadata(asked: &MetadataRequest) -> MetadataResponse {
    let broker = MetadataResponseBroker::default()
        .with_node_id(BrokerId(1))
        .with_host("kafka".into())
        .with_port(9092);
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(1))
            .with_leader_epoch(0)
    };
    let topic = |name| {
        MetadataResponseTopic::default()
            .with_name(Some(name))
            .with_partitions((0..3).map(partition).collect())
    };
    let names = asked.topics.iter().flatten().filter_map(|t| t.name.clone());
    MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_controller_id(BrokerId(1))
        .with_topics(names.map(topic).collect())
}

impl Scene {
    async fn accept(&mut self) -> Peer {
        Peer(self.accepted.recv().await.unwrap())
    }

    /// Serves every further connection well.
    fn serve_all(mut self) -> (Client, JoinHandle<()>) {
        tokio::spawn(async move {
            while let Some(stream) = self.accepted.recv().await {
                tokio::spawn(Peer(stream).serve());
            }
        });
        (self.client, self.driver)
    }

    /// The client's request for the cluster, under way.
    fn ask(&self) -> JoinHandle<Result<usize, Error>> {
        let client = self.client.clone();
        tokio::spawn(async move {
            let cluster = client.cluster(&["cpu-monitor"]).await?;
            Ok(cluster.partition_count("cpu-monitor").unwrap_or(0))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_scripted_broker_shakes_hands_and_describes_its_topics() {
    let mut scene = scene();
    let asked = scene.ask();
    let mut peer = scene.accept().await;
    let (header, _) = peer.request().await.unwrap();
    assert_eq!(header.api_key, ApiKey::ApiVersions as i16);
    let answer = encode_response::<ApiVersionsRequest>(
        &versions(),
        header.api_version,
        header.correlation_id,
    );
    peer.0.write_all(&answer.unwrap().to_bytes()).await.unwrap();
    tokio::spawn(peer.serve());
    let _others = scene.serve_all();
    assert_eq!(asked.await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn line_38_a_peer_that_speaks_http_is_named_in_the_error() {
    let mut scene = scene();
    let asked = scene.ask();
    let http = tokio::spawn(async move {
        // Kept: its connections stay open until the client itself closes them.
        while let Some(mut stream) = scene.accepted.recv().await {
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
            Peer(stream).sees_the_end().await;
        }
    });
    let error = asked.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("that is HTTP"), "{error}");
    http.abort();
}

#[tokio::test(start_paused = true)]
async fn line_38_a_frame_over_the_cap_costs_the_connection_and_not_the_request() {
    let mut scene = scene();
    let asked = scene.ask();
    let mut peer = scene.accept().await;
    let length = i32::try_from(MAX_FRAME_BYTES).unwrap() + 1;
    peer.0.write_i32(length).await.unwrap();
    peer.sees_the_end().await;
    let _others = scene.serve_all();
    assert_eq!(asked.await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn line_39_a_peer_that_closes_in_mid_frame_is_tried_again() {
    let mut scene = scene();
    let asked = scene.ask();
    let mut peer = scene.accept().await;
    peer.request().await.unwrap();
    peer.0.write_all(&[0, 0, 1, 0, 7]).await.unwrap();
    drop(peer);
    let _others = scene.serve_all();
    assert_eq!(asked.await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn line_44_dropping_the_last_handle_ends_the_driver_and_its_sockets() {
    let mut scene = scene();
    let asked = scene.ask();
    let peer = scene.accept().await;
    asked.abort();
    assert!(asked.await.unwrap_err().is_cancelled());
    drop(scene.client);
    scene.driver.await.unwrap();
    peer.sees_the_end().await;
}

#[tokio::test(start_paused = true)]
async fn line_44_dropping_the_driver_ends_what_is_under_way() {
    let mut scene = scene();
    let asked = scene.ask();
    let peer = scene.accept().await;
    scene.driver.abort();
    assert!(matches!(asked.await.unwrap(), Err(Error::Closed { .. })));
    peer.sees_the_end().await;
    let late = scene.client.cluster(&[]).await;
    assert!(matches!(late, Err(Error::Closed { .. })));
}

#[tokio::test(start_paused = true)]
async fn line_44_dropping_the_driver_ends_a_consumer_that_waits() {
    let scene = scene();
    let mut consumer = scene.client.consumer().await.unwrap();
    scene.driver.abort();
    let end = consumer.next().await;
    assert!(matches!(end, Err(Error::Closed { .. })));
    assert!(consumer.records().next().await.is_none());
}

#[test]
fn line_44_dropping_the_client_ends_its_thread() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = Options::default();
    let address = listener.local_addr().unwrap().to_string();
    options.set("bootstrap.servers", &address).unwrap();
    let (client, thread) = Client::spawn_thread(Client::build(options).unwrap()).unwrap();
    drop(client);
    thread.join().unwrap();
}

#[tokio::test(start_paused = true)]
async fn line_39_requests_dropped_in_mid_wait_leak_no_slot() {
    let scene = scene();
    for _ in 0..3 * crate::handle::MAX_PENDING_REQUESTS {
        let asking = scene.client.cluster(&["cpu-monitor"]);
        // Nobody answers yet: each is given up.
        let given_up = tokio::time::timeout(Duration::from_millis(1), asking).await;
        assert!(given_up.is_err());
    }
    let (client, _driver) = scene.serve_all();
    let cluster = client.cluster(&["cpu-monitor"]).await.unwrap();
    assert_eq!(cluster.partition_count("cpu-monitor"), Some(3));
    // All ends are told by then, to nobody.
    while client.free_requests() < crate::handle::MAX_PENDING_REQUESTS {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_sender_that_never_waits_lets_others_have_its_thread() {
    let (client, _driver) = scene().serve_all();
    let producer = client.producer().await.unwrap();
    let value = [b'x'; 1024];
    let send = || producer.send(ProducerRecord::to("a").value(&value));
    // From here on the topic is known.
    drop(send().await.unwrap());
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    // 64 batches; `buffer.memory` holds many more.
    for _ in 0..1024 {
        drop(send().await.unwrap());
    }
    other.abort();
    let had = turns.load(Ordering::Relaxed);
    assert!(had >= 16, "{had} turns");
}
