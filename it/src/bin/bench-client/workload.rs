//! The records that every peer writes: the same keys and values in the same order, so that the sum of
//! their bytes tells whether all of them did the same work.

/// Distinct values.
const VALUES: usize = 1024;
/// Distinct keys.
const KEYS: usize = 1000;
/// The order of keys repeats after so many records.
const KEY_ORDER: usize = 8192;
/// A number repeats one of the last so many half of the time.
const RECENT: usize = 32;
const SEED: u64 = 0x7469_6465_7761_7463;

/// Keys `host-000000` to `host-000999`, values of fields such as `cpu07=14.163090128755364;`.
pub(crate) struct Workload {
    keys: Vec<String>,
    values: Vec<Vec<u8>>,
    key_order: Vec<usize>,
}

impl Workload {
    /// Values of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        let mut random = XorShift(SEED);
        let keys = (0..KEYS).map(|host| format!("host-{host:06}")).collect();
        let key_order = (0..KEY_ORDER)
            .map(|_| (random.next() % KEYS as u64) as usize)
            .collect();
        let mut recent = vec!["14.163090128755364".to_owned(); RECENT];
        let mut oldest = 0;
        let values = (0..VALUES)
            .map(|_| value(size, &mut random, &mut recent, &mut oldest))
            .collect();
        Self {
            keys,
            values,
            key_order,
        }
    }

    /// Key and value of record `index`.
    #[inline]
    pub(crate) fn record(&self, index: u64) -> (&[u8], &[u8]) {
        let key = self.key_order[index as usize % KEY_ORDER];
        (
            self.keys[key].as_bytes(),
            &self.values[index as usize % VALUES],
        )
    }

    /// Bytes and sum of the first `records`.
    pub(crate) fn totals(&self, records: u64) -> (u64, u64) {
        (0..records).map(|index| self.record(index)).fold(
            (0, 0),
            |(bytes, sum): (u64, u64), (key, value)| {
                let sum = sum
                    .wrapping_add(word_sum(key))
                    .wrapping_add(word_sum(value));
                (bytes + (key.len() + value.len()) as u64, sum)
            },
        )
    }
}

fn value(size: usize, random: &mut XorShift, recent: &mut [String], oldest: &mut usize) -> Vec<u8> {
    let mut text = String::with_capacity(size + RECENT);
    while text.len() < size {
        let drawn = random.next();
        let number = if drawn & 1 == 0 {
            recent[(drawn >> 8) as usize % RECENT].clone()
        } else {
            let digits = random.next();
            let fraction = (digits >> 8) % 1_000_000_000_000_000;
            let number = format!("{}.{fraction:015}", digits % 100);
            recent[*oldest % RECENT] = number.clone();
            *oldest += 1;
            number
        };
        text.push_str(&format!("cpu{:02}={number};", (drawn >> 16) % 16));
    }
    text.truncate(size);
    text.into_bytes()
}

/// The sum of the little-endian words of 8 bytes and of the bytes behind them: it touches every byte
/// and costs next to nothing.
#[inline]
pub(crate) fn word_sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let rest = rest.iter().map(|byte| u64::from(*byte));
    words.chain(rest).fold(0, u64::wrapping_add)
}

/// xorshift64*.
struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
