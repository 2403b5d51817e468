//! Partitions grouped by topic, as requests carry them.

use crate::call::TopicPartition;
use std::collections::HashMap;
use std::sync::Arc;
use tidewatch_protocol::StrBytes;
use tidewatch_protocol::messages::TopicName;

/// What belongs to each partition of one topic.
pub(crate) type OfTopic<T> = (Arc<str>, Vec<(i32, T)>);

/// Groups by topic; topics and partitions keep the order in which they first come.
pub(crate) fn by_topic<T>(items: impl IntoIterator<Item = (TopicPartition, T)>) -> Vec<OfTopic<T>> {
    let mut places: HashMap<Arc<str>, usize> = HashMap::new();
    let mut topics: Vec<OfTopic<T>> = Vec::new();
    for (partition, item) in items {
        let place = *places
            .entry(Arc::clone(&partition.topic))
            .or_insert_with(|| {
                topics.push((Arc::clone(&partition.topic), Vec::new()));
                topics.len() - 1
            });
        if let Some((_, of_topic)) = topics.get_mut(place) {
            of_topic.push((partition.partition, item));
        }
    }
    topics
}

/// A topic's name as requests carry it.
pub(crate) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
