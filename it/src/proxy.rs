//! A proxy before a broker: it passes frames through, notes which versions of which APIs were asked
//! for, can make a newer broker pose as an older one, and can lose answers.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tidewatch_broker::Apis;
use tidewatch_protocol::api::Versions;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::frame::{MAX_FETCH_FRAME_BYTES, frame_length};
use tidewatch_protocol::header::{RequestHeader, decode_request_header, peek_correlation_id};
use tidewatch_protocol::message::{decode_api_versions, encode_response};
use tidewatch_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

/// Listens for as long as the test's process lives.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    rules: Arc<Rules>,
}

/// Versions by API key.
pub type Asked = BTreeMap<i16, BTreeSet<i16>>;

#[derive(Debug)]
struct Rules {
    broker: String,
    /// What the broker is to pose as; as itself where there is nothing.
    pose: Option<Apis>,
    asked: Mutex<Asked>,
    /// Which API's answers are lost, and how many more.
    losing: Mutex<(i16, usize)>,
}

impl Proxy {
    /// Listens on `port` of 127.0.0.1 before the broker at `broker`, whose advertised address must be
    /// this one. With `pose` the broker speaks of each API what it and `pose` have in common, and
    /// behaves beyond that as Kafka does.
    ///
    /// # Panics
    /// If the port is taken.
    pub fn start(port: u16, broker: &str, pose: Option<Apis>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the proxy's port is free");
        let rules = Arc::new(Rules {
            broker: broker.to_owned(),
            pose,
            asked: Mutex::default(),
            losing: Mutex::default(),
        });
        let shared = Arc::clone(&rules);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A broker that is away is a connection that ends.
                if let Ok(broker) = TcpStream::connect(&shared.broker) {
                    let _ = carry(client, broker, &shared);
                }
            }
        });
        Self {
            address: format!("127.0.0.1:{port}"),
            rules,
        }
    }

    /// For `bootstrap.servers`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Of the next requests to `api` that many are carried out and their answers lost: in the place of
    /// each the client's connection ends. A later call takes the place of an earlier one.
    pub fn lose_answers(&self, api: ApiKey, count: usize) {
        *self.rules.losing.lock().unwrap() = (api as i16, count);
    }

    /// Whether as many answers were lost as [`lose_answers`](Self::lose_answers) said.
    pub fn has_lost_all(&self) -> bool {
        self.rules.losing.lock().unwrap().1 == 0
    }

    /// What was asked for so far, what was refused included.
    pub fn asked(&self) -> Asked {
        self.rules.asked.lock().unwrap().clone()
    }
}

/// Starts two threads that end with the connection, one for each direction.
fn carry(client: TcpStream, broker: TcpStream, rules: &Arc<Rules>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let ways = Arc::new(Ways {
        client: Mutex::new(client.try_clone()?),
        unanswered: Mutex::default(),
        lost: Mutex::default(),
        rules: Arc::clone(rules),
    });
    let (from_client, from_broker) = (client, broker.try_clone()?);
    let other = Arc::clone(&ways);
    std::thread::spawn(move || {
        let _ = ways.carry_requests(&from_client, &broker);
        let _ = (
            from_client.shutdown(Shutdown::Both),
            broker.shutdown(Shutdown::Both),
        );
    });
    std::thread::spawn(move || {
        let _ = other.carry_responses(&from_broker);
        let client = other.client.lock().unwrap();
        let _ = (
            client.shutdown(Shutdown::Both),
            from_broker.shutdown(Shutdown::Both),
        );
    });
    Ok(())
}

/// What both directions of a connection share.
struct Ways {
    client: Mutex<TcpStream>,
    /// ApiVersions requests that the broker has not answered: their version by correlation id.
    unanswered: Mutex<BTreeMap<i32, i16>>,
    /// Correlation ids of requests whose answers are to be lost.
    lost: Mutex<BTreeSet<i32>>,
    rules: Arc<Rules>,
}

/// What becomes of a request.
enum Verdict {
    Pass,
    /// A newer ApiVersions than the pose's: answered with error 35 in a body of version 0 (line 36).
    Refuse,
    /// Any other version than the pose's ends the connection, as with Kafka.
    Close,
}

impl Ways {
    fn carry_requests(&self, mut client: &TcpStream, mut broker: &TcpStream) -> Failable<()> {
        while let Some(frame) = read_frame(&mut client)? {
            let header = decode_request_header(&mut frame.slice(4..))?;
            match self.rules.judge(&header) {
                Verdict::Pass => {
                    if header.api_key == API_VERSIONS {
                        let mut unanswered = self.unanswered.lock().unwrap();
                        unanswered.insert(header.correlation_id, header.api_version);
                    }
                    if self.rules.loses(header.api_key) {
                        self.lost.lock().unwrap().insert(header.correlation_id);
                    }
                    broker.write_all(&frame)?;
                }
                Verdict::Refuse => {
                    // Brokers before 2.4 do not say which versions they have (KIP-511).
                    let refusal = ApiVersionsResponse::default()
                        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0);
                    self.answer(&refusal, 0, header.correlation_id)?;
                }
                Verdict::Close => return Ok(()),
            }
        }
        Ok(())
    }

    fn carry_responses(&self, mut broker: &TcpStream) -> Failable<()> {
        while let Some(frame) = read_frame(&mut broker)? {
            let body = frame.slice(4..);
            let correlation_id = peek_correlation_id(&body)?;
            if self.lost.lock().unwrap().contains(&correlation_id) {
                return Ok(());
            }
            let version = self.unanswered.lock().unwrap().remove(&correlation_id);
            match (version, &self.rules.pose) {
                (Some(version), Some(pose)) => {
                    let (_, mut response) = decode_api_versions(body, version)?;
                    clip(&mut response, pose);
                    self.answer(&response, version, correlation_id)?;
                }
                _ => self.client.lock().unwrap().write_all(&frame)?,
            }
        }
        Ok(())
    }

    fn answer(
        &self,
        response: &ApiVersionsResponse,
        version: i16,
        correlation_id: i32,
    ) -> Failable<()> {
        let frame = encode_response::<ApiVersionsRequest>(response, version, correlation_id)?;
        let mut client = self.client.lock().unwrap();
        Ok(client.write_all(&frame.to_bytes())?)
    }
}

impl Rules {
    /// Whether the answer to this request is one of those to be lost.
    fn loses(&self, api_key: i16) -> bool {
        let (losing, left) = &mut *self.losing.lock().unwrap();
        let loses = *losing == api_key && *left > 0;
        *left -= usize::from(loses);
        loses
    }

    fn judge(&self, header: &RequestHeader) -> Verdict {
        let (key, version) = (header.api_key, header.api_version);
        let mut asked = self.asked.lock().unwrap();
        asked.entry(key).or_default().insert(version);
        let Some(pose) = &self.pose else {
            return Verdict::Pass;
        };
        match pose.range(key) {
            Some(range) if range.contains(version) => Verdict::Pass,
            _ if key == API_VERSIONS => Verdict::Refuse,
            _ => Verdict::Close,
        }
    }
}

/// Leaves of each range what `pose` has too.
fn clip(response: &mut ApiVersionsResponse, pose: &Apis) {
    response.api_keys.retain_mut(|api| {
        let Some(Versions { min, max }) = pose.range(api.api_key) else {
            return false;
        };
        api.min_version = api.min_version.max(min);
        api.max_version = api.max_version.min(max);
        api.min_version <= api.max_version
    });
}

type Failable<T> = Result<T, Box<dyn std::error::Error>>;

/// A whole frame, its length in front; nothing at the stream's end.
fn read_frame(stream: &mut impl Read) -> Failable<Option<Bytes>> {
    let mut frame = vec![0; 4];
    if stream.read(&mut frame[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut frame[1..])?;
    let length = frame_length(&frame, MAX_FETCH_FRAME_BYTES)?.expect("four bytes are there");
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(Some(frame.into()))
}
