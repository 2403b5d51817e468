//! Faults that a test injects: which requests they hit, and what becomes of those.

use crate::options::NodeId;
use tidewatch_protocol::error_code::ErrorCode;
use tidewatch_protocol::messages::ApiKey;

/// Which requests a fault hits. What is not said matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    api: Option<ApiKey>,
    node: Option<NodeId>,
    topic: Option<String>,
    partition: Option<i32>,
}

impl Match {
    /// Every request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Every request of `api`.
    #[must_use]
    pub fn api(api: ApiKey) -> Self {
        Self {
            api: Some(api),
            ..Self::default()
        }
    }

    /// Only those sent to `node`.
    #[must_use]
    pub fn at(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// Only those that name `topic`, and of their answers only the part about it.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// Of errors, only those about this partition; it does not choose requests.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// What becomes of a request that is hit. "Before" means that it is never applied, "after" that it
/// is applied and only the client does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Answered with this error, not applied.
    Error(ErrorCode),
    /// Applied, then answered with this error: possibly written.
    ErrorAfter(ErrorCode),
    /// Applied only after so many microseconds; the connection waits behind it.
    DelayBefore(u64),
    /// Applied at once, answered after so many microseconds; the connection waits behind it.
    DelayAfter(u64),
    /// The connection is closed.
    CutBefore,
    /// The connection is closed.
    CutAfter,
    /// Never answered, and neither is anything after it on that connection, which stays open.
    HangBefore,
    /// Never answered, and neither is anything after it on that connection, which stays open.
    HangAfter,
    /// Answered with this `throttle_time_ms`.
    Throttle(i32),
}

/// How often a fault strikes; each request counts once, however many partitions it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// The next so many matching requests.
    Next(u32),
    /// Every one until the fault is removed.
    Always,
}

/// Names an injected fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FaultId(u64);

#[derive(Debug)]
struct Fault {
    id: FaultId,
    matches: Match,
    effect: Effect,
    left: Option<u32>,
    struck: u64,
}

/// All injected faults, in order; every one that matches strikes.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    faults: Vec<Fault>,
    next: u64,
}

/// An error for the parts of an answer that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InjectedError {
    topic: Option<String>,
    partition: Option<i32>,
    code: ErrorCode,
    after: bool,
}

/// What the faults do to one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Strike {
    pub(crate) errors: Vec<InjectedError>,
    pub(crate) delay_before_us: u64,
    pub(crate) delay_after_us: u64,
    pub(crate) throttle_ms: i32,
    pub(crate) before: Option<Break>,
    pub(crate) after: Option<Break>,
}

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Cut,
    Hang,
}

impl Faults {
    pub(crate) fn add(&mut self, matches: Match, effect: Effect, times: Times) -> FaultId {
        let id = FaultId(self.next);
        self.next = self.next.saturating_add(1);
        let left = match times {
            Times::Next(count) => Some(count),
            Times::Always => None,
        };
        self.faults.push(Fault {
            id,
            matches,
            effect,
            left,
            struck: 0,
        });
        id
    }

    pub(crate) fn remove(&mut self, id: FaultId) {
        self.faults.retain(|fault| fault.id != id);
    }

    pub(crate) fn clear(&mut self) {
        self.faults.clear();
    }

    pub(crate) fn struck(&self, id: FaultId) -> u64 {
        self.faults
            .iter()
            .find(|fault| fault.id == id)
            .map_or(0, |fault| fault.struck)
    }

    /// Whether it takes the request's topics to tell what strikes it.
    pub(crate) fn ask_topics(&self, api: ApiKey, node: NodeId) -> bool {
        self.faults
            .iter()
            .any(|fault| fault.matches.topic.is_some() && fault.is_about(api, node))
    }

    /// Counts the request against every fault that hits it.
    pub(crate) fn strike(&mut self, api: ApiKey, node: NodeId, topics: &[String]) -> Strike {
        let mut strike = Strike::default();
        let hitting = self.faults.iter_mut().filter(|fault| {
            fault.left != Some(0)
                && fault.is_about(api, node)
                && fault
                    .matches
                    .topic
                    .as_ref()
                    .is_none_or(|topic| topics.contains(topic))
        });
        for fault in hitting {
            fault.left = fault.left.map(|left| left.saturating_sub(1));
            fault.struck = fault.struck.saturating_add(1);
            fault.apply(&mut strike);
        }
        strike
    }
}

impl Fault {
    fn is_about(&self, api: ApiKey, node: NodeId) -> bool {
        self.matches.api.is_none_or(|wanted| wanted == api)
            && self.matches.node.is_none_or(|wanted| wanted == node)
    }

    fn apply(&self, strike: &mut Strike) {
        let error = |code, after| InjectedError {
            topic: self.matches.topic.clone(),
            partition: self.matches.partition,
            code,
            after,
        };
        match self.effect {
            Effect::Error(code) => strike.errors.push(error(code, false)),
            Effect::ErrorAfter(code) => strike.errors.push(error(code, true)),
            Effect::DelayBefore(us) => strike.delay_before_us = strike.delay_before_us.max(us),
            Effect::DelayAfter(us) => strike.delay_after_us = strike.delay_after_us.max(us),
            Effect::CutBefore => strike.before = Some(Break::Cut),
            Effect::CutAfter => strike.after = Some(Break::Cut),
            Effect::HangBefore => strike.before = strike.before.or(Some(Break::Hang)),
            Effect::HangAfter => strike.after = strike.after.or(Some(Break::Hang)),
            Effect::Throttle(ms) => strike.throttle_ms = strike.throttle_ms.max(ms),
        }
    }
}

/// Which part of an answer is being made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part<'a> {
    Whole,
    Topic(&'a str),
    Partition(&'a str, i32),
}

impl InjectedError {
    fn is_about(&self, part: Part<'_>) -> bool {
        let (topic, partition) = match part {
            Part::Whole => return self.topic.is_none() && self.partition.is_none(),
            Part::Topic(topic) => (topic, None),
            Part::Partition(topic, partition) => (topic, Some(partition)),
        };
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
            && self
                .partition
                .is_none_or(|wanted| Some(wanted) == partition)
    }
}

/// Does `act` unless an error was injected before it, and hides its success behind one injected
/// after it.
pub(crate) fn with_errors<T, E: From<ErrorCode>>(
    errors: &[InjectedError],
    part: Part<'_>,
    act: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let find = |after| {
        errors
            .iter()
            .find(|error| error.after == after && error.is_about(part))
    };
    if let Some(error) = find(false) {
        return Err(error.code.into());
    }
    let done = act()?;
    find(true).map_or(Ok(done), |error| Err(error.code.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(1);

    #[test]
    fn a_fault_strikes_as_often_as_told_and_says_so() {
        let mut faults = Faults::default();
        let id = faults.add(Match::api(ApiKey::Fetch), Effect::CutBefore, Times::Next(2));
        for struck in [true, true, false] {
            let strike = faults.strike(ApiKey::Fetch, NODE, &[]);
            assert_eq!(strike.before, struck.then_some(Break::Cut));
        }
        assert_eq!(faults.strike(ApiKey::Produce, NODE, &[]), Strike::default());
        assert_eq!(faults.struck(id), 2);
    }

    #[test]
    fn what_a_fault_does_not_name_it_does_not_hit() {
        let mut faults = Faults::default();
        let matches = Match::api(ApiKey::Fetch).at(NODE).topic("a").partition(1);
        let code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
        faults.add(matches, Effect::Error(code), Times::Always);
        assert!(faults.ask_topics(ApiKey::Fetch, NODE));
        assert!(!faults.ask_topics(ApiKey::Fetch, NodeId(2)));
        assert!(
            faults
                .strike(ApiKey::Fetch, NODE, &["b".to_owned()])
                .errors
                .is_empty()
        );
        assert!(
            faults
                .strike(ApiKey::Fetch, NodeId(2), &["a".to_owned()])
                .errors
                .is_empty()
        );

        let strike = faults.strike(ApiKey::Fetch, NODE, &["b".to_owned(), "a".to_owned()]);
        let outcome = |part| with_errors(&strike.errors, part, || Ok::<_, ErrorCode>(()));
        assert_eq!(outcome(Part::Partition("a", 1)), Err(code));
        assert_eq!(outcome(Part::Partition("a", 0)), Ok(()));
        assert_eq!(outcome(Part::Partition("b", 1)), Ok(()));
        assert_eq!(outcome(Part::Whole), Ok(()));
    }

    #[test]
    fn an_error_after_is_told_only_once_the_act_is_done() {
        let mut faults = Faults::default();
        let code = ErrorCode::REQUEST_TIMED_OUT;
        faults.add(Match::any(), Effect::ErrorAfter(code), Times::Always);
        let strike = faults.strike(ApiKey::Produce, NODE, &[]);
        let mut done = false;
        let outcome = with_errors(&strike.errors, Part::Topic("a"), || {
            done = true;
            Ok::<_, ErrorCode>(())
        });
        assert_eq!((outcome, done), (Err(code), true));
    }
}
