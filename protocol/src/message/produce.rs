//! Produce requests whose record sets are not copied, written by hand for that reason.

use super::{EncodeError, finish};
use crate::compression::Compression;
use crate::frame::{Frame, LENGTH_PREFIX_BYTES};
use crate::header::{MAX_REQUEST_HEADER_BYTES, encode_request_header};
use crate::messages::ApiKey;
use bytes::{BufMut, Bytes, BytesMut};

/// A Produce request whose record sets go out uncopied (`Frame::parts`).
/// Written by hand, because the encoder of `kafka-protocol` copies them.
#[derive(Debug, Clone, Default)]
pub struct ProduceFrame {
    /// Null unless transactional.
    pub transactional_id: Option<String>,
    /// -1, 0 or 1.
    pub acks: i16,
    /// How long the broker may wait for its replicas.
    pub timeout_ms: i32,
    /// The record sets by topic.
    pub topics: Vec<ProduceTopic>,
}

/// One topic of a [`ProduceFrame`].
#[derive(Debug, Clone, Default)]
pub struct ProduceTopic {
    /// Used up to version 12.
    pub name: String,
    /// Used from version 13 on; never nil there (line 37).
    pub id: uuid::Uuid,
    /// Partition and its record set in pieces (batch header, records, ...).
    pub partitions: Vec<(i32, Vec<Bytes>)>,
}

/// The first version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 9;
/// The first version that names topics by id (KIP-516).
const TOPIC_IDS: i16 = 13;
/// The first version that may carry zstd (KIP-110).
const ZSTD: i16 = 7;
const OLDEST: i16 = 3;
const NEWEST: i16 = 13;

/// Where the low byte of a batch's attributes is, and its bits that name the codec.
const ATTRIBUTES_LOW_BYTE: usize = 22;
const CODEC_BITS: u8 = 0b111;

/// The most that a partition takes besides its records: index, length, tags.
const PARTITION_BYTES: usize = 10;
/// The most that a topic takes besides name and partitions: id or length, count, tags.
const TOPIC_BYTES: usize = 24;
/// The most that the request takes besides its id and its topics.
const REQUEST_BYTES: usize = 24;

impl ProduceFrame {
    /// The frame for `version` (3 to 13).
    ///
    /// # Errors
    /// A version out of range, a name or record set too long, zstd below 7 (line 53), from 13 on a
    /// nil topic id (line 37).
    pub fn encode(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: &str,
    ) -> Result<Frame, EncodeError> {
        self.assemble(version, correlation_id, client_id)
            .map_err(|why| EncodeError {
                api: ApiKey::Produce,
                version,
                why,
            })
    }

    fn assemble(
        &self,
        version: i16,
        correlation_id: i32,
        client_id: &str,
    ) -> Result<Frame, String> {
        if !(OLDEST..=NEWEST).contains(&version) {
            return Err(format!("only versions {OLDEST} to {NEWEST} are known"));
        }
        let mut out = Pieces::new(self.glue_size_bytes(client_id), version >= FLEXIBLE);
        out.glue.put_i32(0);
        encode_request_header(
            &mut out.glue,
            ApiKey::Produce,
            version,
            correlation_id,
            client_id,
        )?;
        out.put_string(self.transactional_id.as_deref())?;
        out.glue.put_i16(self.acks);
        out.glue.put_i32(self.timeout_ms);
        out.put_length(self.topics.len(), "topics")?;
        for topic in &self.topics {
            if version < TOPIC_IDS {
                out.put_string(Some(&topic.name))?;
            } else if topic.id.is_nil() {
                return Err(format!("the id of topic {} is not known", topic.name));
            } else {
                out.glue.put_slice(topic.id.as_bytes());
            }
            out.put_length(topic.partitions.len(), "partitions")?;
            for (index, records) in &topic.partitions {
                if version < ZSTD && is_zstd(records) {
                    return Err(format!(
                        "zstd needs version {ZSTD}, which brokers have from 2.1 on: choose another compression.type"
                    ));
                }
                out.glue.put_i32(*index);
                out.put_length(records.iter().map(Bytes::len).sum(), "records")?;
                out.put_records(records);
                out.put_no_tags();
            }
            out.put_no_tags();
        }
        out.put_no_tags();
        out.finish()
    }

    /// Enough for everything but the records, so that it is allocated once.
    fn glue_size_bytes(&self, client_id: &str) -> usize {
        let topics = self.topics.iter();
        let topics =
            topics.map(|t| TOPIC_BYTES + t.name.len() + t.partitions.len() * PARTITION_BYTES);
        LENGTH_PREFIX_BYTES
            + MAX_REQUEST_HEADER_BYTES
            + client_id.len()
            + REQUEST_BYTES
            + self.transactional_id.as_ref().map_or(0, String::len)
            + topics.sum::<usize>()
    }
}

/// Whether a record set begins with a batch compressed by zstd. A batch's header is never cut.
fn is_zstd(records: &[Bytes]) -> bool {
    let attributes = records
        .first()
        .and_then(|first| first.get(ATTRIBUTES_LOW_BYTE));
    attributes.is_some_and(|low| low & CODEC_BITS == Compression::Zstd as u8)
}

/// The frame as it grows: glue that we write, and record sets that are only passed on.
struct Pieces {
    glue: BytesMut,
    flexible: bool,
    /// Everything up to the first record set; its length prefix is still to be written.
    head: Option<BytesMut>,
    parts: Vec<Bytes>,
}

impl Pieces {
    fn new(capacity: usize, flexible: bool) -> Self {
        Self {
            glue: BytesMut::with_capacity(capacity),
            flexible,
            head: None,
            parts: Vec::new(),
        }
    }

    /// A length or count, compact (plus one) in flexible versions.
    fn put_length(&mut self, length: usize, what: &str) -> Result<(), String> {
        let length = i32::try_from(length).map_err(|_| format!("{length} {what} are too many"))?;
        if self.flexible {
            self.put_unsigned_varint(length.unsigned_abs() + 1);
        } else {
            self.glue.put_i32(length);
        }
        Ok(())
    }

    fn put_string(&mut self, text: Option<&str>) -> Result<(), String> {
        let length = text.map_or(Ok(-1), |t| i16::try_from(t.len()));
        let length = length.map_err(|_| format!("a string is longer than {} bytes", i16::MAX))?;
        if self.flexible {
            self.put_unsigned_varint((i32::from(length) + 1).unsigned_abs());
        } else {
            self.glue.put_i16(length);
        }
        self.glue.put_slice(text.unwrap_or_default().as_bytes());
        Ok(())
    }

    fn put_records(&mut self, records: &[Bytes]) {
        let pieces = records.iter().filter(|piece| !piece.is_empty());
        for (index, piece) in pieces.enumerate() {
            if index == 0 {
                self.cut();
            }
            self.parts.push(piece.clone());
        }
    }

    fn put_no_tags(&mut self) {
        if self.flexible {
            self.glue.put_u8(0);
        }
    }

    fn put_unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.glue.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.glue.put_u8(value as u8);
    }

    /// Ends the piece of glue that was being written.
    fn cut(&mut self) {
        let piece = self.glue.split();
        if self.head.is_none() {
            self.head = Some(piece);
        } else if !piece.is_empty() {
            self.parts.push(piece.freeze());
        }
    }

    fn finish(mut self) -> Result<Frame, String> {
        self.cut();
        finish(self.head.unwrap_or_default(), self.parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StrBytes;
    use crate::message::encode_request;
    use crate::messages::ProduceRequest;
    use crate::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use uuid::Uuid;

    fn two_topics() -> ProduceFrame {
        let piece = |byte: u8, size: usize| Bytes::from(vec![byte; size]);
        let topic = |name: &str, id: u128, partitions: Vec<(i32, Vec<Bytes>)>| ProduceTopic {
            name: name.to_owned(),
            id: Uuid::from_u128(id),
            partitions,
        };
        ProduceFrame {
            transactional_id: None,
            acks: -1,
            timeout_ms: 30_000,
            topics: vec![
                topic(
                    "cpu-monitor",
                    7,
                    vec![
                        (0, vec![piece(1, 61), piece(2, 300)]),
                        (5, vec![piece(3, 1)]),
                        (6, vec![]),
                        (7, vec![piece(4, 0)]),
                    ],
                ),
                topic("mem-monitor", 8, vec![(i32::MAX, vec![piece(5, 70_000)])]),
                topic("empty", 9, vec![]),
            ],
        }
    }

    /// The same request in the structs of `kafka-protocol`, whose encoder is the oracle.
    fn oracle(ours: &ProduceFrame, version: i16) -> ProduceRequest {
        let partition = |(index, records): &(i32, Vec<Bytes>)| {
            PartitionProduceData::default()
                .with_index(*index)
                .with_records(Some(Bytes::from(records.concat())))
        };
        let topic = |topic: &ProduceTopic| {
            let data = TopicProduceData::default()
                .with_partition_data(topic.partitions.iter().map(partition).collect());
            if version >= TOPIC_IDS {
                data.with_topic_id(topic.id)
            } else {
                data.with_name(StrBytes::from_string(topic.name.clone()).into())
            }
        };
        let id = ours
            .transactional_id
            .clone()
            .map(|id| StrBytes::from_string(id).into());
        ProduceRequest::default()
            .with_transactional_id(id)
            .with_acks(ours.acks)
            .with_timeout_ms(ours.timeout_ms)
            .with_topic_data(ours.topics.iter().map(topic).collect())
    }

    #[test]
    fn line_53_zstd_is_refused_below_version_7_with_the_remedy() {
        use crate::records::{BatchBuilder, ProducerStamp};
        let frame = |codec| {
            let mut batch = BatchBuilder::with_capacity(100);
            batch.append(1, None, Some(b"value"), &[]);
            let sealed = batch.seal().compress(codec).unwrap();
            let records = sealed.stamp(ProducerStamp::NONE).to_vec();
            ProduceFrame {
                topics: vec![ProduceTopic {
                    name: "t".to_owned(),
                    id: Uuid::from_u128(1),
                    partitions: vec![(0, records)],
                }],
                ..ProduceFrame::default()
            }
        };
        let refused = frame(Compression::Zstd).encode(6, 1, "c").unwrap_err();
        assert!(refused.why.contains("compression.type"), "{refused}");
        assert!(frame(Compression::Zstd).encode(7, 1, "c").is_ok());
        assert!(frame(Compression::Lz4).encode(6, 1, "c").is_ok());
    }

    #[test]
    fn a_produce_frame_equals_the_generated_encoder_byte_for_byte_at_every_version() {
        let transactional = ProduceFrame {
            transactional_id: Some("t".repeat(200)),
            acks: 1,
            ..two_topics()
        };
        for ours in [two_topics(), transactional, ProduceFrame::default()] {
            for version in OLDEST..=NEWEST {
                let frame = ours.encode(version, 42, "agent").unwrap();
                let expected =
                    encode_request(&oracle(&ours, version), version, 42, "agent").unwrap();
                assert_eq!(frame.to_bytes(), expected.to_bytes(), "version {version}");
                let length = i32::from_be_bytes(frame.head[..4].try_into().unwrap());
                assert_eq!(length as usize + 4, frame.size_bytes());
            }
        }
    }

    #[test]
    fn record_sets_go_out_uncopied() {
        let ours = two_topics();
        let frame = ours.encode(12, 1, "agent").unwrap();
        for piece in ours
            .topics
            .iter()
            .flat_map(|t| &t.partitions)
            .flat_map(|(_, r)| r)
        {
            let passed_on = frame
                .parts
                .iter()
                .any(|part| part.as_ptr() == piece.as_ptr());
            assert!(
                passed_on || piece.is_empty(),
                "{} bytes were copied",
                piece.len()
            );
        }
    }

    #[test]
    fn line_37_a_zero_topic_id_is_never_sent() {
        let mut ours = two_topics();
        ours.topics[1].id = Uuid::nil();
        assert!(ours.encode(12, 1, "agent").is_ok());
        let refused = ours.encode(13, 1, "agent").unwrap_err();
        assert!(refused.to_string().contains("mem-monitor"), "{refused}");
        assert!(encode_request(&oracle(&ours, 13), 13, 1, "agent").is_err());
    }

    #[test]
    fn versions_that_are_not_known_are_refused() {
        for version in [-1, 0, 2, 14, i16::MAX] {
            assert!(two_topics().encode(version, 1, "agent").is_err());
        }
    }
}
