//! What the mean, the extremes and the count of some values rest on, whatever order they came in.

use crate::number::{Value, quotient};
use tidewatch_sample::Number;

/// A count, an exact sum, and the extremes; 40 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    count: u64,
    /// The sum's two halves: an i128 would be aligned to 16 bytes.
    sum: (i64, u64),
    min: Value,
    max: Value,
}

impl Totals {
    /// Of no values.
    pub const EMPTY: Self = Self {
        count: 0,
        sum: (0, 0),
        min: Value::from_units(i64::MAX),
        max: Value::from_units(i64::MIN),
    };

    /// Counts one more value. A sum of 2^64 values of 64 bits fits its 128 bits.
    pub(crate) fn add(&mut self, value: Value) {
        self.count = self.count.saturating_add(1);
        let sum = self.sum().wrapping_add(i128::from(value.units()));
        self.sum = ((sum >> 64) as i64, sum as u64);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum, in units of 10^-[`SCALE`](crate::SCALE).
    pub fn sum(&self) -> i128 {
        i128::from(self.sum.0) << 64 | i128::from(self.sum.1)
    }

    /// The f64 nearest their exact mean; `None` of no values.
    pub fn mean(&self) -> Option<Number> {
        quotient(self.sum(), self.count)
    }

    /// The smallest; `None` of no values.
    pub fn min(&self) -> Option<Number> {
        (self.count > 0).then(|| self.min.to_number()).flatten()
    }

    /// The greatest; `None` of no values.
    pub fn max(&self) -> Option<Number> {
        (self.count > 0).then(|| self.max.to_number()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn totals(units: &[i64]) -> Totals {
        units.iter().fold(Totals::EMPTY, |mut totals, &units| {
            totals.add(Value::from_units(units));
            totals
        })
    }

    #[test]
    fn of_nothing_there_is_no_mean() {
        let empty = Totals::EMPTY;
        assert_eq!(
            (empty.count(), empty.mean(), empty.min(), empty.max()),
            (0, None, None, None)
        );
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_cannot_change_them(units in prop::collection::vec(any::<i64>(), 1..50)) {
            let mut sorted = units.clone();
            sorted.sort_unstable();
            prop_assert_eq!(totals(&units), totals(&sorted));
            prop_assert_eq!(totals(&units).sum(), units.iter().map(|&units| i128::from(units)).sum::<i128>());
        }
    }
}
