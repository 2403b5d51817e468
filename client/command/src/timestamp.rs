//! When a line was logged: UTC by the kernel's clock of 64-bit seconds.
//!
//! std's own clock cannot be used: its `time_t` for musl on 32-bit machines has 32 bits, and from 2038
//! on it would panic.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::fmt;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

const SECONDS_PER_DAY: i64 = 86_400;

/// `2040-02-29T23:59:59.000001Z`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timestamp;

impl FormatTime for Timestamp {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        write_utc(line, clock_gettime(ClockId::Realtime))
    }
}

fn write_utc(out: &mut impl fmt::Write, at: Timespec) -> fmt::Result {
    let (year, month, day) = civil(at.tv_sec.div_euclid(SECONDS_PER_DAY));
    let second = at.tv_sec.rem_euclid(SECONDS_PER_DAY);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let micros = at.tv_nsec / 1_000;
    write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    )
}

/// Year, month and day of the Gregorian calendar, by days since 1970. Years are counted from March,
/// so that the leap day is the last of its year, in eras of 400 years, which are all alike.
fn civil(days: i64) -> (i64, i64, i64) {
    const DAYS_PER_ERA: i64 = 146_097;
    // From the first of March of the year 0.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(DAYS_PER_ERA), days.rem_euclid(DAYS_PER_ERA));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(tv_sec: i64, tv_nsec: i32) -> String {
        let mut text = String::new();
        let tv_nsec = tv_nsec.into();
        write_utc(&mut text, Timespec { tv_sec, tv_nsec }).unwrap();
        text
    }

    #[test]
    fn a_timestamp_is_utc_to_the_microsecond() {
        assert_eq!(utc(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(utc(951_868_799, 1_999), "2000-02-29T23:59:59.000001Z");
        assert_eq!(utc(1_779_667_200, 0), "2026-05-25T00:00:00.000000Z");
        assert_eq!(utc(-1, 0), "1969-12-31T23:59:59.000000Z");
    }

    #[test]
    fn the_year_2038_is_a_year() {
        assert_eq!(utc(1 << 31, 0), "2038-01-19T03:14:08.000000Z");
        assert_eq!(utc(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }
}
