//! Any interleaving of appends, polls, answers and losses.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Append {
        partition: i32,
        size: usize,
    },
    Poll,
    /// The broker carries out the oldest request; `lost`: nobody hears of it.
    Serve {
        lost: bool,
    },
    /// The oldest request never gets there.
    Drop,
    Pass {
        us: u64,
    },
    Move,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3_i32, 0..600_usize).prop_map(|(partition, size)| Step::Append { partition, size }),
        4 => Just(Step::Poll),
        3 => any::<bool>().prop_map(|lost| Step::Serve { lost }),
        1 => Just(Step::Drop),
        3 => (0..200_000_u64).prop_map(|us| Step::Pass { us }),
        1 => Just(Step::Move),
    ]
}

/// A broker's log of one partition, with the sequence it waits for and the last five batches.
#[derive(Debug, Default)]
struct Log {
    values: Vec<String>,
    producer: Option<(i64, i16)>,
    next: i32,
    batches: Vec<(i32, i64)>,
}

impl Log {
    fn append(&mut self, stamp: Stamp, values: Vec<String>) -> PartitionProduceResponse {
        let (id, epoch, sequence) = stamp;
        if self.producer != Some((id, epoch)) {
            if self.producer.is_some() && sequence != 0 {
                return refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            *self = Self {
                values: std::mem::take(&mut self.values),
                ..Self::default()
            };
            (self.producer, self.next) = (Some((id, epoch)), sequence);
        }
        let known = self
            .batches
            .iter()
            .rev()
            .take(5)
            .find(|(first, _)| *first == sequence);
        if let Some((_, offset)) = known {
            return written_at(*offset);
        }
        if sequence != self.next {
            return refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        let offset = self.values.len() as i64;
        self.batches.push((sequence, offset));
        self.next += values.len() as i32;
        self.values.extend(values);
        written_at(offset)
    }
}

struct World {
    scene: Scene,
    logs: BTreeMap<i32, Log>,
    calls: Vec<Produce>,
    sent: BTreeMap<i32, Vec<(String, Delivery)>>,
    epoch: i32,
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Append { partition, size } => {
                let count = self.sent.values().map(Vec::len).sum::<usize>();
                let value = format!("{count:04}{}", "x".repeat(size));
                if let Ok(appended) = self
                    .scene
                    .accumulator
                    .append(self.scene.now, record(partition, &value))
                {
                    self.sent
                        .entry(partition)
                        .or_default()
                        .push((value, appended.delivery));
                }
            }
            Step::Poll => self.calls.extend(self.scene.produces()),
            Step::Serve { lost } => self.serve(lost),
            Step::Drop if !self.calls.is_empty() => {
                let call = self.calls.remove(0);
                self.scene.lose(&call, false);
            }
            Step::Drop => {}
            Step::Pass { us } => self.scene.pass(us),
            Step::Move => {
                self.epoch += 1;
                self.scene.leaders = vec![Some((1 + self.epoch % 2, self.epoch)); 3];
                self.scene.publish();
            }
        }
    }

    fn serve(&mut self, lost: bool) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.remove(0);
        let mut answers = BTreeMap::new();
        for (partition, header, records) in &call.batches {
            let values = records.clone().map(|record| record.unwrap().value.unwrap());
            let values = values
                .map(|value| String::from_utf8(value.to_vec()).unwrap())
                .collect();
            let stamp = (
                header.producer_id,
                header.producer_epoch,
                header.base_sequence,
            );
            let log = self.logs.entry(*partition).or_default();
            answers.insert(*partition, log.append(stamp, values));
        }
        if lost {
            self.scene.lose(&call, true);
        } else {
            self.scene
                .answer(&call, |partition| answers[&partition].clone());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_written_once_in_order_and_all_memory_comes_back(
        steps in prop::collection::vec(step(), 1..120),
        linger_ms in 0..50_u64,
        batch_size in 200..2000_usize,
    ) {
        let given = ProducerOptions {
            linger_ms,
            batch_size,
            buffer_memory: 8_000,
            delivery_timeout_ms: u64::MAX,
            ..options()
        };
        let scene = Scene::new_lingering(3, given);
        let mut world = World { scene, logs: BTreeMap::new(), calls: Vec::new(), sent: BTreeMap::new(), epoch: 0 };
        // What Scene::new_lingering sent before.
        let mut log = Log { producer: Some((7, 0)), ..Log::default() };
        let _ = log.append((7, 0, 0), vec!["first".to_owned()]);
        world.logs.insert(0, log);
        for step in steps {
            world.take(step);
        }
        for _ in 0..600 {
            world.take(Step::Pass { us: 200_000 });
            world.take(Step::Poll);
            world.take(Step::Serve { lost: false });
        }
        for (partition, sent) in &world.sent {
            let skip = usize::from(*partition == 0);
            let values: Vec<&String> = world.logs[partition].values.iter().skip(skip).collect();
            prop_assert_eq!(values, sent.iter().map(|(value, _)| value).collect::<Vec<_>>());
            for (at, (_, delivery)) in sent.iter().enumerate() {
                let told = offset(delivery);
                prop_assert!(told == (at + skip) as i64 || told == -1, "{} at {}", told, at);
            }
        }
        prop_assert_eq!(world.scene.accumulator.used_bytes(), 0);
    }
}
