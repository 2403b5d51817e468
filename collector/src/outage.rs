//! Whether Kafka takes samples, said when it changes and not at every tick.
//!
//! Pure: time is passed in.

use crate::complaint::Complaint;
use std::time::Duration;

/// Kafka's state as the operator has been told it.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    now: Option<Begun>,
    reasons: Complaint,
}

#[derive(Debug)]
struct Begun {
    at: Duration,
    reason: String,
    delivered: u64,
    is_said: bool,
}

/// An outage that is over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) lasted: Duration,
    /// Samples that were delivered since it began.
    pub(crate) caught_up: u64,
}

impl Outage {
    /// Nothing is delivered, because of `reason`. Whether to say so: when it begins, and when the
    /// reason changes, at most once a minute.
    pub(crate) fn handle_stalled(&mut self, now: Duration, reason: &str) -> bool {
        let begun = self.now.get_or_insert_with(|| Begun {
            at: now,
            reason: String::new(),
            delivered: 0,
            is_said: false,
        });
        if begun.is_said && begun.reason == reason {
            return false;
        }
        let say = self.reasons.admit(now).is_some();
        if say {
            reason.clone_into(&mut begun.reason);
            begun.is_said = true;
        }
        say
    }

    /// A sample was delivered.
    pub(crate) fn handle_delivered(&mut self) {
        if let Some(begun) = &mut self.now {
            begun.delivered = begun.delivered.saturating_add(1);
        }
    }

    /// Nothing waits any more: the outage that has just ended, if one was said to have begun.
    pub(crate) fn handle_caught_up(&mut self, now: Duration) -> Option<Ended> {
        let begun = self.now.take().filter(|begun| begun.is_said)?;
        Some(Ended {
            lasted: now.saturating_sub(begun.at),
            caught_up: begun.delivered,
        })
    }

    /// Why nothing is delivered, as it was said last.
    pub(crate) fn reason(&self) -> Option<&str> {
        let begun = self.now.as_ref().filter(|begun| begun.is_said)?;
        Some(&begun.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_said_when_it_begins_and_when_it_ends() {
        let (mut outage, at) = (Outage::default(), Duration::from_secs);
        outage.handle_delivered();
        assert_eq!(outage.handle_caught_up(at(1)), None);
        assert!(outage.handle_stalled(at(10), "refused"));
        assert!(!outage.handle_stalled(at(100), "refused"));
        for _ in 0..3 {
            outage.handle_delivered();
        }
        let ended = Ended {
            lasted: at(100),
            caught_up: 3,
        };
        assert_eq!(outage.handle_caught_up(at(110)), Some(ended));
        assert_eq!(outage.handle_caught_up(at(120)), None);
    }

    #[test]
    fn a_new_reason_is_said_but_not_more_than_once_a_minute() {
        let (mut outage, at) = (Outage::default(), Duration::from_secs);
        assert!(outage.handle_stalled(at(0), "refused"));
        assert!(!outage.handle_stalled(at(30), "no such topic"));
        assert_eq!(outage.reason(), Some("refused"));
        assert!(outage.handle_stalled(at(60), "no such topic"));
    }

    #[test]
    fn outages_that_come_and_go_are_not_all_said() {
        let (mut outage, at) = (Outage::default(), Duration::from_secs);
        assert!(outage.handle_stalled(at(0), "refused"));
        assert!(outage.handle_caught_up(at(5)).is_some());
        assert!(!outage.handle_stalled(at(10), "refused"));
        assert_eq!(outage.handle_caught_up(at(15)), None);
    }
}
