//! /proc/stat: what each CPU spent its time on since boot, in ticks (proc_stat(5)).

use super::{excerpt, parse_counter, words};
use std::collections::BTreeMap;
use thiserror::Error;

/// Counters that every kernel has: user, nice, system and idle.
const FIRST_COUNTERS: usize = 4;

/// One CPU's counters, in ticks of usually 10 ms. Those that an older kernel lacks are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CpuTicks {
    /// In user mode, guests included.
    pub(crate) user: u64,
    /// In user mode at low priority, guests included.
    pub(crate) nice: u64,
    /// In the kernel.
    pub(crate) system: u64,
    /// With nothing to do.
    pub(crate) idle: u64,
    /// With nothing to do but wait for a device; may go backwards.
    pub(crate) iowait: u64,
    /// In interrupts.
    pub(crate) irq: u64,
    /// In soft interrupts.
    pub(crate) softirq: u64,
    /// Ready to run, while the hypervisor ran another.
    pub(crate) steal: u64,
    /// Running a guest; part of `user` as well.
    pub(crate) guest: u64,
    /// Running a guest at low priority; part of `nice` as well.
    pub(crate) guest_nice: u64,
}

/// The CPUs that are online, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) cpus: BTreeMap<u32, CpuTicks>,
}

impl Stat {
    /// Reads the file's bytes. Only the lines `cpuN` matter; their sum, the line `cpu`, would
    /// hide CPUs that come and go.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, StatError> {
        let mut cpus = BTreeMap::new();
        for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let Some(numbered @ [b'0'..=b'9', ..]) = line.strip_prefix(b"cpu") else {
                continue;
            };
            let malformed = |what| StatError::Malformed {
                line: index + 1,
                text: excerpt(line),
                what,
            };
            let mut words = words(numbered);
            let id = words
                .next()
                .and_then(parse_counter)
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| malformed("the CPU's number cannot be read"))?;
            let ticks = parse_ticks(words).map_err(malformed)?;
            if cpus.insert(id, ticks).is_some() {
                return Err(malformed("this CPU stands there twice"));
            }
        }
        if cpus.is_empty() {
            return Err(StatError::NoCpus);
        }
        Ok(Self { cpus })
    }
}

/// Why /proc/stat cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum StatError {
    /// A line `cpuN` is not what proc_stat(5) says.
    #[error("line {line}, `{text}`: {what}")]
    Malformed {
        line: usize,
        text: String,
        what: &'static str,
    },
    /// There is no line `cpuN`.
    #[error("no line begins with cpu0 or another CPU's number")]
    NoCpus,
}

fn parse_ticks<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Result<CpuTicks, &'static str> {
    let mut ticks = CpuTicks::default();
    let counters = [
        &mut ticks.user,
        &mut ticks.nice,
        &mut ticks.system,
        &mut ticks.idle,
        &mut ticks.iowait,
        &mut ticks.irq,
        &mut ticks.softirq,
        &mut ticks.steal,
        &mut ticks.guest,
        &mut ticks.guest_nice,
    ];
    for (index, counter) in counters.into_iter().enumerate() {
        match words.next() {
            Some(word) => {
                *counter = parse_counter(word).ok_or("a counter is not a number of 64 bits")?;
            }
            None if index < FIRST_COUNTERS => return Err("it has fewer than four counters"),
            None => break,
        }
    }
    Ok(ticks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use procfs::prelude::FromReadSI;
    use procfs::{ExplicitSystemInfo, KernelStats};
    use proptest::prelude::*;

    /// Of a virtual machine with two CPUs, Linux 6.18; the line `intr` is shortened.
    const TWO_CPUS: &[u8] = b"\
cpu  36787 1 7620 216661 2310 0 87 118 0 0
cpu0 17500 1 3231 110769 236 0 13 53 0 0
cpu1 19287 0 4388 105891 2074 0 73 64 0 0
intr 355627 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 14
ctxt 510669
btime 1763859795
processes 13684
procs_running 3
procs_blocked 0
softirq 210042 0 53204 1 21474 19520 0 14 64123 0 51706
";

    #[test]
    fn each_cpu_has_its_counters() {
        let stat = Stat::parse(TWO_CPUS).unwrap();
        assert_eq!(stat.cpus.keys().copied().collect::<Vec<u32>>(), [0, 1]);
        let expected = CpuTicks {
            user: 19_287,
            nice: 0,
            system: 4_388,
            idle: 105_891,
            iowait: 2_074,
            irq: 0,
            softirq: 73,
            steal: 64,
            guest: 0,
            guest_nice: 0,
        };
        assert_eq!(stat.cpus[&1], expected);
    }

    #[test]
    fn counters_that_an_old_kernel_lacks_are_zero_and_new_ones_are_left_alone() {
        let stat = Stat::parse(b"cpu0 1 2 3 4\ncpu7 1 2 3 4 5 6 7 8 9 10 11 x\n").unwrap();
        assert_eq!((stat.cpus[&0].idle, stat.cpus[&0].iowait), (4, 0));
        assert_eq!(stat.cpus[&7].guest_nice, 10);
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (text, line, what) in [
            ("cpu  1 2 3 4\ncpu0 1 2 3\n", 2, "fewer than four"),
            ("cpu0 1 2 3 4 x\n", 1, "not a number"),
            ("cpu0 1 2 3 -4\n", 1, "not a number"),
            ("cpu0 18446744073709551616 2 3 4\n", 1, "not a number"),
            ("cpu0x 1 2 3 4\n", 1, "number cannot be read"),
            ("cpu4294967296 1 2 3 4\n", 1, "number cannot be read"),
            ("cpu0 1 2 3 4\ncpu1 1 2 3 4\ncpu0 1 2 3 4\n", 3, "twice"),
        ] {
            let failed = Stat::parse(text.as_bytes()).unwrap_err();
            assert!(
                matches!(failed, StatError::Malformed { line: at, .. } if at == line),
                "{failed}"
            );
            assert!(failed.to_string().contains(what), "{failed}");
        }
    }

    #[test]
    fn a_file_without_cpus_is_refused() {
        for text in ["", "\n\n", "cpu  1 2 3 4\nctxt 5\n", "cpufreq 7\n"] {
            assert_eq!(
                Stat::parse(text.as_bytes()),
                Err(StatError::NoCpus),
                "{text}"
            );
        }
    }

    fn counters() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(any::<u64>(), 4..=10)
    }

    proptest! {
        #[test]
        fn the_procfs_crate_reads_the_same(by_id in prop::collection::btree_map(any::<u32>(), counters(), 1..9)) {
            let line = |(id, counters): (&u32, &Vec<u64>)| {
                let counters: Vec<String> = counters.iter().map(u64::to_string).collect();
                format!("cpu{id} {}\n", counters.join(" "))
            };
            let lines: String = by_id.iter().map(line).collect();
            let text = format!("cpu  0 0 0 0\n{lines}ctxt 1\nbtime 2\nprocesses 3\n");

            let system = ExplicitSystemInfo {
                boot_time_secs: 0, ticks_per_second: 100, page_size: 4096, is_little_endian: true,
            };
            let theirs = KernelStats::from_read(text.as_bytes(), &system).unwrap();
            let ours = Stat::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(ours.cpus.len(), theirs.cpu_time.len());
            for (ours, theirs) in ours.cpus.values().zip(&theirs.cpu_time) {
                let theirs = CpuTicks {
                    user: theirs.user,
                    nice: theirs.nice,
                    system: theirs.system,
                    idle: theirs.idle,
                    iowait: theirs.iowait.unwrap_or(0),
                    irq: theirs.irq.unwrap_or(0),
                    softirq: theirs.softirq.unwrap_or(0),
                    steal: theirs.steal.unwrap_or(0),
                    guest: theirs.guest.unwrap_or(0),
                    guest_nice: theirs.guest_nice.unwrap_or(0),
                };
                prop_assert_eq!(*ours, theirs);
            }
        }

        #[test]
        fn no_bytes_are_too_strange(
            mut bytes in Just(TWO_CPUS.to_vec()), at in any::<prop::sample::Index>(), byte: u8,
            cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = Stat::parse(&noise);
            let flipped = at.index(bytes.len());
            bytes[flipped] = byte;
            bytes.truncate(cut.index(TWO_CPUS.len() + 1));
            if let Ok(stat) = Stat::parse(&bytes) {
                prop_assert!(!stat.cpus.is_empty());
            }
        }
    }
}
