//! Every error code of the Kafka protocol up to 4.3, and what each means for a caller.

mod table;

use std::fmt;

/// A Kafka error code as it came from the wire; unknown values are kept, not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode(pub i16);

/// What a caller should do about an error. One row per code in [`ErrorCode::meaning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// Kafka's own name, `NOT_LEADER_OR_FOLLOWER`; `UNKNOWN` for codes that are not in the table.
    pub name: &'static str,
    /// Trying again can help: Java's `RetriableException`.
    pub retriable: bool,
    /// The picture of the cluster is stale: Java's `InvalidMetadataException`, and where its
    /// clients ask for metadata although the exception is another.
    pub refresh_metadata: bool,
    /// The coordinator must be looked up again.
    pub find_coordinator: bool,
    /// A transaction that meets this must be aborted, after which the producer can go on.
    pub abortable: bool,
    /// The producer, the member or the login that meets this can never go on.
    pub fatal: bool,
    /// What it means, in a few words, for an error message.
    pub says: &'static str,
}

impl ErrorCode {
    /// Whether this is [`ErrorCode::NONE`].
    pub fn is_ok(self) -> bool {
        self == Self::NONE
    }

    /// The row of the table for this code. Unknown codes are not retriable, as in Java, where they
    /// become UNKNOWN_SERVER_ERROR.
    pub fn meaning(self) -> &'static Meaning {
        // The rows are in order from -1 on, without gaps; a test holds them to that.
        let row = usize::try_from(i32::from(self.0) + 1).ok();
        row.and_then(|row| table::MEANINGS.get(row))
            .unwrap_or(&UNKNOWN)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meaning = self.meaning();
        write!(f, "{} ({}): {}", meaning.name, self.0, meaning.says)
    }
}

static UNKNOWN: Meaning = Meaning {
    name: "UNKNOWN",
    retriable: false,
    refresh_metadata: false,
    find_coordinator: false,
    abortable: false,
    fatal: false,
    says: "a code that this version of Tidewatch does not know",
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Code, name, `instanceof RetriableException`, `instanceof InvalidMetadataException` of every
    /// value of `org.apache.kafka.common.protocol.Errors` in 4.3.1, printed by Java.
    const JAVA: &str = include_str!("error_code/java-4.3.1.tsv");

    #[test]
    fn the_table_agrees_with_java_on_names_and_on_what_can_be_retried() {
        let mut rows = 0;
        for line in JAVA.lines() {
            let [code, name, retriable, invalid_metadata] =
                line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let meaning = ErrorCode(code.parse().unwrap()).meaning();
            assert_eq!(meaning.name, name, "{code}");
            assert_eq!(meaning.retriable, retriable == "true", "{name}");
            assert!(
                meaning.refresh_metadata || invalid_metadata == "false",
                "{name}"
            );
            rows += 1;
        }
        assert_eq!(rows, table::MEANINGS.len());
    }

    #[test]
    fn constants_and_rows_meet() {
        assert_eq!(ErrorCode::UNKNOWN_SERVER_ERROR.0, -1);
        assert_eq!(ErrorCode::NONE.0, 0);
        assert_eq!(ErrorCode::SHARE_SESSION_LIMIT_REACHED.0, 133);
        assert_eq!(
            ErrorCode::TRANSACTION_ABORTABLE.meaning().name,
            "TRANSACTION_ABORTABLE"
        );
        assert!(ErrorCode::NOT_LEADER_OR_FOLLOWER.meaning().refresh_metadata);
        assert!(ErrorCode::NOT_COORDINATOR.meaning().find_coordinator);
        assert!(ErrorCode::PRODUCER_FENCED.meaning().fatal);
        for meaning in &table::MEANINGS {
            assert!(!(meaning.retriable && meaning.fatal), "{}", meaning.name);
            assert!(
                !meaning.find_coordinator || meaning.retriable,
                "{}",
                meaning.name
            );
        }
    }

    #[test]
    fn line_44_unknown_error_codes_are_data() {
        for code in [i16::MIN, -2, 134, 999, i16::MAX] {
            let code = ErrorCode(code);
            assert_eq!(code.meaning().name, "UNKNOWN");
            assert!(!code.is_ok() && !code.meaning().retriable);
            assert!(
                code.to_string()
                    .starts_with(&format!("UNKNOWN ({}): ", code.0))
            );
        }
        assert_eq!(
            ErrorCode::NOT_LEADER_OR_FOLLOWER.to_string(),
            "NOT_LEADER_OR_FOLLOWER (6): the broker is not the leader (or no replica) of this partition"
        );
    }
}
