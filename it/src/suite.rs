//! What has to hold on every real cluster, of whichever version: each function is one script, which
//! test files run on their clusters.

pub mod codecs;
pub mod examples;
pub mod pipeline;
pub mod reading;
pub mod rejects;

use crate::kafka::{Kafka, Tools};
use tidewatch_client::options::Options;
use tidewatch_client::{Client, NewTopic};

/// A cluster as both sides reach it.
#[derive(Debug, Clone, Copy)]
pub struct Sides<'a> {
    /// Our client's and our programs' `bootstrap.servers`.
    pub ours: &'a str,
    /// Kafka's tools, with an address of their own.
    pub javas: &'a Tools,
}

impl<'a> Sides<'a> {
    /// Both sides by the same address.
    pub fn of(kafka: &'a Kafka) -> Self {
        Self {
            ours: kafka.bootstrap(),
            javas: kafka.tools(),
        }
    }

    /// Our client, with properties by Kafka's names.
    ///
    /// # Panics
    /// If a property is not one.
    pub fn client(&self, properties: &[(&str, &str)]) -> Client {
        let mut options = Options::default();
        options.set("bootstrap.servers", self.ours).unwrap();
        for (name, value) in properties {
            options.set(name, value).unwrap();
        }
        Client::spawn(options).unwrap()
    }
}

/// Creates topics; one that is there already may stay.
///
/// # Panics
/// If the cluster refuses.
pub async fn ensure_topics(client: &Client, topics: Vec<NewTopic>) {
    for (name, created) in client.create_topics(topics).await.unwrap() {
        if let Err(error) = created {
            assert!(error.is_topic_exists(), "{name}: {error}");
        }
    }
}
