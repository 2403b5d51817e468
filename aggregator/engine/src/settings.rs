//! What a query asks for, checked once.

use crate::number::Value;
use thiserror::Error;

/// No duration in the settings is longer, in milliseconds: a year.
const DURATION_MAX_MS: i64 = 366 * 24 * 3600 * 1000;

/// The longest window, in milliseconds: four weeks.
const SIZE_MAX_MS: i64 = 28 * 24 * 3600 * 1000;

/// The least silence, in milliseconds: silent hosts are looked for once a second.
const SILENCE_MIN_MS: i64 = 1000;

/// Windows of one host that may be open at once.
const OPEN_WINDOWS_MAX: i64 = 1024;

/// How samples become windows. Durations are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The length of a window; windows begin at its multiples since 1970.
    pub size_ms: i64,
    /// A host's window closes when a sample of the host is this much beyond its end.
    pub delay_ms: i64,
    /// A host's window closes when the host, had it gone on, would be this much and `delay_ms`
    /// beyond its end.
    pub silence_ms: i64,
    /// A sample further ahead of the partition's clock is held, and rejected unless others agree.
    pub max_future_ms: i64,
    /// A host silent for longer is forgotten; with `running`, none is.
    pub forget_after_ms: i64,
    /// The least value that the metric can have.
    pub min: Value,
    /// The greatest value that the metric can have.
    pub max: Value,
    /// Whether to keep each host's mean over all time as well.
    pub running: bool,
    /// The most hosts known at once, a bound on memory: at 400 bytes a host, 400 MB.
    pub hosts_max: u32,
}

impl Default for Settings {
    /// Windows of 10 s over percentages.
    fn default() -> Self {
        Self {
            size_ms: 10_000,
            delay_ms: 4_000,
            silence_ms: 30_000,
            max_future_ms: 600_000,
            forget_after_ms: 3_600_000,
            min: Value::whole(0),
            max: Value::whole(100),
            running: false,
            hosts_max: 1_000_000,
        }
    }
}

impl Settings {
    /// Refuses what cannot be kept or reckoned with.
    pub fn check(&self) -> Result<(), SettingsError> {
        let within = |name, value_ms, least_ms, most_ms| {
            if (least_ms..=most_ms).contains(&value_ms) {
                Ok(())
            } else {
                Err(SettingsError::Duration {
                    name,
                    value_ms,
                    least_ms,
                    most_ms,
                })
            }
        };
        within("window", self.size_ms, 1, SIZE_MAX_MS)?;
        within("delay", self.delay_ms, 0, DURATION_MAX_MS)?;
        within("silence", self.silence_ms, SILENCE_MIN_MS, DURATION_MAX_MS)?;
        within("max-future", self.max_future_ms, 0, DURATION_MAX_MS)?;
        within("forget-after", self.forget_after_ms, 0, DURATION_MAX_MS)?;
        if self.open_windows() > OPEN_WINDOWS_MAX {
            return Err(SettingsError::OpenWindows {
                delay_ms: self.delay_ms,
                size_ms: self.size_ms,
            });
        }
        Ok(())
    }

    /// How many windows of a host can be open: those that end after its clock, `delay_ms` behind
    /// its newest sample, and begin at or before that sample.
    pub(crate) fn open_windows(&self) -> i64 {
        (self.delay_ms.saturating_add(self.size_ms - 1) / self.size_ms).saturating_add(1)
    }

    /// The numbers that decide which windows there are and when they close; a restart with others
    /// could neither know which were emitted nor read them whole.
    pub(crate) fn fingerprint(&self) -> [i64; 5] {
        [
            self.size_ms,
            self.delay_ms,
            self.silence_ms,
            self.max_future_ms,
            self.forget_after_ms,
        ]
    }
}

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// A duration out of its bounds.
    #[error("{name} is {value_ms} ms; it can be from {least_ms} to {most_ms} ms")]
    Duration {
        /// The setting.
        name: &'static str,
        /// Its value.
        value_ms: i64,
        /// The least.
        least_ms: i64,
        /// The most.
        most_ms: i64,
    },
    /// Too many windows of a host at once.
    #[error(
        "a delay of {delay_ms} ms keeps more than {OPEN_WINDOWS_MAX} windows of {size_ms} ms open \
         per host; take a longer window or a shorter delay"
    )]
    OpenWindows {
        /// The delay.
        delay_ms: i64,
        /// The window.
        size_ms: i64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_windows_as_can_be_open_have_room() {
        let open_windows = |size_ms, delay_ms| {
            Settings {
                size_ms,
                delay_ms,
                ..Settings::default()
            }
            .open_windows()
        };
        assert_eq!(open_windows(10_000, 0), 1);
        assert_eq!(open_windows(10_000, 1), 2);
        assert_eq!(open_windows(10_000, 4_000), 2);
        assert_eq!(open_windows(10_000, 10_000), 2);
        assert_eq!(open_windows(10_000, 10_001), 3);
    }

    #[test]
    fn what_cannot_be_kept_is_refused_with_its_bounds() {
        let refused = |settings: Settings| settings.check().unwrap_err().to_string();
        let default = Settings::default;
        assert_eq!(default().check(), Ok(()));
        assert_eq!(
            refused(Settings {
                size_ms: 0,
                ..default()
            }),
            "window is 0 ms; it can be from 1 to 2419200000 ms"
        );
        assert!(
            refused(Settings {
                delay_ms: -1,
                ..default()
            })
            .starts_with("delay is -1 ms")
        );
        assert!(
            refused(Settings {
                silence_ms: i64::MAX,
                ..default()
            })
            .starts_with("silence")
        );
        assert!(
            refused(Settings {
                size_ms: 1,
                ..default()
            })
            .contains("more than 1024 windows of 1 ms")
        );
    }
}
