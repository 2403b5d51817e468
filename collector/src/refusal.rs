//! What a sample that Kafka refused means for the operator: why, and what to do about it. Pure.

use tidewatch_client::{DeliveryCause, DeliveryError, ErrorCode};

/// Why a sample of `tick_ms` was lost on its way to `topic`, and the remedy.
pub(crate) fn explain(topic: &str, tick_ms: i64, error: &DeliveryError) -> String {
    match &error.cause {
        DeliveryCause::Broker { code, message } => {
            explain_code(topic, tick_ms, *code, message.as_deref())
        }
        DeliveryCause::TimedOut { .. } => format!(
            "{error}; leave delivery.timeout.ms out, and samples wait for as long as they fit in \
             buffer.memory"
        ),
        _ => error.to_string(),
    }
}

/// What a broker's error about `topic` asks for.
pub(crate) fn explain_code(
    topic: &str,
    tick_ms: i64,
    code: ErrorCode,
    message: Option<&str>,
) -> String {
    let said = match message {
        Some(message) => format!("{code} ({message})"),
        None => code.to_string(),
    };
    match code {
        ErrorCode::INVALID_TIMESTAMP => {
            format!("{}; the broker says: {said}", clock(tick_ms, message))
        }
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => format!(
            "{topic} takes no record of this size: raise the topic's max.message.bytes or the \
             brokers' message.max.bytes; the broker says: {said}"
        ),
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => format!(
            "the topic {topic} does not exist: create it (kafka-topics --create --topic {topic})"
        ),
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => format!(
            "this client is not allowed to write to {topic}: give its user the ACL operation Write \
             on the topic {topic} (kafka-acls --add --operation Write --topic {topic}); the broker \
             says: {said}"
        ),
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED => format!(
            "this client is not allowed to write idempotently: give its user the ACL operation \
             Write on {topic}, or IdempotentWrite on the cluster; the broker says: {said}"
        ),
        _ => format!("{topic} does not take it: {said}"),
    }
}

/// By how much a clock is wrong, as far as the broker's words tell: it names the times it takes.
fn clock(tick_ms: i64, message: Option<&str>) -> String {
    match message.and_then(accepted_ms) {
        Some((_, to)) if tick_ms > to => format!(
            "this host's clock is ahead: the tick {tick_ms} is {} later than the latest time the \
             broker takes, which is its own clock + message.timestamp.after.max.ms; set the clock \
             (NTP)",
            seconds(tick_ms, to)
        ),
        Some((from, _)) if tick_ms < from => format!(
            "this host's clock is behind, or the sample waited too long: the tick {tick_ms} is {} \
             earlier than message.timestamp.before.max.ms allows; set the clock (NTP) or raise that",
            seconds(from, tick_ms)
        ),
        _ => format!(
            "this host's clock is ahead or behind by more than the topic's \
             message.timestamp.after.max.ms or message.timestamp.before.max.ms: the tick was \
             {tick_ms} ms since 1970; set the clock (NTP)"
        ),
    }
}

/// From `… should be within [FROM, TO]`, milliseconds since 1970.
fn accepted_ms(message: &str) -> Option<(i64, i64)> {
    let (_, after) = message.rsplit_once('[')?;
    let (range, _) = after.split_once(']')?;
    let (from, to) = range.split_once(',')?;
    Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
}

fn seconds(later_ms: i64, earlier_ms: i64) -> String {
    let ms = later_ms.saturating_sub(earlier_ms);
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: ErrorCode, message: &str) -> String {
        explain_code("cpu-monitor", 100_500, code, Some(message))
    }

    #[test]
    fn a_clock_that_is_ahead_is_told_by_how_much() {
        let line = explained(
            ErrorCode::INVALID_TIMESTAMP,
            "record 0: Timestamp 100500 of message with offset 0 is out of range. The timestamp \
             should be within [-9, 40000]",
        );
        assert!(
            line.contains("clock is ahead") && line.contains("60.500 s later"),
            "{line}"
        );
        let line = explained(ErrorCode::INVALID_TIMESTAMP, "within [200000, 300000]");
        assert!(
            line.contains("clock is behind") && line.contains("99.500 s earlier"),
            "{line}"
        );
    }

    #[test]
    fn without_the_brokers_range_only_the_tick_is_told() {
        for message in ["out of range", "[", "[a, b]", "[1]", "]["] {
            let line = explained(ErrorCode::INVALID_TIMESTAMP, message);
            assert!(
                line.contains("ahead or behind") && line.contains("100500"),
                "{line}"
            );
        }
    }

    #[test]
    fn a_refusal_names_the_topic_and_what_to_change() {
        for (code, parts) in [
            (
                ErrorCode::MESSAGE_TOO_LARGE,
                ["max.message.bytes", "message.max.bytes"],
            ),
            (
                ErrorCode::TOPIC_AUTHORIZATION_FAILED,
                ["Write on the topic cpu-monitor", "kafka-acls"],
            ),
            (
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ["cpu-monitor does not exist", "create it"],
            ),
            (
                ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                ["IdempotentWrite", "cluster"],
            ),
        ] {
            let line = explained(code, "no");
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
    }
}
