//! What members tell their leader and the leader tells them: the bytes of Kafka's consumer protocol
//! (`ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, versions 0 to 3). A newer
//! version is read as version 3, because versions only ever append.

use crate::by_topic::by_topic;
use crate::call::TopicPartition;
use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// What we write, which is what Java's client writes since 3.5.
const VERSION: i16 = 3;

/// What a member wants and has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics it subscribes to.
    pub topics: Vec<Arc<str>>,
    /// What its assignor adds.
    pub user_data: Option<Bytes>,
    /// What it was assigned before and still reads (version 1, KIP-429).
    pub owned: Vec<TopicPartition>,
    /// The generation in which it was (version 2); `None` where it was in none.
    pub generation: Option<i32>,
    /// Where it is (version 3, KIP-881).
    pub rack: Option<String>,
}

/// What a member is to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Its partitions.
    pub partitions: Vec<TopicPartition>,
    /// What the leader's assignor adds.
    pub user_data: Option<Bytes>,
}

/// Bytes that are no subscription or assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the consumer protocol's bytes end early or have an impossible length")]
pub struct Malformed;

impl Subscription {
    /// Its bytes, topics and owned partitions in order, as Java writes them.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        let mut topics = self.topics.clone();
        topics.sort_unstable();
        put_count(&mut out, topics.len());
        for topic in &topics {
            put_string(&mut out, topic);
        }
        put_bytes(&mut out, self.user_data.as_ref());
        let mut owned = self.owned.clone();
        owned.sort_unstable();
        put_partitions(&mut out, &owned);
        out.put_i32(self.generation.unwrap_or(-1));
        match &self.rack {
            Some(rack) => put_string(&mut out, rack),
            None => out.put_i16(-1),
        }
        out.freeze()
    }

    /// Reads any version.
    ///
    /// # Errors
    /// Bytes that end early, or a negative version.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader {
            rest: bytes.clone(),
        };
        let version = reader.version()?;
        let mut subscription = Self {
            topics: reader.topics()?,
            user_data: reader.bytes()?,
            ..Self::default()
        };
        if version >= 1 {
            subscription.owned = reader.partitions()?;
        }
        if version >= 2 {
            subscription.generation = Some(reader.i32()?).filter(|generation| *generation >= 0);
        }
        if version >= 3 {
            subscription.rack = reader.nullable_string()?.filter(|rack| !rack.is_empty());
        }
        Ok(subscription)
    }
}

impl Assignment {
    /// Of these partitions and nothing else.
    pub fn of(partitions: Vec<TopicPartition>) -> Self {
        Self {
            partitions,
            user_data: None,
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_i16(VERSION);
        put_partitions(&mut out, &self.partitions);
        put_bytes(&mut out, self.user_data.as_ref());
        out.freeze()
    }

    /// Reads any version. No bytes at all are what a coordinator sends to a member that its leader
    /// forgot: nothing to read.
    ///
    /// # Errors
    /// Bytes that end early, or a negative version.
    pub fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut reader = Reader {
            rest: bytes.clone(),
        };
        reader.version()?;
        Ok(Self {
            partitions: reader.partitions()?,
            user_data: reader.bytes()?,
        })
    }
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
}

pub(super) fn put_string(out: &mut BytesMut, text: &str) {
    // Topic names are at most 249 bytes long; the rest is the user's own and cut at what fits.
    let bytes = text.as_bytes();
    let size = bytes.len().min(i16::MAX as usize);
    out.put_i16(i16::try_from(size).unwrap_or(i16::MAX));
    out.extend_from_slice(bytes.get(..size).unwrap_or_default());
}

fn put_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => {
            put_count(out, bytes.len());
            out.extend_from_slice(bytes);
        }
        None => out.put_i32(-1),
    }
}

/// By topic, in the order in which topics and partitions first come.
pub(super) fn put_partitions(out: &mut BytesMut, partitions: &[TopicPartition]) {
    let partitions = partitions.iter().map(|partition| (partition.clone(), ()));
    let topics = by_topic(partitions);
    put_count(out, topics.len());
    for (topic, partitions) in topics {
        put_string(out, &topic);
        put_count(out, partitions.len());
        for (partition, ()) in partitions {
            out.put_i32(partition);
        }
    }
}

/// Reads the consumer protocol's types off the front. No count is believed: memory is taken as
/// elements are read.
pub(super) struct Reader {
    pub(super) rest: Bytes,
}

impl Reader {
    fn take(&mut self, size: usize) -> Result<Bytes, Malformed> {
        if size > self.rest.len() {
            return Err(Malformed);
        }
        Ok(self.rest.split_to(size))
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        let bytes = self.take(2)?;
        bytes
            .as_ref()
            .try_into()
            .map(i16::from_be_bytes)
            .map_err(|_| Malformed)
    }

    pub(super) fn i32(&mut self) -> Result<i32, Malformed> {
        let bytes = self.take(4)?;
        bytes
            .as_ref()
            .try_into()
            .map(i32::from_be_bytes)
            .map_err(|_| Malformed)
    }

    fn version(&mut self) -> Result<i16, Malformed> {
        let version = self.i16()?;
        (version >= 0).then_some(version).ok_or(Malformed)
    }

    fn count(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.i32()?).map_err(|_| Malformed)
    }

    fn nullable_string(&mut self) -> Result<Option<String>, Malformed> {
        let size = self.i16()?;
        if size < 0 {
            return Ok(None);
        }
        let bytes = self.take(usize::from(size.unsigned_abs()))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Malformed)?;
        Ok(Some(text.to_owned()))
    }

    fn string(&mut self) -> Result<Arc<str>, Malformed> {
        let text = self.nullable_string()?.ok_or(Malformed)?;
        Ok(Arc::from(text))
    }

    fn bytes(&mut self) -> Result<Option<Bytes>, Malformed> {
        match self.i32()? {
            ..0 => Ok(None),
            size => self
                .take(usize::try_from(size).map_err(|_| Malformed)?)
                .map(Some),
        }
    }

    fn topics(&mut self) -> Result<Vec<Arc<str>>, Malformed> {
        let count = self.count()?;
        (0..count).map(|_| self.string()).collect()
    }

    pub(super) fn partitions(&mut self) -> Result<Vec<TopicPartition>, Malformed> {
        let mut partitions = Vec::new();
        for _ in 0..self.count()? {
            let topic = self.string()?;
            for _ in 0..self.count()? {
                partitions.push(TopicPartition::new(Arc::clone(&topic), self.i32()?));
            }
        }
        Ok(partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subscription() -> Subscription {
        Subscription {
            topics: vec!["b".into(), "a".into()],
            user_data: Some(Bytes::from_static(b"u")),
            owned: vec![TopicPartition::new("b", 1), TopicPartition::new("a", 0)],
            generation: Some(7),
            rack: Some("r".to_owned()),
        }
    }

    #[test]
    fn a_subscription_is_written_in_order_and_read_back() {
        let bytes = subscription().encode();
        let read = Subscription::decode(&bytes).unwrap();
        assert_eq!(read.topics, ["a".into(), "b".into()] as [Arc<str>; 2]);
        assert_eq!(
            read.owned,
            [TopicPartition::new("a", 0), TopicPartition::new("b", 1)]
        );
        assert_eq!(
            (read.generation, read.rack.as_deref()),
            (Some(7), Some("r"))
        );
        assert_eq!(read.user_data, subscription().user_data);
    }

    #[test]
    fn older_versions_end_earlier_and_newer_ones_later() {
        // Version 0: one topic, no user data.
        let v0 = Bytes::from_static(&[0, 0, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff]);
        let read = Subscription::decode(&v0).unwrap();
        assert_eq!((read.topics, read.generation), (vec!["t".into()], None));
        let mut newer = BytesMut::from(&subscription().encode()[..]);
        newer[1] = 9;
        newer.extend_from_slice(b"more");
        assert!(Subscription::decode(&newer.freeze()).is_ok());
    }

    #[test]
    fn line_33_whatever_a_member_sends_ends_and_takes_little_memory() {
        let huge = [0, 0, 0x7f, 0xff, 0xff, 0xff];
        assert_eq!(
            Subscription::decode(&Bytes::copy_from_slice(&huge)),
            Err(Malformed)
        );
        assert_eq!(
            Assignment::decode(&Bytes::copy_from_slice(&huge)),
            Err(Malformed)
        );
        let whole = subscription().encode();
        for end in 0..whole.len() {
            assert_eq!(
                Subscription::decode(&whole.slice(..end)),
                Err(Malformed),
                "{end}"
            );
        }
    }

    #[test]
    fn an_assignment_keeps_its_order_and_none_at_all_is_empty() {
        let partitions = vec![
            TopicPartition::new("b", 2),
            TopicPartition::new("a", 0),
            TopicPartition::new("b", 1),
        ];
        let read = Assignment::decode(&Assignment::of(partitions).encode()).unwrap();
        let together = [("b", 2), ("b", 1), ("a", 0)].map(|(t, p)| TopicPartition::new(t, p));
        assert_eq!(read.partitions, together);
        assert_eq!(Assignment::decode(&Bytes::new()), Ok(Assignment::default()));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = (Subscription::decode(&bytes), Assignment::decode(&bytes));
        }
    }
}
