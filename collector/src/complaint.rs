//! A warning that would come at every tick, said now and then and with how often it came.

use std::time::Duration;

/// The least time between two of the same warnings.
const EVERY: Duration = Duration::from_secs(60);

/// One kind of warning. Pure: time is passed in.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    said: Option<Duration>,
    unsaid: u64,
}

impl Complaint {
    /// Whether to say it at `now`: then with how often it came unsaid since the last time.
    pub(crate) fn admit(&mut self, now: Duration) -> Option<u64> {
        let due = self
            .said
            .is_none_or(|said| now.saturating_sub(said) >= EVERY);
        if !due {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_then_one_a_minute_with_the_number_of_the_rest() {
        let mut complaint = Complaint::default();
        let said: Vec<Option<u64>> = [5, 7, 64, 65, 66, 200]
            .map(|s| complaint.admit(Duration::from_secs(s)))
            .to_vec();
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }
}
