//! The text beside a committed offset: `tw1;` and then fields, each ended by a comma; a name is led
//! by its length, so that it needs no escapes.

use crate::partition_clock::{Ballot, PartitionClock, Vote};
use crate::settings::Settings;
use std::fmt::Write;
use std::sync::Arc;
use thiserror::Error;
use tidewatch_sample::HOST_MAX_BYTES;

/// What a broker takes beside an offset by default (`offset.metadata.max.bytes`).
pub(crate) const METADATA_MAX_BYTES: usize = 4096;

/// Of that, what may be spent on closings by wall clock.
pub(crate) const DECISIONS_MAX_BYTES: usize = 1024;

const VERSION: &str = "tw1;";

/// In place of how far back a host begins, where it was not forgotten.
const NO_BEGIN: i64 = -1;

/// Hosts, votes and decisions of one text: more than fit [`METADATA_MAX_BYTES`].
const ITEMS_MAX: i64 = 1024;

/// What a new engine has to know besides the records from the committed offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) fingerprint: [i64; 5],
    /// What records before this offset led to was handed out.
    pub(crate) emit_from: i64,
    /// The partition clock at the committed offset.
    pub(crate) clock: PartitionClock<Arc<str>>,
    /// What was decided by wall clock between the committed offset and `emit_from`.
    pub(crate) decisions: Vec<Decision>,
    /// Hosts as they were at `emit_from`.
    pub(crate) noted: Vec<NotedHost>,
}

/// Something that no record led to, done before the record at offset `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) at: i64,
    /// Windows closed: those of hosts not heard of since this offset.
    pub(crate) heard_before: i64,
    /// Whether what was held was rejected.
    pub(crate) rejects_held: bool,
    /// The hosts that decide the partition clock from here on, where that changed.
    pub(crate) ballot: Option<Ballot<Arc<str>>>,
}

/// A host of which the records from the committed offset on do not tell everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotedHost {
    pub(crate) name: Arc<str>,
    pub(crate) newest_ms: i64,
    pub(crate) closed_ms: i64,
    pub(crate) heard_ms: i64,
    pub(crate) heard_offset: i64,
    /// Earlier records do not count: the host was forgotten here while it went on sending.
    pub(crate) begin_offset: Option<i64>,
}

/// Why the text beside a committed offset cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// Not ours, or of a version that this one does not know.
    #[error(
        "the metadata committed beside the offset does not begin with {VERSION}: another program \
         or a newer version uses this group; take another group id"
    )]
    Unknown,
    /// Ours, and damaged.
    #[error(
        "the metadata committed beside the offset is damaged at byte {at}; reset the group's \
         offsets to start anew"
    )]
    Damaged {
        /// Where reading stopped.
        at: usize,
    },
    /// Committed under other settings.
    #[error(
        "the group's offsets were committed with window, delay, silence, max-future, forget-after \
         of {was:?} ms and now they are {now:?} ms: open windows would be cut; use the old \
         settings, another group id, or reset the group's offsets"
    )]
    SettingsChanged {
        /// The settings then.
        was: [i64; 5],
        /// The settings now.
        now: [i64; 5],
    },
}

impl Metadata {
    pub(crate) fn encode(&self) -> String {
        let mut text = String::from(VERSION);
        self.fingerprint
            .iter()
            .for_each(|&field| number(&mut text, field));
        number(&mut text, self.emit_from);
        encode_clock(&mut text, &self.clock);
        number(&mut text, count(self.decisions.len()));
        let base_ms = base_ms(&self.clock);
        self.decisions
            .iter()
            .for_each(|decision| decision.encode(&mut text, base_ms));
        number(&mut text, count(self.noted.len()));
        self.noted
            .iter()
            .for_each(|host| host.encode(&mut text, &self.clock, self.emit_from));
        text
    }

    pub(crate) fn parse(text: &str, settings: &Settings) -> Result<Self, MetadataError> {
        let rest = text.strip_prefix(VERSION).ok_or(MetadataError::Unknown)?;
        let mut fields = Fields(rest);
        let parsed = (rest.len() <= METADATA_MAX_BYTES)
            .then(|| fields.metadata())
            .flatten();
        let damaged = MetadataError::Damaged {
            at: text.len() - fields.0.len(),
        };
        let parsed = parsed.filter(|_| fields.0.is_empty()).ok_or(damaged)?;
        if parsed.fingerprint != settings.fingerprint() {
            return Err(MetadataError::SettingsChanged {
                was: parsed.fingerprint,
                now: settings.fingerprint(),
            });
        }
        Ok(parsed)
    }
}

impl Decision {
    /// Its share of the text, in bytes.
    pub(crate) fn size_bytes(&self, clock: &PartitionClock<Arc<str>>) -> usize {
        let mut text = String::new();
        self.encode(&mut text, base_ms(clock));
        text.len()
    }

    fn encode(&self, text: &mut String, base_ms: i64) {
        number(text, self.at);
        number(text, self.heard_before);
        number(text, i64::from(self.rejects_held));
        number(text, i64::from(self.ballot.is_some()));
        if let Some(ballot) = &self.ballot {
            encode_ballot(text, ballot, base_ms);
        }
    }
}

impl NotedHost {
    /// Its share of the text, in bytes.
    pub(crate) fn size_bytes(&self, clock: &PartitionClock<Arc<str>>, emit_from: i64) -> usize {
        let mut text = String::new();
        self.encode(&mut text, clock, emit_from);
        text.len()
    }

    fn encode(&self, text: &mut String, clock: &PartitionClock<Arc<str>>, emit_from: i64) {
        name(text, &self.name);
        number(text, self.newest_ms.wrapping_sub(base_ms(clock)));
        number(text, self.closed_ms.wrapping_sub(self.newest_ms));
        number(text, self.heard_ms.wrapping_sub(clock.quiet_ms));
        number(text, emit_from.wrapping_sub(self.heard_offset));
        let begin = self.begin_offset.map(|begin| emit_from.wrapping_sub(begin));
        number(text, begin.unwrap_or(NO_BEGIN));
    }
}

/// Times are written as differences to the partition clock: that takes a third of the room.
fn base_ms<H>(clock: &PartitionClock<H>) -> i64 {
    clock.now_ms.unwrap_or(0)
}

fn encode_clock(text: &mut String, clock: &PartitionClock<Arc<str>>) {
    number(text, i64::from(clock.now_ms.is_some()));
    number(text, base_ms(clock));
    number(text, i64::from(clock.settled));
    number(text, clock.quiet_ms);
    encode_ballot(text, &clock.ballot, base_ms(clock));
}

fn encode_ballot(text: &mut String, ballot: &Ballot<Arc<str>>, base_ms: i64) {
    number(text, i64::from(ballot.many));
    number(text, count(ballot.votes.len()));
    for vote in &ballot.votes {
        name(text, &vote.host);
        number(text, vote.newest_ms.wrapping_sub(base_ms));
        number(text, vote.first_ms.wrapping_sub(vote.newest_ms));
    }
}

fn number(text: &mut String, field: i64) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{field},");
}

fn name(text: &mut String, name: &str) {
    let _ = write!(text, "{}:{name},", name.len());
}

fn count(items: usize) -> i64 {
    i64::try_from(items).unwrap_or(i64::MAX)
}

/// What is left to read.
struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    fn metadata(&mut self) -> Option<Metadata> {
        let mut fingerprint = [0; 5];
        for field in &mut fingerprint {
            *field = self.number()?;
        }
        let emit_from = self.number()?;
        let clock = self.clock()?;
        let decisions = self.list(|fields| fields.decision(base_ms(&clock)))?;
        let noted = self.list(|fields| fields.noted_host(&clock, emit_from))?;
        Some(Metadata {
            fingerprint,
            emit_from,
            clock,
            decisions,
            noted,
        })
    }

    fn clock(&mut self) -> Option<PartitionClock<Arc<str>>> {
        let is_set = self.flag()?;
        let base_ms = self.number()?;
        let settled = self.flag()?;
        let quiet_ms = self.number()?;
        let ballot = self.ballot(base_ms)?;
        Some(PartitionClock {
            now_ms: is_set.then_some(base_ms),
            settled,
            quiet_ms,
            ballot,
        })
    }

    fn ballot(&mut self, base_ms: i64) -> Option<Ballot<Arc<str>>> {
        let many = self.flag()?;
        let votes = self.list(|fields| {
            let host = fields.name()?;
            let newest_ms = fields.number()?.wrapping_add(base_ms);
            let first_ms = fields.number()?.wrapping_add(newest_ms);
            Some(Vote {
                host,
                first_ms,
                newest_ms,
            })
        })?;
        Ballot::new(votes, many)
    }

    fn decision(&mut self, base_ms: i64) -> Option<Decision> {
        Some(Decision {
            at: self.number()?,
            heard_before: self.number()?,
            rejects_held: self.flag()?,
            ballot: if self.flag()? {
                Some(self.ballot(base_ms)?)
            } else {
                None
            },
        })
    }

    fn noted_host(
        &mut self,
        clock: &PartitionClock<Arc<str>>,
        emit_from: i64,
    ) -> Option<NotedHost> {
        let name = self.name()?;
        let newest_ms = self.number()?.wrapping_add(base_ms(clock));
        Some(NotedHost {
            name,
            newest_ms,
            closed_ms: self.number()?.wrapping_add(newest_ms),
            heard_ms: self.number()?.wrapping_add(clock.quiet_ms),
            heard_offset: emit_from.wrapping_sub(self.number()?),
            begin_offset: Some(self.number()?)
                .filter(|begin| *begin != NO_BEGIN)
                .map(|begin| emit_from.wrapping_sub(begin)),
        })
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        if count > ITEMS_MAX {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn flag(&mut self) -> Option<bool> {
        match self.number()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<i64> {
        let (field, rest) = self.0.split_once(',')?;
        let number = field.parse().ok()?;
        self.0 = rest;
        Some(number)
    }

    fn name(&mut self) -> Option<Arc<str>> {
        let (length, rest) = self.0.split_once(':')?;
        let length: usize = length
            .parse()
            .ok()
            .filter(|length| (1..=HOST_MAX_BYTES).contains(length))?;
        let (name, rest) = rest.split_at_checked(length)?;
        self.0 = rest.strip_prefix(',')?;
        Some(name.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn votes(names: &[&str]) -> Ballot<Arc<str>> {
        let votes = names.iter().map(|&host| Vote {
            host: host.into(),
            first_ms: 1_700_000_000_000,
            newest_ms: 1_700_000_000_000,
        });
        Ballot::of(votes.collect())
    }

    fn example() -> Metadata {
        Metadata {
            fingerprint: Settings::default().fingerprint(),
            emit_from: 4711,
            clock: PartitionClock {
                now_ms: Some(1_700_000_000_000),
                settled: true,
                quiet_ms: 90_000,
                ballot: votes(&["a,:;", "räume"]),
            },
            decisions: vec![
                Decision {
                    at: 4700,
                    heard_before: 4600,
                    rejects_held: false,
                    ballot: Some(votes(&["b"])),
                },
                Decision {
                    at: 4711,
                    heard_before: i64::MAX,
                    rejects_held: true,
                    ballot: None,
                },
            ],
            noted: vec![NotedHost {
                name: "web-1".into(),
                newest_ms: 1_699_999_990_000,
                closed_ms: 1_700_000_000_000,
                heard_ms: 41_000,
                heard_offset: 4650,
                begin_offset: None,
            }],
        }
    }

    #[test]
    fn it_reads_back() {
        let text = example().encode();
        assert_eq!(Metadata::parse(&text, &Settings::default()), Ok(example()));
        assert!(
            text.starts_with("tw1;10000,4000,30000,600000,3600000,4711,"),
            "{text}"
        );
        let host = "5:web-1,-10000,10000,-49000,61,-1,";
        assert!(text.ends_with(host), "{text}");
        assert_eq!(
            example().noted[0].size_bytes(&example().clock, 4711),
            host.len()
        );
    }

    #[test]
    fn what_is_not_ours_is_said_so() {
        let parse = |text: &str| Metadata::parse(text, &Settings::default());
        assert_eq!(parse("AAA="), Err(MetadataError::Unknown));
        assert_eq!(parse("tw2;1,"), Err(MetadataError::Unknown));
        assert!(matches!(
            parse("tw1;"),
            Err(MetadataError::Damaged { at: 4 })
        ));
        let other = Settings {
            size_ms: 60_000,
            ..Settings::default()
        };
        let refused = Metadata::parse(&example().encode(), &other).unwrap_err();
        assert!(
            matches!(refused, MetadataError::SettingsChanged { .. }),
            "{refused}"
        );
    }

    proptest! {
        #[test]
        fn damage_is_refused_or_read_as_something_else_but_never_more(at in 0..200_usize, byte in "[0-9:,;a-z-]", cut: bool) {
            let text = example().encode();
            let at = at % text.len();
            prop_assume!(text.is_char_boundary(at) && text.is_char_boundary(at + 1));
            let damaged = if cut { text[..at].to_string() } else { format!("{}{byte}{}", &text[..at], &text[at + 1..]) };
            if let Ok(read) = Metadata::parse(&damaged, &Settings::default()) {
                prop_assert!(read.encode().len() <= text.len() + 100);
            }
        }

        #[test]
        fn any_text_is_survived(text in "(tw1;)?[0-9,:;-]{0,200}") {
            let _ = Metadata::parse(&text, &Settings::default());
        }
    }
}
