//! Memory utilisation: the share of memory that new work could not have.

use crate::proc::{Meminfo, MeminfoError};
use tidewatch_sample::Number;

/// What counts as used memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum MemoryFormula {
    /// What new work could not take: 1 - MemAvailable/MemTotal.
    Available,
    /// What is not free, the page cache included: (MemTotal - MemFree)/MemTotal.
    Tutorial,
}

/// How much memory is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Used {
    /// In percent, from 0 to 100.
    pub(crate) percent: Number,
    /// Whether MemAvailable is not there and was estimated.
    pub(crate) estimated: bool,
}

/// By the formula asked for.
pub(crate) fn utilisation(meminfo: &Meminfo, formula: MemoryFormula) -> Result<Used, MeminfoError> {
    let total = meminfo.total.ok_or(MeminfoError::Missing("MemTotal"))?;
    let (unused, estimated) = match (formula, meminfo.available) {
        (MemoryFormula::Available, Some(available)) => (available, false),
        (MemoryFormula::Available, None) => (estimate_available(meminfo)?, true),
        (MemoryFormula::Tutorial, _) => {
            (meminfo.free.ok_or(MeminfoError::Missing("MemFree"))?, false)
        }
    };
    if total == 0 {
        return Err(MeminfoError::NoMemory);
    }
    // More may be unused than there is where a container's limit is the total.
    let used = total.saturating_sub(unused);
    let percent = Number::new(used as f64 / total as f64 * 100.0).ok_or(MeminfoError::NoMemory)?;
    Ok(Used { percent, estimated })
}

/// What stands in for MemAvailable before Linux 3.14: what is free or can be given back. Shared
/// memory counts as cached and cannot be given back.
fn estimate_available(meminfo: &Meminfo) -> Result<u64, MeminfoError> {
    let free = meminfo.free.ok_or(MeminfoError::Missing("MemFree"))?;
    let buffers = meminfo.buffers.ok_or(MeminfoError::Missing("Buffers"))?;
    let cached = meminfo.cached.ok_or(MeminfoError::Missing("Cached"))?;
    // Older kernels and some containers lack these two.
    let reclaimable = meminfo.reclaimable.unwrap_or(0);
    let shmem = meminfo.shmem.unwrap_or(0);
    let given_back = [buffers, cached, reclaimable]
        .into_iter()
        .fold(free, u64::saturating_add);
    Ok(given_back.saturating_sub(shmem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: Meminfo = Meminfo {
        total: Some(1_000),
        free: Some(100),
        available: Some(750),
        buffers: Some(50),
        cached: Some(500),
        reclaimable: Some(80),
        shmem: Some(30),
    };

    fn used(meminfo: Meminfo, formula: MemoryFormula) -> Result<(f64, bool), MeminfoError> {
        utilisation(&meminfo, formula).map(|used| (used.percent.get(), used.estimated))
    }

    #[test]
    fn what_new_work_could_take_is_not_used() {
        assert_eq!(used(ALL, MemoryFormula::Available), Ok((25.0, false)));
    }

    #[test]
    fn the_tutorials_formula_counts_the_page_cache() {
        assert_eq!(used(ALL, MemoryFormula::Tutorial), Ok((90.0, false)));
        let bare = Meminfo {
            total: Some(8),
            free: Some(2),
            ..Meminfo::default()
        };
        assert_eq!(used(bare, MemoryFormula::Tutorial), Ok((75.0, false)));
    }

    #[test]
    fn without_mem_available_it_is_estimated_and_flagged() {
        let old = Meminfo {
            available: None,
            ..ALL
        };
        // 100 + 50 + 500 + 80 - 30 = 700 of 1,000 are available.
        assert_eq!(used(old, MemoryFormula::Available), Ok((30.0, true)));
        let older = Meminfo {
            reclaimable: None,
            shmem: None,
            ..old
        };
        assert_eq!(used(older, MemoryFormula::Available), Ok((35.0, true)));
    }

    #[test]
    fn a_field_that_is_needed_and_missing_is_named() {
        let old = Meminfo {
            available: None,
            ..ALL
        };
        for (meminfo, formula, field) in [
            (
                Meminfo { total: None, ..ALL },
                MemoryFormula::Available,
                "MemTotal",
            ),
            (
                Meminfo { free: None, ..ALL },
                MemoryFormula::Tutorial,
                "MemFree",
            ),
            (
                Meminfo { free: None, ..old },
                MemoryFormula::Available,
                "MemFree",
            ),
            (
                Meminfo {
                    buffers: None,
                    ..old
                },
                MemoryFormula::Available,
                "Buffers",
            ),
            (
                Meminfo {
                    cached: None,
                    ..old
                },
                MemoryFormula::Available,
                "Cached",
            ),
        ] {
            assert_eq!(used(meminfo, formula), Err(MeminfoError::Missing(field)));
        }
        let none = Meminfo {
            total: Some(0),
            ..ALL
        };
        assert_eq!(
            used(none, MemoryFormula::Available),
            Err(MeminfoError::NoMemory)
        );
    }

    #[test]
    fn more_available_than_there_is_means_that_nothing_is_used() {
        let contained = Meminfo {
            total: Some(500),
            ..ALL
        };
        assert_eq!(used(contained, MemoryFormula::Available), Ok((0.0, false)));
    }

    proptest! {
        #[test]
        fn it_is_always_from_0_to_100(
            [total, free, available, buffers, cached, reclaimable, shmem] in
                prop::array::uniform7(prop::option::of(prop_oneof![any::<u64>(), 0..1_000_u64])),
            tutorial: bool,
        ) {
            let meminfo = Meminfo { total, free, available, buffers, cached, reclaimable, shmem };
            let formula = if tutorial { MemoryFormula::Tutorial } else { MemoryFormula::Available };
            if let Ok((percent, _)) = used(meminfo, formula) {
                prop_assert!((0.0..=100.0).contains(&percent), "{percent}");
            }
        }
    }
}
