//! Scripts: what a broker does, step by step, and what the core must do then.

mod closing;
mod consumers;
mod coordinators;
mod handshake;
mod hanging;
mod metadata;
mod reaching;
mod requests;
mod security;
mod turns;

use crate::call::{
    Body, BrokerId, Call, CallId, Coordinated, Destination, Fact, Lane, Outcome, Reply, RequestId,
    RoomId,
};
use crate::client::{Action, Client, ConnectionId};
use crate::error::{CallError, CallErrorKind, Error};
use crate::metadata::{BrokerAddress, Cluster};
use crate::options::Options;
use crate::router::Router;
use crate::time::{Now, Timer};
use bytes::{Bytes, BytesMut};
use core::net::SocketAddr;
use std::collections::VecDeque;
use std::sync::Arc;
use tidewatch_protocol::Request;
use tidewatch_protocol::api::client_versions;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::frame::Frame;
use tidewatch_protocol::header::{RequestHeader, decode_request_header};
use tidewatch_protocol::message::{decode_request, encode_response};
use tidewatch_protocol::messages::api_versions_response::ApiVersion;
use tidewatch_protocol::messages::*;

const SEED: u64 = 7;
const SECOND_US: u64 = 1_000_000;

/// What a script drives: the router alone, or the whole client.
trait Core {
    fn connected(&mut self, now: Now, id: ConnectionId);
    fn resolved(&mut self, now: Now, id: ConnectionId, found: Result<Vec<SocketAddr>, String>);
    fn written(&mut self, now: Now, id: ConnectionId);
    fn frame(&mut self, now: Now, id: ConnectionId, frame: Bytes);
    fn closed(&mut self, now: Now, id: ConnectionId, why: &str);
    fn timeout(&mut self, now: Now);
    fn action(&mut self, now: Now) -> Option<Action>;
    fn next_timeout(&self) -> Option<(u64, Timer)>;
}

macro_rules! drive {
    ($core:ty, |$this:ident, $now:ident| $poll:expr) => {
        impl Core for $core {
            fn connected(&mut self, now: Now, id: ConnectionId) {
                self.handle_connected(now, id);
            }
            fn resolved(
                &mut self,
                now: Now,
                id: ConnectionId,
                found: Result<Vec<SocketAddr>, String>,
            ) {
                self.handle_resolved(now, id, found);
            }
            fn written(&mut self, now: Now, id: ConnectionId) {
                self.handle_written(now, id);
            }
            fn frame(&mut self, now: Now, id: ConnectionId, frame: Bytes) {
                self.handle_frame(now, id, frame);
            }
            fn closed(&mut self, now: Now, id: ConnectionId, why: &str) {
                self.handle_closed(now, id, why.to_owned());
            }
            fn timeout(&mut self, now: Now) {
                self.handle_timeout(now);
            }
            fn action(&mut self, $now: Now) -> Option<Action> {
                let $this = self;
                $poll
            }
            fn next_timeout(&self) -> Option<(u64, Timer)> {
                self.poll_timeout()
            }
        }
    };
}
drive!(Router, |router, _now| router.poll_action());
drive!(Client, |client, now| client.poll_action(now));

/// A core and the moment it is at.
struct Script<C> {
    core: C,
    now: Now,
    last_number: u64,
    /// What the core wanted done while time passed.
    actions: VecDeque<Action>,
}

/// A request as the broker reads it.
#[derive(Debug)]
struct Sent {
    connection: ConnectionId,
    header: RequestHeader,
    body: Bytes,
}

impl Sent {
    fn api(&self) -> ApiKey {
        ApiKey::try_from(self.header.api_key).unwrap()
    }

    fn metadata_topics(&self) -> Vec<String> {
        let request: MetadataRequest =
            decode_request::<MetadataRequest>(self.body.clone(), self.header.api_version).unwrap();
        assert!(!request.allow_auto_topic_creation);
        let topics = request.topics.unwrap().into_iter();
        topics
            .map(|topic| topic.name.unwrap().to_string())
            .collect()
    }
}

fn options(settings: &[(&str, &str)]) -> Options {
    let mut options = Options::default();
    options.set("bootstrap.servers", "boot:9092").unwrap();
    for (name, value) in settings {
        options.set(name, value).unwrap();
    }
    options.validated().unwrap()
}

impl Script<Router> {
    fn router(settings: &[(&str, &str)]) -> Self {
        Self {
            core: Router::new(options(settings).client, SEED),
            now: Now::default(),
            last_number: 0,
            actions: VecDeque::new(),
        }
    }

    /// A router that knows brokers 1, 2, … at `broker-1:9092`, `broker-2:9092`, …
    fn with_brokers(count: i32, settings: &[(&str, &str)]) -> Self {
        let mut script = Self::router(settings);
        script.learn(cluster(
            &(1..=count).map(|id| (id, "broker")).collect::<Vec<_>>(),
        ));
        script
    }

    fn learn(&mut self, cluster: Cluster) {
        let fact = Fact::ClusterChanged(Arc::new(cluster));
        self.core.handle_fact(self.now, &fact);
    }

    fn call(&mut self, destination: Destination, lane: Lane, body: Body) -> CallId {
        self.last_number += 1;
        let id = CallId {
            room: RoomId::Admin,
            number: self.last_number,
        };
        let call = Call {
            id,
            destination,
            lane,
            body,
            version_cap: None,
            timeout_us: 30 * SECOND_US,
            give_up_us: self.now.monotonic_us + 60 * SECOND_US,
        };
        self.core.handle_call(self.now, call);
        id
    }

    /// A Metadata request to broker 1, whose connection is opened first.
    fn ask(&mut self, broker: i32) -> CallId {
        let destination = Destination::Broker(BrokerId(broker));
        self.call(destination, Lane::General, metadata_body())
    }

    fn ended(&mut self) -> (CallId, Result<Reply, CallError>) {
        self.core.poll_ended().expect("a call has ended")
    }

    fn facts(&mut self) -> Vec<Fact> {
        std::iter::from_fn(|| self.core.poll_fact()).collect()
    }
}

impl Script<Client> {
    fn client(settings: &[(&str, &str)]) -> Self {
        Self {
            core: Client::new(options(settings).client, SEED),
            now: Now::default(),
            last_number: 0,
            actions: VecDeque::new(),
        }
    }

    fn command(&mut self, command: crate::client::Command) -> RequestId {
        self.last_number += 1;
        let request = RequestId(self.last_number);
        self.core.handle_command(self.now, request, command);
        request
    }

    fn wait_for(&mut self, topics: &[&str], limit_ms: u64) -> RequestId {
        self.command(crate::client::Command::Cluster {
            topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
            timeout_us: limit_ms * 1000,
        })
    }
}

impl<C: Core> Script<C> {
    fn next_action(&mut self) -> Option<Action> {
        let core = &mut self.core;
        self.actions.pop_front().or_else(|| core.action(self.now))
    }

    #[track_caller]
    fn action(&mut self) -> Action {
        self.next_action().expect("something to do")
    }

    #[track_caller]
    fn expect_nothing(&mut self) {
        if let Some(action) = self.next_action() {
            panic!("nothing was to be done, but {action:?}");
        }
    }

    #[track_caller]
    fn expect_resolve(&mut self) -> (ConnectionId, String) {
        match self.action() {
            Action::Resolve {
                connection,
                host,
                port,
            } => (connection, format!("{host}:{port}")),
            other => panic!("a host was to be resolved, but {other:?}"),
        }
    }

    #[track_caller]
    fn expect_connect(&mut self) -> (ConnectionId, SocketAddr) {
        match self.action() {
            Action::Connect {
                connection,
                address,
                ..
            } => (connection, address),
            other => panic!("a connection was to be opened, but {other:?}"),
        }
    }

    #[track_caller]
    fn expect_close(&mut self) -> (ConnectionId, String) {
        match self.action() {
            Action::Close { connection, why } => (connection, why),
            other => panic!("a connection was to be closed, but {other:?}"),
        }
    }

    #[track_caller]
    fn expect_send(&mut self) -> Sent {
        match self.action() {
            Action::Send(connection, frame) => read_request(connection, &frame),
            other => panic!("a request was to be sent, but {other:?}"),
        }
    }

    #[track_caller]
    fn expect_finished(&mut self) -> (RequestId, Result<Outcome, Error>) {
        match self.action() {
            Action::Finished(request, outcome) => (request, outcome),
            other => panic!("a request was to be finished, but {other:?}"),
        }
    }

    fn resolved(&mut self, id: ConnectionId, addresses: &[&str]) {
        let addresses = addresses.iter().map(|a| a.parse().unwrap()).collect();
        self.core.resolved(self.now, id, Ok(addresses));
    }

    /// Resolves, connects and agrees on every version; returns the open connection.
    #[track_caller]
    fn open(&mut self) -> ConnectionId {
        let (id, _) = self.expect_resolve();
        self.resolved(id, &["10.0.0.1:9092"]);
        let (id, _) = self.expect_connect();
        self.core.connected(self.now, id);
        self.agree();
        id
    }

    #[track_caller]
    fn agree(&mut self) {
        let asked = self.expect_send();
        assert_eq!(asked.api(), ApiKey::ApiVersions);
        self.core.written(self.now, asked.connection);
        self.answer::<ApiVersionsRequest>(&asked, &every_version());
    }

    fn answer<R: Request>(&mut self, sent: &Sent, response: &R::Response) {
        let (version, id) = (sent.header.api_version, sent.header.correlation_id);
        self.answer_as::<R>(sent.connection, response, version, id);
    }

    fn answer_as<R: Request>(
        &mut self,
        connection: ConnectionId,
        response: &R::Response,
        version: i16,
        correlation_id: i32,
    ) {
        let frame = encode_response::<R>(response, version, correlation_id).unwrap();
        self.core.frame(self.now, connection, whole(&frame));
    }

    /// Lets time pass, stopping at every timer on the way.
    fn pass_ms(&mut self, ms: u64) {
        let end = self.now.monotonic_us + ms * 1000;
        for _ in 0..1000 {
            self.actions
                .extend(std::iter::from_fn(|| self.core.action(self.now)));
            let next = self.core.next_timeout().map(|(at, _)| at);
            let Some(at) = next.filter(|at| *at <= end) else {
                self.now.monotonic_us = end;
                return;
            };
            self.now.monotonic_us = self.now.monotonic_us.max(at);
            self.core.timeout(self.now);
        }
        panic!("{:?} never ends", self.core.next_timeout());
    }
}

fn read_request(connection: ConnectionId, frame: &Frame) -> Sent {
    let mut body = whole(frame);
    let header = decode_request_header(&mut body).unwrap();
    Sent {
        connection,
        header,
        body,
    }
}

/// The frame without its length prefix.
fn whole(frame: &Frame) -> Bytes {
    let mut bytes = BytesMut::from(&frame.head[4..]);
    for part in &frame.parts {
        bytes.extend_from_slice(part);
    }
    bytes.freeze()
}

fn metadata_body() -> Body {
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    Body::Metadata(request.with_allow_auto_topic_creation(false).into())
}

fn listed(api: ApiKey, min: i16, max: i16) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(api as i16)
        .with_min_version(min)
        .with_max_version(max)
}

fn every_version() -> ApiVersionsResponse {
    let apis = (0..100).filter_map(|key| ApiKey::try_from(key).ok());
    let ranges = apis.filter_map(|api| {
        let ours = client_versions(api)?;
        Some(listed(api, ours.min, ours.max))
    });
    ApiVersionsResponse::default().with_api_keys(ranges.collect())
}

/// A cluster of these brokers, each at `<name>-<id>:9092`.
fn cluster(brokers: &[(i32, &str)]) -> Cluster {
    let brokers = brokers.iter().map(|(id, name)| {
        let address = BrokerAddress {
            host: format!("{name}-{id}").into(),
            port: 9092,
            rack: None,
        };
        (BrokerId(*id), address)
    });
    Cluster {
        brokers: brokers.collect(),
        controller: Some(BrokerId(1)),
        ..Cluster::default()
    }
}

fn disconnected(result: &Result<Reply, CallError>) -> bool {
    let kind = result.as_ref().map_err(|error| &error.kind);
    matches!(kind, Err(CallErrorKind::Disconnected { .. }))
}
