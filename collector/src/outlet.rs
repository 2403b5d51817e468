//! Where readings go: to Kafka, or to stdout in a dry run.

use crate::kafka::Kafka;
use crate::sampler::Reading;
use tidewatch_command::{Failure, print};

/// Takes readings at each tick.
pub(crate) enum Outlet {
    /// Prints each as a line of tab-separated fields: topic, key, value, timestamp, tag.
    DryRun,
    /// Sends each as a record.
    Kafka(Box<Kafka>),
}

impl Outlet {
    /// Takes the readings of one tick.
    pub(crate) async fn handle_tick(
        &mut self,
        host: &str,
        readings: &[Reading],
    ) -> Result<(), Failure> {
        match self {
            Self::DryRun => Ok(print(lines(host, readings)).await?),
            Self::Kafka(kafka) => kafka.handle_tick(readings),
        }
    }

    /// Works on what was taken; ends only with a failure. Cancellation-safe.
    pub(crate) async fn run(&mut self) -> Failure {
        match self {
            Self::DryRun => std::future::pending().await,
            Self::Kafka(kafka) => kafka.run().await,
        }
    }

    /// Finishes what was taken, within a bound.
    pub(crate) async fn finish(&mut self) -> Result<(), Failure> {
        match self {
            Self::DryRun => Ok(()),
            Self::Kafka(kafka) => kafka.finish().await,
        }
    }
}

fn lines(host: &str, readings: &[Reading]) -> String {
    readings
        .iter()
        .map(
            |Reading {
                 metric,
                 value,
                 tick_ms,
                 tag,
             }| { format!("{}\t{host}\t{value}\t{tick_ms}\t{tag}\n", metric.topic()) },
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use tidewatch_sample::{Metric, Number, RunId, SampleTag};

    #[test]
    fn a_dry_run_prints_the_parts_of_each_record() {
        let interval_ms = NonZeroU32::new(2_000).unwrap();
        let reading = Reading {
            metric: Metric::Cpu,
            value: Number::new(48.0).unwrap(),
            tick_ms: 4_000,
            tag: SampleTag {
                run: RunId(255),
                sequence: 1,
                interval_ms,
            },
        };
        assert_eq!(
            lines("web-1", &[reading]),
            "cpu-monitor\tweb-1\t48.0\t4000\t00000000000000ff.1.2000\n"
        );
    }
}
