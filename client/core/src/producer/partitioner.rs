//! Which partition a record without one goes to: Java's murmur2 for keys, sticky without (KIP-794).

use crate::metadata::Partition;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Chooses partitions in place of the default.
pub trait Partitioner: Send + Sync + std::fmt::Debug {
    /// A partition below `partition_count` (at least 1); `None` leaves the record to the default.
    /// One out of range is refused as an unknown partition.
    fn partition(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        partition_count: usize,
    ) -> Option<i32>;
}

/// The partition of a key, as Java's `BuiltInPartitioner.partitionForKey`.
pub fn partition_for_key(key: &[u8], partition_count: usize) -> i32 {
    let positive = murmur2(key) & i32::MAX;
    let count = i32::try_from(partition_count).unwrap_or(i32::MAX).max(1);
    positive % count
}

/// Kafka's murmur2 (`Utils.murmur2`): 32 bits, its own seed, tail bytes unsigned.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    // Java's length is an i32; no record is longer.
    let mut hash = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let last = tail
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ hash >> 15) as i32
}

/// The partition that keyless records stick to, until a batch's worth of them went there.
#[derive(Debug)]
pub(crate) struct Sticky {
    /// -1 before the partitions are known.
    partition: AtomicI32,
    /// Partitions with a leader, or all where none has one.
    choices: Mutex<Vec<i32>>,
}

impl Default for Sticky {
    fn default() -> Self {
        Self {
            partition: AtomicI32::new(-1),
            choices: Mutex::default(),
        }
    }
}

impl Sticky {
    #[inline]
    pub(crate) fn partition(&self) -> i32 {
        self.partition.load(Ordering::Relaxed)
    }

    /// Another one, at random; each is as likely (KIP-794).
    pub(crate) fn switch(&self, random: &Random) {
        let choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
        let index = (random.next() as usize).checked_rem(choices.len());
        if let Some(partition) = index.and_then(|index| choices.get(index)) {
            self.partition.store(*partition, Ordering::Relaxed);
        }
    }

    pub(crate) fn choose_among(&self, partitions: &[Partition]) {
        let mut choices = self.choices.lock().unwrap_or_else(PoisonError::into_inner);
        let numbered = || partitions.iter().zip(0_i32..);
        let led = numbered().filter(|(partition, _)| partition.leader.is_some());
        *choices = led.map(|(_, number)| number).collect();
        if choices.is_empty() {
            *choices = numbered().map(|(_, number)| number).collect();
        }
        if let Some(first) = choices
            .first()
            .filter(|_| !choices.contains(&self.partition()))
        {
            self.partition.store(*first, Ordering::Relaxed);
        }
    }
}

/// Random numbers from a seed, for many threads (splitmix64).
#[derive(Debug, Default)]
pub(crate) struct Random(AtomicU64);

impl Random {
    pub(crate) fn seed(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }

    pub(crate) fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key, `Utils.murmur2` and `Utils.toPositive(hash) % 6` as Kafka 4.3.1's clients print them.
    const GOLDEN: [(&[u8], i32, i32); 22] = [
        (b"", 275_646_681, 3),
        (b"a", -1_563_381_124, 4),
        (b"ab", 316_155_434, 2),
        (b"abc", 479_470_107, 3),
        (b"abcd", -1_323_649_548, 2),
        (b"abcde", 461_995_741, 1),
        (b"abcdef", 1_870_650_108, 0),
        (b"abcdefg", -346_467_175, 1),
        (b"host-0001.example.org", 954_576_806, 2),
        (b"21", -973_932_308, 0),
        (b"foobar", -790_332_482, 0),
        (b"a-little-bit-long-string", -985_981_536, 2),
        (b"a-little-bit-longer-string", -1_486_304_829, 5),
        (
            b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
            -58_897_971,
            5,
        ),
        ("ütf-8 ☃".as_bytes(), 591_266_063, 5),
        (&[0xff], -311_467_685, 3),
        (&[0xff, 0x80], -442_788_720, 2),
        (&[0xff, 0x80, 0], -616_959_190, 4),
        (&[0xff, 0x80, 0, 0xfe], 218_625_671, 5),
        (&[0xff, 0x80, 0, 0xfe, 0x81], 1_700_763_136, 4),
        (&[0xff, 0x80, 0, 0xfe, 0x81, 0xff], -119_747_842, 4),
        (&[0xff, 0x80, 0, 0xfe, 0x81, 0xff, 0x90], -126_208_829, 3),
    ];

    #[test]
    fn line_13_keys_go_where_java_sends_them() {
        for (key, hash, partition) in GOLDEN {
            assert_eq!(murmur2(key), hash, "{key:?}");
            assert_eq!(partition_for_key(key, 6), partition, "{key:?}");
        }
    }

    #[test]
    fn line_13_two_thousand_generated_keys_hash_to_javas_checksum() {
        // Java: acc = acc * 31 + murmur2(key) over keys of 0 to 36 bytes n * 31 + i * 17.
        let mut sum = 0_i32;
        for n in 0..2000_usize {
            let key: Vec<u8> = (0..n % 37).map(|i| (n * 31 + i * 17) as u8).collect();
            sum = sum.wrapping_mul(31).wrapping_add(murmur2(&key));
        }
        assert_eq!(sum, 549_850_397);
    }

    #[test]
    fn sticky_choices_spread_evenly() {
        let partition = Partition {
            leader: None,
            leader_epoch: 0,
            replicas: Vec::new(),
            in_sync_replicas: Vec::new(),
        };
        let (sticky, random) = (Sticky::default(), Random::default());
        sticky.choose_among(&vec![partition; 4]);
        let mut seen = [0; 4];
        for _ in 0..4000 {
            seen[usize::try_from(sticky.partition()).unwrap()] += 1;
            sticky.switch(&random);
        }
        assert!(
            seen.iter().all(|count| (800..1200).contains(count)),
            "{seen:?}"
        );
    }
}
