//! The partition's clock: a time that no one host can move far, made of record times alone.

use crate::host::HostNumber;

/// The clock shows the newest time of the host that is K-th: K - 1 hosts may run ahead of it.
const K: usize = 3;

/// A host's newest time, and its first since it came onto the ballot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vote<H> {
    pub(crate) host: H,
    pub(crate) first_ms: i64,
    pub(crate) newest_ms: i64,
}

/// The K hosts with the newest times, the newest first, and whether there are more. With fewer
/// than K + 1 hosts all but one decide, and at least one. No other host's time can matter: it lies
/// at or behind the K-th.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ballot<H> {
    pub(crate) votes: Vec<Vote<H>>,
    pub(crate) many: bool,
}

impl<H> Default for Ballot<H> {
    fn default() -> Self {
        Self {
            votes: Vec::with_capacity(K),
            many: false,
        }
    }
}

impl<H: Ord> Ballot<H> {
    /// The ballot of all of these hosts; by name where times are equal.
    pub(crate) fn of(mut votes: Vec<Vote<H>>) -> Self {
        votes.sort_by(|a, b| (b.newest_ms, &a.host).cmp(&(a.newest_ms, &b.host)));
        let many = votes.len() > K;
        votes.truncate(K);
        Self { votes, many }
    }
}

impl<H: PartialEq> Ballot<H> {
    /// At most K hosts of `votes`, the newest first.
    pub(crate) fn new(votes: Vec<Vote<H>>, many: bool) -> Option<Self> {
        let sorted = votes.is_sorted_by(|a, b| a.newest_ms >= b.newest_ms);
        (sorted && votes.len() <= K && (votes.len() == K || !many)).then_some(Self { votes, many })
    }

    /// The same ballot with hosts named otherwise.
    pub(crate) fn map<G>(&self, mut map: impl FnMut(&H) -> Option<G>) -> Option<Ballot<G>> {
        let vote = |vote: &Vote<H>| {
            Some(Vote {
                host: map(&vote.host)?,
                first_ms: vote.first_ms,
                newest_ms: vote.newest_ms,
            })
        };
        Some(Ballot {
            votes: self.votes.iter().map(vote).collect::<Option<_>>()?,
            many: self.many,
        })
    }

    pub(crate) fn newest_of(&self, host: &H) -> Option<i64> {
        let vote = self.votes.iter().find(|vote| vote.host == *host)?;
        Some(vote.newest_ms)
    }

    /// Takes a host's time; false where that changes nothing.
    fn cast(&mut self, host: H, time_ms: i64) -> bool {
        if self.many
            && self
                .votes
                .last()
                .is_some_and(|last| time_ms <= last.newest_ms)
        {
            return false;
        }
        let mut first_ms = time_ms;
        if let Some(at) = self.votes.iter().position(|vote| vote.host == host) {
            if let Some(vote) = self.votes.get(at) {
                first_ms = vote.first_ms;
                if time_ms <= vote.newest_ms {
                    return false;
                }
            }
            self.votes.remove(at);
        } else if self.votes.len() == K {
            self.many = true;
            if self
                .votes
                .last()
                .is_some_and(|last| time_ms <= last.newest_ms)
            {
                return true;
            }
            self.votes.pop();
        }
        let at = self.votes.partition_point(|vote| vote.newest_ms >= time_ms);
        let vote = Vote {
            host,
            first_ms,
            newest_ms: time_ms,
        };
        self.votes.insert(at, vote);
        true
    }

    /// Whether the clock can be relied on: there are many hosts, or one has progressed by a window.
    fn is_settled(&self, size_ms: i64) -> bool {
        let progress = |vote: &Vote<H>| vote.newest_ms.saturating_sub(vote.first_ms);
        self.many || self.votes.iter().any(|vote| progress(vote) >= size_ms)
    }

    fn decided_ms(&self) -> Option<i64> {
        let k = if self.many {
            K
        } else {
            self.votes.len().saturating_sub(1).max(1)
        };
        self.votes.get(k - 1).map(|vote| vote.newest_ms)
    }
}

/// What the clock shows, and how far it has moved. It never goes back, except that while the first
/// few hosts come up it follows them both ways.
///
/// Silence is measured by `quiet_ms` and not by `now_ms`: it counts how far the clock moved in
/// steps of at most one window each. Then neither the first record of a host whose clock is ahead
/// nor the end of an outage that all hosts shared makes the others look silent at one stroke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionClock<H = HostNumber> {
    pub(crate) now_ms: Option<i64>,
    pub(crate) settled: bool,
    pub(crate) quiet_ms: i64,
    pub(crate) ballot: Ballot<H>,
}

impl<H> Default for PartitionClock<H> {
    fn default() -> Self {
        Self {
            now_ms: None,
            settled: false,
            quiet_ms: 0,
            ballot: Ballot::default(),
        }
    }
}

impl<H: PartialEq> PartitionClock<H> {
    /// Takes the time of a record that is not in the future. Late ones and duplicates vote too:
    /// they change nothing, and so the clock does not depend on knowing them as such.
    pub(crate) fn vote(&mut self, host: H, time_ms: i64, size_ms: i64) {
        if self.ballot.cast(host, time_ms) {
            self.advance(size_ms);
        }
    }

    /// Replaces the ballot: hosts that fell silent have no vote.
    pub(crate) fn replace_ballot(&mut self, ballot: Ballot<H>, size_ms: i64) {
        self.ballot = ballot;
        self.advance(size_ms);
    }

    /// Up to which time a record of this host is not in the future.
    pub(crate) fn bound_ms(&self, host: Option<&H>, max_future_ms: i64) -> Option<i64> {
        let own = host.and_then(|host| self.ballot.newest_of(host));
        Some(
            self.now_ms?
                .max(own.unwrap_or(i64::MIN))
                .saturating_add(max_future_ms),
        )
    }

    /// The same clock with hosts named otherwise.
    pub(crate) fn map<G>(&self, map: impl FnMut(&H) -> Option<G>) -> Option<PartitionClock<G>> {
        Some(PartitionClock {
            now_ms: self.now_ms,
            settled: self.settled,
            quiet_ms: self.quiet_ms,
            ballot: self.ballot.map(map)?,
        })
    }

    fn advance(&mut self, size_ms: i64) {
        let Some(decided_ms) = self.ballot.decided_ms() else {
            return;
        };
        if !self.settled {
            self.now_ms = Some(decided_ms);
            self.settled = self.ballot.is_settled(size_ms);
        } else if let Some(now_ms) = self.now_ms
            && decided_ms > now_ms
        {
            let step_ms = decided_ms.saturating_sub(now_ms).min(size_ms);
            self.quiet_ms = self.quiet_ms.saturating_add(step_ms);
            self.now_ms = Some(decided_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn after(votes: &[(u8, i64)]) -> PartitionClock<u8> {
        votes
            .iter()
            .fold(PartitionClock::default(), |mut clock, &(host, time_ms)| {
                clock.vote(host, time_ms, 10);
                clock
            })
    }

    #[test]
    fn all_but_one_of_up_to_four_hosts_decide_and_then_three() {
        assert_eq!(after(&[]).now_ms, None);
        assert_eq!(after(&[(1, 5)]).now_ms, Some(5));
        assert_eq!(after(&[(1, 5), (2, 9)]).now_ms, Some(9));
        assert_eq!(after(&[(1, 5), (2, 7), (3, 6), (3, 9)]).now_ms, Some(7));
        assert_eq!(
            after(&[(1, 9), (2, 9), (3, 9), (4, 1), (1, 12), (2, 13), (3, 11)]).now_ms,
            Some(11)
        );
        let many = after(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)]);
        assert_eq!(many.now_ms, Some(4));
    }

    #[test]
    fn two_hosts_of_many_cannot_move_it() {
        let mut clock = after(&[(1, 10), (2, 10), (3, 10), (4, 10)]);
        for step in 1..100 {
            clock.vote(1, 10 + step * 1000, 10);
            clock.vote(2, 10 + step * 1000, 10);
        }
        assert_eq!((clock.now_ms, clock.quiet_ms), (Some(10), 0));
    }

    #[test]
    fn a_leap_counts_as_one_step_of_silence() {
        assert_eq!(after(&[(1, 0), (1, 10), (2, 100_000)]).quiet_ms, 10);
        assert_eq!(after(&[(1, 0), (1, 10), (1, 14), (1, 18)]).quiet_ms, 8);
    }

    #[test]
    fn until_one_host_has_progressed_by_a_window_it_follows_the_hosts_that_come_up() {
        let leader = [(1, 300), (2, 0)];
        assert_eq!(after(&leader).now_ms, Some(300));
        let third = [leader.as_slice(), &[(3, 2)]].concat();
        assert_eq!(after(&third).now_ms, Some(2));
        let settled = [leader.as_slice(), &[(2, 10), (3, 12)]].concat();
        assert_eq!(
            after(&settled).now_ms,
            Some(300),
            "and then it never goes back"
        );
    }

    proptest! {
        #[test]
        fn it_is_the_kth_greatest_and_never_goes_back(votes in prop::collection::vec((0..7_u8, 0..1000_i64), 1..100)) {
            let mut clock = PartitionClock::default();
            let (mut newest, mut shown) = (BTreeMap::new(), i64::MIN);
            for (host, time_ms) in votes {
                let settled = clock.settled;
                clock.vote(host, time_ms, 10);
                let own = newest.entry(host).or_insert(time_ms);
                *own = (*own).max(time_ms);
                let mut times: Vec<i64> = newest.values().copied().collect();
                times.sort_unstable_by(|a, b| b.cmp(a));
                let kth = times[K.min(times.len() - 1).max(1) - 1];
                shown = if settled { shown.max(kth) } else { kth };
                prop_assert_eq!(clock.now_ms, Some(shown));
            }
        }
    }
}
