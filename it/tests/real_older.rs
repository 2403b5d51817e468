//! Kafka 3.9, the last before 4.0 dropped the old protocols: as it is, and posing as 2.1, the oldest
//! that we support.

use std::collections::BTreeMap;
use tidewatch_broker::{Apis, Release};
use tidewatch_it::kafka::{Kafka, Version, skips_on_foreign_cluster};
use tidewatch_it::ports::free_port;
use tidewatch_it::proxy::{Asked, Proxy};
use tidewatch_it::suite::codecs::CODECS;
use tidewatch_it::suite::{Sides, codecs, pipeline, rejects};
use tidewatch_protocol::messages::ApiKey;

const RECORDS_PER_CODEC: usize = 500;

/// A broker with a second listener, `OLD`, which the proxy stands before.
fn kafka_behind(proxy_port: u16) -> (Kafka, String) {
    let inner_port = free_port();
    let listeners = |old_port| format!("PLAINTEXT://127.0.0.1:@B@,OLD://127.0.0.1:{old_port}");
    let lines = [
        format!(
            "listeners={},CONTROLLER://127.0.0.1:@C@",
            listeners(inner_port)
        ),
        format!("advertised.listeners={}", listeners(proxy_port)),
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,OLD:PLAINTEXT"
            .to_owned(),
    ];
    let lines = lines.each_ref().map(String::as_str);
    let kafka = Kafka::single(Version::V3_9, &lines);
    (kafka, format!("127.0.0.1:{inner_port}"))
}

#[tokio::test(flavor = "current_thread")]
async fn the_whole_line_runs_on_3_9_and_on_3_9_that_poses_as_2_1() {
    if skips_on_foreign_cluster("Kafka 3.9, as it is and posing as 2.1") {
        return;
    }
    let port = free_port();
    let (kafka, behind) = kafka_behind(port);
    let as_it_is = Sides::of(&kafka);
    codecs::both_ways(as_it_is, &CODECS, RECORDS_PER_CODEC).await;
    pipeline::samples_become_windows(as_it_is).await;
    rejects::are_kept_with_their_reasons(as_it_is).await;

    let release = Apis::of(Release::V2_1);
    let proxy = Proxy::start(port, &behind, Some(release.clone()));
    let as_2_1 = Sides {
        ours: proxy.address(),
        javas: kafka.tools(),
    };
    codecs::both_ways(as_2_1, &CODECS[3..], RECORDS_PER_CODEC).await;
    pipeline::samples_become_windows(as_2_1).await;
    pipeline::javas_records_give_the_mean_by_hand(as_2_1).await;
    assert_within(&release, &proxy.asked());
}

/// Nothing was asked for in a version that `release` does not have, but for the ApiVersions request
/// that opens a connection; and everything that the whole line needs was asked for.
#[track_caller]
fn assert_within(release: &Apis, asked: &Asked) {
    let mut beyond: BTreeMap<i16, Vec<i16>> = BTreeMap::new();
    for (&key, versions) in asked {
        let is_in = |version| {
            release
                .range(key)
                .is_some_and(|range| range.contains(version))
        };
        let outside = versions.iter().copied().filter(|version| !is_in(*version));
        beyond.insert(key, outside.collect());
    }
    beyond.retain(|_, versions| !versions.is_empty());
    // Nobody knows a broker's range of ApiVersions before its answer (line 36).
    let opening = BTreeMap::from([(ApiKey::ApiVersions as i16, vec![4])]);
    assert_eq!(beyond, opening, "beyond what 2.1 has");
    let needed = [
        ApiKey::Produce,
        ApiKey::Fetch,
        ApiKey::ListOffsets,
        ApiKey::Metadata,
        ApiKey::OffsetCommit,
        ApiKey::OffsetFetch,
        ApiKey::FindCoordinator,
        ApiKey::InitProducerId,
        ApiKey::CreateTopics,
    ];
    for api in needed {
        let range = release.range(api as i16).expect("2.1 has it");
        let newest = asked
            .get(&(api as i16))
            .and_then(|versions| versions.last());
        assert_eq!(newest, Some(&range.max), "{api:?}");
    }
}
