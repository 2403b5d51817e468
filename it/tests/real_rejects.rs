//! Records that cannot be read or believed, on a real Kafka.

use tidewatch_it::kafka::Kafka;
use tidewatch_it::suite::{Sides, rejects};

#[tokio::test(flavor = "current_thread")]
async fn bad_records_are_kept_with_their_reasons_and_the_same_input_gives_the_same_bytes() {
    rejects::are_kept_with_their_reasons(Sides::of(&Kafka::at_hand())).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_record_of_a_wrong_time_takes_none_of_its_batch_with_it() {
    rejects::a_wrong_time_takes_none_with_it(Sides::of(&Kafka::at_hand())).await;
}
